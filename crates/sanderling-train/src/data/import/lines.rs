//! Files of plain lines, for layouts that are not tables with a header.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use sanderling_types::{Code, Error, Result};

use crate::data::{
    progress::{Progress, Stage},
    source::{ReadMeter, Source, TextReader, io_error},
};

/// Longest line: a sequence of a million items.
const MAX_LINE_BYTES: u64 = 1 << 24;

/// Lines of a text file with their numbers. Text that is not UTF-8 is taken for Latin-1, in which
/// the older MovieLens files are written.
pub(super) struct Lines {
    text: BufReader<TextReader>,
    meter: ReadMeter,
    path: PathBuf,
    line: u64,
    bytes: Vec<u8>,
    content: String,
}

impl Lines {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let source = Source::open(path)?;
        let (text, meter) = source.text()?;
        let (bytes, content) = (Vec::new(), String::new());
        Ok(Self { text, meter, path: path.to_owned(), line: 0, bytes, content })
    }

    /// The next line that is not blank, without its end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, &str)>> {
        loop {
            self.bytes.clear();
            let read = std::io::Read::take(&mut self.text, MAX_LINE_BYTES)
                .read_until(b'\n', &mut self.bytes)
                .map_err(|error| io_error("read", &self.path, error))?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if self.bytes.pop() != Some(b'\n') {
                return Err(self.invalid(
                    self.line,
                    "the line is too long",
                    &format!("at most {MAX_LINE_BYTES} bytes"),
                    "",
                ));
            }
            if !self.bytes.iter().all(u8::is_ascii_whitespace) {
                break;
            }
        }
        self.content.clear();
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => self.content.push_str(text),
            Err(_) => self.content.extend(self.bytes.iter().map(|byte| char::from(*byte))),
        }
        Ok(Some((self.line, &self.content)))
    }

    /// How far the reading has come.
    pub(super) fn progress(&self, interactions: usize) -> Progress {
        Progress {
            stage: Stage::Reading,
            interactions: interactions as u64,
            done: self.meter.bytes(),
            total: self.meter.total(),
        }
    }

    /// [`Code::DataInvalid`] for a line.
    pub(super) fn invalid(&self, line: u64, message: &str, expected: &str, found: &str) -> Error {
        invalid(&self.path, line, message, expected, found)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// [`Code::DataInvalid`] for a line of a file.
pub(super) fn invalid(path: &Path, line: u64, message: &str, expected: &str, found: &str) -> Error {
    let found: String = if found.is_empty() { "nothing".into() } else { found.chars().take(60).collect() };
    Error::new(Code::DataInvalid, format!("{} line {line}: {message}", path.display()))
        .expected(expected)
        .found(found)
}

/// [`Code::EmptyData`] for a file.
pub(super) fn empty(path: &Path) -> Error {
    Error::new(Code::EmptyData, format!("{} holds no interactions", path.display()))
        .expected("at least one interaction")
        .found("none")
}
