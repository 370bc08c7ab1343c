//! `ials`: matrix factorisation of implicit feedback by alternating least squares, with the fold-in of a
//! session as encoder.
//!
//! The objective is that of Hu, Koren and Volinsky 2008 in the form of Rendle et al. 2022 ("Revisiting
//! the performance of iALS on item recommendation benchmarks", equations 1 to 5 with `nu = 1`): for user
//! vectors `w` and item vectors `h`
//!
//! ```text
//! sum over chosen pairs (w·h - 1)²  +  unobserved · sum over all pairs (w·h)²
//!   + penalty · ( sum over users (chosen + unobserved · items) |w|²
//!               + sum over items (chosen + unobserved · users) |h|² )
//! ```

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use sanderling_core::onnx::FoldIn;

use super::{Model, Recommender, Vectors};
use crate::baselines::baskets::Baskets;
use crate::baselines::cholesky::Cholesky;
use crate::baselines::{Baseline, answer};
use crate::metrics::mean_ndcg10;
use crate::recipe::Recipe;
use crate::sequence::linalg::{View, product};
use crate::split::Split;

/// Passes over users and items.
const EPOCHS: usize = 12;
/// Deviation of the first item vectors, times the root of their length.
const INIT: f32 = 0.1;
/// Penalties to choose from at the first weight of unobserved pairs.
const PENALTIES: [f32; 4] = [0.01, 0.003, 0.03, 0.1];
/// Weights of unobserved pairs to choose from at the best penalty.
const UNOBSERVED: [f32; 4] = [0.1, 0.03, 0.3, 1.0];
/// Longest history that is folded in, unless the recipe says otherwise: the order does not matter.
const MAX_HISTORY: usize = 500;
/// Steps of the packed fold-in; what is left of the exact solution is under what packing costs.
const STEPS: usize = 10;

/// Hyper-parameters of a fit.
#[derive(Debug, Clone, Copy)]
struct Options {
    dim: usize,
    unobserved: f32,
    penalty: f32,
    seed: u64,
}

/// Item vectors in the basis in which the fold-in of an empty session is the identity, see [`whiten`].
#[derive(Debug, Clone)]
struct Ials {
    options: Options,
    max_history: usize,
    /// `[num_items, dim]`.
    items: Vec<f32>,
    /// `[dim, dim]`: what each item of a session adds to the penalty.
    shrink: Vec<f32>,
}

/// Fits with the penalty and the weight of unobserved pairs that have the best validation NDCG@10, one
/// after the other.
pub(super) fn fit(split: &Split, recipe: &Recipe) -> Model {
    let baskets = Baskets::new(split);
    let cases = split.choosing_cases();
    let max_history = recipe.model.max_session_len.unwrap_or(MAX_HISTORY);
    let mut best: Option<(f64, Ials)> = None;
    let mut attempt = |penalty: f32, unobserved: f32| {
        let options = Options { dim: recipe.model.dim, unobserved, penalty, seed: recipe.seed };
        let fitted = Ials::fit(&baskets, options, max_history);
        let gain = mean_ndcg10(&answer(&fitted, split, &cases));
        if best.as_ref().is_none_or(|(most, _)| gain > *most) {
            best = Some((gain, fitted));
        }
        best.as_ref().map_or(options, |(_, best)| best.options)
    };
    let chosen = PENALTIES.map(|penalty| attempt(penalty, UNOBSERVED[0]))[PENALTIES.len() - 1];
    for unobserved in &UNOBSERVED[1..] {
        attempt(chosen.penalty, *unobserved);
    }
    // Unwrap safety: there are penalties to try.
    let (_, fitted) = best.expect("a fit");
    let ndcg10_f32 = mean_ndcg10(&answer(&fitted, split, &split.measuring_cases()));
    fitted.into_model(ndcg10_f32)
}

impl Ials {
    fn fit(baskets: &Baskets, options: Options, max_history: usize) -> Self {
        let dim = options.dim;
        let num_users = baskets.baskets().len();
        let mut rng = ChaCha20Rng::seed_from_u64(options.seed);
        let spread = INIT * (12.0 / dim as f32).sqrt();
        let mut draw = || ((rng.next_u32() >> 8) as f32 / (1u32 << 24) as f32 - 0.5) * spread;
        let mut items: Vec<f32> = (0..baskets.num_items() * dim).map(|_| draw()).collect();
        let mut users = vec![0.0; num_users * dim];
        for _ in 0..EPOCHS {
            solve_all(&mut users, &items, |user| &baskets.baskets()[user], options);
            solve_all(&mut items, &users, |item| baskets.users(item as u32), options);
        }
        let (items, shrink) = whiten(&items, options);
        Self { options, max_history, items, shrink }
    }

    fn into_model(self, ndcg10_f32: f64) -> Model {
        let Options { dim, unobserved, penalty, .. } = self.options;
        let encoder = FoldIn { dim, shrink: self.shrink, steps: STEPS }.to_onnx();
        Model {
            name: Recommender::Ials.as_str().to_owned(),
            vectors: Some(Vectors { encoder, encoder_bits: 32, narrowed: None, rows: self.items, dim }),
            max_session_len: self.max_history,
            ndcg10_f32,
            settings: format!("{dim} dimensions, unobserved {unobserved}, penalty {penalty}"),
            ..Model::default()
        }
    }

    /// The exact fold-in of rows: `(I + XᵀX + len · shrink) q = Xᵀ1`.
    fn query(&self, history: &[u32]) -> Vec<f32> {
        let dim = self.options.dim;
        let mut base: Vec<f32> = self.shrink.iter().map(|x| x * history.len() as f32).collect();
        add_to_diagonal(&mut base, dim, 1.0);
        let mut query = vec![0.0; dim];
        solve_one(&mut query, &base, &gathered(&self.items, history, dim));
        query
    }
}

impl Baseline for Ials {
    fn name(&self) -> &'static str {
        "ials"
    }

    fn score(&self, history: &[u32], scores: &mut [f32]) {
        let query = self.query(&history[history.len().saturating_sub(self.max_history)..]);
        let (dim, num_items) = (self.options.dim, scores.len());
        let items = View::dense(&self.items, num_items, dim);
        product(scores, 1, items, View::dense(&query, dim, 1), false, 1.0);
    }
}

/// Every vector of one side, given the other side's: row `i` of `out` from those that `lists(i)` names.
fn solve_all<'a>(
    out: &mut [f32],
    other: &[f32],
    lists: impl Fn(usize) -> &'a [u32] + Sync,
    options: Options,
) {
    let dim = options.dim;
    let base = unobserved_part(other, options);
    out.par_chunks_mut(dim).enumerate().for_each(|(row, out)| {
        let list = lists(row);
        let mut base = base.clone();
        add_to_diagonal(&mut base, dim, options.penalty * list.len() as f32);
        solve_one(out, &base, &gathered(other, list, dim));
    });
}

/// What all pairs and the penalty on them add to the normal equations: `[dim, dim]`.
fn unobserved_part(other: &[f32], options: Options) -> Vec<f32> {
    let dim = options.dim;
    let num_rows = other.len() / dim;
    let rows = View::dense(other, num_rows, dim);
    let mut base = vec![0.0; dim * dim];
    product(&mut base, dim, rows.t(), rows, false, options.unobserved);
    add_to_diagonal(&mut base, dim, options.penalty * options.unobserved * num_rows as f32);
    base
}

/// Solves `(base + XᵀX) out = Xᵀ1` for rows `X` `[len, dim]`; zeros without rows.
fn solve_one(out: &mut [f32], base: &[f32], rows: &[f32]) {
    let dim = out.len();
    out.fill(0.0);
    rows.chunks_exact(dim).for_each(|row| out.iter_mut().zip(row).for_each(|(sum, x)| *sum += x));
    let mut matrix = base.to_vec();
    let view = View::dense(rows, rows.len() / dim, dim);
    product(&mut matrix, dim, view.t(), view, true, 1.0);
    match Cholesky::factor(matrix, dim) {
        Some(factor) => factor.solve(out, 1),
        // Vectors of zeros say nothing; the penalty is too small for what f32 resolves.
        None => out.fill(0.0),
    }
}

fn gathered(vectors: &[f32], list: &[u32], dim: usize) -> Vec<f32> {
    list.iter().flat_map(|&row| &vectors[row as usize * dim..][..dim]).copied().collect()
}

fn add_to_diagonal(matrix: &mut [f32], dim: usize, value: f32) {
    (0..dim).for_each(|i| matrix[i * dim + i] += value);
}

/// Item vectors `L⁻¹ h` for `L Lᵀ` = the normal equations of an empty session, and what an item of a
/// session adds to the penalty in that basis, `penalty · L⁻¹ L⁻ᵀ`. Scores stay what they are, but the
/// fold-in of `len` items differs from the identity by little, so that few conjugate gradient steps
/// solve it.
fn whiten(items: &[f32], options: Options) -> (Vec<f32>, Vec<f32>) {
    let dim = options.dim;
    let num_items = items.len() / dim;
    let Some(factor) = Cholesky::factor(unobserved_part(items, options), dim) else {
        return (vec![0.0; items.len()], vec![0.0; dim * dim]);
    };
    let mut turned = transposed(items, num_items, dim);
    factor.solve_transposed(&mut turned, num_items);
    let mut inverse = vec![0.0; dim * dim];
    add_to_diagonal(&mut inverse, dim, 1.0);
    factor.solve_transposed(&mut inverse, dim);
    let view = View::dense(&inverse, dim, dim);
    let mut shrink = vec![0.0; dim * dim];
    product(&mut shrink, dim, view, view.t(), false, options.penalty);
    (transposed(&turned, dim, num_items), shrink)
}

fn transposed(matrix: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..cols).flat_map(|col| (0..rows).map(move |row| matrix[row * cols + col])).collect()
}

#[cfg(test)]
mod tests {
    use sanderling_core::{Runtime, SlimRuntime};
    use sanderling_types::{FileRole, RuntimeKind, Shapes, TimeKind};

    use super::*;
    use crate::baselines::tests::split_of;

    /// Forty users in two circles, who choose from their own half of twenty items.
    fn lists() -> Vec<Vec<u32>> {
        (0..40u32)
            .map(|user| (0..5).map(|at| (user % 2) * 10 + (user * 3 + at * at) % 10).collect())
            .collect()
    }

    fn baskets() -> Baskets {
        let lists = lists();
        Baskets::new(&split_of(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>(), 20, TimeKind::Order))
    }

    const OPTIONS: Options = Options { dim: 8, unobserved: 0.2, penalty: 0.02, seed: 5 };

    /// The objective of the module's documentation, term by term.
    fn loss(baskets: &Baskets, users: &[f32], items: &[f32], options: Options) -> f64 {
        let Options { dim, unobserved, penalty, .. } = options;
        let row = |vectors: &[f32], at: usize| -> Vec<f64> {
            vectors[at * dim..][..dim].iter().map(|&x| f64::from(x)).collect()
        };
        let (num_users, num_items) = (users.len() / dim, items.len() / dim);
        let (unobserved, penalty) = (f64::from(unobserved), f64::from(penalty));
        let squared = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>();
        let mut sum = 0.0;
        for (user, basket) in baskets.baskets().iter().enumerate() {
            let w = row(users, user);
            for item in 0..num_items {
                let dot: f64 = w.iter().zip(row(items, item)).map(|(a, b)| a * b).sum();
                let chosen = f64::from(u8::from(basket.contains(&(item as u32))));
                sum += chosen * (dot - 1.0).powi(2) + unobserved * dot * dot;
            }
            sum += penalty * (basket.len() as f64 + unobserved * num_items as f64) * squared(&w);
        }
        for item in 0..num_items {
            let chosen = baskets.users(item as u32).len() as f64;
            sum += penalty * (chosen + unobserved * num_users as f64) * squared(&row(items, item));
        }
        sum
    }

    #[test]
    fn each_half_of_an_epoch_is_at_the_minimum_of_the_objective() {
        let baskets = baskets();
        let mut items: Vec<f32> = (0..20 * 8).map(|at| ((at * 37 % 101) as f32 - 50.0) / 200.0).collect();
        let mut users = vec![0.0; 40 * 8];
        for half in 0..6 {
            if half % 2 == 0 {
                solve_all(&mut users, &items, |user| &baskets.baskets()[user], OPTIONS);
            } else {
                solve_all(&mut items, &users, |item| baskets.users(item as u32), OPTIONS);
            }
            let least = loss(&baskets, &users, &items, OPTIONS);
            for at in (0..160).step_by(7) {
                for step in [-0.01f32, 0.01] {
                    let moved = |vectors: &[f32]| {
                        let mut vectors = vectors.to_vec();
                        vectors[at] += step;
                        vectors
                    };
                    let other = match half % 2 {
                        0 => loss(&baskets, &moved(&users), &items, OPTIONS),
                        _ => loss(&baskets, &users, &moved(&items), OPTIONS),
                    };
                    assert!(other > least - 1e-6, "half {half}: element {at} should move by {step}");
                }
            }
        }
    }

    #[test]
    fn users_are_led_to_their_own_half_in_any_basis() {
        let baskets = baskets();
        let fitted = Ials::fit(&baskets, OPTIONS, 100);
        let mut scores = vec![0.0; 20];
        fitted.score(&[1, 2, 5], &mut scores);
        let mean = |range: std::ops::Range<usize>| range.map(|at| scores[at]).sum::<f32>() / 10.0;
        assert!(mean(0..10) > 3.0 * mean(10..20).abs(), "{scores:?}");
        // The same by the normal equations of the vectors as they were fitted.
        let mut items: Vec<f32> = (0..20 * 8).map(|at| ((at * 37 % 101) as f32 - 50.0) / 200.0).collect();
        let mut users = vec![0.0; 40 * 8];
        for _ in 0..3 {
            solve_all(&mut users, &items, |user| &baskets.baskets()[user], OPTIONS);
            solve_all(&mut items, &users, |item| baskets.users(item as u32), OPTIONS);
        }
        let (white, shrink) = whiten(&items, OPTIONS);
        let fitted = Ials { options: OPTIONS, max_history: 9, items: white, shrink };
        fitted.score(&[1, 2, 5], &mut scores);
        let mut base = unobserved_part(&items, OPTIONS);
        add_to_diagonal(&mut base, 8, OPTIONS.penalty * 3.0);
        let mut w = vec![0.0; 8];
        solve_one(&mut w, &base, &gathered(&items, &[1, 2, 5], 8));
        for (item, score) in scores.iter().enumerate() {
            let expected: f32 = items[item * 8..][..8].iter().zip(&w).map(|(a, b)| a * b).sum();
            assert!((score - expected).abs() < 1e-4, "item {item}: {score}, not {expected}");
        }
    }

    #[test]
    fn the_packed_fold_in_is_the_exact_one() {
        let fitted = Ials::fit(&baskets(), OPTIONS, 100);
        let onnx = FoldIn { dim: 8, shrink: fitted.shrink.clone(), steps: STEPS }.to_onnx();
        let shapes = Shapes { dim: 8, num_features: 1, num_items: 20 };
        let encoder =
            SlimRuntime.scorer(&onnx, FileRole::Encoder, &shapes, RuntimeKind::Slim).expect("is admitted");
        for history in [vec![3], vec![1, 2, 5], (0..20).collect(), vec![7; 60]] {
            let rows = gathered(&fitted.items, &history, 8);
            let query = encoder.run(&rows, &[1, history.len(), 8]).expect("runs");
            let exact = fitted.query(&history);
            let size = exact.iter().map(|x| x * x).sum::<f32>().sqrt();
            let off = query.iter().zip(&exact).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
            assert!(off < 1e-3 * size, "{history:?}: off by {off} of {size}");
        }
        let zeros = encoder.run(&[0.0; 16], &[1, 2, 8]).expect("runs");
        assert!(zeros.iter().all(|x| *x == 0.0), "nothing in, nothing out: {zeros:?}");
    }
}
