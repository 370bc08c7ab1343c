//! The log of a tuning run: JSON Lines, appended and flushed after every step, so that a run that was
//! killed anywhere goes on after the last complete line.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use sanderling_types::{Code, Error, FORMAT_VERSION, Result, Sha256Hash};
use serde::{Deserialize, Serialize};

use crate::folder::io_error;
use crate::recipe::ModelRecipe;

/// The first line: what the run is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    pub(super) format_version: u32,
    /// Training and validation part.
    pub(super) data_sha256: Sha256Hash,
    /// The recipe that the trials vary, seed included.
    pub(super) recipe_sha256: Sha256Hash,
    pub(super) num_trials: usize,
}

impl Header {
    pub(super) fn new(data_sha256: Sha256Hash, recipe_sha256: Sha256Hash, num_trials: usize) -> Self {
        Self { format_version: FORMAT_VERSION, data_sha256, recipe_sha256, num_trials }
    }
}

/// Every other line: a trial at the end of a rung.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialRecord {
    /// Counted from 0, which is the recipe as it is.
    pub trial: usize,
    /// Counted from 0.
    pub rung: usize,
    /// Passes over the data so far.
    pub epochs: usize,
    /// Best validation NDCG@10: of the f32 weights on the cases of early stopping, and in the last rung of
    /// the packed bundle run by the engine in retrieval order.
    pub ndcg10: f64,
    /// Bytes of that bundle, about; in the last rung only.
    pub bundle_bytes: Option<u64>,
    /// What was tried.
    pub model: ModelRecipe,
}

/// An open log.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    pub(super) records: Vec<TrialRecord>,
}

impl Log {
    /// Opens a log, or begins it. A last line that a kill cut short is dropped.
    ///
    /// # Errors
    /// [`Code::Io`]; [`Code::InvalidArgument`] when the log is of another run or no log.
    pub(super) fn open(path: &Path, header: &Header) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            other => other.map_err(|error| io_error("read", path, error))?,
        };
        let complete = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut lines = complete.lines().zip(1..);
        let records = match lines.next() {
            None => Vec::new(),
            Some((first, _)) => {
                check_header(first, header, path)?;
                lines.map(|(line, number)| parse(line, number, path)).collect::<Result<_>>()?
            }
        };
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).open(path).map_err(|e| io_error("open", path, e))?;
        file.set_len(complete.len() as u64).map_err(|error| io_error("cut", path, error))?;
        if complete.is_empty() {
            append(&mut file, header)?;
        }
        Ok(Self { file, records })
    }

    pub(super) fn push(&mut self, record: TrialRecord) -> Result<()> {
        append(&mut self.file, &record)?;
        self.records.push(record);
        Ok(())
    }

    pub(super) fn find(&self, trial: usize, rung: usize) -> Option<&TrialRecord> {
        self.records.iter().find(|record| (record.trial, record.rung) == (trial, rung))
    }
}

fn check_header(line: &str, expected: &Header, path: &Path) -> Result<()> {
    let found: Header = parse(line, 1, path)?;
    if found == *expected {
        return Ok(());
    }
    let words = |header: &Header| {
        let Header { data_sha256, recipe_sha256, num_trials, .. } = header;
        format!("{num_trials} trials, data {data_sha256}, recipe {recipe_sha256}")
    };
    Err(Error::new(Code::InvalidArgument, format!("{} is of another tuning run", path.display()))
        .expected(words(expected))
        .found(words(&found))
        .hint("go on with the same data, recipe, seed and number of trials, or name another log"))
}

fn parse<'a, T: Deserialize<'a>>(line: &'a str, number: usize, path: &Path) -> Result<T> {
    serde_json::from_str(line).map_err(|error| {
        Error::new(Code::InvalidArgument, format!("{} line {number} is not of a tuning log", path.display()))
            .found(error)
            .hint("name another log; nothing was changed")
    })
}

fn append(file: &mut File, line: &impl Serialize) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(Code::Io, "the tuning log cannot be written").found(&error).source_error(error)
    };
    // Unwrap safety: numbers, strings and options of them always encode.
    let mut bytes = serde_json::to_vec(line).expect("a line encodes");
    bytes.push(b'\n');
    // One write: a line is there or not, but for a kill in the middle, which `open` mends.
    file.write_all(&bytes).and_then(|()| file.sync_data()).map_err(failed)
}
