//! Interactions in memory: numbers in columns, and every id once.

use std::ops::Range;

use sanderling_types::SplitPart;

use super::{context::ContextColumn, ids::Ids};

/// The bits of a value that is not there: a NaN that no arithmetic makes.
const NO_VALUE: u32 = u32::MAX;

/// One interaction with the ids that it stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row<'a> {
    /// Who acted.
    pub user_id: &'a str,
    /// On what.
    pub item_id: &'a str,
    /// What was done.
    pub kind: &'a str,
    /// Unix seconds or a position.
    pub timestamp: i64,
    /// A weight, rating or quantity, where there is one.
    pub value: Option<f32>,
    /// The part of a fixed split, where the data has one.
    pub split: Option<SplitPart>,
}

/// Interactions grouped by user, in the order in which users first appear, then by timestamp; ties keep the
/// order of the file. Takes 19 bytes a row beside the ids, and 4 for each declared context column.
#[derive(Debug, Clone, Default)]
pub struct Interactions {
    pub(super) users: Ids,
    pub(super) items: Ids,
    pub(super) kinds: Ids,
    /// Where the rows of each user begin, and the number of rows.
    pub(super) starts: Vec<usize>,
    pub(super) columns: Columns,
}

/// What is in a row beside the user.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    pub(super) item: Vec<u32>,
    pub(super) kind: Vec<u16>,
    pub(super) timestamp: Vec<i64>,
    /// [`NO_VALUE`] where there is none.
    value_bits: Vec<u32>,
    split: Vec<Option<SplitPart>>,
    pub(super) context: Vec<ContextColumn>,
}

impl Columns {
    /// Appends a row with the numbers of its item and its kind.
    pub(super) fn push(&mut self, item: u32, kind: u16, row: &Row<'_>) {
        self.item.push(item);
        self.kind.push(kind);
        self.timestamp.push(row.timestamp);
        self.value_bits.push(row.value.map_or(NO_VALUE, f32::to_bits));
        self.split.push(row.split);
    }

    /// Puts `rows[i]` in place `i`, one column after the other, so that only one is there twice.
    pub(super) fn reorder(&mut self, rows: &[u32]) {
        fn picked<T: Copy>(column: &mut Vec<T>, rows: &[u32]) {
            *column = rows.iter().map(|&row| column[row as usize]).collect();
        }
        picked(&mut self.item, rows);
        picked(&mut self.kind, rows);
        picked(&mut self.timestamp, rows);
        picked(&mut self.value_bits, rows);
        picked(&mut self.split, rows);
        self.context.iter_mut().for_each(|column| column.reorder(rows));
    }
}

impl PartialEq for Interactions {
    /// Equal rows; numbers depend on the order in which rows were read and do not count.
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter()) && self.context() == other.context()
    }
}

impl Interactions {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.columns.item.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.columns.item.is_empty()
    }

    /// Users in the order of their rows.
    #[must_use]
    pub fn users(&self) -> &Ids {
        &self.users
    }

    /// Items, numbered by first appearance in the source.
    #[must_use]
    pub fn items(&self) -> &Ids {
        &self.items
    }

    /// The rows of a user, by number, oldest first.
    #[must_use]
    pub fn rows_of(&self, user: u32) -> Range<usize> {
        self.starts[user as usize]..self.starts[user as usize + 1]
    }

    /// The number of a row's item.
    #[must_use]
    pub fn item(&self, row: usize) -> u32 {
        self.columns.item[row]
    }

    /// When a row's act happened.
    #[must_use]
    pub fn timestamp(&self, row: usize) -> i64 {
        self.columns.timestamp[row]
    }

    /// The part of a fixed split that a row says it belongs to.
    #[must_use]
    pub fn split_part(&self, row: usize) -> Option<SplitPart> {
        self.columns.split[row]
    }

    /// The declared context columns.
    #[must_use]
    pub fn context(&self) -> &[ContextColumn] {
        &self.columns.context
    }

    /// Every row's timestamp.
    #[must_use]
    pub fn timestamps(&self) -> &[i64] {
        &self.columns.timestamp
    }

    /// Every row, one user after the other.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.users.len() as u32).flat_map(move |user| self.of_user(user))
    }

    /// What a user did, oldest first.
    pub fn of_user(&self, user: u32) -> impl Iterator<Item = Row<'_>> {
        self.rows_of(user).map(move |row| self.row(user, row))
    }

    fn row(&self, user: u32, row: usize) -> Row<'_> {
        let columns = &self.columns;
        Row {
            user_id: self.users.text(user),
            item_id: self.items.text(columns.item[row]),
            kind: self.kinds.text(u32::from(columns.kind[row])),
            timestamp: columns.timestamp[row],
            value: value(columns.value_bits[row]),
            split: columns.split[row],
        }
    }

    /// The first row that cannot be written as text, with the reason.
    pub(crate) fn unwritable(&self) -> Option<(&'static str, Row<'_>)> {
        let has_empty = [&self.users, &self.items, &self.kinds].iter().any(|ids| ids.number("").is_some());
        let is_bad = |bits: &u32| value(*bits).is_some_and(|value| !value.is_finite());
        if !has_empty && !self.columns.value_bits.iter().any(is_bad) {
            return None;
        }
        self.iter().find_map(|row| {
            if row.user_id.is_empty() || row.item_id.is_empty() || row.kind.is_empty() {
                return Some(("an empty id or kind", row));
            }
            let bad = row.value.is_some_and(|value| !value.is_finite());
            bad.then_some(("a value that is not finite", row))
        })
    }
}

fn value(bits: u32) -> Option<f32> {
    (bits != NO_VALUE).then(|| f32::from_bits(bits))
}
