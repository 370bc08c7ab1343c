//! Interactions and catalogue in memory, and the data folder on disk.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::{Path, PathBuf},
};

use sanderling_types::{
    Code, Error, FORMAT_VERSION, Interaction, Item, Result, SplitPart, TimeKind, decode_json, json_object,
};
use serde::Serialize;

use crate::folder::{write_file, write_folder};

use super::{
    columns::ColumnMap,
    context::ContextColumn,
    intake::Intake,
    interactions::Interactions,
    progress::{EVERY_ROWS, Progress, Stage},
    reader::{InteractionReader, ItemReader, ReadOptions},
    source::{self, Source, not_found, plain_name},
    table::join_list,
    time::TimeUnit,
};

/// Files that a data folder may hold.
const FILE_NAMES: [&str; 5] = ["interactions.csv", "items.csv", "data.json", "truth.json", "devices.jsonl"];
const MAX_INFO_BYTES: usize = 1 << 16;
const INTERACTION_COLUMNS: [&str; 6] = ["user_id", "item_id", "kind", "timestamp", "value", "split"];
const ITEM_COLUMNS: [&str; 5] = ["item_id", "title", "categories", "price", "published_at"];

/// Interaction logs and the catalogue they speak of.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// What users did.
    pub interactions: Interactions,
    /// The catalogue in file order; empty where the source has none.
    pub items: Vec<Item>,
    /// What timestamps mean.
    pub time: TimeKind,
}

/// How much a data folder holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DataCounts {
    /// Rows of `interactions.csv`.
    pub interactions: u64,
    /// Rows of `items.csv`.
    pub items: u64,
    /// Different users in `interactions.csv`.
    pub users: u64,
}
json_object!(DataCounts { interactions, items, users });

/// The content of `data.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataInfo {
    /// How much the folder holds.
    pub counts: DataCounts,
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Layout that the data came from, such as `ml-1m`, `csv` or `synth`.
    pub source: String,
    /// What timestamps mean.
    pub time: TimeKind,
}
json_object!(DataInfo { counts, format_version, source, time });

/// The files of one data folder, or one bare table of interactions.
#[derive(Debug, Clone)]
pub(crate) struct DataFiles {
    /// What holds the interactions: a file, or the folder of `tables`.
    pub(crate) interactions: PathBuf,
    /// The table of interactions in its parts, in order; at least one.
    pub(crate) tables: Vec<PathBuf>,
    pub(crate) items: Option<PathBuf>,
    pub(crate) info: Option<DataInfo>,
}

impl DataFiles {
    /// Looks at `path`: a folder that holds `interactions.*`, or else tables that are one together, in the order of
    /// their names; or a table of interactions. A table that is itself called `interactions.*` brings the `items.*`
    /// and `data.json` beside it.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let expected =
            "interactions.csv, .tsv, .jsonl, .ndjson or .parquet, perhaps compressed; or tables of any name";
        let (interactions, tables, folder) = if path.is_dir() {
            match source::find_table(path, "interactions") {
                Some(found) => (found.clone(), vec![found], Some(path)),
                None => {
                    let items = source::find_table(path, "items");
                    let mut tables = source::tables(path)?;
                    tables.retain(|table| Some(table) != items.as_ref());
                    if tables.is_empty() {
                        return Err(not_found(path, expected));
                    }
                    (path.to_owned(), tables, Some(path))
                }
            }
        } else if path.is_file() {
            let named = plain_name(path).split('.').next() == Some("interactions");
            (path.to_owned(), vec![path.to_owned()], path.parent().filter(|_| named))
        } else {
            return Err(not_found(path, expected));
        };
        let folder = folder.map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
        let info = match folder.map(|folder| folder.join("data.json")).filter(|path| path.is_file()) {
            Some(path) => Some(DataInfo::read(&path)?),
            None => None,
        };
        let items = folder.and_then(|folder| source::find_table(folder, "items"));
        Ok(Self { interactions, tables, items, info })
    }

    /// How timestamps are to be read: as `data.json` says, else by magnitude.
    pub(crate) fn time_unit(&self) -> TimeUnit {
        match self.info.as_ref().map(|info| info.time) {
            Some(TimeKind::Order) => TimeUnit::Position,
            Some(TimeKind::UnixSeconds) => TimeUnit::Seconds,
            None => TimeUnit::Auto,
        }
    }
}

impl DataInfo {
    /// Reads `data.json`.
    ///
    /// # Errors
    /// [`Code::Io`], [`Code::DataInvalid`], [`Code::UnsupportedFormatVersion`].
    pub fn read(path: &Path) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut reader = io::Read::take(Source::open(path)?.reader, MAX_INFO_BYTES as u64 + 1);
        io::Read::read_to_end(&mut reader, &mut bytes)
            .map_err(|error| source::io_error("read", path, error))?;
        decode_json(&bytes, MAX_INFO_BYTES, "data.json", Code::DataInvalid)
    }
}

impl Dataset {
    /// Makes a dataset of rows in any order, see [`Interactions`].
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] for more than 65,536 kinds, or 4 billion rows.
    pub fn new(
        interactions: impl IntoIterator<Item = Interaction>,
        items: Vec<Item>,
        time: TimeKind,
    ) -> Result<Self> {
        let mut intake = Intake::default();
        intake.extend(interactions)?;
        Ok(Self { interactions: intake.finish(&mut |_| {}), items, time })
    }

    /// Reads a data folder, or a bare `interactions.{csv,tsv,jsonl,parquet}` with the `items.*` beside it; each
    /// may be compressed (xz, gzip, zstd). Without `data.json`, common column names are recognised, timestamps
    /// are read by magnitude ([`TimeUnit::Auto`]), and a table without a time column has order only.
    ///
    /// # Errors
    /// [`Code::NotFound`] without interactions, [`Code::ColumnMissing`], [`Code::DataInvalid`] with file and
    /// line for the first unusable row, [`Code::EmptyData`] without rows, [`Code::LimitExceeded`], [`Code::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::read_watched(path, &mut |_| {})
    }

    /// As [`Dataset::read`], telling `progress` from time to time how far it is.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn read_watched(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        Self::read_mapped(path, &ColumnMap::default(), progress)
    }

    /// As [`Dataset::read_watched`], with columns that are not recognised by their names, and those of the context.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn read_mapped(path: &Path, columns: &ColumnMap, progress: &mut dyn FnMut(Progress)) -> Result<Self> {
        let files = DataFiles::find(path)?;
        let options =
            ReadOptions { columns: columns.clone(), time_unit: files.time_unit(), ..ReadOptions::default() };
        let mut reader = InteractionReader::open(&files.tables, &options)?;
        let time = match &files.info {
            Some(info) => info.time,
            None if reader.has_timestamps() => TimeKind::UnixSeconds,
            None => TimeKind::Order,
        };
        let interactions = reader.read_all(progress)?.finish(progress);
        let items = files.items.map(|path| read_items(&path, &options)).transpose()?.unwrap_or_default();
        Ok(Self { interactions, items, time })
    }

    /// Writes a data folder. It appears complete or not at all; an older data folder at the same place is
    /// replaced. Values without a text form are refused.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when `folder` holds foreign files or a row cannot be written,
    /// [`Code::Io`].
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.write_from(folder, "dataset", &mut |_| {})
    }

    /// As [`Dataset::write`], stating in `data.json` which layout the data came from, and telling `progress`
    /// from time to time how far it is.
    ///
    /// # Errors
    /// As [`Dataset::write`].
    pub fn write_from(&self, folder: &Path, source: &str, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        self.write_with(folder, source, progress, |_| Ok(()))
    }

    /// As [`Dataset::write_from`], with more files that `extra` writes into the same folder.
    pub(super) fn write_with(
        &self,
        folder: &Path,
        source: &str,
        progress: &mut dyn FnMut(Progress),
        extra: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        self.check_writable()?;
        let info = DataInfo {
            counts: self.counts(),
            format_version: FORMAT_VERSION,
            source: source.to_owned(),
            time: self.time,
        };
        write_folder(folder, &FILE_NAMES, |folder| {
            write_file(&folder.join("interactions.csv"), |out| self.write_interactions(out, progress))?;
            if !self.items.is_empty() {
                write_file(&folder.join("items.csv"), |out| self.write_items(out))?;
            }
            extra(folder)?;
            write_file(&folder.join("data.json"), |out| {
                serde_json::to_writer_pretty(&mut *out, &info)?;
                out.write_all(b"\n")
            })
        })
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> DataCounts {
        DataCounts {
            interactions: self.interactions.len() as u64,
            items: self.items.len() as u64,
            users: self.interactions.users().len() as u64,
        }
    }

    fn check_writable(&self) -> Result<()> {
        let refuse = |what: &str, found: String| {
            Err(Error::new(
                Code::InvalidArgument,
                format!("the dataset holds {what}, which has no text form"),
            )
            .found(found))
        };
        if let Some((what, row)) = self.interactions.unwritable() {
            return refuse(what, format!("{row:?}"));
        }
        let keys = || self.interactions.context().iter().map(ContextColumn::key);
        if let Some(key) = keys().find(|key| INTERACTION_COLUMNS.contains(key)) {
            return refuse("a context column with the name of another column", key.to_owned());
        }
        for item in &self.items {
            if item.item_id.as_str().is_empty()
                || item.price.is_some_and(|price| !price.is_finite() || price < 0.0)
            {
                return refuse("an empty item id or a bad price", format!("{item:?}"));
            }
            if let Some(name) = item.attributes.keys().find(|name| ITEM_COLUMNS.contains(&name.as_str())) {
                return refuse("an attribute with the name of a column", name.clone());
            }
        }
        Ok(())
    }

    fn write_interactions(&self, out: &mut impl Write, progress: &mut dyn FnMut(Progress)) -> io::Result<()> {
        let total = self.interactions.len() as u64;
        let mut writer = csv::Writer::from_writer(out);
        let context = self.interactions.context();
        writer.write_record(INTERACTION_COLUMNS.into_iter().chain(context.iter().map(ContextColumn::key)))?;
        let mut number = Vec::new();
        for (at, row) in self.interactions.iter().enumerate() {
            for text in [row.user_id, row.item_id, row.kind] {
                writer.write_field(text)?;
            }
            number.clear();
            write!(number, "{}", row.timestamp)?;
            writer.write_field(&number)?;
            number.clear();
            row.value.map_or(Ok(()), |value| write!(number, "{value}"))?;
            writer.write_field(&number)?;
            writer.write_field(split_name(row.split))?;
            context.iter().try_for_each(|column| writer.write_field(column.value(at)))?;
            writer.write_record(None::<&[u8]>)?;
            if (at + 1).is_multiple_of(EVERY_ROWS) {
                let done = at as u64 + 1;
                progress(Progress { stage: Stage::Writing, interactions: done, done, total });
            }
        }
        writer.flush()
    }

    fn write_items(&self, out: &mut impl Write) -> io::Result<()> {
        let attributes: BTreeSet<&str> =
            self.items.iter().flat_map(|item| item.attributes.keys().map(String::as_str)).collect();
        let mut writer = csv::Writer::from_writer(out);
        writer.write_record(ITEM_COLUMNS.iter().copied().chain(attributes.iter().copied()))?;
        for item in &self.items {
            writer.write_field(item.item_id.as_str())?;
            writer.write_field(&item.title)?;
            writer.write_field(join_list(item.categories.iter().map(String::as_str)))?;
            writer.write_field(item.price.map(|price| price.to_string()).unwrap_or_default())?;
            writer.write_field(item.published_at.map(|at| at.to_string()).unwrap_or_default())?;
            for name in &attributes {
                writer.write_field(item.attributes.get(*name).map_or("", String::as_str))?;
            }
            writer.write_record(None::<&[u8]>)?;
        }
        writer.flush()
    }
}

fn split_name(split: Option<SplitPart>) -> &'static str {
    match split {
        None => "",
        Some(SplitPart::Train) => "train",
        Some(SplitPart::Validation) => "validation",
        Some(SplitPart::Test) => "test",
    }
}

/// Reads a table of items, as `items.csv` of a data folder.
///
/// # Errors
/// [`Code::NotFound`], [`Code::ColumnMissing`], [`Code::DataInvalid`] with file and line for the first unusable
/// row, [`Code::Io`].
pub fn read_catalogue(path: &Path) -> Result<Vec<Item>> {
    read_items(path, &ReadOptions::default())
}

/// Reads a catalogue with column names of its own.
pub(crate) fn read_items(path: &Path, options: &ReadOptions) -> Result<Vec<Item>> {
    let mut reader = ItemReader::open(path, options)?;
    let mut items = Vec::new();
    loop {
        match reader.next() {
            Ok(Some((_, item))) => items.push(item),
            Ok(None) => return Ok(items),
            Err(error) => return Err(error.into_error(reader.path())),
        }
    }
}
