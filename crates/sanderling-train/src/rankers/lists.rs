//! Candidate lists to learn from: validation cases as the engine sees them before their answer.
//!
//! The retriever has not seen the validation part, and a list holds what a device knows at that moment:
//! the history before the case, the time of the case, counts of the training part.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use sanderling_core::{Engine, SessionMemory, SessionView, policy};
use sanderling_types::Result;

use crate::evaluate;
use crate::metrics::CaseResult;
use crate::split::{Case, Split};

/// Most lists that rankers are fitted and chosen on; more say little new.
const MAX_LISTS: usize = 4000;
/// Most candidates of all lists together: 40 MB of ten features.
const MAX_CANDIDATES: usize = 1_000_000;

/// Candidates of one case with the place of the right one.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateList {
    /// Which user the case belongs to.
    pub user: u32,
    /// `[num_candidates, num_features]`, in retrieval order.
    pub features: Vec<f32>,
    /// Row of the item that came next, when retrieval found it.
    pub relevant: Option<usize>,
}

impl CandidateList {
    /// 1-based rank of the right item when `scores` `[num_candidates]` order the list; of equal scores
    /// the earlier candidate comes first, as in the engine.
    #[must_use]
    pub fn rank(&self, scores: &[f32]) -> Option<u32> {
        let relevant = self.relevant?;
        let right = scores[relevant];
        let before = |&(row, &score): &(usize, &f32)| score > right || (score == right && row < relevant);
        Some(scores.iter().enumerate().filter(before).count() as u32 + 1)
    }

    /// The answer that a list ordered by `scores` gives, as far as NDCG looks at it.
    pub(crate) fn result(&self, scores: &[f32]) -> CaseResult {
        CaseResult { user: self.user, rank: self.rank(scores), list: Vec::new() }
    }
}

/// Candidate lists of `cases` as the engine makes them; none of a case without a known history, or of a
/// bundle that retrieves nothing.
///
/// # Errors
/// As [`Engine::candidates`].
pub fn candidate_lists(engine: &Engine, split: &Split, cases: &[Case]) -> Result<Vec<CandidateList>> {
    if !engine.bundle().retrieves() {
        return Ok(Vec::new());
    }
    cases.par_iter().filter_map(|&case| candidate_list(engine, split, case).transpose()).collect()
}

/// The evenly spaced validation cases that rankers are fitted and chosen on.
pub(crate) fn ranker_cases(engine: &Engine, split: &Split) -> Vec<Case> {
    let max_candidates = engine.bundle().manifest().limits.max_candidates as usize;
    split.validation_cases(MAX_LISTS.min(MAX_CANDIDATES / max_candidates))
}

fn candidate_list(engine: &Engine, split: &Split, case: Case) -> Result<Option<CandidateList>> {
    let request = evaluate::request(split, case, 1, split.exclude_seen);
    let (session, _) = SessionView::resolve(&request.session, engine.bundle());
    let mask = policy::mask(engine.bundle(), &session, &request.rules);
    if session.is_empty() {
        return Ok(None);
    }
    let candidates = engine.candidates(&session, &mask, &mut SessionMemory::default())?;
    let items = engine.bundle().items();
    let features = engine.feature_encoder().encode(&session, &candidates, items, request.now);
    let target = engine.bundle().item_index(split.item_id(split.target(case)));
    let relevant = target.and_then(|target| candidates.iter().position(|candidate| candidate.item == target));
    Ok(Some(CandidateList { user: case.user, features, relevant }))
}

/// Numbers the users of cases from 0 on, whichever users those are, so that parts of equal size can be made
/// of them: evenly spaced cases may all belong to users of one remainder.
pub(crate) fn user_numbers(users: impl Iterator<Item = u32> + Clone) -> Vec<u32> {
    let distinct: BTreeSet<u32> = users.clone().collect();
    let numbers: BTreeMap<u32, u32> = distinct.into_iter().zip(0..).collect();
    users.map(|user| numbers[&user]).collect()
}

/// Standard deviation of each feature within lists.
pub(crate) fn deviations<'a>(
    lists: impl IntoIterator<Item = &'a CandidateList>,
    num_features: usize,
) -> Vec<f64> {
    let mut sums = vec![(0.0f64, 0usize); num_features];
    for list in lists {
        let rows = list.features.len() / num_features;
        if rows == 0 {
            continue;
        }
        for (i, (sum, count)) in sums.iter_mut().enumerate() {
            let column = || list.features.iter().skip(i).step_by(num_features).map(|&x| f64::from(x));
            let mean = column().sum::<f64>() / rows as f64;
            *sum += column().map(|x| (x - mean) * (x - mean)).sum::<f64>();
            *count += rows;
        }
    }
    let deviation = |(sum, count): (f64, usize)| (sum / count.max(1) as f64).sqrt();
    sums.into_iter().map(deviation).collect()
}

/// Lists that hold their item: the only ones with something to learn.
pub(crate) fn with_item<'a>(lists: &[&'a CandidateList]) -> Vec<&'a CandidateList> {
    lists.iter().copied().filter(|list| list.relevant.is_some()).collect()
}

/// A list that holds its item, in the scales of a fit.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Example {
    /// `[num_candidates, num_features]`.
    pub(crate) features: Vec<f32>,
    pub(crate) relevant: usize,
}

/// `(x - mean) / deviation` of every feature, by the scales `(mean, deviation)`.
pub(crate) fn standardised(features: &[f32], scales: &[(f64, f64)]) -> Vec<f32> {
    let scaled = |(x, (mean, deviation)): (&f32, &(f64, f64))| ((f64::from(*x) - mean) / deviation) as f32;
    features.iter().zip(scales.iter().cycle()).map(scaled).collect()
}

/// The lists that hold their item.
pub(crate) fn examples(lists: &[&CandidateList], scales: &[(f64, f64)]) -> Vec<Example> {
    let example = |list: &&CandidateList| {
        let relevant = list.relevant?;
        Some(Example { features: standardised(&list.features, scales), relevant })
    };
    lists.par_iter().filter_map(example).collect()
}
