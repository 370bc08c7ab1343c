//! The best of a stream of scores.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::math::any_above;

/// Keeps the best `k` scores, each with its row: larger ones first, what is not a number last, of equal ones the smaller
/// row first.
#[derive(Debug, Clone)]
pub struct Top {
    k: usize,
    /// The worst one is the greatest.
    heap: BinaryHeap<Kept>,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    key: u64,
    score: f32,
}

impl Kept {
    fn new(row: u32, score: f32) -> Self {
        // Adding zero makes both zeros one. Ascending bits are ascending scores, then, after the signs are turned.
        let bits = (score + 0.0).to_bits();
        let ascending = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        let worse = if score.is_nan() { u32::MAX } else { !ascending };
        Self { key: u64::from(worse) << 32 | u64::from(row), score }
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Kept {}

impl PartialOrd for Kept {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Kept {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
    }
}

impl Top {
    /// Of `len` rows at most.
    #[must_use]
    pub fn new(k: usize, len: usize) -> Self {
        let k = k.min(len);
        Self { k, heap: BinaryHeap::with_capacity(k) }
    }

    /// Offers the scores of the rows from `first` on. A row counts when its bit in `allowed` is set, the lowest bit of
    /// the first word for row 0.
    pub fn offer(&mut self, first: u32, scores: &[f32], allowed: &[u64]) {
        // Most parts have nothing that would be kept.
        const PART: usize = 16;
        let mut floor = self.floor();
        for (part, scores) in scores.chunks(PART).enumerate() {
            if !floor.is_nan() && !any_above(scores, floor) {
                continue;
            }
            for (row, score) in (first + (part * PART) as u32..).zip(scores) {
                if *score <= floor {
                    continue;
                }
                self.offer_one(row, *score, allowed);
                floor = self.floor();
            }
        }
    }

    /// Offers one score, likewise.
    pub fn offer_one(&mut self, row: u32, score: f32, allowed: &[u64]) {
        let is_allowed = || allowed.get(row as usize / 64).is_some_and(|word| word >> (row % 64) & 1 == 1);
        if self.heap.len() < self.k {
            if is_allowed() {
                self.heap.push(Kept::new(row, score));
            }
            return;
        }
        let kept = Kept::new(row, score);
        if self.heap.peek().is_some_and(|worst| kept < *worst)
            && is_allowed()
            && let Some(mut worst) = self.heap.peek_mut()
        {
            *worst = kept;
        }
    }

    /// What was kept, the best first.
    #[must_use]
    pub fn into_sorted(self) -> Vec<(u32, f32)> {
        self.heap.into_sorted_vec().into_iter().map(|kept| (kept.key as u32, kept.score)).collect()
    }

    /// A later row of a score up to it is not kept; not a number when every score may be.
    pub(crate) fn floor(&self) -> f32 {
        let worst = self.heap.peek().map_or(f32::INFINITY, |worst| worst.score);
        if self.heap.len() == self.k { worst } else { f32::NAN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_scores_and_rows() {
        let scores = [0.0, f32::NAN, -1.0, -0.0, f32::INFINITY, 2.0, f32::NEG_INFINITY, 2.0, f32::NAN];
        let sorted = |k: usize, allowed: u64| -> Vec<u32> {
            let mut whole = Top::new(k, scores.len());
            whole.offer(0, &scores, &[allowed]);
            let mut parts = Top::new(k, scores.len());
            parts.offer(0, &scores[..4], &[allowed]);
            parts.offer(4, &scores[4..], &[allowed]);
            let rows = |top: Top| top.into_sorted().into_iter().map(|(row, _)| row).collect::<Vec<_>>();
            let found = rows(whole);
            assert_eq!(rows(parts), found);
            found
        };
        assert_eq!(sorted(9, u64::MAX), [4, 5, 7, 0, 3, 2, 6, 1, 8]);
        assert_eq!(sorted(3, u64::MAX), [4, 5, 7]);
        assert_eq!(sorted(8, u64::MAX), [4, 5, 7, 0, 3, 2, 6, 1]);
        assert_eq!(sorted(3, !(1 << 5)), [4, 7, 0]);
        assert_eq!(sorted(0, u64::MAX), [0u32; 0]);
        assert_eq!(sorted(3, 0), [0u32; 0]);
        let mut top = Top::new(1, 1);
        top.offer(0, &[-0.0], &[1]);
        assert_eq!(top.into_sorted()[0].1.to_bits(), (-0.0f32).to_bits(), "scores come back as they were");
    }

    #[test]
    fn of_many_scores_the_best_are_kept_whatever_their_order() {
        let mut state = 7u32;
        for (len, k, levels) in [(1000, 1, 1000), (1000, 20, 7), (3000, 200, 3000), (50, 60, 5), (999, 37, 1)]
        {
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as usize % levels
            };
            let mut scores: Vec<f32> = (0..len).map(|_| next() as f32 - 3.0).collect();
            for order in 0..3 {
                match order {
                    1 => scores.sort_by(f32::total_cmp),
                    2 => scores.reverse(),
                    _ => {}
                }
                let mut rows: Vec<u32> = (0..len as u32).collect();
                rows.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
                rows.truncate(k);
                let mut top = Top::new(k, len);
                top.offer(0, &scores, &vec![u64::MAX; len.div_ceil(64)]);
                let found: Vec<u32> = top.into_sorted().into_iter().map(|(row, _)| row).collect();
                assert_eq!(found, rows, "{k} of {len}, order {order}");
            }
        }
    }
}
