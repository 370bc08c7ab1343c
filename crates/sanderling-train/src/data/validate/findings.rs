//! Anomalies as they are found.

use std::{collections::BTreeMap, path::Path};

use super::{Anomaly, AnomalyCode};
use crate::data::problem::{Problem, ProblemKind};

/// First occurrences that an anomaly names.
const MAX_LINES: usize = 5;

#[derive(Debug, Default)]
struct Finding {
    count: u64,
    lines: Vec<u64>,
    detail: String,
}

/// Counts of anomalies with the evidence of the first of each.
#[derive(Debug, Default)]
pub(super) struct Findings(BTreeMap<(AnomalyCode, String), Finding>);

impl Findings {
    /// Counts an occurrence; `detail` is asked for the first one only.
    pub(super) fn note(
        &mut self,
        code: AnomalyCode,
        file: &Path,
        line: Option<u64>,
        detail: impl FnOnce() -> String,
    ) {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let finding = self.0.entry((code, name)).or_default();
        if finding.count == 0 {
            finding.detail = detail();
        }
        finding.count += 1;
        if finding.lines.len() < MAX_LINES {
            finding.lines.extend(line);
        }
    }

    /// Counts an unusable row.
    pub(super) fn note_problem(&mut self, file: &Path, problem: &Problem) {
        let code = match problem.kind {
            ProblemKind::UnreadableRow => AnomalyCode::UnreadableRow,
            ProblemKind::EmptyId => AnomalyCode::EmptyId,
            ProblemKind::InvalidTimestamp => AnomalyCode::InvalidTimestamp,
            ProblemKind::NonFiniteValue => AnomalyCode::NonFiniteValue,
            ProblemKind::InvalidSplit => AnomalyCode::InvalidSplit,
            ProblemKind::BadPrice => AnomalyCode::BadPrice,
        };
        self.note(code, file, Some(problem.line), || {
            format!("line {}: expected {}, found {}", problem.line, problem.expected, problem.found)
        });
    }

    /// The anomalies by severity, code and file.
    pub(super) fn into_anomalies(self) -> Vec<Anomaly> {
        let anomaly = |((code, file), finding): ((AnomalyCode, String), Finding)| Anomaly {
            code,
            severity: code.severity(),
            count: finding.count,
            file,
            lines: finding.lines,
            detail: finding.detail,
            suggested_fix: code.suggested_fix().to_owned(),
        };
        let mut anomalies: Vec<Anomaly> = self.0.into_iter().map(anomaly).collect();
        anomalies.sort_by_key(|anomaly| anomaly.severity);
        anomalies
    }
}
