//! The sequence model's weights as a draft in 8 bits.

use sanderling_core::{ItemBits, ItemTable};
use sanderling_types::{ItemIndex, PackingKind, Result};

use super::{note, note_eight_bits};
use crate::draft::{Draft, Models, round};
use crate::onnx;
use crate::recipe::Recipe;
use crate::sequence::{self, FitCase, Weights};
use crate::split::Split;
use crate::train::{Lineage, RECOMMENDER, fit_case};

/// Packs item vectors, then encoder matrices, to 8 bits.
///
/// # Errors
/// As [`note_eight_bits`] and [`ItemTable::quantise`].
pub(crate) fn pack_weights(
    split: &Split,
    recipe: &Recipe,
    lineage: &Lineage,
    weights: &Weights,
) -> Result<Draft> {
    let items = ItemTable::quantise(&weights.items, weights.shape.dim, ItemBits::Eight)?;
    let choosing = split.choosing_cases();
    let cases: Vec<FitCase> = choosing.iter().filter_map(|&case| fit_case(split, case)).collect();
    let known = cases.len() as f64 / choosing.len().max(1) as f64;
    let ndcg10 = |weights: &Weights| sequence::ndcg10(weights, &cases, split.exclude_seen) * known;
    // No engine runs an f32 encoder on an int8 table, but the trainer's own arithmetic does.
    let eight_bit_items = Weights { items: dequantised(&items), ..weights.clone() };
    let saved_by_items = 4 * weights.items.len() - items.encode().len();
    let models = Models {
        recommender: RECOMMENDER.to_owned(),
        encoder: onnx::encoder(weights),
        encoder_bits: onnx::WEIGHT_BITS,
        max_session_len: weights.shape.max_len,
        items,
        vocabulary: split.vocabulary.clone(),
        ndcg10_f32: round(ndcg10(weights)),
    };
    let mut draft = Draft::new(split, recipe, lineage, models);
    note(&mut draft, PackingKind::Int8Items, ndcg10(&eight_bit_items), saved_by_items);
    note_eight_bits(&mut draft, split, PackingKind::Int8Encoder, onnx::int8_saving(&weights.shape))?;
    Ok(draft)
}

fn dequantised(items: &ItemTable) -> Vec<f32> {
    let mut out = vec![0.0; items.len() * items.dim()];
    for (row, out) in (0u32..).zip(out.chunks_exact_mut(items.dim())) {
        items.row_into(ItemIndex(row), out);
    }
    out
}
