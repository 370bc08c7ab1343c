//! The linear ranker, fitted by the listwise softmax loss (ListNet's top-one cross entropy, Cao et al.
//! 2007, eq. 4, with one relevant item a list).

use rayon::prelude::*;

use super::lists::{self, CandidateList, Example};
use crate::sequence::kernels;
use crate::sequence::linalg::{View, product};

const ITERATIONS: usize = 200;
const RATE: f64 = 0.05;
/// A feature that varies less within lists is a constant with rounding errors.
pub(super) const MIN_DEVIATION: f64 = 1e-9;

/// Weights of the raw features, by Adam on the mean loss over standardised ones; `None` when no list
/// holds its item. `ridge` pulls every standardised weight towards zero.
#[must_use]
pub fn fit(lists: &[&CandidateList], num_features: usize, ridge: f64) -> Option<Vec<f32>> {
    let useful = lists::with_item(lists);
    if useful.is_empty() {
        return None;
    }
    // A feature that never varies in a list becomes 0, and so do its gradient and its weight.
    let divisor = |d| if d > MIN_DEVIATION { (0.0, d) } else { (0.0, f64::INFINITY) };
    let scales: Vec<(f64, f64)> =
        lists::deviations(useful.iter().copied(), num_features).into_iter().map(divisor).collect();
    let examples = lists::examples(&useful, &scales);
    let mut weights = vec![0.0f64; num_features];
    let (mut first, mut second) = (vec![0.0; num_features], vec![0.0; num_features]);
    for step in 1..=ITERATIONS {
        let gradient = gradient(&examples, &weights);
        let (correct1, correct2) = (1.0 - 0.9f64.powi(step as i32), 1.0 - 0.99f64.powi(step as i32));
        for i in 0..num_features {
            let g = gradient[i] + ridge * weights[i];
            first[i] = 0.9 * first[i] + 0.1 * g;
            second[i] = 0.99 * second[i] + 0.01 * g * g;
            weights[i] -= RATE * (first[i] / correct1) / ((second[i] / correct2).sqrt() + 1e-12);
        }
    }
    Some(weights.iter().zip(&scales).map(|(w, (_, d))| (w / d) as f32).collect())
}

/// Gradient of the mean loss, added up in the order of the lists.
fn gradient(examples: &[Example], weights: &[f64]) -> Vec<f64> {
    let n = weights.len();
    let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
    let part = |chunk: &[Example]| {
        let mut sum = vec![0.0; n];
        for Example { features, relevant } in chunk {
            let rows = features.len() / n;
            let features = View::dense(features, rows, n);
            let mut logits = vec![0.0; rows];
            product(&mut logits, 1, features, View::dense(&weights, n, 1), false, 1.0);
            let (_, errors) = softmax_loss(logits, *relevant);
            product(&mut sum, 1, features.t(), View::dense(&errors, rows, 1), true, 1.0);
        }
        sum
    };
    let parts: Vec<Vec<f32>> = examples.par_chunks(32).map(part).collect();
    let mut total = vec![0.0; n];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(total, g)| *total += f64::from(g) / examples.len() as f64);
    }
    total
}

/// Cross entropy of the softmax of `logits` against the relevant row, and its gradient.
pub(super) fn softmax_loss(mut logits: Vec<f32>, relevant: usize) -> (f64, Vec<f32>) {
    let right = logits[relevant];
    let (top, total) = kernels::exp_row(&mut logits);
    kernels::scale(&mut logits, 1.0 / total);
    logits[relevant] -= 1.0;
    (f64::from(total.ln() - (right - top)), logits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_feature_that_decides() {
        let lists = super::super::choice::tests::lists(200, 1.0);
        let weights = fit(&lists.iter().collect::<Vec<_>>(), 3, 1e-3).expect("lists hold their items");
        assert!(weights[1] > 5.0 * weights[0].abs(), "{weights:?}");
        assert_eq!(weights[2], 0.0, "a constant feature decides nothing: {weights:?}");
    }

    #[test]
    fn nothing_is_learnt_from_lists_without_their_item() {
        let mut lists = super::super::choice::tests::lists(50, 1.0);
        lists.iter_mut().for_each(|list| list.relevant = None);
        assert_eq!(fit(&lists.iter().collect::<Vec<_>>(), 3, 1e-3), None);
    }
}
