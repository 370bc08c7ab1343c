//! Retraining: a challenger from fresh logs and what devices reported, and the gate it must pass.

use std::collections::BTreeMap;

use sanderling_core::Engine;
use sanderling_types::{Metric, Result};
use serde::Serialize;

use crate::data::Dataset;
use crate::metrics;
use crate::recipe::{GateRecipe, Recipe};
use crate::split;
use crate::train::{self, Lineage, Step, Trained};

/// One condition of the gate with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateCheck {
    /// Name of the condition.
    pub name: &'static str,
    /// Whether it holds.
    pub passed: bool,
    /// What was required, for people.
    pub required: String,
    /// What was found, for people.
    pub found: String,
}

/// Champion against challenger on the newest data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    /// Whether the challenger replaces the champion.
    pub promote: bool,
    /// NDCG@10 of the champion on the challenger's test part.
    pub champion_ndcg10: Metric,
    /// NDCG@10 of the challenger on its test part.
    pub challenger_ndcg10: Metric,
    /// Paired difference, challenger minus champion, on the same cases.
    pub difference_ndcg10: Metric,
    /// Every condition.
    pub checks: Vec<GateCheck>,
}

/// Trains a challenger on `dataset` and judges it against `champion` on the newest part of the same
/// data, which neither has seen. `category_shares` is what devices reported, see
/// [`Lineage::category_shares`].
///
/// # Errors
/// As [`train::train`].
pub fn retrain(
    champion: &Engine,
    dataset: &Dataset,
    recipe: &Recipe,
    category_shares: BTreeMap<String, f64>,
    watch: &mut dyn FnMut(Step) -> bool,
) -> Result<(Trained, Gate)> {
    let manifest = champion.bundle().manifest();
    let lineage = Lineage { parent: Some((champion.bundle().hash(), manifest.version)), category_shares };
    let challenger = train::train(dataset, recipe, &lineage, watch)?;
    let mut split = split::split(dataset, recipe.split)?;
    split.exclude_seen = recipe.exclude_seen.unwrap_or(split.exclude_seen);
    let reigning = train::evaluate_all(champion, &split);
    let gate = judge(&reigning, manifest.bundle_bytes(), &challenger, &recipe.gate, recipe.seed);
    Ok((challenger, gate))
}

fn judge(
    champion: &train::Evaluation,
    champion_bytes: u64,
    challenger: &Trained,
    gate: &GateRecipe,
    seed: u64,
) -> Gate {
    let difference = metrics::paired_ndcg10(&challenger.evaluation.results, &champion.results, seed);
    let metric = |evaluation: &train::Evaluation, name: &str| evaluation.metrics[name];
    let coverage = |evaluation| metric(evaluation, "coverage@10").value;
    let coverage_ratio = coverage(&challenger.evaluation) / coverage(champion).max(f64::MIN_POSITIVE);
    let size_ratio = challenger.manifest.bundle_bytes() as f64 / champion_bytes.max(1) as f64;
    let checks = vec![
        GateCheck {
            name: "gain",
            passed: difference.low > gate.min_gain,
            required: format!("lower end of the paired NDCG@10 difference above {}", gate.min_gain),
            found: format!("{:.4} ({:.4} to {:.4})", difference.value, difference.low, difference.high),
        },
        GateCheck {
            name: "coverage",
            passed: coverage_ratio >= gate.min_coverage_ratio,
            required: format!("coverage@10 at least {} times the champion's", gate.min_coverage_ratio),
            found: format!("{coverage_ratio:.3}"),
        },
        GateCheck {
            name: "size",
            passed: size_ratio <= gate.max_size_ratio,
            required: format!("at most {} times the champion's bytes", gate.max_size_ratio),
            found: format!("{size_ratio:.3}"),
        },
    ];
    Gate {
        promote: checks.iter().all(|check| check.passed),
        champion_ndcg10: metric(champion, "ndcg@10"),
        challenger_ndcg10: metric(&challenger.evaluation, "ndcg@10"),
        difference_ndcg10: difference,
        checks,
    }
}
