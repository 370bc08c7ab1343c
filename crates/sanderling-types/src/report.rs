//! The report: the one message that a device sends, unless its user shares sessions too.

use serde::{Deserialize, Serialize};

use crate::json::{quoted, to_text};
use crate::order::{repeated, sorted_positions};
use crate::{
    Baseline, Code, Error, FORMAT_VERSION, Result, Sha256Hash, TelemetryConstants, decode_json, json_names,
    json_object,
};

/// One randomised answer: the bin of `field` after k-ary randomised response on the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Observation {
    /// Name of a field of the bundle's baseline.
    pub field: String,
    /// The reported bin; carries at most `epsilon / fields_per_report` about the true one.
    pub bin: u16,
}
json_object!(Observation { field, bin });

/// What leaves a device: no identifier of a user, a device or an item, and every value randomised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// 32 hex digits drawn for this report alone, so that it is counted once.
    pub report_id: String,
    /// The bundle whose baseline defines the bins.
    pub bundle_sha256: Sha256Hash,
    /// Start of the window in Unix seconds, a multiple of `window_seconds`.
    pub window_start: i64,
    /// Length of the window.
    pub window_seconds: u32,
    /// The whole budget that this report spent.
    pub epsilon: f64,
    /// Randomised answers, at most one a field.
    pub observations: Vec<Observation>,
    /// Spaces that make every report of a bundle equally long.
    pub padding: String,
}
json_object!(Report {
    format_version,
    report_id,
    bundle_sha256,
    window_start,
    window_seconds,
    epsilon,
    observations,
    padding
});

impl Report {
    /// Largest accepted encoding.
    pub const MAX_BYTES: usize = 4096;

    /// Decodes one report and checks everything that needs no knowledge of the bundle.
    ///
    /// # Errors
    /// [`Code::ReportTooLarge`], [`Code::UnsupportedFormatVersion`] or [`Code::ReportInvalid`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(Error::new(Code::ReportTooLarge, "the report is too large")
                .expected(format!("at most {} bytes", Self::MAX_BYTES))
                .found(format!("{} bytes", bytes.len())));
        }
        let report: Self = decode_json(bytes, Self::MAX_BYTES, "report", Code::ReportInvalid)?;
        report.check()?;
        Ok(report)
    }

    /// Bytes as sent.
    ///
    /// # Panics
    /// Never: a report holds only JSON-encodable values.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_text(self).into_bytes()
    }

    /// Whether the longest report that a device can make of a bundle fits `report_bytes`.
    ///
    /// # Errors
    /// [`Code::ReportTooLarge`].
    pub fn check_longest(baseline: &Baseline, constants: &TelemetryConstants) -> Result<()> {
        let longest_bin = Baseline::MAX_BINS as u16 - 1;
        let lengths: Vec<usize> = baseline.fields.iter().map(|field| quoted(&field.name).len()).collect();
        let longest_first = sorted_positions(lengths.len(), &|a, b| lengths[b].cmp(&lengths[a]));
        let observation =
            |at: usize| Observation { field: baseline.fields[at].name.clone(), bin: longest_bin };
        let num_observations = constants.fields_per_report as usize;
        let observations = longest_first.into_iter().take(num_observations).map(observation).collect();
        let mut longest = Self {
            format_version: FORMAT_VERSION,
            report_id: "0".repeat(32),
            bundle_sha256: Sha256Hash::of(b""),
            window_start: i64::MIN,
            window_seconds: constants.window_seconds,
            epsilon: constants.epsilon,
            observations,
            padding: String::new(),
        };
        longest.pad_to(constants.report_bytes)
    }

    /// Fills `padding` so that the encoding has exactly `report_bytes`.
    ///
    /// # Errors
    /// [`Code::ReportTooLarge`] when the report is longer without any padding.
    pub fn pad_to(&mut self, report_bytes: u32) -> Result<()> {
        self.padding.clear();
        let len = self.encode().len();
        let missing = (report_bytes as usize).checked_sub(len).ok_or_else(|| {
            Error::new(Code::ReportTooLarge, "the report does not fit its padded size")
                .expected(format!("at most {report_bytes} bytes"))
                .found(format!("{len} bytes"))
        })?;
        self.padding = " ".repeat(missing);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let invalid = |what: &str| Err(Error::new(Code::ReportInvalid, format!("the report's {what}")));
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if self.report_id.len() != 32 || !self.report_id.chars().all(hex) {
            return invalid("report_id is not 32 lower-case hex digits");
        }
        if self.window_seconds == 0 || self.window_start.rem_euclid(i64::from(self.window_seconds)) != 0 {
            return invalid("window_start is not a multiple of window_seconds");
        }
        if !(self.epsilon.is_finite() && self.epsilon > 0.0) {
            return invalid("epsilon is not a positive number");
        }
        if self.observations.is_empty() {
            return invalid("observations are empty");
        }
        let fields: Vec<&str> =
            self.observations.iter().map(|observation| observation.field.as_str()).collect();
        if repeated(&fields).is_some() {
            return invalid("observations answer a field twice");
        }
        if self.padding.bytes().any(|byte| byte != b' ') {
            return invalid("padding holds something other than spaces");
        }
        debug_assert_eq!(self.format_version, FORMAT_VERSION);
        Ok(())
    }
}

/// What the collector did with a report that it acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportStatus {
    /// Stored durably by this request.
    Accepted,
    /// Stored durably before; not counted again.
    Duplicate,
}
json_names!(ReportStatus { Accepted = "accepted", Duplicate = "duplicate" });

/// The collector's answer to an acknowledged report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportReceipt {
    /// The id of the report.
    pub report_id: String,
    /// What was done.
    pub status: ReportStatus,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BaselineField, FieldKind};

    #[test]
    fn constants_whose_longest_report_does_not_fit_are_refused() {
        let field = |name: String| BaselineField {
            name,
            bins: FieldKind::Numeric { edges: vec![0.0] },
            shares: None,
            num_devices: 0,
        };
        let names = ["a".to_owned(), "b".repeat(60), "c".repeat(120)];
        let baseline = Baseline { format_version: FORMAT_VERSION, fields: names.map(field).to_vec() };
        let fits = |fields_per_report, report_bytes| {
            let constants =
                TelemetryConstants { fields_per_report, report_bytes, ..TelemetryConstants::default() };
            Report::check_longest(&baseline, &constants).is_ok()
        };
        assert!(fits(1, 512) && !fits(1, 300), "the longest name counts, not the first");
        assert!(!fits(3, 430) && fits(3, 1024));
    }
}
