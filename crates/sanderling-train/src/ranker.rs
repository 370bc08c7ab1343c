//! The linear ranker: fitted on candidate lists of the validation part, which the retriever has not
//! seen, by the listwise softmax loss (ListNet's top-one cross entropy, Cao et al. 2007, eq. 4, with
//! one relevant item a list).

use rayon::prelude::*;
use sanderling_core::{Engine, SessionView, policy};
use sanderling_types::{FeatureKind, FeatureSpec};

use crate::evaluate;
use crate::metrics::gain_at_10;
use crate::split::{Case, Split};

const ITERATIONS: usize = 200;
const RATE: f64 = 0.05;
/// Pull of every standardised weight towards zero.
const RIDGE: f64 = 1e-3;
/// A feature that varies less within lists is a constant with rounding errors.
const MIN_DEVIATION: f64 = 1e-9;

/// Candidates of one case with the place of the right one.
#[derive(Debug)]
pub struct CandidateList {
    /// Which user the case belongs to.
    pub user: u32,
    /// `[num_candidates, num_features]`, in retrieval order.
    pub features: Vec<f32>,
    /// Row of the item that came next, when retrieval found it.
    pub relevant: Option<usize>,
}

/// A linear ranker on raw features.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearRanker {
    /// One weight a feature.
    pub weights: Vec<f32>,
    /// NDCG@10 that the ranker adds to retrieval order on held-out validation users; 0 when it is
    /// retrieval order itself.
    pub gain_ndcg10: f64,
}

/// Candidate lists of `cases` as the engine makes them.
#[must_use]
pub fn candidate_lists(
    engine: &Engine,
    split: &Split,
    cases: &[Case],
    exclude_seen: bool,
) -> Vec<CandidateList> {
    cases
        .par_iter()
        .filter_map(|&case| {
            let request = evaluate::request(split, case, 1, exclude_seen);
            let (session, _) = SessionView::resolve(&request.session, engine.bundle());
            let mask = policy::mask(engine.bundle(), &session, &request.rules);
            if session.is_empty() {
                return None;
            }
            let candidates = engine.candidates(&session, &mask).ok()?;
            let items = engine.bundle().items();
            let features = engine.feature_encoder().encode(&session, &candidates, items, request.now);
            let target = engine.bundle().item_index(split.item_id(split.target(case)));
            let relevant =
                target.and_then(|target| candidates.iter().position(|candidate| candidate.item == target));
            Some(CandidateList { user: case.user, features, relevant })
        })
        .collect()
}

/// The ranker that keeps retrieval order.
#[must_use]
pub fn retrieval_order(spec: &FeatureSpec) -> LinearRanker {
    let weight = |kind| if kind == FeatureKind::RetrievalScore { 1.0 } else { 0.0 };
    LinearRanker {
        weights: spec.features.iter().map(|feature| weight(feature.kind)).collect(),
        gain_ndcg10: 0.0,
    }
}

/// Fits on half of the users and keeps the result only when it beats retrieval order on the other
/// half; then fits again on everybody.
#[must_use]
pub fn fit(lists: &[CandidateList], spec: &FeatureSpec) -> LinearRanker {
    let identity = retrieval_order(spec);
    let (fitting, checking): (Vec<&CandidateList>, Vec<&CandidateList>) =
        lists.iter().partition(|list| list.user % 2 == 0);
    let Some(candidate) = descend(&fitting, spec.features.len()) else {
        return identity;
    };
    let gain = ndcg10(&checking, &candidate) - ndcg10(&checking, &identity.weights);
    if gain <= 0.0 {
        return identity;
    }
    let everybody: Vec<&CandidateList> = lists.iter().collect();
    match descend(&everybody, spec.features.len()) {
        Some(weights) => LinearRanker { weights, gain_ndcg10: gain },
        None => identity,
    }
}

/// Mean NDCG@10 of the lists when ordered by `weights`; a list without its item scores 0.
fn ndcg10(lists: &[&CandidateList], weights: &[f32]) -> f64 {
    let gain = |list: &CandidateList| {
        let Some(relevant) = list.relevant else { return 0.0 };
        let scores: Vec<f32> = list
            .features
            .chunks_exact(weights.len())
            .map(|row| row.iter().zip(weights).map(|(x, w)| x * w).sum())
            .collect();
        let right = scores[relevant];
        let before = scores
            .iter()
            .enumerate()
            .filter(|&(row, &score)| score > right || (score == right && row < relevant))
            .count();
        gain_at_10(Some(before as u32 + 1))
    };
    lists.iter().map(|list| gain(list)).sum::<f64>() / lists.len().max(1) as f64
}

/// Adam on the mean listwise loss over standardised features; `None` when no list holds its item.
fn descend(lists: &[&CandidateList], num_features: usize) -> Option<Vec<f32>> {
    let useful: Vec<&&CandidateList> = lists.iter().filter(|list| list.relevant.is_some()).collect();
    if useful.is_empty() {
        return None;
    }
    // The gradient of a feature that never varies in a list is zero, whatever it is divided by.
    let divisor = |d| if d > MIN_DEVIATION { d } else { 1.0 };
    let deviations: Vec<f64> =
        deviations(useful.iter().copied().copied(), num_features).into_iter().map(divisor).collect();
    let mut weights = vec![0.0f64; num_features];
    let (mut first, mut second) = (vec![0.0; num_features], vec![0.0; num_features]);
    for step in 1..=ITERATIONS {
        let gradient = gradient(&useful, &weights, &deviations);
        let (correct1, correct2) = (1.0 - 0.9f64.powi(step as i32), 1.0 - 0.99f64.powi(step as i32));
        for i in 0..num_features {
            let g = gradient[i] + RIDGE * weights[i];
            first[i] = 0.9 * first[i] + 0.1 * g;
            second[i] = 0.99 * second[i] + 0.01 * g * g;
            weights[i] -= RATE * (first[i] / correct1) / ((second[i] / correct2).sqrt() + 1e-12);
        }
    }
    Some(weights.iter().zip(&deviations).map(|(w, d)| (w / d) as f32).collect())
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

fn gradient(lists: &[&&CandidateList], weights: &[f64], deviations: &[f64]) -> Vec<f64> {
    let n = weights.len();
    let scaled: Vec<f64> = weights.iter().zip(deviations).map(|(w, d)| w / d).collect();
    let parts: Vec<Vec<f64>> = lists
        .par_chunks(32)
        .map(|chunk| {
            let mut sum = vec![0.0; n];
            for list in chunk {
                let Some(relevant) = list.relevant else { continue };
                let rows = || list.features.chunks_exact(n);
                let logits: Vec<f64> =
                    rows().map(|row| row.iter().zip(&scaled).map(|(&x, w)| f64::from(x) * w).sum()).collect();
                let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let masses: Vec<f64> = logits.iter().map(|logit| (logit - top).exp()).collect();
                let total: f64 = masses.iter().sum();
                for (r, (row, mass)) in rows().zip(&masses).enumerate() {
                    let error = mass / total - f64::from(u8::from(r == relevant));
                    for i in 0..n {
                        sum[i] += error * f64::from(row[i]) / deviations[i];
                    }
                }
            }
            sum
        })
        .collect();
    let mut total = vec![0.0; n];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(total, part)| *total += part / lists.len() as f64);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> FeatureSpec {
        let mut spec = FeatureSpec::standard();
        spec.features.truncate(3);
        spec
    }

    /// Lists whose right item is decided by feature 1 while feature 0 (retrieval) is noise.
    fn lists(signal: f32) -> Vec<CandidateList> {
        (0..200u32)
            .map(|user| {
                let noise = |i: u32| ((user * 7919 + i * 104_729) % 1000) as f32 / 1000.0;
                let relevant = (user % 20) as usize;
                let features = (0..20u32)
                    .flat_map(|i| [noise(i), if i as usize == relevant { signal } else { 0.0 }, 5.0])
                    .collect();
                CandidateList { user, features, relevant: Some(relevant) }
            })
            .collect()
    }

    #[test]
    fn finds_the_feature_that_decides() {
        let ranker = fit(&lists(1.0), &spec());
        assert!(ranker.gain_ndcg10 > 0.3, "{ranker:?}");
        assert!(ranker.weights[1] > 5.0 * ranker.weights[0].abs(), "{ranker:?}");
        assert!(ranker.weights[2].abs() < 1e-4, "a constant feature decides nothing: {ranker:?}");
    }

    #[test]
    fn keeps_retrieval_order_without_evidence() {
        let mut empty = lists(1.0);
        empty.iter_mut().for_each(|list| list.relevant = None);
        assert_eq!(fit(&empty, &spec()), retrieval_order(&spec()));
    }
}
