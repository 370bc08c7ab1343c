//! `encoder.onnx`: item vectors `[1, len, dim]`, oldest first, to query `[1, dim]`.
//!
//! The same network as `sequence::network` without dropout, for one sequence. The last block works
//! for the newest position only, so it needs no mask.

use std::ops::Range;

use super::graph::{Builder, Dim, Value};
use super::proto::Attribute;
use crate::sequence::kernels::NORM_EPSILON;
use crate::sequence::{BlockLayout, Shape, Weights};

/// Bias of a key after its query.
const MASKED: f32 = -1e9;

/// An end that `Slice` clamps to the length.
const TO_END: i64 = i32::MAX as i64;

/// Bits of an element of a weight matrix; norms, biases and distances stay f32.
pub const WEIGHT_BITS: u8 = 8;

/// Bytes that 8-bit matrices with a scale a column save against f32.
pub(crate) fn int8_saving(shape: &Shape) -> usize {
    let Shape { dim, hidden, layers, .. } = *shape;
    let (elements, columns) = (4 * dim * dim + 2 * dim * hidden, 5 * dim + hidden);
    layers * (3 * elements - 4 * columns)
}

/// Writes the encoder of `weights`.
#[must_use]
pub fn encoder(weights: &Weights) -> Vec<u8> {
    let shape = weights.shape;
    let layout = shape.layout();
    let mut writer = Writer { graph: Builder::new("sanderling_encoder"), weights };
    let x = writer.graph.input("item_vectors", &[Dim::Fixed(1), Dim::Symbol("len"), Dim::Fixed(shape.dim)]);
    let length = writer.length_of(&x);
    let scale = writer.graph.floats("embedding_scale", &[1], &[(shape.dim as f32).sqrt()]);
    let mut x = writer.graph.node("Mul", &[&x, &scale], vec![]);
    let places = (shape.layers > 1).then(|| writer.places(&length));
    for (i, block) in layout.blocks.iter().enumerate() {
        let name = format!("block{i}");
        let bias = match places.as_deref().filter(|_| i + 1 < shape.layers) {
            Some(places) => Bias::All(writer.bias_of_all(&name, places, block)),
            None => Bias::Newest(writer.bias_of_newest(&name, &length, block)),
        };
        x = writer.block(&name, &x, block, &bias);
    }
    let query = writer.norm("norm", &x, &layout.norm);
    let flat = writer.graph.ints("query_shape", &[1, shape.dim as i64]);
    let query = writer.graph.node("Reshape", &[&query, &flat], vec![]);
    writer.graph.finish(&query, "query", &[Dim::Fixed(1), Dim::Fixed(shape.dim)])
}

/// What attention adds to its scores by distance, and for which queries it is computed.
enum Bias {
    /// `[heads, len, len]`, for every position.
    All(Value),
    /// `[heads, 1, len]`, for the newest position only.
    Newest(Value),
}

struct Writer<'a> {
    graph: Builder,
    weights: &'a Weights,
}

impl Writer<'_> {
    fn slice_of(&self, range: &Range<usize>) -> Vec<f32> {
        self.weights.dense[range.clone()].to_vec()
    }

    /// `[len]` as a one-element integer vector.
    fn length_of(&mut self, x: &str) -> Value {
        let shape = self.graph.node("Shape", &[x], vec![]);
        let one = self.graph.ints("one", &[1]);
        self.graph.node("Gather", &[&shape, &one], vec![Attribute::int("axis", 0)])
    }

    /// `[len, len]`: for a query in row `r` and a key in column `c` the place `c - r + max_len - 1` in
    /// a table of `2 * max_len - 1` biases, whose second half is for keys after their query.
    fn places(&mut self, length: &str) -> Value {
        let max_len = self.weights.shape.max_len as i64;
        let counting: Vec<i64> = (0..max_len).collect();
        let counting = self.graph.ints("counting", &counting);
        let (start, axis) = (self.graph.ints("zero", &[0]), self.graph.ints("zero", &[0]));
        let index = self.graph.node("Slice", &[&counting, &start, length, &axis], vec![]);
        let (row_axis, col_axis) = (self.graph.ints("zero", &[0]), self.graph.ints("one", &[1]));
        let keys = self.graph.node("Unsqueeze", &[&index, &row_axis], vec![]);
        let queries = self.graph.node("Unsqueeze", &[&index, &col_axis], vec![]);
        let ahead = self.graph.node("Sub", &[&keys, &queries], vec![]);
        let origin = self.graph.ints("origin", &[max_len - 1]);
        self.graph.node("Add", &[&ahead, &origin], vec![])
    }

    /// Biases of every query, hugely negative for keys after it: the causal mask.
    fn bias_of_all(&mut self, name: &str, places: &str, block: &BlockLayout) -> Value {
        let (heads, max_len) = (self.weights.shape.heads, self.weights.shape.max_len);
        let table: Vec<f32> = self.weights.dense[block.distance.clone()]
            .chunks_exact(max_len)
            .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(MASKED, max_len - 1)))
            .collect();
        let table = self.graph.floats(&format!("{name}_distance"), &[heads, 2 * max_len - 1], &table);
        self.graph.node("Gather", &[&table, places], vec![Attribute::int("axis", 1)])
    }

    /// Biases of the newest query, which has no key after it.
    fn bias_of_newest(&mut self, name: &str, length: &str, block: &BlockLayout) -> Value {
        let (heads, max_len) = (self.weights.shape.heads, self.weights.shape.max_len);
        let table = self.slice_of(&block.distance);
        let table = self.graph.floats(&format!("{name}_distance"), &[heads, max_len], &table);
        let start = self.graph.node("Neg", &[length], vec![]);
        let (end, axis) = (self.graph.ints("to_end", &[TO_END]), self.graph.ints("one", &[1]));
        let newest = self.graph.node("Slice", &[&table, &start, &end, &axis], vec![]);
        self.graph.node("Unsqueeze", &[&newest, &axis], vec![])
    }

    fn norm(&mut self, name: &str, x: &str, norm: &[Range<usize>; 2]) -> Value {
        let dim = self.weights.shape.dim;
        let gain = self.graph.floats(&format!("{name}_gain"), &[dim], &self.slice_of(&norm[0]));
        let bias = self.graph.floats(&format!("{name}_bias"), &[dim], &self.slice_of(&norm[1]));
        let attributes = vec![Attribute::int("axis", -1), Attribute::float("epsilon", NORM_EPSILON)];
        self.graph.node("LayerNormalization", &[x, &gain, &bias], attributes)
    }

    fn linear(&mut self, name: &str, x: &str, dims: [usize; 2], weight: &[f32], bias: &[f32]) -> Value {
        let weight = self.graph.int8_matrix(&format!("{name}_weight"), dims, weight);
        let bias = self.graph.floats(&format!("{name}_bias"), &[dims[1]], bias);
        let product = self.graph.node("MatMul", &[x, &weight], vec![]);
        self.graph.node("Add", &[&product, &bias], vec![])
    }

    /// The newest position of `[1, len, dim]` as `[1, 1, dim]`.
    fn newest(&mut self, x: &str) -> Value {
        let start = self.graph.ints("minus_one", &[-1]);
        let end = self.graph.ints("to_end", &[TO_END]);
        let axis = self.graph.ints("one", &[1]);
        self.graph.node("Slice", &[x, &start, &end, &axis], vec![])
    }

    fn block(&mut self, name: &str, x: &str, block: &BlockLayout, bias: &Bias) -> Value {
        let dim = self.weights.shape.dim;
        let normed = self.norm(&format!("{name}_norm1"), x, &block.norm1);
        let (query_side, x, bias) = match bias {
            Bias::All(bias) => (normed.clone(), x.to_owned(), bias),
            Bias::Newest(bias) => (self.newest(&normed), self.newest(x), bias),
        };
        let mixed = self.attention(name, &query_side, &normed, block, bias);
        let (out, out_bias) = (self.slice_of(&block.out), self.slice_of(&block.out_bias));
        let branch = self.linear(&format!("{name}_out"), &mixed, [dim, dim], &out, &out_bias);
        let x = self.graph.node("Add", &[&x, &branch], vec![]);
        let branch = self.feed_forward(name, &x, block);
        self.graph.node("Add", &[&x, &branch], vec![])
    }

    fn attention(
        &mut self,
        name: &str,
        query_side: &str,
        key_side: &str,
        block: &BlockLayout,
        bias: &str,
    ) -> Value {
        let shape = self.weights.shape;
        let head_dim = shape.dim / shape.heads;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let queries = self.projection(name, "query", query_side, block, 0, scale);
        let keys = self.projection(name, "key", key_side, block, 1, 1.0);
        let values = self.projection(name, "value", key_side, block, 2, 1.0);
        let turned = |axes: [i64; 4]| vec![Attribute::ints("perm", &axes)];
        let queries = self.graph.node("Transpose", &[&queries], turned([0, 2, 1, 3]));
        let keys = self.graph.node("Transpose", &[&keys], turned([0, 2, 3, 1]));
        let values = self.graph.node("Transpose", &[&values], turned([0, 2, 1, 3]));
        let scores = self.graph.node("MatMul", &[&queries, &keys], vec![]);
        let scores = self.graph.node("Add", &[&scores, bias], vec![]);
        let weights = self.graph.node("Softmax", &[&scores], vec![Attribute::int("axis", -1)]);
        let mixed = self.graph.node("MatMul", &[&weights, &values], vec![]);
        let mixed = self.graph.node("Transpose", &[&mixed], turned([0, 2, 1, 3]));
        let joined = self.graph.ints("joined_shape", &[1, -1, shape.dim as i64]);
        self.graph.node("Reshape", &[&mixed, &joined], vec![])
    }

    /// Query (0), key (1) or value (2) as `[1, len, heads, head_dim]`; `scale` is folded in.
    fn projection(
        &mut self,
        block_name: &str,
        name: &str,
        x: &str,
        block: &BlockLayout,
        part: usize,
        scale: f32,
    ) -> Value {
        let shape = self.weights.shape;
        let dim = shape.dim;
        let columns = part * dim..(part + 1) * dim;
        let all = self.slice_of(&block.qkv);
        let weight: Vec<f32> = all
            .chunks_exact(3 * dim)
            .flat_map(|row| row[columns.clone()].iter().map(|w| w * scale))
            .collect();
        let bias: Vec<f32> = self.slice_of(&block.qkv_bias)[columns].iter().map(|b| b * scale).collect();
        let flat = self.linear(&format!("{block_name}_{name}"), x, [dim, dim], &weight, &bias);
        let split = [1, -1, shape.heads as i64, (dim / shape.heads) as i64];
        let split = self.graph.ints("split_shape", &split);
        self.graph.node("Reshape", &[&flat, &split], vec![])
    }

    fn feed_forward(&mut self, name: &str, x: &str, block: &BlockLayout) -> Value {
        let (dim, hidden) = (self.weights.shape.dim, self.weights.shape.hidden);
        let normed = self.norm(&format!("{name}_norm2"), x, &block.norm2);
        let (up, up_bias) = (self.slice_of(&block.up), self.slice_of(&block.up_bias));
        let wide = self.linear(&format!("{name}_up"), &normed, [dim, hidden], &up, &up_bias);
        let gate = self.graph.node("Sigmoid", &[&wide], vec![]);
        let active = self.graph.node("Mul", &[&wide, &gate], vec![]);
        let (down, down_bias) = (self.slice_of(&block.down), self.slice_of(&block.down_bias));
        self.linear(&format!("{name}_down"), &active, [hidden, dim], &down, &down_bias)
    }
}
