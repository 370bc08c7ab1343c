//! How often something is chosen, by band of a score: whether a score still means what it meant.
//!
//! Answers fall into bins `2 * band + chosen`, and into a last one of devices that were told of no outcome. The share of a band may move while its rate of choices stays, which is a
//! drift of scores; a rate that moves is a drift of the concept (Gama et al. 2014, section 2).

use sanderling_types::{Code, Error, Result};

use crate::noise::Channel;
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

/// Compares rates of choices by band in two windows of answers behind one channel, `[2 * num_bands + 1]` each.
///
/// The variance is that under equal rates, so that a band in which nobody chose anything has one too.
///
/// # Errors
/// [`Code::InvalidArgument`] for other lengths than the channel's, and for a number of bins that is even.
pub fn compare_choices(before: &[u64], now: &[u64], channel: &Channel) -> Result<ChoicesTest> {
    check_len("noised counts of the first window", before.len(), channel)?;
    check_len("noised counts of the second window", now.len(), channel)?;
    if now.len().is_multiple_of(2) {
        return Err(Error::new(
            Code::InvalidArgument,
            "choices by band need two bins a band, and one for no outcome",
        )
        .expected("an odd number of bins")
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
    /// Both windows as shares of chosen and ignored with the bands of the first one, so that only rates differ. Bands
    /// without rates are as before in both.
    #[must_use]
    pub fn shares(&self) -> [Vec<f64>; 2] {
        let total: f64 = self.band_shares.iter().sum();
        [&self.before, &self.now].map(|rates| {
            let of = |(rate, share): (&Option<f64>, &f64)| {
                let rate = rate.unwrap_or(0.5);
                [share / total * (1.0 - rate), share / total * rate]
            };
            rates.iter().zip(&self.band_shares).flat_map(of).collect()
        })
    }

    /// How much rates changed beyond what noise explains: the mean over bands of the squared relative change, where 1 is as
    /// much as the mean rate itself. 0.1 is a third of it, up or down, whatever the rate: the population stability index of
    /// something that is rarely chosen would hardly move if nothing were chosen any more.
    #[must_use]
    pub fn effect(&self) -> f64 {
        let (mut changed, mut rate, mut known) = (0.0, 0.0, 0.0);
        let errors = self.standard_errors[0].iter().zip(&self.standard_errors[1]);
        let rates = self.before.iter().zip(&self.now).zip(errors).zip(&self.band_shares);
        for (((before, now), (error_before, error_now)), share) in rates {
            if let (Some(before), Some(now)) = (before, now) {
                let noise = error_before.powi(2) + error_now.powi(2);
                changed += share * ((now - before).powi(2) - noise).max(0.0);
                rate += share * before.max(0.0);
                known += share;
            }
        }
        if rate > 0.0 { changed * known / rate.powi(2) } else { 0.0 }
    }
}
