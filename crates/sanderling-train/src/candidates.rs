//! What the answer to a case is looked for among: the whole catalogue, or only some of it where a published
//! protocol says so. Sampled candidates order models differently from the whole catalogue (Krichene & Rendle
//! 2020), so they are for comparison with such figures alone.
#![allow(clippy::disallowed_methods, reason = "the trainer is native: it reads and writes files")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use sanderling_types::{Code, Error, ItemId, Result, UserId};
use serde::Deserialize;

use crate::data::Dataset;
use crate::split::{Case, Split};

/// Rows of the vocabulary that a case's answer is looked for among, beside the answer itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Candidates {
    /// Everything.
    #[default]
    Catalogue,
    /// The same items in every case.
    Items(Vec<u32>),
    /// Items of each sequence.
    OfSequence(BTreeMap<u32, Vec<u32>>),
}

#[derive(Debug, Deserialize)]
struct Row {
    user_id: UserId,
    item_id: ItemId,
}

impl Candidates {
    /// The items of the vocabulary that have no training interaction.
    #[must_use]
    pub fn untouched(split: &Split) -> Self {
        Self::Items((split.num_trained() as u32..split.vocabulary.len() as u32).collect())
    }

    /// Reads `user_id,item_id` rows: the candidates of each user's cases. Items that the vocabulary does not
    /// have are left out, since nothing can list them.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::DataInvalid`] for a row without these columns, [`Code::EmptyData`] when no
    /// row is of a user with a test case.
    pub fn read(path: &Path, dataset: &Dataset, split: &Split) -> Result<Self> {
        let file = File::open(path).map_err(|error| {
            Error::new(Code::NotFound, format!("{} cannot be opened", path.display())).source_error(error)
        })?;
        let users = dataset.interactions.users();
        let sequences: BTreeMap<u32, u32> =
            split.test.iter().map(|case| (split.users[case.user as usize], case.user)).collect();
        let rows: BTreeMap<&ItemId, u32> = split.vocabulary.item_ids.iter().zip(0..).collect();
        let mut of: BTreeMap<u32, Vec<u32>> = split.test.iter().map(|case| (case.user, Vec::new())).collect();
        let mut reader = csv::Reader::from_reader(file);
        for (line, row) in (2..).zip(reader.deserialize::<Row>()) {
            let row = row.map_err(|error| {
                Error::new(Code::DataInvalid, format!("{} line {line} cannot be read", path.display()))
                    .expected("columns user_id and item_id")
                    .found(&error)
            })?;
            let sequence = users.number(row.user_id.as_str()).and_then(|user| sequences.get(&user));
            let items = sequence.and_then(|sequence| of.get_mut(sequence));
            if let (Some(items), Some(&item)) = (items, rows.get(&row.item_id)) {
                items.push(item);
            }
        }
        if of.values().all(Vec::is_empty) {
            return Err(Error::new(
                Code::EmptyData,
                format!("{} has no candidate of any test case", path.display()),
            )
            .expected("rows of users with test cases"));
        }
        Ok(Self::OfSequence(of))
    }

    /// The rows of a case; `None` for the whole catalogue.
    #[must_use]
    pub fn of(&self, case: Case) -> Option<&[u32]> {
        match self {
            Self::Catalogue => None,
            Self::Items(items) => Some(items),
            Self::OfSequence(items) => Some(items.get(&case.user).map_or(&[], Vec::as_slice)),
        }
    }

    /// What this is, for reports.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Catalogue => "the whole catalogue".to_owned(),
            Self::Items(items) => format!("{} items without training interactions", items.len()),
            Self::OfSequence(items) => {
                let total: usize = items.values().map(Vec::len).sum();
                let mean = total as f64 / items.len().max(1) as f64;
                format!("{mean:.0} given candidates a case (sampled metrics)")
            }
        }
    }
}
