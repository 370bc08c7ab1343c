//! How often something is chosen, by band of a score: whether a score still means what it meant.
//!
//! Answers fall into bins `2 * band + chosen`. The share of a band may move while its rate of choices stays, which is a
//! drift of scores; a rate that moves is a drift of the concept (Gama et al. 2014, section 2).

use sanderling_types::{Code, Error, Result};

use crate::noise::{Channel, Estimate};
use crate::test::{TestResult, check_len, inverse_quadratic_form, total};

/// Fewest standard errors between the share of a band and 0: the rate of a band that may be empty is noise.
const MIN_BAND_ERRORS: f64 = 4.0;

/// Two windows, band by band.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoicesTest {
    /// Rates of choices `[num_bands]` of the first window; `None` of a band that either has too rarely.
    pub before: Vec<Option<f64>>,
    /// The same of the second one.
    pub now: Vec<Option<f64>>,
    /// Standard errors of `before` and `now`, if both have the same rates; 0 where there is no rate.
    pub standard_errors: [Vec<f64>; 2],
    /// Share of each band in the first window.
    pub band_shares: Vec<f64>,
    /// Whether all rates are equal: chi-squared with a degree of freedom for each band that has rates.
    pub test: TestResult,
}

/// Debiased bins of a window, and what they came from.
struct Window {
    shares: Vec<f64>,
    n: f64,
}

impl Window {
    fn new(noised: &[u64], channel: &Channel) -> Self {
        Self { shares: channel.debias(noised).shares, n: total(noised) }
    }

    fn band(&self, band: usize) -> f64 {
        self.shares[2 * band] + self.shares[2 * band + 1]
    }

    fn chosen(&self, band: usize) -> f64 {
        self.shares[2 * band + 1]
    }

    /// Whether the share of a band is clearly over 0.
    fn has(&self, band: usize, channel: &Channel) -> bool {
        let sent = 2.0 * channel.lie_probability() + channel.gain() * self.band(band).clamp(0.0, 1.0);
        let error = (sent * (1.0 - sent).max(0.0) / self.n).sqrt() / channel.gain();
        self.band(band) > MIN_BAND_ERRORS * error
    }

    /// Covariance of the rates of `bands` by the delta method, if the true rates are `rates`. The rate of band `b` is
    /// `p1 / (p0 + p1)`, so its gradient over the sent shares is `(-r, 1 - r) / (band share * gain)`.
    fn covariance(&self, bands: &[usize], rates: &[f64], channel: &Channel) -> impl Fn(usize, usize) -> f64 {
        let moments: Vec<(f64, f64)> = bands
            .iter()
            .zip(rates)
            .map(|(&band, &rate)| {
                let share = self.band(band);
                let sent = |part: f64| channel.lie_probability() + channel.gain() * share * part;
                let gradient = [-rate, 1.0 - rate].map(|part| part / (share * channel.gain()));
                let weights = [sent(1.0 - rate), sent(rate)];
                let sum = |power: i32| (0..2).map(|i| gradient[i].powi(power) * weights[i]).sum::<f64>();
                (sum(1), sum(2))
            })
            .collect();
        let n = self.n;
        move |i, j| (if i == j { moments[i].1 } else { 0.0 } - moments[i].0 * moments[j].0) / n
    }
}

/// Compares rates of choices by band in two windows of answers behind one channel, `[2 * num_bands]` each.
///
/// The variance is that under equal rates, so that a band in which nobody chose anything has one too.
///
/// # Errors
/// [`Code::InvalidArgument`] for other lengths than the channel's, and for a number of bins that is odd.
pub fn compare_choices(before: &[u64], now: &[u64], channel: &Channel) -> Result<ChoicesTest> {
    check_len("noised counts of the first window", before.len(), channel)?;
    check_len("noised counts of the second window", now.len(), channel)?;
    if !now.len().is_multiple_of(2) {
        return Err(Error::new(Code::InvalidArgument, "choices by band need two bins a band")
            .expected("an even number of bins")
            .found(now.len()));
    }
    let num_bands = now.len() / 2;
    let (a, b) = (Window::new(before, channel), Window::new(now, channel));
    let bands: Vec<usize> =
        (0..num_bands).filter(|&band| a.has(band, channel) && b.has(band, channel)).collect();
    let rate = |window: &Window, band: usize| window.chosen(band) / window.band(band);
    let pooled: Vec<f64> = bands
        .iter()
        .map(|&band| {
            let of = |part: fn(&Window, usize) -> f64| a.n * part(&a, band) + b.n * part(&b, band);
            (of(Window::chosen) / of(Window::band)).clamp(0.0, 1.0)
        })
        .collect();
    let (in_a, in_b) = (a.covariance(&bands, &pooled, channel), b.covariance(&bands, &pooled, channel));
    let difference: Vec<f64> = bands.iter().map(|&band| rate(&b, band) - rate(&a, band)).collect();
    let statistic = inverse_quadratic_form(&difference, &|i, j| in_a(i, j) + in_b(i, j));
    let spread = |values: &dyn Fn(usize) -> f64| {
        let mut all = vec![None; num_bands];
        bands.iter().enumerate().for_each(|(at, &band)| all[band] = Some(values(at)));
        all
    };
    let errors = |variance: &dyn Fn(usize, usize) -> f64| {
        let found = spread(&|at| variance(at, at).max(0.0).sqrt());
        found.into_iter().map(Option::unwrap_or_default).collect()
    };
    Ok(ChoicesTest {
        before: spread(&|at| rate(&a, bands[at])),
        now: spread(&|at| rate(&b, bands[at])),
        standard_errors: [errors(&in_a), errors(&in_b)],
        band_shares: (0..num_bands).map(|band| a.band(band)).collect(),
        test: TestResult::new(statistic, bands.len()),
    })
}

impl ChoicesTest {
    /// Both windows as shares of bins with the bands of the first one, so that only rates differ: what a distance of
    /// concepts is measured between. Bands without rates are as before in both.
    #[must_use]
    pub fn estimates(&self, num_answers: [u64; 2]) -> [Estimate; 2] {
        let of = |rates: &[Option<f64>], errors: &[f64], num_answers: u64| {
            let band = |at: usize| {
                let (share, rate) = (self.band_shares[at], rates[at].unwrap_or(0.5));
                [share * (1.0 - rate), share * rate]
            };
            let error = |at: usize| [self.band_shares[at] * errors[at]; 2];
            let num_bands = rates.len();
            Estimate {
                shares: (0..num_bands).flat_map(band).collect(),
                standard_errors: (0..num_bands).flat_map(error).collect(),
                num_answers,
            }
        };
        let [before, now] = &self.standard_errors;
        [of(&self.before, before, num_answers[0]), of(&self.now, now, num_answers[1])]
    }
}
