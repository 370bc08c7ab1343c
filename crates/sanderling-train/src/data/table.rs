//! Tables with named columns, whatever the file format: every row is a list of text cells.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::Path,
};

use csv::StringRecord;
use sanderling_types::{Code, Error, Result};

use super::{
    parquet_table::ParquetTable,
    problem::{Problem, ProblemKind, RowError},
    source::{ReadMeter, Source, TableFormat, TextReader, io_error, table_format},
};

/// Longest line of a JSON Lines file.
const MAX_LINE_BYTES: u64 = 1 << 24;
/// Lines of a JSON Lines file that are looked at to learn its columns.
const PEEKED_LINES: usize = 1_000;

/// A source of rows. A missing cell is empty; a list is joined with `|` (see [`join_list`]).
pub(crate) trait Rows: Send {
    /// Names of the columns, in the order of the cells.
    fn columns(&self) -> &[String];

    /// Reads the next row into `record` and gives its 1-based line, or `None` at the end.
    fn next_row(&mut self, record: &mut StringRecord) -> Result<Option<u64>, RowError>;

    /// Bytes of the file that were read so far, as they are on disk.
    fn bytes_read(&self) -> u64;
}

/// Opens a table in the format that its name promises.
pub(crate) fn open(path: &Path, delimiter: Option<u8>) -> Result<Box<dyn Rows>> {
    let format = table_format(path);
    if format == TableFormat::Parquet {
        return Ok(Box::new(ParquetTable::open(path)?));
    }
    let (text, meter) = Source::open(path)?.text()?;
    Ok(match format {
        TableFormat::JsonLines => Box::new(JsonLinesTable::open(text, meter, path)?),
        _ => Box::new(DelimitedTable::open(text, meter, path, delimiter)?),
    })
}

/// Joins the parts of a list cell with `|`; a `|` or `\` inside a part gets a `\` before it.
pub(crate) fn join_list<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut joined = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        if index > 0 {
            joined.push('|');
        }
        for character in part.chars() {
            if matches!(character, '|' | '\\') {
                joined.push('\\');
            }
            joined.push(character);
        }
    }
    joined
}

/// Takes a list cell apart, the inverse of [`join_list`]; empty parts are left out. A `\` before any
/// other character stands for itself.
pub(crate) fn split_list(cell: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = cell.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some('|' | '\\')) => {
                parts.last_mut().into_iter().for_each(|part| part.extend(characters.next()));
            }
            ('|', _) => parts.push(String::new()),
            _ => parts.last_mut().into_iter().for_each(|part| part.push(character)),
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Comma, tab or semicolon separated text with a header.
struct DelimitedTable {
    reader: csv::Reader<BufReader<TextReader>>,
    columns: Vec<String>,
    meter: ReadMeter,
    path: std::path::PathBuf,
}

impl DelimitedTable {
    fn open(
        mut text: BufReader<TextReader>,
        meter: ReadMeter,
        path: &Path,
        delimiter: Option<u8>,
    ) -> Result<Self> {
        let start = text.fill_buf().map_err(|error| io_error("read", path, error))?;
        let header = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let delimiter = delimiter.unwrap_or_else(|| guess_delimiter(header));
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).has_headers(true).flexible(true).from_reader(text);
        let header = reader.headers().map_err(|error| fatal_csv(path, error))?;
        let columns: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
        if columns.iter().all(String::is_empty) {
            return Err(Error::new(Code::EmptyData, format!("{} is empty", path.display()))
                .expected("a header line")
                .found("nothing"));
        }
        Ok(Self { reader, columns, meter, path: path.to_owned() })
    }
}

fn guess_delimiter(header: &[u8]) -> u8 {
    let candidates = [b'\t', b',', b';'];
    candidates.into_iter().find(|candidate| header.contains(candidate)).unwrap_or(b',')
}

fn fatal_csv(path: &Path, error: csv::Error) -> Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => io_error("read", path, error),
        csv::ErrorKind::Utf8 { .. } => {
            Error::new(Code::DataInvalid, format!("{} line 1: the header is not UTF-8", path.display()))
                .expected("UTF-8 text")
                .hint("save the file as UTF-8")
        }
        other => Error::new(Code::DataInvalid, format!("{} cannot be read", path.display()))
            .found(format!("{other:?}")),
    }
}

impl Rows for DelimitedTable {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn next_row(&mut self, record: &mut StringRecord) -> Result<Option<u64>, RowError> {
        let before = self.reader.position().line();
        let outcome = self.reader.read_record(record);
        let after = self.reader.position().line();
        match outcome {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(error) => {
                return Err(match error.into_kind() {
                    csv::ErrorKind::Io(error) => RowError::Fatal(io_error("read", &self.path, error)),
                    csv::ErrorKind::Utf8 { .. } => {
                        let line = after.saturating_sub(1).max(before);
                        Problem::new(ProblemKind::UnreadableRow, line, "UTF-8 text", "other bytes").into()
                    }
                    other => {
                        let found = format!("{other:?}");
                        Problem::new(ProblemKind::UnreadableRow, before, "a row", &found).into()
                    }
                });
            }
        }
        // The row ends one line before `after`; lines between `before` and its start are blank.
        let line = if after <= before + 1 {
            before
        } else {
            let inside: usize = record.iter().map(|cell| cell.matches('\n').count()).sum();
            (after - 1).saturating_sub(inside as u64)
        };
        if record.len() != self.columns.len() {
            let (expected, found) = (self.columns.len(), record.len());
            let problem = Problem::new(ProblemKind::UnreadableRow, line, format!("{expected} fields"), "");
            return Err(RowError::Row(Problem { found: found.to_string(), ..problem }));
        }
        Ok(Some(line))
    }

    fn bytes_read(&self) -> u64 {
        self.meter.bytes()
    }
}

/// One JSON object a line. Columns are the keys of the first lines, in ascending order.
struct JsonLinesTable {
    text: BufReader<TextReader>,
    columns: Vec<String>,
    peeked: std::collections::VecDeque<(u64, Vec<u8>)>,
    line: u64,
    meter: ReadMeter,
    path: std::path::PathBuf,
}

impl JsonLinesTable {
    fn open(text: BufReader<TextReader>, meter: ReadMeter, path: &Path) -> Result<Self> {
        let peeked = std::collections::VecDeque::new();
        let mut table = Self { text, columns: Vec::new(), peeked, line: 0, meter, path: path.to_owned() };
        let mut names = BTreeSet::new();
        for _ in 0..PEEKED_LINES {
            let Some((line, bytes)) = table.read_line()? else { break };
            if let Ok(object) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes) {
                names.extend(object.into_iter().map(|(name, _)| name));
            }
            table.peeked.push_back((line, bytes));
        }
        if table.peeked.is_empty() {
            return Err(Error::new(Code::EmptyData, format!("{} is empty", path.display()))
                .expected("one JSON object a line")
                .found("nothing"));
        }
        table.columns = names.into_iter().collect();
        Ok(table)
    }

    /// The next line that is not blank.
    fn read_line(&mut self) -> Result<Option<(u64, Vec<u8>)>> {
        loop {
            let mut bytes = Vec::new();
            let read = std::io::Read::take(&mut self.text, MAX_LINE_BYTES)
                .read_until(b'\n', &mut bytes)
                .map_err(|error| io_error("read", &self.path, error))?;
            if read == 0 {
                return Ok(None);
            }
            self.line += 1;
            if bytes.last() != Some(&b'\n') {
                return Err(Error::new(
                    Code::LimitExceeded,
                    format!("{} line {} is too long", self.path.display(), self.line),
                )
                .expected(format!("at most {MAX_LINE_BYTES} bytes"))
                .hint("write one JSON object a line"));
            }
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some((self.line, bytes)));
            }
        }
    }
}

impl Rows for JsonLinesTable {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn next_row(&mut self, record: &mut StringRecord) -> Result<Option<u64>, RowError> {
        let next = match self.peeked.pop_front() {
            Some(next) => Some(next),
            None => self.read_line().map_err(RowError::Fatal)?,
        };
        let Some((line, bytes)) = next else { return Ok(None) };
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&bytes).map_err(|error| {
                Problem::new(ProblemKind::UnreadableRow, line, "a JSON object", &error.to_string())
            })?;
        if let Some(late) = object.keys().find(|key| self.columns.binary_search(key).is_err()) {
            let message = format!("{} line {line} has a key that no earlier line has", self.path.display());
            return Err(RowError::Fatal(
                Error::new(Code::InvalidArgument, message)
                    .expected(format!("every key within the first {PEEKED_LINES} lines"))
                    .found(format!("{late:?}"))
                    .hint("give the first line every key, with null where it has no value"),
            ));
        }
        record.clear();
        for column in &self.columns {
            record.push_field(&cell_text(object.get(column)));
        }
        Ok(Some(line))
    }

    fn bytes_read(&self) -> u64 {
        self.meter.bytes()
    }
}

/// A JSON value as a cell: text as it is, lists joined, nothing for null, JSON for objects.
pub(crate) fn cell_text(value: Option<&serde_json::Value>) -> std::borrow::Cow<'_, str> {
    use serde_json::Value;
    match value {
        None | Some(Value::Null) => "".into(),
        Some(Value::String(text)) => text.into(),
        Some(Value::Array(values)) => {
            let parts: Vec<_> = values.iter().map(|value| cell_text(Some(value))).collect();
            join_list(parts.iter().map(AsRef::as_ref)).into()
        }
        Some(other) => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::{PEEKED_LINES, RowError, StringRecord, join_list, split_list};
    use sanderling_types::Code;

    #[test]
    fn a_key_that_appears_late_is_an_error_and_not_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("late.jsonl");
        let mut file = std::fs::File::create(&path).expect("a file");
        for _ in 0..PEEKED_LINES {
            writeln!(file, "{{\"user_id\":\"u\"}}").expect("a line");
        }
        writeln!(file, "{{\"user_id\":\"u\",\"price\":1}}").expect("a line");
        drop(file);
        let mut rows = super::open(&path, None).expect("a table");
        let mut record = StringRecord::new();
        for _ in 0..PEEKED_LINES {
            assert!(matches!(rows.next_row(&mut record), Ok(Some(_))));
        }
        let Err(RowError::Fatal(error)) = rows.next_row(&mut record) else { panic!("{record:?}") };
        assert_eq!(error.code(), Code::InvalidArgument);
    }

    #[test]
    fn lists_come_back_from_their_cell() {
        for parts in [vec![], vec!["a"], vec!["a", "b"], vec!["a|b", "c\\", "d\\|e", "f g"]] {
            assert_eq!(split_list(&join_list(parts.iter().copied())), parts);
        }
        assert_eq!(split_list("Action| Sci-Fi ||x\\y"), ["Action", "Sci-Fi", "x\\y"]);
    }
}
