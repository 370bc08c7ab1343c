//! The neighbour table: int8 weights from item to item, and how they add up over a session.

use std::fmt;

use sanderling_types::{Code, Error, ItemIndex, Result, float_text};

const MAGIC: &[u8; 4] = b"SNDN";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 20;
/// Bytes of a row beside its weights: scale and count.
const ROW_BYTES: usize = 6;
/// Weights and scales are under it, so that sums of them stay finite.
const MAX_WEIGHT: f32 = 1e30;

/// How the weights of a session's items add up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Combination {
    /// Most items that speak: the newest distinct ones of the session, 1 to 1024.
    pub max_sources: u16,
    /// How much less each item counts than the one after it, over 0 and at most 1.
    pub decay: f32,
}

impl Combination {
    /// Largest `max_sources`.
    pub const MAX_SOURCES: u16 = 1024;

    /// The items of a session that speak, newest first, with what their weights are multiplied by: the
    /// newest distinct ones, each counting `decay` times what the one after it does.
    #[must_use]
    pub fn sources(self, newest_first: impl IntoIterator<Item = ItemIndex>) -> Vec<SessionSource> {
        let mut factor = 1.0f32;
        let mut out: Vec<SessionSource> = Vec::new();
        for item in newest_first {
            if out.len() >= usize::from(self.max_sources) {
                break;
            }
            if out.iter().all(|(known, _)| *known != item) {
                out.push((item, factor));
                factor *= self.decay;
            }
        }
        out
    }

    fn is_valid(self) -> bool {
        (1..=Self::MAX_SOURCES).contains(&self.max_sources)
            && self.decay.is_normal()
            && self.decay > 0.0
            && self.decay <= 1.0
    }
}

impl fmt::Display for Combination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} sources, a decay of {}", self.max_sources, float_text(self.decay))
    }
}

/// A distinct item of a session with what its weights are multiplied by.
pub type SessionSource = (ItemIndex, f32);

/// Of each item the weights that it has for other items: weight = scale of the row × an integer. The
/// neighbour score of an item is the sum of the weights from the session's items, see [`Combination`].
///
/// Layout of the encoding: `docs/formats/neighbours.md`.
#[derive(Debug, Clone, PartialEq)]
pub struct NeighbourTable {
    combination: Combination,
    scales: Vec<f32>,
    /// Where each row ends in `items` and `weights`.
    ends: Vec<u32>,
    /// Ascending within a row.
    items: Vec<u32>,
    weights: Vec<i8>,
}

impl NeighbourTable {
    /// Most rows.
    pub const MAX_ITEMS: usize = crate::ItemTable::MAX_ITEMS;
    /// Most weights of a row.
    pub const MAX_NEIGHBOURS: usize = u16::MAX as usize;

    /// Quantises the rows, which hold `(item, weight)` in any order, each with a scale of its own: the
    /// largest magnitude becomes 127, everything else rounds to nearest, and what becomes 0 is left out.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when `combination` or a row is out of range, an item repeats in a row
    /// or a weight is not under 1e30 in size.
    pub fn quantise(rows: &[Vec<(u32, f32)>], combination: Combination) -> Result<Self> {
        if !combination.is_valid() || rows.len() > Self::MAX_ITEMS {
            return Err(argument("the neighbour table's size or combination is out of range")
                .expected(format!("at most {} rows, 1 to 1024 sources, a decay in (0, 1]", Self::MAX_ITEMS))
                .found(format!("{} rows, {combination}", rows.len())));
        }
        let mut table = Self {
            combination,
            scales: Vec::new(),
            ends: Vec::new(),
            items: Vec::new(),
            weights: Vec::new(),
        };
        for (source, row) in rows.iter().enumerate() {
            let mut row = row.clone();
            row.sort_unstable_by_key(|(item, _)| *item);
            let ascending = row.windows(2).all(|pair| pair[0].0 < pair[1].0);
            let in_range =
                row.iter().all(|(item, weight)| (*item as usize) < rows.len() && weight.abs() < MAX_WEIGHT);
            if !ascending || !in_range || row.len() > Self::MAX_NEIGHBOURS {
                return Err(argument(format!("the neighbours of row {source} cannot be stored"))
                    .expected("at most 65535 distinct rows of the table, each with a weight under 1e30"));
            }
            table.push_row(&row);
        }
        Ok(table)
    }

    fn push_row(&mut self, row: &[(u32, f32)]) {
        let largest = row.iter().fold(0.0f32, |largest, (_, weight)| largest.max(weight.abs()));
        let scale = largest / 127.0;
        // Below the smallest normal number a quotient could overflow; such a row says nothing.
        let usable = scale >= f32::MIN_POSITIVE;
        for (item, weight) in row.iter().filter(|_| usable) {
            let integer = (weight / scale).round().clamp(-127.0, 127.0) as i8;
            if integer != 0 {
                self.items.push(*item);
                self.weights.push(integer);
            }
        }
        self.scales.push(if usable { scale } else { 0.0 });
        self.ends.push(self.items.len() as u32);
    }

    /// Puts rows without neighbours behind the others.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for more rows than a table may have.
    pub fn append_empty(&mut self, rows: usize) -> Result<()> {
        let num_rows = self.len() + rows;
        if num_rows > Self::MAX_ITEMS {
            return Err(argument("the neighbour table would have too many rows")
                .expected(format!("at most {}", Self::MAX_ITEMS))
                .found(num_rows));
        }
        self.scales.resize(num_rows, 0.0);
        self.ends.resize(num_rows, self.items.len() as u32);
        Ok(())
    }

    /// The first `num_items` rows, or all of them, with the weights that they have for one another.
    #[must_use]
    pub fn first(&self, num_items: usize) -> Self {
        let mut out = Self {
            combination: self.combination,
            scales: Vec::new(),
            ends: Vec::new(),
            items: Vec::new(),
            weights: Vec::new(),
        };
        for ((items, weights), &scale) in self.rows().zip(&self.scales).take(num_items) {
            let kept = items.partition_point(|&item| (item as usize) < num_items);
            out.items.extend(&items[..kept]);
            out.weights.extend(&weights[..kept]);
            out.scales.push(if kept == 0 { 0.0 } else { scale });
            out.ends.push(out.items.len() as u32);
        }
        out
    }

    /// The bytes of `neighbours.bin`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + ROW_BYTES * self.len() + 3 * self.items.len());
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(self.combination.max_sources.to_le_bytes());
        out.extend(self.combination.decay.to_le_bytes());
        out.extend((self.len() as u32).to_le_bytes());
        out.extend((self.items.len() as u32).to_le_bytes());
        out.extend(self.scales.iter().flat_map(|scale| scale.to_le_bytes()));
        let counts = self.rows().map(|(items, _)| items.len() as u16);
        out.extend(counts.flat_map(u16::to_le_bytes));
        out.extend(self.weights.iter().map(|weight| *weight as u8));
        for (items, _) in self.rows() {
            let mut least = 0;
            for item in items {
                push_varint(&mut out, item - least);
                least = item + 1;
            }
        }
        out
    }

    /// Decodes `neighbours.bin`. Every length is checked before anything is allocated, and there is
    /// exactly one encoding of a table.
    ///
    /// # Errors
    /// [`Code::UnsupportedFormatVersion`] for another version, else [`Code::NeighboursInvalid`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let header =
            bytes.first_chunk::<HEADER_BYTES>().ok_or_else(|| too_short(HEADER_BYTES, bytes.len()))?;
        let four = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
        let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        if &header[..4] != MAGIC {
            return Err(invalid("neighbours.bin has the wrong first bytes").expected("SNDN"));
        }
        if u16_at(4) != VERSION {
            return Err(Error::new(
                Code::UnsupportedFormatVersion,
                "neighbours.bin has another format version",
            )
            .expected(VERSION)
            .found(u16_at(4))
            .hint("use a matching release of the engine, or export the bundle again"));
        }
        let combination = Combination { max_sources: u16_at(6), decay: f32::from_le_bytes(four(8)) };
        let (num_items, num_weights) = (u32::from_le_bytes(four(12)), u32::from_le_bytes(four(16)));
        if !combination.is_valid() || num_items as usize > Self::MAX_ITEMS {
            return Err(invalid("neighbours.bin declares what this engine does not read")
                .expected(format!("1 to 1024 sources, a decay in (0, 1], at most {} items", Self::MAX_ITEMS))
                .found(format!("{combination}, {num_items} items")));
        }
        // Every weight takes a byte of its own and at least one of its item.
        let least =
            HEADER_BYTES as u64 + ROW_BYTES as u64 * u64::from(num_items) + 2 * u64::from(num_weights);
        if (bytes.len() as u64) < least {
            return Err(too_short(least, bytes.len()));
        }
        let (scales, rest) = bytes[HEADER_BYTES..].split_at(4 * num_items as usize);
        let (counts, rest) = rest.split_at(2 * num_items as usize);
        let (weights, gaps) = rest.split_at(num_weights as usize);
        let ends = decode_ends(counts, num_weights)?;
        Ok(Self {
            scales: decode_scales(scales, &ends)?,
            items: decode_items(gaps, &ends, num_items)?,
            weights: decode_weights(weights)?,
            ends,
            combination,
        })
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Number of weights of all rows.
    #[must_use]
    pub fn num_weights(&self) -> usize {
        self.items.len()
    }

    /// How the weights of a session's items add up.
    #[must_use]
    pub fn combination(&self) -> Combination {
        self.combination
    }

    /// Adds the weights of `sources` to `scores` `[num_items]`, source by source and in ascending order
    /// of items, so that the sums are the same numbers everywhere.
    pub fn add_scores(&self, sources: &[SessionSource], scores: &mut [f32]) {
        for (source, factor) in sources {
            for (item, weight) in self.row(*source) {
                if let Some(score) = scores.get_mut(item.row()) {
                    *score += weight * factor;
                }
            }
        }
    }

    /// The source that adds most to the neighbour score of `item`, with what it adds; the newer of two
    /// equal ones. `None` where none adds anything above 0.
    #[must_use]
    pub fn strongest(&self, sources: &[SessionSource], item: ItemIndex) -> Option<(ItemIndex, f32)> {
        let mut best = None;
        for (source, factor) in sources {
            let added = self.weight(*source, item) * factor;
            if added > best.map_or(0.0, |(_, best)| best) {
                best = Some((*source, added));
            }
        }
        best
    }

    /// The weight from one item to another; 0 where there is none.
    #[must_use]
    pub fn weight(&self, source: ItemIndex, item: ItemIndex) -> f32 {
        let Some((items, weights)) = self.stored(source) else { return 0.0 };
        items.binary_search(&item.0).map_or(0.0, |at| f32::from(weights[at]) * self.scales[source.row()])
    }

    /// The weights of an item by ascending item; none for an item out of range.
    pub fn row(&self, source: ItemIndex) -> impl Iterator<Item = (ItemIndex, f32)> {
        let (items, weights) = self.stored(source).unwrap_or_default();
        let scale = self.scales.get(source.row()).copied().unwrap_or(0.0);
        items.iter().zip(weights).map(move |(item, weight)| (ItemIndex(*item), f32::from(*weight) * scale))
    }

    fn stored(&self, source: ItemIndex) -> Option<(&[u32], &[i8])> {
        let end = *self.ends.get(source.row())? as usize;
        let start = source.row().checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some((&self.items[start..end], &self.weights[start..end]))
    }

    fn rows(&self) -> impl Iterator<Item = (&[u32], &[i8])> {
        (0..self.len() as u32).filter_map(|row| self.stored(ItemIndex(row)))
    }
}

fn decode_ends(counts: &[u8], num_weights: u32) -> Result<Vec<u32>> {
    let mut ends = Vec::with_capacity(counts.len() / 2);
    let mut end = 0u64;
    for bytes in counts.chunks_exact(2) {
        let count = u16::from_le_bytes([bytes[0], bytes[1]]);
        end += u64::from(count);
        ends.push(end as u32);
    }
    if end != u64::from(num_weights) {
        return Err(invalid("neighbours.bin has rows that do not add up").expected(num_weights).found(end));
    }
    Ok(ends)
}

fn decode_scales(scales: &[u8], ends: &[u32]) -> Result<Vec<f32>> {
    let scales: Vec<f32> = scales
        .chunks_exact(4)
        .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        .collect();
    let mut start = 0;
    for (row, (scale, end)) in scales.iter().zip(ends).enumerate() {
        let empty = start == *end;
        let scale_ok = if empty {
            scale.to_bits() == 0
        } else {
            *scale > 0.0 && scale.is_normal() && *scale < MAX_WEIGHT
        };
        if !scale_ok {
            return Err(invalid(format!("neighbours.bin row {row} has a bad scale"))
                .expected(if empty { "0 in a row without weights" } else { "a normal number under 1e30" })
                .found(float_text(*scale)));
        }
        start = *end;
    }
    Ok(scales)
}

fn decode_weights(weights: &[u8]) -> Result<Vec<i8>> {
    let weights: Vec<i8> = weights.iter().map(|byte| *byte as i8).collect();
    match weights.iter().position(|weight| matches!(*weight, 0 | i8::MIN)) {
        Some(at) => Err(invalid(format!("neighbours.bin weight {at} is out of range"))
            .expected("-127 to 127, not 0")
            .found(weights[at])),
        None => Ok(weights),
    }
}

/// Items from their distances: the first of a row counts from 0, every other from the one before, less 1.
fn decode_items(mut gaps: &[u8], ends: &[u32], num_items: u32) -> Result<Vec<u32>> {
    let mut items = Vec::with_capacity(ends.last().copied().unwrap_or(0) as usize);
    for (row, end) in ends.iter().enumerate() {
        let mut least = 0u64;
        while items.len() < *end as usize {
            let gap = take_varint(&mut gaps).ok_or_else(|| {
                invalid(format!("neighbours.bin row {row} has an item that cannot be read"))
            })?;
            let item = least + u64::from(gap);
            if item >= u64::from(num_items) {
                return Err(invalid(format!("neighbours.bin row {row} has an item out of range"))
                    .expected(format!("under {num_items}"))
                    .found(item));
            }
            items.push(item as u32);
            least = item + 1;
        }
    }
    if gaps.is_empty() {
        return Ok(items);
    }
    Err(invalid("bytes follow the last item of neighbours.bin")
        .expected("0 bytes")
        .found(format!("{} bytes", gaps.len())))
}

/// Seven bits a byte, the lowest first; the high bit says that another byte follows (LEB128).
fn push_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The next number, in its shortest form only; `None` for anything else.
fn take_varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0u64;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            let shortest = shift == 0 || byte != 0;
            return u32::try_from(value).ok().filter(|_| shortest);
        }
    }
    None
}

fn argument(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, message)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::NeighboursInvalid, message)
}

fn too_short(least: impl fmt::Display, found: usize) -> Error {
    invalid("neighbours.bin ends early")
        .expected(format!("at least {least} bytes"))
        .found(format!("{found} bytes"))
}
