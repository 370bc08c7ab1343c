//! The vocabulary: what a bundle knows of its items, as columns to build and change.

use crate::{Code, Error, ItemId, Result};

/// The fixed parts of `vocabulary.bin`, see `docs/formats/vocabulary.md`.
#[derive(Debug, Clone, Copy)]
pub struct VocabularyLayout;

impl VocabularyLayout {
    /// Length of what stands before the columns.
    pub const HEADER_BYTES: usize = 28;
    /// The first bytes.
    pub const MAGIC: &[u8; 4] = b"SNDV";
    /// The format version.
    pub const VERSION: u16 = 1;
    /// Flag of a file with prices.
    pub const HAS_PRICES: u16 = 1;
    /// Flag of a file with times of publication.
    pub const HAS_PUBLISHED_AT: u16 = 2;
    /// Stands for a price that is not known.
    pub const NO_PRICE: f32 = -1.0;
    /// Stands for a time that is not known.
    pub const NO_TIME: i64 = i64::MIN;
}

/// Columns of item facts, row `i` belonging to `ItemIndex(i)`.
///
/// Rows are in the order of the fallback list, so a prefix of them is that list and a tie between equal
/// scores is broken towards the earlier row. That is descending training popularity, unless the
/// recommender lets popularity fade with time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Vocabulary {
    /// Outside ids, unique.
    pub item_ids: Vec<ItemId>,
    /// Distinct category names.
    pub categories: Vec<String>,
    /// Per item: indices into `categories`, ascending, without repeats.
    pub item_categories: Vec<Vec<u16>>,
    /// Per item: number of training interactions.
    pub popularity: Vec<u32>,
    /// Per item price, or an empty list when no item has one; `None` where unknown.
    pub prices: Vec<Option<f32>>,
    /// Per item publication time in Unix seconds, or an empty list when no item has one.
    pub published_at: Vec<Option<i64>>,
}

impl Vocabulary {
    /// Most categories: what indices of 16 bits tell apart, less one.
    pub const MAX_CATEGORIES: usize = u16::MAX as usize;

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.item_ids.len()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.item_ids.is_empty()
    }

    /// The bytes of `vocabulary.bin`, see `docs/formats/vocabulary.md`.
    ///
    /// # Errors
    /// [`Code::VocabularyInvalid`] for columns that the format cannot hold: of different lengths, a name or an item's
    /// categories longer than 65,535, more items or text than 32 bits count. What a reader
    /// refuses beyond that is not looked at.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let len = self.len();
        let optional = |column: usize| column == 0 || column == len;
        if self.item_categories.len() != len
            || self.popularity.len() != len
            || !optional(self.prices.len())
            || !optional(self.published_at.len())
        {
            return Err(invalid("a vocabulary has columns of different lengths"));
        }
        let ids = || self.item_ids.iter().map(ItemId::as_str);
        let names = || self.categories.iter().map(String::as_str);
        let links = || self.item_categories.iter().map(Vec::len);
        let mut out = Vec::new();
        out.extend(VocabularyLayout::MAGIC);
        out.extend(VocabularyLayout::VERSION.to_le_bytes());
        let has = |column: usize, bit: u16| if column > 0 { bit } else { 0 };
        let flags = has(self.prices.len(), VocabularyLayout::HAS_PRICES)
            | has(self.published_at.len(), VocabularyLayout::HAS_PUBLISHED_AT);
        out.extend(flags.to_le_bytes());
        let text_len = |texts: &mut dyn Iterator<Item = &str>| texts.map(str::len).sum::<usize>();
        let counts =
            [len, self.categories.len(), links().sum(), text_len(&mut ids()), text_len(&mut names())];
        for count in counts {
            out.extend(u32::try_from(count).map_err(|_| too_long("vocabulary", count))?.to_le_bytes());
        }
        out.extend(self.popularity.iter().flat_map(|count| count.to_le_bytes()));
        let prices = self.prices.iter().map(|price| price.unwrap_or(VocabularyLayout::NO_PRICE));
        out.extend(prices.flat_map(f32::to_le_bytes));
        let times = self.published_at.iter().map(|time| time.unwrap_or(VocabularyLayout::NO_TIME));
        out.extend(times.flat_map(i64::to_le_bytes));
        let lengths = ids().map(str::len).chain(links()).chain(names().map(str::len));
        for length in lengths {
            out.extend(u16::try_from(length).map_err(|_| too_long("column", length))?.to_le_bytes());
        }
        out.extend(self.item_categories.iter().flatten().flat_map(|category| category.to_le_bytes()));
        out.extend(ids().chain(names()).flat_map(str::bytes));
        Ok(out)
    }

    /// Length of [`Vocabulary::encode`]'s bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let links: usize = self.item_categories.iter().map(Vec::len).sum();
        let ids: usize = self.item_ids.iter().map(|id| id.as_str().len()).sum();
        let names: usize = self.categories.iter().map(String::len).sum();
        let columns = 4 * self.popularity.len() + 4 * self.prices.len() + 8 * self.published_at.len();
        let lengths = 2 * (2 * self.len() + self.categories.len());
        VocabularyLayout::HEADER_BYTES + columns + lengths + 2 * links + ids + names
    }

    /// The facts of some rows, in the given order, and the categories that they use.
    ///
    /// # Panics
    /// When a row is out of range.
    #[must_use]
    pub fn subset(&self, rows: &[u32]) -> Self {
        fn picked<T: Clone>(column: &[T], rows: &[u32]) -> Vec<T> {
            rows.iter().map(|&row| column[row as usize].clone()).collect()
        }
        let facts = |len: usize| if len == 0 { &[][..] } else { rows };
        let mut item_categories = picked(&self.item_categories, rows);
        let mut used: Vec<u16> = item_categories.iter().flatten().copied().collect();
        used.sort_unstable();
        used.dedup();
        for category in item_categories.iter_mut().flatten() {
            *category = used.partition_point(|known| known < category) as u16;
        }
        Self {
            item_ids: picked(&self.item_ids, rows),
            categories: used.iter().map(|&at| self.categories[usize::from(at)].clone()).collect(),
            item_categories,
            popularity: picked(&self.popularity, rows),
            prices: picked(&self.prices, facts(self.prices.len())),
            published_at: picked(&self.published_at, facts(self.published_at.len())),
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::VocabularyInvalid, message)
}

fn too_long(what: &str, found: usize) -> Error {
    invalid(format!("a {what} is longer than the format of a vocabulary can hold")).found(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_keeps_the_facts_of_its_rows_and_names_no_unused_category() {
        let all = Vocabulary {
            item_ids: ["a", "b", "c"].map(ItemId::from).to_vec(),
            categories: ["x", "y", "z"].map(str::to_owned).to_vec(),
            item_categories: vec![vec![0, 2], vec![1], vec![2]],
            popularity: vec![5, 3, 1],
            prices: vec![Some(1.0), None, Some(3.0)],
            published_at: Vec::new(),
        };
        let subset = all.subset(&[0, 2]);
        assert_eq!(subset.encode().expect("fits").len(), subset.encoded_len());
        assert_eq!(subset.item_ids, ["a", "c"].map(ItemId::from));
        assert_eq!(subset.categories, ["x", "z"]);
        assert_eq!(subset.item_categories, [vec![0, 1], vec![1]]);
        assert_eq!((subset.popularity, subset.prices), (vec![5, 1], vec![Some(1.0), Some(3.0)]));
        assert!(subset.published_at.is_empty());
    }
}
