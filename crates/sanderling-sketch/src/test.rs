//! Whether chance explains a difference: chi-squared tests through the channel, and Holm's
//! correction for testing many fields.

use sanderling_types::{Code, Error, Result};
use statrs::function::erf::erf_inv;
use statrs::function::gamma::checked_gamma_ur;

use crate::noise::Channel;

/// Fewest expected answers of a bin that is tested by itself; sparser bins are tested together.
pub const MIN_EXPECTED: f64 = 5.0;

/// Outcome of one test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TestResult {
    /// The chi-squared statistic, 0 or more.
    pub statistic: f64,
    /// Groups of bins minus one; 0 where there were too few answers to tell anything apart.
    pub degrees_of_freedom: u32,
    /// Probability of a statistic at least this large if nothing drifted; 1 without degrees of freedom.
    pub p_value: f64,
}

impl TestResult {
    pub(crate) fn new(statistic: f64, degrees_of_freedom: usize) -> Self {
        let statistic = statistic.max(0.0);
        let p_value = if degrees_of_freedom == 0 {
            1.0
        } else {
            chi_squared_tail(statistic, degrees_of_freedom as f64)
        };
        Self { statistic, degrees_of_freedom: degrees_of_freedom as u32, p_value }
    }
}

/// Tests answers behind a channel against a baseline.
///
/// The statistic is the quadratic form of the differences between observed shares and the
/// baseline pushed through the channel, weighted by the inverse of their covariance: the sampling
/// and noise of the answers plus the sampling of the baseline itself. Where the baseline is known
/// exactly (very many devices) this is Pearson's chi-squared. Bins that are expected to get fewer
/// than [`MIN_EXPECTED`] answers are pooled.
///
/// `noised` and `shares` are `[num_bins]`; `num_devices_behind_shares` counts the independent
/// devices (users) whose mean `shares` are. That a device's own spread is at most the
/// multinomial one makes the test err on the quiet side.
///
/// # Errors
/// [`Code::InvalidArgument`] for other lengths than the channel's, for shares that are negative
/// or do not sum to 1, and for a baseline without devices.
pub fn noised_counts_against_shares(
    noised: &[u64],
    shares: &[f64],
    num_devices_behind_shares: u64,
    channel: &Channel,
) -> Result<TestResult> {
    check_baseline(noised, shares, num_devices_behind_shares, channel)?;
    let (n, m) = (total(noised), num_devices_behind_shares as f64);
    let expected = channel.apply(shares);
    let groups = pool(&expected, n);
    if groups.len() < 2 {
        return Ok(TestResult::new(0.0, 0));
    }
    let gather =
        |values: &[f64]| groups.iter().map(|g| g.iter().map(|bin| values[*bin]).sum()).collect::<Vec<f64>>();
    let observed: Vec<f64> = noised.iter().map(|count| *count as f64 / n).collect();
    let estimated = gather(&pooled_estimate(&observed, shares, n, m, channel));
    let (observed, expected) = (gather(&observed), gather(&expected));
    let group_lie: Vec<f64> = groups.iter().map(|g| g.len() as f64 * channel.lie_probability()).collect();
    let noised_estimate: Vec<f64> =
        estimated.iter().zip(&group_lie).map(|(share, lie)| lie + channel.gain() * share).collect();
    let rank = groups.len() - 1;
    let covariance = |i: usize, j: usize| {
        multinomial_covariance(&noised_estimate, i, j) / n
            + channel.gain().powi(2) * multinomial_covariance(&estimated, i, j) / m
    };
    let difference: Vec<f64> = observed.iter().zip(&expected).take(rank).map(|(o, e)| o - e).collect();
    Ok(TestResult::new(inverse_quadratic_form(&difference, &covariance), rank))
}

/// Tests the answers of two windows behind the same channel against each other: Pearson's test of
/// homogeneity on the noised counts, which the channel leaves equally distributed exactly when the
/// true ones are. Bins that either window expects fewer than [`MIN_EXPECTED`] answers in are pooled.
///
/// # Errors
/// [`Code::InvalidArgument`] for other lengths than the channel's.
pub fn noised_counts_against_counts(
    noised_a: &[u64],
    noised_b: &[u64],
    channel: &Channel,
) -> Result<TestResult> {
    check_len("noised counts of the first window", noised_a.len(), channel)?;
    check_len("noised counts of the second window", noised_b.len(), channel)?;
    let (n_a, n_b) = (total(noised_a), total(noised_b));
    if n_a == 0.0 || n_b == 0.0 {
        return Ok(TestResult::new(0.0, 0));
    }
    let shares: Vec<f64> =
        noised_a.iter().zip(noised_b).map(|(a, b)| (*a as f64 + *b as f64) / (n_a + n_b)).collect();
    let groups = pool(&shares, n_a.min(n_b));
    if groups.len() < 2 {
        return Ok(TestResult::new(0.0, 0));
    }
    let mut statistic = 0.0;
    for group in &groups {
        let share: f64 = group.iter().map(|bin| shares[*bin]).sum();
        for (counts, n) in [(noised_a, n_a), (noised_b, n_b)] {
            let count: f64 = group.iter().map(|bin| counts[*bin] as f64).sum();
            statistic += (count - n * share).powi(2) / (n * share);
        }
    }
    Ok(TestResult::new(statistic, groups.len() - 1))
}

/// Holm's step-down adjustment, in the order of the input: comparing each adjusted value with
/// alpha keeps the probability of any false alarm at most alpha. A NaN counts as 1.
#[must_use]
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let clean: Vec<f64> = p_values.iter().map(|p| if p.is_nan() { 1.0 } else { p.clamp(0.0, 1.0) }).collect();
    let mut order: Vec<usize> = (0..clean.len()).collect();
    order.sort_by(|a, b| clean[*a].total_cmp(&clean[*b]));
    let mut adjusted = vec![1.0; clean.len()];
    let mut floor = 0.0_f64;
    for (rank, index) in order.into_iter().enumerate() {
        floor = floor.max(clean[index] * (clean.len() - rank) as f64).min(1.0);
        adjusted[index] = floor;
    }
    adjusted
}

/// What a standard normal variable exceeds with probability `alpha`, over 0 and under 1: 2.326 for 0.01.
#[must_use]
pub fn normal_bound(alpha: f64) -> f64 {
    std::f64::consts::SQRT_2 * erf_inv(1.0 - 2.0 * alpha)
}

/// Probability that a chi-squared variable exceeds `statistic` (0 or more).
fn chi_squared_tail(statistic: f64, degrees_of_freedom: f64) -> f64 {
    if statistic <= 0.0 {
        return 1.0;
    }
    // The arguments are in the domain; an overflow inside can only come from a huge statistic.
    checked_gamma_ur(degrees_of_freedom / 2.0, statistic / 2.0).unwrap_or(0.0).clamp(0.0, 1.0)
}

pub(crate) fn total(counts: &[u64]) -> f64 {
    counts.iter().map(|count| *count as f64).sum()
}

pub(crate) fn check_baseline(
    noised: &[u64],
    shares: &[f64],
    num_devices: u64,
    channel: &Channel,
) -> Result<()> {
    check_len("noised counts", noised.len(), channel)?;
    check_len("shares", shares.len(), channel)?;
    let sum: f64 = shares.iter().sum();
    if shares.iter().any(|share| !(0.0..=1.0).contains(share)) || (sum - 1.0).abs() > 1e-6 {
        return Err(Error::new(Code::InvalidArgument, "the shares are not a distribution")
            .expected("shares from 0 to 1 that sum to 1")
            .found(format!("a sum of {sum}")));
    }
    if num_devices == 0 {
        return Err(Error::new(Code::InvalidArgument, "the shares have no devices behind them")
            .expected("at least 1 device"));
    }
    Ok(())
}

pub(crate) fn check_len(what: &str, len: usize, channel: &Channel) -> Result<()> {
    if len == channel.num_bins() {
        return Ok(());
    }
    Err(Error::new(Code::InvalidArgument, format!("{what} do not match the channel"))
        .expected(format!("{} bins", channel.num_bins()))
        .found(format!("{len} bins")))
}

/// The best guess of the common distribution if nothing drifted: baseline and debiased answers,
/// each weighted by how much it knows. It gives bins that the baseline missed their variance.
pub(crate) fn pooled_estimate(
    observed: &[f64],
    shares: &[f64],
    n: f64,
    m: f64,
    channel: &Channel,
) -> Vec<f64> {
    let weight = n * channel.gain().powi(2);
    let debiased = observed.iter().map(|share| (share - channel.lie_probability()) / channel.gain());
    let mixed: Vec<f64> = debiased
        .zip(shares)
        .map(|(answer, share)| ((weight * answer + m * share) / (weight + m)).max(0.0))
        .collect();
    let sum: f64 = mixed.iter().sum();
    mixed.iter().map(|share| share / sum).collect()
}

fn multinomial_covariance(shares: &[f64], i: usize, j: usize) -> f64 {
    if i == j { shares[i] * (1.0 - shares[i]) } else { -shares[i] * shares[j] }
}

/// Groups of bins with at least [`MIN_EXPECTED`] expected answers each: every dense bin by itself,
/// the sparse ones together with as many of the next sparsest as it takes. Bins without any share
/// join the sparse ones. Deterministic: ties go by bin.
pub(crate) fn pool(shares: &[f64], n: f64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by(|a, b| shares[*a].total_cmp(&shares[*b]).then(a.cmp(b)));
    let mut sparse = Vec::new();
    let mut expected = 0.0;
    let mut dense = Vec::new();
    for bin in order {
        let alone = n * shares[bin];
        let sparse_is_open = !sparse.is_empty() && expected < MIN_EXPECTED;
        if alone < MIN_EXPECTED || sparse_is_open {
            sparse.push(bin);
            expected += alone;
        } else {
            dense.push(vec![bin]);
        }
    }
    if !sparse.is_empty() {
        dense.push(sparse);
    }
    dense
}

/// `difference' * inverse(covariance) * difference` by Cholesky factorisation; a direction without
/// variance adds nothing.
pub(crate) fn inverse_quadratic_form(difference: &[f64], covariance: &dyn Fn(usize, usize) -> f64) -> f64 {
    let rank = difference.len();
    let mut factor = vec![vec![0.0; rank]; rank];
    let mut solved = vec![0.0; rank];
    for i in 0..rank {
        for j in 0..=i {
            let product: f64 = (0..j).map(|k| factor[i][k] * factor[j][k]).sum();
            let rest = covariance(i, j) - product;
            factor[i][j] = if i == j {
                rest.max(0.0).sqrt()
            } else if factor[j][j] > 0.0 {
                rest / factor[j][j]
            } else {
                0.0
            };
        }
        let product: f64 = (0..i).map(|k| factor[i][k] * solved[k]).sum();
        solved[i] = if factor[i][i] > 0.0 { (difference[i] - product) / factor[i][i] } else { 0.0 };
    }
    solved.iter().map(|value| value * value).sum()
}
