//! What the ranker of a bundle looks at.

use sanderling_core::Engine;
use sanderling_types::Result;
use serde::Serialize;

use crate::ranker;
use crate::split::Split;

/// Largest relative error of a sum of weights that still counts as linear: that of `f32` arithmetic.
const LINEAR: f64 = 1e-3;

/// One input of a linear ranker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureWeight {
    /// The feature's name in the spec.
    pub name: String,
    /// What a score gains with one unit of the feature.
    pub weight: f64,
    /// `|weight|` times the feature's standard deviation within a candidate list: how far the feature
    /// moves scores apart, in units of the score.
    pub effect: f64,
}

/// The weights of a bundle's ranker, largest effect first, with deviations from the candidate lists of
/// the cases that models are chosen by; `None` when the ranker is not linear.
///
/// # Errors
/// As [`Engine::rank`].
pub fn feature_weights(engine: &Engine, split: &Split) -> Result<Option<Vec<FeatureWeight>>> {
    let Some(weights) = probe(engine)? else { return Ok(None) };
    let lists = ranker::candidate_lists(engine, split, &split.choosing_cases(), split.exclude_seen);
    let deviations = ranker::deviations(&lists, weights.len());
    let spec = engine.bundle().features();
    let mut out: Vec<FeatureWeight> = spec
        .features
        .iter()
        .zip(weights.iter().zip(deviations))
        .map(|(feature, (&weight, deviation))| FeatureWeight {
            name: feature.name.clone(),
            weight,
            effect: weight.abs() * deviation,
        })
        .collect();
    out.sort_by(|a, b| b.effect.total_cmp(&a.effect));
    Ok(Some(out))
}

/// Weights of a linear ranker from what it answers: the score of each unit vector less that of zeros.
/// Asking the engine instead of reading the file works for a linear ranker of any origin.
fn probe(engine: &Engine) -> Result<Option<Vec<f64>>> {
    let n = engine.feature_encoder().num_features();
    let (zeros, unit, mixed) = (0, |i: usize| 1 + i, 1 + n);
    let mut rows = vec![0.0f32; (n + 2) * n];
    for i in 0..n {
        rows[unit(i) * n + i] = 1.0;
        rows[mixed * n + i] = if i % 2 == 0 { 2.0 } else { -1.0 };
    }
    let scores = engine.rank(&rows, n + 2)?;
    let above = |row: usize| f64::from(scores[row]) - f64::from(scores[zeros]);
    let weights: Vec<f64> = (0..n).map(|i| above(unit(i))).collect();
    let factors = rows[mixed * n..].iter().map(|&factor| f64::from(factor));
    let expected: f64 = weights.iter().zip(factors).map(|(weight, factor)| weight * factor).sum();
    let scale: f64 = weights.iter().map(|weight| weight.abs()).sum::<f64>() + f64::from(scores[zeros]).abs();
    Ok(((above(mixed) - expected).abs() <= LINEAR * scale).then_some(weights))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sanderling_core::{Bundle, TractRuntime};

    use super::*;

    #[test]
    fn the_weights_of_a_packed_ranker_are_found_by_asking() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/shop/1");
        let files = crate::bundle::read(&folder).expect("reads");
        let engine = Engine::new(Bundle::open(files, None).expect("opens"), &TractRuntime).expect("loads");
        let weights = probe(&engine).expect("ranks").expect("is linear");
        // One by one on a row of its own, as a score is made.
        let row: Vec<f32> = (0..weights.len()).map(|i| 0.1 * (i as f32 - 3.0)).collect();
        let zeros = vec![0.0; row.len()];
        let scores = engine.rank(&[row.clone(), zeros].concat(), 2).expect("ranks");
        let sum: f64 = weights.iter().zip(&row).map(|(weight, &x)| weight * f64::from(x)).sum();
        assert!((f64::from(scores[0] - scores[1]) - sum).abs() < 1e-3, "{weights:?}");
        assert!(weights.iter().any(|weight| weight.abs() > 0.1), "{weights:?}");
    }
}
