//! Checks of the log.

use std::path::PathBuf;

use sanderling_types::{Result, SplitPart, TimeKind};

use super::{AnomalyCode, Validation, findings::Findings, lines::Lines, open_anomaly, robots::Robots};
use crate::data::{
    dataset::DataFiles,
    intake::Intake,
    interactions::Row,
    problem::RowError,
    progress::{EVERY_ROWS, Progress, Stage},
    reader::{InteractionReader, ReadOptions, ReadRow},
    time::{self, TimeUnit},
};

/// The usable rows, in file order.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) path: PathBuf,
    pub(super) rows: Intake,
    pub(super) lines: Lines,
    pub(super) time: TimeKind,
    /// Timestamp of each user's last row so far.
    last_of_user: Vec<i64>,
    /// The one value of all rows so far that have one, or `Err` when there are several.
    constant_value: Result<Option<f32>, ()>,
    num_values: u64,
    /// First line with a timestamp of each magnitude.
    magnitudes: Vec<(TimeUnit, u64)>,
}

/// Reads the log; `None` when it cannot be opened, which is then an anomaly.
pub(super) fn check(
    files: &DataFiles,
    options: &ReadOptions,
    now: i64,
    findings: &mut Findings,
    validation: &mut Validation,
    progress: &mut dyn FnMut(Progress),
) -> Result<Option<Log>> {
    let path = &files.interactions;
    let mut reader = match InteractionReader::open(&files.tables, options) {
        Ok(reader) => reader,
        Err(error) => {
            let Some(code) = open_anomaly(&error) else { return Err(error) };
            findings.note(code, path, Some(1), || error.to_string());
            return Ok(None);
        }
    };
    let stated = files.info.as_ref().map(|info| info.time);
    let by_columns = if reader.has_timestamps() { TimeKind::UnixSeconds } else { TimeKind::Order };
    if !reader.has_timestamps() {
        let code = if stated == Some(TimeKind::UnixSeconds) {
            AnomalyCode::MissingColumn
        } else {
            AnomalyCode::NoTimestamps
        };
        findings.note(code, path, Some(1), || "line 1: column `timestamp` is missing".to_owned());
    }
    let mut log = Log::new(path.clone(), stated.unwrap_or(by_columns));
    let by_magnitude = options.time_unit == TimeUnit::Auto;
    log.read(&mut reader, by_magnitude, now, findings, validation, progress)?;
    log.check_whole(findings);
    log.check_users(reader.has_timestamps(), findings, progress);
    validation.num_interactions = log.rows.len() as u64;
    validation.num_users = log.rows.users.len() as u64;
    validation.num_items = log.rows.items.len() as u64;
    validation.kinds = log.rows.kind_counts();
    validation.time = Some(log.time);
    validation.first_timestamp = log.rows.timestamps().iter().copied().min();
    validation.last_timestamp = log.rows.timestamps().iter().copied().max();
    Ok(Some(log))
}

impl Log {
    fn new(path: PathBuf, time: TimeKind) -> Self {
        Self {
            path,
            rows: Intake::default(),
            lines: Lines::default(),
            time,
            last_of_user: Vec::new(),
            constant_value: Ok(None),
            num_values: 0,
            magnitudes: Vec::new(),
        }
    }

    fn read(
        &mut self,
        reader: &mut InteractionReader,
        by_magnitude: bool,
        now: i64,
        findings: &mut Findings,
        validation: &mut Validation,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<()> {
        let mut splits = [0; 4];
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(read)) => {
                    splits[split_place(read.row.split)] += 1;
                    let number = read.timestamp.filter(|_| by_magnitude);
                    self.note_magnitude(read.line, number.and_then(|text| text.trim().parse().ok()));
                    self.push(&read, now, findings)?;
                }
                Err(RowError::Fatal(error)) => return Err(error),
                Err(RowError::Row(problem)) => findings.note_problem(reader.path(), &problem),
            }
            validation.num_rows += 1;
            if validation.num_rows.is_multiple_of(EVERY_ROWS as u64) {
                progress(reader.progress());
            }
        }
        let counted = SPLIT_NAMES.iter().zip(splits).filter(|(_, count)| *count > 0);
        validation.splits = counted.map(|(name, count)| ((*name).to_owned(), count)).collect();
        Ok(())
    }

    fn note_magnitude(&mut self, line: u64, number: Option<i64>) {
        let Some(number) = number.filter(|number| *number > 0) else { return };
        let magnitude = time::magnitude(number);
        if !self.magnitudes.iter().any(|(known, _)| *known == magnitude) {
            self.magnitudes.push((magnitude, line));
        }
    }

    /// Takes a row in and checks it, alone and against the row of the same user before it.
    fn push(&mut self, read: &ReadRow<'_>, now: i64, findings: &mut Findings) -> Result<()> {
        let ReadRow { path, line, row, .. } = *read;
        if let Some(value) = row.value {
            self.num_values += 1;
            self.constant_value = match self.constant_value {
                Ok(None) => Ok(Some(value)),
                Ok(Some(known)) if known == value => Ok(Some(known)),
                _ => Err(()),
            };
        }
        let (user, _) = self.rows.push(row)?;
        self.lines.push(path, line);
        let Row { user_id, timestamp, .. } = row;
        let lowest = if self.time == TimeKind::UnixSeconds { 1 } else { 0 };
        if timestamp < lowest {
            let detail = || format!("line {line}: timestamp {timestamp}");
            findings.note(AnomalyCode::TimestampNotPositive, path, Some(line), detail);
        }
        if self.time == TimeKind::UnixSeconds && timestamp > now {
            let detail =
                || format!("line {line}: timestamp {timestamp} is {} seconds after now", timestamp - now);
            findings.note(AnomalyCode::FutureTimestamp, path, Some(line), detail);
        }
        match self.last_of_user.get_mut(user as usize) {
            None => self.last_of_user.push(timestamp),
            Some(last) => {
                let before = std::mem::replace(last, timestamp);
                if timestamp < before {
                    let detail =
                        || format!("line {line}: user `{user_id}` goes back from {before} to {timestamp}");
                    findings.note(AnomalyCode::UnsortedTimestamps, path, Some(line), detail);
                }
            }
        }
        Ok(())
    }

    /// Checks of all rows of a user: whether it is a person, and whether rows repeat others.
    fn check_users(&self, has_timestamps: bool, findings: &mut Findings, progress: &mut dyn FnMut(Progress)) {
        let starts = self.rows.starts();
        let mut rows = self.rows.by_user(&starts);
        let robots = Robots::new(&starts, self.time);
        let mut repeated = Vec::new();
        let num_users = self.rows.users.len();
        for (user, ends) in starts.windows(2).enumerate() {
            let rows = &mut rows[ends[0]..ends[1]];
            robots.check(self, user as u32, rows, findings);
            if has_timestamps {
                self.find_repeated(rows, &mut repeated);
            }
            if (user + 1).is_multiple_of(EVERY_ROWS) {
                let (done, total) = (user as u64 + 1, num_users as u64);
                progress(Progress { stage: Stage::Checking, interactions: ends[1] as u64, done, total });
            }
        }
        repeated.sort_unstable();
        for row in repeated {
            let ((path, line), at) = (self.lines.of(row), row as usize);
            let user = self.rows.users.text(self.rows.user(at));
            let item = self.rows.items.text(self.rows.item(at));
            let time = self.rows.timestamps()[at];
            let detail = || format!("line {line}: user `{user}`, item `{item}` at {time} is there already");
            findings.note(AnomalyCode::DuplicateInteraction, path, Some(line), detail);
        }
    }

    /// Adds those of a user's rows that repeat an earlier one. Sorts the rows: with many of them a table of
    /// what was seen would take more memory than the rows.
    fn find_repeated(&self, rows: &mut [u32], repeated: &mut Vec<u32>) {
        let key = |row: u32| {
            let row = row as usize;
            (self.rows.timestamps()[row], self.rows.item(row), self.rows.kind(row))
        };
        rows.sort_unstable_by_key(|&row| (key(row), row));
        repeated.extend(rows.windows(2).filter(|pair| key(pair[0]) == key(pair[1])).map(|pair| pair[1]));
    }

    /// Checks of the log as a whole.
    fn check_whole(&self, findings: &mut Findings) {
        let path = &self.path;
        let times = self.rows.timestamps();
        let Some(first) = times.first() else {
            findings.note(AnomalyCode::EmptyData, path, None, || "no usable row".to_owned());
            return;
        };
        if self.magnitudes.len() > 1 {
            let found: Vec<String> = self
                .magnitudes
                .iter()
                .map(|(unit, line)| format!("{unit:?} on line {line}").to_lowercase())
                .collect();
            let line = self.magnitudes.get(1).map(|(_, line)| *line);
            findings.note(AnomalyCode::MixedTimestampUnits, path, line, || found.join(", "));
        }
        if self.rows.users.len() == 1 {
            let detail = || format!("user `{}`", self.rows.users.text(0));
            findings.note(AnomalyCode::SingleUser, path, None, detail);
        }
        if self.rows.items.len() == 1 {
            let detail = || format!("item `{}`", self.rows.items.text(0));
            findings.note(AnomalyCode::SingleItem, path, None, detail);
        }
        let same_time = times.iter().all(|time| time == first);
        if times.len() > 1 && self.time == TimeKind::UnixSeconds && same_time {
            findings.note(AnomalyCode::ConstantTimestamps, path, None, || format!("all at {first}"));
        }
        if let (Ok(Some(value)), true) = (self.constant_value, self.num_values > 1) {
            findings.note(AnomalyCode::ConstantValues, path, None, || {
                format!("{} values of {value}", self.num_values)
            });
        }
    }
}

/// Names in the order of [`split_place`].
const SPLIT_NAMES: [&str; 4] = ["none", "train", "validation", "test"];

fn split_place(split: Option<SplitPart>) -> usize {
    match split {
        None => 0,
        Some(SplitPart::Train) => 1,
        Some(SplitPart::Validation) => 2,
        Some(SplitPart::Test) => 3,
    }
}
