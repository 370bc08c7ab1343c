//! Whether mass moved along ordered bins: one question instead of one a bin, so that far fewer answers settle it.
//!
//! The score of a bin is its ridit, the share of the mass below it plus half of its own (Bross 1958, "How to use ridit analysis"); the
//! statistic is the squared difference of mean scores over its variance, as in the trend test of Cochran (1954) and Armitage (1955).
//! For a shift of a normal variable it needs 1.05 times the answers of the best test (Wilcoxon's efficiency, 3 / pi).

use sanderling_types::Result;

use crate::noise::Channel;
use crate::test::{TestResult, check_baseline, check_len, pooled_estimate, total};

/// Fewest answers whose mean is taken for normal.
const MIN_ANSWERS: f64 = 30.0;

/// Tests answers behind a channel against a baseline of ordered bins. Arguments and errors are those of
/// [`crate::test::noised_counts_against_shares`].
///
/// # Errors
/// As there.
pub fn noised_trend_against_shares(
    noised: &[u64],
    shares: &[f64],
    num_devices_behind_shares: u64,
    channel: &Channel,
) -> Result<TestResult> {
    check_baseline(noised, shares, num_devices_behind_shares, channel)?;
    let (n, m) = (total(noised), num_devices_behind_shares as f64);
    if n < MIN_ANSWERS {
        return Ok(TestResult::new(0.0, 0));
    }
    let observed = shares_of(noised);
    let scores = ridits(shares);
    let estimated = pooled_estimate(&observed, shares, n, m, channel);
    let difference = mean(&scores, &observed) - mean(&scores, &channel.apply(shares));
    let of_answers = variance(&scores, &channel.apply(&estimated)) / n;
    let of_baseline = channel.gain().powi(2) * variance(&scores, &estimated) / m;
    Ok(squared_over_variance(difference, of_answers + of_baseline))
}

/// Tests the answers of two windows behind the same channel against each other.
///
/// # Errors
/// [`sanderling_types::Code::InvalidArgument`] for other lengths than the channel's.
pub fn noised_trend_against_counts(
    noised_a: &[u64],
    noised_b: &[u64],
    channel: &Channel,
) -> Result<TestResult> {
    check_len("noised counts of the first window", noised_a.len(), channel)?;
    check_len("noised counts of the second window", noised_b.len(), channel)?;
    let (n_a, n_b) = (total(noised_a), total(noised_b));
    if n_a.min(n_b) < MIN_ANSWERS {
        return Ok(TestResult::new(0.0, 0));
    }
    let together: Vec<u64> = noised_a.iter().zip(noised_b).map(|(a, b)| a.saturating_add(*b)).collect();
    let pooled = shares_of(&together);
    let scores = ridits(&pooled);
    let difference = mean(&scores, &shares_of(noised_a)) - mean(&scores, &shares_of(noised_b));
    Ok(squared_over_variance(difference, variance(&scores, &pooled) * (1.0 / n_a + 1.0 / n_b)))
}

/// The p-value of two tests of one question: twice the smaller (Bonferroni), at most 1. A test without degrees of freedom
/// was none.
#[must_use]
pub fn either(a: &TestResult, b: &TestResult) -> f64 {
    match (a.degrees_of_freedom, b.degrees_of_freedom) {
        (_, 0) => a.p_value,
        (0, _) => b.p_value,
        _ => (2.0 * a.p_value.min(b.p_value)).min(1.0),
    }
}

fn shares_of(counts: &[u64]) -> Vec<f64> {
    let sum = total(counts);
    counts.iter().map(|count| *count as f64 / sum).collect()
}

fn ridits(shares: &[f64]) -> Vec<f64> {
    let mut below = 0.0;
    let ridit = |share: &f64| {
        below += share;
        below - share / 2.0
    };
    shares.iter().map(ridit).collect()
}

fn mean(scores: &[f64], shares: &[f64]) -> f64 {
    scores.iter().zip(shares).map(|(score, share)| score * share).sum()
}

fn variance(scores: &[f64], shares: &[f64]) -> f64 {
    let mean = mean(scores, shares);
    scores.iter().zip(shares).map(|(score, share)| (score - mean).powi(2) * share).sum()
}

fn squared_over_variance(difference: f64, variance: f64) -> TestResult {
    if variance > 0.0 {
        TestResult::new(difference * difference / variance, 1)
    } else {
        TestResult::new(0.0, 0)
    }
}
