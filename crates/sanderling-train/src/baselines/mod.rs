//! Baselines that every report shows beside the candidate: `popular`, `recent`, `item-knn`, `vmis-knn`
//! and `ease`; `category-knn` where items are held out.

pub(crate) mod baskets;
mod category_knn;
pub(crate) mod cholesky;
mod ease;
mod item_knn;
mod popular;
mod recent;
pub(crate) mod transitions;
mod vmis_knn;

pub use category_knn::CategoryKnn;
pub use ease::Ease;
pub use item_knn::ItemKnn;
pub(crate) use item_knn::cosine_rows;
pub use popular::Popular;
pub use recent::Recent;
pub use vmis_knn::VmisKnn;

use rayon::prelude::*;

use crate::metrics::{CaseResult, LIST_LEN};
use crate::split::{Case, Split, SplitKind};

/// Something that can order the catalogue for a history of vocabulary rows.
pub trait Baseline: Sync {
    /// The name in reports.
    fn name(&self) -> &'static str;

    /// Adds a score to items of `scores` `[num_items]`, which starts at zero; higher is better, and
    /// ties fall to the more popular item.
    fn score(&self, history: &[u32], scores: &mut [f32]);
}

fn distinct(items: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut items: Vec<u32> = items.collect();
    items.sort_unstable();
    items.dedup();
    items
}

/// Every baseline, each fitted to the training part when the iterator comes to it, so that only one
/// is in memory.
pub fn all(split: &Split) -> impl Iterator<Item = Box<dyn Baseline>> + '_ {
    type Fit = fn(&Split) -> Box<dyn Baseline>;
    let fits: [Fit; 6] = [
        |split| Box::new(Popular::fit(split)),
        |split| Box::new(Recent::fit(split)),
        |split| Box::new(ItemKnn::fit(split)),
        |split| Box::new(VmisKnn::fit(split)),
        |split| Box::new(Ease::fit(split)),
        |split| Box::new(CategoryKnn::fit(split)),
    ];
    // What knows categories only is worth its place where nothing else is known.
    let num_fits = if split.kind == SplitKind::HeldOutItems { fits.len() } else { fits.len() - 1 };
    fits.into_iter().take(num_fits).map(move |fit| fit(split))
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
                    history.iter().for_each(|&item| scores[item as usize] = f32::NEG_INFINITY);
                }
                if let Some(candidates) = split.candidates.of(case) {
                    keep_only(scores, candidates, target);
                }
                let mut list = top(scores, LIST_LEN);
                list.retain(|&item| scores[item as usize] > f32::NEG_INFINITY);
                let rank = list.iter().position(|&item| item == target).map(|at| at as u32 + 1);
                CaseResult { user: case.user, rank, list }
            },
        )
        .collect()
}

/// Leaves scores to `rows` and `target` alone.
fn keep_only(scores: &mut [f32], rows: &[u32], target: u32) {
    let kept: Vec<(u32, f32)> =
        rows.iter().chain([&target]).filter_map(|&row| Some((row, *scores.get(row as usize)?))).collect();
    scores.fill(f32::NEG_INFINITY);
    kept.into_iter().for_each(|(row, score)| scores[row as usize] = score);
}

/// The `k` best rows by descending score, ties by ascending row; no score is NaN.
fn top(scores: &[f32], k: usize) -> Vec<u32> {
    let score = |row: u32| scores[row as usize];
    let mut best: Vec<u32> = (0..k.min(scores.len()) as u32).collect();
    best.sort_by(|a, b| score(*b).total_cmp(&score(*a)));
    let Some(&last) = best.last() else { return best };
    let mut floor = score(last);
    for (row, &new) in scores.iter().enumerate().skip(best.len()) {
        // Rows ascend, so of equal scores the one that is there already stays in front.
        if new > floor {
            best.pop();
            best.insert(best.partition_point(|&other| score(other) >= new), row as u32);
            floor = best.last().map_or(new, |&last| score(last));
        }
    }
    best
}

#[cfg(test)]
pub(crate) mod tests {
    use sanderling_types::{TimeKind, Vocabulary};

    use super::*;
    use crate::candidates::Candidates;
    use crate::split::{Event, SplitKind};

    /// A split of `(row, timestamp)` sequences that are for training only.
    pub(crate) fn split_at(sequences: &[&[(u32, i64)]], num_items: usize, time: TimeKind) -> Split {
        let event = |&(item, timestamp): &(u32, i64)| Event { item, timestamp };
        let mut popularity = vec![0; num_items];
        sequences.iter().copied().flatten().for_each(|&(item, _)| popularity[item as usize] += 1);
        Split {
            kind: SplitKind::LeaveOneOut,
            vocabulary: Vocabulary {
                item_ids: (0..num_items).map(|row| format!("i{row}").into()).collect(),
                item_categories: vec![Vec::new(); num_items],
                categories: Vec::new(),
                popularity,
                prices: Vec::new(),
                published_at: Vec::new(),
            },
            unseen_ids: Vec::new(),
            sequences: sequences.iter().map(|sequence| sequence.iter().map(event).collect()).collect(),
            users: (0..sequences.len() as u32).collect(),
            num_shared: 0,
            train_len: sequences.iter().map(|sequence| sequence.len() as u32).collect(),
            validation: Vec::new(),
            test: Vec::new(),
            exclude_seen: true,
            time,
            candidates: Candidates::Catalogue,
            segments: sanderling_types::Segments::default(),
        }
    }

    /// The same with positions for timestamps.
    pub(crate) fn split_of(sequences: &[&[u32]], num_items: usize, time: TimeKind) -> Split {
        let timed: Vec<Vec<(u32, i64)>> =
            sequences.iter().map(|items| items.iter().copied().zip(0..).collect()).collect();
        split_at(&timed.iter().map(Vec::as_slice).collect::<Vec<_>>(), num_items, time)
    }

    #[test]
    fn seen_items_are_left_out_whether_or_not_one_comes_again() {
        let mut split = split_of(&[&[0, 1, 0, 2], &[0, 1], &[0, 3]], 4, TimeKind::Order);
        let popular = Popular::fit(&split);
        let cases = [Case { user: 0, prefix: 2 }, Case { user: 0, prefix: 3 }];
        let answers = answer(&popular, &split, &cases);
        // Items 0 and 1 were seen; the target is item 0, then item 2.
        assert_eq!((answers[0].rank, &answers[0].list[..]), (None, &[2, 3][..]));
        assert_eq!((answers[1].rank, &answers[1].list[..]), (Some(1), &[2, 3][..]));
        split.exclude_seen = false;
        let answers = answer(&popular, &split, &cases);
        assert_eq!((answers[1].rank, &answers[1].list[..]), (Some(3), &[0, 1, 2, 3][..]));
    }

    #[test]
    fn lists_are_the_start_of_the_whole_order_and_hold_no_more_memory() {
        let scores: Vec<f32> =
            (0..500).map(|i| [f32::NEG_INFINITY, (i * 37 % 90) as f32, 0.0][i % 3]).collect();
        let mut order: Vec<u32> = (0..500).collect();
        order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
        for k in [1, 20, 499, 500, 600] {
            let list = top(&scores, k);
            assert_eq!(list, order[..k.min(500)]);
            assert!(list.capacity() <= k);
        }
        assert!(top(&scores, 0).is_empty() && top(&[], 20).is_empty());
    }

    #[test]
    fn no_data_one_item_and_nothing_but_duplicates_are_fine() {
        let history = [0, 0, 0];
        let splits = [
            (split_of(&[], 0, TimeKind::UnixSeconds), 0),
            (split_of(&[&[], &[]], 2, TimeKind::Order), 3),
            (split_of(&[&[0]], 1, TimeKind::Order), 3),
            (split_of(&[&[0, 0, 0], &[0, 0, 0]], 1, TimeKind::UnixSeconds), 3),
            (split_of(&[&[0, 1], &[0, 1], &[0, 1]], 2, TimeKind::UnixSeconds), 3),
        ];
        for (split, len) in &splits {
            for baseline in all(split) {
                let mut scores = vec![0.0; split.vocabulary.len()];
                baseline.score(&history[..*len], &mut scores);
                assert!(scores.iter().all(|score| score.is_finite()), "{}: {scores:?}", baseline.name());
            }
        }
    }

    #[test]
    fn answers_do_not_depend_on_the_number_of_threads() {
        let lists: Vec<Vec<u32>> =
            (0..300u32).map(|user| (0..12).map(|at| (user * 31 + at * at * 7) % 4500).collect()).collect();
        let sequences: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
        // Large enough for the restricted method of `ease`, small enough for the exact one.
        for num_items in [4500, 1000] {
            let known: Vec<&[u32]> =
                sequences.iter().copied().filter(|list| list.iter().all(|&row| row < num_items)).collect();
            let split = split_of(&known, num_items as usize, TimeKind::Order);
            let cases: Vec<Case> = (0..known.len() as u32).map(|user| Case { user, prefix: 11 }).collect();
            let with_threads = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
                pool.install(|| {
                    all(&split).map(|baseline| answer(&*baseline, &split, &cases)).collect::<Vec<_>>()
                })
            };
            assert_eq!(with_threads(1), with_threads(3));
        }
    }
}
