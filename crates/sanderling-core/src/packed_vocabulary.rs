//! The vocabulary as a device holds it: read once, looked up ever after.

use sanderling_kernels::columns;
use sanderling_types::{
    Code, Error, ItemId, ItemIndex, Result, Vocabulary, VocabularyLayout as Layout, float_text, quoted,
};

use crate::ItemTable;

/// Texts one behind the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Texts {
    text: String,
    /// Where each begins, and where the last one ends.
    bounds: Vec<u32>,
}

impl Texts {
    fn decode(lengths: &[[u8; 2]], text: &[u8]) -> Option<Self> {
        let text = String::from_utf8(text.to_vec()).ok()?;
        let bounds = columns::bounds(lengths);
        columns::cuts_characters_whole(&text, &bounds).then_some(Self { text, bounds })
    }

    fn len(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    fn get(&self, at: usize) -> Option<&str> {
        let (start, end) = (*self.bounds.get(at)?, *self.bounds.get(at + 1)?);
        self.text.get(start as usize..end as usize)
    }

    fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        // Slicing would bring the text of its panic, a kilobyte of a page's download.
        self.bounds
            .windows(2)
            .map(|pair| self.text.get(pair[0] as usize..pair[1] as usize).unwrap_or_default())
    }
}

/// Rows by the hash of their ids, in buckets of about four, see [`columns::rows_by_hash`]. Five bytes an item; looking an id up compares it
/// with those of its bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rows {
    rows: Vec<columns::TaggedRow>,
    /// Where the rows of each bucket end.
    ends: Vec<u32>,
}

impl Rows {
    /// The rows; or one whose id an earlier row has.
    fn new(ids: &Texts) -> std::result::Result<Self, usize> {
        let (rows, ends) = columns::rows_by_hash(ids.text.as_bytes(), &ids.bounds)?;
        Ok(Self { rows, ends })
    }

    fn find(&self, ids: &Texts, id: &str) -> Option<ItemIndex> {
        if self.rows.is_empty() {
            return None;
        }
        columns::row_of(id.as_bytes(), ids.text.as_bytes(), &ids.bounds, &self.rows, &self.ends)
            .map(ItemIndex)
    }
}

/// A vocabulary, checked and made for looking things up: a fifth of the memory of [`Vocabulary`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PackedVocabulary {
    ids: Texts,
    rows: Rows,
    categories: Texts,
    links: Vec<u16>,
    /// Where the links of each item begin, and where those of the last one end.
    link_bounds: Vec<u32>,
    popularity: Vec<u32>,
    prices: Vec<f32>,
    published_at: Vec<i64>,
}

impl PackedVocabulary {
    /// Largest accepted encoding.
    pub const MAX_BYTES: usize = 256 * 1024 * 1024;

    /// Decodes and checks `vocabulary.bin`.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`] for more than [`Self::MAX_BYTES`], [`Code::UnsupportedFormatVersion`],
    /// [`Code::VocabularyInvalid`] when the length is not the one that the header declares, a text is not UTF-8, an id
    /// repeats, categories of an item are not ascending or out of range, or a price is not a finite number of at least 0.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(Error::new(Code::LimitExceeded, "vocabulary.bin is too large")
                .expected(format!("at most {} bytes", Self::MAX_BYTES))
                .found(bytes.len()));
        }
        let (header, body) = Header::read(bytes)?;
        let packed = Columns { left: body }.read(&header);
        let mut packed =
            packed.ok_or_else(|| invalid("vocabulary.bin has texts that are not UTF-8 or not whole"))?;
        packed.rows = Rows::new(&packed.ids).map_err(|row| {
            let id = packed.ids.get(row).unwrap_or_default();
            invalid(format!("vocabulary.bin names item {} twice", quoted(id)))
        })?;
        packed.check()?;
        Ok(packed)
    }

    fn check(&self) -> Result<()> {
        if let Some(row) = columns::first_bad_list(&self.links, &self.link_bounds, self.categories.len()) {
            return Err(invalid(format!("vocabulary.bin row {row} has bad category indices")));
        }
        match columns::first_bad_price(&self.prices, Layout::NO_PRICE) {
            Some(row) => Err(invalid(format!("vocabulary.bin row {row} has a bad price"))
                .expected("a finite number of at least 0")
                .found(float_text(self.prices[row]))),
            None => Ok(()),
        }
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Outside ids, in the order of their rows.
    pub fn item_ids(&self) -> impl ExactSizeIterator<Item = &str> {
        self.ids.iter()
    }

    /// The outside id of a row.
    #[must_use]
    pub fn item_id(&self, item: ItemIndex) -> Option<&str> {
        self.ids.get(item.row())
    }

    /// The row of an outside id.
    #[must_use]
    pub fn item_index(&self, id: &str) -> Option<ItemIndex> {
        self.rows.find(&self.ids, id)
    }

    /// Names of all categories, in the order of their numbers.
    pub fn categories(&self) -> impl ExactSizeIterator<Item = &str> {
        self.categories.iter()
    }

    /// Number of categories.
    #[must_use]
    pub fn num_categories(&self) -> usize {
        self.categories.len()
    }

    /// The name of a category.
    #[must_use]
    pub fn category(&self, category: u16) -> Option<&str> {
        self.categories.get(usize::from(category))
    }

    /// Categories of an item, ascending, each less than [`Self::num_categories`]; none for a row out of range.
    #[must_use]
    pub fn categories_of(&self, item: ItemIndex) -> &[u16] {
        let bound = |at: usize| self.link_bounds.get(at).map(|bound| *bound as usize);
        match (bound(item.row()), bound(item.row() + 1)) {
            (Some(start), Some(end)) => &self.links[start..end],
            _ => &[],
        }
    }

    /// Number of training interactions of an item; 0 for a row out of range.
    #[must_use]
    pub fn popularity(&self, item: ItemIndex) -> u32 {
        self.popularity.get(item.row()).copied().unwrap_or(0)
    }

    /// Numbers of training interactions, in the order of rows.
    #[must_use]
    pub fn popularities(&self) -> &[u32] {
        &self.popularity
    }

    /// The price of an item, if it is known.
    #[must_use]
    pub fn price(&self, item: ItemIndex) -> Option<f32> {
        self.prices.get(item.row()).copied().filter(|price| *price != Layout::NO_PRICE)
    }

    /// When an item was published, in Unix seconds, if that is known.
    #[must_use]
    pub fn published_at(&self, item: ItemIndex) -> Option<i64> {
        self.published_at.get(item.row()).copied().filter(|time| *time != Layout::NO_TIME)
    }

    /// The columns, to change them.
    #[must_use]
    pub fn unpack(&self) -> Vocabulary {
        let rows = || (0..self.len() as u32).map(ItemIndex);
        Vocabulary {
            item_ids: self.item_ids().map(ItemId::from).collect(),
            categories: self.categories().map(str::to_owned).collect(),
            item_categories: rows().map(|item| self.categories_of(item).to_vec()).collect(),
            popularity: self.popularity.clone(),
            prices: rows().take(self.prices.len()).map(|item| self.price(item)).collect(),
            published_at: rows().take(self.published_at.len()).map(|item| self.published_at(item)).collect(),
        }
    }
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
    /// The header and what follows it, which is as long as the header says.
    fn read(bytes: &[u8]) -> Result<(Self, &[u8])> {
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
            return Err(invalid("vocabulary.bin has the wrong first bytes")
                .expected("SNDV")
                .hint("a bundle of before this format has to be exported again"));
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
        if body.len() as u64 != header.body_bytes() {
            return Err(wrong_length(header.body_bytes()));
        }
        Ok((header, body))
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
}

/// Takes columns from the front.
struct Columns<'a> {
    left: &'a [u8],
}

impl<'a> Columns<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(count)?;
        self.left = left;
        Some(taken)
    }

    fn chunks<const N: usize>(&mut self, count: usize) -> Option<&'a [[u8; N]]> {
        Some(self.bytes(count.checked_mul(N)?)?.as_chunks().0)
    }

    fn read(mut self, header: &Header) -> Option<PackedVocabulary> {
        let len = header.num_items;
        let of = |column: u16| if header.has(column) { len } else { 0 };
        let popularity = columns::u32s(self.chunks(len)?);
        let prices = columns::f32s(self.chunks(of(Layout::HAS_PRICES))?);
        let published_at = columns::i64s(self.chunks(of(Layout::HAS_PUBLISHED_AT))?);
        let id_lengths = self.chunks(len)?;
        let link_bounds = columns::bounds(self.chunks(len)?);
        let name_lengths = self.chunks(header.num_categories)?;
        let links = columns::u16s(self.chunks(header.num_links)?);
        let ids = Texts::decode(id_lengths, self.bytes(header.id_bytes)?)?;
        let categories = Texts::decode(name_lengths, self.bytes(header.category_bytes)?)?;
        (*link_bounds.last()? as usize == links.len()).then(|| PackedVocabulary {
            rows: Rows::default(),
            ids,
            categories,
            links,
            link_bounds,
            popularity,
            prices,
            published_at,
        })
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::VocabularyInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Texts {
        let lengths: Vec<[u8; 2]> = texts.iter().map(|text| (text.len() as u16).to_le_bytes()).collect();
        Texts::decode(&lengths, texts.concat().as_bytes()).expect("they fit")
    }

    #[test]
    fn ids_of_one_hash_are_told_apart_and_repeats_are_found() {
        // Two pairs that FNV-1a hashes alike.
        let names = ["costarring", "a", "liquid", "declinate", "macallums"];
        let ids = texts(&names);
        let rows = Rows::new(&ids).expect("no repeats");
        for (row, id) in (0..).zip(names) {
            assert_eq!(rows.find(&ids, id), Some(ItemIndex(row)));
        }
        assert_eq!(rows.find(&ids, "b"), None);
        assert_eq!(Rows::default().find(&ids, "a"), None);
        let repeated = texts(&["costarring", "a", "liquid", "declinate", "macallums", "liquid"]);
        assert_eq!(Rows::new(&repeated), Err(5));
    }
}
