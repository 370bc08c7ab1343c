//! Parquet files as tables of text cells; nested groups and maps are not supported.

use std::{
    fs::File,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use csv::StringRecord;
use parquet::{
    basic::{ConvertedType, LogicalType, TimeUnit as ParquetTimeUnit},
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, reader::RowIter},
};
use sanderling_types::{Code, Error, Result};

use super::{
    problem::RowError,
    source::{Source, io_error, plain_name},
    table::{Rows, join_list},
};

pub(super) struct ParquetTable {
    rows: RowIter<'static>,
    columns: Vec<String>,
    /// Columns of nanosecond timestamps, which the record reader gives as plain numbers.
    nanoseconds: Vec<bool>,
    row: u64,
    bytes_total: u64,
    num_rows: u64,
    path: PathBuf,
}

impl ParquetTable {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let source = Source::open(path)?;
        let bytes_total = source.meter.total();
        let reader: Box<dyn FileReader> = if plain_name(path) == file_name(path) {
            let file = File::open(path).map_err(|error| io_error("open", path, error))?;
            Box::new(guarded(path, || SerializedFileReader::new(file))?)
        } else {
            let mut unpacked = Vec::new();
            let mut packed = source.reader;
            packed.read_to_end(&mut unpacked).map_err(|error| io_error("unpack", path, error))?;
            Box::new(guarded(path, || SerializedFileReader::new(Bytes::from(unpacked)))?)
        };
        let metadata = reader.metadata().file_metadata();
        let num_rows = u64::try_from(metadata.num_rows()).unwrap_or(0);
        let fields = metadata.schema_descr().root_schema().get_fields();
        let mut columns = Vec::with_capacity(fields.len());
        let mut nanoseconds = Vec::with_capacity(fields.len());
        for field in fields {
            let info = field.get_basic_info();
            if info.converted_type() == ConvertedType::INTERVAL {
                return Err(invalid(path, format!("column `{}` holds intervals", field.name())));
            }
            columns.push(field.name().to_owned());
            nanoseconds.push(matches!(
                info.logical_type_ref(),
                Some(LogicalType::Timestamp(timestamp)) if timestamp.unit == ParquetTimeUnit::NANOS
            ));
        }
        let rows = guarded(path, || Ok(RowIter::from_file_into(reader)))?;
        Ok(Self { rows, columns, nanoseconds, row: 0, bytes_total, num_rows, path: path.to_owned() })
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn invalid(path: &Path, found: impl std::fmt::Display) -> Error {
    Error::new(Code::DataInvalid, format!("{} cannot be read as Parquet", path.display()))
        .found(found)
        .hint("write it again, uncompressed inside or with snappy, gzip or zstd")
}

/// Runs one step of the Parquet reader, which panics on some damaged files.
fn guarded<T>(path: &Path, step: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(outcome) => outcome.map_err(|error| invalid(path, error)),
        Err(_) => Err(invalid(path, "a damaged or unsupported file")),
    }
}

impl Rows for ParquetTable {
    fn columns(&self) -> &[String] {
        &self.columns
    }

    fn next_row(&mut self, record: &mut StringRecord) -> Result<Option<u64>, RowError> {
        let path = &self.path;
        let rows = &mut self.rows;
        let next = guarded(path, || rows.next().transpose()).map_err(RowError::Fatal)?;
        let Some(row) = next else { return Ok(None) };
        self.row += 1;
        record.clear();
        for ((_, field), nanoseconds) in row.get_column_iter().zip(&self.nanoseconds) {
            match field {
                Field::Long(value) if *nanoseconds => {
                    record.push_field(&value.div_euclid(1_000_000_000).to_string());
                }
                field => record.push_field(&field_text(field)),
            }
        }
        Ok(Some(self.row))
    }

    fn bytes_read(&self) -> u64 {
        // Row groups are read in one go; the share of rows says how far the work has come.
        (u128::from(self.bytes_total) * u128::from(self.row) / u128::from(self.num_rows.max(1))) as u64
    }
}

/// A field as a cell. Timestamps and dates become Unix seconds.
fn field_text(field: &Field) -> String {
    match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned(),
        Field::TimestampMillis(value) => value.div_euclid(1_000).to_string(),
        Field::TimestampMicros(value) => value.div_euclid(1_000_000).to_string(),
        Field::Date(days) => (i64::from(*days) * 86_400).to_string(),
        Field::ListInternal(list) => {
            let parts: Vec<String> = list.elements().iter().map(field_text).collect();
            join_list(parts.iter().map(String::as_str))
        }
        Field::Float(value) => value.to_string(),
        Field::Double(value) => value.to_string(),
        other => other.to_string(),
    }
}
