//! What fields do between windows that are known to be calm, so that no more than that is called drift.

use std::collections::BTreeMap;

use sanderling_types::Result;

use super::{Options, judge_field};
use crate::{Merged, RegisteredBundle};

/// Fewest blocks that thresholds are learned from.
const MIN_BLOCKS: usize = 2;

/// Whether there are enough of them to learn from.
pub(super) fn are_enough(blocks: &[Merged]) -> bool {
    blocks.len() >= MIN_BLOCKS
}

/// The largest effect of each field that any of `blocks` has where chance does not explain it, judged as any windows are: against the baseline, or against all
/// other blocks. Fields that never moved are not in it.
///
/// Each block is as long as what is judged, so a field whose weekends differ, or whose weeks do, has that in its least effect: the judged windows are one more
/// draw of what blocks do, and exceed the largest of `n` calm ones with probability `1 / (n + 1)` by their order alone (split conformal prediction, Vovk et al.
/// 2005), before the test of the shift itself. Less than two blocks teach nothing.
pub(super) fn usual_effects(
    bundle: &RegisteredBundle,
    blocks: &[Merged],
    options: &Options,
) -> Result<BTreeMap<String, f64>> {
    let mut usual = BTreeMap::new();
    if !are_enough(blocks) {
        return Ok(usual);
    }
    let alpha = options.alpha / blocks.len() as f64;
    for (at, block) in blocks.iter().enumerate() {
        let others =
            Merged::sum(blocks.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, block)| block))?;
        for field in &bundle.baseline().fields {
            let found = judge_field(field, bundle, block, Some(&others), options)?;
            let (Some(p_value), Some(effect)) = (found.p_value, found.effect) else { continue };
            if p_value < alpha {
                let most = usual.entry(field.name.clone()).or_insert(0.0_f64);
                *most = most.max(effect);
            }
        }
    }
    Ok(usual)
}
