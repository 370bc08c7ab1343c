//! Features that know the future: refused before a ranker learns from them.
//!
//! A ranker that saw what only happened after a case looks right in training and fails on devices. What
//! can be checked is where a feature's numbers come from, and what they give away on validation lists.

use sanderling_types::{Code, Error, FeatureKind, FeatureSpec, Result, TimeKind};

use super::lists::CandidateList;
use crate::split::{Split, SplitKind};

/// Largest share of dated items that may be dated after the training part; some dates are just wrong.
const MAX_LATE_SHARE: f64 = 0.01;
/// Largest probability with which a column of facts may order the right item of a list before, or behind,
/// another one.
const MAX_AUC: f64 = 0.995;
/// Fewer lists that hold their item prove nothing.
const MIN_LISTS: usize = 50;

/// Where the numbers of a feature come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The session before the case, the clock, and models of the training part: nothing to leak.
    Session,
    /// Counts of the training part.
    Counts,
    /// Columns of the catalogue, which someone may have filled in later.
    Catalogue,
}

fn source(kind: FeatureKind) -> Source {
    match kind {
        FeatureKind::RetrievalScore
        | FeatureKind::RetrievalShare
        | FeatureKind::NeighbourShare
        | FeatureKind::LastItemSimilarity
        | FeatureKind::Recency
        | FeatureKind::SessionLength
        | FeatureKind::HourOfDay => Source::Session,
        FeatureKind::Popularity => Source::Counts,
        _ => Source::Catalogue,
    }
}

/// Refuses popularity that counts more than the training part, a training part that reaches into a later
/// one, and publication dates after the training part.
///
/// # Errors
/// [`Code::FeatureLeaks`].
pub fn check_sources(split: &Split, spec: &FeatureSpec) -> Result<()> {
    let named =
        |kind| spec.features.iter().find(|feature| feature.kind == kind).map(|feature| &*feature.name);
    let (_, last, _, num_interactions) = split.training_counts();
    let num_interactions = num_interactions - split.num_shared;
    if let Some(name) = named(FeatureKind::Popularity) {
        let counted: u64 = split.vocabulary.popularity.iter().map(|&count| u64::from(count)).sum();
        if counted != num_interactions {
            return Err(leaks(name, "counts interactions outside of the training part")
                .expected(format!("{num_interactions} interactions"))
                .found(counted));
        }
    }
    if split.time != TimeKind::UnixSeconds {
        return Ok(());
    }
    let first_case = split.validation.iter().map(|&case| split.target(case).timestamp).min();
    if let (SplitKind::Time, Some(first)) = (split.kind, first_case.filter(|first| *first < last)) {
        return Err(leaks("popularity", "is counted over a window that reaches into the validation part")
            .expected(format!("training interactions until {first}"))
            .found(last));
    }
    let Some(name) = named(FeatureKind::AgeDays) else { return Ok(()) };
    let vocabulary = &split.vocabulary;
    let used = vocabulary.published_at.iter().zip(&vocabulary.popularity).filter(|(_, count)| **count > 0);
    let dates: Vec<i64> = used.filter_map(|(date, _)| *date).collect();
    let late = dates.iter().filter(|date| **date > last).count();
    if late as f64 <= MAX_LATE_SHARE * dates.len() as f64 {
        return Ok(());
    }
    Err(leaks(name, "reads dates after the training part of items that were used in it")
        .expected(format!("published_at of at most {last} for items of the training part"))
        .found(format!("{late} of {} dated items are later", dates.len()))
        .hint(format!(
            "published_at must be when an item appeared, not when it was changed or sold last; correct the \
             column, or leave the feature out with ranker.exclude_features = [{name:?}]"
        )))
}

/// Refuses a feature of counts or of the catalogue that alone tells the right item of a list from the
/// others, or them from it.
///
/// # Errors
/// [`Code::FeatureLeaks`].
pub fn check_lists(lists: &[CandidateList], spec: &FeatureSpec) -> Result<()> {
    if lists.iter().filter(|list| list.relevant.is_some()).count() < MIN_LISTS {
        return Ok(());
    }
    for (column, feature) in spec.features.iter().enumerate() {
        if source(feature.kind) == Source::Session {
            continue;
        }
        let auc = auc(lists, column, spec.features.len());
        if auc.max(1.0 - auc) > MAX_AUC {
            return Err(leaks(&feature.name, "gives the next item of validation lists away")
                .expected(format!("an AUC of at most {MAX_AUC}"))
                .found(format!("{auc:.4}"))
                .hint(format!(
                    "a column of the catalogue may have been filled in after the interactions; correct it, or \
                     leave the feature out with ranker.exclude_features = [{:?}]",
                    feature.name
                )));
        }
    }
    Ok(())
}

fn leaks(feature: &str, what: &str) -> Error {
    Error::new(Code::FeatureLeaks, format!("feature {feature:?} {what}"))
}

/// How often the right item of a list has a larger value than another one of it, ties counting half.
fn auc(lists: &[CandidateList], column: usize, num_features: usize) -> f64 {
    let (mut wins, mut pairs) = (0.0, 0.0);
    for list in lists {
        let Some(relevant) = list.relevant else { continue };
        let value = |row: usize| list.features[row * num_features + column];
        let right = value(relevant);
        for row in (0..list.features.len() / num_features).filter(|row| *row != relevant) {
            wins += if right > value(row) { 1.0 } else { 0.5 * f64::from(u8::from(right == value(row))) };
            pairs += 1.0;
        }
    }
    if pairs > 0.0 { wins / pairs } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use sanderling_types::{Interaction, Item};

    use super::*;
    use crate::data::Dataset;
    use crate::split::split;

    /// Ten users of ten items over 100 seconds; every item was published at `published_at`.
    fn world(published_at: i64) -> Split {
        let interactions = (0..100).map(|at| Interaction {
            user_id: format!("u{}", at % 10).as_str().into(),
            item_id: format!("i{}", (at * 7 + at / 10) % 10).as_str().into(),
            kind: "view".to_owned(),
            timestamp: 1000 + at,
            value: None,
            split: None,
        });
        let items = (0..10)
            .map(|i| Item {
                item_id: format!("i{i}").as_str().into(),
                title: String::new(),
                categories: Vec::new(),
                price: None,
                published_at: Some(published_at),
                attributes: std::collections::BTreeMap::default(),
            })
            .collect();
        let dataset = Dataset::new(interactions, items, TimeKind::UnixSeconds).expect("fits");
        split(&dataset, SplitKind::Time).expect("divides")
    }

    #[track_caller]
    fn refused(result: Result<()>, feature: &str) -> Error {
        let error = result.expect_err("it leaks");
        assert_eq!(error.code(), Code::FeatureLeaks);
        assert!(error.message().contains(feature), "{error}");
        error
    }

    #[test]
    fn dates_after_the_training_part_are_refused() {
        let spec = FeatureSpec::standard();
        // Training ends at 1079.
        assert!(check_sources(&world(1079), &spec).is_ok());
        let error = refused(check_sources(&world(1080), &spec), "age_days");
        assert!(error.hint_text().is_some_and(|hint| hint.contains("published_at")), "{error}");
        let mut without = spec;
        without.features.retain(|feature| feature.kind != FeatureKind::AgeDays);
        assert!(check_sources(&world(1080), &without).is_ok(), "nothing reads the dates");
    }

    #[test]
    fn a_single_wrong_date_among_many_is_no_leak() {
        let mut spec = FeatureSpec::standard();
        spec.features.retain(|feature| feature.kind != FeatureKind::Popularity);
        let mut split = world(1000);
        split.vocabulary.popularity = vec![1; 200];
        split.vocabulary.published_at = (0..200).map(|i| Some(if i < 1 { 2000 } else { 0 })).collect();
        assert!(check_sources(&split, &spec).is_ok());
        split.vocabulary.published_at[1..3].fill(Some(2000));
        refused(check_sources(&split, &spec), "age_days");
        split.vocabulary.popularity[1..3].fill(0);
        assert!(check_sources(&split, &spec).is_ok(), "items nobody has touched may be new");
    }

    #[test]
    fn popularity_of_more_than_the_training_part_is_refused() {
        let mut split = world(1000);
        split.vocabulary.popularity[0] += 1;
        refused(check_sources(&split, &FeatureSpec::standard()), "popularity");
    }

    #[test]
    fn a_training_window_that_reaches_into_validation_is_refused() {
        let mut split = world(1000);
        let at = split.train_len[0] as usize - 1;
        split.sequences[0][at].timestamp = 1085;
        refused(check_sources(&split, &FeatureSpec::standard()), "popularity");
    }

    /// Lists in which the right item alone has another value in one column.
    fn lists(column: usize, right: f32, num_lists: usize) -> Vec<CandidateList> {
        let n = FeatureSpec::standard().features.len();
        let list = |user: usize| {
            let mut features: Vec<f32> =
                (0..20 * n).map(|i| ((user * 31 + i * 17) % 97) as f32 / 97.0).collect();
            let relevant = user % 20;
            features[relevant * n + column] = right;
            CandidateList { user: user as u32, features, relevant: Some(relevant) }
        };
        (0..num_lists).map(list).collect()
    }

    #[test]
    fn a_feature_that_gives_the_answer_away_is_refused() {
        let spec = FeatureSpec::standard();
        let column = |kind| spec.features.iter().position(|f| f.kind == kind).expect("standard");
        let price = column(FeatureKind::PriceMatch);
        refused(check_lists(&lists(price, 2.0, 60), &spec), "price_match");
        refused(check_lists(&lists(price, -1.0, 60), &spec), "price_match");
        assert!(check_lists(&lists(price, 0.9, 60), &spec).is_ok(), "good is not too good");
        assert!(check_lists(&lists(price, 2.0, 49), &spec).is_ok(), "too few lists prove nothing");
        let score = column(FeatureKind::RetrievalScore);
        assert!(
            check_lists(&lists(score, 2.0, 60), &spec).is_ok(),
            "a model of the training part may be right"
        );
    }
}
