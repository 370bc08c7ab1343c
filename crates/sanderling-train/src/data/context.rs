//! Context columns: what a site knows of the moment of an interaction, such as the country or the class of the device.

use super::ids::Ids;

/// One value of each row, where a column says one.
#[derive(Debug, Clone)]
pub struct ContextColumn {
    key: String,
    values: Ids,
    numbers: Vec<u32>,
}

impl ContextColumn {
    pub(super) fn new(key: &str) -> Self {
        Self { key: key.to_owned(), values: Ids::default(), numbers: Vec::new() }
    }

    /// Appends the value of a row; gives whether it is among the first `max_values` different ones.
    pub(super) fn push(&mut self, value: &str, max_values: u32) -> bool {
        let number = self.values.intern(value, max_values);
        self.numbers.extend(number);
        number.is_some()
    }

    /// Puts `rows[i]` in place `i`.
    pub(super) fn reorder(&mut self, rows: &[u32]) {
        self.numbers = rows.iter().map(|&row| self.numbers[row as usize]).collect();
    }

    /// Name of the column.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Different values, numbered in the order in which they were read.
    #[must_use]
    pub fn values(&self) -> &Ids {
        &self.values
    }

    /// The number of a row's value.
    #[must_use]
    pub fn number(&self, row: usize) -> u32 {
        self.numbers[row]
    }

    /// A row's value; empty where the row states none.
    #[must_use]
    pub fn value(&self, row: usize) -> &str {
        self.values.text(self.numbers[row])
    }
}

impl PartialEq for ContextColumn {
    /// Equal values of each row, whatever their numbers.
    fn eq(&self, other: &Self) -> bool {
        let len = self.numbers.len();
        self.key == other.key
            && len == other.numbers.len()
            && (0..len).all(|row| self.value(row) == other.value(row))
    }
}
