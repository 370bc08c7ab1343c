//! What a device counts, and the one report that it makes of a window.
//!
//! Every value is counted exactly, on the device, in the bins of the bundle's baseline. A report
//! carries one randomised answer for each of `fields_per_report` fields that are drawn without
//! looking at the data. The host keeps the state between visits and never sends it.

use sanderling_sketch::{Histogram, noise};
use sanderling_types::{
    Baseline, Code, Error, FORMAT_VERSION, Fields, FromJson, ItemId, Json, Mismatch, Observation, Report,
    Result, Sha256Hash, Source, TelemetryConstants, json_object, quoted, sorted_positions,
};
use serde::Serialize;

use crate::observe::{
    FIELD_CALIBRATION, FIELD_FIRST_SCORE, FIELD_HISTORY, Observed, field_index, history_segment,
    observed_choice, observed_fate, observed_interaction, observed_latency, observed_position, unobserved,
};
use crate::{Bundle, Outcome};

/// Largest count that a stored state may claim for one bin: numbers above it are not exact in
/// JavaScript.
const MAX_COUNT: u64 = 1 << 53;

/// The counts of one window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WindowCounts {
    /// Start of the window in Unix seconds, a multiple of the bundle's `window_seconds`; `None`
    /// until the first list, which brings the time.
    pub window_start: Option<i64>,
    /// Lists that were made from a session, not from the fallback.
    pub num_lists: u64,
    /// Counts `[num_bins]` of each field, in the order of the baseline's fields.
    pub fields: Vec<FieldCounts>,
}
json_object!(WindowCounts { window_start, num_lists, fields });

/// The counts of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldCounts {
    /// Name of the field in the baseline.
    pub name: String,
    /// Counts `[num_bins]`.
    pub counts: Histogram,
}

impl FromJson for FieldCounts {
    fn from_json(value: Json<'_>) -> std::result::Result<Self, Mismatch> {
        let mut fields = Fields::of(value)?;
        let name = fields.take("name")?;
        let counts = Histogram::from_counts(fields.take("counts")?);
        fields.finish().map(|()| Self { name, counts })
    }
}

/// Everything that telemetry remembers between visits. Its size is bounded by the baseline's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TelemetryState {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The bundle whose baseline defines the bins.
    pub bundle_sha256: Sha256Hash,
    /// The window that is being counted.
    pub current: WindowCounts,
    /// The window before it, as long as the host has not taken its report; at most one is kept.
    pub closed: Option<WindowCounts>,
}
json_object!(TelemetryState { format_version, bundle_sha256, current, closed });

/// Counts values in the bins of a bundle's baseline.
#[derive(Debug, Clone)]
pub struct Telemetry {
    baseline: Baseline,
    constants: TelemetryConstants,
    bundle_sha256: Sha256Hash,
    current: WindowCounts,
    closed: Option<WindowCounts>,
    /// Of the newest list, until its outcome is known.
    shown: Option<Shown>,
}

/// What an outcome is counted against.
#[derive(Debug, Clone)]
struct Shown {
    /// By position.
    sources: Vec<Source>,
    /// Bin of the first own item's ranker score.
    band: Option<usize>,
    /// Segment of the history that it was made from.
    history: usize,
}

impl Telemetry {
    /// Starts empty.
    #[must_use]
    pub fn new(baseline: &Baseline, constants: &TelemetryConstants, bundle_sha256: Sha256Hash) -> Self {
        Self {
            current: WindowCounts::empty(baseline),
            closed: None,
            shown: None,
            baseline: baseline.clone(),
            constants: constants.clone(),
            bundle_sha256,
        }
    }

    /// Counts what one list showed. The first list of a later window closes the current one.
    pub fn record(&mut self, outcome: &Outcome) {
        let window_start = self.window_start_of(outcome.now);
        if self.current.window_start.is_some_and(|current| current < window_start) {
            let empty = WindowCounts::empty(&self.baseline);
            self.closed = Some(std::mem::replace(&mut self.current, empty));
        }
        self.current.window_start.get_or_insert(window_start);
        let is_ranked = u64::from(!outcome.retrieval_scores.is_empty());
        self.current.num_lists = self.current.num_lists.saturating_add(is_ranked);
        for observed in &outcome.observations {
            self.current.count(*observed);
        }
        let first_score = field_index(&self.baseline, FIELD_FIRST_SCORE);
        let first = outcome.observations.iter().find(|observed| Some(observed.field) == first_score);
        self.shown = Some(Shown {
            sources: outcome.response.recommendations.iter().map(|one| one.source).collect(),
            band: first.map(|observed| observed.bin),
            history: history_segment(outcome.num_known),
        });
    }

    /// Counts what became of the newest list: `None` when nothing was chosen, else the 1-based position of the item that
    /// was. Its source, and whether lists of that first score and that length of history are chosen from, are counted once a list.
    /// A position that the newest list does not have is one of another list, and is not counted.
    pub fn record_outcome(&mut self, position: Option<u32>) {
        let position = position.filter(|position| *position > 0);
        if let (Some(position), Some(shown)) = (position, &self.shown)
            && position as usize > shown.sources.len()
        {
            return;
        }
        self.current.count_some(observed_position(&self.baseline, position));
        let Some(shown) = self.shown.take() else { return };
        let chosen = position.and_then(|position| shown.sources.get(position as usize - 1)).copied();
        self.current.count_some(observed_choice(&self.baseline, chosen));
        let mut fate = |name: &str, segment: usize| {
            self.current.count_some(observed_fate(&self.baseline, name, segment, position.is_some()));
        };
        fate(FIELD_HISTORY, shown.history);
        if let Some(band) = shown.band {
            fate(FIELD_CALIBRATION, band);
        }
    }

    /// Counts an interaction: its item, and the first of the item's categories.
    pub fn record_interaction(&mut self, bundle: &Bundle, item_id: &ItemId) {
        for observed in observed_interaction(bundle, item_id) {
            self.current.count_some(observed);
        }
    }

    /// Counts how long a list took to make, in milliseconds of the host's clock.
    pub fn record_latency(&mut self, milliseconds: f32) {
        self.current.count_some(observed_latency(&self.baseline, milliseconds));
    }

    /// The start of the window that `now` (Unix seconds) falls into.
    #[must_use]
    pub fn window_start_of(&self, now: i64) -> i64 {
        let length = i64::from(self.constants.window_seconds);
        now.saturating_sub(now.rem_euclid(length))
    }

    /// A copy of the counts, for the host to store.
    #[must_use]
    pub fn state(&self) -> TelemetryState {
        TelemetryState {
            format_version: FORMAT_VERSION,
            bundle_sha256: self.bundle_sha256,
            current: self.current.clone(),
            closed: self.closed.clone(),
        }
    }

    /// Takes back counts that [`Telemetry::state`] gave, replacing the present ones.
    ///
    /// # Errors
    /// [`Code::UnsupportedFormatVersion`], or [`Code::InvalidArgument`] when the state belongs to
    /// another bundle or does not have exactly its fields and bins; nothing is changed then.
    pub fn restore(&mut self, state: TelemetryState) -> Result<()> {
        if state.format_version != FORMAT_VERSION {
            return Err(Error::new(
                Code::UnsupportedFormatVersion,
                "the telemetry state has another format version",
            )
            .expected(FORMAT_VERSION)
            .found(state.format_version));
        }
        if state.bundle_sha256 != self.bundle_sha256 {
            return Err(Error::new(Code::InvalidArgument, "the telemetry state belongs to another bundle")
                .expected(self.bundle_sha256)
                .found(state.bundle_sha256)
                .hint("report or erase it with the bundle that it belongs to"));
        }
        let length = self.constants.window_seconds;
        for window in std::iter::once(&state.current).chain(&state.closed) {
            window.check(&self.baseline, length)?;
        }
        self.current = state.current;
        self.closed = state.closed;
        Ok(())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.current = WindowCounts::empty(&self.baseline);
        self.closed = None;
        self.shown = None;
    }

    /// Forgets the counts of one window, as the host does once its report is safely queued.
    pub fn discard(&mut self, window_start: i64) {
        if self.closed.as_ref().is_some_and(|closed| closed.window_start == Some(window_start)) {
            self.closed = None;
        } else if self.current.window_start.is_none_or(|current| current == window_start) {
            self.current = WindowCounts::empty(&self.baseline);
        }
    }

    /// The report of a window, padded to the bundle's `report_bytes`. The same counts, seed and id
    /// give the same report. A second report of a window with another seed would spend its privacy
    /// budget again: the host must make one and [`Telemetry::discard`] the counts.
    ///
    /// `fields_per_report` of all declared fields are drawn without looking at the counts; of each,
    /// one of the device's own values is drawn, or its bin `untold` or else any bin where it has none, and randomised with
    /// an equal part of `epsilon`.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when `window_start` is not the start of a window or its counts are
    /// not here, [`Code::ReportTooLarge`] when the fields do not fit.
    pub fn build_report(&self, window_start: i64, seed: [u8; 32], report_id: [u8; 16]) -> Result<Report> {
        let window = self.window(window_start)?;
        let constants = &self.constants;
        let num_fields = (constants.fields_per_report as usize).min(self.baseline.fields.len());
        if num_fields == 0 {
            return Err(Error::new(Code::InvalidArgument, "the baseline declares no field to report"));
        }
        let mut rng = noise::rng_from_seed(seed);
        let mut observations = Vec::with_capacity(num_fields);
        for field in choose_fields(self.baseline.fields.len(), num_fields, &mut rng) {
            let channel = noise::Channel::new(
                constants.epsilon / f64::from(constants.fields_per_report),
                self.baseline.fields[field].bins.num_bins(),
            )?;
            let counts = window.fields[field].counts.counts();
            let drawn = noise::choose_weighted(counts, &mut rng);
            let bins = &self.baseline.fields[field].bins;
            let bin = drawn.or_else(|| unobserved(bins));
            let bin = bin.unwrap_or_else(|| noise::choose(counts.len(), &mut rng));
            let bin = channel.randomise(bin, &mut rng) as u16;
            observations.push(Observation { field: self.baseline.fields[field].name.clone(), bin });
        }
        let mut report = Report {
            format_version: FORMAT_VERSION,
            report_id: report_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            bundle_sha256: self.bundle_sha256,
            window_start,
            window_seconds: constants.window_seconds,
            epsilon: constants.epsilon,
            observations,
            padding: String::new(),
        };
        report.pad_to(constants.report_bytes)?;
        Ok(report)
    }

    fn window(&self, window_start: i64) -> Result<&WindowCounts> {
        if self.window_start_of(window_start) != window_start {
            return Err(Error::new(Code::InvalidArgument, "window_start is not the start of a window")
                .expected(format!("a multiple of {} seconds", self.constants.window_seconds))
                .found(window_start));
        }
        let closed = self.closed.as_ref().filter(|closed| closed.window_start == Some(window_start));
        let current = Some(&self.current);
        let found =
            closed.or(current.filter(|window| window.window_start.is_none_or(|start| start == window_start)));
        found.ok_or_else(|| {
            let mut starts = String::new();
            for start in self.closed.iter().chain(current).filter_map(|window| window.window_start) {
                starts.push_str(if starts.is_empty() { "" } else { " or " });
                starts.push_str(&start.to_string());
            }
            Error::new(Code::InvalidArgument, "nothing was counted in this window")
                .expected(starts)
                .found(window_start)
        })
    }
}

impl WindowCounts {
    fn empty(baseline: &Baseline) -> Self {
        let counts = |bins: usize| Histogram::new(bins);
        let fields = baseline
            .fields
            .iter()
            .map(|field| FieldCounts { name: field.name.clone(), counts: counts(field.bins.num_bins()) });
        Self { window_start: None, num_lists: 0, fields: fields.collect() }
    }

    fn count(&mut self, observed: Observed) {
        if let Some(field) = self.fields.get_mut(observed.field) {
            // Telemetry never hurts its host: a bin that does not exist is not counted.
            let _ = field.counts.record(observed.bin);
        }
    }

    fn count_some(&mut self, observed: Option<Observed>) {
        if let Some(observed) = observed {
            self.count(observed);
        }
    }

    fn check(&self, baseline: &Baseline, window_seconds: u32) -> Result<()> {
        let invalid =
            |message: &str| Error::new(Code::InvalidArgument, format!("the telemetry state {message}"));
        let starts_well = |start: i64| start.rem_euclid(i64::from(window_seconds)) == 0;
        if !self.window_start.is_none_or(starts_well) {
            return Err(invalid("does not start at the start of a window"));
        }
        if self.fields.len() != baseline.fields.len() {
            return Err(invalid("has another number of fields")
                .expected(baseline.fields.len())
                .found(self.fields.len()));
        }
        for (field, declared) in self.fields.iter().zip(&baseline.fields) {
            if field.name != declared.name || field.counts.num_bins() != declared.bins.num_bins() {
                return Err(invalid("disagrees with the baseline")
                    .expected(format!(
                        "field {} with {} bins",
                        quoted(&declared.name),
                        declared.bins.num_bins()
                    ))
                    .found(format!("field {} with {} bins", quoted(&field.name), field.counts.num_bins())));
            }
            if field.counts.counts().iter().any(|count| *count > MAX_COUNT) {
                return Err(invalid("has a count that is too large").expected(format!("at most {MAX_COUNT}")));
            }
        }
        Ok(())
    }
}

/// Draws `num_chosen` of `num_fields` without replacement, each subset equally likely, ascending.
fn choose_fields(num_fields: usize, num_chosen: usize, rng: &mut noise::Rng) -> Vec<usize> {
    let mut fields: Vec<usize> = (0..num_fields).collect();
    for at in 0..num_chosen {
        let other = at + noise::choose(num_fields - at, rng);
        fields.swap(at, other);
    }
    let chosen = &fields[..num_chosen];
    let ascending = sorted_positions(num_chosen, &|a, b| chosen[a].cmp(&chosen[b]));
    ascending.into_iter().map(|at| chosen[at]).collect()
}
