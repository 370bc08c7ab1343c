//! Causal multi-head attention over packed sequences, in blocks of rows so that columns after the
//! diagonal are never computed. Probabilities are not kept: the way back recomputes them from the
//! saved log-sum-exp of each row.

use std::ops::Range;

use super::kernels;
use super::linalg::{View, product};

/// Rows of a block.
const BLOCK: usize = 64;

/// Buffers of one block.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    probabilities: Vec<f32>,
    grads: Vec<f32>,
}

/// One head of one sequence inside the packed arrays.
#[derive(Debug, Clone, Copy)]
struct Head {
    start: usize,
    len: usize,
    head: usize,
    dim: usize,
    head_dim: usize,
}

impl Head {
    /// Rows `rows` of query (0), key (1) or value (2).
    fn part<'a>(&self, qkv: &'a [f32], part: usize, first: usize, rows: usize) -> View<'a> {
        let at = (self.start + first) * 3 * self.dim + part * self.dim + self.head * self.head_dim;
        View::strided(&qkv[at..], rows, self.head_dim, 3 * self.dim)
    }

    fn part_at(&self, part: usize, first: usize) -> usize {
        (self.start + first) * 3 * self.dim + part * self.dim + self.head * self.head_dim
    }

    fn row_at(&self, first: usize) -> usize {
        (self.start + first) * self.dim + self.head * self.head_dim
    }

    /// Where the biases of the keys `0..=row` for the query in `row` are, in `[heads, max_len]`
    /// biases by distance, the largest distance first.
    fn biases(&self, max_len: usize, row: usize) -> Range<usize> {
        let end = (self.head + 1) * max_len;
        end - 1 - row..end
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    fn blocks(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.len).step_by(BLOCK).map(move |first| (first, BLOCK.min(self.len - first)))
    }
}

fn heads_of(offsets: &[usize], heads: usize, dim: usize) -> impl Iterator<Item = Head> + '_ {
    offsets.windows(2).flat_map(move |ends| {
        (0..heads).map(move |head| Head {
            start: ends[0],
            len: ends[1] - ends[0],
            head,
            dim,
            head_dim: dim / heads,
        })
    })
}

/// Fills `mixed` `[tokens, dim]` and `log_sums` `[heads * tokens]` from `qkv` `[tokens, 3 * dim]` and
/// the biases `distance` `[heads, max_len]`.
#[allow(clippy::too_many_arguments, reason = "a kernel: every argument is one array")]
pub(crate) fn forward(
    heads: usize,
    dim: usize,
    offsets: &[usize],
    qkv: &[f32],
    distance: &[f32],
    mixed: &mut [f32],
    log_sums: &mut [f32],
    scratch: &mut Scratch,
) {
    let tokens = qkv.len() / (3 * dim);
    let max_len = distance.len() / heads;
    for head in heads_of(offsets, heads, dim) {
        for (first, rows) in head.blocks() {
            let cols = first + rows;
            let p = &mut scratch.probabilities;
            p.resize(p.len().max(rows * cols), 0.0);
            let keys = head.part(qkv, 1, 0, cols);
            product(p, cols, head.part(qkv, 0, first, rows), keys.t(), false, head.scale());
            for (r, row) in p.chunks_exact_mut(cols).take(rows).enumerate() {
                let (seen, unseen) = row.split_at_mut(first + r + 1);
                kernels::add_scaled(seen, &distance[head.biases(max_len, first + r)], 1.0);
                let (max, sum) = kernels::exp_row(seen);
                kernels::scale(seen, 1.0 / sum);
                unseen.fill(0.0);
                log_sums[head.head * tokens + head.start + first + r] = max + sum.ln();
            }
            let weights = View::dense(p, rows, cols);
            let out = &mut mixed[head.row_at(first)..];
            product(out, dim, weights, head.part(qkv, 2, 0, cols), false, 1.0);
        }
    }
}

/// Way back of [`forward`]: adds to `grad_qkv` and `grad_distance` from the gradient of `mixed`.
#[allow(clippy::too_many_arguments, reason = "a kernel: every argument is one array")]
pub(crate) fn backward(
    heads: usize,
    dim: usize,
    offsets: &[usize],
    qkv: &[f32],
    distance: &[f32],
    mixed: &[f32],
    log_sums: &[f32],
    grad_mixed: &[f32],
    grad_qkv: &mut [f32],
    grad_distance: &mut [f32],
    scratch: &mut Scratch,
) {
    let tokens = qkv.len() / (3 * dim);
    let max_len = distance.len() / heads;
    for head in heads_of(offsets, heads, dim) {
        for (first, rows) in head.blocks() {
            let cols = first + rows;
            let Scratch { probabilities: p, grads: g } = scratch;
            p.resize(p.len().max(rows * cols), 0.0);
            g.resize(g.len().max(rows * cols), 0.0);
            let (queries, keys) = (head.part(qkv, 0, first, rows), head.part(qkv, 1, 0, cols));
            product(p, cols, queries, keys.t(), false, head.scale());
            let grad_out = View::strided(&grad_mixed[head.row_at(first)..], rows, head.head_dim, dim);
            product(g, cols, grad_out, head.part(qkv, 2, 0, cols).t(), false, 1.0);
            for (r, (p, g)) in p.chunks_exact_mut(cols).zip(g.chunks_exact_mut(cols)).take(rows).enumerate() {
                let (seen, unseen) = p.split_at_mut(first + r + 1);
                kernels::add_scaled(seen, &distance[head.biases(max_len, first + r)], 1.0);
                kernels::exp_shifted(seen, log_sums[head.head * tokens + head.start + first + r]);
                unseen.fill(0.0);
                let at = head.row_at(first + r);
                let inner = kernels::dot(&mixed[at..at + head.head_dim], &grad_mixed[at..at + head.head_dim]);
                kernels::softmax_back(p, g, inner);
                let biases = &mut grad_distance[head.biases(max_len, first + r)];
                kernels::add_scaled(biases, &g[..=first + r], 1.0);
            }
            let (p, g) = (View::dense(p, rows, cols), View::dense(g, rows, cols));
            let stride = 3 * dim;
            product(&mut grad_qkv[head.part_at(2, 0)..], stride, p.t(), grad_out, true, 1.0);
            product(&mut grad_qkv[head.part_at(0, first)..], stride, g, keys, true, head.scale());
            product(&mut grad_qkv[head.part_at(1, 0)..], stride, g.t(), queries, true, head.scale());
        }
    }
}
