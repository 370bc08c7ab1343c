//! The gradients of LambdaMART for a list with one relevant candidate (Burges 2010, section 7).

/// First and second derivative of the loss by one score.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Slope {
    pub(super) gradient: f64,
    pub(super) hessian: f64,
}

/// Slopes of every candidate. A pair of the relevant candidate `i` and another `j` counts
/// `|ΔNDCG| = |1/log2(1 + rank i) - 1/log2(1 + rank j)|` times its logistic loss `ln(1 + exp(s_j - s_i))`;
/// of equal scores the earlier candidate ranks first.
pub(super) fn slopes(scores: &[f32], relevant: usize) -> Vec<Slope> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let mut discounts = vec![0.0; scores.len()];
    for (position, &row) in order.iter().enumerate() {
        discounts[row] = 1.0 / ((position + 2) as f64).log2();
    }
    let mut slopes = vec![Slope::default(); scores.len()];
    for row in (0..scores.len()).filter(|&row| row != relevant) {
        let weight = (discounts[relevant] - discounts[row]).abs();
        let lead = f64::from(scores[relevant]) - f64::from(scores[row]);
        let rho = 1.0 / (1.0 + lead.exp());
        let (gradient, hessian) = (weight * rho, weight * rho * (1.0 - rho));
        slopes[row].gradient += gradient;
        slopes[relevant].gradient -= gradient;
        slopes[row].hessian += hessian;
        slopes[relevant].hessian += hessian;
    }
    slopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_a_list_worked_out_by_hand() {
        // Ranks 2, 1, 3; the third is relevant. With d = 1, 1/log2 3, 1/2 the swaps are worth
        // 1/log2 3 - 1/2 and 1 - 1/2, and the leads are -1 and -2.
        let found = slopes(&[1.0, 2.0, 0.0], 2);
        let (first, second) = (1.0 / 3f64.log2() - 0.5, 0.5);
        let (rho1, rho2) = (1.0 / (1.0 + (-1f64).exp()), 1.0 / (1.0 + (-2f64).exp()));
        let expected = [
            (first * rho1, first * rho1 * (1.0 - rho1)),
            (second * rho2, second * rho2 * (1.0 - rho2)),
            (-first * rho1 - second * rho2, first * rho1 * (1.0 - rho1) + second * rho2 * (1.0 - rho2)),
        ];
        for (found, (gradient, hessian)) in found.iter().zip(expected) {
            assert!((found.gradient - gradient).abs() < 1e-12 && (found.hessian - hessian).abs() < 1e-12);
        }
    }

    #[test]
    fn a_gradient_is_the_slope_of_the_pairwise_loss_with_fixed_ranks() {
        let scores = [0.3f32, -0.2, 0.9, 0.1];
        let relevant = 3;
        let rank = |row: usize| scores.iter().filter(|&&other| other > scores[row]).count() + 1;
        let discount = |row: usize| 1.0 / ((rank(row) + 1) as f64).log2();
        let loss = |at: &[f64]| -> f64 {
            (0..4)
                .filter(|&row| row != relevant)
                .map(|row| {
                    (discount(relevant) - discount(row)).abs() * (at[row] - at[relevant]).exp().ln_1p()
                })
                .sum()
        };
        let base = scores.map(f64::from);
        for (row, found) in slopes(&scores, relevant).iter().enumerate() {
            let moved = |by: f64| {
                let mut at = base;
                at[row] += by;
                loss(&at)
            };
            let step = 1e-4;
            let gradient = (moved(step) - moved(-step)) / (2.0 * step);
            let hessian = (moved(step) - 2.0 * moved(0.0) + moved(-step)) / (step * step);
            assert!((found.gradient - gradient).abs() < 1e-7, "{row}: {found:?} {gradient}");
            assert!((found.hessian - hessian).abs() < 1e-6, "{row}: {found:?} {hessian}");
        }
    }
}
