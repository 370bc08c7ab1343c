//! What of a number of reports may be shown: nothing that fewer than k of them make.
//!
//! Reports are noised on the device, so this protects nobody who is not protected already; it keeps people from reading
//! anything into a handful of answers, and windows with a handful of devices from being told apart. Of sessions, which are not
//! noised, administrators are shown nothing but their number.

use serde::Serialize;
use serde_json::Value;

use sanderling_types::{Code, Error, Result};

use crate::drift::{DriftReport, FieldDrift, Options, Skipped};
use crate::{BundleStatus, WindowStatus};

/// Fewest reports or answers behind a number that is shown.
pub(crate) fn min_reports() -> u64 {
    Options::default().min_answers
}

/// The count, unless it is too small to be shown.
pub(crate) fn shown(count: u64) -> Option<u64> {
    (count >= min_reports()).then_some(count)
}

/// Leaves the counts of small windows, and of few sessions, out. Answers the sum of the other windows: a sum over all would tell a
/// single small one.
pub(crate) fn hide_small_counts(bundles: &mut [BundleStatus]) -> u64 {
    let mut sum = 0;
    for bundle in bundles.iter_mut() {
        bundle.num_sessions = bundle.num_sessions.and_then(shown);
    }
    for WindowStatus { num_reports, .. } in bundles.iter_mut().flat_map(|bundle| &mut bundle.windows) {
        *num_reports = num_reports.and_then(shown);
        sum += num_reports.unwrap_or(0);
    }
    sum
}

/// A verdict as JSON, with `null` for counts that are too small.
///
/// # Errors
/// [`Code::Internal`].
pub(crate) fn verdict(report: &DriftReport) -> Result<Value> {
    let mut out = serde_json::to_value(report)
        .map_err(|error| Error::new(Code::Internal, "the verdict cannot be written").source_error(error))?;
    out["num_reports"] = shown(report.num_reports).into();
    out["windows"]["num_reports"] = shown(report.windows.num_reports).into();
    if let Some(reference) = &report.reference {
        out["reference"]["num_reports"] = shown(reference.num_reports).into();
    }
    for (at, field) in report.fields.iter().enumerate() {
        out["fields"][at]["num_answers"] = shown(field.num_answers).into();
    }
    Ok(out)
}

/// One window of a series.
#[derive(Debug, Serialize)]
pub(crate) struct SeriesWindow {
    window_start: i64,
    num_reports: Option<u64>,
    fields: Vec<SeriesField>,
}

#[derive(Debug, Serialize)]
struct SeriesField {
    name: String,
    num_answers: Option<u64>,
    effect: Option<f64>,
    psi: Option<f64>,
    adjusted_p_value: Option<f64>,
    shifted: bool,
    drifted: bool,
    skipped: Option<Skipped>,
}

impl SeriesWindow {
    /// The verdict on one window, in short.
    pub(crate) fn new(report: DriftReport) -> Self {
        let field = |field: FieldDrift| SeriesField {
            name: field.name,
            num_answers: shown(field.num_answers),
            effect: field.effect,
            psi: field.psi,
            adjusted_p_value: field.adjusted_p_value,
            shifted: field.shifted,
            drifted: field.drifted,
            skipped: field.skipped,
        };
        Self {
            window_start: report.windows.start,
            num_reports: shown(report.num_reports),
            fields: report.fields.into_iter().map(field).collect(),
        }
    }
}
