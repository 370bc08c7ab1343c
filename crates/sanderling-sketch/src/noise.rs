//! The randomness that protects a device: k-ary randomised response and unbiased integer draws.
//!
//! The mechanism is that of Kairouz, Bonawitz and Ramage, "Discrete distribution estimation under
//! local privacy" (2016): the true bin is kept with probability `e^epsilon / (e^epsilon + k - 1)`,
//! else one of the `k - 1` other bins is sent, each equally likely. Probabilities are ratios of
//! integers and every draw rejects instead of taking a remainder, so the distribution is the
//! declared one exactly, on every platform.

use chacha20::rand_core::{Rng as _, SeedableRng};
use sanderling_types::{Code, Error, Result, float_text};

/// The generator of every draw: ChaCha with 20 rounds, the same stream on every platform.
pub type Rng = chacha20::ChaCha20Rng;

/// The generator of a seed. On a device the seed comes from the platform's secure random source
/// and is used for one report only.
#[must_use]
pub fn rng_from_seed(seed: [u8; 32]) -> Rng {
    Rng::from_seed(seed)
}

/// Weight of each bin that is not the true one; the true one weighs `floor(e^epsilon * UNIT)`.
const UNIT: u64 = 1 << 32;
/// Largest budget: beyond it a report would hide next to nothing.
const MAX_EPSILON: f64 = 10.0;
/// Most bins of a channel; a bin is a `u16` in a report.
const MAX_BINS: usize = 1 << 16;

/// A k-ary randomised response channel for one field.
///
/// For inputs `a`, `b` and any output `o`: `P(o|a) <= e^epsilon * P(o|b)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    epsilon: f64,
    num_bins: usize,
    /// Weight of the true bin, in units of 1 / `total`.
    keep: u64,
    total: u64,
}

/// Shares with the noise of a channel taken out.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    /// Unbiased shares `[num_bins]`, summing to 1; single ones may be negative or over 1. All 0
    /// where there are no answers.
    pub shares: Vec<f64>,
    /// Standard errors of `shares`, `[num_bins]`; infinite where there are no answers.
    pub standard_errors: Vec<f64>,
    /// Number of answers behind the shares.
    pub num_answers: u64,
}

impl Estimate {
    /// Shares `[num_bins]` that were counted without noise on `num_answers` devices, with the
    /// standard errors of binomial shares.
    #[must_use]
    pub fn counted(shares: &[f64], num_answers: u64) -> Self {
        let standard_error =
            |share: &f64| (share * (1.0 - share)).max(0.0).sqrt() / (num_answers as f64).sqrt();
        Self {
            shares: shares.to_vec(),
            standard_errors: shares.iter().map(standard_error).collect(),
            num_answers,
        }
    }
}

impl Channel {
    /// The channel that spends `epsilon` on one of `num_bins` bins.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] unless `0 < epsilon <= 10` (and large enough to carry anything,
    /// about 1e-9) and `2 <= num_bins <= 65536`.
    pub fn new(epsilon: f64, num_bins: usize) -> Result<Self> {
        if !(2..=MAX_BINS).contains(&num_bins) {
            return Err(Error::new(Code::InvalidArgument, "the number of bins of a channel is out of range")
                .expected(format!("2 to {MAX_BINS}"))
                .found(num_bins));
        }
        let in_range = epsilon > 0.0 && epsilon <= MAX_EPSILON;
        // e^10 * 2^32 < 2^47: exact as an integer. One less than the floor absorbs a last-digit
        // error of the platform's `exp`, so the ratio of weights never exceeds e^epsilon.
        let keep = if in_range { (epsilon.exp() * UNIT as f64) as u64 - 1 } else { 0 };
        if keep <= UNIT {
            return Err(Error::new(Code::InvalidArgument, "epsilon of a channel is out of range")
                .expected(format!("over 0, at most {}", float_text(MAX_EPSILON as f32)))
                .found(float_text(epsilon as f32)));
        }
        Ok(Self { epsilon, num_bins, keep, total: keep + UNIT * (num_bins as u64 - 1) })
    }

    /// The budget that one answer spends.
    #[must_use]
    pub fn epsilon(&self) -> f64 {
        self.epsilon
    }

    /// Number of bins.
    #[must_use]
    pub fn num_bins(&self) -> usize {
        self.num_bins
    }

    /// Probability that the true bin is sent: `e^epsilon / (e^epsilon + num_bins - 1)`.
    #[must_use]
    pub fn keep_probability(&self) -> f64 {
        self.keep as f64 / self.total as f64
    }

    /// Probability of each single bin other than the true one.
    #[must_use]
    pub fn lie_probability(&self) -> f64 {
        UNIT as f64 / self.total as f64
    }

    /// How much of a difference between shares survives the channel: keep minus lie probability.
    #[must_use]
    pub fn gain(&self) -> f64 {
        (self.keep - UNIT) as f64 / self.total as f64
    }

    /// The largest correlation between anything that is computed of two answers of one device, if its true bin is the same both times:
    /// the square of the maximal correlation (Renyi 1959) between true and sent bin, where true bins are distributed like `shares`
    /// (negative ones count as 0). `gain` squared where all are equally likely.
    #[must_use]
    pub fn answer_correlation(&self, shares: &[f64]) -> f64 {
        let sum: f64 = shares.iter().map(|share| share.max(0.0)).sum();
        if sum <= 0.0 {
            return self.gain();
        }
        let shares: Vec<f64> = shares.iter().map(|share| share.max(0.0) / sum).collect();
        let sent = self.apply(&shares);
        // Alternating conditional expectations of a function of the sent bin: it tends to the one that correlates most.
        let centred = |values: &[f64], weights: &[f64]| {
            let mean: f64 = values.iter().zip(weights).map(|(value, weight)| value * weight).sum();
            values.iter().map(|value| value - mean).collect::<Vec<f64>>()
        };
        let variance = |values: &[f64], weights: &[f64]| -> f64 {
            values.iter().zip(weights).map(|(value, weight)| value * value * weight).sum()
        };
        let mut function: Vec<f64> =
            centred(&(0..shares.len()).map(|bin| ((bin * bin + 1) as f64).sqrt()).collect::<Vec<_>>(), &sent);
        let mut correlation = 0.0;
        for _ in 0..200 {
            // Of each true bin the expected value of the function.
            let total: f64 = function.iter().sum();
            let expected: Vec<f64> =
                function.iter().map(|value| self.lie_probability() * total + self.gain() * value).collect();
            let before = variance(&function, &sent);
            if before <= 0.0 {
                return correlation;
            }
            correlation = variance(&expected, &shares) / before;
            // Of each sent bin the expected value of that.
            let all: f64 = expected.iter().zip(&shares).map(|(value, share)| value * share).sum();
            let back: Vec<f64> = (expected.iter().zip(&shares).zip(&sent))
                .map(|((value, share), sent)| {
                    (self.lie_probability() * all + self.gain() * value * share) / sent
                })
                .collect();
            let norm = variance(&back, &sent).sqrt();
            if norm <= 0.0 {
                return correlation;
            }
            function = centred(&back.iter().map(|value| value / norm).collect::<Vec<_>>(), &sent);
        }
        correlation
    }

    /// Draws the bin to send for the true `bin`; a bin outside the domain counts as the last one,
    /// so that nothing undeclared can leave.
    pub fn randomise(&self, bin: usize, rng: &mut Rng) -> usize {
        let bin = bin.min(self.num_bins - 1);
        let draw = below(self.total, rng);
        if draw < self.keep {
            return bin;
        }
        let other = ((draw - self.keep) / UNIT) as usize;
        if other < bin { other } else { other + 1 }
    }

    /// Shares as they look behind the channel: `lie + gain * share` for each of `[num_bins]`.
    #[must_use]
    pub fn apply(&self, shares: &[f64]) -> Vec<f64> {
        shares.iter().map(|share| self.lie_probability() + self.gain() * share).collect()
    }

    /// Unbiased shares before the channel, from the counts `[num_bins]` behind it.
    ///
    /// A standard error is that of a binomial share. The observed share is clamped to what the
    /// channel can produce first, so a bin that nobody sent is not taken for certain.
    #[must_use]
    pub fn debias(&self, noised_counts: &[u64]) -> Estimate {
        let num_answers = noised_counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
        if num_answers == 0 {
            let num_bins = noised_counts.len();
            return Estimate {
                shares: vec![0.0; num_bins],
                standard_errors: vec![f64::INFINITY; num_bins],
                num_answers,
            };
        }
        let (lie, keep, gain) = (self.lie_probability(), self.keep_probability(), self.gain());
        let n = num_answers as f64;
        let observed = || noised_counts.iter().map(|count| *count as f64 / n);
        let standard_error = |share: f64| {
            let share = share.clamp(lie, keep);
            (share * (1.0 - share) / n).sqrt() / gain
        };
        Estimate {
            shares: observed().map(|share| (share - lie) / gain).collect(),
            standard_errors: observed().map(standard_error).collect(),
            num_answers,
        }
    }
}

/// Draws one of `n` equally likely numbers under `n`; 0 for `n` = 0.
pub fn choose(n: usize, rng: &mut Rng) -> usize {
    below(n as u64, rng) as usize
}

/// Draws a bin with probability proportional to its count; `None` when all counts are 0.
pub fn choose_weighted(counts: &[u64], rng: &mut Rng) -> Option<usize> {
    let total = counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count));
    if total == 0 {
        return None;
    }
    let mut draw = below(total, rng);
    counts.iter().position(|count| {
        let found = draw < *count;
        draw = draw.saturating_sub(*count);
        found
    })
}

/// Uniform below `n` by rejection from the smallest power of two; 0 for `n` <= 1, without a draw.
fn below(n: u64, rng: &mut Rng) -> u64 {
    if n <= 1 {
        return 0;
    }
    let shift = (n - 1).leading_zeros();
    loop {
        let draw = rng.next_u64() >> shift;
        if draw < n {
            return draw;
        }
    }
}
