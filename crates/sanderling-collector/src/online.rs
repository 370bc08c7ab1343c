//! A canary against its champion, by what the devices of both reported in the same windows.
//!
//! A device draws by itself which of the two it loads, so both have devices of one kind, and a difference is the bundle's.

use std::ops::Range;

use sanderling_sketch::noise::Channel;
use sanderling_sketch::segments::Side;
use sanderling_sketch::test::normal_bound;
use sanderling_types::{Code, Error, Result, Sha256Hash};
use serde::{Deserialize, Serialize};

use crate::drift::{Layout, design_effect};
use crate::{Merged, Reader, RegisteredBundle};

/// The field of what was chosen of a list, and its label for nothing.
const OUTCOME: (&str, &str) = ("outcome.position", "none");
/// The field of what went wrong, and its label for nothing.
const FAULT: (&str, &str) = ("fault", "none");

/// When a canary is promoted or rolled back.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Probability, at one check, of rolling back a canary that is no worse.
    pub alpha: f64,
    /// Probability, at one check, of promoting a canary that loses more than `margin`. The gate has shown already that it is
    /// better on logs: this is a second look, and may ask for less.
    pub promotion_alpha: f64,
    /// The loss of hit rate that a promotion may hide.
    pub margin: f64,
    /// The rise of the share of lists with a fault that is put up with.
    pub fault_margin: f64,
    /// Fewest answers of each side that say anything.
    pub min_answers: u64,
    /// Fewest windows of the canary before it is promoted: a week has every weekday.
    pub min_windows: u64,
    /// Windows after which an undecided canary is rolled back.
    pub max_windows: u64,
}

impl Default for Options {
    /// alpha 0.01 and 0.1, margin 0.05, fault margin 0.01, 100 answers, 7 to 28 windows.
    fn default() -> Self {
        Self {
            alpha: 0.01,
            promotion_alpha: 0.1,
            margin: 0.05,
            fault_margin: 0.01,
            min_answers: 100,
            min_windows: 7,
            max_windows: 28,
        }
    }
}

/// A debiased share and its standard error, absent under the least number of answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Answers behind it.
    pub num_answers: u64,
    /// The share; noise may take it a little under 0 or over 1.
    pub value: Option<f64>,
    /// Its standard error, with the noise and the design effect in it.
    pub standard_error: Option<f64>,
}

/// What the devices of one bundle reported.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// The bundle hash.
    pub bundle_sha256: Sha256Hash,
    /// Reports in the windows.
    pub num_reports: u64,
    /// Windows with reports.
    pub num_windows: u64,
    /// Share of lists of which something was chosen.
    pub hit_rate: Rate,
    /// Share of lists with a fault.
    pub fault_rate: Rate,
}

/// Canary minus champion.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The difference.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
}

impl Difference {
    fn of(champion: &Rate, canary: &Rate) -> Option<Self> {
        Some(Self {
            value: canary.value? - champion.value?,
            standard_error: canary.standard_error?.hypot(champion.standard_error?),
        })
    }

    /// What the difference is under with probability `alpha` at most.
    fn low(self, alpha: f64) -> f64 {
        self.value - normal_bound(alpha) * self.standard_error
    }

    /// What the difference is over with probability `alpha` at most.
    fn high(self, alpha: f64) -> f64 {
        self.value + normal_bound(alpha) * self.standard_error
    }
}

/// What to do with the canary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// More reports are needed.
    Wait,
    /// The canary becomes the champion.
    Promote,
    /// The champion stays alone.
    RollBack,
}

/// A comparison with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What all other devices have.
    pub champion: Arm,
    /// What the drawn devices have.
    pub canary: Arm,
    /// Of the hit rates; absent where one is.
    pub hit_rate: Option<Difference>,
    /// Of the fault rates; absent where one is.
    pub fault_rate: Option<Difference>,
    /// What follows.
    pub decision: Decision,
    /// Why, for people.
    pub reason: String,
}

/// Compares what both bundles' devices reported in the windows that start in `windows` (Unix seconds).
///
/// # Errors
/// [`Code::InvalidArgument`] for options out of range, [`Code::Storage`].
pub fn compare(
    reader: &Reader,
    champion: &RegisteredBundle,
    canary: &RegisteredBundle,
    windows: Range<i64>,
    options: &Options,
) -> Result<Comparison> {
    let merged = |bundle: &RegisteredBundle| reader.merged(bundle.hash(), bundle.baseline(), windows.clone());
    compare_merged((champion, &merged(champion)?), (canary, &merged(canary)?), options)
}

/// The same of windows that were added up.
///
/// # Errors
/// [`Code::InvalidArgument`] for options out of range.
pub fn compare_merged(
    champion: (&RegisteredBundle, &Merged),
    canary: (&RegisteredBundle, &Merged),
    options: &Options,
) -> Result<Comparison> {
    check(options)?;
    let (champion, canary) = (arm(champion, options)?, arm(canary, options)?);
    let hit_rate = Difference::of(&champion.hit_rate, &canary.hit_rate);
    let fault_rate = Difference::of(&champion.fault_rate, &canary.fault_rate);
    let (decision, reason) = decide(canary.num_windows, hit_rate, fault_rate, options);
    Ok(Comparison { champion, canary, hit_rate, fault_rate, decision, reason })
}

fn check(options: &Options) -> Result<()> {
    let alpha_ok = |alpha: f64| alpha > 0.0 && alpha < 0.5;
    if alpha_ok(options.alpha)
        && alpha_ok(options.promotion_alpha)
        && options.margin >= 0.0
        && options.fault_margin >= 0.0
    {
        return Ok(());
    }
    Err(Error::new(Code::InvalidArgument, "the options of an online comparison are out of range")
        .expected("0 < alpha < 0.5 and margins of 0 or more")
        .found(format!(
            "alpha {} and {}, margins {} and {}",
            options.alpha, options.promotion_alpha, options.margin, options.fault_margin
        )))
}

fn arm((bundle, merged): (&RegisteredBundle, &Merged), options: &Options) -> Result<Arm> {
    Ok(Arm {
        bundle_sha256: bundle.hash(),
        num_reports: merged.num_reports,
        num_windows: merged.num_windows,
        hit_rate: rate(bundle, merged, OUTCOME, options)?,
        fault_rate: rate(bundle, merged, FAULT, options)?,
    })
}

/// The share of all labels of a field but `nothing`, of devices that had something to tell.
fn rate(
    bundle: &RegisteredBundle,
    merged: &Merged,
    (name, nothing): (&str, &str),
    options: &Options,
) -> Result<Rate> {
    let declared = bundle.baseline().field(name).zip(merged.answers.get(name));
    let found =
        declared.and_then(|(field, answers)| Some((field, answers, field.bins.bin_of_label(nothing)?)));
    let Some((field, answers, nothing)) = found else {
        return Ok(Rate { num_answers: 0, value: None, standard_error: None });
    };
    let num_answers = answers.total();
    if num_answers < options.min_answers.max(1) {
        return Ok(Rate { num_answers, value: None, standard_error: None });
    }
    let channel = Channel::new(bundle.epsilon_per_field(), field.bins.num_bins())?;
    let all = channel.debias(answers.counts());
    let repeated = design_effect(merged.num_windows, bundle.answered_share(), &channel, &all.shares);
    // Of those that had something to tell, where the field knows who had not.
    let told = match Layout::of(bundle.baseline(), field) {
        Some(layout) => Side::noised(answers.counts(), &channel)?.estimate(layout.segments, 0)?,
        None => Some(all),
    };
    Ok(Rate {
        num_answers,
        value: told.as_ref().map(|told| 1.0 - told.shares[nothing]),
        standard_error: told.as_ref().map(|told| told.standard_errors[nothing] * repeated.sqrt()),
    })
}

fn decide(
    num_windows: u64,
    hit_rate: Option<Difference>,
    fault_rate: Option<Difference>,
    options: &Options,
) -> (Decision, String) {
    let more_faults = fault_rate.map(|faults| faults.low(options.alpha));
    if let Some(more) = more_faults.filter(|more| *more > options.fault_margin) {
        return (Decision::RollBack, format!("lists have a fault more often by {more:.4} at least"));
    }
    let fewer_hits = hit_rate.map(|hits| -hits.high(options.alpha));
    if let Some(fewer) = fewer_hits.filter(|fewer| *fewer > 0.0) {
        return (Decision::RollBack, format!("the hit rate is lower by {fewer:.4} at least"));
    }
    let loss = hit_rate.map(|hits| (-hits.low(options.promotion_alpha)).max(0.0));
    if let Some(loss) = loss.filter(|loss| *loss < options.margin && num_windows >= options.min_windows) {
        let reason =
            format!("the hit rate is lower by {loss:.4} at most, of {} that are put up with", options.margin);
        return (Decision::Promote, reason);
    }
    if num_windows >= options.max_windows {
        return (Decision::RollBack, format!("undecided after {num_windows} windows"));
    }
    let missing = if hit_rate.is_none() { "too few answers" } else { "no clear difference" };
    (
        Decision::Wait,
        format!("{missing} in {num_windows} windows, of {} to {}", options.min_windows, options.max_windows),
    )
}
