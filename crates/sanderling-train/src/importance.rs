//! What the ranker of a bundle looks at.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;
use sanderling_core::Engine;
use sanderling_types::Result;
use serde::Serialize;

use crate::draw::below;
use crate::metrics::gain_at_10;
use crate::rankers::lists::{self, CandidateList};

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

/// The weights of a bundle's ranker, largest effect first, with deviations within `lists`; `None` when the
/// ranker is not linear.
///
/// # Errors
/// As [`Engine::rank`].
pub fn feature_weights(engine: &Engine, lists: &[CandidateList]) -> Result<Option<Vec<FeatureWeight>>> {
    let Some(weights) = probe(engine)? else { return Ok(None) };
    let deviations = lists::deviations(lists, weights.len());
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

/// What a ranker of any kind loses without one of its inputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureImportance {
    /// The feature's name in the spec.
    pub name: String,
    /// NDCG@10 that is lost when the feature's values are exchanged at random; below 0 when the ranker is
    /// better without it.
    pub loss_ndcg10: f64,
}

/// Permutation importance (Breiman 2001, section 10) of every feature for the ranker of `engine`, largest
/// first: values of one feature are exchanged among the candidates of a list, or, of a feature that is the
/// same for a whole list, between lists. `lists` are those of the ranker's fit: what it looks at, not how
/// good it is.
///
/// # Errors
/// As [`Engine::rank`].
pub fn permutation(engine: &Engine, lists: &[CandidateList], seed: u64) -> Result<Vec<FeatureImportance>> {
    let lists = lists::with_item(&lists.iter().collect::<Vec<_>>());
    let n = engine.feature_encoder().num_features();
    let ndcg10 = |features: &(dyn Fn(usize) -> Vec<f32> + Sync)| -> Result<f64> {
        let gain = |(at, list): (usize, &&CandidateList)| {
            let scores = engine.rank(&features(at), list.features.len() / n)?;
            Ok(gain_at_10(list.rank(&scores)))
        };
        let gains = lists.par_iter().enumerate().map(gain).collect::<Result<Vec<f64>>>()?;
        Ok(gains.iter().sum::<f64>() / gains.len().max(1) as f64)
    };
    let whole = ndcg10(&|at| lists[at].features.clone())?;
    let mut out = Vec::with_capacity(n);
    for (column, feature) in engine.bundle().features().features.iter().enumerate() {
        let without = ndcg10(&|at| exchanged(&lists, at, column, n, seed))?;
        out.push(FeatureImportance { name: feature.name.clone(), loss_ndcg10: rounded(whole - without) });
    }
    out.sort_by(|a, b| b.loss_ndcg10.total_cmp(&a.loss_ndcg10));
    Ok(out)
}

fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Features of list `at` with the values of one column exchanged.
fn exchanged(lists: &[&CandidateList], at: usize, column: usize, n: usize, seed: u64) -> Vec<f32> {
    let mut features = lists[at].features.clone();
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    rng.set_stream((at * n + column) as u64);
    let values: Vec<f32> = features.iter().skip(column).step_by(n).copied().collect();
    let constant = values.iter().all(|value| *value == values[0]);
    let other = lists[below(&mut rng, lists.len())].features.get(column).copied();
    for row in (0..values.len()).rev() {
        if constant {
            features[row * n + column] = other.unwrap_or(values[row]);
        } else {
            let with = below(&mut rng, row + 1);
            features.swap(row * n + column, with * n + column);
        }
    }
    features
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

    use sanderling_core::onnx::LinearRanker;
    use sanderling_core::{Bundle, SlimRuntime};
    use sanderling_types::{FileEntry, FileRole, Manifest};

    use super::*;

    /// The bundle of `models/shop` with a linear ranker of these weights.
    fn engine(weights: &[f32]) -> Engine {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/shop/1");
        let mut files = crate::bundle::read(&folder).expect("reads");
        let mut manifest =
            Manifest::decode(files.get(Manifest::FILE_NAME).expect("is there")).expect("decodes");
        let onnx = LinearRanker { weights: weights.to_vec(), bias: 0.0 }.to_onnx();
        let path = FileRole::Ranker.file_name().to_owned();
        let entry = FileEntry::of(path.clone(), &onnx);
        manifest.files.remove(&FileRole::Trees);
        manifest.files.insert(FileRole::Ranker, entry);
        files.insert(path, onnx);
        files.insert(Manifest::FILE_NAME, manifest.encode());
        Engine::new(Bundle::open(files, None).expect("opens"), &SlimRuntime).expect("loads")
    }

    #[test]
    fn a_feature_is_as_important_as_the_ranker_makes_it() {
        // Feature 1 decides, feature 2 matters a little; feature 3 is the same for a whole list.
        let engine = engine(&weights(&[(1, 10.0), (2, 1.0), (3, 5.0)]));
        let n = engine.feature_encoder().num_features();
        let list = |user: usize| {
            let value = |row: usize, column: usize| ((user * 31 + row * 17 + column * 7) % 23) as f32 / 23.0;
            let mut features: Vec<f32> = (0..20 * n).map(|at| value(at / n, at % n)).collect();
            features.chunks_exact_mut(n).for_each(|row| row[3] = user as f32);
            let scores = engine.rank(&features, 20).expect("ranks");
            let best = (0..20).max_by(|a, b| scores[*a].total_cmp(&scores[*b]));
            CandidateList { user: user as u32, features, relevant: best }
        };
        let lists: Vec<CandidateList> = (0..60).map(list).collect();
        let found = permutation(&engine, &lists, 1).expect("ranks");
        let names: Vec<&str> = found.iter().map(|feature| feature.name.as_str()).collect();
        let spec = &engine.bundle().features().features;
        assert_eq!(names[..2], [spec[1].name.as_str(), spec[2].name.as_str()], "{found:?}");
        assert!(found[0].loss_ndcg10 > 0.4 && found[1].loss_ndcg10 > 0.0, "{found:?}");
        assert!(found[2..].iter().all(|feature| feature.loss_ndcg10 == 0.0), "{found:?}");
    }

    /// Weights by column, 0 elsewhere.
    fn weights(of: &[(usize, f32)]) -> Vec<f32> {
        let mut weights = vec![0.0; sanderling_types::FeatureSpec::standard().features.len()];
        of.iter().for_each(|&(column, weight)| weights[column] = weight);
        weights
    }

    #[test]
    fn the_weights_of_a_packed_ranker_are_found_by_asking() {
        let engine = engine(&weights(&[(0, 1.5), (4, -0.25), (9, 0.75)]));
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
