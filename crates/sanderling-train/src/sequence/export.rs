//! The trained network as the model that a bundle holds.

use std::ops::Range;

use sanderling_core::onnx::{Block, Norm, QuantisedLinear, Transformer, WeightBits};

use super::Weights;
use super::params::BlockLayout;

/// The encoder of `weights`, its matrices rounded to 8 and 11 bits: the same network without dropout, for one sequence.
#[must_use]
pub fn transformer(weights: &Weights) -> Transformer {
    let shape = weights.shape;
    let layout = shape.layout();
    let part = |range: &Range<usize>| weights.dense[range.clone()].to_vec();
    let norm = |norm: &[Range<usize>; 2]| Norm { gain: part(&norm[0]), bias: part(&norm[1]) };
    let linear = |weight: &Range<usize>, bias: &Range<usize>, bits: WeightBits| {
        QuantisedLinear::quantise(&weights.dense[weight.clone()], part(bias), bits)
    };
    let block = |block: &BlockLayout| {
        let [query, key, value] = projections(weights, block);
        Block {
            norm1: norm(&block.norm1),
            query,
            key,
            value,
            distance: part(&block.distance),
            out: linear(&block.out, &block.out_bias, Block::ATTENTION_BITS),
            norm2: norm(&block.norm2),
            up: linear(&block.up, &block.up_bias, Block::FEED_FORWARD_BITS),
            down: linear(&block.down, &block.down_bias, Block::FEED_FORWARD_BITS),
        }
    };
    Transformer {
        dim: shape.dim,
        heads: shape.heads,
        max_len: shape.max_len,
        blocks: layout.blocks.iter().map(block).collect(),
        norm: norm(&layout.norm),
    }
}

/// Query, key and value; the scale of attention is folded into the query.
fn projections(weights: &Weights, block: &BlockLayout) -> [QuantisedLinear; 3] {
    let (dim, heads) = (weights.shape.dim, weights.shape.heads);
    let scale = 1.0 / ((dim / heads) as f32).sqrt();
    [(0, scale), (1, 1.0), (2, 1.0)].map(|(part, scale)| {
        let columns = part * dim..(part + 1) * dim;
        let rows = weights.dense[block.qkv.clone()].chunks_exact(3 * dim);
        let weight: Vec<f32> = rows.flat_map(|row| row[columns.clone()].iter().map(|w| w * scale)).collect();
        let bias = weights.dense[block.qkv_bias.clone()][columns].iter().map(|b| b * scale).collect();
        QuantisedLinear::quantise(&weight, bias, Block::ATTENTION_BITS)
    })
}
