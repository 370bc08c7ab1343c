//! What explains a bundle's metrics.

use sanderling_core::Engine;
use sanderling_types::Result;
use serde::Serialize;

use crate::calibration::{Calibration, calibration};
use crate::importance::{FeatureImportance, FeatureWeight, feature_weights, permutation};
use crate::rankers::lists;
use crate::split::Split;

/// Calibration on the test part and what the ranker looks at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Details {
    /// Do scores say how likely an item is?
    pub calibration: Calibration,
    /// What the ranker looks at, largest effect first; `None` when it is not linear.
    pub feature_weights: Option<Vec<FeatureWeight>>,
    /// What a ranker of any kind loses without each of its inputs, largest loss first.
    pub importance: Vec<FeatureImportance>,
}

/// Measures the details of `engine`; the bootstrap has its seed.
///
/// # Errors
/// As [`lists::candidate_lists`] and [`feature_weights`].
pub fn details(engine: &Engine, split: &Split) -> Result<Details> {
    let seed = engine.bundle().manifest().training.seed;
    let lists = lists::candidate_lists(engine, split, &lists::ranker_cases(engine, split))?;
    Ok(Details {
        calibration: calibration(engine, split, seed),
        feature_weights: feature_weights(engine, &lists)?,
        importance: permutation(engine, &lists, seed)?,
    })
}
