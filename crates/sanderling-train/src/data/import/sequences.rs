//! Layouts of one user or session a line.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use sanderling_types::{Item, ItemId, Result, SplitPart, TimeKind};

use super::{Imported, attributes, lines::Lines, lines::empty, optional, required};
use crate::data::{
    columns::ColumnMap, dataset::read_items, intake::Intake, interactions::Row, progress::Progress,
    reader::ReadOptions, time::TimeUnit,
};

const KIND: &str = "view";

/// `user item item …`, oldest first; nothing else is known.
pub(super) fn plain(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Imported> {
    let file = required(path, &["sequences.txt", "sequences.tsv", "sequences.csv"])?;
    let intake = read_sequences(&file, KIND, None, progress)?;
    Ok(Imported::new(intake, Vec::new(), TimeKind::Order, vec![file], progress))
}

/// `sequences.txt` with the titles, years and genres of `items.tsv`.
pub(super) fn movielens_1m(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Imported> {
    let file = required(path, &["sequences.txt"])?;
    let intake = read_sequences(&file, "rating", None, progress)?;
    let mut files = vec![file];
    let mut items = Vec::new();
    if let Some(catalogue) = optional(path, &["items.tsv"]) {
        // Positions cannot be compared with years, so a year stays an attribute.
        items =
            read_items(&catalogue, &ReadOptions { time_unit: TimeUnit::Position, ..ReadOptions::default() })?;
        files.push(catalogue);
    }
    Ok(Imported::new(intake, items, TimeKind::Order, files, progress))
}

/// `sequences.txt` with the attribute ids of `item_attributes.json` as categories.
pub(super) fn beauty(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Imported> {
    let file = required(path, &["sequences.txt"])?;
    let intake = read_sequences(&file, KIND, None, progress)?;
    let mut files = vec![file];
    let mut items = Vec::new();
    if let Some(catalogue) = optional(path, &["item_attributes.json"]) {
        items = attributes::read(&catalogue)?;
        files.push(catalogue);
    }
    Ok(Imported::new(intake, items, TimeKind::Order, files, progress))
}

/// Training and test sessions; session `s<line>` is the user, and clicks are numbered through all sessions.
pub(super) fn diginetica(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Imported> {
    let mut intake = Intake::default();
    let mut files = Vec::new();
    let mut num_sessions = 0;
    for (name, split) in [("train_sessions.txt", SplitPart::Train), ("test_sessions.txt", SplitPart::Test)] {
        let file = super::source::find(path, &[name]).ok_or_else(|| super::source::not_found(path, name))?;
        let mut lines = Lines::open(&file)?;
        while let Some((_, text)) = lines.next()? {
            num_sessions += 1;
            let user_id = format!("s{num_sessions}");
            for item in text.split_ascii_whitespace() {
                let timestamp = intake.len() as i64;
                intake.push(row(&user_id, item, KIND, timestamp, Some(split)))?;
            }
            report(&lines, intake.len(), progress);
        }
        files.push(file);
    }
    if intake.len() == 0 {
        return Err(empty(path));
    }
    Ok(Imported::new(intake, Vec::new(), TimeKind::Order, files, progress))
}

/// The NCF protocol: `train_pairs.txt` is the training part, `ml-1m.test.rating` the test part.
pub(super) fn ncf(path: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Imported> {
    let file = required(path, &["train_pairs.txt"])?;
    let mut intake = read_sequences(&file, "rating", Some(SplitPart::Train), progress)?;
    let mut files = vec![file];
    let test = optional(path, &["ml-1m.test.rating"])
        .ok_or_else(|| super::source::not_found(path, "ml-1m.test.rating"))?;
    read_test_ratings(&test, &mut intake)?;
    files.push(test);
    let mut items = Vec::new();
    if let Some(map) = optional(path, &["item_map.tsv"]) {
        let columns = ColumnMap { item: Some("ncf_item".to_owned()), ..ColumnMap::default() };
        items = read_items(&map, &ReadOptions { columns, ..ReadOptions::default() })?;
        add_missing_items(&mut items, &intake);
        files.push(map);
    }
    let mut imported = Imported::new(intake, items, TimeKind::Order, files, progress);
    imported.notes.push(
        "the 99 negatives of every test user stay in ml-1m.test.negative; they are part of the protocol, not of the logs"
            .to_owned(),
    );
    Ok(imported)
}

/// The map leaves out ids that occur in no training pair; some of them are test items.
fn add_missing_items(items: &mut Vec<Item>, intake: &Intake) {
    let known: BTreeSet<ItemId> = items.iter().map(|item| item.item_id.clone()).collect();
    for item_id in intake.items.iter().map(ItemId::from) {
        if !known.contains(&item_id) {
            items.push(Item {
                item_id,
                title: String::new(),
                categories: Vec::new(),
                price: None,
                published_at: None,
                attributes: BTreeMap::new(),
            });
        }
    }
}

/// `user item rating timestamp`; the timestamp is not used, because the training pairs have none.
fn read_test_ratings(path: &Path, intake: &mut Intake) -> Result<()> {
    let mut lines = Lines::open(path)?;
    let mut next = vec![0; intake.users.len()];
    for (row, timestamp) in intake.timestamps().iter().enumerate() {
        let position = &mut next[intake.user(row) as usize];
        *position = (*timestamp + 1).max(*position);
    }
    while let Some((line, text)) = lines.next()? {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [user, item, rating, _] = fields[..] else {
            let found = format!("{} fields", fields.len());
            return Err(super::lines::invalid(path, line, "the row cannot be read", "4 fields", &found));
        };
        let value = rating.parse::<f32>().ok().filter(|rating| rating.is_finite());
        let Some(value) = value else {
            return Err(super::lines::invalid(
                path,
                line,
                "the rating cannot be read",
                "a finite number",
                rating,
            ));
        };
        let known = intake.users.number(user).and_then(|user| next.get(user as usize));
        let timestamp = known.copied().unwrap_or(0);
        let test = row(user, item, "rating", timestamp, Some(SplitPart::Test));
        intake.push(Row { value: Some(value), ..test })?;
    }
    Ok(())
}

fn read_sequences(
    path: &Path,
    kind: &str,
    split: Option<SplitPart>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Intake> {
    let mut lines = Lines::open(path)?;
    let mut intake = Intake::default();
    let mut first_lines: Vec<u64> = Vec::new();
    while let Some((line, text)) = lines.next()? {
        let mut words = text.split([' ', '\t', ',']).filter(|word| !word.is_empty());
        let user_id = words.next().unwrap_or_default();
        if let Some(known) = intake.users.number(user_id) {
            let expected = format!("one line a user; this one is on line {}", first_lines[known as usize]);
            return Err(super::lines::invalid(path, line, "the user has two lines", &expected, user_id));
        }
        let start = intake.len();
        for item in words {
            let timestamp = (intake.len() - start) as i64;
            intake.push(row(user_id, item, kind, timestamp, split))?;
        }
        if intake.len() == start {
            let expected = "a user and at least one item";
            return Err(super::lines::invalid(path, line, "the sequence is empty", expected, user_id));
        }
        first_lines.push(line);
        report(&lines, intake.len(), progress);
    }
    if intake.len() == 0 {
        return Err(empty(lines.path()));
    }
    Ok(intake)
}

fn row<'a>(
    user_id: &'a str,
    item_id: &'a str,
    kind: &'a str,
    timestamp: i64,
    split: Option<SplitPart>,
) -> Row<'a> {
    Row { user_id, item_id, kind, timestamp, value: None, split }
}

/// Tells how far the reading has come, about every 65,536 interactions.
fn report(lines: &Lines, num_interactions: usize, progress: &mut dyn FnMut(Progress)) {
    const EVERY: usize = 1 << 10;
    if num_interactions.is_multiple_of(EVERY) {
        progress(lines.progress(num_interactions));
    }
}
