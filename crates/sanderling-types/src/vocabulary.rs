//! The vocabulary: the map between outside ids and dense rows, with what the features need.

use serde::{Deserialize, Serialize};

use crate::{Code, Error, ItemId, ItemIndex, Result, Versioned, decode_json};

/// Rows by their item ids: the hash of an id in the high half, its row in the low half, ascending by hash, then by id.
/// Eight bytes an item; looking an id up compares texts only where hashes are equal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ItemRows(Vec<u64>);

impl ItemRows {
    /// Of ids in the order of their rows.
    #[must_use]
    pub fn new(ids: &[ItemId]) -> Self {
        let mut keys: Vec<u64> = (0u64..).zip(ids).map(|(row, id)| Self::hash(id) << 32 | row).collect();
        keys.sort_unstable();
        let id = |key: &u64| &ids[*key as u32 as usize];
        for same_hash in keys.chunk_by_mut(|a, b| *a >> 32 == *b >> 32).filter(|keys| keys.len() > 1) {
            same_hash.sort_unstable_by(|a, b| id(a).cmp(id(b)).then(a.cmp(b)));
        }
        Self(keys)
    }

    /// FNV-1a (Fowler, Noll and Vo), 32 bits. Ids that were made to collide cost a binary search.
    fn hash(id: &ItemId) -> u64 {
        let fold = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        u64::from(id.as_str().as_bytes().iter().fold(0x811c_9dc5, fold))
    }

    /// The row of an id among the `ids` that this was made of.
    #[must_use]
    pub fn find(&self, ids: &[ItemId], id: &ItemId) -> Option<ItemIndex> {
        let hash = Self::hash(id);
        let row = |key: &u64| *key as u32 as usize;
        let order = |key: &u64| (*key >> 32).cmp(&hash).then_with(|| ids[row(key)].cmp(id));
        self.0.binary_search_by(order).ok().map(|at| ItemIndex(self.0[at] as u32))
    }

    /// A row whose id an earlier row has.
    fn repeated(&self, ids: &[ItemId]) -> Option<usize> {
        let row = |key: u64| key as u32 as usize;
        let is_repeat =
            |pair: &&[u64]| pair[0] >> 32 == pair[1] >> 32 && ids[row(pair[0])] == ids[row(pair[1])];
        self.0.windows(2).find(is_repeat).map(|pair| row(pair[1]))
    }
}

/// Columns of item facts, row `i` belonging to `ItemIndex(i)`.
///
/// Rows are in the order of the fallback list, so a prefix of them is that list and a tie between equal
/// scores is broken towards the earlier row. That is descending training popularity, unless the
/// recommender lets popularity fade with time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vocabulary {
    /// [`crate::FORMAT_VERSION`].
    pub format_version: u32,
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

impl Versioned for Vocabulary {
    fn format_version(&self) -> u32 {
        self.format_version
    }
}

impl Vocabulary {
    /// Largest accepted encoding.
    pub const MAX_BYTES: usize = 256 * 1024 * 1024;

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

    /// Decodes and checks `vocabulary.json`.
    ///
    /// # Errors
    /// [`Code::VocabularyInvalid`] when columns differ in length, an id repeats, a category index
    /// is out of range or a price is not a finite number ≥ 0.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::decode_with_rows(bytes).map(|(vocabulary, _)| vocabulary)
    }

    /// The same with the rows by their ids, which the check of ids makes anyway.
    ///
    /// # Errors
    /// As [`Vocabulary::decode`].
    pub fn decode_with_rows(bytes: &[u8]) -> Result<(Self, ItemRows)> {
        let vocabulary: Self =
            decode_json(bytes, Self::MAX_BYTES, "vocabulary.json", Code::VocabularyInvalid)?;
        let rows = ItemRows::new(&vocabulary.item_ids);
        vocabulary.check(&rows)?;
        Ok((vocabulary, rows))
    }

    /// Canonical bytes.
    ///
    /// # Panics
    /// Never: the columns hold only JSON-encodable values.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Unwrap safety: strings and finite numbers always encode.
        serde_json::to_vec(self).expect("vocabulary encodes")
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
            format_version: self.format_version,
            item_ids: picked(&self.item_ids, rows),
            categories: used.iter().map(|&at| self.categories[usize::from(at)].clone()).collect(),
            item_categories,
            popularity: picked(&self.popularity, rows),
            prices: picked(&self.prices, facts(self.prices.len())),
            published_at: picked(&self.published_at, facts(self.published_at.len())),
        }
    }

    fn check(&self, rows: &ItemRows) -> Result<()> {
        let invalid = |message: String| Err(Error::new(Code::VocabularyInvalid, message));
        let len = self.len();
        let optional = |column: usize| column == 0 || column == len;
        if self.item_categories.len() != len
            || self.popularity.len() != len
            || !optional(self.prices.len())
            || !optional(self.published_at.len())
        {
            return invalid("vocabulary.json has columns of different lengths".to_owned());
        }
        if let Some(row) = rows.repeated(&self.item_ids) {
            return invalid(format!("vocabulary.json names item {:?} twice", self.item_ids[row]));
        }
        let num_categories = self.categories.len();
        for (row, categories) in self.item_categories.iter().enumerate() {
            let ascending = categories.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || categories.iter().any(|&category| usize::from(category) >= num_categories) {
                return invalid(format!("vocabulary.json row {row} has bad category indices"));
            }
        }
        if self.prices.iter().flatten().any(|price| !price.is_finite() || *price < 0.0) {
            return invalid(
                "vocabulary.json has a price that is not a finite number of at least 0".to_owned(),
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_hash_are_told_apart_and_repeats_are_found() {
        // Two pairs that FNV-1a hashes alike.
        let ids: Vec<ItemId> =
            ["costarring", "a", "liquid", "declinate", "macallums"].map(ItemId::from).to_vec();
        assert_eq!(ItemRows::hash(&ids[0]), ItemRows::hash(&ids[2]));
        assert_eq!(ItemRows::hash(&ids[3]), ItemRows::hash(&ids[4]));
        let rows = ItemRows::new(&ids);
        for (row, id) in (0..).zip(&ids) {
            assert_eq!(rows.find(&ids, id), Some(ItemIndex(row)));
        }
        assert_eq!(rows.find(&ids, &"b".into()), None);
        assert_eq!(rows.repeated(&ids), None);
        let repeated: Vec<ItemId> = ids.iter().cloned().chain(["liquid".into()]).collect();
        assert_eq!(ItemRows::new(&repeated).repeated(&repeated), Some(5));
    }

    #[test]
    fn a_subset_keeps_the_facts_of_its_rows_and_names_no_unused_category() {
        let all = Vocabulary {
            format_version: crate::FORMAT_VERSION,
            item_ids: ["a", "b", "c"].map(ItemId::from).to_vec(),
            categories: ["x", "y", "z"].map(str::to_owned).to_vec(),
            item_categories: vec![vec![0, 2], vec![1], vec![2]],
            popularity: vec![5, 3, 1],
            prices: vec![Some(1.0), None, Some(3.0)],
            published_at: Vec::new(),
        };
        let subset = all.subset(&[0, 2]);
        assert_eq!(Vocabulary::decode(&subset.encode()).expect("is valid"), subset);
        assert_eq!(subset.item_ids, ["a", "c"].map(ItemId::from));
        assert_eq!(subset.categories, ["x", "z"]);
        assert_eq!(subset.item_categories, [vec![0, 1], vec![1]]);
        assert_eq!((subset.popularity, subset.prices), (vec![5, 1], vec![Some(1.0), Some(3.0)]));
        assert!(subset.published_at.is_empty());
    }
}
