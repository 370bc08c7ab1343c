//! Interactions and items out of table rows.

use std::path::{Path, PathBuf};

use csv::StringRecord;
use sanderling_types::{Code, Error, Item, ItemId, Result, SplitPart};

use super::{
    columns::{ColumnMap, InteractionColumns, ItemColumns},
    intake::Intake,
    interactions::Row,
    problem::{Problem, ProblemKind, RowError},
    progress::{EVERY_ROWS, Progress, Stage},
    table::{self, Rows, split_list},
    time::{self, TimeUnit},
};

/// How a table of interactions is to be read.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadOptions {
    pub(crate) columns: ColumnMap,
    pub(crate) delimiter: Option<u8>,
    pub(crate) time_unit: TimeUnit,
    /// Kind of rows that state none; by default `rating` where the value is one, else `view`.
    pub(crate) default_kind: Option<String>,
}

/// Reads a table of interactions row by row, in the order of its files.
pub(crate) struct InteractionReader {
    part: Part,
    rest: std::vec::IntoIter<PathBuf>,
    options: ReadOptions,
    record: StringRecord,
    num_rows: i64,
    /// Bytes of the parts before this one.
    bytes_before: u64,
    bytes_total: u64,
}

/// One file of a table.
struct Part {
    rows: Box<dyn Rows>,
    columns: InteractionColumns,
    default_kind: String,
    path: PathBuf,
}

impl Part {
    fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        let rows = table::open(path, options.delimiter)?;
        let columns = InteractionColumns::find(rows.columns(), &options.columns, path)?;
        let default_kind = options.default_kind.clone().unwrap_or_else(|| columns.default_kind.to_owned());
        Ok(Self { rows, columns, default_kind, path: path.to_owned() })
    }
}

/// An interaction where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadRow<'a> {
    /// The file.
    pub(crate) path: &'a Path,
    pub(crate) line: u64,
    /// The text of the timestamp, where there is a column.
    pub(crate) timestamp: Option<&'a str>,
    pub(crate) row: Row<'a>,
}

impl InteractionReader {
    /// Opens a table that consists of `paths`, at least one. Empty files among several are passed over.
    pub(crate) fn open(paths: &[PathBuf], options: &ReadOptions) -> Result<Self> {
        let bytes_total = paths.iter().filter_map(|path| Some(std::fs::metadata(path).ok()?.len())).sum();
        let mut rest = Vec::from(paths).into_iter();
        let part = next_part(&mut rest, options)?.ok_or_else(|| {
            Error::new(Code::EmptyData, "every file of the table is empty").found(format!("{paths:?}"))
        })?;
        Ok(Self {
            part,
            rest,
            options: options.clone(),
            record: StringRecord::new(),
            num_rows: 0,
            bytes_before: 0,
            bytes_total,
        })
    }

    /// The file that is being read.
    pub(crate) fn path(&self) -> &Path {
        &self.part.path
    }

    /// Whether the table has a time column; without one, timestamps are row numbers.
    pub(crate) fn has_timestamps(&self) -> bool {
        self.part.columns.timestamp.is_some()
    }

    /// Which column was taken for what.
    pub(crate) fn mapping(&self) -> Vec<(String, String)> {
        self.part.columns.describe(self.part.rows.columns())
    }

    /// How far the reading has come.
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            stage: Stage::Reading,
            interactions: self.num_rows as u64,
            done: self.bytes_before + self.part.rows.bytes_read(),
            total: self.bytes_total,
        }
    }

    /// The next interaction, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<ReadRow<'_>>, RowError> {
        let line = loop {
            match self.part.rows.next_row(&mut self.record)? {
                Some(line) => break line,
                None if !self.go_on().map_err(RowError::Fatal)? => return Ok(None),
                None => {}
            }
        };
        self.num_rows += 1;
        let row = self.row(line)?;
        let timestamp = self.part.columns.timestamp.map(|at| &self.record[at]);
        Ok(Some(ReadRow { path: &self.part.path, line, timestamp, row }))
    }

    /// Opens the next file of the table; whether there is one.
    fn go_on(&mut self) -> Result<bool> {
        let Some(next) = next_part(&mut self.rest, &self.options)? else { return Ok(false) };
        if next.columns.timestamp.is_some() != self.has_timestamps() {
            let (with, without) =
                if self.has_timestamps() { (&self.part, &next) } else { (&next, &self.part) };
            let message = format!("{} line 1: column `timestamp` is missing", without.path.display());
            return Err(Error::new(Code::ColumnMissing, message)
                .expected(format!("the columns of {}", with.path.display()))
                .hint("every file of a table needs the same columns"));
        }
        self.bytes_before += std::mem::replace(&mut self.part, next).rows.bytes_read();
        Ok(true)
    }

    /// Reads every row and tells how far it is from time to time.
    ///
    /// # Errors
    /// Those of the first unusable row; [`Code::EmptyData`] without rows.
    pub(crate) fn read_all(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<Intake> {
        let mut intake = Intake::with_context(&self.options.columns.context);
        loop {
            match self.next() {
                Ok(Some(read)) => intake.push(read.row)?,
                Ok(None) => break,
                Err(error) => return Err(error.into_error(self.path())),
            };
            intake.push_context(self.context())?;
            if intake.len().is_multiple_of(EVERY_ROWS) {
                progress(self.progress());
            }
        }
        if intake.len() == 0 {
            return Err(Error::new(
                Code::EmptyData,
                format!("{} holds no interactions", self.path().display()),
            )
            .expected("at least one row after the header")
            .found("none"));
        }
        Ok(intake)
    }

    /// What the declared context columns say in the row that was read last.
    fn context(&self) -> impl Iterator<Item = &str> {
        self.part.columns.context.iter().map(|at| self.cell(*at))
    }

    fn cell(&self, at: usize) -> &str {
        self.record.get(at).unwrap_or_default().trim()
    }

    fn row(&self, line: u64) -> Result<Row<'_>, Problem> {
        let cell = |at: usize| self.cell(at);
        let (user_id, item_id) = (cell(self.part.columns.user), cell(self.part.columns.item));
        if user_id.is_empty() || item_id.is_empty() {
            let what = if user_id.is_empty() { "a user id" } else { "an item id" };
            return Err(Problem::new(ProblemKind::EmptyId, line, what, ""));
        }
        let kind = self.part.columns.kind.map_or("", cell);
        Ok(Row {
            user_id,
            item_id,
            kind: if kind.is_empty() { &self.part.default_kind } else { kind },
            timestamp: match self.part.columns.timestamp {
                Some(at) => self.timestamp(line, cell(at))?,
                None => self.num_rows - 1,
            },
            value: self
                .part
                .columns
                .value
                .map(|at| number(line, cell(at), ProblemKind::NonFiniteValue))
                .transpose()?
                .flatten(),
            split: self.part.columns.split.map(|at| split_part(line, cell(at))).transpose()?.flatten(),
        })
    }

    fn timestamp(&self, line: u64, text: &str) -> Result<i64, Problem> {
        time::parse(text, self.options.time_unit).ok_or_else(|| {
            let expected =
                if self.options.time_unit == TimeUnit::Position { "a whole number" } else { "a time" };
            Problem::new(ProblemKind::InvalidTimestamp, line, expected, text)
        })
    }
}

/// The next file that is not empty.
fn next_part(paths: &mut std::vec::IntoIter<PathBuf>, options: &ReadOptions) -> Result<Option<Part>> {
    let is_one_of_many = paths.len() > 1;
    for path in paths {
        match Part::open(&path, options) {
            Err(error) if error.code() == Code::EmptyData && is_one_of_many => {}
            opened => return opened.map(Some),
        }
    }
    Ok(None)
}

fn number(line: u64, text: &str, kind: ProblemKind) -> Result<Option<f32>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let number = text.parse::<f32>().ok().filter(|number| number.is_finite());
    number.map(Some).ok_or_else(|| Problem::new(kind, line, "a finite number", text))
}

fn split_part(line: u64, text: &str) -> Result<Option<SplitPart>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    Ok(Some(match text.to_ascii_lowercase().as_str() {
        "train" => SplitPart::Train,
        "validation" | "valid" | "val" | "dev" => SplitPart::Validation,
        "test" => SplitPart::Test,
        _ => return Err(Problem::new(ProblemKind::InvalidSplit, line, "train, validation or test", text)),
    }))
}

/// Reads a table of items row by row, in file order.
pub(crate) struct ItemReader {
    rows: Box<dyn Rows>,
    record: StringRecord,
    columns: ItemColumns,
    time_unit: TimeUnit,
    path: PathBuf,
}

impl ItemReader {
    pub(crate) fn open(path: &Path, options: &ReadOptions) -> Result<Self> {
        let rows = table::open(path, options.delimiter)?;
        let columns = ItemColumns::find(rows.columns(), &options.columns, path)?;
        let time_unit = options.time_unit;
        Ok(Self { rows, record: StringRecord::new(), columns, time_unit, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The item id of the row that was read last, usable or not; empty where there is none.
    pub(crate) fn current_id(&self) -> &str {
        self.record.get(self.columns.item).unwrap_or_default().trim()
    }

    /// The next item with its line, or `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Item)>, RowError> {
        let Some(line) = self.rows.next_row(&mut self.record)? else { return Ok(None) };
        Ok(Some((line, self.item(line)?)))
    }

    fn item(&self, line: u64) -> Result<Item, Problem> {
        let columns = &self.columns;
        let cell = |at: usize| self.record.get(at).unwrap_or_default().trim();
        let item_id = cell(columns.item);
        if item_id.is_empty() {
            return Err(Problem::new(ProblemKind::EmptyId, line, "an item id", ""));
        }
        let price =
            columns.price.map(|at| number(line, cell(at), ProblemKind::BadPrice)).transpose()?.flatten();
        if let Some(price) = price.filter(|price| *price < 0.0) {
            return Err(Problem::new(
                ProblemKind::BadPrice,
                line,
                "a price that is not negative",
                &price.to_string(),
            ));
        }
        let categories = columns.categories.map_or("", cell);
        Ok(Item {
            item_id: ItemId::from(item_id),
            title: columns.title.map_or("", cell).to_owned(),
            categories: if columns.categories_by_space {
                categories.split_whitespace().map(str::to_owned).collect()
            } else {
                split_list(categories)
            },
            price,
            published_at: columns
                .published_at
                .map(|at| self.published_at(line, cell(at)))
                .transpose()?
                .flatten(),
            attributes: columns
                .attributes
                .iter()
                .map(|(name, at)| (name.clone(), cell(*at).to_owned()))
                .filter(|(_, value)| !value.is_empty())
                .collect(),
        })
    }

    fn published_at(&self, line: u64, text: &str) -> Result<Option<i64>, Problem> {
        if text.is_empty() {
            return Ok(None);
        }
        if self.columns.published_in_years {
            // The year also stays an attribute, so a word such as `unknown` loses nothing.
            let year = text.parse().ok().filter(|year| (1_000..=9_999).contains(year));
            return Ok(year.map(time::year_start).filter(|_| self.time_unit != TimeUnit::Position));
        }
        let published = time::parse(text, TimeUnit::Auto);
        let invalid = || Problem::new(ProblemKind::InvalidTimestamp, line, "a time", text);
        published.map(Some).ok_or_else(invalid)
    }
}
