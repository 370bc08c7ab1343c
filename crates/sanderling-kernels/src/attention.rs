//! Attention and layer norms.

use crate::math::{Exp, add_scaled_of, largest, sum_of};
use crate::simd::widest;

/// Causal attention with a bias by distance.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Elements of a query, key or value; all heads side by side.
    pub dim: usize,
    /// Divides `dim`.
    pub heads: usize,
    /// Longest sequence.
    pub max_len: usize,
    /// `[heads, max_len]`: what is added for a key at some distance before its query, the largest distance first, the
    /// query itself last.
    pub distance: Vec<f32>,
}

impl Attention {
    /// What the newest positions, `queries` `[new, dim]`, see of all, `keys` and `values` `[len, dim]`: `[new, dim]`.
    #[must_use]
    pub fn run(&self, queries: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; queries.len()];
        widest(
            #[inline(always)]
            || self.attend(queries, keys, values, &mut out),
        );
        out
    }

    #[inline(always)]
    fn attend(&self, queries: &[f32], keys: &[f32], values: &[f32], out: &mut [f32]) {
        let (dim, head_dim) = (self.dim, self.dim / self.heads);
        let (new, len) = (queries.len() / dim, keys.len() / dim);
        let stride = len.next_multiple_of(LANES);
        let keys = turned(keys, dim, stride);
        let mut weights = vec![0.0; stride];
        let exp = Exp::new();
        for (at, (query, out)) in queries.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).enumerate() {
            let seen = len - new + at + 1;
            for (head, distances) in self.distance.chunks_exact(self.max_len).enumerate() {
                let columns = head * head_dim..(head + 1) * head_dim;
                // Whole lanes: what is behind the keys that are seen is not looked at.
                let whole = &mut weights[..seen.next_multiple_of(LANES)];
                weighted_sum(&query[columns.clone()], &keys[columns.start * stride..], stride, 0, whole);
                let weights = &mut weights[..seen];
                add_scaled_of(weights, &distances[self.max_len - seen..], 1.0);
                softmax(weights, exp);
                weighted_sum(weights, values, dim, columns.start, &mut out[columns]);
            }
        }
    }
}

/// Columns whose sums stay in registers.
const LANES: usize = 16;

/// `[rows, dim]` as `[dim, stride]`, with zeros behind the rows: all keys are multiplied with an element of a query at once.
#[inline(always)]
fn turned(x: &[f32], dim: usize, stride: usize) -> Vec<f32> {
    let mut out = vec![0.0; dim * stride];
    for (row, x) in x.chunks_exact(dim).enumerate() {
        for (out, x) in out[row..].iter_mut().step_by(stride).zip(x) {
            *out = *x;
        }
    }
    out
}

/// Sums columns of `values` `[len, dim]` from `first` on, as many as `out` has, each row times its weight.
#[inline(always)]
fn weighted_sum(weights: &[f32], values: &[f32], dim: usize, first: usize, out: &mut [f32]) {
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    for (chunk, out) in chunks.iter_mut().enumerate() {
        let from = first + chunk * LANES;
        let mut sums = [0.0f32; LANES];
        for (weight, row) in weights.iter().zip(values.chunks_exact(dim)) {
            let (row, _) = row[from..].as_chunks::<LANES>();
            for lane in 0..LANES {
                sums[lane] += weight * row[0][lane];
            }
        }
        *out = sums;
    }
    let from = first + chunks.len() * LANES;
    for (weight, row) in weights.iter().zip(values.chunks_exact(dim)) {
        add_scaled_of(rest, &row[from..], *weight);
    }
}

#[inline(always)]
fn softmax(x: &mut [f32], exp: Exp) {
    let most = largest(x);
    x.iter_mut().for_each(|x| *x = exp.of(*x - most));
    let inverse = 1.0 / sum_of(x, |x| x);
    x.iter_mut().for_each(|x| *x *= inverse);
}

/// Layer normalisation of every row of `x` `[rows, dim]` (Ba, Kiros and Hinton 2016, equation 4); `gain` and `bias`
/// `[dim]`.
#[must_use]
pub fn normalise(x: &[f32], gain: &[f32], bias: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    let dim = gain.len();
    widest(
        #[inline(always)]
        || {
            for row in x.chunks_exact(dim) {
                let mean = sum_of(row, |x| x) / dim as f32;
                let variance = sum_of(row, |x| (x - mean) * (x - mean)) / dim as f32;
                let inverse = 1.0 / (variance + epsilon).sqrt();
                let parts = row.iter().zip(gain.iter().zip(bias));
                out.extend(parts.map(|(x, (gain, bias))| (x - mean) * inverse * gain + bias));
            }
        },
    );
    out
}
