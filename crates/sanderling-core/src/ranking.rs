//! Candidates in the order of the ranker.

use sanderling_types::{Correction, Fault, sorted_positions};

use crate::order::score_descending;
use crate::{Candidate, correction};

/// Candidates in their final order, before the category cap and the limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Candidates, best first.
    pub candidates: Vec<Candidate>,
    /// Ranker scores `[num_candidates]`; retrieval scores where the ranker failed.
    pub scores: Vec<f32>,
    /// What candidates are ordered by `[num_candidates]`, descending: the scores, with the user's correction where there is one.
    pub corrected: Vec<f32>,
    /// Standard deviation of the ranker's scores; 0 where the ranker failed.
    pub score_deviation: f32,
    /// Feature rows `[num_candidates, num_features]`, in the same order.
    pub features: Vec<f32>,
    /// Why retrieval order was kept, if the ranker failed or was left out.
    pub fault: Option<Fault>,
}

impl Ranking {
    /// In the order of the ranker's scores `[num_candidates]`, with a correction that fits the feature spec.
    pub(crate) fn ordered(
        candidates: &[Candidate],
        scores: &[f32],
        features: &[f32],
        correction: Option<&Correction>,
    ) -> Self {
        let num_features = features.len() / candidates.len().max(1);
        let score_deviation = correction::deviation(scores);
        let mut corrected = scores.to_vec();
        if let Some(correction) = correction {
            correction::correct(&mut corrected, correction, score_deviation, features);
        }
        let order = sorted_positions(candidates.len(), &|a, b| {
            score_descending(corrected[a], corrected[b])
                .then(score_descending(candidates[a].score, candidates[b].score))
                .then(candidates[a].item.cmp(&candidates[b].item))
        });
        let mut rows = Vec::with_capacity(features.len());
        order.iter().for_each(|at| rows.extend_from_slice(&features[at * num_features..][..num_features]));
        Self {
            candidates: order.iter().map(|at| candidates[*at]).collect(),
            scores: order.iter().map(|at| scores[*at]).collect(),
            corrected: order.iter().map(|at| corrected[*at]).collect(),
            score_deviation,
            features: rows,
            fault: None,
        }
    }

    /// In the order of retrieval. A correction is one of a ranker, so there is none.
    pub(crate) fn unranked(candidates: Vec<Candidate>, features: Vec<f32>, fault: Fault) -> Self {
        let scores: Vec<f32> = candidates.iter().map(|candidate| candidate.score).collect();
        Self {
            corrected: scores.clone(),
            scores,
            score_deviation: 0.0,
            candidates,
            features,
            fault: Some(fault),
        }
    }
}
