//! Golden files and their checker.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Runtime, difference};

/// How close numbers must be. Ids, bins, counts and order are always compared exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    /// Bit for bit: features of one machine word, sketches, reports, error codes.
    Exact,
    /// Model outputs: runtimes may fuse and reorder additions. 1e-4 absolute plus 1e-4 relative.
    Scores,
}

impl Tolerance {
    /// Largest accepted difference from `expected`.
    #[must_use]
    pub fn bound(self, expected: f64) -> f64 {
        match self {
            Tolerance::Exact => 0.0,
            Tolerance::Scores => 1e-4 + 1e-4 * expected.abs(),
        }
    }
}

/// An operation that has not been answered yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Unique name.
    pub name: String,
    /// The operation.
    pub operation: Value,
    /// How close numbers must be.
    pub tolerance: Tolerance,
}

/// An operation with the reference answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenCase {
    /// Operation, name and tolerance.
    #[serde(flatten)]
    pub expectation: Expectation,
    /// What the native reference answered.
    pub expected: Value,
}

/// One golden file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenFile {
    /// Version of this layout.
    pub format_version: u32,
    /// The bundle that the answers belong to.
    pub bundle_sha256: String,
    /// The command that wrote the file.
    pub written_by: String,
    /// The cases.
    pub cases: Vec<GoldenCase>,
}

/// Runs every case on `runtime`; one line for each case that differs.
///
/// # Errors
/// When the runtime itself cannot be used or answers another number of operations.
pub fn check(file: &GoldenFile, runtime: &mut dyn Runtime) -> Result<Vec<String>, String> {
    let operations: Vec<Value> = file.cases.iter().map(|case| case.expectation.operation.clone()).collect();
    let answers = runtime.run(&operations)?;
    if answers.len() != operations.len() {
        return Err(format!(
            "{} answered {} of {} operations",
            runtime.name(),
            answers.len(),
            operations.len()
        ));
    }
    let failures = file.cases.iter().zip(&answers).filter_map(|(case, answer)| {
        let found = difference(&case.expected, answer, case.expectation.tolerance)?;
        Some(format!("{} on {}: {found}", case.expectation.name, runtime.name()))
    });
    Ok(failures.collect())
}

/// Reads a golden file.
///
/// # Errors
/// When it cannot be read or is not one.
pub fn read_golden(path: &Path) -> Result<GoldenFile, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes a golden file, one case a line so that changes can be read.
///
/// # Errors
/// When it cannot be written.
pub fn write_golden(file: &GoldenFile, path: &Path) -> Result<(), String> {
    let cases: Result<Vec<String>, _> = file.cases.iter().map(serde_json::to_string).collect();
    let cases = cases.map_err(|error| error.to_string())?.join(",\n");
    let text = format!(
        "{{\"format_version\":{},\"bundle_sha256\":{:?},\"written_by\":{:?},\"cases\":[\n{cases}\n]}}\n",
        file.format_version, file.bundle_sha256, file.written_by
    );
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
