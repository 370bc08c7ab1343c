//! Packing: few bits for item vectors, encoder and neighbours, and a catalogue that fits the byte budget.
//! Every step is measured on the validation cases; where the budget asks for less, item vectors first lose the ninth bit, which only
//! encoders read, then get 4 bits where no loss shows, and else the step that loses least is taken.

mod rounding;

use std::collections::BTreeSet;

use sanderling_core::{ItemBits, ItemTable, NeighbourTable};
use sanderling_types::{
    Code, Error, ItemId, PackingKind, PackingStep, Pruned, Quantisation, Result, Vocabulary,
};

use crate::metrics::{self, LIST_LEN, round};
use crate::recipe::Recipe;
use crate::recommenders::Model;
use crate::split::Split;
use crate::train::{Lineage, Packer};

/// Largest share of validation NDCG@10 that rounding may cost before any budget; more is a defect of the models.
const MAX_ROUNDING_LOSS: f64 = 0.05;

/// Shares of validation NDCG@10 that 4 bits may cost before leaving items out is looked at: for certain, and
/// where chance explains the loss. An item that is left out is never listed again, which NDCG@10 hardly
/// shows: popular items are most of the targets.
const SMALL_LOSS: (f64, f64) = (0.01, 0.05);

/// Fewest items that a catalogue is pruned to: the longest list that metrics look at.
const MIN_ITEMS: usize = LIST_LEN;

/// Bytes of a step in the manifest, at most.
const STEP_BYTES: u64 = 200;

/// Packs a fitted model as far as the byte budget of the recipe asks for it. A budget that cannot be met
/// leaves the bundle over it.
///
/// # Errors
/// What opening the bundle says.
pub(crate) fn pack(split: &Split, recipe: &Recipe, lineage: &Lineage, model: &Model) -> Result<Packer> {
    let mut packer = Packer::new(split, recipe, lineage, model)?;
    note_rounding(&mut packer, split, model)?;
    if let Some(max_bytes) = recipe.max_bundle_bytes {
        fit_budget(&mut packer, split, model, max_bytes)?;
    }
    Ok(packer)
}

/// Measures the rounded bundle and notes the steps to there.
fn note_rounding(packer: &mut Packer, split: &Split, model: &Model) -> Result<()> {
    let measured = packer.ndcg10(split)?;
    let mut steps = Vec::new();
    let mut note = |kind, ndcg10, saved_bytes| {
        steps.push(PackingStep { kind, ndcg10: round(ndcg10), pruned: None, saved_bytes });
    };
    if let (Some(vectors), Some(items)) = (&model.vectors, &packer.contents.items) {
        let saved = (4 * vectors.rows.len()).saturating_sub(items.len()) as u64;
        match vectors.narrowed {
            Some(narrowed) => {
                note(PackingKind::Int9Items, narrowed.ndcg10_before, saved);
                note(PackingKind::RoundedEncoder, measured, narrowed.saved_bytes);
            }
            None => note(PackingKind::Int9Items, measured, saved),
        }
    }
    if let Some(table) = &model.neighbours {
        note(PackingKind::Int8Neighbours, measured, saved_by_neighbours(table));
    }
    let quantisation = &mut packer.facts.quantisation;
    quantisation.ndcg10_packed = measured;
    quantisation.steps = steps;
    Ok(())
}

/// Refuses a bundle that ranked much worse than its f32 weights before the byte budget was looked at.
///
/// # Errors
/// [`Code::TrainingFailed`].
pub(crate) fn check(packer: &Packer, split: &Split) -> Result<()> {
    let Quantisation { ndcg10_f32, ndcg10_packed, steps, .. } = &packer.facts.quantisation;
    let for_budget = |step: &&PackingStep| {
        matches!(step.kind, PackingKind::Int8Items | PackingKind::Int4Items | PackingKind::Prune)
    };
    let before_budget =
        steps.iter().take_while(|step| !for_budget(step)).last().map_or(*ndcg10_packed, |step| step.ndcg10);
    // Few cases say little: about twice the standard error of a paired difference.
    let slack = 0.005 + 0.1 / (split.measuring_cases().len().max(1) as f64).sqrt();
    if before_budget < ndcg10_f32 * (1.0 - MAX_ROUNDING_LOSS) - slack {
        return Err(Error::new(Code::TrainingFailed, "the packed bundle ranks worse than the weights")
            .expected(format!("NDCG@10 near {ndcg10_f32}"))
            .found(before_budget));
    }
    Ok(())
}

/// Bytes that weights of 8 bits with a scale a row save against f32.
fn saved_by_neighbours(table: &NeighbourTable) -> u64 {
    (3 * table.num_weights()).saturating_sub(4 * table.len()) as u64
}

/// Packs item vectors to 8 and 4 bits and prunes the catalogue, as far as `max_bytes` asks for it.
fn fit_budget(packer: &mut Packer, split: &Split, model: &Model, max_bytes: u64) -> Result<()> {
    if packer.estimated_bytes()? > max_bytes
        && let Some(eight_bits) = eight_bits(packer, split, model)?
    {
        *packer = eight_bits;
    }
    while packer.estimated_bytes()? > max_bytes {
        let four_bits = four_bits(packer, split, model)?;
        let pruned = match &four_bits {
            Some(four_bits) if loses_little(packer, four_bits, split)? => None,
            _ => pruned(packer, split, max_bytes)?,
        };
        let ndcg10 = |packer: &Packer| packer.facts.quantisation.ndcg10_packed;
        let loses_least =
            |best: Packer, next: Packer| if ndcg10(&next) > ndcg10(&best) { next } else { best };
        match four_bits.into_iter().chain(pruned).reduce(loses_least) {
            Some(best) => *packer = best,
            None => break,
        }
    }
    Ok(())
}

/// Whether a step loses no more than [`SMALL_LOSS`].
fn loses_little(before: &Packer, after: &Packer, split: &Split) -> Result<bool> {
    let seed = before.facts.training.seed;
    let gain = metrics::paired_ndcg10(&after.answers(split)?, &before.answers(split)?, seed);
    let share = if gain.high >= 0.0 { SMALL_LOSS.1 } else { SMALL_LOSS.0 };
    Ok(gain.value >= -share * before.facts.quantisation.ndcg10_packed)
}

/// Completes a step of `before`: `after` is measured and the step noted.
fn taken(
    before: &Packer,
    mut after: Packer,
    split: &Split,
    kind: PackingKind,
    pruned: Option<Pruned>,
) -> Result<Packer> {
    let saved_bytes = before.large_bytes().saturating_sub(after.large_bytes());
    let ndcg10 = after.ndcg10(split)?;
    let quantisation = &mut after.facts.quantisation;
    quantisation.ndcg10_packed = ndcg10;
    quantisation.steps.push(PackingStep { kind, ndcg10, pruned, saved_bytes });
    Ok(after)
}

/// The bundle with item vectors of 8 bits; `None` where none has more.
fn eight_bits(packer: &Packer, split: &Split, model: &Model) -> Result<Option<Packer>> {
    let in_nine = packer.facts.quantisation.item_bits == ItemBits::Nine.count();
    let Some(vectors) = model.vectors.as_ref().filter(|_| in_nine) else { return Ok(None) };
    let rows = &vectors.rows[..packer.contents.vocabulary.len() * vectors.dim];
    let mut after = packer.clone();
    after.contents.items = Some(ItemTable::quantise(rows, vectors.dim, ItemBits::Eight)?.encode());
    after.facts.quantisation.item_bits = ItemBits::Eight.count();
    taken(packer, after, split, PackingKind::Int8Items, None).map(Some)
}

/// The bundle with item vectors of 4 bits; `None` where none has more.
fn four_bits(packer: &Packer, split: &Split, model: &Model) -> Result<Option<Packer>> {
    let in_eight = packer.facts.quantisation.item_bits == ItemBits::Eight.count();
    let Some(vectors) = model.vectors.as_ref().filter(|_| in_eight) else { return Ok(None) };
    let importance = rounding::importance(&packer.engine()?, split);
    let rows = &vectors.rows[..packer.contents.vocabulary.len() * vectors.dim];
    let mut after = packer.clone();
    after.contents.items = Some(rounding::four_bits(rows, vectors.dim, &importance)?.encode());
    after.facts.quantisation.item_bits = ItemBits::Four.count();
    taken(packer, after, split, PackingKind::Int4Items, None).map(Some)
}

/// The bundle with as many of the first items of its fallback list as fit; `None` where even the fewest do
/// not, or nothing is left to prune.
fn pruned(packer: &Packer, split: &Split, max_bytes: u64) -> Result<Option<Packer>> {
    let num_items = packer.contents.vocabulary.len();
    let first = |kept: usize| -> Result<Packer> {
        let mut after = packer.clone();
        after.keep_first(kept)?;
        Ok(after)
    };
    let fits = |kept: usize| Ok::<_, Error>(first(kept)?.estimated_bytes()? + STEP_BYTES <= max_bytes);
    if num_items <= MIN_ITEMS || !fits(MIN_ITEMS)? {
        return Ok(None);
    }
    let (mut kept, mut too_many) = (MIN_ITEMS, num_items);
    while too_many - kept > 1 {
        let middle = kept + (too_many - kept) / 2;
        if fits(middle)? { kept = middle } else { too_many = middle }
    }
    let left_out = what_is_left_out(&packer.contents.vocabulary, kept, split);
    taken(packer, first(kept)?, split, PackingKind::Prune, Some(left_out)).map(Some)
}

fn what_is_left_out(vocabulary: &Vocabulary, kept: usize, split: &Split) -> Pruned {
    let interactions = |counts: &[u32]| counts.iter().map(|&count| f64::from(count)).sum::<f64>();
    let left_out: BTreeSet<&ItemId> = vocabulary.item_ids[kept..].iter().collect();
    let cases = split.measuring_cases();
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
