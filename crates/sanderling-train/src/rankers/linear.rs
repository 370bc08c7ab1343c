//! The linear ranker, fitted by the listwise softmax loss (ListNet's top-one cross entropy, Cao et al.
//! 2007, eq. 4, with one relevant item a list).

use rayon::prelude::*;

use super::lists::{self, CandidateList};

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
    // The gradient of a feature that never varies in a list is zero, whatever it is divided by.
    let divisor = |d| if d > MIN_DEVIATION { d } else { 1.0 };
    let deviations: Vec<f64> =
        lists::deviations(useful.iter().copied(), num_features).into_iter().map(divisor).collect();
    let mut weights = vec![0.0f64; num_features];
    let (mut first, mut second) = (vec![0.0; num_features], vec![0.0; num_features]);
    for step in 1..=ITERATIONS {
        let gradient = gradient(&useful, &weights, &deviations);
        let (correct1, correct2) = (1.0 - 0.9f64.powi(step as i32), 1.0 - 0.99f64.powi(step as i32));
        for i in 0..num_features {
            let g = gradient[i] + ridge * weights[i];
            first[i] = 0.9 * first[i] + 0.1 * g;
            second[i] = 0.99 * second[i] + 0.01 * g * g;
            weights[i] -= RATE * (first[i] / correct1) / ((second[i] / correct2).sqrt() + 1e-12);
        }
    }
    Some(weights.iter().zip(&deviations).map(|(w, d)| (w / d) as f32).collect())
}

fn gradient(lists: &[&CandidateList], weights: &[f64], deviations: &[f64]) -> Vec<f64> {
    let n = weights.len();
    let scaled: Vec<f64> = weights.iter().zip(deviations).map(|(w, d)| w / d).collect();
    let parts: Vec<Vec<f64>> = lists
        .par_chunks(32)
        .map(|chunk| {
            let mut sum = vec![0.0; n];
            for list in chunk {
                let Some(relevant) = list.relevant else { continue };
                let rows = || list.features.chunks_exact(n);
                let logits: Vec<f64> =
                    rows().map(|row| row.iter().zip(&scaled).map(|(&x, w)| f64::from(x) * w).sum()).collect();
                let (_, errors) = softmax_loss(&logits, relevant);
                for (row, error) in rows().zip(errors) {
                    for i in 0..n {
                        sum[i] += error * f64::from(row[i]) / deviations[i];
                    }
                }
            }
            sum
        })
        .collect();
    let mut total = vec![0.0; n];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(total, part)| *total += part / lists.len() as f64);
    }
    total
}

/// Cross entropy of the softmax of `logits` against the relevant row, and its gradient.
pub(super) fn softmax_loss(logits: &[f64], relevant: usize) -> (f64, Vec<f64>) {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut errors: Vec<f64> = logits.iter().map(|logit| (logit - top).exp()).collect();
    let total: f64 = errors.iter().sum();
    errors.iter_mut().for_each(|mass| *mass /= total);
    errors[relevant] -= 1.0;
    (total.ln() - (logits[relevant] - top), errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_feature_that_decides() {
        let lists = super::super::choice::tests::lists(200, 1.0);
        let weights = fit(&lists.iter().collect::<Vec<_>>(), 3, 1e-3).expect("lists hold their items");
        assert!(weights[1] > 5.0 * weights[0].abs(), "{weights:?}");
        assert!(weights[2].abs() < 1e-4, "a constant feature decides nothing: {weights:?}");
    }

    #[test]
    fn nothing_is_learnt_from_lists_without_their_item() {
        let mut lists = super::super::choice::tests::lists(50, 1.0);
        lists.iter_mut().for_each(|list| list.relevant = None);
        assert_eq!(fit(&lists.iter().collect::<Vec<_>>(), 3, 1e-3), None);
    }
}
