//! Which items of a bundle may be listed.

use sanderling_types::ItemIndex;

/// One bit an item: set for items that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    words: Vec<u64>,
    len: usize,
}

impl Mask {
    /// Keeps every one of `len` items.
    #[must_use]
    pub fn all(len: usize) -> Self {
        let mut mask = Self { words: vec![u64::MAX; len.div_ceil(64)], len };
        if let (Some(last), 1..) = (mask.words.last_mut(), len % 64) {
            *last = (1 << (len % 64)) - 1;
        }
        mask
    }

    /// Keeps only `kept` of `len` items; those out of range are ignored.
    #[must_use]
    pub fn of(len: usize, kept: impl IntoIterator<Item = ItemIndex>) -> Self {
        let mut words = vec![0; len.div_ceil(64)];
        for row in kept.into_iter().map(ItemIndex::row).filter(|row| *row < len) {
            words[row / 64] |= 1 << (row % 64);
        }
        Self { words, len }
    }

    /// Number of items, kept or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no item at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `item` is kept; items out of range are not.
    #[must_use]
    pub fn keeps(&self, item: ItemIndex) -> bool {
        self.words.get(item.row() / 64).is_some_and(|word| word >> (item.row() % 64) & 1 == 1)
    }

    /// A bit an item, the lowest of the first word for the first one.
    pub(crate) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Drops `item`; items out of range are ignored.
    pub fn drop_item(&mut self, item: ItemIndex) {
        if let Some(word) = self.words.get_mut(item.row() / 64) {
            *word &= !(1 << (item.row() % 64));
        }
    }

    /// Drops every kept item for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(ItemIndex) -> bool) {
        for row in 0..self.len as u32 {
            let item = ItemIndex(row);
            if self.keeps(item) && !keep(item) {
                self.drop_item(item);
            }
        }
    }

    /// Number of kept items.
    #[must_use]
    pub fn num_kept(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Kept items, ascending.
    pub fn kept(&self) -> impl Iterator<Item = ItemIndex> + '_ {
        (0..self.len as u32).map(ItemIndex).filter(|item| self.keeps(*item))
    }
}

#[cfg(test)]
mod tests {
    use super::Mask;
    use sanderling_types::ItemIndex;

    #[test]
    fn a_full_mask_keeps_exactly_its_items() {
        for len in [0, 1, 63, 64, 65, 128, 130] {
            let mut mask = Mask::all(len);
            assert_eq!((mask.num_kept(), mask.kept().count()), (len, len));
            assert!(!mask.keeps(ItemIndex(len as u32)));
            mask.drop_item(ItemIndex(0));
            mask.drop_item(ItemIndex(1000));
            assert_eq!(mask.num_kept(), len.saturating_sub(1));
        }
    }

    #[test]
    fn only_what_is_named_is_kept() {
        let mask = Mask::of(70, [3, 69, 70, 3, 1000].map(ItemIndex));
        assert_eq!(mask.kept().map(|item| item.0).collect::<Vec<_>>(), [3, 69]);
    }

    #[test]
    fn retain_only_drops() {
        let mut mask = Mask::all(10);
        mask.drop_item(ItemIndex(4));
        mask.retain(|item| item.0 % 2 == 0);
        assert_eq!(mask.kept().map(|item| item.0).collect::<Vec<_>>(), [0, 2, 6, 8]);
    }
}
