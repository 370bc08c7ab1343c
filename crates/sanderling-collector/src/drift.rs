//! Whether what devices report differs from the baseline, or from an earlier window.

use std::ops;

use sanderling_sketch::noise::{Channel, Estimate};
use sanderling_sketch::segments::{Side, compare_segments};
use sanderling_sketch::test::{TestResult, holm, noised_counts_against_counts, noised_counts_against_shares};
use sanderling_sketch::trend::{either, noised_trend_against_counts, noised_trend_against_shares};
use sanderling_sketch::{Histogram, distance};
use sanderling_types::{BaselineField, Code, Error, FORMAT_VERSION, FieldKind, Result};

use crate::{Merged, Reader, RegisteredBundle};

mod attribution;
mod usual;
mod verdict;

pub(crate) use attribution::Layout;
pub use attribution::{Move, SegmentDrift};
use usual::usual_effects;
pub use verdict::{Aspect, DriftReport, FieldDrift, Skipped, Windows};

/// When to alarm.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Probability that any field of one judgement shifts by chance; over 0, under 1. Judgements share a budget over
    /// time: with 0.01 for 30 days, one of a week has 0.01 * 7 / 30.
    pub alpha: f64,
    /// Smallest [`distance::effect`] of a shift that is drift: with enough reports every
    /// difference is significant.
    pub min_effect: f64,
    /// Fewest answers of a field (in each of two compared windows) that are judged or shown.
    pub min_answers: u64,
    /// Windows (by start, Unix seconds) that are known to be calm. Fields without baseline shares are compared with them, by default with those of
    /// [`windows_before`]; and the effect that a field has in any part of them, each as long as what is judged, is its least one where that is over `min_effect`.
    pub reference: Option<ops::Range<i64>>,
}

impl Default for Options {
    /// alpha 0.01, effect 0.1 (a moderate change on the scale of the population stability index),
    /// 100 answers, the windows before as reference.
    fn default() -> Self {
        Self { alpha: 0.01, min_effect: 0.1, min_answers: 100, reference: None }
    }
}

/// What a field is compared with.
enum Reference<'a> {
    Shares { shares: &'a [f64], num_devices: u64 },
    Answers(Answers<'a>),
}

/// Answers of a field, added up over windows.
pub(crate) struct Answers<'a> {
    counts: &'a Histogram,
    /// How many answers tell as much as one independent answer, at least 1.
    design_effect: f64,
}

/// The design effect (Kish 1965, section 5.4) of answers from several windows, at its largest.
///
/// The same devices may have reported in every window, and a device resembles itself. A report answers
/// `answered_share` of the fields, drawn without looking at the data, so an answer shares its device with
/// `(num_windows - 1) * answered_share` others on average. Noise is drawn anew each time: whatever is made of two answers
/// of a device, they correlate by at most [`Channel::answer_correlation`], even where the true bins are equal.
pub(crate) fn design_effect(num_windows: u64, answered_share: f64, channel: &Channel, shares: &[f64]) -> f64 {
    1.0 + num_windows.saturating_sub(1) as f64 * answered_share * channel.answer_correlation(shares)
}

/// Windows to judge, or to compare with.
#[derive(Debug, Clone, Copy)]
pub struct JudgedWindows<'a> {
    /// First window start and the first that is left out, Unix seconds.
    pub starts: &'a ops::Range<i64>,
    /// What was added up.
    pub merged: &'a Merged,
}

/// The starts of `num_windows` windows that end with the latest one of `bundle` that has reports; empty without one.
///
/// # Errors
/// [`Code::Storage`].
pub fn last_windows(reader: &Reader, bundle: &RegisteredBundle, num_windows: u32) -> Result<ops::Range<i64>> {
    let status = reader.status()?;
    let known = status.iter().filter(|known| known.bundle_sha256 == bundle.hash());
    let latest = known.flat_map(|known| &known.windows).map(|window| window.window_start).max();
    Ok(windows_until(latest, num_windows, bundle.telemetry().window_seconds))
}

/// Windows that a judgement looks back on.
const REFERENCE_WINDOWS: i64 = 28;
/// Most parts of a reference that are looked at by themselves.
const MAX_CALM_PARTS: i64 = 64;

/// The 28 windows before those that start in `judged`: a month of days. Nothing where `judged` has no beginning.
#[must_use]
pub fn windows_before(bundle: &RegisteredBundle, judged: &ops::Range<i64>) -> Option<ops::Range<i64>> {
    let length = i64::from(bundle.telemetry().window_seconds).saturating_mul(REFERENCE_WINDOWS);
    (judged.start > 0).then(|| judged.start.saturating_sub(length)..judged.start)
}

fn windows_until(latest: Option<i64>, num_windows: u32, window_seconds: u32) -> ops::Range<i64> {
    let Some(latest) = latest else { return 0..0 };
    let window_seconds = i64::from(window_seconds);
    let end = latest.saturating_add(window_seconds);
    end.saturating_sub(window_seconds.saturating_mul(i64::from(num_windows)))..end
}

/// Compares the windows of `bundle` that start in `windows` (Unix seconds) with its baseline, and fields without one with
/// the windows before: [`judge_merged`] on what the store has.
///
/// # Errors
/// [`Code::InvalidArgument`] for options out of range and a reference that overlaps `windows`, [`Code::Storage`].
pub fn judge(
    reader: &Reader,
    bundle: &RegisteredBundle,
    windows: ops::Range<i64>,
    options: &Options,
) -> Result<DriftReport> {
    check_reference(options, &windows)?;
    let read = |starts: &ops::Range<i64>| reader.merged(bundle.hash(), bundle.baseline(), starts.clone());
    let merged = read(&windows)?;
    let starts = options.reference.clone().or_else(|| windows_before(bundle, &windows));
    let before = starts.as_ref().map(read).transpose()?;
    let reference = starts.as_ref().zip(before.as_ref());
    let reference = reference.map(|(starts, merged)| JudgedWindows { starts, merged });
    let calm = options.reference.as_ref().map_or_else(Vec::new, |calm| calm_parts(calm, &windows));
    let calm = calm.iter().map(read).collect::<Result<Vec<Merged>>>()?;
    // A Saturday alone is no week.
    let calm: Vec<Merged> =
        calm.into_iter().filter(|part| part.num_windows >= merged.num_windows.max(1)).collect();
    judge_merged(bundle, JudgedWindows { starts: &windows, merged: &merged }, reference, &calm, options)
}

/// What is judged cannot say what is usual.
fn check_reference(options: &Options, judged: &ops::Range<i64>) -> Result<()> {
    let Some(calm) =
        options.reference.as_ref().filter(|calm| calm.start < judged.end && judged.start < calm.end)
    else {
        return Ok(());
    };
    Err(Error::new(Code::InvalidArgument, "the reference windows overlap the judged ones")
        .expected(format!("windows before {} or from {} on", judged.start, judged.end))
        .found(format!("{} to {}", calm.start, calm.end))
        .hint("name earlier reference windows, or judge later ones with --from and --to"))
}

/// Parts of `calm` that are as long as `judged`, from the latest on.
fn calm_parts(calm: &ops::Range<i64>, judged: &ops::Range<i64>) -> Vec<ops::Range<i64>> {
    let length = judged.end.saturating_sub(judged.start);
    if judged.start <= 0 || length <= 0 {
        return Vec::new();
    }
    let end = |part: i64| calm.end.saturating_sub(part.saturating_mul(length));
    let parts = (0..MAX_CALM_PARTS).map(|part| end(part + 1)..end(part));
    parts.take_while(|part| part.start >= calm.start).collect()
}

/// Compares windows of `bundle` with its baseline, and fields without one with `reference`. `calm` are parts of the reference, each as long as what is judged,
/// from which the least effect of each field is learned; none of them to learn nothing.
///
/// Answers of several windows count for fewer by a design effect, because the same devices may have
/// reported in all of them. A numeric field is tested twice, over all bins and along their order. A field has shifted when its p-value,
/// after Holm's correction over all judged fields, is under `alpha`, and drifted when its effect is at least `min_effect` too.
///
/// # Errors
/// [`Code::InvalidArgument`] for options out of range.
pub fn judge_merged(
    bundle: &RegisteredBundle,
    windows: JudgedWindows<'_>,
    reference: Option<JudgedWindows<'_>>,
    calm: &[Merged],
    options: &Options,
) -> Result<DriftReport> {
    check(options)?;
    let usual = usual_effects(bundle, calm, options)?;
    let before = reference.map(|range| range.merged);
    let fields = bundle.baseline().fields.iter();
    let mut fields = fields
        .map(|field| judge_field(field, bundle, windows.merged, before, options))
        .collect::<Result<Vec<_>>>()?;
    for field in &mut fields {
        field.min_effect = usual.get(&field.name).copied().unwrap_or(0.0).max(options.min_effect);
    }
    alarm(&mut fields, options);
    Ok(DriftReport {
        format_version: FORMAT_VERSION,
        bundle_sha256: bundle.hash(),
        num_reports: windows.merged.num_reports,
        shifted: fields.iter().any(|field| field.shifted),
        drifted: fields.iter().any(|field| field.drifted),
        windows: summary(windows),
        reference: reference.map(summary),
        reference_is_named: options.reference.is_some(),
        num_calm_parts: if usual::are_enough(calm) { calm.len() as u64 } else { 0 },
        fields,
        alpha: options.alpha,
        min_effect: options.min_effect,
        min_answers: options.min_answers,
    })
}

/// Debiased shares of a field with standard errors that know that the same devices may have answered in several windows;
/// `None` of a field that is not there, or has fewer than `min_answers`.
///
/// # Errors
/// [`Code::InvalidArgument`] where the bundle's budget makes no channel.
pub fn estimate(
    bundle: &RegisteredBundle,
    merged: &Merged,
    field: &str,
    min_answers: u64,
) -> Result<Option<Estimate>> {
    let declared = bundle.baseline().field(field).zip(merged.answers.get(field));
    let Some((field, counts)) = declared.filter(|(_, counts)| counts.total() >= min_answers.max(1)) else {
        return Ok(None);
    };
    let channel = Channel::new(bundle.epsilon_per_field(), field.bins.num_bins())?;
    Ok(Some(Answers::new(field, bundle, counts, merged.num_windows)?.estimate(&channel)))
}

fn check(options: &Options) -> Result<()> {
    let alpha_ok = options.alpha > 0.0 && options.alpha < 1.0;
    if alpha_ok && options.min_effect >= 0.0 {
        return Ok(());
    }
    Err(Error::new(Code::InvalidArgument, "the options of a drift judgement are out of range")
        .expected("0 < alpha < 1 and min_effect >= 0")
        .found(format!("alpha {} and min_effect {}", options.alpha, options.min_effect)))
}

fn summary(range: JudgedWindows<'_>) -> Windows {
    Windows {
        start: range.starts.start,
        end: range.starts.end,
        num_windows: range.merged.num_windows,
        num_reports: range.merged.num_reports,
    }
}

fn judge_field(
    field: &BaselineField,
    bundle: &RegisteredBundle,
    merged: &Merged,
    reference: Option<&Merged>,
    options: &Options,
) -> Result<FieldDrift> {
    match (&field.shares, reference) {
        (Some(shares), _) if field.num_devices > 0 => {
            let reference = Reference::Shares { shares, num_devices: field.num_devices };
            measure(field, bundle, merged, &reference, options)
        }
        // Items grow older by themselves: against a month ago that is no drift. Who asks for a reference gets it.
        (_, Some(_)) if options.reference.is_none() && field.name.starts_with("feature.") => {
            Ok(skipped(field, merged, Skipped::NoReference, options))
        }
        (_, Some(before)) => {
            let none = Histogram::new(field.bins.num_bins());
            let counts = before.answers.get(&field.name).unwrap_or(&none);
            let answers = Answers::new(field, bundle, counts, before.num_windows)?;
            measure(field, bundle, merged, &Reference::Answers(answers), options)
        }
        (_, None) => Ok(skipped(field, merged, Skipped::NoReference, options)),
    }
}

/// What is known of a field that is not judged.
fn skipped(field: &BaselineField, merged: &Merged, why: Skipped, options: &Options) -> FieldDrift {
    let num_answers = merged.answers.get(&field.name).map_or(0, Histogram::total);
    let few = num_answers < options.min_answers.max(1);
    let skipped = Some(if few { Skipped::TooFewAnswers } else { why });
    FieldDrift { skipped, ..FieldDrift::unjudged(&field.name, num_answers) }
}

fn measure(
    field: &BaselineField,
    bundle: &RegisteredBundle,
    merged: &Merged,
    reference: &Reference<'_>,
    options: &Options,
) -> Result<FieldDrift> {
    let none = Histogram::new(field.bins.num_bins());
    let counts = merged.answers.get(&field.name).unwrap_or(&none);
    let mut out = FieldDrift::unjudged(&field.name, counts.total());
    let few_before =
        matches!(reference, Reference::Answers(before) if before.counts.total() < options.min_answers.max(1));
    if counts.total() < options.min_answers.max(1) || few_before {
        return Ok(skipped(field, merged, Skipped::TooFewReferenceAnswers, options));
    }
    let channel = Channel::new(bundle.epsilon_per_field(), field.bins.num_bins())?;
    let answers = Answers::new(field, bundle, counts, merged.num_windows)?;
    compare(&mut out, field, &answers, reference, &channel)?;
    if let Some(layout) = Layout::of(bundle.baseline(), field) {
        let before = match reference {
            Reference::Shares { shares, num_devices } => Side::counted(shares, *num_devices),
            Reference::Answers(before) => before.side(&channel, options.min_answers)?,
        };
        let now = answers.side(&channel, options.min_answers)?;
        let found = compare_segments(&before, &now, layout.segments)?;
        if layout.judges {
            if found.test.degrees_of_freedom == 0 {
                return Ok(FieldDrift {
                    skipped: Some(Skipped::TooFewAnswers),
                    ..FieldDrift::unjudged(&field.name, counts.total())
                });
            }
            // That segments moved is told by other fields, and that devices have nothing to tell by none.
            let [before, now] = found.shares();
            note(&mut out, &now, &before, layout.effect(&found), &found.test);
            out.moves = layout.moves(&found);
        }
        out.segments = layout.attribute(&found);
    }
    if matches!(field.bins, FieldKind::Numeric { .. }) {
        compare_order(&mut out, &answers, reference, &channel)?;
    }
    Ok(out)
}

impl<'a> Answers<'a> {
    pub(crate) fn new(
        field: &BaselineField,
        bundle: &RegisteredBundle,
        counts: &'a Histogram,
        num_windows: u64,
    ) -> Result<Self> {
        let channel = Channel::new(bundle.epsilon_per_field(), field.bins.num_bins())?;
        let shares = channel.debias(counts.counts()).shares;
        let design_effect = design_effect(num_windows, bundle.answered_share(), &channel, &shares);
        Ok(Self { counts, design_effect })
    }

    /// Counts `[num_bins]` of as many answers as are independent for certain.
    fn independent(&self) -> Vec<u64> {
        let fewer = |count: &u64| (*count as f64 / self.design_effect).round() as u64;
        self.counts.counts().iter().map(fewer).collect()
    }

    /// For what is inside of segments of at least `min_answers` answers.
    pub(crate) fn side(&self, channel: &Channel, min_answers: u64) -> Result<Side> {
        Side::noised(self.counts.counts(), self.design_effect, channel, min_answers)
    }

    /// Shares of all answers, with the standard errors of the independent ones.
    fn estimate(&self, channel: &Channel) -> Estimate {
        let independent = channel.debias(&self.independent());
        Estimate { shares: channel.debias(self.counts.counts()).shares, ..independent }
    }
}

fn compare(
    out: &mut FieldDrift,
    field: &BaselineField,
    answers: &Answers<'_>,
    reference: &Reference<'_>,
    channel: &Channel,
) -> Result<()> {
    let now = answers.estimate(channel);
    let (before, test): (Estimate, TestResult) = match reference {
        Reference::Shares { shares, num_devices } => (
            Estimate::counted(shares, *num_devices),
            noised_counts_against_shares(&answers.independent(), shares, *num_devices, channel)?,
        ),
        Reference::Answers(before) => (
            before.estimate(channel),
            noised_counts_against_counts(&answers.independent(), &before.independent(), channel)?,
        ),
    };
    note(out, &now.shares, &before.shares, distance::effect(&now, &before), &test);
    out.moves = attribution::moves(&before, &now, &|bin| field.bins.name_of_bin(bin));
    out.shares = now.shares;
    out.standard_errors = now.standard_errors;
    out.baseline_shares = before.shares;
    Ok(())
}

/// What the order of the bins tells beyond [`compare`].
fn compare_order(
    out: &mut FieldDrift,
    answers: &Answers<'_>,
    reference: &Reference<'_>,
    channel: &Channel,
) -> Result<()> {
    let trend = match reference {
        Reference::Shares { shares, num_devices } => {
            noised_trend_against_shares(&answers.independent(), shares, *num_devices, channel)?
        }
        Reference::Answers(before) => {
            noised_trend_against_counts(&answers.independent(), &before.independent(), channel)?
        }
    };
    let over_bins = TestResult {
        statistic: out.statistic.unwrap_or(0.0),
        degrees_of_freedom: out.degrees_of_freedom.unwrap_or(0),
        p_value: out.p_value.unwrap_or(1.0),
    };
    out.trend_statistic = Some(trend.statistic);
    out.p_value = Some(either(&over_bins, &trend));
    out.wasserstein = Some(distance::wasserstein_bins(&out.shares, &out.baseline_shares));
    out.kolmogorov_smirnov = Some(distance::kolmogorov_smirnov(&out.shares, &out.baseline_shares));
    Ok(())
}

/// What was measured between shares now and before.
fn note(out: &mut FieldDrift, now: &[f64], before: &[f64], effect: f64, test: &TestResult) {
    out.psi = Some(distance::psi(now, before));
    out.jensen_shannon = Some(distance::jensen_shannon(now, before));
    out.effect = Some(effect);
    out.statistic = Some(test.statistic);
    out.degrees_of_freedom = Some(test.degrees_of_freedom);
    out.p_value = Some(test.p_value);
}

fn alarm(fields: &mut [FieldDrift], options: &Options) {
    let p_values: Vec<f64> = fields.iter().filter_map(|field| field.p_value).collect();
    let judged = fields.iter_mut().filter(|field| field.p_value.is_some());
    for (field, adjusted) in judged.zip(holm(&p_values)) {
        field.adjusted_p_value = Some(adjusted);
        field.shifted = adjusted < options.alpha;
        field.drifted = field.shifted && field.effect.unwrap_or(0.0) >= field.min_effect;
        if !field.shifted {
            field.moves.clear();
        }
        for segment in &mut field.segments {
            segment.shifted =
                field.shifted && segment.adjusted_p_value.is_some_and(|adjusted| adjusted < options.alpha);
            if !segment.shifted {
                segment.moves.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_CALM_PARTS, calm_parts, windows_until};

    #[test]
    fn calm_parts_are_as_long_as_what_is_judged_from_the_latest_on() {
        assert_eq!(calm_parts(&(0..25), &(100..110)), [15..25, 5..15]);
        assert_eq!(calm_parts(&(5..25), &(100..110)), [15..25, 5..15]);
        assert!(calm_parts(&(0..9), &(100..110)).is_empty());
        assert!(
            calm_parts(&(0..25), &(0..i64::MAX)).is_empty(),
            "windows without a beginning have no length"
        );
        assert_eq!(calm_parts(&(i64::MIN..50), &(100..101)).len() as i64, MAX_CALM_PARTS);
    }

    #[test]
    fn the_last_windows_end_with_the_latest_that_has_reports() {
        assert_eq!(windows_until(Some(700), 7, 100), 100..800);
        assert_eq!(windows_until(Some(700), 1, 100), 700..800);
        assert!(windows_until(None, 7, 100).is_empty());
    }
}
