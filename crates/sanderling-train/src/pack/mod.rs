//! Packing: few bits for item vectors and encoder, and a catalogue that fits the byte budget. Every step
//! is measured on the validation cases; where the budget asks for more than 8 bits give, the step that
//! loses least is taken first.

mod rounding;
mod weights;

use std::collections::BTreeSet;

use sanderling_core::ItemBits;
use sanderling_types::{Code, Error, ItemId, PackingKind, PackingStep, Pruned, Result, Vocabulary};

use crate::bundle;
use crate::draft::{Draft, round};
use crate::metrics::LIST_LEN;
use crate::split::Split;

pub(crate) use weights::pack_weights;

/// Largest share of validation NDCG@10 that 8 bits may cost; more is a defect of the models.
const MAX_EIGHT_BIT_LOSS: f64 = 0.05;

/// Bytes that are still to come: the card, metrics in the manifest, shares of the baseline, a fitted ranker.
const LATER_BYTES: usize = 6 * 1024;

/// Fewest items that a catalogue is pruned to: the longest list that metrics look at.
const MIN_ITEMS: usize = LIST_LEN;

/// Notes a step whose effect was measured elsewhere.
pub(crate) fn note(draft: &mut Draft, kind: PackingKind, ndcg10: f64, saved_bytes: usize) {
    let step = PackingStep { kind, ndcg10: round(ndcg10), pruned: None, saved_bytes: saved_bytes as u64 };
    draft.facts.quantisation.ndcg10_packed = step.ndcg10;
    draft.facts.quantisation.steps.push(step);
}

/// Measures the draft after the step to 8 bits and notes it.
///
/// # Errors
/// [`Code::TrainingFailed`] when it ranks much worse than the f32 weights, and as [`Draft::engine`].
pub(crate) fn note_eight_bits(
    draft: &mut Draft,
    split: &Split,
    kind: PackingKind,
    saved_bytes: usize,
) -> Result<()> {
    note(draft, kind, draft.ndcg10(split)?, saved_bytes);
    let quantisation = &draft.facts.quantisation;
    if quantisation.ndcg10_packed < quantisation.ndcg10_f32 * (1.0 - MAX_EIGHT_BIT_LOSS) - 0.005 {
        return Err(Error::new(Code::TrainingFailed, "the packed bundle ranks worse than the weights")
            .expected(format!("NDCG@10 near {}", quantisation.ndcg10_f32))
            .found(quantisation.ndcg10_packed));
    }
    Ok(())
}

/// Packs item vectors to 4 bits and prunes the catalogue, as far as `max_bytes` asks for it and in the
/// order of least loss. `vectors` are the f32 item vectors of the draft's rows. A budget that cannot
/// be met leaves the draft over it.
///
/// # Errors
/// As [`Draft::engine`].
pub(crate) fn fit_budget(draft: &mut Draft, split: &Split, vectors: &[f32], max_bytes: u64) -> Result<()> {
    while bytes(draft) > max_bytes {
        let mut choices = Vec::new();
        if draft.facts.quantisation.item_bits == ItemBits::Eight.count() {
            choices.push(four_bits(draft, split, vectors)?);
        }
        choices.extend(pruned(draft, split, max_bytes)?);
        let loses_least = |best: Draft, next: Draft| {
            let ndcg10 = |draft: &Draft| draft.facts.quantisation.ndcg10_packed;
            if ndcg10(&next) > ndcg10(&best) { next } else { best }
        };
        match choices.into_iter().reduce(loses_least) {
            Some(best) => *draft = best,
            None => break,
        }
    }
    Ok(())
}

/// About how long the finished bundle will be.
pub(crate) fn bytes(draft: &Draft) -> u64 {
    let (_, manifest) = bundle::assemble(&draft.contents, &draft.facts);
    manifest.bundle_bytes() + LATER_BYTES as u64
}

/// Bytes of the files that packing works on.
fn large_bytes(draft: &Draft) -> usize {
    let contents = &draft.contents;
    contents.encoder.len() + contents.items.len() + contents.vocabulary.encode().len()
}

/// Completes a step of `before`: `after` is measured and the step noted.
fn taken(before: &Draft, mut after: Draft, split: &Split, kind: PackingKind) -> Result<Draft> {
    let saved = large_bytes(before).saturating_sub(large_bytes(&after));
    let ndcg10 = after.ndcg10(split)?;
    note(&mut after, kind, ndcg10, saved);
    Ok(after)
}

fn four_bits(draft: &Draft, split: &Split, vectors: &[f32]) -> Result<Draft> {
    let engine = draft.engine()?;
    let dim = engine.bundle().items().dim();
    let importance = rounding::importance(&engine, split);
    let rows = &vectors[..engine.bundle().items().len() * dim];
    let mut after = draft.clone();
    after.contents.items = rounding::four_bits(rows, dim, &importance)?.encode();
    after.facts.quantisation.item_bits = ItemBits::Four.count();
    taken(draft, after, split, PackingKind::Int4Items)
}

/// The draft with as many of its most popular items as fit; `None` where even the fewest do not, or
/// nothing is left to prune.
fn pruned(draft: &Draft, split: &Split, max_bytes: u64) -> Result<Option<Draft>> {
    let num_items = draft.contents.vocabulary.len();
    let row_bytes = (draft.contents.items.len() - HEADER_BYTES) / num_items.max(1);
    let (all, shrinking) = (bytes(draft), large_bytes(draft) - draft.contents.encoder.len());
    let fits = |kept: usize| {
        let rows: Vec<usize> = (0..kept).collect();
        let vocabulary = draft.contents.vocabulary.subset(&rows).encode().len();
        let left = HEADER_BYTES + kept * row_bytes + vocabulary;
        all - shrinking as u64 + left as u64 + STEP_BYTES <= max_bytes
    };
    if num_items <= MIN_ITEMS || !fits(MIN_ITEMS) {
        return Ok(None);
    }
    let (mut kept, mut too_many) = (MIN_ITEMS, num_items);
    while too_many - kept > 1 {
        let middle = kept + (too_many - kept) / 2;
        if fits(middle) { kept = middle } else { too_many = middle }
    }
    let mut after = draft.clone();
    after.keep_first(kept)?;
    let mut after = taken(draft, after, split, PackingKind::Prune)?;
    if let Some(step) = after.facts.quantisation.steps.last_mut() {
        step.pruned = Some(what_was_pruned(&draft.contents.vocabulary, kept, split));
    }
    Ok(Some(after))
}

/// Bytes of `items.bin` before its rows.
const HEADER_BYTES: usize = 16;

/// Bytes of a step in the manifest, at most.
const STEP_BYTES: u64 = 200;

fn what_was_pruned(vocabulary: &Vocabulary, kept: usize, split: &Split) -> Pruned {
    let interactions = |counts: &[u32]| counts.iter().map(|&count| f64::from(count)).sum::<f64>();
    let left_out: BTreeSet<&ItemId> = vocabulary.item_ids[kept..].iter().collect();
    let cases = split.choosing_cases();
    let missed = cases.iter().filter(|&&case| left_out.contains(split.item_id(split.target(case)))).count();
    let all = interactions(&split.vocabulary.popularity);
    Pruned {
        interaction_share: round(interactions(&vocabulary.popularity[kept..]) / all.max(1.0)),
        num_items: left_out.len() as u32,
        target_share: round(missed as f64 / cases.len().max(1) as f64),
    }
}

#[cfg(test)]
mod tests;
