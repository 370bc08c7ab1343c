//! Checks of the log.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use sanderling_types::{Interaction, Result, SplitPart, TimeKind};

use super::{AnomalyCode, Validation, findings::Findings, open_anomaly, robots};
use crate::data::{
    dataset::DataFiles,
    problem::RowError,
    reader::{InteractionReader, ReadOptions},
    time::{self, TimeUnit},
};

/// Names by number, in order of first appearance.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: String) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }

    pub(super) fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.numbers.contains_key(name)
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

/// One usable row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LogRow {
    pub(super) user: u32,
    pub(super) item: u32,
    kind: u32,
    pub(super) timestamp: i64,
    pub(super) line: u64,
}

/// The usable rows, in file order.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) path: PathBuf,
    pub(super) rows: Vec<LogRow>,
    pub(super) users: Names,
    pub(super) items: Names,
    kinds: Names,
    pub(super) time: TimeKind,
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
) -> Result<Option<Log>> {
    let path = &files.interactions;
    let mut reader = match InteractionReader::open(path, options) {
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
    log.read(&mut reader, options, findings, validation)?;
    log.check_times(now, reader.has_timestamps(), findings);
    log.check_whole(findings);
    robots::check(&log, findings);
    validation.num_interactions = log.rows.len() as u64;
    validation.num_users = log.users.len() as u64;
    validation.num_items = log.items.len() as u64;
    validation.time = Some(log.time);
    validation.first_timestamp = log.rows.iter().map(|row| row.timestamp).min();
    validation.last_timestamp = log.rows.iter().map(|row| row.timestamp).max();
    Ok(Some(log))
}

impl Log {
    fn new(path: PathBuf, time: TimeKind) -> Self {
        Self {
            path,
            rows: Vec::new(),
            users: Names::default(),
            items: Names::default(),
            kinds: Names::default(),
            time,
            constant_value: Ok(None),
            num_values: 0,
            magnitudes: Vec::new(),
        }
    }

    fn read(
        &mut self,
        reader: &mut InteractionReader,
        options: &ReadOptions,
        findings: &mut Findings,
        validation: &mut Validation,
    ) -> Result<()> {
        loop {
            let (line, number, interaction) = match reader.next() {
                Ok(None) => return Ok(()),
                Ok(Some((row, interaction))) => {
                    (row.line, row.timestamp.and_then(|text| text.trim().parse::<i64>().ok()), interaction)
                }
                Err(RowError::Fatal(error)) => return Err(error),
                Err(RowError::Row(problem)) => {
                    findings.note_problem(&self.path, &problem);
                    validation.num_rows += 1;
                    continue;
                }
            };
            validation.num_rows += 1;
            *validation.kinds.entry(interaction.kind.clone()).or_default() += 1;
            *validation.splits.entry(split_name(interaction.split).to_owned()).or_default() += 1;
            if let Some(number) = number.filter(|number| options.time_unit == TimeUnit::Auto && *number > 0) {
                let magnitude = time::magnitude(number);
                if !self.magnitudes.iter().any(|(known, _)| *known == magnitude) {
                    self.magnitudes.push((magnitude, line));
                }
            }
            self.push(line, interaction);
        }
    }

    fn push(&mut self, line: u64, interaction: Interaction) {
        if let Some(value) = interaction.value {
            self.num_values += 1;
            self.constant_value = match self.constant_value {
                Ok(None) => Ok(Some(value)),
                Ok(Some(known)) if known == value => Ok(Some(known)),
                _ => Err(()),
            };
        }
        self.rows.push(LogRow {
            user: self.users.number(interaction.user_id.0),
            item: self.items.number(interaction.item_id.0),
            kind: self.kinds.number(interaction.kind),
            timestamp: interaction.timestamp,
            line,
        });
    }

    /// Checks of single rows and of neighbours.
    fn check_times(&self, now: i64, has_timestamps: bool, findings: &mut Findings) {
        let mut last_of_user: Vec<Option<i64>> = vec![None; self.users.len()];
        let mut seen = HashSet::with_capacity(if has_timestamps { self.rows.len() } else { 0 });
        let lowest = if self.time == TimeKind::UnixSeconds { 1 } else { 0 };
        for row in &self.rows {
            let LogRow { line, timestamp, .. } = *row;
            if timestamp < lowest {
                let detail = || format!("line {line}: timestamp {timestamp}");
                findings.note(AnomalyCode::TimestampNotPositive, &self.path, Some(line), detail);
            }
            if self.time == TimeKind::UnixSeconds && timestamp > now {
                let detail =
                    || format!("line {line}: timestamp {timestamp} is {} seconds after now", timestamp - now);
                findings.note(AnomalyCode::FutureTimestamp, &self.path, Some(line), detail);
            }
            let last = last_of_user[row.user as usize].replace(timestamp);
            if let Some(last) = last.filter(|last| timestamp < *last) {
                let user = self.users.name(row.user);
                let detail = || format!("line {line}: user `{user}` goes back from {last} to {timestamp}");
                findings.note(AnomalyCode::UnsortedTimestamps, &self.path, Some(line), detail);
            }
            if has_timestamps && !seen.insert(LogRow { line: 0, ..*row }) {
                let (user, item) = (self.users.name(row.user), self.items.name(row.item));
                let detail =
                    || format!("line {line}: user `{user}`, item `{item}` at {timestamp} is there already");
                findings.note(AnomalyCode::DuplicateInteraction, &self.path, Some(line), detail);
            }
        }
    }

    /// Checks of the log as a whole.
    fn check_whole(&self, findings: &mut Findings) {
        let path = &self.path;
        let Some(first) = self.rows.first() else {
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
        if self.users.len() == 1 {
            findings.note(AnomalyCode::SingleUser, path, None, || format!("user `{}`", self.users.name(0)));
        }
        if self.items.len() == 1 {
            findings.note(AnomalyCode::SingleItem, path, None, || format!("item `{}`", self.items.name(0)));
        }
        let several = self.rows.len() > 1;
        let same_time = self.rows.iter().all(|row| row.timestamp == first.timestamp);
        if several && self.time == TimeKind::UnixSeconds && same_time {
            let detail = || format!("all at {}", first.timestamp);
            findings.note(AnomalyCode::ConstantTimestamps, path, None, detail);
        }
        if let (Ok(Some(value)), true) = (self.constant_value, self.num_values > 1) {
            findings.note(AnomalyCode::ConstantValues, path, None, || {
                format!("{} values of {value}", self.num_values)
            });
        }
    }
}

fn split_name(split: Option<SplitPart>) -> &'static str {
    match split {
        None => "none",
        Some(SplitPart::Train) => "train",
        Some(SplitPart::Validation) => "validation",
        Some(SplitPart::Test) => "test",
    }
}
