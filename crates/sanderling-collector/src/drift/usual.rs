//! What fields do in windows that are known to be calm, so that no more than that is called drift.

use std::collections::BTreeMap;

use sanderling_types::Result;

use super::{Options, judge_field};
use crate::{Merged, RegisteredBundle};

/// Fewest parts that least effects are learned from.
const MIN_PARTS: usize = 2;

/// Whether there are enough of them to learn from.
pub(super) fn are_enough(parts: &[Merged]) -> bool {
    parts.len() >= MIN_PARTS
}

/// The largest effect that each field has in any of `parts`, each as long as what is judged and judged as it is: against the baseline, or against all other parts.
///
/// Windows that are one more draw of what calm parts do exceed the largest of `n` by their order alone with probability about `1 / (n + 1)` a field (split
/// conformal prediction, Vovk et al. 2005). `n` counts parts of their kind: of single days judged on a Saturday, only Saturdays.
pub(super) fn usual_effects(
    bundle: &RegisteredBundle,
    parts: &[Merged],
    options: &Options,
) -> Result<BTreeMap<String, f64>> {
    let mut usual = BTreeMap::new();
    if !are_enough(parts) {
        return Ok(usual);
    }
    for (at, part) in parts.iter().enumerate() {
        let others = parts.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, part)| part);
        let others = Merged::sum(others)?;
        for field in &bundle.baseline().fields {
            if let Some(effect) = judge_field(field, bundle, part, Some(&others), options)?.effect {
                let most = usual.entry(field.name.clone()).or_insert(0.0_f64);
                *most = most.max(effect);
            }
        }
    }
    Ok(usual)
}
