//! `item-knn`.

use rayon::prelude::*;

use super::baskets::{Baskets, MAX_HISTORY};
use super::{Baseline, distinct};
use crate::split::Split;

/// Neighbours kept of an item.
const NEIGHBOURS: usize = 50;

/// Of every item its `max` nearest by cosine similarity over users, nearest first, where at least
/// `min_users` chose both.
pub(crate) fn cosine_rows(split: &Split, max: usize, min_users: u32) -> Vec<Vec<(u32, f32)>> {
    let baskets = Baskets::new(split);
    let row = |scratch: &mut _, item| {
        let nearest = baskets.nearest(item, max, min_users, scratch);
        nearest.into_iter().map(|pair| (pair.0, baskets.cosine(item, pair))).collect()
    };
    (0..baskets.num_items() as u32).into_par_iter().map_init(|| baskets.scratch(), row).collect()
}

/// Item-based nearest neighbours with cosine similarity over users (Sarwar et al. 2001): the score of
/// an item is the sum of its similarities with the history's distinct items, each of which knows its
/// 50 nearest.
#[derive(Debug)]
pub struct ItemKnn {
    neighbours: Vec<Vec<(u32, f32)>>,
}

impl ItemKnn {
    /// Counts co-occurrences in the training part.
    #[must_use]
    pub fn fit(split: &Split) -> Self {
        Self { neighbours: cosine_rows(split, NEIGHBOURS, 1) }
    }
}

impl Baseline for ItemKnn {
    fn name(&self) -> &'static str {
        "item-knn"
    }

    fn score(&self, history: &[u32], scores: &mut [f32]) {
        for item in distinct(history.iter().rev().take(MAX_HISTORY).copied()) {
            for &(neighbour, similarity) in &self.neighbours[item as usize] {
                scores[neighbour as usize] += similarity;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sanderling_types::TimeKind;

    use super::*;
    use crate::baselines::tests::split_of;

    #[test]
    fn prefers_what_went_together() {
        // Item 0 has three users, item 1 two of them, item 3 none of them.
        let split = split_of(&[&[0, 1], &[0, 1, 2], &[0, 2], &[3, 2]], 4, TimeKind::Order);
        let knn = ItemKnn::fit(&split);
        let mut scores = [0.0; 4];
        knn.score(&[0, 0], &mut scores);
        assert!((scores[1] - 2.0 / 6.0f32.sqrt()).abs() < 1e-6, "{scores:?}");
        assert!((scores[2] - 2.0 / 3.0).abs() < 1e-6, "{scores:?}");
        assert_eq!((scores[0], scores[3]), (0.0, 0.0));
    }
}
