//! A canary against its champion, by what the devices of both reported in the same windows.
//!
//! A device draws by itself which of the two it loads, so both have devices of one kind, and a difference is the bundle's.

use std::ops::Range;

use sanderling_sketch::noise::Channel;
use sanderling_sketch::test::normal_bound;
use sanderling_types::{BaselineField, Code, Error, Result, Sha256Hash};
use serde::{Deserialize, Serialize};

use crate::drift::{Answers, Layout};
use crate::{Merged, Reader, RegisteredBundle};

/// The fields that tell whether something of a list was chosen. `outcome.calibration` is none of them: it knows only lists of the ranker, and which those are is
/// the bundle's doing.
const CHOICES: [&str; 3] = ["outcome.position", "outcome.source", "outcome.history"];
/// The field that tells whether something went wrong.
const FAULTS: [&str; 1] = ["fault"];
/// The label of these fields for nothing, where they have no pair of labels a segment.
const NOTHING: &str = "none";

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
    /// Fewest answers of a field of each side, of devices that had something to tell, that say anything.
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

/// A debiased share and its standard error, absent under the least number of answers that tell something.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Answers of the fields, also those of devices that had nothing to tell.
    pub num_answers: u64,
    /// The share; noise may take it a little under 0 or over 1.
    pub value: Option<f64>,
    /// Its standard error, with the noise and the design effect in it.
    pub standard_error: Option<f64>,
}

impl Rate {
    const NONE: Self = Self { num_answers: 0, value: None, standard_error: None };

    /// What several fields say of one rate, each as much as it knows.
    fn pooled(rates: &[Self]) -> Self {
        let known = rates.iter().filter_map(|rate| Some((rate.value?, rate.standard_error?)));
        let pooled = pooled(known);
        Self {
            num_answers: rates.iter().map(|rate| rate.num_answers).sum(),
            value: pooled.map(|(value, _)| value),
            standard_error: pooled.map(|(_, standard_error)| standard_error),
        }
    }
}

/// The mean of values by the inverse of their variances, and its standard error; `None` of no values. A rate that is low by chance has a small variance and weighs
/// more, by less than a tenth of a standard error in arms of 500 devices.
fn pooled(values: impl Iterator<Item = (f64, f64)>) -> Option<(f64, f64)> {
    let weigh = |(value, error): (f64, f64)| (value / error.powi(2), error.powi(2).recip());
    let (sum, weight) = values.map(weigh).fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    (weight > 0.0).then(|| (sum / weight, weight.sqrt().recip()))
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
    /// Share of lists of which something was chosen (of outcomes, where a host tells several of a list), by all fields that tell it.
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

    /// What several fields say of one difference, each as much as it knows.
    fn pooled(differences: impl Iterator<Item = Self>) -> Option<Self> {
        let values = differences.map(|one| (one.value, one.standard_error));
        pooled(values).map(|(value, standard_error)| Self { value, standard_error })
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
    /// Of the hit rates, pooled over the fields that both bundles have answers enough of, and in which both or neither know the devices that were told of no outcome;
    /// absent without such a field. Each field weighs what it knows, so this is not quite the difference of the two rates.
    pub hit_rate: Option<Difference>,
    /// Of the fault rates; also where the canary alone knows those devices, and then rather too low.
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
    let sides = [champion, canary];
    let rates = |names: &[&str]| -> Result<[Vec<Rate>; 2]> {
        let [champion, canary] = sides.map(|(bundle, merged)| rates(bundle, merged, names, options));
        Ok([champion?, canary?])
    };
    let difference = |names: &[&str], [champion, canary]: &[Vec<Rate>; 2], alike: &dyn Fn(&str) -> bool| {
        let of = |((name, champion), canary): ((&&str, &Rate), &Rate)| {
            Difference::of(champion, canary).filter(|_| alike(name))
        };
        Difference::pooled(names.iter().zip(champion).zip(canary).filter_map(of))
    };
    let knows = |at: usize, name: &str| knows_silence(sides[at].0, name);
    let alike = |name: &str| knows(0, name) == knows(1, name);
    // Silence that an old champion does not know looks like faults of it: more than those is a reason to roll back all the more.
    let no_less = |name: &str| alike(name) || knows(1, name) == Some(true);
    let (hits, faults) = (rates(&CHOICES)?, rates(&FAULTS)?);
    let hit_rate = difference(&CHOICES, &hits, &alike);
    let fault_rate = difference(&FAULTS, &faults, &no_less);
    let is_unlike = |name: &&str| knows(0, name).zip(knows(1, name)).is_some_and(|(one, other)| one != other);
    let unlike = CHOICES.iter().any(is_unlike);
    let [champion, canary] = [0, 1].map(|at| Arm {
        bundle_sha256: sides[at].0.hash(),
        num_reports: sides[at].1.num_reports,
        num_windows: sides[at].1.num_windows,
        hit_rate: Rate::pooled(&hits[at]),
        fault_rate: Rate::pooled(&faults[at]),
    });
    let (decision, reason) = decide(canary.num_windows, hit_rate, fault_rate, unlike, options);
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

/// Of each field the share of devices that had something to tell, and told anything but nothing.
fn rates(bundle: &RegisteredBundle, merged: &Merged, names: &[&str], options: &Options) -> Result<Vec<Rate>> {
    let declared = |name: &&str| bundle.baseline().field(name);
    let num_fields = names.iter().filter_map(declared).count() as u64;
    let rate = |name: &&str| match declared(name) {
        Some(field) => rate(field, bundle, merged, num_fields, options),
        None => Ok(Rate::NONE),
    };
    names.iter().map(rate).collect()
}

/// A device answers several of the `num_fields` fields, in several windows, and resembles itself in all of them.
fn rate(
    field: &BaselineField,
    bundle: &RegisteredBundle,
    merged: &Merged,
    num_fields: u64,
    options: &Options,
) -> Result<Rate> {
    let Some(counts) = merged.answers.get(&field.name) else { return Ok(Rate::NONE) };
    let without = Rate { num_answers: counts.total(), ..Rate::NONE };
    let layout = Layout::of(bundle.baseline(), field);
    let num_told = layout.as_ref().map_or(field.bins.num_bins(), Layout::num_told);
    let chosen = layout.as_ref().and_then(Layout::last_of_segments).or_else(|| {
        let nothing = field.bins.bin_of_label(NOTHING)?;
        Some((0..num_told).filter(|bin| *bin != nothing).collect())
    });
    let Some(chosen) = chosen.filter(|_| without.num_answers >= options.min_answers.max(1)) else {
        return Ok(without);
    };
    let channel = Channel::new(bundle.epsilon_per_field(), field.bins.num_bins())?;
    let answers = Answers::new(field, bundle, counts, merged.num_windows.saturating_mul(num_fields))?;
    Ok(match answers.side(&channel, options.min_answers)?.rate(num_told, &chosen) {
        Some((value, standard_error)) => {
            Rate { value: Some(value), standard_error: Some(standard_error), ..without }
        }
        None => without,
    })
}

/// Whether a bundle tells devices apart that had nothing to tell of a field, if it has the field: else its rate is of other devices.
fn knows_silence(bundle: &RegisteredBundle, name: &str) -> Option<bool> {
    bundle.baseline().field(name).map(|field| Layout::of(bundle.baseline(), field).is_some())
}

fn decide(
    num_windows: u64,
    hit_rate: Option<Difference>,
    fault_rate: Option<Difference>,
    unlike: bool,
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
    let missing = match hit_rate {
        Some(_) => "no clear difference",
        None if unlike => {
            "one of the bundles does not know which devices were told of no outcome, so `sanderling promote` decides;"
        }
        None => "too few answers",
    };
    (
        Decision::Wait,
        format!("{missing} in {num_windows} windows, of {} to {}", options.min_windows, options.max_windows),
    )
}
