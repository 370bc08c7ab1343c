//! The vocabulary as a device holds it: checked once, looked up ever after.

use std::ops::Range;

use sanderling_kernels::{RowIndex, columns};
use sanderling_types::{
    Code, Error, ItemId, ItemIndex, Result, Vocabulary, VocabularyLayout as Layout, float_text, quoted,
};

use crate::ItemTable;

/// A vocabulary, checked and made for looking things up: its file, where things begin in it, and where ids are found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PackedVocabulary {
    /// `vocabulary.bin`.
    file: Vec<u8>,
    columns: Columns,
    /// Where the id of each item begins among the ids, and where the last one ends.
    id_bounds: Vec<u32>,
    /// The same of names of categories.
    name_bounds: Vec<u32>,
    /// The same of links.
    link_bounds: Vec<u32>,
    index: RowIndex,
}

/// Links of items to categories have 16 bits.
const MAX_CATEGORIES: usize = 1 << 16;

impl PackedVocabulary {
    /// Largest accepted encoding.
    pub const MAX_BYTES: usize = 256 * 1024 * 1024;

    /// Decodes and checks `vocabulary.bin`.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] for more than [`Self::MAX_BYTES`], [`Code::UnsupportedFormatVersion`],
    /// [`Code::VocabularyInvalid`] when the length is not the one that the header declares, a text is not UTF-8, an id
    /// repeats, categories of an item are not ascending or out of range, or a price is not a finite number of at least 0.
    pub fn decode(file: Vec<u8>) -> Result<Self> {
        if file.len() > Self::MAX_BYTES {
            return Err(Error::new(Code::LimitExceeded, "vocabulary.bin is too large")
                .expected(format!("at most {} bytes", Self::MAX_BYTES))
                .found(file.len()));
        }
        let header = Header::read(&file)?;
        let columns = header.columns();
        let bounds_of = |column: &Range<usize>| columns::bounds(chunks(&file, column));
        let mut packed = Self {
            id_bounds: bounds_of(&columns.id_lengths),
            name_bounds: bounds_of(&columns.name_lengths),
            link_bounds: bounds_of(&columns.link_lengths),
            index: RowIndex::default(),
            columns,
            file,
        };
        packed.index = packed.check(&header)?;
        Ok(packed)
    }

    /// The index of ids of a vocabulary without a fault.
    fn check(&self, header: &Header) -> Result<RowIndex> {
        let is_whole = |texts: &[u8], bounds: &[u32]| {
            str::from_utf8(texts).is_ok_and(|texts| columns::cuts_characters_whole(texts, bounds))
        };
        let num_links = self.link_bounds.last().copied().unwrap_or(0) as usize;
        if !is_whole(self.ids(), &self.id_bounds)
            || !is_whole(self.names(), &self.name_bounds)
            || num_links != header.num_links
        {
            return Err(invalid("vocabulary.bin has texts that are not UTF-8 or not whole"));
        }
        let index = RowIndex::new(self.ids(), &self.id_bounds).map_err(|row| {
            let id = self.item_id(ItemIndex(row as u32)).unwrap_or_default();
            invalid(format!("vocabulary.bin names item {} twice", quoted(id)))
        })?;
        if let Some(row) = columns::first_bad_list(self.links(), &self.link_bounds, self.num_categories()) {
            return Err(invalid(format!("vocabulary.bin row {row} has bad category indices")));
        }
        let prices = chunks(&self.file, &self.columns.prices);
        match columns::first_bad_price(prices, Layout::NO_PRICE) {
            Some(row) => Err(invalid(format!("vocabulary.bin row {row} has a bad price"))
                .expected("a finite number of at least 0")
                .found(float_text(f32::from_le_bytes(prices[row])))),
            None => Ok(index),
        }
    }

    fn ids(&self) -> &[u8] {
        &self.file[self.columns.ids.clone()]
    }

    fn names(&self) -> &[u8] {
        &self.file[self.columns.names.clone()]
    }

    fn links(&self) -> &[[u8; 2]] {
        chunks(&self.file, &self.columns.links)
    }

    fn popularities(&self) -> &[[u8; 4]] {
        chunks(&self.file, &self.columns.popularity)
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.id_bounds.len().saturating_sub(1)
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Outside ids, in the order of their rows.
    pub fn item_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.len()).map(|row| text(self.ids(), &self.id_bounds, row).unwrap_or_default())
    }

    /// The outside id of a row.
    #[must_use]
    pub fn item_id(&self, item: ItemIndex) -> Option<&str> {
        text(self.ids(), &self.id_bounds, item.row())
    }

    /// The row of an outside id.
    #[must_use]
    pub fn item_index(&self, id: &str) -> Option<ItemIndex> {
        self.index.find(id.as_bytes(), self.ids(), &self.id_bounds).map(ItemIndex)
    }

    /// Names of all categories, in the order of their numbers.
    pub fn categories(&self) -> impl ExactSizeIterator<Item = &str> {
        (0..self.num_categories()).map(|at| text(self.names(), &self.name_bounds, at).unwrap_or_default())
    }

    /// Number of categories.
    #[must_use]
    pub fn num_categories(&self) -> usize {
        self.name_bounds.len().saturating_sub(1)
    }

    /// The name of a category.
    #[must_use]
    pub fn category(&self, category: u16) -> Option<&str> {
        text(self.names(), &self.name_bounds, usize::from(category))
    }

    /// Categories of an item, ascending, each less than [`Self::num_categories`]; none for a row out of range.
    #[must_use]
    pub fn categories_of(&self, item: ItemIndex) -> impl ExactSizeIterator<Item = u16> {
        let links = cut(self.links(), &self.link_bounds, item.row()).unwrap_or_default();
        links.iter().map(|link| u16::from_le_bytes(*link))
    }

    /// Number of training interactions of an item; 0 for a row out of range.
    #[must_use]
    pub fn popularity(&self, item: ItemIndex) -> u32 {
        self.popularities().get(item.row()).map_or(0, |count| u32::from_le_bytes(*count))
    }

    /// The largest number of training interactions of an item; 0 where there is no item.
    #[must_use]
    pub fn largest_popularity(&self) -> u32 {
        columns::largest(self.popularities())
    }

    /// The price of an item, if it is known.
    #[must_use]
    pub fn price(&self, item: ItemIndex) -> Option<f32> {
        let price = chunks(&self.file, &self.columns.prices).get(item.row())?;
        Some(f32::from_le_bytes(*price)).filter(|price| *price != Layout::NO_PRICE)
    }

    /// When an item was published, in Unix seconds, if that is known.
    #[must_use]
    pub fn published_at(&self, item: ItemIndex) -> Option<i64> {
        let time = chunks(&self.file, &self.columns.published_at).get(item.row())?;
        Some(i64::from_le_bytes(*time)).filter(|time| *time != Layout::NO_TIME)
    }

    /// The columns, to change them.
    #[must_use]
    pub fn unpack(&self) -> Vocabulary {
        let rows = || (0..self.len() as u32).map(ItemIndex);
        let rows_of = |column: &Range<usize>| rows().take(if column.is_empty() { 0 } else { self.len() });
        Vocabulary {
            item_ids: self.item_ids().map(ItemId::from).collect(),
            categories: self.categories().map(str::to_owned).collect(),
            item_categories: rows().map(|item| self.categories_of(item).collect()).collect(),
            popularity: rows().map(|item| self.popularity(item)).collect(),
            prices: rows_of(&self.columns.prices).map(|item| self.price(item)).collect(),
            published_at: rows_of(&self.columns.published_at).map(|item| self.published_at(item)).collect(),
        }
    }
}

/// Where the columns are in the file, in their order.
#[derive(Debug, Clone, Default, PartialEq)]
struct Columns {
    popularity: Range<usize>,
    prices: Range<usize>,
    published_at: Range<usize>,
    id_lengths: Range<usize>,
    link_lengths: Range<usize>,
    name_lengths: Range<usize>,
    links: Range<usize>,
    ids: Range<usize>,
    names: Range<usize>,
}

/// The numbers of a column.
fn chunks<'a, const N: usize>(file: &'a [u8], column: &Range<usize>) -> &'a [[u8; N]] {
    file[column.clone()].as_chunks().0
}

/// One of the parts that `bounds` cut out of `all`.
fn cut<'a, T>(all: &'a [T], bounds: &[u32], at: usize) -> Option<&'a [T]> {
    let (start, end) = (*bounds.get(at)?, *bounds.get(at + 1)?);
    all.get(start as usize..end as usize)
}

fn text<'a>(texts: &'a [u8], bounds: &[u32], at: usize) -> Option<&'a str> {
    str::from_utf8(cut(texts, bounds, at)?).ok()
}

/// What stands before the columns.
struct Header {
    flags: u16,
    num_items: usize,
    num_categories: usize,
    num_links: usize,
    id_bytes: usize,
    category_bytes: usize,
}

impl Header {
    /// The header of a file that is as long as it says.
    fn read(bytes: &[u8]) -> Result<Self> {
        let wrong_length = |body_bytes: u64| {
            invalid("vocabulary.bin has the wrong length")
                .expected(format!("{} bytes", Layout::HEADER_BYTES as u64 + body_bytes))
                .found(format!("{} bytes", bytes.len()))
        };
        let (header, body) =
            bytes.split_first_chunk::<{ Layout::HEADER_BYTES }>().ok_or_else(|| wrong_length(0))?;
        let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let u32_at = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize
        };
        if &header[..4] != Layout::MAGIC {
            return Err(invalid("vocabulary.bin has the wrong first bytes").expected("SNDV"));
        }
        if u16_at(4) != Layout::VERSION {
            return Err(Error::new(
                Code::UnsupportedFormatVersion,
                "vocabulary.bin has another format version",
            )
            .expected(Layout::VERSION)
            .found(u16_at(4))
            .hint("use a matching release of the engine, or export the bundle again"));
        }
        let header = Self {
            flags: u16_at(6),
            num_items: u32_at(8),
            num_categories: u32_at(12),
            num_links: u32_at(16),
            id_bytes: u32_at(20),
            category_bytes: u32_at(24),
        };
        if header.flags & !(Layout::HAS_PRICES | Layout::HAS_PUBLISHED_AT) != 0 {
            return Err(invalid("vocabulary.bin declares columns that this engine does not read"));
        }
        if header.num_items > ItemTable::MAX_ITEMS {
            return Err(invalid("vocabulary.bin has too many items")
                .expected(format!("at most {}", ItemTable::MAX_ITEMS))
                .found(header.num_items));
        }
        if header.num_categories > MAX_CATEGORIES {
            return Err(invalid("vocabulary.bin has more than 65536 categories"));
        }
        if body.len() as u64 != header.body_bytes() {
            return Err(wrong_length(header.body_bytes()));
        }
        Ok(header)
    }

    fn has(&self, column: u16) -> bool {
        self.flags & column != 0
    }

    /// Six numbers of 32 bits, none times more than 20.
    fn body_bytes(&self) -> u64 {
        let price = if self.has(Layout::HAS_PRICES) { 4 } else { 0 };
        let time = if self.has(Layout::HAS_PUBLISHED_AT) { 8 } else { 0 };
        self.num_items as u64 * (4 + price + time + 2 + 2)
            + self.num_categories as u64 * 2
            + self.num_links as u64 * 2
            + self.id_bytes as u64
            + self.category_bytes as u64
    }

    /// Of a file that is as long as the header says.
    fn columns(&self) -> Columns {
        let mut end = Layout::HEADER_BYTES;
        let mut take = |bytes: usize| {
            let start = end;
            end += bytes;
            start..end
        };
        let of = |column: u16| if self.has(column) { self.num_items } else { 0 };
        Columns {
            popularity: take(4 * self.num_items),
            prices: take(4 * of(Layout::HAS_PRICES)),
            published_at: take(8 * of(Layout::HAS_PUBLISHED_AT)),
            id_lengths: take(2 * self.num_items),
            link_lengths: take(2 * self.num_items),
            name_lengths: take(2 * self.num_categories),
            links: take(2 * self.num_links),
            ids: take(self.id_bytes),
            names: take(self.category_bytes),
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::VocabularyInvalid, message)
}
