//! Retrieval: the exact scan of the item table with a bounded, fused top-k.

use std::cmp::Ordering;

use sanderling_kernels::Top;
use sanderling_types::{ItemIndex, Source};

use crate::order::by_score;
use crate::{ItemTable, Mask};

/// An item that may be recommended, with where it came from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Which item.
    pub item: ItemIndex,
    /// Dot product of the query with the item vector, or the neighbour score in a bundle without an
    /// encoder; 0 for fallbacks.
    pub score: f32,
    /// Sum of the weights that the session's items have for the item; 0 without neighbours.
    pub neighbour_score: f32,
    /// Which part of the engine proposed it.
    pub source: Source,
}

/// The best `k` kept items of `scored`, in the order of [`by_score`].
pub(crate) fn top_scored(
    scored: impl Iterator<Item = (ItemIndex, f32)>,
    k: usize,
    mask: &Mask,
) -> Vec<(ItemIndex, f32)> {
    let mut top = Top::new(k, mask.len());
    scored.for_each(|(item, score)| top.offer_one(item.0, score, mask.words()));
    top.into_sorted().into_iter().map(|(row, score)| (ItemIndex(row), score)).collect()
}

fn retrieved((row, score): (u32, f32)) -> Candidate {
    Candidate { item: ItemIndex(row), score, neighbour_score: 0.0, source: Source::Retrieval }
}

impl ItemTable {
    /// The best `k` kept items by dot product with `query` `[dim]`, in the order of
    /// [`by_score`]; fewer when fewer are kept. The query is rounded to whole numbers, of which its largest
    /// element becomes 8,191, so that sums are exact.
    #[must_use]
    pub fn top_k(&self, query: &[f32], k: usize, mask: &Mask) -> Vec<Candidate> {
        let mut top = Top::new(k, self.len());
        self.scan(&self.prepare(query), mask.words(), &mut top);
        top.into_sorted().into_iter().map(retrieved).collect()
    }

    /// The best `k` kept items by cosine with the vector of `item`, in the order of [`by_score`];
    /// none for an item out of range.
    #[must_use]
    pub fn most_similar(&self, item: ItemIndex, k: usize, mask: &Mask) -> Vec<Candidate> {
        let mut top = Top::new(k, self.len());
        self.for_each_cosine(item, |other, score| top.offer_one(other.0, score, mask.words()));
        top.into_sorted().into_iter().map(retrieved).collect()
    }

    /// How many kept items [`by_score`] lists before `target`: its position minus one, whether or
    /// not it is kept itself.
    #[must_use]
    pub fn num_before(&self, query: &[f32], target: ItemIndex, mask: &Mask) -> usize {
        let query = self.prepare(query);
        let target_score = (self.score(&query, target), target);
        let mut num_before = 0;
        self.for_each_block(&query, |first, scores| {
            for (item, score) in (first.0..).map(ItemIndex).zip(scores) {
                let before = by_score((*score, item), target_score) == Ordering::Less && mask.keeps(item);
                num_before += usize::from(before);
            }
        });
        num_before
    }
}
