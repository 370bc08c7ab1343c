//! Softmax loss over shared negatives, without a `[tokens, items]` matrix.
//!
//! For hidden state `h` with target `t` and negatives `N` drawn uniformly without replacement from
//! `V` items, the loss is `-log softmax(h e_t, h e_n + log((V - 1) / |N|))`, the sampled softmax of
//! Bengio & Senecal 2008 with its proposal correction; a negative equal to the target is left out.
//! With every item as a negative it is the exact softmax.

use super::kernels;
use super::linalg::{View, product};

/// Tokens whose logits are held at once.
const CHUNK: usize = 128;

/// Negatives shared by a whole batch: the first `len` rows of the local item table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Negatives {
    pub(crate) len: usize,
    /// `log((V - 1) / len)`, 0 for the exact softmax.
    pub(crate) correction: f32,
}

/// Adds the gradients of the weighted sum of losses: `grad_hidden` is overwritten, `grad_table` is
/// added to. Returns the plain sum of losses.
///
/// `targets` are rows of the local table `[rows, dim]`; a target below `negatives.len` is itself one
/// of the negatives. `weights` has one factor a token.
#[allow(clippy::too_many_arguments, reason = "a kernel: every argument is one array")]
pub(crate) fn softmax(
    dim: usize,
    hidden: &[f32],
    targets: &[u32],
    table: &[f32],
    negatives: Negatives,
    weights: &[f32],
    grad_hidden: &mut Vec<f32>,
    grad_table: &mut [f32],
    logits: &mut Vec<f32>,
) -> f64 {
    let n = negatives.len;
    grad_hidden.clear();
    grad_hidden.resize(hidden.len(), 0.0);
    logits.resize(CHUNK * n, 0.0);
    let candidates = View::dense(&table[..n * dim], n, dim);
    let mut total = 0.0;
    let chunks = hidden.chunks(CHUNK * dim).zip(targets.chunks(CHUNK)).zip(weights.chunks(CHUNK));
    for (((hidden, targets), weights), grad_hidden) in chunks.zip(grad_hidden.chunks_mut(CHUNK * dim)) {
        let rows = targets.len();
        let states = View::dense(hidden, rows, dim);
        product(logits, n, states, candidates.t(), false, 1.0);
        let mut positive_grads = [0.0f32; CHUNK];
        for (r, (&target, row)) in targets.iter().zip(logits.chunks_exact_mut(n)).enumerate() {
            let target = target as usize;
            let state = &hidden[r * dim..][..dim];
            let positive = kernels::dot(state, &table[target * dim..][..dim]) - negatives.correction;
            if target < n {
                row[target] = f32::NEG_INFINITY;
            }
            let (max, sum) = kernels::exp_row(row);
            let top = max.max(positive);
            let (negative_mass, positive_mass) = (sum * (max - top).exp(), (positive - top).exp());
            let all = negative_mass + positive_mass;
            total += f64::from(all.ln() + top - positive);
            positive_grads[r] = weights[r] * (positive_mass / all - 1.0);
            kernels::scale(row, weights[r] * (max - top).exp() / all);
            if target < n {
                row[target] = 0.0;
            }
        }
        let grads = View::dense(logits, rows, n);
        product(grad_hidden, dim, grads, candidates, false, 1.0);
        product(grad_table, dim, grads.t(), states, true, 1.0);
        for (r, &target) in targets.iter().enumerate() {
            let at = target as usize * dim;
            let state = &hidden[r * dim..][..dim];
            kernels::add_scaled(&mut grad_hidden[r * dim..][..dim], &table[at..at + dim], positive_grads[r]);
            kernels::add_scaled(&mut grad_table[at..at + dim], state, positive_grads[r]);
        }
    }
    total
}
