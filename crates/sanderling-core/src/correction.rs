//! The per-user correction of the ranker's linear part, learned from what the user chose and passed over.
//!
//! A choice is evidence against each item that stood above it and was skipped, and against the next one below it
//! (Joachims 2002, "skip above"; Joachims et al. 2007, "no-click next"): with those above alone, every lesson would be one
//! against the ranker, which is right for most users. Each pair is a logistic loss of the difference of scores (Burges et
//! al. 2005). Weights are AdaGrad's dual averages (Duchi, Hazan and Singer 2011; Xiao 2010): the sum of the gradients of a
//! feature over the root of the sum of their squares. That is how many standard errors of its own noise the sum is away from
//! zero, so a feature counts once it is more than two away, and until then a user is one of many.

use sanderling_types::{Correction, Source};

use crate::{Engine, Outcome};

/// Standard errors that a feature's gradients have to be away from zero: what is below is taken for chance.
const EVIDENCE: f32 = 2.0;
/// What a standard error beyond that adds to the weight of a feature, for its largest difference between two items and in
/// standard deviations of the ranker's scores.
const RATE: f32 = 4.0;
/// A correction adds or takes away less than this, in standard deviations of the ranker's scores of all candidates: items that
/// are further apart than twice that keep their order.
pub const MAX_DEVIATIONS: f32 = 1.0;

impl Engine {
    /// `correction` once the item at `position` (from 1) of a list of this engine was chosen, as [`learn`] has it. None at
    /// all, or one that does not fit this bundle's feature spec, is begun anew.
    #[must_use]
    pub fn learn(&self, correction: Option<Correction>, outcome: &Outcome, position: u32) -> Correction {
        let usable = correction.filter(|correction| self.fits(correction));
        let spec = self.bundle().manifest().feature_spec_sha256;
        let before = usable.unwrap_or_else(|| Correction::new(spec, self.feature_encoder().num_features()));
        learn(&before, outcome, position)
    }

    pub(crate) fn fits(&self, correction: &Correction) -> bool {
        let spec = self.bundle().manifest().feature_spec_sha256;
        correction.fits(spec, self.feature_encoder().num_features())
    }
}

/// Standard deviation of the scores `[num_candidates]`.
pub(crate) fn deviation(scores: &[f32]) -> f32 {
    let count = scores.len().max(1) as f32;
    let mean = scores.iter().sum::<f32>() / count;
    (scores.iter().map(|score| (score - mean) * (score - mean)).sum::<f32>() / count).sqrt()
}

/// Adds a correction to the scores `[num_candidates]`: of each candidate what its features weigh more than the mean
/// candidate's, brought below [`MAX_DEVIATIONS`].
pub(crate) fn correct(scores: &mut [f32], correction: &Correction, deviation: f32, features: &[f32]) {
    let weights = weights(correction);
    let rows = || features.chunks_exact(weights.len().max(1));
    let mean = rows().map(|row| dot(&weights, row)).sum::<f32>() / scores.len().max(1) as f32;
    for (score, row) in scores.iter_mut().zip(rows()) {
        let by = dot(&weights, row) - mean;
        // Bent instead of cut: candidates beyond the bound still differ.
        let added = by / (1.0 + by.abs() / MAX_DEVIATIONS) * deviation;
        // Sums that no outcomes make can be too large to be multiplied.
        if added.is_finite() {
            *score += added;
        }
    }
}

/// What a correction has learned once the item at `position` (from 1) of a list was chosen. Pinned items stand where the site
/// wants them, so they teach nothing, chosen or not; explored ones teach like any other, for chance chose their place and the
/// user the item. Nothing is learned of a list that the ranker did not order, and where that would not be finite.
#[must_use]
pub fn learn(correction: &Correction, outcome: &Outcome, position: u32) -> Correction {
    let next = lesson(&weights(correction), outcome, position).map(|lesson| taught(correction, &lesson));
    let is_finite = |next: &Correction| next.sums.iter().all(|sum| sum.is_finite());
    next.filter(is_finite).unwrap_or_else(|| correction.clone())
}

/// Of each feature the gradient, and then of each the largest difference.
fn lesson(weights: &[f32], outcome: &Outcome, position: u32) -> Option<Vec<f32>> {
    let (mut scores, mut chosen) = (Vec::new(), None);
    for one in outcome.response.recommendations.iter().filter(|one| one.source != Source::Pinned) {
        if one.position == position {
            chosen = Some(scores.len());
        }
        scores.push(one.score);
    }
    let chosen = chosen?;
    let row = |at: usize| outcome.features.get(at * weights.len()..(at + 1) * weights.len());
    // Those above, and the next one.
    let num_pairs = (chosen + 2).min(scores.len()) - 1;
    if num_pairs == 0 || outcome.score_deviation <= 0.0 {
        return None;
    }
    let mut lesson = vec![0.0; 2 * weights.len()];
    let (gradients, most) = lesson.split_at_mut(weights.len());
    // The chosen item, which is among them, does not differ from itself.
    for other in 0..=num_pairs {
        let (taken, passed_over) = (row(chosen)?, row(other)?);
        let ahead = (scores[chosen] - scores[other]) / outcome.score_deviation;
        let margin = ahead + dot(weights, taken) - dot(weights, passed_over);
        let surprise = 1.0 / (1.0 + libm::exp(margin.into()) as f32) / num_pairs as f32;
        for at in 0..weights.len() {
            let by = taken[at] - passed_over[at];
            gradients[at] += surprise * by;
            most[at] = most[at].max(by.abs());
        }
    }
    Some(lesson)
}

fn taught(before: &Correction, lesson: &[f32]) -> Correction {
    let mut next = before.clone();
    let (gradients, most) = lesson.split_at(lesson.len() / 2);
    let mut kept = 1.0;
    next.num_updates += 1;
    if next.num_updates > Correction::MAX_UPDATES {
        next.num_updates = Correction::MAX_UPDATES;
        kept -= 1.0 / Correction::MAX_UPDATES as f32;
    }
    for ((sums, gradient), most) in next.sums.chunks_exact_mut(Correction::SUMS).zip(gradients).zip(most) {
        sums[0] = sums[0] * kept + gradient;
        sums[1] = sums[1] * kept + gradient * gradient;
        sums[2] = sums[2].max(*most);
    }
    next
}

/// Weights `[num_features]` in standard deviations of the ranker's scores.
fn weights(correction: &Correction) -> Vec<f32> {
    let mut weights = Vec::new();
    for sums in correction.sums.chunks_exact(Correction::SUMS) {
        let errors = if sums[1] > 0.0 && sums[2] > 0.0 { sums[0] / sums[1].sqrt() } else { 0.0 };
        let evident = errors - errors.clamp(-EVIDENCE, EVIDENCE);
        weights.push(if evident == 0.0 { 0.0 } else { RATE * evident / sums[2] });
    }
    weights
}

fn dot(weights: &[f32], row: &[f32]) -> f32 {
    weights.iter().zip(row).map(|(weight, value)| weight * value).sum()
}
