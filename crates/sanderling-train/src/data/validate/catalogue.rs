//! Checks of the catalogue, alone and against the log.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    path::{Path, PathBuf},
};

use sanderling_types::{Result, Vocabulary};

use super::{AnomalyCode, findings::Findings, interactions::Log, open_anomaly};
use crate::data::{
    problem::RowError,
    reader::{ItemReader, ReadOptions},
};

/// Items of the catalogue.
#[derive(Debug)]
pub(super) struct Catalogue {
    /// Line on which each item id first stands.
    pub(super) lines: HashMap<String, u64>,
    path: PathBuf,
}

/// Reads the catalogue; `None` when it cannot be opened, which is then an anomaly.
pub(super) fn check(
    path: &Path,
    options: &ReadOptions,
    findings: &mut Findings,
) -> Result<Option<Catalogue>> {
    let mut reader = match ItemReader::open(path, options) {
        Ok(reader) => reader,
        Err(error) => {
            let Some(code) = open_anomaly(&error) else { return Err(error) };
            findings.note(code, path, Some(1), || error.to_string());
            return Ok(None);
        }
    };
    let mut lines = HashMap::new();
    let mut categories = HashSet::new();
    loop {
        let (line, id) = match reader.next() {
            Ok(None) => return Ok(Some(Catalogue { lines, path: path.to_owned() })),
            Ok(Some((line, item))) => {
                for name in item.categories {
                    if categories.insert(name) && categories.len() > Vocabulary::MAX_CATEGORIES {
                        findings.note(AnomalyCode::TooManyCategories, path, Some(line), || {
                            format!("line {line} has the 65,536th category")
                        });
                    }
                }
                (line, item.item_id.0)
            }
            Err(RowError::Fatal(error)) => return Err(error),
            Err(RowError::Row(problem)) => {
                findings.note_problem(path, &problem);
                // The item is known even if the rest of its row is not usable.
                (problem.line, reader.current_id().to_owned())
            }
        };
        match lines.entry(id) {
            Entry::Occupied(first) => findings.note(AnomalyCode::DuplicateItem, path, Some(line), || {
                format!("item `{}` is on line {} and on line {line}", first.key(), first.get())
            }),
            Entry::Vacant(free) if !free.key().is_empty() => {
                free.insert(line);
            }
            Entry::Vacant(_) => {}
        }
    }
}

impl Catalogue {
    /// Finds items of the log that the catalogue lacks and the reverse.
    pub(super) fn compare(&self, log: &Log, findings: &mut Findings) {
        let unknown: Vec<bool> = log.rows.items.iter().map(|id| !self.lines.contains_key(id)).collect();
        if unknown.contains(&true) {
            for row in (0..log.rows.len()).filter(|&row| unknown[log.rows.item(row) as usize]) {
                let ((path, line), item) =
                    (log.lines.of(row as u32), log.rows.items.text(log.rows.item(row)));
                let detail = || format!("line {line}: item `{item}` is not in the catalogue");
                findings.note(AnomalyCode::UnknownItem, path, Some(line), detail);
            }
        }
        let mut untouched: Vec<(u64, &str)> = self
            .lines
            .iter()
            .filter(|(id, _)| log.rows.items.number(id).is_none())
            .map(|(id, line)| (*line, id.as_str()))
            .collect();
        untouched.sort_unstable();
        for (line, id) in untouched {
            let detail = || format!("line {line}: item `{id}` has no interactions");
            findings.note(AnomalyCode::UntouchedItem, &self.path, Some(line), detail);
        }
    }
}
