//! Forward and backward pass of the encoder over packed sequences of different lengths.
//!
//! Rows of all sequences of a pack lie behind each other, `[tokens, dim]`, without padding.

use super::attention;
use super::kernels;
use super::linalg::{View, product};
use super::params::{BlockLayout, Layout, Shape};

/// Inputs of one pack: rows of the local item table and where each sequence begins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pack {
    /// For each token the row of its item in the local table.
    pub(crate) inputs: Vec<u32>,
    /// Start of each sequence and, last, the number of tokens.
    pub(crate) offsets: Vec<usize>,
}

impl Pack {
    pub(crate) fn tokens(&self) -> usize {
        self.inputs.len()
    }

    pub(crate) fn push(&mut self, items: impl Iterator<Item = u32>) {
        if self.offsets.is_empty() {
            self.offsets.push(0);
        }
        self.inputs.extend(items);
        self.offsets.push(self.inputs.len());
    }
}

/// Dropout of one pass: probability in units of 2^-32 (0 switches it off) and a seed for the step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dropout {
    pub(crate) threshold: u32,
    pub(crate) seed: u32,
}

impl Dropout {
    pub(crate) const OFF: Self = Self { threshold: 0, seed: 0 };

    fn apply(self, x: &mut [f32], site: u32) {
        kernels::dropout(x, self.seed.wrapping_add(site.wrapping_mul(0x6C62_272E)), self.threshold);
    }
}

/// What one block keeps for the way back.
#[derive(Debug, Default)]
struct BlockState {
    input: Vec<f32>,
    norm1: Vec<f32>,
    stats1: Vec<[f32; 2]>,
    qkv: Vec<f32>,
    log_sums: Vec<f32>,
    mixed: Vec<f32>,
    middle: Vec<f32>,
    norm2: Vec<f32>,
    stats2: Vec<[f32; 2]>,
    up: Vec<f32>,
    active: Vec<f32>,
}

/// Buffers of one shard, reused from step to step.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    blocks: Vec<BlockState>,
    last: Vec<f32>,
    stats: Vec<[f32; 2]>,
    /// Encoder outputs `[tokens, dim]`.
    pub(crate) hidden: Vec<f32>,
    branch: Vec<f32>,
    grad: Vec<f32>,
    grad_branch: Vec<f32>,
    grad_qkv: Vec<f32>,
    grad_wide: Vec<f32>,
    attention: attention::Scratch,
}

fn resize(buffer: &mut Vec<f32>, len: usize) {
    buffer.clear();
    buffer.resize(len, 0.0);
}

/// Runs the encoder; outputs land in `work.hidden`.
pub(crate) fn forward(
    shape: &Shape,
    layout: &Layout,
    dense: &[f32],
    table: &[f32],
    pack: &Pack,
    dropout: Dropout,
    work: &mut Workspace,
) {
    let (tokens, dim) = (pack.tokens(), shape.dim);
    work.blocks.resize_with(shape.layers, BlockState::default);
    let mut x = std::mem::take(&mut work.last);
    embed(shape, table, pack, &mut x);
    dropout.apply(&mut x, 0);
    for (i, (block, state)) in layout.blocks.iter().zip(&mut work.blocks).enumerate() {
        let site = 1 + 2 * i as u32;
        state.input.clone_from(&x);
        resize(&mut state.norm1, tokens * dim);
        state.stats1.resize(tokens, [0.0; 2]);
        let [gain, bias] = &block.norm1;
        kernels::layer_norm(
            &x,
            &dense[gain.clone()],
            &dense[bias.clone()],
            &mut state.norm1,
            &mut state.stats1,
        );
        attend(shape, block, dense, pack, state, &mut work.attention);
        linear(&state.mixed, dense, &block.out, &block.out_bias, dim, dim, &mut work.branch);
        dropout.apply(&mut work.branch, site);
        kernels::add_scaled(&mut x, &work.branch, 1.0);
        state.middle.clone_from(&x);
        feed_forward(shape, block, dense, state, &mut work.branch);
        dropout.apply(&mut work.branch, site + 1);
        kernels::add_scaled(&mut x, &work.branch, 1.0);
    }
    resize(&mut work.hidden, tokens * dim);
    work.stats.resize(tokens, [0.0; 2]);
    let [gain, bias] = &layout.norm;
    kernels::layer_norm(
        &x,
        &dense[gain.clone()],
        &dense[bias.clone()],
        &mut work.hidden,
        &mut work.stats[..tokens],
    );
    work.last = x;
}

fn embed(shape: &Shape, table: &[f32], pack: &Pack, x: &mut Vec<f32>) {
    let dim = shape.dim;
    let scale = (dim as f32).sqrt();
    x.clear();
    for &row in &pack.inputs {
        x.extend(table[row as usize * dim..][..dim].iter().map(|item| item * scale));
    }
}

fn linear(
    x: &[f32],
    dense: &[f32],
    weight: &std::ops::Range<usize>,
    bias: &std::ops::Range<usize>,
    inner: usize,
    outer: usize,
    out: &mut Vec<f32>,
) {
    let rows = x.len() / inner;
    resize(out, rows * outer);
    let weight = View::dense(&dense[weight.clone()], inner, outer);
    product(out, outer, View::dense(x, rows, inner), weight, false, 1.0);
    kernels::add_bias(out, &dense[bias.clone()]);
}

fn attend(
    shape: &Shape,
    block: &BlockLayout,
    dense: &[f32],
    pack: &Pack,
    state: &mut BlockState,
    scratch: &mut attention::Scratch,
) {
    let dim = shape.dim;
    linear(&state.norm1, dense, &block.qkv, &block.qkv_bias, dim, 3 * dim, &mut state.qkv);
    resize(&mut state.mixed, pack.tokens() * dim);
    resize(&mut state.log_sums, pack.tokens() * shape.heads);
    attention::forward(
        shape.heads,
        dim,
        &pack.offsets,
        &state.qkv,
        &dense[block.distance.clone()],
        &mut state.mixed,
        &mut state.log_sums,
        scratch,
    );
}

fn feed_forward(
    shape: &Shape,
    block: &BlockLayout,
    dense: &[f32],
    state: &mut BlockState,
    branch: &mut Vec<f32>,
) {
    let (dim, rows) = (shape.dim, state.middle.len() / shape.dim);
    resize(&mut state.norm2, rows * dim);
    state.stats2.resize(rows, [0.0; 2]);
    let [gain, bias] = &block.norm2;
    let (gain, bias) = (&dense[gain.clone()], &dense[bias.clone()]);
    kernels::layer_norm(&state.middle, gain, bias, &mut state.norm2, &mut state.stats2);
    linear(&state.norm2, dense, &block.up, &block.up_bias, dim, shape.hidden, &mut state.up);
    resize(&mut state.active, rows * shape.hidden);
    kernels::silu(&state.up, &mut state.active);
    linear(&state.active, dense, &block.down, &block.down_bias, shape.hidden, dim, branch);
}

/// Way back of [`forward`]. `grad_hidden` is the gradient of `work.hidden`; gradients are added to
/// `grad_dense` (layout of the dense weights) and `grad_table` (rows of the local item table).
#[allow(clippy::too_many_arguments, reason = "the mirror image of `forward` with its two gradients")]
pub(crate) fn backward(
    shape: &Shape,
    layout: &Layout,
    dense: &[f32],
    pack: &Pack,
    dropout: Dropout,
    work: &mut Workspace,
    grad_hidden: &[f32],
    grad_dense: &mut [f32],
    grad_table: &mut [f32],
) {
    let (tokens, dim) = (pack.tokens(), shape.dim);
    let mut grad = std::mem::take(&mut work.grad);
    resize(&mut grad, tokens * dim);
    norm_back(grad_hidden, &work.last, &work.stats[..tokens], dense, &layout.norm, &mut grad, grad_dense);
    for (i, block) in layout.blocks.iter().enumerate().rev() {
        let site = 1 + 2 * i as u32;
        work.grad_branch.clone_from(&grad);
        dropout.apply(&mut work.grad_branch, site + 1);
        feed_forward_back(shape, block, dense, i, work, &mut grad, grad_dense);
        work.grad_branch.clone_from(&grad);
        dropout.apply(&mut work.grad_branch, site);
        attend_back(shape, block, dense, pack, i, work, &mut grad, grad_dense);
    }
    dropout.apply(&mut grad, 0);
    let scale = (dim as f32).sqrt();
    for (grad, &row) in grad.chunks_exact(dim).zip(&pack.inputs) {
        kernels::add_scaled(&mut grad_table[row as usize * dim..][..dim], grad, scale);
    }
    work.grad = grad;
}

fn norm_back(
    grad_out: &[f32],
    input: &[f32],
    stats: &[[f32; 2]],
    dense: &[f32],
    norm: &[std::ops::Range<usize>; 2],
    grad_in: &mut [f32],
    grad_dense: &mut [f32],
) {
    let [gain, bias] = norm;
    let (head, tail) = grad_dense.split_at_mut(bias.start);
    let grad_gain = &mut head[gain.clone()];
    let grad_bias = &mut tail[..bias.len()];
    kernels::layer_norm_back(grad_out, input, stats, &dense[gain.clone()], grad_in, grad_gain, grad_bias);
}

/// Gradients of a linear layer: adds those of weight and bias, writes that of the input.
#[allow(clippy::too_many_arguments, reason = "a layer: input, weight, bias and their three gradients")]
fn linear_back(
    x: &[f32],
    grad_out: &[f32],
    dense: &[f32],
    weight: &std::ops::Range<usize>,
    bias: &std::ops::Range<usize>,
    inner: usize,
    outer: usize,
    grad_dense: &mut [f32],
    grad_in: &mut Vec<f32>,
) {
    let rows = x.len() / inner;
    let grad_rows = View::dense(grad_out, rows, outer);
    product(&mut grad_dense[weight.clone()], outer, View::dense(x, rows, inner).t(), grad_rows, true, 1.0);
    kernels::add_column_sums(&mut grad_dense[bias.clone()], grad_out);
    resize(grad_in, rows * inner);
    product(grad_in, inner, grad_rows, View::dense(&dense[weight.clone()], inner, outer).t(), false, 1.0);
}

fn feed_forward_back(
    shape: &Shape,
    block: &BlockLayout,
    dense: &[f32],
    index: usize,
    work: &mut Workspace,
    grad: &mut [f32],
    grad_dense: &mut [f32],
) {
    let (dim, hidden) = (shape.dim, shape.hidden);
    let state = &work.blocks[index];
    let (wide, branch) = (&mut work.grad_wide, &mut work.grad_branch);
    linear_back(&state.active, branch, dense, &block.down, &block.down_bias, hidden, dim, grad_dense, wide);
    kernels::silu_back(&state.up, wide);
    linear_back(&state.norm2, wide, dense, &block.up, &block.up_bias, dim, hidden, grad_dense, branch);
    norm_back(branch, &state.middle, &state.stats2, dense, &block.norm2, grad, grad_dense);
}

#[allow(clippy::too_many_arguments, reason = "the mirror image of `attend` with its gradients")]
fn attend_back(
    shape: &Shape,
    block: &BlockLayout,
    dense: &[f32],
    pack: &Pack,
    index: usize,
    work: &mut Workspace,
    grad: &mut [f32],
    grad_dense: &mut [f32],
) {
    let dim = shape.dim;
    let state = &work.blocks[index];
    linear_back(
        &state.mixed,
        &work.grad_branch,
        dense,
        &block.out,
        &block.out_bias,
        dim,
        dim,
        grad_dense,
        &mut work.branch,
    );
    resize(&mut work.grad_qkv, pack.tokens() * 3 * dim);
    attention::backward(
        shape.heads,
        dim,
        &pack.offsets,
        &state.qkv,
        &dense[block.distance.clone()],
        &state.mixed,
        &state.log_sums,
        &work.branch,
        &mut work.grad_qkv,
        &mut grad_dense[block.distance.clone()],
        &mut work.attention,
    );
    let branch = &mut work.grad_branch;
    linear_back(
        &state.norm1,
        &work.grad_qkv,
        dense,
        &block.qkv,
        &block.qkv_bias,
        dim,
        3 * dim,
        grad_dense,
        branch,
    );
    norm_back(branch, &state.input, &state.stats1, dense, &block.norm1, grad, grad_dense);
}
