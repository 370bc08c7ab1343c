//! What explains a bundle's metrics.

use sanderling_core::Engine;
use sanderling_types::Result;
use serde::Serialize;

use crate::calibration::{Calibration, calibration};
use crate::importance::{FeatureWeight, feature_weights};
use crate::split::Split;

/// Calibration on the test part and the ranker's weights.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Details {
    /// Do scores say how likely an item is?
    pub calibration: Calibration,
    /// What the ranker looks at, largest effect first; `None` when it is not linear.
    pub feature_weights: Option<Vec<FeatureWeight>>,
}

/// Measures the details of `engine`; the bootstrap has its seed.
///
/// # Errors
/// As [`feature_weights`].
pub fn details(engine: &Engine, split: &Split) -> Result<Details> {
    let seed = engine.bundle().manifest().training.seed;
    Ok(Details {
        calibration: calibration(engine, split, seed),
        feature_weights: feature_weights(engine, split)?,
    })
}
