//! `encoder.onnx` of a sequence model: item vectors `[1, len, dim]`, oldest first, to query `[1, dim]`.
//!
//! A pre-norm causal transformer whose attention adds a learned bias by distance (Raffel et al. 2020, section 2.1).
//! The last block works for the newest position only, so it needs no mask.

use super::builder::{Attribute, Builder, Dim, Value};
use super::constants::Constants;
use super::{MAX_SIDE, QuantisedMatrix};
use sanderling_kernels::WeightBits;

use crate::ItemTable;

pub(super) const NAME: &str = "sanderling_encoder";

/// Added to a variance before its root is taken.
pub const NORM_EPSILON: f32 = 1e-5;

/// Bias of a key after its query.
const MASKED: f32 = -1e9;

/// An end that `Slice` clamps to the length.
const TO_END: i64 = i32::MAX as i64;

/// Most blocks of a file that is read.
const MAX_BLOCKS: usize = 64;

/// Gain and bias of a layer norm, `[dim]` each.
#[derive(Debug, Clone, PartialEq)]
pub struct Norm {
    /// Factors.
    pub gain: Vec<f32>,
    /// Summands.
    pub bias: Vec<f32>,
}

/// `y = x weight + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantisedLinear {
    /// `[inputs, outputs]`.
    pub weight: QuantisedMatrix,
    /// `[outputs]`.
    pub bias: Vec<f32>,
}

impl QuantisedLinear {
    /// Rounds the weights `[inputs, outputs]`.
    ///
    /// # Panics
    /// Unless `weight` has whole rows of as many elements as `bias`.
    #[must_use]
    pub fn quantise(weight: &[f32], bias: Vec<f32>, bits: WeightBits) -> Self {
        Self { weight: QuantisedMatrix::quantise(weight, bias.len(), bits), bias }
    }
}

/// One block: `x + out(attention(norm1(x)))`, then `x + down(silu(up(norm2(x))))`. The matrices of attention have 11 bits, as a softmax
/// makes much of small differences; the others, two thirds of the weights, have 8.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// Before attention.
    pub norm1: Norm,
    /// Queries, with the scale `1 / sqrt(dim / heads)` in the weights.
    pub query: QuantisedLinear,
    /// Keys.
    pub key: QuantisedLinear,
    /// Values.
    pub value: QuantisedLinear,
    /// `[heads, max_len]`: what attention adds for a key at some distance before its query, the largest distance
    /// first, the query itself last.
    pub distance: Vec<f32>,
    /// Joins the heads.
    pub out: QuantisedLinear,
    /// Before the feed-forward layer.
    pub norm2: Norm,
    /// `[dim, hidden]`.
    pub up: QuantisedLinear,
    /// `[hidden, dim]`.
    pub down: QuantisedLinear,
}

impl Block {
    /// Of `query`, `key`, `value` and `out`.
    pub const ATTENTION_BITS: WeightBits = WeightBits::Eleven;
    /// Of `up` and `down`.
    pub const FEED_FORWARD_BITS: WeightBits = WeightBits::Eight;
}

/// The encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Transformer {
    /// Elements of an item vector.
    pub dim: usize,
    /// Attention heads; divides `dim`.
    pub heads: usize,
    /// Longest input.
    pub max_len: usize,
    /// At least one.
    pub blocks: Vec<Block>,
    /// Behind the last block.
    pub norm: Norm,
}

/// Bytes that the matrices of `blocks` blocks save as whole numbers with a scale a column, against f32.
#[must_use]
pub fn rounding_saves(blocks: usize, dim: usize, hidden: usize) -> usize {
    let columns = 5 * dim + hidden;
    blocks * (2 * 4 * dim * dim + 3 * 2 * dim * hidden - 4 * columns)
}

impl Transformer {
    /// The bytes of the file.
    #[must_use]
    pub fn to_onnx(&self) -> Vec<u8> {
        let mut writer = Writer { graph: Builder::new(NAME), model: self };
        let dims = [Dim::Fixed(1), Dim::Symbol("len"), Dim::Fixed(self.dim)];
        let x = writer.graph.input("item_vectors", &dims);
        let length = writer.length_of(&x);
        let scale = writer.graph.floats("embedding_scale", &[1], &[self.embedding_scale()]);
        let mut x = writer.graph.node("Mul", &[&x, &scale], &[]);
        let places = (self.blocks.len() > 1).then(|| writer.places(&length));
        for (i, block) in self.blocks.iter().enumerate() {
            let name = format!("block{i}");
            let bias = match places.as_deref().filter(|_| i + 1 < self.blocks.len()) {
                Some(places) => Bias::All(writer.bias_of_all(&name, places, block)),
                None => Bias::Newest(writer.bias_of_newest(&name, &length, block)),
            };
            x = writer.block(&name, &x, block, &bias);
        }
        let query = writer.norm("norm", &x, &self.norm);
        let flat = writer.graph.ints("query_shape", &[1, self.dim as i64]);
        writer.graph.finish("Reshape", &[&query, &flat], "query", &[Dim::Fixed(1), Dim::Fixed(self.dim)])
    }

    /// What item vectors are multiplied by.
    pub(crate) fn embedding_scale(&self) -> f32 {
        (self.dim as f32).sqrt()
    }

    pub(super) fn from_constants(constants: &Constants<'_>) -> Option<Self> {
        let &[_, _, heads, head_dim] = constants.ints("split_shape")?.as_slice() else { return None };
        let side = |side: i64| usize::try_from(side).ok().filter(|side| (1..=MAX_SIDE).contains(side));
        let heads = side(heads)?;
        let dim = side(heads as i64 * side(head_dim)? as i64).filter(|dim| *dim <= ItemTable::MAX_DIM)?;
        let count =
            (0..=MAX_BLOCKS).take_while(|i| constants.contains(&format!("block{i}_distance"))).count();
        let last = count.checked_sub(1).filter(|_| count <= MAX_BLOCKS)?;
        let max_len = constants.floats(&format!("block{last}_distance"))?.0.get(1).copied()?;
        let reader = Reader { constants, dim, heads, max_len };
        let blocks =
            (0..count).map(|i| reader.block(&format!("block{i}"), i == last)).collect::<Option<_>>()?;
        Some(Self { dim, heads, max_len, blocks, norm: reader.norm("norm")? })
    }
}

struct Reader<'a> {
    constants: &'a Constants<'a>,
    dim: usize,
    heads: usize,
    max_len: usize,
}

impl Reader<'_> {
    fn norm(&self, name: &str) -> Option<Norm> {
        let vector = |part: &str| self.constants.floats_of(&format!("{name}_{part}"), &[self.dim]);
        Some(Norm { gain: vector("gain")?, bias: vector("bias")? })
    }

    fn linear(
        &self,
        name: &str,
        rows: usize,
        cols: Option<usize>,
        bits: WeightBits,
    ) -> Option<QuantisedLinear> {
        let weight = self.constants.matrix(&format!("{name}_weight"))?;
        if weight.rows != rows || cols.is_some_and(|cols| cols != weight.cols) || weight.bits != bits {
            return None;
        }
        let bias = self.constants.floats_of(&format!("{name}_bias"), &[weight.cols])?;
        Some(QuantisedLinear { weight, bias })
    }

    fn block(&self, name: &str, is_last: bool) -> Option<Block> {
        let linear = |part: &str, rows, cols, bits| self.linear(&format!("{name}_{part}"), rows, cols, bits);
        let square = |part: &str| linear(part, self.dim, Some(self.dim), Block::ATTENTION_BITS);
        let up = linear("up", self.dim, None, Block::FEED_FORWARD_BITS)?;
        let down = linear("down", up.weight.cols, Some(self.dim), Block::FEED_FORWARD_BITS)?;
        let stored = if is_last { self.max_len } else { 2 * self.max_len - 1 };
        let table = self.constants.floats_of(&format!("{name}_distance"), &[self.heads, stored])?;
        let distance = table.chunks_exact(stored).flat_map(|row| &row[..self.max_len]).copied().collect();
        Some(Block {
            norm1: self.norm(&format!("{name}_norm1"))?,
            query: square("query")?,
            key: square("key")?,
            value: square("value")?,
            distance,
            out: square("out")?,
            norm2: self.norm(&format!("{name}_norm2"))?,
            up,
            down,
        })
    }
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
    model: &'a Transformer,
}

impl Writer<'_> {
    /// `[len]` as a one-element integer vector.
    fn length_of(&mut self, x: &str) -> Value {
        let shape = self.graph.node("Shape", &[x], &[]);
        let one = self.graph.ints("one", &[1]);
        self.graph.node("Gather", &[&shape, &one], &[Attribute::int("axis", 0)])
    }

    /// `[len, len]`: for a query in row `r` and a key in column `c` the place `c - r + max_len - 1` in
    /// a table of `2 * max_len - 1` biases, whose second half is for keys after their query.
    fn places(&mut self, length: &str) -> Value {
        let max_len = self.model.max_len as i64;
        let counting: Vec<i64> = (0..max_len).collect();
        let counting = self.graph.ints("counting", &counting);
        let (start, axis) = (self.graph.ints("zero", &[0]), self.graph.ints("zero", &[0]));
        let index = self.graph.node("Slice", &[&counting, &start, length, &axis], &[]);
        let (row_axis, col_axis) = (self.graph.ints("zero", &[0]), self.graph.ints("one", &[1]));
        let keys = self.graph.node("Unsqueeze", &[&index, &row_axis], &[]);
        let queries = self.graph.node("Unsqueeze", &[&index, &col_axis], &[]);
        let ahead = self.graph.node("Sub", &[&keys, &queries], &[]);
        let origin = self.graph.ints("origin", &[max_len - 1]);
        self.graph.node("Add", &[&ahead, &origin], &[])
    }

    /// Biases of every query, hugely negative for keys after it: the causal mask.
    fn bias_of_all(&mut self, name: &str, places: &str, block: &Block) -> Value {
        let Transformer { heads, max_len, .. } = *self.model;
        let table: Vec<f32> = block
            .distance
            .chunks_exact(max_len)
            .flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(MASKED, max_len - 1)))
            .collect();
        let table = self.graph.floats(&format!("{name}_distance"), &[heads, 2 * max_len - 1], &table);
        self.graph.node("Gather", &[&table, places], &[Attribute::int("axis", 1)])
    }

    /// Biases of the newest query, which has no key after it.
    fn bias_of_newest(&mut self, name: &str, length: &str, block: &Block) -> Value {
        let Transformer { heads, max_len, .. } = *self.model;
        let table = self.graph.floats(&format!("{name}_distance"), &[heads, max_len], &block.distance);
        let start = self.graph.node("Neg", &[length], &[]);
        let (end, axis) = (self.graph.ints("to_end", &[TO_END]), self.graph.ints("one", &[1]));
        let newest = self.graph.node("Slice", &[&table, &start, &end, &axis], &[]);
        self.graph.node("Unsqueeze", &[&newest, &axis], &[])
    }

    fn norm(&mut self, name: &str, x: &str, norm: &Norm) -> Value {
        let dim = self.model.dim;
        let gain = self.graph.floats(&format!("{name}_gain"), &[dim], &norm.gain);
        let bias = self.graph.floats(&format!("{name}_bias"), &[dim], &norm.bias);
        let attributes = [Attribute::int("axis", -1), Attribute::float("epsilon", NORM_EPSILON)];
        self.graph.node("LayerNormalization", &[x, &gain, &bias], &attributes)
    }

    fn linear(&mut self, name: &str, x: &str, linear: &QuantisedLinear) -> Value {
        let weight = self.graph.matrix(&format!("{name}_weight"), &linear.weight);
        let bias = self.graph.floats(&format!("{name}_bias"), &[linear.bias.len()], &linear.bias);
        let product = self.graph.node("MatMul", &[x, &weight], &[]);
        self.graph.node("Add", &[&product, &bias], &[])
    }

    /// The newest position of `[1, len, dim]` as `[1, 1, dim]`.
    fn newest(&mut self, x: &str) -> Value {
        let start = self.graph.ints("minus_one", &[-1]);
        let end = self.graph.ints("to_end", &[TO_END]);
        let axis = self.graph.ints("one", &[1]);
        self.graph.node("Slice", &[x, &start, &end, &axis], &[])
    }

    fn block(&mut self, name: &str, x: &str, block: &Block, bias: &Bias) -> Value {
        let normed = self.norm(&format!("{name}_norm1"), x, &block.norm1);
        let (query_side, x, bias) = match bias {
            Bias::All(bias) => (normed.clone(), x.to_owned(), bias),
            Bias::Newest(bias) => (self.newest(&normed), self.newest(x), bias),
        };
        let mixed = self.attention(name, &query_side, &normed, block, bias);
        let branch = self.linear(&format!("{name}_out"), &mixed, &block.out);
        let x = self.graph.node("Add", &[&x, &branch], &[]);
        let branch = self.feed_forward(name, &x, block);
        self.graph.node("Add", &[&x, &branch], &[])
    }

    fn attention(
        &mut self,
        name: &str,
        query_side: &str,
        key_side: &str,
        block: &Block,
        bias: &str,
    ) -> Value {
        let queries = self.projection(&format!("{name}_query"), query_side, &block.query);
        let keys = self.projection(&format!("{name}_key"), key_side, &block.key);
        let values = self.projection(&format!("{name}_value"), key_side, &block.value);
        let turned = |axes: [i64; 4]| [Attribute::ints("perm", &axes)];
        let queries = self.graph.node("Transpose", &[&queries], &turned([0, 2, 1, 3]));
        let keys = self.graph.node("Transpose", &[&keys], &turned([0, 2, 3, 1]));
        let values = self.graph.node("Transpose", &[&values], &turned([0, 2, 1, 3]));
        let scores = self.graph.node("MatMul", &[&queries, &keys], &[]);
        let scores = self.graph.node("Add", &[&scores, bias], &[]);
        let weights = self.graph.node("Softmax", &[&scores], &[Attribute::int("axis", -1)]);
        let mixed = self.graph.node("MatMul", &[&weights, &values], &[]);
        let mixed = self.graph.node("Transpose", &[&mixed], &turned([0, 2, 1, 3]));
        let joined = self.graph.ints("joined_shape", &[1, -1, self.model.dim as i64]);
        self.graph.node("Reshape", &[&mixed, &joined], &[])
    }

    /// `[1, len, heads, head_dim]`.
    fn projection(&mut self, name: &str, x: &str, linear: &QuantisedLinear) -> Value {
        let Transformer { dim, heads, .. } = *self.model;
        let flat = self.linear(name, x, linear);
        let split = self.graph.ints("split_shape", &[1, -1, heads as i64, (dim / heads) as i64]);
        self.graph.node("Reshape", &[&flat, &split], &[])
    }

    fn feed_forward(&mut self, name: &str, x: &str, block: &Block) -> Value {
        let normed = self.norm(&format!("{name}_norm2"), x, &block.norm2);
        let wide = self.linear(&format!("{name}_up"), &normed, &block.up);
        let gate = self.graph.node("Sigmoid", &[&wide], &[]);
        let active = self.graph.node("Mul", &[&wide, &gate], &[]);
        self.linear(&format!("{name}_down"), &active, &block.down)
    }
}
