//! Interactions on their way into memory, in the order in which they come.

use std::collections::BTreeMap;

use sanderling_types::{Code, Error, Interaction, Result};

use super::{
    context::ContextColumn,
    ids::Ids,
    interactions::{Columns, Interactions, Row},
    progress::{EVERY_ROWS, Progress, Stage},
};

/// Most rows, users or items; rows are numbered with 32 bits.
const MAX_ROWS: u32 = u32::MAX;
/// Most kinds, and most values of a context column; a column with more of them is no kind and no context.
const MAX_KINDS: u32 = 1 << 16;

/// Interactions in the order in which they come, on the way to [`Interactions`].
#[derive(Debug, Default)]
pub(crate) struct Intake {
    pub(crate) users: Ids,
    pub(crate) items: Ids,
    kinds: Ids,
    user: Vec<u32>,
    columns: Columns,
}

impl Intake {
    /// With a context column for each of `keys`, whose values [`Intake::push_context`] takes.
    pub(crate) fn with_context(keys: &[String]) -> Self {
        let mut intake = Self::default();
        intake.columns.context = keys.iter().map(|key| ContextColumn::new(key)).collect();
        intake
    }

    /// Takes a row in and gives the numbers of its user and its item.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`].
    pub(crate) fn push(&mut self, row: Row<'_>) -> Result<(u32, u32)> {
        if self.len() >= MAX_ROWS as usize {
            return Err(too_many("interactions", MAX_ROWS));
        }
        // The rows of one user often follow each other.
        let last = self.user.last().filter(|&&user| self.users.text(user) == row.user_id);
        let user = last.copied().or_else(|| self.users.intern(row.user_id, MAX_ROWS));
        let user = user.ok_or_else(|| too_many("users", MAX_ROWS))?;
        let item = self.items.intern(row.item_id, MAX_ROWS).ok_or_else(|| too_many("items", MAX_ROWS))?;
        let kind = self.kinds.intern(row.kind, MAX_KINDS).and_then(|kind| u16::try_from(kind).ok());
        let kind = kind.ok_or_else(|| too_many("kinds of interaction", MAX_KINDS))?;
        self.user.push(user);
        self.columns.push(item, kind, &row);
        Ok((user, item))
    }

    /// Takes the context of the row that was pushed last in: one value for each key.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`].
    pub(crate) fn push_context<'a>(&mut self, values: impl Iterator<Item = &'a str>) -> Result<()> {
        self.columns.context.iter_mut().zip(values).try_for_each(|(column, value)| {
            let kept = column.push(value, MAX_KINDS);
            let what = || format!("different values in the column `{}`", column.key());
            if kept { Ok(()) } else { Err(too_many(&what(), MAX_KINDS)) }
        })
    }

    /// Takes many rows in.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`].
    pub(crate) fn extend(&mut self, rows: impl IntoIterator<Item = Interaction>) -> Result<()> {
        rows.into_iter().try_for_each(|row| {
            self.push(Row {
                user_id: row.user_id.as_str(),
                item_id: row.item_id.as_str(),
                kind: &row.kind,
                timestamp: row.timestamp,
                value: row.value,
                split: row.split,
            })?;
            Ok(())
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.user.len()
    }

    pub(crate) fn user(&self, row: usize) -> u32 {
        self.user[row]
    }

    pub(crate) fn item(&self, row: usize) -> u32 {
        self.columns.item[row]
    }

    pub(crate) fn kind(&self, row: usize) -> u16 {
        self.columns.kind[row]
    }

    /// How many rows there are of each kind.
    pub(crate) fn kind_counts(&self) -> BTreeMap<String, u64> {
        let mut counts = vec![0; self.kinds.len()];
        for &kind in &self.columns.kind {
            counts[usize::from(kind)] += 1;
        }
        self.kinds.iter().map(str::to_owned).zip(counts).collect()
    }

    pub(crate) fn timestamps(&self) -> &[i64] {
        &self.columns.timestamp
    }

    /// Where each user's rows begin in the order of [`Intake::by_user`], and the number of rows.
    pub(crate) fn starts(&self) -> Vec<usize> {
        let mut starts = vec![0; self.users.len() + 1];
        for &user in &self.user {
            starts[user as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        starts
    }

    /// Row numbers by user, then in the order in which they came.
    pub(crate) fn by_user(&self, starts: &[usize]) -> Vec<u32> {
        let mut next = starts.to_vec();
        let mut rows = vec![0; self.len()];
        for (row, &user) in (0..).zip(&self.user) {
            let place = &mut next[user as usize];
            rows[*place] = row;
            *place += 1;
        }
        rows
    }

    /// Groups the rows by user and sorts each user's by time.
    pub(crate) fn finish(mut self, progress: &mut dyn FnMut(Progress)) -> Interactions {
        let starts = self.starts();
        let time = &self.columns.timestamp;
        let in_order =
            self.user.is_sorted() && starts.windows(2).all(|ends| time[ends[0]..ends[1]].is_sorted());
        if !in_order {
            let mut rows = self.by_user(&starts);
            // The column is as long as the table, and nobody needs it from here on.
            self.user = Vec::new();
            for (user, ends) in starts.windows(2).enumerate() {
                rows[ends[0]..ends[1]].sort_by_key(|&row| time[row as usize]);
                if user.is_multiple_of(EVERY_ROWS) {
                    let (done, total) = (ends[1] as u64, rows.len() as u64);
                    progress(Progress { stage: Stage::Sorting, interactions: done, done, total });
                }
            }
            self.columns.reorder(&rows);
        }
        let Self { users, items, kinds, columns, .. } = self;
        Interactions { users, items, kinds, starts, columns }
    }
}

fn too_many(what: &str, most: u32) -> Error {
    Error::new(Code::LimitExceeded, format!("there are too many {what}"))
        .expected(format!("at most {most}"))
        .hint("divide the data, or check which column is which")
}
