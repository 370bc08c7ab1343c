//! Tables with named columns: CSV, JSON Lines, Parquet and atomic files with typed headers.

use std::path::Path;

use sanderling_types::{Code, Error, Result, TimeKind};

use super::{ImportOptions, Imported, Progress, optional, required};
use crate::data::{
    dataset::{DataFiles, read_items},
    reader::{InteractionReader, ReadOptions},
    source::{TableFormat, table_format},
    time::TimeUnit,
};

/// A table of the format that the layout names, or a folder with `interactions.*` (or else tables of any name, which
/// are one together) and perhaps `items.*`.
pub(super) fn table(
    layout: &str,
    path: &Path,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported> {
    let files = DataFiles::find(path)?;
    let format = match layout {
        "jsonl" => TableFormat::JsonLines,
        "parquet" => TableFormat::Parquet,
        _ => TableFormat::Delimited,
    };
    if let Some(other) = files.tables.iter().find(|table| table_format(table) != format) {
        return Err(Error::new(Code::InvalidArgument, format!("{} is not a {layout} file", other.display()))
            .expected(format!("a file name that ends in .{layout}, perhaps compressed"))
            .hint("choose the layout that the file's ending names"));
    }
    let mut read_options = read_options(options)?;
    if options.time_unit == TimeUnit::Auto {
        read_options.time_unit = files.time_unit();
    }
    read(&files, &read_options, progress)
}

/// `NAME.inter.tsv` and `NAME.item.tsv`, whose headers carry a type after a colon.
pub(super) fn atomic(
    path: &Path,
    name: &str,
    options: &ImportOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported> {
    let names = |part: &str| [format!("{name}.{part}.tsv"), format!("{name}.{part}")];
    let (inter, item) = (names("inter"), names("item"));
    let interactions = required(path, &[&inter[0], &inter[1]])?;
    let items = optional(path, &[&item[0], &item[1]]);
    let tables = vec![interactions.clone()];
    read(&DataFiles { interactions, tables, items, info: None }, &read_options(options)?, progress)
}

fn read_options(options: &ImportOptions) -> Result<ReadOptions> {
    let delimiter = options.delimiter.map(|delimiter| {
        u8::try_from(delimiter).ok().filter(u8::is_ascii).ok_or_else(|| {
            Error::new(Code::InvalidArgument, "the separator cannot be used")
                .expected("one ASCII character")
                .found(format!("`{delimiter}`"))
        })
    });
    Ok(ReadOptions {
        columns: options.columns.clone(),
        delimiter: delimiter.transpose()?,
        time_unit: options.time_unit,
        default_kind: options.kind.clone(),
    })
}

fn read(files: &DataFiles, options: &ReadOptions, progress: &mut dyn FnMut(Progress)) -> Result<Imported> {
    let mut reader = InteractionReader::open(&files.tables, options)?;
    let intake = reader.read_all(progress)?;
    let items = files.items.as_ref().map(|path| read_items(path, options)).transpose()?.unwrap_or_default();
    let order = options.time_unit == TimeUnit::Position || !reader.has_timestamps();
    let time = if order { TimeKind::Order } else { TimeKind::UnixSeconds };
    let mut imported = Imported::new(intake, items, time, files.tables.clone(), progress);
    imported.files.extend(files.items.clone());
    imported.columns = reader.mapping();
    if !reader.has_timestamps() {
        imported
            .notes
            .push("no time column: the order of the rows is taken for the order of time".to_owned());
    }
    Ok(imported)
}
