//! Shape of the sequence model and the layout of its weights.

use std::ops::Range;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};

/// Shape of the encoder: a pre-norm causal transformer over item vectors (SASRec, Kang & McAuley
/// 2018, with pre-norm blocks and SiLU). Order comes from a learned bias of attention by distance
/// (Raffel et al. 2020, section 2.1), one a head and block: every position of a training sequence then
/// learns what the newest position of a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Elements of an item vector.
    pub dim: usize,
    /// Transformer blocks.
    pub layers: usize,
    /// Attention heads; divides `dim`.
    pub heads: usize,
    /// Elements of the feed-forward layer.
    pub hidden: usize,
    /// Longest input.
    pub max_len: usize,
}

/// Offsets of one block's weights inside the flat parameter vector.
#[derive(Debug, Clone)]
pub(crate) struct BlockLayout {
    pub(crate) norm1: [Range<usize>; 2],
    pub(crate) qkv: Range<usize>,
    pub(crate) qkv_bias: Range<usize>,
    /// `[heads, max_len]`: what attention adds for a key at some distance before its query, the
    /// largest distance first, the query itself last.
    pub(crate) distance: Range<usize>,
    pub(crate) out: Range<usize>,
    pub(crate) out_bias: Range<usize>,
    pub(crate) norm2: [Range<usize>; 2],
    pub(crate) up: Range<usize>,
    pub(crate) up_bias: Range<usize>,
    pub(crate) down: Range<usize>,
    pub(crate) down_bias: Range<usize>,
}

/// Offsets of all dense weights.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) blocks: Vec<BlockLayout>,
    pub(crate) norm: [Range<usize>; 2],
    pub(crate) len: usize,
}

impl Shape {
    pub(crate) fn layout(&self) -> Layout {
        let mut next = 0;
        let mut take = |len: usize| {
            next += len;
            next - len..next
        };
        let (dim, hidden) = (self.dim, self.hidden);
        let blocks = (0..self.layers)
            .map(|_| BlockLayout {
                norm1: [take(dim), take(dim)],
                qkv: take(dim * 3 * dim),
                qkv_bias: take(3 * dim),
                distance: take(self.heads * self.max_len),
                out: take(dim * dim),
                out_bias: take(dim),
                norm2: [take(dim), take(dim)],
                up: take(dim * hidden),
                up_bias: take(hidden),
                down: take(hidden * dim),
                down_bias: take(dim),
            })
            .collect();
        let norm = [take(dim), take(dim)];
        Layout { blocks, norm, len: next }
    }
}

/// All weights of the model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Weights {
    /// Shape of the encoder.
    pub shape: Shape,
    /// Dense weights in the order of [`Layout`].
    pub(crate) dense: Vec<f32>,
    /// What items have of their own `[num_items, dim]`; see [`Weights::vectors`].
    pub(crate) items: Vec<f32>,
    /// What content features contribute `[num_features, dim]`.
    pub content: Vec<f32>,
    /// Whether item vectors have unit length.
    pub(crate) unit_items: bool,
}

/// Gain of the last norm where item vectors have unit length: scores of about twice `sqrt(dim)` at most, which
/// a softmax over many items needs to tell one of them from the rest (NISER's scale of 16 at 64 dimensions).
const UNIT_GAIN: f32 = 2.0;

impl Weights {
    /// Draws initial weights: normal with deviation `1 / (2 sqrt(dim))` for matrices; for what items have of
    /// their own 0.02, or `1 / sqrt(dim)` where vectors have unit length; half of that for content, norms at
    /// identity, no preference for any distance.
    pub(crate) fn init(
        shape: Shape,
        num_items: usize,
        num_features: usize,
        unit_items: bool,
        rng: &mut ChaCha20Rng,
    ) -> Self {
        let layout = shape.layout();
        let mut dense = vec![0.0; layout.len];
        let matrix = 0.5 / (shape.dim as f32).sqrt();
        for block in &layout.blocks {
            for range in [&block.qkv, &block.out, &block.up, &block.down] {
                fill_normal(&mut dense[range.clone()], matrix, rng);
            }
            dense[block.norm1[0].clone()].fill(1.0);
            dense[block.norm2[0].clone()].fill(1.0);
        }
        dense[layout.norm[0].clone()].fill(if unit_items { UNIT_GAIN } else { 1.0 });
        let mut items = vec![0.0; num_items * shape.dim];
        let deviation = if unit_items { 2.0 * matrix } else { 0.02 };
        fill_normal(&mut items, deviation, rng);
        let mut content = vec![0.0; num_features * shape.dim];
        fill_normal(&mut content, 0.5 * deviation, rng);
        Self { shape, dense, items, content, unit_items }
    }

    /// Number of items.
    #[must_use]
    pub fn num_items(&self) -> usize {
        self.items.len() / self.shape.dim
    }
}

/// Normal draws by Box and Muller.
fn fill_normal(out: &mut [f32], deviation: f32, rng: &mut ChaCha20Rng) {
    for pair in out.chunks_mut(2) {
        let u1 = (rng.next_u32() as f64 + 1.0) / 4_294_967_297.0;
        let u2 = rng.next_u32() as f64 / 4_294_967_296.0;
        let radius = (-2.0 * u1.ln()).sqrt() * f64::from(deviation);
        let angle = std::f64::consts::TAU * u2;
        let draws = [radius * angle.cos(), radius * angle.sin()];
        pair.iter_mut().zip(draws).for_each(|(out, draw)| *out = draw as f32);
    }
}
