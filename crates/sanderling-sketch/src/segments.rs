//! How answers are distributed inside of segments: whether those who are of one kind still do what they did.
//!
//! The bins of a field are [`Segments`] of neighbouring bins, and behind them bins of devices that had nothing to tell. The share of a segment may
//! move while the shares inside of it stay, and the other way round: more devices may come with high scores, or the same score may be chosen less often,
//! which is drift of the concept (Gama et al. 2014, section 2: a change of `p(y | x)`).
//!
//! Shares inside of a segment are ratios of debiased shares; their covariance is that of the delta method, through the noise channel.

use std::ops::Range;

use sanderling_types::{Code, Error, Result};

use crate::distance;
use crate::noise::{Channel, Estimate};
use crate::test::{TestResult, check_len, inverse_quadratic_form, pool, total};

/// Fewest standard errors between the share of a segment and 0. Shares inside of one that may be empty are noise, and where it is not much over 0 those that pass
/// are the overestimated ones, whose errors are larger than they say.
const MIN_SEGMENT_ERRORS: f64 = 5.0;

/// How the bins of a field are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    /// How many segments there are, at least 1.
    pub num: usize,
    /// Bins of each, at least 2: bin `i` of segment `s` is bin `s * len + i` of the field.
    pub len: usize,
}

impl Segments {
    fn bins(self, segment: usize) -> Range<usize> {
        segment * self.len..(segment + 1) * self.len
    }

    fn check(self, side: &Side) -> Result<()> {
        let num_bins = side.shares.len();
        if self.num > 0 && self.len > 1 && self.num.saturating_mul(self.len) <= num_bins {
            return Ok(());
        }
        Err(Error::new(Code::InvalidArgument, "the segments do not fit the bins")
            .expected(format!("at least 1 segment, of at least 2 of the {num_bins} bins"))
            .found(format!("{} segments of {}", self.num, self.len)))
    }
}

/// One of two distributions over the same bins, with what is known of its errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    shares: Vec<f64>,
    /// Independent answers, or devices.
    n: f64,
    /// Least share of a segment whose inside is looked at.
    min_share: f64,
    lie: f64,
    gain: f64,
}

impl Side {
    /// Answers `[num_bins]` behind a channel, of which `design_effect` (at least 1) tell as much as one independent answer. What is inside of a
    /// segment of fewer than `min_answers` is not looked at.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for another length than the channel's.
    pub fn noised(counts: &[u64], design_effect: f64, channel: &Channel, min_answers: u64) -> Result<Self> {
        check_len("noised counts", counts.len(), channel)?;
        Ok(Self {
            shares: channel.debias(counts).shares,
            n: total(counts) / design_effect.max(1.0),
            // A share of all is one up to rounding.
            min_share: min_answers as f64 / total(counts) - 1e-9,
            lie: channel.lie_probability(),
            gain: channel.gain(),
        })
    }

    /// Shares `[num_bins]` that were counted without noise on so many independent devices.
    #[must_use]
    pub fn counted(shares: &[f64], num_devices: u64) -> Self {
        Self { shares: shares.to_vec(), n: num_devices as f64, min_share: 0.0, lie: 0.0, gain: 1.0 }
    }

    /// Share of a segment.
    fn share(&self, bins: Range<usize>) -> f64 {
        self.shares[bins].iter().sum()
    }

    /// How much an answer of this side tells, beside one without noise.
    fn weight(&self) -> f64 {
        self.n * self.gain * self.gain
    }

    /// Whether the share of a segment is clearly over 0, and has answers enough.
    fn has(&self, bins: Range<usize>) -> bool {
        let share = self.share(bins.clone());
        let sent = bins.len() as f64 * self.lie + self.gain * share.clamp(0.0, 1.0);
        let error = (sent * (1.0 - sent).max(0.0) / self.n).sqrt() / self.gain;
        share > MIN_SEGMENT_ERRORS * error && share >= self.min_share
    }

    /// Shares inside of a segment, summing to 1.
    fn inside(&self, bins: Range<usize>) -> Vec<f64> {
        let share = self.share(bins.clone());
        self.shares[bins].iter().map(|part| part / share).collect()
    }

    /// Share of the bins `chosen` among the first `num_told` ones, with its standard error; `None` where those may be nothing, or are too few answers.
    #[must_use]
    pub fn rate(&self, num_told: usize, chosen: &[usize]) -> Option<(f64, f64)> {
        let bins = 0..num_told.min(self.shares.len());
        let inside = self.has(bins.clone()).then(|| self.inside(bins.clone()))?;
        let rate: f64 = chosen.iter().filter_map(|bin| inside.get(*bin)).sum();
        let part = Part::new(self, bins, &[chosen.to_vec()], &inside);
        Some((rate, (part.covariance(0, 0) / self.n).max(0.0).sqrt()))
    }

    /// `inside` with the standard errors that it has if the true shares inside of the segment are `truth`.
    fn with_errors(&self, bins: Range<usize>, inside: Vec<f64>, truth: &[f64]) -> Estimate {
        let single: Vec<Vec<usize>> = (0..bins.len()).map(|bin| vec![bin]).collect();
        let part = Part::new(self, bins, &single, truth);
        let error = |at: usize| (part.covariance(at, at) / self.n).max(0.0).sqrt();
        Estimate {
            standard_errors: (0..inside.len()).map(error).collect(),
            shares: inside,
            num_answers: self.n as u64,
        }
    }
}

/// What the delta method needs of one segment of a side: of each group of its bins, the gradient of its share inside over the probabilities `q` of sending
/// each bin. The share inside of group `g` is `c = sum of its s / S`, so the gradient is `(1 if the bin is in g - c) / (S * gain)`.
struct Part {
    gradients: Vec<Vec<f64>>,
    sent: Vec<f64>,
}

impl Part {
    fn new(side: &Side, bins: Range<usize>, groups: &[Vec<usize>], truth: &[f64]) -> Self {
        let clean: Vec<f64> = truth.iter().map(|share| share.max(0.0)).collect();
        let (share, sum) = (side.share(bins), clean.iter().sum::<f64>());
        let gradient = |group: &Vec<usize>| {
            let inside: f64 = group.iter().filter_map(|bin| clean.get(*bin)).sum::<f64>() / sum;
            let of = |bin| (if group.contains(&bin) { 1.0 } else { 0.0 } - inside) / (share * side.gain);
            (0..clean.len()).map(of).collect()
        };
        Self {
            gradients: groups.iter().map(gradient).collect(),
            sent: clean.iter().map(|inside| side.lie + side.gain * share * inside / sum).collect(),
        }
    }

    fn mean(&self, group: usize) -> f64 {
        self.gradients[group].iter().zip(&self.sent).map(|(gradient, sent)| gradient * sent).sum()
    }

    /// Of one answer.
    fn covariance(&self, a: usize, b: usize) -> f64 {
        let gradients = self.gradients[a].iter().zip(&self.gradients[b]).zip(&self.sent);
        let product: f64 = gradients.map(|((a, b), sent)| a * b * sent).sum();
        product - self.mean(a) * self.mean(b)
    }
}

/// One segment of two sides.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentTest {
    /// Its share of all answers that fall into a segment, before and now.
    pub shares: [f64; 2],
    /// Shares inside, before and now, with the standard errors that they have if they are equal; `None` where either may be empty, or has too few answers.
    pub inside: Option<[Estimate; 2]>,
    /// Whether the shares inside are equal: chi-squared with a degree of freedom less than there are bins, of which rare ones are tested together.
    pub test: TestResult,
}

impl SegmentTest {
    /// [`distance::effect`] of the shares inside; 0 where there are none.
    #[must_use]
    pub fn effect(&self) -> f64 {
        self.inside.as_ref().map_or(0.0, |[before, now]| distance::effect(now, before))
    }
}

/// Two sides, segment by segment.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentsTest {
    /// By segment; none where either side may have nothing in any.
    pub segments: Vec<SegmentTest>,
    /// Whether shares inside of all segments are equal.
    pub test: TestResult,
}

/// Compares what is inside of segments.
///
/// The variance is that under equal shares, so that a bin which nobody chose has one too.
///
/// # Errors
/// [`Code::InvalidArgument`] for sides of different lengths, and for segments that do not fit them.
pub fn compare_segments(before: &Side, now: &Side, segments: Segments) -> Result<SegmentsTest> {
    if before.shares.len() != now.shares.len() {
        return Err(Error::new(Code::InvalidArgument, "the two sides have different bins")
            .expected(format!("{} bins", before.shares.len()))
            .found(format!("{} bins", now.shares.len())));
    }
    segments.check(now)?;
    let sides = [before, now];
    let any = 0..segments.num * segments.len;
    // Shares of what may be nothing are no shares.
    let num = if sides.iter().all(|side| side.has(any.clone())) { segments.num } else { 0 };
    let known: Vec<Option<Known>> =
        (0..num).map(|segment| Known::new(sides, segments.bins(segment))).collect();
    let all = sides.map(|side| side.share(any.clone()));
    let one = |(segment, known): (usize, &Option<Known>)| SegmentTest {
        shares: [0, 1].map(|at| sides[at].share(segments.bins(segment)) / all[at]),
        inside: known.as_ref().map(|known| known.inside.clone()),
        test: test(sides, &known.iter().collect::<Vec<_>>()),
    };
    Ok(SegmentsTest {
        segments: known.iter().enumerate().map(one).collect(),
        test: test(sides, &known.iter().flatten().collect::<Vec<_>>()),
    })
}

/// A segment that both sides have.
struct Known {
    inside: [Estimate; 2],
    parts: [Part; 2],
    /// Of each group, how much its share inside grew.
    differences: Vec<f64>,
}

impl Known {
    fn new(sides: [&Side; 2], bins: Range<usize>) -> Option<Self> {
        if !sides.iter().all(|side| side.has(bins.clone())) {
            return None;
        }
        let pooled: Vec<f64> = bins
            .clone()
            .map(|bin| sides.iter().map(|side| side.weight() * side.shares[bin]).sum::<f64>().max(0.0))
            .collect();
        let sum: f64 = pooled.iter().sum();
        let pooled: Vec<f64> = pooled.iter().map(|share| share / sum).collect();
        // Answers through noise are what may be few; a baseline has its own variance.
        let fewest = sides
            .iter()
            .filter(|side| side.lie > 0.0)
            .min_by(|a, b| a.n.total_cmp(&b.n))
            .unwrap_or(&sides[0]);
        let share = fewest.share(bins.clone());
        let expected: Vec<f64> =
            pooled.iter().map(|inside| fewest.lie + fewest.gain * share * inside).collect();
        let groups = pool(&expected, fewest.n);
        let inside = sides.map(|side| side.inside(bins.clone()));
        let grew = |group: &Vec<usize>| group.iter().map(|bin| inside[1][*bin] - inside[0][*bin]).sum();
        Some(Self {
            differences: groups.iter().map(grew).collect(),
            parts: sides.map(|side| Part::new(side, bins.clone(), &groups, &pooled)),
            inside: [0, 1].map(|at| sides[at].with_errors(bins.clone(), inside[at].clone(), &pooled)),
        })
    }
}

/// One test over the groups of some segments, of which each one's last follows from the others.
fn test(sides: [&Side; 2], known: &[&Known]) -> TestResult {
    let free = |segment: usize| (1..known[segment].differences.len()).map(move |group| (segment, group - 1));
    let groups: Vec<(usize, usize)> = (0..known.len()).flat_map(free).collect();
    let difference: Vec<f64> =
        groups.iter().map(|(segment, group)| known[*segment].differences[*group]).collect();
    let covariance = |i: usize, j: usize| {
        let ((a, of_a), (b, of_b)) = (groups[i], groups[j]);
        let of = |at: usize| {
            let [part, other] = [a, b].map(|segment| &known[segment].parts[at]);
            let one = if a == b { part.covariance(of_a, of_b) } else { -part.mean(of_a) * other.mean(of_b) };
            one / sides[at].n
        };
        of(0) + of(1)
    };
    TestResult::new(inverse_quadratic_form(&difference, &covariance), groups.len())
}

impl SegmentsTest {
    /// Both sides as shares of all bins with the segments of the first one, so that only what is inside differs. Segments that may be empty are the same in
    /// both.
    #[must_use]
    pub fn shares(&self) -> [Vec<f64>; 2] {
        let len = self
            .segments
            .iter()
            .find_map(|one| one.inside.as_ref())
            .map_or(0, |[before, _]| before.shares.len());
        [0, 1].map(|at| {
            let of = |one: &SegmentTest| {
                let even = vec![1.0 / len as f64; len];
                let inside = one.inside.as_ref().map_or(even, |inside| inside[at].shares.clone());
                inside.into_iter().map(|share| one.shares[0] * share).collect::<Vec<f64>>()
            };
            self.segments.iter().flat_map(of).collect()
        })
    }

    /// [`SegmentTest::effect`], by the shares of the segments.
    #[must_use]
    pub fn effect(&self) -> f64 {
        let known = || self.segments.iter().filter(|one| one.inside.is_some());
        let sum: f64 = known().map(|one| one.shares[0] * one.effect()).sum();
        let share: f64 = known().map(|one| one.shares[0]).sum();
        if share > 0.0 { sum / share } else { 0.0 }
    }

    /// How much the rate of the last bin of each segment changed: the mean over segments of the squared change, less what noise adds to it on average, relative to
    /// the mean rate before; not under 0. 0.1 is a third of it, up or down, whatever the rate: the population stability index of something that is rarely chosen
    /// would hardly move if nothing were chosen any more.
    #[must_use]
    pub fn rate_effect(&self) -> f64 {
        let (mut changed, mut mean, mut known) = (0.0, 0.0, 0.0);
        for one in &self.segments {
            let Some([before, now]) = &one.inside else { continue };
            let (Some(rate), Some(rate_now)) = (before.shares.last(), now.shares.last()) else { continue };
            let errors = before.standard_errors.last().zip(now.standard_errors.last());
            let noise = errors.map_or(0.0, |(before, now)| before.powi(2) + now.powi(2));
            let share = one.shares[0];
            changed += share * ((rate_now - rate).powi(2) - noise);
            mean += share * rate;
            known += share;
        }
        if mean > 0.0 { (changed * known / mean.powi(2)).max(0.0) } else { 0.0 }
    }
}
