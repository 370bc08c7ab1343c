//! Public layouts of logs, turned into a [`Dataset`].

mod attributes;
mod generic;
mod lines;
mod movielens;
mod sequences;

use std::path::{Path, PathBuf};

use sanderling_types::{Code, Error, Item, Result, TimeKind};
use serde::{Deserialize, Serialize};

use super::{
    columns::ColumnMap, dataset::Dataset, intake::Intake, progress::Progress, source, time::TimeUnit,
};

/// Names of the layouts that [`import`] knows, with what they look like.
pub const LAYOUTS: [(&str, &str); 11] = [
    ("ml-100k", "ml-100k.inter.tsv and ml-100k.item.tsv with typed headers"),
    ("ml-1m", "sequences.txt (user item item …) and items.tsv"),
    ("ml-1m-ncf100", "train_pairs.txt, ml-1m.test.rating and item_map.tsv"),
    ("ml-latest-small", "ratings.csv and movies.csv"),
    ("amazon-beauty", "sequences.txt and item_attributes.json"),
    ("diginetica", "train_sessions.txt and test_sessions.txt, one session a line"),
    ("csv", "a table with a header, separated by comma, tab or semicolon"),
    ("jsonl", "one JSON object a line"),
    ("parquet", "a Parquet file"),
    ("movielens", "ratings.csv, ratings.dat or u.data, with movies.csv, movies.dat or u.item"),
    ("sequences", "one sequence a line: user item item …"),
];

/// What an import needs to be told beyond the layout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImportOptions {
    /// Columns whose names are not recognised by themselves; for `csv`, `jsonl` and `parquet`.
    pub columns: ColumnMap,
    /// Separator of the table's fields; guessed from the header by default.
    pub delimiter: Option<char>,
    /// Unit of the timestamps.
    pub time_unit: TimeUnit,
    /// Kind of the interactions that state none; by default `rating` where there is one, else `view`.
    pub kind: Option<String>,
}

/// What an import found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportSummary {
    /// The layout that was asked for.
    pub layout: String,
    /// Files that were read.
    pub files: Vec<PathBuf>,
    /// Which column was taken for what, where there are named columns.
    pub columns: Vec<(String, String)>,
    /// What timestamps mean.
    pub time: TimeKind,
    /// Rows.
    pub num_interactions: u64,
    /// Different users (or sessions).
    pub num_users: u64,
    /// Different items in the interactions.
    pub num_items: u64,
    /// Items of the catalogue; 0 without one.
    pub num_catalogue_items: u64,
    /// Earliest timestamp.
    pub first_timestamp: i64,
    /// Latest timestamp.
    pub last_timestamp: i64,
    /// What people should know about the data.
    pub notes: Vec<String>,
}

/// What a layout's reader hands over.
#[derive(Debug)]
struct Imported {
    dataset: Dataset,
    files: Vec<PathBuf>,
    columns: Vec<(String, String)>,
    notes: Vec<String>,
}

impl Imported {
    fn new(
        intake: Intake,
        items: Vec<Item>,
        time: TimeKind,
        files: Vec<PathBuf>,
        progress: &mut dyn FnMut(Progress),
    ) -> Self {
        let dataset = Dataset { interactions: intake.finish(progress), items, time };
        Self { dataset, files, columns: Vec::new(), notes: Vec::new() }
    }
}

/// Reads `path` (a file, or a folder that holds the layout's files, compressed or not) as `layout`, one of
/// [`LAYOUTS`]. Data without times gets [`TimeKind::Order`]: timestamps are positions in the user's sequence,
/// or, where the order across users is known (`diginetica`, tables without a time column), running row numbers.
///
/// # Errors
/// [`Code::UnknownLayout`], [`Code::NotFound`] without the layout's files, [`Code::ColumnMissing`],
/// [`Code::DataInvalid`] with file and line for the first unusable row, [`Code::EmptyData`],
/// [`Code::LimitExceeded`], [`Code::Io`].
pub fn import(
    layout: &str,
    path: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Dataset, ImportSummary)> {
    let imported = match layout {
        "ml-100k" => generic::atomic(path, "ml-100k", options, progress),
        "ml-1m" => sequences::movielens_1m(path, progress),
        "ml-1m-ncf100" => sequences::ncf(path, progress),
        "ml-latest-small" | "movielens" => movielens::import(path, options, progress),
        "amazon-beauty" => sequences::beauty(path, progress),
        "diginetica" => sequences::diginetica(path, progress),
        "csv" | "jsonl" | "parquet" => generic::table(layout, path, options, progress),
        "sequences" => sequences::plain(path, progress),
        _ => {
            let known: Vec<&str> = LAYOUTS.iter().map(|(name, _)| *name).collect();
            return Err(Error::new(Code::UnknownLayout, "the layout is not known")
                .expected(known.join(", "))
                .found(layout)
                .hint("use `csv` with a column mapping for other tables"));
        }
    }?;
    let summary = summarise(layout, &imported);
    Ok((imported.dataset, summary))
}

fn summarise(layout: &str, imported: &Imported) -> ImportSummary {
    let dataset = &imported.dataset;
    let counts = dataset.counts();
    let times = dataset.interactions.timestamps();
    ImportSummary {
        layout: layout.to_owned(),
        files: imported.files.clone(),
        columns: imported.columns.clone(),
        time: dataset.time,
        num_interactions: counts.interactions,
        num_users: counts.users,
        num_items: dataset.interactions.items().len() as u64,
        num_catalogue_items: counts.items,
        first_timestamp: times.iter().copied().min().unwrap_or(0),
        last_timestamp: times.iter().copied().max().unwrap_or(0),
        notes: imported.notes.clone(),
    }
}

/// The one of `names` that a layout needs: `path` itself when it is a file, else in the folder.
fn required(path: &Path, names: &[&str]) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_owned());
    }
    source::find(path, names).ok_or_else(|| source::not_found(path, &names.join(" or ")))
}

/// The one of `names` that helps a layout: in the folder, or beside the file.
fn optional(path: &Path, names: &[&str]) -> Option<PathBuf> {
    let folder = if path.is_dir() { path } else { path.parent()? };
    source::find(if folder.as_os_str().is_empty() { Path::new(".") } else { folder }, names)
}
