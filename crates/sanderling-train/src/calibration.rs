//! Calibration: do scores say how likely an item is?
//!
//! The predicted probability of a candidate is its share of the softmax over the ranker scores of all
//! candidates of its list: what the listwise loss fits (Cao et al. 2007, eq. 3). Its outcome is whether
//! it is the item that came next; where retrieval did not find that item, no candidate is. Looked at are
//! the first ten of every list, in bins of equally many by predicted probability.

use std::collections::BTreeMap;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;
use sanderling_core::{Engine, SessionMemory, SessionView, policy};
use sanderling_types::Metric;
use serde::Serialize;

use crate::draw::below;
use crate::evaluate;
use crate::metrics::{interval, round};
use crate::split::{Case, Split};

/// Most test cases that are looked at, evenly spaced.
const MAX_CASES: usize = 2000;
/// Recommendations of a list.
const LIST_LEN: usize = 10;
const NUM_BINS: usize = 10;
const RESAMPLES: usize = 1000;

/// Predicted probabilities beside what happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Calibration {
    /// Test cases with a list; those answered by the fallback have no scores.
    pub num_cases: usize,
    /// At most ten, by ascending probability.
    pub bins: Vec<CalibrationBin>,
    /// Mean distance of predicted and observed over the bins, each weighing as much as it has
    /// recommendations (expected calibration error, Naeini et al. 2015).
    pub expected_error: f64,
}

/// Recommendations of about the same predicted probability.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// How many, at least 1.
    pub num_recommendations: usize,
    /// Mean predicted probability.
    pub predicted: f64,
    /// Share that came next, with a 95 % bootstrap interval over users.
    pub observed: Metric,
}

/// One recommendation.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    user: u32,
    predicted: f64,
    came_next: bool,
}

/// Calibration of `engine` on the test cases of `split`. The bootstrap has `seed`.
#[must_use]
pub fn calibration(engine: &Engine, split: &Split, seed: u64) -> Calibration {
    let kept = split.test.len().min(MAX_CASES);
    let lists: Vec<Vec<Outcome>> = (0..kept)
        .into_par_iter()
        .filter_map(|i| outcomes(engine, split, split.test[i * split.test.len() / kept]))
        .collect();
    summarise(&lists, seed)
}

/// The first candidates of a case; `None` where the engine falls back.
fn outcomes(engine: &Engine, split: &Split, case: Case) -> Option<Vec<Outcome>> {
    let request = evaluate::request(split, case, LIST_LEN as u32, split.exclude_seen);
    let (session, _) = SessionView::resolve(&request.session, engine.bundle());
    if session.is_empty() {
        return None;
    }
    let mask = policy::mask(engine.bundle(), &session, &request.rules);
    let ranking = engine.order(&session, &mask, request.now, &mut SessionMemory::default()).ok()?;
    let target = engine.bundle().item_index(split.item_id(split.target(case)));
    let best = f64::from(*ranking.scores.first()?);
    let total: f64 = ranking.scores.iter().map(|&score| (f64::from(score) - best).exp()).sum();
    let outcome = |(candidate, &score): (&sanderling_core::Candidate, &f32)| Outcome {
        user: case.user,
        predicted: (f64::from(score) - best).exp() / total,
        came_next: Some(candidate.item) == target,
    };
    Some(ranking.candidates.iter().zip(&ranking.scores).take(LIST_LEN).map(outcome).collect())
}

fn summarise(lists: &[Vec<Outcome>], seed: u64) -> Calibration {
    let mut all: Vec<Outcome> = lists.iter().flatten().copied().collect();
    all.sort_by(|a, b| a.predicted.total_cmp(&b.predicted));
    let num_bins = NUM_BINS.min(all.len());
    let of_bin = |bin: usize| &all[bin * all.len() / num_bins..(bin + 1) * all.len() / num_bins];
    let bins: Vec<CalibrationBin> = (0..num_bins).map(|bin| summarise_bin(of_bin(bin), seed)).collect();
    let distance = |bin: &CalibrationBin| {
        bin.num_recommendations as f64 / all.len() as f64 * (bin.predicted - bin.observed.value).abs()
    };
    let expected_error = round(bins.iter().map(distance).sum());
    Calibration { num_cases: lists.len(), bins, expected_error }
}

fn summarise_bin(outcomes: &[Outcome], seed: u64) -> CalibrationBin {
    let mut by_user: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    for outcome in outcomes {
        let (shown, came_next) = by_user.entry(outcome.user).or_default();
        *shown += 1.0;
        *came_next += f64::from(u8::from(outcome.came_next));
    }
    let users: Vec<(f64, f64)> = by_user.into_values().collect();
    let share = |picked: &mut dyn Iterator<Item = usize>| {
        let (shown, came_next) =
            picked.map(|user| users[user]).fold((0.0, 0.0), |sum, user| (sum.0 + user.0, sum.1 + user.1));
        came_next / shown
    };
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let samples =
        (0..RESAMPLES).map(|_| share(&mut (0..users.len()).map(|_| below(&mut rng, users.len())))).collect();
    CalibrationBin {
        num_recommendations: outcomes.len(),
        predicted: round(
            outcomes.iter().map(|outcome| outcome.predicted).sum::<f64>() / outcomes.len() as f64,
        ),
        observed: interval(share(&mut (0..users.len())), samples),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists of ten whose recommendation `at` is predicted with `(at + 1) / 100`, and came next in
    /// `rate(at)` of 1,000 lists.
    fn lists(rate: impl Fn(usize) -> usize) -> Vec<Vec<Outcome>> {
        (0..1000u32)
            .map(|user| {
                (0..10)
                    .map(|at| Outcome {
                        user: user / 2,
                        predicted: (at + 1) as f64 / 100.0,
                        // Spread over the users.
                        came_next: (user as usize * 7 + at) % 1000 < rate(at),
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn what_happens_as_often_as_predicted_has_no_error() {
        let calibration = summarise(&lists(|at| 10 * (at + 1)), 1);
        assert_eq!((calibration.num_cases, calibration.bins.len()), (1000, 10));
        assert!(calibration.expected_error < 1e-9, "{calibration:?}");
        for (at, bin) in calibration.bins.iter().enumerate() {
            assert_eq!(bin.num_recommendations, 1000);
            assert!((bin.predicted - (at + 1) as f64 / 100.0).abs() < 1e-6, "{bin:?}");
            // About 1.96 standard errors of a binomial share on either side, and up to sqrt(2) times that,
            // because the two cases of a user mostly agree.
            let wide = 2.0 * 1.96 * (bin.predicted * (1.0 - bin.predicted) / 1000.0).sqrt();
            let found = bin.observed.high - bin.observed.low;
            assert!((0.8 * wide..1.7 * wide).contains(&found), "{bin:?}, {wide}");
        }
    }

    #[test]
    fn what_happens_half_as_often_is_off_by_half_the_mean() {
        let calibration = summarise(&lists(|at| 5 * (at + 1)), 1);
        assert!((calibration.expected_error - 0.055 / 2.0).abs() < 1e-6, "{calibration:?}");
    }

    #[test]
    fn without_lists_there_are_no_bins() {
        let calibration = summarise(&[], 1);
        assert_eq!((calibration.bins.len(), calibration.expected_error), (0, 0.0));
    }
}
