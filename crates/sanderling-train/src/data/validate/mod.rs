//! What is wrong with a data folder, counted and with line numbers.

mod catalogue;
mod findings;
mod interactions;
mod lines;
mod robots;

use std::{collections::BTreeMap, path::Path, path::PathBuf};

use sanderling_types::{Code, Result, TimeKind};
use serde::{Deserialize, Serialize};

use self::findings::Findings;
use super::{
    dataset::{DataFiles, DataInfo},
    progress::Progress,
    reader::ReadOptions,
};

/// How bad an anomaly is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The data cannot be used as it is, or would give wrong results.
    Error,
    /// The data can be used; results may be worse than they could be.
    Warning,
    /// Worth knowing.
    Info,
}

macro_rules! anomalies {
    ($($variant:ident = $severity:ident, $doc:literal, $fix:literal;)*) => {
        /// Every kind of anomaly that [`validate`] looks for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum AnomalyCode {
            $(#[doc = $doc] $variant,)*
        }

        impl AnomalyCode {
            /// Every code, in the order in which anomalies of one severity are listed.
            pub const ALL: &'static [AnomalyCode] = &[$(AnomalyCode::$variant),*];

            /// How bad it is.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(AnomalyCode::$variant => Severity::$severity,)* }
            }

            /// One sentence about what it is.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self { $(AnomalyCode::$variant => $doc,)* }
            }

            /// What to do about it.
            #[must_use]
            pub fn suggested_fix(self) -> &'static str {
                match self { $(AnomalyCode::$variant => $fix,)* }
            }
        }
    };
}

anomalies! {
    EmptyData = Error, "There are no usable interactions.", "give at least one row after the header";
    MissingColumn = Error, "A required column is missing.", "add the column, or import the file again with a column mapping";
    UnreadableRow = Error, "A row cannot be taken apart.", "correct the row, or quote fields that hold the separator";
    EmptyId = Error, "A user or item id is empty.", "give the row an id or remove it";
    InvalidTimestamp = Error, "A timestamp is neither a number nor a date.", "write Unix seconds, milliseconds or ISO-8601";
    TimestampNotPositive = Error, "A timestamp is zero or negative.", "remove the row, or restore its time; zero often means that the time was lost";
    FutureTimestamp = Error, "A timestamp lies after now.", "check the unit and the time zone, or remove the row";
    MixedTimestampUnits = Error, "Timestamps have different units, by their magnitude.", "write all of them as Unix seconds";
    NonFiniteValue = Error, "A value is not a finite number.", "write a finite number or leave the field empty";
    InvalidSplit = Error, "A split part is unknown.", "write train, validation or test, or leave the field empty";
    BadPrice = Error, "A price is negative or not a finite number.", "write a finite number that is not negative, or leave the field empty";
    DuplicateItem = Error, "The catalogue has an item id twice.", "keep one row for each item";
    TooManyCategories = Error, "The catalogue has more than 65,535 categories.", "leave out those of few items, or write them into the title";
    SingleItem = Error, "Every interaction is with the same item.", "check the item column; a model needs several items";
    DuplicateInteraction = Warning, "A row repeats an earlier one (user, item, kind and time).", "remove the repeated rows";
    UnknownItem = Warning, "An interaction's item is not in the catalogue.", "add the item to the catalogue, or remove the row if the item is gone for good";
    UnsortedTimestamps = Warning, "A row is older than the row of the same user before it.", "sort the file by user and time; reading sorts it, but ties keep the order of the file";
    Robot = Warning, "A user acts too often or too regularly to be a person.", "remove the user's rows if it is a crawler or a test account";
    SingleUser = Warning, "Every interaction is of the same user.", "check the user column; a model learns from many users";
    ConstantTimestamps = Warning, "Every interaction has the same timestamp.", "check the timestamp column; a time split is not possible";
    NoTimestamps = Warning, "There is no time column; the order of rows is taken for the order of time.", "add a timestamp column if times are known";
    ConstantValues = Info, "Every value is the same, so values say nothing.", "leave the column out, or check where it comes from";
    UntouchedItem = Info, "A catalogue item has no interactions.", "nothing, if the item is new; it enters the bundle that is trained once it has interactions";
    CountMismatch = Info, "data.json states other counts than the files have.", "write the folder again with `sanderling import` after editing files by hand";
}

/// One kind of anomaly in one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// What it is.
    pub code: AnomalyCode,
    /// How bad it is.
    pub severity: Severity,
    /// How often it occurs.
    pub count: u64,
    /// Name of the file.
    pub file: String,
    /// 1-based lines of the first occurrences, at most 5 (row numbers in Parquet); empty where the anomaly
    /// concerns the file as a whole.
    pub lines: Vec<u64>,
    /// Evidence of the first occurrence.
    pub detail: String,
    /// What to do.
    pub suggested_fix: String,
}

/// What a data folder holds and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// The table of interactions.
    pub interactions_file: PathBuf,
    /// The catalogue, where there is one.
    pub items_file: Option<PathBuf>,
    /// What timestamps mean; unknown when the interactions cannot be opened.
    pub time: Option<TimeKind>,
    /// Rows of interactions, usable or not.
    pub num_rows: u64,
    /// Usable interactions.
    pub num_interactions: u64,
    /// Different users in them.
    pub num_users: u64,
    /// Different items in them.
    pub num_items: u64,
    /// Different items of the catalogue; 0 without one.
    pub num_catalogue_items: u64,
    /// Earliest timestamp.
    pub first_timestamp: Option<i64>,
    /// Latest timestamp.
    pub last_timestamp: Option<i64>,
    /// Interactions by kind.
    pub kinds: BTreeMap<String, u64>,
    /// Interactions by split part; `none` for those that state none.
    pub splits: BTreeMap<String, u64>,
    /// By severity, then code, then file.
    pub anomalies: Vec<Anomaly>,
}

impl Validation {
    /// Whether any anomaly is an error.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.anomalies.iter().any(|anomaly| anomaly.severity == Severity::Error)
    }

    /// The first anomaly of a code.
    #[must_use]
    pub fn anomaly(&self, code: AnomalyCode) -> Option<&Anomaly> {
        self.anomalies.iter().find(|anomaly| anomaly.code == code)
    }
}

/// Reads all of a data folder (or bare table, as [`super::Dataset::read`] takes it) and reports every anomaly.
/// Unusable rows do not stop it. `now` is in Unix seconds; `progress` hears from time to time how far it is.
///
/// # Errors
/// [`Code::NotFound`] without interactions, [`Code::Io`] for a damaged archive, [`Code::LimitExceeded`], and what
/// [`DataInfo::read`] gives for `data.json`; everything else is an anomaly.
pub fn validate(path: &Path, now: i64, progress: &mut dyn FnMut(Progress)) -> Result<Validation> {
    let files = DataFiles::find(path)?;
    let options = ReadOptions { time_unit: files.time_unit(), ..ReadOptions::default() };
    let mut findings = Findings::default();
    let mut validation = Validation {
        interactions_file: files.interactions.clone(),
        items_file: files.items.clone(),
        ..Validation::default()
    };
    let catalogue = match &files.items {
        Some(path) => catalogue::check(path, &options, &mut findings)?,
        None => None,
    };
    validation.num_catalogue_items = catalogue.as_ref().map_or(0, |catalogue| catalogue.lines.len() as u64);
    let checked = interactions::check(&files, &options, now, &mut findings, &mut validation, progress)?;
    if let (Some(catalogue), Some(log)) = (&catalogue, &checked) {
        catalogue.compare(log, &mut findings);
    }
    if let Some(info) = &files.info {
        compare_counts(info, &validation, &mut findings);
    }
    validation.anomalies = findings.into_anomalies();
    Ok(validation)
}

fn compare_counts(info: &DataInfo, validation: &Validation, findings: &mut Findings) {
    let stated = [info.counts.interactions, info.counts.users, info.counts.items];
    let found = [validation.num_rows, validation.num_users, validation.num_catalogue_items];
    if stated != found {
        let detail =
            format!("interactions, users and items: data.json says {stated:?}, the files have {found:?}");
        findings.note(AnomalyCode::CountMismatch, Path::new("data.json"), None, || detail);
    }
}

/// An error of opening a table as an anomaly, if it is one.
fn open_anomaly(error: &sanderling_types::Error) -> Option<AnomalyCode> {
    match error.code() {
        Code::ColumnMissing => Some(AnomalyCode::MissingColumn),
        Code::EmptyData => Some(AnomalyCode::EmptyData),
        Code::DataInvalid => Some(AnomalyCode::UnreadableRow),
        _ => None,
    }
}
