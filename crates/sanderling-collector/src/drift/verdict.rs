//! What a judgement says.

use sanderling_types::Sha256Hash;
use serde::{Deserialize, Serialize};

use super::attribution::{Move, SegmentDrift};

/// Windows that were added up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// First start that was looked for, Unix seconds.
    pub start: i64,
    /// First start that no longer was.
    pub end: i64,
    /// Windows with at least one report.
    pub num_windows: u64,
    /// Reports in them.
    pub num_reports: u64,
}

/// Why a field was not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Skipped {
    /// Fewer answers than [`super::Options::min_answers`], or too few in every band of choices to have a rate.
    TooFewAnswers,
    /// The baseline has no shares for it and there are no windows before the judged ones, or it is a feature that moves with
    /// the calendar and no reference was given.
    NoReference,
    /// Fewer answers than [`super::Options::min_answers`] in the reference windows.
    TooFewReferenceAnswers,
}

/// What it is of a recommender that moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// What the models are given: features, and what users do.
    Data,
    /// What the models answer.
    Scores,
    /// What a score means: how often something is chosen at the same score.
    Concept,
    /// What is shown and chosen.
    Outcomes,
    /// How well it runs: faults and latency.
    Operation,
}

impl Aspect {
    /// The field of choices by band of the first score, which is tested band by band.
    const CONCEPT: &str = "outcome.calibration";

    pub(super) fn of(field: &str) -> Self {
        match field.split('.').next() {
            _ if field == Self::CONCEPT => Self::Concept,
            Some("score") => Self::Scores,
            Some("outcome" | "impression") => Self::Outcomes,
            Some("fault" | "latency") => Self::Operation,
            _ => Self::Data,
        }
    }

    /// The name in JSON and in words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Scores => "scores",
            Self::Concept => "concept",
            Self::Outcomes => "outcomes",
            Self::Operation => "operation",
        }
    }
}

/// The judgement of one field. Shares and standard errors are those before the noise; numbers are
/// absent where the field was not judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldDrift {
    /// Name of the field.
    pub name: String,
    /// What it tells of.
    pub aspect: Aspect,
    /// Answers in the judged windows.
    pub num_answers: u64,
    /// Why the field was not judged, if it was not.
    pub skipped: Option<Skipped>,
    /// Population stability index of `shares` against `baseline_shares`; noise only makes it larger. This, the other distances, the effect and the tests leave the
    /// bin `untold` of a field out, which `shares` have.
    pub psi: Option<f64>,
    /// Jensen-Shannon distance, base 2; noise only makes it larger.
    pub jensen_shannon: Option<f64>,
    /// Wasserstein distance in bins; only of numeric fields. Noise only makes it larger.
    pub wasserstein: Option<f64>,
    /// The difference that sampling and noise do not explain, on the scale of `psi`; of fates by
    /// segment [`sanderling_sketch::segments::SegmentsTest::rate_effect`].
    pub effect: Option<f64>,
    /// The effect from which on a shift is drift: [`super::Options::min_effect`], or the effect that it has in calm windows, if that is more.
    pub min_effect: f64,
    /// Kolmogorov-Smirnov distance on bins; only of numeric fields. Noise only makes it larger.
    pub kolmogorov_smirnov: Option<f64>,
    /// Chi-squared statistic over all bins.
    pub statistic: Option<f64>,
    /// Its degrees of freedom.
    pub degrees_of_freedom: Option<u32>,
    /// Trend statistic, with one degree of freedom: whether mass moved up or down; only of numeric fields.
    pub trend_statistic: Option<f64>,
    /// Probability, without drift, of a statistic like one of the two.
    pub p_value: Option<f64>,
    /// The same after Holm's correction over all judged fields.
    pub adjusted_p_value: Option<f64>,
    /// Whether `adjusted_p_value` is under alpha: chance does not explain the difference, large or small.
    pub shifted: bool,
    /// Whether the field shifted and `effect` is at least `min_effect`.
    pub drifted: bool,
    /// The bins that moved most, of a field that shifted. Of a field that has both named segments and a label for devices with nothing to tell, `segments` tell it.
    pub moves: Vec<Move>,
    /// The same by segment, of fields that have some: inside of which shares moved. Empty where not judged, or where devices may have nothing in any segment.
    pub segments: Vec<SegmentDrift>,
    /// Debiased shares `[num_bins]`; may be slightly negative. Empty where not judged.
    pub shares: Vec<f64>,
    /// Standard errors of `shares`.
    pub standard_errors: Vec<f64>,
    /// Shares at training time, or debiased ones of the reference windows. Empty where not judged.
    pub baseline_shares: Vec<f64>,
}

impl FieldDrift {
    /// A field that nothing is said of but its answers.
    pub(super) fn unjudged(name: &str, num_answers: u64) -> Self {
        Self {
            name: name.to_owned(),
            aspect: Aspect::of(name),
            num_answers,
            skipped: None,
            psi: None,
            jensen_shannon: None,
            wasserstein: None,
            effect: None,
            min_effect: 0.0,
            kolmogorov_smirnov: None,
            statistic: None,
            degrees_of_freedom: None,
            trend_statistic: None,
            p_value: None,
            adjusted_p_value: None,
            shifted: false,
            drifted: false,
            moves: Vec::new(),
            segments: Vec::new(),
            shares: Vec::new(),
            standard_errors: Vec::new(),
            baseline_shares: Vec::new(),
        }
    }
}

/// The verdict on a bundle's windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    /// [`sanderling_types::FORMAT_VERSION`].
    pub format_version: u32,
    /// The bundle whose baseline was compared with.
    pub bundle_sha256: Sha256Hash,
    /// What was judged.
    pub windows: Windows,
    /// What fields without baseline shares were compared with.
    pub reference: Option<Windows>,
    /// Whether the reference was named ([`super::Options::reference`]), not only what was before.
    pub reference_is_named: bool,
    /// Parts of the reference that least effects were learned from; 0 where none was given, or it has less than two.
    pub num_calm_parts: u64,
    /// Reports in the judged windows.
    pub num_reports: u64,
    /// Every declared field, in the baseline's order.
    pub fields: Vec<FieldDrift>,
    /// Whether any field shifted.
    pub shifted: bool,
    /// Whether any field drifted.
    pub drifted: bool,
    /// Probability that any field shifts by chance.
    pub alpha: f64,
    /// The effect floor.
    pub min_effect: f64,
    /// The fewest answers that are judged or shown.
    pub min_answers: u64,
}
