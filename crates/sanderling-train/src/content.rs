//! Content of items: which rows of the content table an item's declared attributes select.
//!
//! Categories, words of the title, values of attributes and quantile buckets of numbers are features; each is
//! hashed into a fixed number of buckets (Weinberger et al. 2009, feature hashing), so an item that arrives
//! later needs no dictionary. Buckets that fewer than two training items use say nothing about other items
//! and have no row.

use std::collections::{BTreeMap, BTreeSet};

use sanderling_core::ItemTable;
use sanderling_types::{
    Code, Error, FORMAT_VERSION, Item, ItemId, ItemIndex, Result, decode_json, json_object,
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::sequence::{self, ItemContent};

/// Training items that a feature needs.
const MIN_ITEMS: usize = 2;
/// Most features of one item.
const MAX_FEATURES: usize = 64;
/// Different values from which on a number is put into quantile buckets instead of taken as a name.
const MIN_NUMBERS: usize = 20;
/// Quantile buckets of a number.
const QUANTILES: usize = 10;
/// Words from which on the value of an attribute is text instead of a name.
const MIN_WORDS: usize = 4;
/// Buckets for each feature that training saw: about one in sixty-four then shares its bucket. Only buckets in
/// use take room.
const BUCKETS_A_FEATURE: usize = 64;
const MAX_BUCKETS: usize = 1 << 22;
const MAX_BYTES: usize = 64 << 20;

/// What attributes contribute to item vectors: `content.bin` of a bundle, see `docs/formats/content.md`.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// Which rows an item selects.
    pub spec: ContentSpec,
    /// Vectors `[buckets, dim]`.
    pub table: ItemTable,
}

impl Content {
    /// The bytes of `content.bin`: the length of the spec, the spec, the table.
    ///
    /// # Panics
    /// Never: strings and finite numbers always encode.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        // Unwrap safety: see above.
        let spec = serde_json::to_vec(&self.spec).expect("the content spec encodes");
        let mut out = (spec.len() as u32).to_le_bytes().to_vec();
        out.extend(spec);
        out.extend(self.table.encode());
        out
    }

    /// Decodes and checks `content.bin`.
    ///
    /// # Errors
    /// [`Code::UnsupportedFormatVersion`], [`Code::ContentInvalid`]; for the table what
    /// [`ItemTable::decode`] says.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let cut = || Error::new(Code::ContentInvalid, "content.bin ends too soon").found(bytes.len());
        let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut)?;
        let (spec, table) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or_else(cut)?;
        let spec: ContentSpec = decode_json(spec, MAX_BYTES, "content.bin", Code::ContentInvalid)?;
        spec.check()?;
        let table = ItemTable::decode(table)?;
        if table.len() != spec.buckets.len() {
            return Err(Error::new(Code::ContentInvalid, "content.bin has a table of the wrong length")
                .expected(spec.buckets.len())
                .found(table.len()));
        }
        Ok(Self { spec, table })
    }

    /// The vector of an item that nobody has touched; `None` where no feature of it is known.
    #[must_use]
    pub fn vector(&self, item: &Item) -> Option<Vec<f32>> {
        let features = self.spec.rows(item);
        let mut row = vec![0.0; self.table.dim()];
        let rows = features.iter().map(|&feature| {
            self.table.row_into(ItemIndex(feature), &mut row);
            row.clone()
        });
        sequence::content_vector(rows, self.spec.unit_items)
    }
}

/// How attributes select rows of the content table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ContentSpec {
    /// Buckets with a row in the content table, ascending; row `i` belongs to entry `i`.
    pub buckets: Vec<u32>,
    /// Version of the format.
    pub format_version: u32,
    /// Buckets that features are hashed into.
    pub num_buckets: u32,
    /// Inner quantile edges of each numeric attribute, ascending; `price` is the price.
    pub numbers: BTreeMap<String, Vec<f64>>,
    /// Whether item vectors are scaled to unit length.
    pub unit_items: bool,
}
json_object!(ContentSpec { buckets, format_version, num_buckets, numbers, unit_items });

/// Name of the price among the numeric attributes.
const PRICE: &str = "price";

impl ContentSpec {
    /// What the items with training interactions have in common.
    #[must_use]
    pub fn learn<'a>(trained: impl Iterator<Item = &'a Item> + Clone, unit_items: bool) -> Self {
        let mut spec = Self {
            buckets: Vec::new(),
            format_version: FORMAT_VERSION,
            num_buckets: 1,
            numbers: numbers(trained.clone()),
            unit_items,
        };
        let names: BTreeSet<String> = trained.clone().flat_map(|item| spec.names(item)).collect();
        spec.num_buckets = (names.len() * BUCKETS_A_FEATURE).next_power_of_two().clamp(1, MAX_BUCKETS) as u32;
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for item in trained {
            for bucket in spec.buckets_of(item) {
                *counts.entry(bucket).or_default() += 1;
            }
        }
        counts.retain(|_, count| *count >= MIN_ITEMS);
        spec.buckets = counts.into_keys().collect();
        spec
    }

    /// Rows of the content table that an item selects, ascending.
    #[must_use]
    pub fn rows(&self, item: &Item) -> Vec<u32> {
        let row = |bucket| self.buckets.binary_search(&bucket).ok().map(|row| row as u32);
        self.buckets_of(item).into_iter().filter_map(row).take(MAX_FEATURES).collect()
    }

    /// The content of a vocabulary whose first `item_ids` have training interactions.
    #[must_use]
    pub fn content(&self, items: &BTreeMap<&ItemId, &Item>, item_ids: &[ItemId]) -> ItemContent {
        let rows = |id| items.get(id).map(|item| self.rows(item)).unwrap_or_default();
        ItemContent::new(self.buckets.len(), item_ids.iter().map(rows))
    }

    fn check(&self) -> Result<()> {
        let invalid = |message: &str| Error::new(Code::ContentInvalid, message);
        let ascending = self.buckets.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || self.buckets.last().is_some_and(|last| *last >= self.num_buckets) {
            return Err(invalid("content.bin has bad buckets")
                .expected(format!("ascending numbers below {}", self.num_buckets)));
        }
        let in_order = |edges: &Vec<f64>| edges.is_sorted() && edges.iter().all(|edge| edge.is_finite());
        if !self.numbers.values().all(in_order) {
            return Err(invalid("content.bin has quantile edges that do not ascend"));
        }
        Ok(())
    }

    fn buckets_of(&self, item: &Item) -> BTreeSet<u32> {
        self.names(item).iter().map(|name| bucket(name, self.num_buckets)).collect()
    }

    /// Features of an item by name.
    fn names(&self, item: &Item) -> Vec<String> {
        let mut names: Vec<String> = item.categories.iter().map(|name| format!("category={name}")).collect();
        names.extend(words(&item.title).map(|word| format!("title:{word}")));
        if let (Some(price), Some(edges)) = (item.price, self.numbers.get(PRICE)) {
            names.push(format!("{PRICE}#{}", quantile(edges, f64::from(price))));
        }
        for (name, value) in item.attributes.iter().filter(|(_, value)| !value.is_empty()) {
            match (self.numbers.get(name), number(value)) {
                (Some(edges), Some(value)) => names.push(format!("{name}#{}", quantile(edges, value))),
                _ if words(value).nth(MIN_WORDS - 1).is_some() => {
                    names.extend(words(value).map(|word| format!("{name}:{word}")));
                }
                _ => names.push(format!("{name}={}", value.to_lowercase())),
            }
        }
        names
    }
}

/// Whether there is anything to know about an item beside its id.
#[must_use]
pub fn has_content(item: &Item) -> bool {
    let attribute = item.attributes.values().any(|value| !value.is_empty());
    attribute || item.price.is_some() || !item.title.is_empty() || !item.categories.is_empty()
}

fn bucket(name: &str, num_buckets: u32) -> u32 {
    let digest = Sha256::digest(name);
    let word = u64::from_le_bytes(std::array::from_fn(|i| digest[i]));
    (word % u64::from(num_buckets)) as u32
}

fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// How many edges lie at or below `value`.
fn quantile(edges: &[f64], value: f64) -> usize {
    edges.partition_point(|edge| *edge <= value)
}

/// Quantile edges of the price and of every attribute whose values are numbers, many of them different.
fn numbers<'a>(items: impl Iterator<Item = &'a Item>) -> BTreeMap<String, Vec<f64>> {
    let mut columns: BTreeMap<String, Option<Vec<f64>>> = BTreeMap::new();
    for item in items {
        if let Some(price) = item.price {
            let column = columns.entry(PRICE.to_owned()).or_insert_with(|| Some(Vec::new()));
            column.iter_mut().for_each(|values| values.push(f64::from(price)));
        }
        for (name, value) in item.attributes.iter().filter(|(_, value)| !value.is_empty()) {
            let column = columns.entry(name.clone()).or_insert_with(|| Some(Vec::new()));
            *column = column.take().and_then(|mut values| {
                values.push(number(value)?);
                Some(values)
            });
        }
    }
    columns.into_iter().filter_map(|(name, values)| Some((name, edges(values?)?))).collect()
}

fn edges(mut values: Vec<f64>) -> Option<Vec<f64>> {
    values.sort_unstable_by(f64::total_cmp);
    let different = values.windows(2).filter(|pair| pair[0] < pair[1]).count() + 1;
    if different < MIN_NUMBERS {
        return None;
    }
    let mut edges: Vec<f64> = (1..QUANTILES).map(|i| values[i * values.len() / QUANTILES]).collect();
    edges.dedup();
    Some(edges)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, title: &str, categories: &[&str], price: Option<f32>, brand: &str) -> Item {
        Item {
            item_id: ItemId::from(id),
            title: title.to_owned(),
            categories: categories.iter().map(|&name| name.to_owned()).collect(),
            price,
            published_at: None,
            attributes: [("brand".to_owned(), brand.to_owned())].into(),
        }
    }

    #[test]
    fn a_new_item_selects_what_it_shares_with_trained_ones() {
        let trained: Vec<Item> = (0..40)
            .map(|i| {
                let category = if i % 2 == 0 { "shoes" } else { "hats" };
                item(&format!("i{i}"), &format!("Red thing{i}"), &[category], Some(i as f32), "ACME")
            })
            .collect();
        let spec = ContentSpec::learn(trained.iter(), false);
        let new = |title, categories: &[&str], price, brand| {
            spec.rows(&item("new", title, categories, price, brand))
        };
        // brand, two categories, the word "red", ten price buckets; the words "thing0"… are of one item each.
        assert_eq!(spec.buckets.len(), 14);
        assert_eq!(new("Blue", &["shoes"], None, "acme").len(), 2);
        assert_eq!(new("RED!", &["shoes"], Some(3.5), "Acme").len(), 4);
        assert_eq!(new("", &["gloves"], None, "other"), Vec::<u32>::new());
        assert_eq!(new("", &[], Some(-5.0), ""), new("", &[], Some(0.0), ""), "the lowest bucket is open");
        assert_ne!(new("", &[], Some(39.0), ""), new("", &[], Some(0.0), ""));
    }

    fn sample() -> Content {
        let spec = ContentSpec {
            buckets: vec![1, 5],
            format_version: FORMAT_VERSION,
            num_buckets: 8,
            numbers: [(PRICE.to_owned(), vec![1.0, 2.0])].into(),
            unit_items: false,
        };
        let table = ItemTable::quantise(&[0.5, -1.0, 0.25, 1.0], 2, sanderling_core::ItemBits::Eight);
        Content { spec, table: table.expect("quantises") }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Content::decode(&sample().encode()).expect("decodes"), sample());
    }

    #[test]
    fn damaged_content_is_refused() {
        let damage: [fn(&mut ContentSpec); 4] = [
            |spec| spec.buckets = vec![5, 1],
            |spec| spec.buckets = vec![1],
            |spec| spec.num_buckets = 5,
            |spec| spec.numbers.values_mut().for_each(|edges| edges.reverse()),
        ];
        for damage in damage {
            let mut bad = sample();
            damage(&mut bad.spec);
            let error = Content::decode(&bad.encode()).expect_err("refused");
            assert_eq!(error.code(), Code::ContentInvalid);
        }
        let good = sample().encode();
        for len in 0..good.len() {
            assert!(Content::decode(&good[..len]).is_err(), "cut at {len}");
        }
        let mut newer = sample();
        newer.spec.format_version = 9;
        let error = Content::decode(&newer.encode()).expect_err("refused");
        assert_eq!(error.code(), Code::UnsupportedFormatVersion);
    }
}
