//! Metrics of parts of the test cases: whom and what a recommender serves well, and what it does not.

use std::collections::{BTreeMap, BTreeSet};

use sanderling_types::Metric;
use serde::Serialize;

use crate::metrics::{CaseResult, ndcg10_and_hr10};
use crate::split::{Case, Split};

/// The cases of one segment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slice {
    /// Number of cases, at least 1.
    pub num_cases: usize,
    /// NDCG@10 with a 95 % bootstrap interval over the segment's users.
    #[serde(rename = "ndcg@10")]
    pub ndcg10: Metric,
    /// HR@10, likewise.
    #[serde(rename = "hr@10")]
    pub hr10: Metric,
}

/// Slices by name of the segment; a segment without cases is left out.
pub type Segments = BTreeMap<&'static str, Slice>;

/// All cases, divided in three ways.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slices {
    /// By the number of interactions that are known in a case: `1-2`, `3-5`, `6-20`, `over-20`.
    pub history_length: Segments,
    /// By the item that comes next. `head`: the most popular items that together have half of the
    /// training interactions; `tail`: the other items of training; `unseen`: items without a training
    /// interaction, which only attributes can place.
    pub target: Segments,
    /// By the user (or session): `known` has training interactions, `new` has none.
    pub user: Segments,
}

/// Divides `results`, the answers to `cases` of `split` in the same order.
///
/// # Panics
/// When there is not one result a case.
#[must_use]
pub fn slices(split: &Split, cases: &[Case], results: &[CaseResult], seed: u64) -> Slices {
    assert_eq!(cases.len(), results.len(), "one result a case");
    let num_head = head_len(&split.vocabulary.popularity);
    let trained = || split.users.iter().zip(&split.train_len).filter(|(_, len)| **len > 0);
    let known: BTreeSet<u32> = trained().map(|(user, _)| *user).collect();
    let by = |segment: &dyn Fn(Case) -> &'static str| {
        let mut parts: BTreeMap<&'static str, Vec<&CaseResult>> = BTreeMap::new();
        for (case, result) in cases.iter().zip(results) {
            parts.entry(segment(*case)).or_default().push(result);
        }
        parts.into_iter().map(|(name, results)| (name, slice(&results, seed))).collect()
    };
    Slices {
        history_length: by(&|case| match case.prefix {
            0..=2 => "1-2",
            3..=5 => "3-5",
            6..=20 => "6-20",
            _ => "over-20",
        }),
        target: by(&|case| match split.row(split.target(case)) {
            Some(row) if (row as usize) < num_head => "head",
            Some(row) if (row as usize) < split.num_trained() => "tail",
            _ => "unseen",
        }),
        user: by(&|case| if known.contains(&split.users[case.user as usize]) { "known" } else { "new" }),
    }
}

fn slice(results: &[&CaseResult], seed: u64) -> Slice {
    let (ndcg10, hr10) = ndcg10_and_hr10(results, seed);
    Slice { num_cases: results.len(), ndcg10, hr10 }
}

/// How many of the most popular items together have at least half of the interactions; `popularity` is
/// descending.
fn head_len(popularity: &[u32]) -> usize {
    let total: u64 = popularity.iter().map(|&count| u64::from(count)).sum();
    let mut seen = 0;
    popularity
        .iter()
        .take_while(|&&count| {
            let before = seen;
            seen += u64::from(count);
            2 * before < total
        })
        .count()
}

#[cfg(test)]
mod tests {
    use sanderling_types::{Interaction, TimeKind};

    use super::*;
    use crate::data::Dataset;
    use crate::split::{SplitKind, split};

    /// Eight training users of the head item "h", one of the tail item "t", and three in the test part:
    /// one with training interactions, one new with a short and one new with a long history.
    fn world() -> Split {
        let mut rows: Vec<(String, &str, i64)> = Vec::new();
        for user in 0..80 {
            rows.push((format!("train{user}"), if user % 9 == 8 { "t" } else { "h" }, user));
        }
        rows.extend((80..90).map(|at| ("validating".to_owned(), "h", at)));
        rows.extend([
            ("train8".to_owned(), "t", 91),
            ("short".to_owned(), "h", 92),
            ("short".to_owned(), "x", 93),
        ]);
        rows.extend((93..99).map(|at| ("long".to_owned(), "h", at)));
        rows.push(("long".to_owned(), "t", 99));
        let interactions = rows.into_iter().map(|(user, item, timestamp)| Interaction {
            user_id: user.as_str().into(),
            item_id: item.into(),
            kind: "view".to_owned(),
            timestamp,
            value: None,
            split: None,
        });
        let dataset = Dataset::new(interactions, Vec::new(), TimeKind::UnixSeconds).expect("fits");
        split(&dataset, SplitKind::Time).expect("divides")
    }

    #[test]
    fn cases_fall_into_segments_of_history_target_and_user() {
        let split = world();
        // Right where the tail item comes next.
        let results: Vec<CaseResult> = split
            .test
            .iter()
            .map(|&case| {
                let right = split.item_id(split.target(case)).as_str() == "t";
                CaseResult { user: case.user, rank: right.then_some(1), list: Vec::new() }
            })
            .collect();
        let slices = slices(&split, &split.test, &results, 0);
        let counts = |segments: &Segments| -> Vec<(&'static str, usize, f64)> {
            segments.iter().map(|(&name, slice)| (name, slice.num_cases, slice.hr10.value)).collect()
        };
        // train8 after 1; short after 1; long after 1 to 6.
        assert_eq!(
            counts(&slices.history_length),
            [("1-2", 4, 0.25), ("3-5", 3, 0.0), ("6-20", 1, 1.0)],
            "{slices:?}"
        );
        assert_eq!(counts(&slices.target), [("head", 5, 0.0), ("tail", 2, 1.0), ("unseen", 1, 0.0)]);
        assert_eq!(counts(&slices.user), [("known", 1, 1.0), ("new", 7, 0.142_857)]);
        assert_eq!(slices.user["known"].ndcg10, Metric { low: 1.0, high: 1.0, value: 1.0 });
    }

    #[test]
    fn the_head_has_half_of_the_interactions() {
        assert_eq!(head_len(&[5, 3, 2]), 1);
        assert_eq!(head_len(&[4, 3, 3]), 2);
        assert_eq!(head_len(&[1, 1, 1, 1]), 2);
        assert_eq!(head_len(&[]), 0);
    }
}
