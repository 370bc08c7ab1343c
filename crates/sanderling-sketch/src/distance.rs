//! How far apart two distributions over the same bins are.
//!
//! Every function takes shares `[num_bins]` that need not be clean: negative shares (debiased ones
//! can be) count as 0, the rest is scaled to sum to 1, and a shorter slice is read as if it were
//! padded with zeros. Without any mass on one side the result is NaN.

use crate::noise::Estimate;

/// What [`psi`] takes an empty bin for, so that it has a logarithm; a millionth of the smallest share where that is no larger.
pub const PSI_EMPTY: f64 = 1e-4;

/// Smallest baseline share that [`effect`] divides by: rarer bins count as if they were this
/// large, so that a handful of answers in an unheard-of bin is not an infinite effect.
pub const EFFECT_SHARE_FLOOR: f64 = 0.01;

/// Population stability index: `sum((p - q) * ln(p / q))`, natural logarithm, empty bins as [`PSI_EMPTY`]. 0 for equal shares, no
/// upper bound; symmetric.
#[must_use]
pub fn psi(p: &[f64], q: &[f64]) -> f64 {
    let (p, q) = clean_pair(p, q);
    let empty = |shares: &[f64]| {
        let least = shares.iter().copied().filter(|share| *share != 0.0).fold(f64::INFINITY, f64::min);
        if least <= PSI_EMPTY { least / 1e6 } else { PSI_EMPTY }
    };
    let (empty_p, empty_q) = (empty(&p), empty(&q));
    let filled = |share: f64, empty: f64| if share == 0.0 { empty } else { share };
    let used = p.iter().zip(&q).filter(|(p, q)| **p != 0.0 || **q != 0.0);
    used.map(|(p, q)| (filled(*p, empty_p), filled(*q, empty_q))).map(|(p, q)| (p - q) * (p / q).ln()).sum()
}

/// Jensen-Shannon distance: the square root of the Jensen-Shannon divergence with logarithms to
/// base 2. From 0 (equal) to 1 (disjoint); a metric.
#[must_use]
pub fn jensen_shannon(p: &[f64], q: &[f64]) -> f64 {
    let (p, q) = clean_pair(p, q);
    let term = |share: f64, middle: f64| if share == 0.0 { 0.0 } else { share * (share / middle).log2() };
    let divergence: f64 = p
        .iter()
        .zip(&q)
        .map(|(p, q)| {
            let middle = f64::midpoint(*p, *q);
            f64::midpoint(term(*p, middle), term(*q, middle))
        })
        .sum();
    // Rounding can leave a divergence of equal shares just under 0; `max` would hide NaN.
    if divergence < 0.0 { 0.0 } else { divergence.sqrt() }
}

/// First Wasserstein distance with neighbouring bins one apart: how many bins an average unit of
/// mass has to move, from 0 to `num_bins - 1`. Only meaningful where bins have an order.
#[must_use]
pub fn wasserstein_bins(p: &[f64], q: &[f64]) -> f64 {
    let (p, q) = clean_pair(p, q);
    let steps = p.len().saturating_sub(1);
    let mut ahead = 0.0;
    let mut moved = 0.0;
    for (p, q) in p.iter().zip(&q).take(steps) {
        ahead += p - q;
        moved += f64::abs(ahead);
    }
    moved
}

/// The Kolmogorov-Smirnov distance on bins: the largest difference of the cumulative shares, from 0 to 1. Only meaningful where bins
/// have an order.
#[must_use]
pub fn kolmogorov_smirnov(p: &[f64], q: &[f64]) -> f64 {
    let (p, q) = clean_pair(p, q);
    let mut ahead = 0.0_f64;
    let mut most = 0.0_f64;
    for (p, q) in p.iter().zip(&q) {
        ahead += p - q;
        // `max` would hide NaN.
        if ahead.is_nan() || ahead.abs() > most {
            most = ahead.abs();
        }
    }
    most
}

/// The part of the difference between two estimates that their standard errors do not explain, on
/// the scale of [`psi`] (for small differences both are the chi-squared divergence):
/// `sum((p - q)^2 - variance) / max(q, EFFECT_SHARE_FLOOR)`, not under 0.
///
/// `q` is the baseline, the variance that of both estimates. 0 where one side has no answers.
#[must_use]
pub fn effect(p: &Estimate, q: &Estimate) -> f64 {
    if p.num_answers == 0 || q.num_answers == 0 {
        return 0.0;
    }
    let errors = p.standard_errors.iter().zip(&q.standard_errors);
    let sum: f64 = (p.shares.iter().zip(&q.shares).zip(errors))
        .map(|((p, q), (error_p, error_q))| {
            let variance = error_p * error_p + error_q * error_q;
            ((p - q).powi(2) - variance) / q.max(EFFECT_SHARE_FLOOR)
        })
        .sum();
    sum.max(0.0)
}

/// Both distributions without negative shares, equally long, each summing to 1.
fn clean_pair(p: &[f64], q: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let num_bins = p.len().max(q.len());
    let clean = |shares: &[f64]| {
        let sum: f64 = shares.iter().map(|share| share.max(0.0)).sum();
        let padded = shares.iter().copied().chain(std::iter::repeat(0.0)).take(num_bins);
        padded.map(|share| share.max(0.0) / sum).collect::<Vec<_>>()
    };
    (clean(p), clean(q))
}
