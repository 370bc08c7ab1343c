//! What can be wrong with one row, for readers that stop at it and for checks that count it.

use std::path::Path;

use sanderling_types::{Code, Error};

/// The kind of a row's problem; [`crate::data::validate`] turns each into an anomaly code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum ProblemKind {
    /// The row cannot be taken apart: wrong number of fields, not UTF-8, not a JSON object.
    UnreadableRow,
    /// A user or item id is empty.
    EmptyId,
    /// A timestamp is neither a number nor a date.
    InvalidTimestamp,
    /// A value is not a finite number.
    NonFiniteValue,
    /// A split part is not one of the three words.
    InvalidSplit,
    /// A price is negative or not a finite number.
    BadPrice,
}

/// One row that cannot be used, with its evidence.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) kind: ProblemKind,
    /// 1-based line of the file (row number in Parquet).
    pub(crate) line: u64,
    pub(crate) expected: String,
    pub(crate) found: String,
    pub(crate) hint: &'static str,
}

impl Problem {
    pub(crate) fn new(kind: ProblemKind, line: u64, expected: impl Into<String>, found: &str) -> Self {
        Self { kind, line, expected: expected.into(), found: shorten(found), hint: kind.hint() }
    }

    /// The problem as the error of a reader that stops at it.
    pub(crate) fn into_error(self, path: &Path) -> Error {
        Error::new(
            Code::DataInvalid,
            format!("{} line {}: {}", path.display(), self.line, self.kind.message()),
        )
        .expected(self.expected)
        .found(self.found)
        .hint(self.hint)
    }
}

impl ProblemKind {
    fn message(self) -> &'static str {
        match self {
            ProblemKind::UnreadableRow => "the row cannot be read",
            ProblemKind::EmptyId => "an id is empty",
            ProblemKind::InvalidTimestamp => "the timestamp cannot be read",
            ProblemKind::NonFiniteValue => "the value is not a finite number",
            ProblemKind::InvalidSplit => "the split part is unknown",
            ProblemKind::BadPrice => "the price is not usable",
        }
    }

    /// What to do about it; also the suggested fix of the anomaly.
    pub(crate) fn hint(self) -> &'static str {
        match self {
            ProblemKind::UnreadableRow => "correct the row, or quote fields that hold the separator",
            ProblemKind::EmptyId => "give the row an id or remove it",
            ProblemKind::InvalidTimestamp => "write Unix seconds, milliseconds or ISO-8601",
            ProblemKind::NonFiniteValue => "write a finite number or leave the field empty",
            ProblemKind::InvalidSplit => "write train, validation or test, or leave the field empty",
            ProblemKind::BadPrice => "write a finite number that is not negative, or leave the field empty",
        }
    }
}

/// Why the next row could not be had.
#[derive(Debug)]
pub(crate) enum RowError {
    /// This row is unusable; the ones after it can still be read.
    Row(Problem),
    /// Nothing more can be read.
    Fatal(Error),
}

impl RowError {
    /// The error of a reader that stops at the first problem.
    pub(crate) fn into_error(self, path: &Path) -> Error {
        match self {
            RowError::Row(problem) => problem.into_error(path),
            RowError::Fatal(error) => error,
        }
    }
}

impl From<Problem> for RowError {
    fn from(problem: Problem) -> Self {
        RowError::Row(problem)
    }
}

/// Keeps evidence readable: a damaged file can have a field of a megabyte.
fn shorten(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    if text.is_empty() {
        return "nothing".to_owned();
    }
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
