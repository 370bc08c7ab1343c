//! The encoder of a sequence model.

use sanderling_kernels::{self as kernels, Attention, RoundedLinear, activate, add_scaled};
use sanderling_types::{Code, Error, FileRole, Result};

use super::rows_of;
use crate::Scorer;
use crate::onnx::{self, NORM_EPSILON, Norm, QuantisedLinear, Transformer};
use crate::scorer::{Incremental, Memory};

#[derive(Debug)]
struct Block {
    norm1: Norm,
    query: RoundedLinear,
    key: RoundedLinear,
    value: RoundedLinear,
    attention: Attention,
    out: RoundedLinear,
    norm2: Norm,
    up: RoundedLinear,
    down: RoundedLinear,
}

#[derive(Debug)]
pub(super) struct Encoder {
    dim: usize,
    max_len: usize,
    embedding_scale: f32,
    blocks: Vec<Block>,
    norm: Norm,
}

impl Encoder {
    pub(super) fn new(model: &Transformer) -> Self {
        let block = |block: &onnx::Block| Block {
            norm1: block.norm1.clone(),
            query: matrix(&block.query),
            key: matrix(&block.key),
            value: matrix(&block.value),
            attention: Attention {
                dim: model.dim,
                heads: model.heads,
                max_len: model.max_len,
                distance: block.distance.clone(),
            },
            out: matrix(&block.out),
            norm2: block.norm2.clone(),
            up: matrix(&block.up),
            down: matrix(&block.down),
        };
        Self {
            dim: model.dim,
            max_len: model.max_len,
            embedding_scale: model.embedding_scale(),
            blocks: model.blocks.iter().map(block).collect(),
            norm: model.norm.clone(),
        }
    }

    /// Takes more items in, `[new, dim]`, behind those of `memory`; gives the query of all of them.
    fn encode(&self, memory: &mut Memory, items: &[f32]) -> Vec<f32> {
        let mut x: Vec<f32> = items.iter().map(|v| v * self.embedding_scale).collect();
        memory.blocks.resize_with(self.blocks.len(), Default::default);
        for (i, (block, seen)) in self.blocks.iter().zip(&mut memory.blocks).enumerate() {
            let normed = normalise(&x, &block.norm1);
            // The three matrices have as many bits, see `Transformer::from_constants`.
            let rounded = block.key.round(&normed);
            block.key.extend(&mut seen.keys, &rounded);
            block.value.extend(&mut seen.values, &rounded);
            let queries = if i + 1 == self.blocks.len() {
                // Only the newest position is asked for.
                x.drain(..x.len() - self.dim);
                block.query.run(&normed[normed.len() - self.dim..])
            } else {
                block.query.run_rounded(&rounded)
            };
            let mixed = block.attention.run(&queries, &seen.keys, &seen.values);
            add_scaled(&mut x, &block.out.run(&mixed), 1.0);
            let mut wide = block.up.run(&normalise(&x, &block.norm2));
            activate(&mut wide);
            add_scaled(&mut x, &block.down.run(&wide), 1.0);
        }
        normalise(&x, &self.norm)
    }
}

fn normalise(x: &[f32], norm: &Norm) -> Vec<f32> {
    kernels::normalise(x, &norm.gain, &norm.bias, NORM_EPSILON)
}

fn matrix(linear: &QuantisedLinear) -> RoundedLinear {
    let weight = &linear.weight;
    RoundedLinear::new(&weight.integers, weight.bits, &weight.scales, &linear.bias)
}

impl Scorer for Encoder {
    fn run(&self, input: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
        rows_of(FileRole::Encoder.file_name(), input, shape, self.dim, self.max_len)?;
        Ok(self.encode(&mut Memory::default(), input))
    }

    fn max_len(&self) -> Option<usize> {
        Some(self.max_len)
    }

    fn incremental(&self) -> Option<&dyn Incremental> {
        Some(self)
    }
}

impl Incremental for Encoder {
    fn append(&self, memory: &mut Memory, items: &[f32]) -> Result<Vec<f32>> {
        let known = memory.blocks.first().map_or(0, |block| block.keys.len() / self.dim);
        let new = items.len() / self.dim;
        if new == 0 || known + new > self.max_len || items.len() != new * self.dim {
            return Err(Error::new(Code::InvalidArgument, "the encoder cannot take these items in")
                .expected(format!("whole rows of {}, at most {} in all", self.dim, self.max_len))
                .found(format!("{} elements behind {known} items", items.len())));
        }
        Ok(self.encode(memory, items))
    }
}
