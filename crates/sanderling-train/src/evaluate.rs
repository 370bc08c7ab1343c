//! Evaluation of a packed bundle by running it through the engine: what is measured is what ships.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rayon::prelude::*;
use sanderling_core::Engine;
use sanderling_types::{Context, ItemIndex, Request, Rules, SessionInteraction, TimeKind};

use crate::baselines::{self, Baseline};
use crate::metrics::{self, CaseResult, LIST_LEN, Metrics};
use crate::slices::{self, Slices};
use crate::split::{Case, Split};

/// Interactions of a history that are handed to the engine: more than any person has; the encoder
/// reads fewer, but what was seen is left out however long ago.
const MAX_HISTORY: usize = 10_000;

/// What a bundle and the baselines are worth on the test cases of one split.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Number of cases.
    pub num_cases: usize,
    /// The bundle, run by the engine.
    pub metrics: Metrics,
    /// The bundle on parts of the cases.
    pub slices: Slices,
    /// Every baseline by name; empty when none was asked.
    pub baselines: BTreeMap<String, Metrics>,
    /// The bundle's answers, for paired comparisons.
    pub results: Vec<CaseResult>,
}

/// Answers the test cases of `split` with `engine` alone.
#[must_use]
pub fn alone(engine: &Engine, split: &Split) -> Evaluation {
    let seed = engine.bundle().manifest().training.seed;
    let mut results = answer(engine, split, &split.test, split.exclude_seen);
    let popularity = to_catalogue(engine, split, &mut results);
    Evaluation {
        num_cases: results.len(),
        metrics: metrics::metrics(&results, &popularity, seed),
        slices: slices::slices(split, &split.test, &results, seed),
        baselines: BTreeMap::new(),
        results,
    }
}

/// Answers the test cases of `split` with `engine` and with every baseline.
#[must_use]
pub fn beside_baselines(engine: &Engine, split: &Split) -> Evaluation {
    let seed = engine.bundle().manifest().training.seed;
    let measure = |baseline: Box<dyn Baseline>| {
        let results = baselines::answer(&*baseline, split, &split.test);
        (baseline.name().to_owned(), metrics::metrics(&results, &split.vocabulary.popularity, seed))
    };
    Evaluation { baselines: baselines::all(split).map(measure).collect(), ..alone(engine, split) }
}

/// Turns listed rows into rows of the split's catalogue and gives its popularity, so that items that a
/// bundle was made without count as never listed. The catalogue of a bundle that knows other items than
/// the split is its own.
fn to_catalogue<'a>(engine: &Engine, split: &'a Split, results: &mut [CaseResult]) -> Cow<'a, [u32]> {
    let ids = split.vocabulary.item_ids.iter().zip(0u32..);
    let rows: BTreeMap<&str, u32> = ids.map(|(id, row)| (id.as_str(), row)).collect();
    let of = engine.bundle().vocabulary();
    let Some(rows) = of.item_ids().map(|id| rows.get(id).copied()).collect::<Option<Vec<u32>>>() else {
        return (0..of.len() as u32).map(|row| of.popularity(ItemIndex(row))).collect();
    };
    for row in results.iter_mut().flat_map(|result| &mut result.list) {
        *row = rows[*row as usize];
    }
    Cow::Borrowed(&split.vocabulary.popularity)
}

/// The request that a device would make in `case`. Where it leaves out what was seen, an item that comes
/// again is not listed: a miss, as on the device.
#[must_use]
pub fn request(split: &Split, case: Case, limit: u32, exclude_seen: bool) -> Request {
    let history = split.history(case);
    let newest = &history[history.len().saturating_sub(MAX_HISTORY)..];
    let target = split.target(case);
    let with_time = split.time == TimeKind::UnixSeconds;
    let session: Vec<SessionInteraction> = newest
        .iter()
        .map(|&event| SessionInteraction {
            item_id: split.item_id(event).clone(),
            kind: "view".to_owned(),
            timestamp: if with_time { event.timestamp } else { 0 },
        })
        .collect();
    let id = |&row: &u32| split.vocabulary.item_ids[row as usize].clone();
    let only = split
        .candidates
        .of(case)
        .map_or_else(Vec::new, |rows| rows.iter().map(id).chain([split.item_id(target).clone()]).collect());
    let rules = Rules { exclude_seen: Some(exclude_seen), only, ..Rules::default() };
    Request {
        session,
        context: Context::new(),
        rules,
        limit,
        now: if with_time { target.timestamp } else { 0 },
        seed: 0,
        ..Request::default()
    }
}

/// Answers every case by the engine's list: encoder, retrieval, ranker and policy. Items are
/// compared by their outside ids, so a bundle with another vocabulary can be judged on this split.
#[must_use]
pub fn answer(engine: &Engine, split: &Split, cases: &[Case], exclude_seen: bool) -> Vec<CaseResult> {
    cases
        .par_iter()
        .map(|&case| {
            let target = split.item_id(split.target(case));
            let request = request(split, case, LIST_LEN as u32, exclude_seen);
            let recommendations = engine.recommend(&request).response.recommendations;
            let rank = recommendations.iter().find(|r| r.item_id == *target).map(|r| r.position);
            let row = |r: &sanderling_types::Recommendation| {
                engine.bundle().item_index(&r.item_id).map(|index| index.0)
            };
            CaseResult { user: case.user, rank, list: recommendations.iter().filter_map(row).collect() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::tests::split_of;

    #[test]
    fn a_request_does_not_know_that_the_target_was_seen_before() {
        let split = split_of(&[&[0, 1, 0, 2]], 3, TimeKind::Order);
        let [again, new] = [2, 3].map(|prefix| request(&split, Case { user: 0, prefix }, 10, true).rules);
        assert_eq!(again, new);
        assert_eq!(again, Rules { exclude_seen: Some(true), ..Rules::default() });
    }
}
