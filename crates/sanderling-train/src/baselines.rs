//! Baselines that every report shows beside the candidate: `popular` and `item-knn`.

use rayon::prelude::*;

use crate::metrics::{CaseResult, LIST_LEN};
use crate::split::{Case, Split};

/// Neighbours kept of an item.
const NEIGHBOURS: usize = 50;
/// Newest interactions of a user that count, so that robots cost no quadratic time.
const MAX_HISTORY: usize = 500;

/// Something that can order the catalogue for a history of vocabulary rows.
pub trait Baseline: Sync {
    /// The name in reports.
    fn name(&self) -> &'static str;

    /// Adds a score to items of `scores` `[num_items]`, which starts at zero; higher is better, and
    /// ties fall to the more popular item.
    fn score(&self, history: &[u32], scores: &mut [f32]);
}

/// Most training interactions first.
#[derive(Debug)]
pub struct Popular {
    counts: Vec<f32>,
}

impl Popular {
    /// Counts the training part.
    #[must_use]
    pub fn fit(split: &Split) -> Self {
        Self { counts: split.vocabulary.popularity.iter().map(|&count| count as f32).collect() }
    }
}

impl Baseline for Popular {
    fn name(&self) -> &'static str {
        "popular"
    }

    fn score(&self, _history: &[u32], scores: &mut [f32]) {
        scores.copy_from_slice(&self.counts);
    }
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
        let num_items = split.vocabulary.len();
        let baskets: Vec<Vec<u32>> = split
            .training()
            .map(|events| distinct(events.iter().rev().take(MAX_HISTORY).map(|event| event.item)))
            .collect();
        let mut users_of: Vec<Vec<u32>> = vec![Vec::new(); num_items];
        for (user, basket) in baskets.iter().enumerate() {
            basket.iter().for_each(|&item| users_of[item as usize].push(user as u32));
        }
        let neighbours = (0..num_items)
            .into_par_iter()
            .map_init(|| vec![0u32; num_items], |together, item| nearest(item, &users_of, &baskets, together))
            .collect();
        Self { neighbours }
    }
}

fn nearest(
    item: usize,
    users_of: &[Vec<u32>],
    baskets: &[Vec<u32>],
    together: &mut [u32],
) -> Vec<(u32, f32)> {
    let mut touched = Vec::new();
    for &user in &users_of[item] {
        for &other in &baskets[user as usize] {
            if together[other as usize] == 0 {
                touched.push(other);
            }
            together[other as usize] += 1;
        }
    }
    let norm = |i: usize| (users_of[i].len() as f32).sqrt();
    let mut scored: Vec<(u32, f32)> = touched
        .iter()
        .filter(|&&other| other as usize != item)
        .map(|&other| (other, together[other as usize] as f32 / (norm(item) * norm(other as usize))))
        .collect();
    touched.iter().for_each(|&other| together[other as usize] = 0);
    scored.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    scored.truncate(NEIGHBOURS);
    scored
}

fn distinct(items: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut items: Vec<u32> = items.collect();
    items.sort_unstable();
    items.dedup();
    items
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

/// Answers every case by the full catalogue order of a baseline.
#[must_use]
pub fn answer(baseline: &dyn Baseline, split: &Split, cases: &[Case]) -> Vec<CaseResult> {
    cases
        .par_iter()
        .map_init(
            || vec![0.0; split.vocabulary.len()],
            |scores, &case| {
                let history: Vec<u32> = split.rows(split.history(case)).collect();
                let target = split.target(case).item;
                scores.fill(0.0);
                baseline.score(&history, scores);
                if split.exclude_seen {
                    let seen = history.iter().filter(|&&item| item != target);
                    seen.for_each(|&item| scores[item as usize] = f32::NEG_INFINITY);
                }
                let list = top(scores, LIST_LEN);
                let rank = list.iter().position(|&item| item == target).map(|at| at as u32 + 1);
                CaseResult { user: case.user, rank, list }
            },
        )
        .collect()
}

/// The `k` best rows by descending score, ties by ascending row.
fn top(scores: &[f32], k: usize) -> Vec<u32> {
    let order = |a: &u32, b: &u32| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b));
    let mut rows: Vec<u32> = (0..scores.len() as u32).collect();
    if rows.len() > k {
        rows.select_nth_unstable_by(k, order);
        rows.truncate(k);
    }
    rows.sort_unstable_by(order);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::split::{SplitKind, split};
    use sanderling_types::{Interaction, TimeKind};

    fn dataset(sequences: &[&[&str]]) -> Dataset {
        let interactions = sequences
            .iter()
            .enumerate()
            .flat_map(|(user, items)| {
                items.iter().enumerate().map(move |(at, &item)| Interaction {
                    user_id: format!("u{user}").into(),
                    item_id: item.into(),
                    kind: "view".to_owned(),
                    timestamp: at as i64,
                    value: None,
                    split: None,
                })
            })
            .collect();
        Dataset { interactions, items: Vec::new(), time: TimeKind::Order }
    }

    #[test]
    fn knn_prefers_what_went_together_and_popular_what_many_chose() {
        let data = dataset(&[
            &["a", "b", "x", "p"],
            &["a", "b", "p", "x"],
            &["c", "d", "p", "q"],
            &["p", "c", "d", "q"],
            &["p", "a", "b", "d"],
        ]);
        let split = split(&data, SplitKind::LeaveOneOut).expect("splits");
        let row = |id: &str| {
            split.vocabulary.item_ids.iter().position(|known| known.as_str() == id).expect("known") as u32
        };
        let (knn, popular) = (ItemKnn::fit(&split), Popular::fit(&split));
        let mut scores = vec![0.0; split.vocabulary.len()];
        knn.score(&[row("a")], &mut scores);
        // In the training part a has three users, b two of them; d was never trained together with a.
        assert!((scores[row("b") as usize] - 2.0 / 6.0f32.sqrt()).abs() < 1e-6);
        assert_eq!(scores[row("d") as usize], 0.0);
        let results = answer(&popular, &split, &split.test);
        assert_eq!(results.len(), 5);
        // The fifth user's test item is d; p, a, b are seen and left out.
        let list: Vec<&str> =
            results[4].list.iter().map(|&r| split.vocabulary.item_ids[r as usize].as_str()).collect();
        assert!(!list[..1].contains(&"p"), "{list:?}");
    }
}
