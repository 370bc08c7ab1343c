//! The feature encoder: the one place where ranker inputs are computed, for serving and training.
//!
//! Logarithms come from a portable implementation, so features are equal bit for bit everywhere.

use std::sync::Arc;

use sanderling_types::{Code, Error, FeatureKind, FeatureSpec, ItemIndex, Result, quoted, sorted_positions};

use crate::items::Direction;
use crate::{Candidate, ItemTable, PackedVocabulary, SessionView};

/// A softmax share below this says nothing more: logarithms of smaller ones would stretch the column.
const MIN_LN_SHARE: f64 = -15.0;
/// Added to shares of neighbours, of which most are 0.
const MIN_SHARE: f64 = 1e-3;
const SECONDS_PER_DAY: i64 = 86_400;

/// Computes the feature matrix of a request. Facts of items are looked up where they are and transformed when they
/// are asked for: a device holds them once.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureEncoder {
    columns: Vec<(FeatureKind, f32)>,
    vocabulary: Arc<PackedVocabulary>,
    /// Logarithm of the largest popularity plus 1.
    ln_most_popular: f64,
}

/// What is the same for every candidate of a request.
struct Shared<'a> {
    items: &'a ItemTable,
    now: i64,
    last: Option<ItemIndex>,
    last_direction: Option<Direction<'a>>,
    /// Of the columns of kind `CategoryAffinity`, in column order: weight of each category.
    category_weights: Vec<Vec<f32>>,
    mean_log_price: Option<f32>,
    /// Session items ascending, each with the steps since it was last in the session.
    steps_since: Vec<(ItemIndex, u32)>,
    retrieval: Softmax,
    neighbours: Sum,
    session_length: f32,
    hour_of_day: f32,
}

/// The softmax over the retrieval scores of all candidates.
struct Softmax {
    most: f64,
    ln_sum: f64,
}

impl Softmax {
    fn new(candidates: &[Candidate]) -> Self {
        let scores = || candidates.iter().map(|candidate| f64::from(candidate.score));
        let most = scores().fold(f64::NEG_INFINITY, f64::max);
        Self { most, ln_sum: libm::log(scores().map(|score| libm::exp(score - most)).sum()) }
    }

    fn share(&self, score: f32) -> f32 {
        (f64::from(score) - self.most - self.ln_sum).max(MIN_LN_SHARE) as f32
    }
}

/// The neighbour scores above 0 of all candidates together.
struct Sum(f64);

impl Sum {
    fn new(candidates: &[Candidate]) -> Self {
        Self(candidates.iter().map(|candidate| f64::from(candidate.neighbour_score).max(0.0)).sum())
    }

    fn share(&self, score: f32) -> f32 {
        let share = if self.0 > 0.0 { f64::from(score).max(0.0) / self.0 } else { 0.0 };
        libm::log(MIN_SHARE + share) as f32
    }
}

impl FeatureEncoder {
    /// Prepares the columns of `spec` over the items of `vocabulary`.
    ///
    /// # Errors
    /// [`Code::IncompatibleFeatures`] for a kind that this engine does not compute.
    pub fn new(spec: &FeatureSpec, vocabulary: Arc<PackedVocabulary>) -> Result<Self> {
        use FeatureKind as K;
        for feature in &spec.features {
            if !matches!(
                feature.kind,
                K::RetrievalScore
                    | K::LastItemSimilarity
                    | K::CategoryAffinity
                    | K::LastCategoryMatch
                    | K::Popularity
                    | K::AgeDays
                    | K::PriceMatch
                    | K::Recency
                    | K::SessionLength
                    | K::HourOfDay
                    | K::RetrievalShare
                    | K::NeighbourShare
            ) {
                return Err(Error::new(
                    Code::IncompatibleFeatures,
                    format!(
                        "feature {} is of a kind that this engine does not compute",
                        quoted(&feature.name)
                    ),
                ));
            }
        }
        let most = vocabulary.largest_popularity();
        Ok(Self {
            columns: spec.features.iter().map(|feature| (feature.kind, feature.decay)).collect(),
            ln_most_popular: ln_1p(f64::from(most)),
            vocabulary,
        })
    }

    /// Number of columns.
    #[must_use]
    pub fn num_features(&self) -> usize {
        self.columns.len()
    }

    /// The feature matrix `[num_candidates, num_features]`, row-major. Every element is finite: a
    /// value that is not becomes 0.
    #[must_use]
    pub fn encode(
        &self,
        session: &SessionView,
        candidates: &[Candidate],
        items: &ItemTable,
        now: i64,
    ) -> Vec<f32> {
        let shared = self.shared(session, candidates, items, now);
        let mut out = Vec::with_capacity(candidates.len() * self.columns.len());
        for candidate in candidates {
            let mut affinities = shared.category_weights.iter();
            for (kind, _) in &self.columns {
                let value = match kind {
                    FeatureKind::CategoryAffinity => affinities
                        .next()
                        .map_or(0.0, |weights| self.category_affinity(candidate.item, weights)),
                    kind => self.value(*kind, candidate, &shared),
                };
                out.push(if value.is_finite() { value } else { 0.0 });
            }
        }
        out
    }

    fn shared<'a>(
        &self,
        session: &SessionView,
        candidates: &[Candidate],
        items: &'a ItemTable,
        now: i64,
    ) -> Shared<'a> {
        let affinities = self.columns.iter().filter(|(kind, _)| *kind == FeatureKind::CategoryAffinity);
        let newest_first: Vec<ItemIndex> = session.items().iter().rev().map(|known| known.item).collect();
        let by_item = sorted_positions(newest_first.len(), &|a, b| newest_first[a].cmp(&newest_first[b]));
        let mut steps_since: Vec<(ItemIndex, u32)> =
            by_item.into_iter().map(|steps| (newest_first[steps], steps as u32)).collect();
        steps_since.dedup_by_key(|(item, _)| *item);
        let seconds_of_day = now.rem_euclid(SECONDS_PER_DAY);
        Shared {
            items,
            now,
            last: session.last(),
            last_direction: session.last().map(|last| items.direction(last)),
            category_weights: affinities.map(|(_, decay)| self.category_weights(session, *decay)).collect(),
            mean_log_price: self.mean_log_price(session),
            steps_since,
            retrieval: Softmax::new(candidates),
            neighbours: Sum::new(candidates),
            session_length: ln_1p(session.len() as f64) as f32,
            hour_of_day: (seconds_of_day / 3600) as f32 / 24.0,
        }
    }

    fn value(&self, kind: FeatureKind, candidate: &Candidate, shared: &Shared<'_>) -> f32 {
        let item = candidate.item;
        match kind {
            FeatureKind::RetrievalScore => candidate.score,
            FeatureKind::RetrievalShare => shared.retrieval.share(candidate.score),
            FeatureKind::NeighbourShare => shared.neighbours.share(candidate.neighbour_score),
            FeatureKind::LastItemSimilarity => {
                shared.last_direction.map_or(0.0, |last| shared.items.direction(item).cosine(last))
            }
            FeatureKind::LastCategoryMatch => {
                shared.last.map_or(0.0, |last| self.category_overlap(item, last))
            }
            FeatureKind::Popularity => self.popularity(item),
            FeatureKind::AgeDays => self.age(item, shared.now),
            FeatureKind::PriceMatch => match (self.log_price(item), shared.mean_log_price) {
                (Some(price), Some(mean)) => -(price - mean).abs(),
                _ => 0.0,
            },
            FeatureKind::Recency => {
                let found = shared.steps_since.binary_search_by_key(&item, |(item, _)| *item);
                found.map_or(0.0, |at| 1.0 / (1.0 + shared.steps_since[at].1 as f32))
            }
            FeatureKind::SessionLength => shared.session_length,
            FeatureKind::HourOfDay => shared.hour_of_day,
            _ => 0.0,
        }
    }

    fn categories(&self, item: ItemIndex) -> impl ExactSizeIterator<Item = u16> {
        self.vocabulary.categories_of(item)
    }

    /// Logarithmic, 1 for the most popular item.
    fn popularity(&self, item: ItemIndex) -> f32 {
        if self.ln_most_popular > 0.0 {
            (ln_1p(f64::from(self.vocabulary.popularity(item))) / self.ln_most_popular) as f32
        } else {
            0.0
        }
    }

    /// `ln` of the price; `None` where there is no price over 0.
    fn log_price(&self, item: ItemIndex) -> Option<f32> {
        let price = self.vocabulary.price(item);
        price.filter(|price| *price > 0.0).map(|price| libm::log(f64::from(price)) as f32)
    }

    /// For each category the share of the session that has it, each step back counting `decay`
    /// times less.
    pub(crate) fn category_weights(&self, session: &SessionView, decay: f32) -> Vec<f32> {
        let mut weights = vec![0.0; self.vocabulary.num_categories()];
        let (mut weight, mut total) = (1.0f32, 0.0f32);
        for known in session.items().iter().rev() {
            for category in self.categories(known.item) {
                weights[usize::from(category)] += weight;
            }
            total += weight;
            weight *= decay;
        }
        if total > 0.0 {
            weights.iter_mut().for_each(|weight| *weight /= total);
        }
        weights
    }

    /// Mean weight of the item's categories.
    fn category_affinity(&self, item: ItemIndex, weights: &[f32]) -> f32 {
        let categories = self.categories(item);
        let count = categories.len();
        if count == 0 {
            return 0.0;
        }
        let sum: f32 = categories.map(|category| weights[usize::from(category)]).sum();
        sum / count as f32
    }

    fn category_overlap(&self, a: ItemIndex, b: ItemIndex) -> f32 {
        let (a, b) = (self.categories(a), self.categories(b));
        let num_both = a.len() + b.len();
        // Both ascend.
        let mut b = b.peekable();
        let is_shared = |category: &u16| {
            while b.next_if(|other| other < category).is_some() {}
            b.next_if_eq(category).is_some()
        };
        let num_shared = a.filter(is_shared).count();
        let num_either = num_both - num_shared;
        if num_either == 0 { 0.0 } else { num_shared as f32 / num_either as f32 }
    }

    fn age(&self, item: ItemIndex, now: i64) -> f32 {
        let published_at = self.vocabulary.published_at(item);
        let seconds = published_at.map_or(0, |published_at| now.saturating_sub(published_at).max(0));
        ln_1p(seconds as f64 / SECONDS_PER_DAY as f64) as f32
    }

    fn mean_log_price(&self, session: &SessionView) -> Option<f32> {
        let prices = || session.items().iter().filter_map(|known| self.log_price(known.item));
        let count = prices().count();
        (count > 0).then(|| prices().sum::<f32>() / count as f32)
    }
}

fn ln_1p(value: f64) -> f64 {
    libm::log1p(value)
}
