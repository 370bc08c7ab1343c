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
                // Whole lanes, in which keys that are not seen weigh nothing.
                let whole = &mut weights[..seen.next_multiple_of(LANES)];
                weighted_sum(&query[columns.clone()], &keys[columns.start * stride..], stride, 0, whole);
                add_scaled_of(&mut whole[..seen], &distances[self.max_len - seen..], 1.0);
                softmax(whole, seen, exp);
                weighted_sum(&whole[..seen], values, dim, columns.start, &mut out[columns]);
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
    let rows = x.len() / dim;
    let (rows_in_fours, columns_in_fours) = (rows / 4 * 4, dim / 4 * 4);
    for first in (0..rows_in_fours).step_by(4) {
        let four: [_; 4] = std::array::from_fn(|row| x[(first + row) * dim..][..dim].as_chunks::<4>().0);
        for part in 0..dim / 4 {
            let square = four.map(|row| row[part]);
            for column in 0..4 {
                let out = &mut out[(4 * part + column) * stride + first..][..4];
                out.copy_from_slice(&square.map(|row| row[column]));
            }
        }
    }
    for (row, x) in x.chunks_exact(dim).enumerate() {
        let done = if row < rows_in_fours { columns_in_fours } else { 0 };
        for column in done..dim {
            out[column * stride + row] = x[column];
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
    if rest.is_empty() {
        return;
    }
    let from = first + chunks.len() * LANES;
    for (weight, row) in weights.iter().zip(values.chunks_exact(dim)) {
        add_scaled_of(rest, &row[from..], *weight);
    }
}

/// Of the first `seen` elements; the others become 0.
#[inline(always)]
fn softmax(x: &mut [f32], seen: usize, exp: Exp) {
    x[seen..].fill(f32::NEG_INFINITY);
    let most = largest(x);
    x.iter_mut().for_each(|x| *x = exp.of(*x - most));
    x[seen..].fill(0.0);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The equations as they stand in the paper, in f64.
    fn expected(attention: &Attention, queries: &[f32], keys: &[f32], values: &[f32]) -> Vec<f64> {
        let (dim, head_dim) = (attention.dim, attention.dim / attention.heads);
        let (new, len) = (queries.len() / dim, keys.len() / dim);
        let mut out = vec![0.0; queries.len()];
        for (at, head) in (0..new).flat_map(|at| (0..attention.heads).map(move |head| (at, head))) {
            let seen = len - new + at + 1;
            let columns = head * head_dim..(head + 1) * head_dim;
            let product = |key: usize| -> f64 {
                let parts = columns
                    .clone()
                    .map(|c| f64::from(queries[at * dim + c]) * f64::from(keys[key * dim + c]));
                let distance = attention.distance[(head + 1) * attention.max_len - seen + key];
                (parts.sum::<f64>() + f64::from(distance)).exp()
            };
            let weights: Vec<f64> = (0..seen).map(product).collect();
            let sum: f64 = weights.iter().sum();
            for c in columns.clone() {
                let mixed =
                    weights.iter().enumerate().map(|(key, weight)| weight * f64::from(values[key * dim + c]));
                out[at * dim + c] = mixed.sum::<f64>() / sum;
            }
        }
        out
    }

    #[test]
    fn queries_see_what_comes_before_them_whatever_the_sizes() {
        let mut state = 3u32;
        let mut draw = |len: usize| -> Vec<f32> {
            let next = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            };
            (0..len).map(next).collect()
        };
        for (dim, heads) in [(1, 1), (6, 2), (20, 4), (64, 2), (35, 1)] {
            for (len, new) in [(1, 1), (3, 3), (4, 2), (17, 17), (33, 5), (50, 1)] {
                let attention = Attention { dim, heads, max_len: 50, distance: draw(50 * heads) };
                let (queries, keys, values) = (draw(new * dim), draw(len * dim), draw(len * dim));
                let found = attention.run(&queries, &keys, &values);
                let expected = expected(&attention, &queries, &keys, &values);
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    let error = (f64::from(*found) - expected).abs();
                    assert!(error < 1e-5, "{dim} in {heads} heads, {new} of {len}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_a_number_is_passed_on() {
        let attention = Attention { dim: 2, heads: 1, max_len: 4, distance: vec![0.0; 4] };
        let found = attention.run(&[f32::NAN, 1.0], &[1.0; 6], &[1.0; 6]);
        assert!(found.iter().all(|value| value.is_nan()), "{found:?}");
    }
}
