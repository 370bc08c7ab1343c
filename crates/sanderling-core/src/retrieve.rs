//! Retrieval: the exact scan of the item table with a bounded, fused top-k.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use sanderling_kernels::any_above;
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

/// Keeps the best `k` of a stream of scored items.
struct TopK {
    k: usize,
    /// The worst kept item is the greatest.
    heap: BinaryHeap<Scored>,
}

#[derive(Debug, Clone, Copy)]
struct Scored(f32, ItemIndex);

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scored {}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        by_score((self.0, self.1), (other.0, other.1))
    }
}

impl TopK {
    fn new(k: usize, len: usize) -> Self {
        let k = k.min(len);
        Self { k, heap: BinaryHeap::with_capacity(k) }
    }

    fn offer(&mut self, item: ItemIndex, score: f32, mask: &Mask) {
        let scored = Scored(score, item);
        if self.heap.len() < self.k {
            if mask.keeps(item) {
                self.heap.push(scored);
            }
        } else if let Some(mut worst) = self.heap.peek_mut()
            && scored < *worst
            && mask.keeps(item)
        {
            *worst = scored;
        }
    }

    /// The score that a later item must exceed to be kept: of equal scores the earlier item comes first.
    fn floor(&self) -> f32 {
        if self.heap.len() < self.k {
            return f32::NEG_INFINITY;
        }
        self.heap.peek().map_or(f32::INFINITY, |worst| worst.0)
    }

    fn finish(self) -> impl Iterator<Item = (ItemIndex, f32)> {
        self.heap.into_sorted_vec().into_iter().map(|Scored(score, item)| (item, score))
    }
}

/// The best `k` kept items of `scored`, in the order of [`by_score`].
pub(crate) fn top_scored(
    scored: impl Iterator<Item = (ItemIndex, f32)>,
    k: usize,
    mask: &Mask,
) -> Vec<(ItemIndex, f32)> {
    let mut top = TopK::new(k, mask.len());
    scored.for_each(|(item, score)| top.offer(item, score, mask));
    top.finish().collect()
}

fn retrieved((item, score): (ItemIndex, f32)) -> Candidate {
    Candidate { item, score, neighbour_score: 0.0, source: Source::Retrieval }
}

impl ItemTable {
    /// The best `k` kept items by dot product with `query` `[dim]`, in the order of
    /// [`by_score`]; fewer when fewer are kept. The query is rounded to whole numbers, of which its largest
    /// element becomes 32,767 (less from 516 dimensions on), so that sums are exact.
    #[must_use]
    pub fn top_k(&self, query: &[f32], k: usize, mask: &Mask) -> Vec<Candidate> {
        let mut top = TopK::new(k, self.len());
        self.for_each_block(&self.prepare(query), |first, scores| {
            // Most blocks have no item that would be kept.
            let mut floor = top.floor();
            if !any_above(scores, floor) {
                return;
            }
            for (item, score) in (first.0..).zip(scores) {
                if *score > floor || score.is_nan() {
                    top.offer(ItemIndex(item), *score, mask);
                    floor = top.floor();
                }
            }
        });
        top.finish().map(retrieved).collect()
    }

    /// The best `k` kept items by cosine with the vector of `item`, in the order of [`by_score`];
    /// none for an item out of range.
    #[must_use]
    pub fn most_similar(&self, item: ItemIndex, k: usize, mask: &Mask) -> Vec<Candidate> {
        let mut top = TopK::new(k, self.len());
        self.for_each_cosine(item, |other, score| top.offer(other, score, mask));
        top.finish().map(retrieved).collect()
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
