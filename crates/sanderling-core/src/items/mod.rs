//! The item table: item vectors of 4, 8 or 9 bits, used both as encoder input and for scoring.

use std::sync::OnceLock;

use sanderling_kernels::{
    Outline, Packing, Query, Top, add_halves, columns, cosine, cosines, dequantise, has_least, integer_dot,
};
use sanderling_types::{Code, Error, ItemIndex, Result, float_text};

const MAGIC: &[u8; 4] = b"SNDI";
const VERSION: u16 = 2;
const HEADER_BYTES: usize = 16;
/// A float of which the high half is kept.
const SCALE_BYTES: usize = 2;
/// Rows that are scored before anyone looks at them.
const BLOCK: usize = 256;

/// Width of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemBits {
    /// Integers of -7 to 7, two a byte.
    Four,
    /// Integers of -127 to 127.
    Eight,
    /// The same, and a bit that says which half of its step an element lies in. Scans do without that bit; what is read as a vector, as
    /// encoders do, has half the error.
    Nine,
}

impl ItemBits {
    /// The number of bits.
    #[must_use]
    pub fn count(self) -> u8 {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
            Self::Nine => 9,
        }
    }

    fn from_count(bits: u16) -> Option<Self> {
        [Self::Four, Self::Eight, Self::Nine].into_iter().find(|width| u16::from(width.count()) == bits)
    }

    /// The largest magnitude of an integer.
    #[must_use]
    pub fn largest(self) -> i8 {
        match self {
            Self::Four => 7,
            Self::Eight | Self::Nine => 127,
        }
    }

    fn packing(self) -> Packing {
        match self {
            Self::Four => Packing::Nibbles,
            Self::Eight | Self::Nine => Packing::Bytes,
        }
    }

    fn row_bytes(self, dim: usize) -> usize {
        match self {
            Self::Four => dim.div_ceil(2),
            Self::Eight | Self::Nine => dim,
        }
    }

    /// Bytes of the halves of a row's elements.
    fn fine_bytes(self, dim: usize) -> usize {
        if self == Self::Nine { dim.div_ceil(8) } else { 0 }
    }

    /// Bytes of a file of so many rows; `None` where memory cannot hold them.
    fn file_bytes(self, num_items: usize, dim: usize) -> Option<usize> {
        let of_row = SCALE_BYTES + self.row_bytes(dim) + self.fine_bytes(dim);
        of_row.checked_mul(num_items)?.checked_add(HEADER_BYTES)
    }
}

/// Item vectors `[num_items, dim]`: element = scale of the row × an integer. Kept as the bytes of the file, so that
/// a device holds them once.
///
/// Layout of the encoding: `docs/formats/items.md`.
#[derive(Debug, Clone)]
pub struct ItemTable {
    dim: usize,
    bits: ItemBits,
    num_items: usize,
    /// Header, scales, packed rows, halves.
    encoded: Vec<u8>,
    /// Set by the first scan, which a page waits for; the second one outlines the rows.
    scanned: OnceLock<()>,
    outline: OnceLock<Option<Outline>>,
}

impl PartialEq for ItemTable {
    fn eq(&self, other: &Self) -> bool {
        self.encoded == other.encoded
    }
}

impl ItemTable {
    /// Most elements of a row.
    pub const MAX_DIM: usize = 1024;
    /// Most rows.
    pub const MAX_ITEMS: usize = 10_000_000;

    /// Quantises row-major vectors `[num_items, dim]`, each row with its own scale. With eight bits and more the
    /// largest magnitude becomes 127, as near as scales allow; with four, larger elements are clipped where that makes the
    /// squared error of the row smaller. Everything else rounds to nearest.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when `dim` is out of range, `rows` is not a whole number of rows
    /// or an element is not finite.
    pub fn quantise(rows: &[f32], dim: usize, bits: ItemBits) -> Result<Self> {
        if !(1..=Self::MAX_DIM).contains(&dim) || !rows.len().is_multiple_of(dim) {
            return Err(Error::new(Code::InvalidArgument, "item vectors have the wrong shape")
                .expected(format!("rows of dim elements, dim 1 to {}", Self::MAX_DIM))
                .found(format!("{} elements, dim {dim}", rows.len())));
        }
        if let Some(at) = rows.iter().position(|element| !element.is_finite()) {
            return Err(Error::new(Code::InvalidArgument, format!("item vector {} is not finite", at / dim))
                .found(float_text(rows[at])));
        }
        let mut scales = Vec::with_capacity(rows.len() / dim);
        let mut quantised = Vec::with_capacity(rows.len());
        let mut fine = Vec::with_capacity(rows.len() / dim * bits.fine_bytes(dim));
        for row in rows.chunks_exact(dim) {
            let largest = row.iter().fold(0.0f32, |largest, element| largest.max(element.abs()));
            let scale = stored(match bits {
                ItemBits::Four => clipped_scale(row, largest, bits),
                ItemBits::Eight => largest / f32::from(bits.largest()),
                // The upper half of the last step is there, too.
                ItemBits::Nine => largest / (f32::from(bits.largest()) + 0.25),
            });
            scales.push(scale);
            let zero = scale == 0.0;
            let integers = row.iter().map(|element| if zero { 0 } else { to_integer(*element, scale, bits) });
            let start = quantised.len();
            quantised.extend(integers);
            if bits == ItemBits::Nine {
                let is_upper =
                    |(element, integer): (&f32, &i8)| !zero && *element > f32::from(*integer) * scale;
                fine.extend(bits_of(row.iter().zip(&quantised[start..]).map(is_upper)));
            }
        }
        Ok(Self::pack(dim, bits, &scales, &quantised, &fine))
    }

    /// A table of 4 or 8 bits whose integers were chosen elsewhere: row-major `rows` `[num_items, dim]` and `scales`
    /// `[num_items]`, of which the least that a file can hold and that are not under them are taken.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when the shapes disagree or there is a ninth bit, else as [`ItemTable::decode`].
    pub fn from_integers(dim: usize, bits: ItemBits, scales: &[f32], rows: &[i8]) -> Result<Self> {
        let in_range = (1..=Self::MAX_DIM).contains(&dim) && scales.len() <= Self::MAX_ITEMS;
        if !in_range || scales.len().checked_mul(dim) != Some(rows.len()) || bits == ItemBits::Nine {
            return Err(Error::new(Code::InvalidArgument, "item rows have the wrong shape")
                .expected(format!("{} rows of dim elements, dim 1 to {}", scales.len(), Self::MAX_DIM))
                .found(format!("{} elements, dim {dim}", rows.len())));
        }
        if let Some(row) = scales.iter().position(|scale| scale.is_nan() || scale.is_sign_negative()) {
            return Err(bad_scale(row, scales[row]));
        }
        check_scales(&scales.iter().map(|scale| columns::half_not_under(*scale)).collect::<Vec<_>>())?;
        check_elements(rows.iter().copied(), dim, bits)?;
        Ok(Self::pack(dim, bits, scales, rows, &[]))
    }

    /// The first `num_items` items, or all of them.
    #[must_use]
    pub fn first(&self, num_items: usize) -> Self {
        let kept = num_items.min(self.num_items);
        let (scales, rows) = (&self.scales()[..kept], &self.rows()[..kept * self.row_bytes()]);
        let fine = &self.fine()[..kept * self.bits.fine_bytes(self.dim)];
        Self::from_packed(self.dim, self.bits, scales.as_flattened(), rows, fine)
    }

    /// The table of a bundle without an encoder: every item is out of its range.
    pub(crate) fn none() -> Self {
        Self::from_packed(1, ItemBits::Eight, &[], &[], &[])
    }

    /// Packs `rows` `[num_items, dim]`.
    fn pack(dim: usize, bits: ItemBits, scales: &[f32], rows: &[i8], fine: &[u8]) -> Self {
        let scales: Vec<u8> = scales.iter().flat_map(|scale| columns::half_not_under(*scale)).collect();
        let rows: Vec<u8> = match bits {
            ItemBits::Eight | ItemBits::Nine => rows.iter().map(|element| *element as u8).collect(),
            ItemBits::Four => {
                let nibble = |element: &i8| *element as u8 & 0xF;
                let pair = |pair: &[i8]| nibble(&pair[0]) | pair.get(1).map_or(0, nibble) << 4;
                rows.chunks_exact(dim).flat_map(|row| row.chunks(2).map(pair)).collect()
            }
        };
        Self::from_packed(dim, bits, &scales, &rows, fine)
    }

    fn from_packed(dim: usize, bits: ItemBits, scales: &[u8], rows: &[u8], fine: &[u8]) -> Self {
        let num_items = scales.len() / SCALE_BYTES;
        let mut encoded = Vec::with_capacity(HEADER_BYTES + scales.len() + rows.len() + fine.len());
        encoded.extend(MAGIC);
        encoded.extend(VERSION.to_le_bytes());
        encoded.extend(u16::from(bits.count()).to_le_bytes());
        encoded.extend((num_items as u32).to_le_bytes());
        encoded.extend((dim as u32).to_le_bytes());
        encoded.extend(scales);
        encoded.extend(rows);
        encoded.extend(fine);
        Self::of_encoded(dim, bits, num_items, encoded)
    }

    fn of_encoded(dim: usize, bits: ItemBits, num_items: usize, encoded: Vec<u8>) -> Self {
        Self { dim, bits, num_items, encoded, scanned: OnceLock::new(), outline: OnceLock::new() }
    }

    fn row_bytes(&self) -> usize {
        self.bits.row_bytes(self.dim)
    }

    fn scales(&self) -> &[[u8; SCALE_BYTES]] {
        let (scales, _) = self.encoded[HEADER_BYTES..].as_chunks::<SCALE_BYTES>();
        &scales[..self.num_items]
    }

    fn scale(&self, row: usize) -> f32 {
        columns::half(self.scales()[row])
    }

    /// Packed rows, one behind the other.
    fn rows(&self) -> &[u8] {
        let start = HEADER_BYTES + SCALE_BYTES * self.num_items;
        &self.encoded[start..][..self.num_items * self.row_bytes()]
    }

    /// Which half of its step each element lies in, a bit each, row by row; empty without a ninth bit.
    fn fine(&self) -> &[u8] {
        let fine_bytes = self.num_items * self.bits.fine_bytes(self.dim);
        &self.encoded[self.encoded.len() - fine_bytes..]
    }

    /// The bytes of `items.bin`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.encoded.clone()
    }

    /// Decodes `items.bin`, and keeps the bytes when they are given away. Every length is checked before anything
    /// is allocated, and there is exactly one encoding of a table.
    ///
    /// # Errors
    /// [`Code::UnsupportedFormatVersion`] for another version, else [`Code::ItemsInvalid`].
    pub fn decode(bytes: impl Into<Vec<u8>>) -> Result<Self> {
        let encoded: Vec<u8> = bytes.into();
        let bytes = encoded.as_slice();
        let header =
            bytes.first_chunk::<HEADER_BYTES>().ok_or_else(|| wrong_length(HEADER_BYTES, bytes.len()))?;
        let u16_at = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let u32_at =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if &header[..4] != MAGIC {
            return Err(invalid("items.bin has the wrong first bytes").expected("SNDI"));
        }
        if u16_at(4) != VERSION {
            return Err(Error::new(Code::UnsupportedFormatVersion, "items.bin has another format version")
                .expected(VERSION)
                .found(u16_at(4))
                .hint("use a matching release of the engine, or export the bundle again"));
        }
        let (num_items, dim) = (u32_at(8) as usize, u32_at(12) as usize);
        let in_range = (1..=Self::MAX_DIM).contains(&dim) && num_items <= Self::MAX_ITEMS;
        let Some(bits) = ItemBits::from_count(u16_at(6)).filter(|_| in_range) else {
            return Err(invalid("items.bin declares what this engine does not read")
                .expected(format!(
                    "4, 8 or 9 bits, at most {} items of 1 to {}",
                    Self::MAX_ITEMS,
                    Self::MAX_DIM
                ))
                .found(format!("{} bits, {num_items} items of {dim}", u16_at(6))));
        };
        let expected = bits
            .file_bytes(num_items, dim)
            .ok_or_else(|| invalid("items.bin declares more than memory can hold"))?;
        if bytes.len() != expected {
            return Err(wrong_length(expected, bytes.len()));
        }
        let table = Self::of_encoded(dim, bits, num_items, encoded);
        check_scales(table.scales())?;
        match bits {
            ItemBits::Eight | ItemBits::Nine if has_least(table.rows(), bits.packing()) => {
                check_elements(table.rows().iter().map(|byte| *byte as i8), dim, bits)?;
            }
            ItemBits::Eight | ItemBits::Nine => {}
            ItemBits::Four => check_nibbles(table.rows(), dim)?,
        }
        check_fine(table.fine(), bits.fine_bytes(dim), dim)?;
        Ok(table)
    }

    /// Quantises more vectors `[rows, dim]` in the same way and puts them behind the others.
    ///
    /// # Errors
    /// As [`ItemTable::quantise`]; [`Code::InvalidArgument`] for more rows than a table may have.
    pub fn append(&mut self, rows: &[f32]) -> Result<()> {
        let more = Self::quantise(rows, self.dim, self.bits)?;
        let num_items = self.len() + more.len();
        if num_items > Self::MAX_ITEMS {
            return Err(Error::new(Code::InvalidArgument, "the item table would have too many rows")
                .expected(format!("at most {}", Self::MAX_ITEMS))
                .found(num_items));
        }
        let scales = [self.scales().as_flattened(), more.scales().as_flattened()].concat();
        let rows = [self.rows(), more.rows()].concat();
        let fine = [self.fine(), more.fine()].concat();
        *self = Self::from_packed(self.dim, self.bits, &scales, &rows, &fine);
        Ok(())
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.num_items
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.num_items == 0
    }

    /// Width of an element in the file.
    #[must_use]
    pub fn bits(&self) -> ItemBits {
        self.bits
    }

    /// Elements of an item vector.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Writes the item vector, dequantised, to `out` `[dim]`. An item out of range gives zeros.
    pub fn row_into(&self, item: ItemIndex, out: &mut [f32]) {
        out.fill(0.0);
        let Some(row) = self.row(item) else { return };
        dequantise(row, self.bits.packing(), out);
        let fine_bytes = self.bits.fine_bytes(self.dim);
        if fine_bytes > 0 {
            add_halves(&self.fine()[item.row() * fine_bytes..][..fine_bytes], out);
        }
        let scale = self.scale(item.row());
        out.iter_mut().for_each(|element| *element *= scale);
    }

    /// All item vectors, dequantised, row-major `[num_items, dim]`.
    #[must_use]
    pub fn vectors(&self) -> Vec<f32> {
        let mut vectors = vec![0.0; self.num_items * self.dim];
        for (item, row) in vectors.chunks_exact_mut(self.dim).enumerate() {
            self.row_into(ItemIndex(item as u32), row);
        }
        vectors
    }

    /// Euclidean norm of the item vector; 0 for an item out of range.
    #[must_use]
    pub fn norm(&self, item: ItemIndex) -> f32 {
        self.row(item).map_or(0.0, |row| self.direction_of(row).norm * self.scale(item.row()))
    }

    /// Dot product of `query` `[dim]` with an item vector; 0 for an item out of range. The query is rounded first,
    /// see [`ItemTable::top_k`].
    #[must_use]
    pub fn dot(&self, query: &[f32], item: ItemIndex) -> f32 {
        self.score(&self.prepare(query), item)
    }

    /// Cosine of two item vectors, -1 to 1, exact up to the last rounding; 0 where one is all
    /// zeros or out of range.
    #[must_use]
    pub fn cosine(&self, a: ItemIndex, b: ItemIndex) -> f32 {
        self.direction(a).cosine(self.direction(b))
    }

    /// What cosines with an item are made of, for many of them; none of an item out of range is other than 0.
    pub(crate) fn direction(&self, item: ItemIndex) -> Direction<'_> {
        self.direction_of(self.row(item).unwrap_or_default())
    }

    /// The directions of some items, side by side; one out of range has zeros.
    pub(crate) fn directions(&self, items: &[ItemIndex]) -> Directions {
        let zeros = vec![0; self.row_bytes()];
        let rows: Vec<&[u8]> = items.iter().map(|item| self.row(*item).unwrap_or(&zeros)).collect();
        Directions {
            row_bytes: self.row_bytes(),
            packing: self.bits.packing(),
            norms: rows.iter().map(|row| self.direction_of(row).norm).collect(),
            rows: rows.concat(),
        }
    }

    fn direction_of<'a>(&self, row: &'a [u8]) -> Direction<'a> {
        let packing = self.bits.packing();
        Direction { row, packing, norm: (integer_dot(row, row, packing) as f32).sqrt() }
    }

    /// The query as [`ItemTable::score`] takes it.
    pub(crate) fn prepare(&self, query: &[f32]) -> Query {
        Query::new(query, self.bits.packing())
    }

    /// Dot product with an item vector; 0 for an item out of range.
    pub(crate) fn score(&self, query: &Query, item: ItemIndex) -> f32 {
        self.row(item).map_or(0.0, |row| {
            let mut sum = [0];
            query.sums(row, &mut sum);
            query.score(sum[0], self.scale(item.row()))
        })
    }

    /// Packed elements of a row.
    fn row(&self, item: ItemIndex) -> Option<&[u8]> {
        let start = item.row().checked_mul(self.row_bytes())?;
        self.rows().get(start..start.checked_add(self.row_bytes())?)
    }

    /// Offers every item with its dot product with the query to `top`, if its bit in `allowed` is set.
    pub(crate) fn scan(&self, query: &Query, allowed: &[u64], top: &mut Top) {
        let is_first = self.scanned.set(()).is_ok();
        let outline = || Outline::new(self.rows(), self.scales(), self.bits.packing());
        let outline = if is_first { None } else { self.outline.get_or_init(outline).as_ref() };
        query.scan(self.rows(), self.scales(), outline, allowed, top);
    }

    /// Calls `visit` with the dot products of a query and the item vectors, in ascending order and blocks: the
    /// first item of a block, and the score of each.
    pub(crate) fn for_each_block(&self, query: &Query, mut visit: impl FnMut(ItemIndex, &[f32])) {
        let mut scores = [0.0; BLOCK];
        let blocks = self.rows().chunks(BLOCK * self.row_bytes());
        for (block, (rows, scales)) in blocks.zip(self.scales().chunks(BLOCK)).enumerate() {
            query.scores(rows, scales, &mut scores[..scales.len()]);
            visit(ItemIndex((block * BLOCK) as u32), &scores[..scales.len()]);
        }
    }

    /// Calls `visit` with the cosine of `item` and every item vector, in ascending order.
    pub(crate) fn for_each_cosine(&self, item: ItemIndex, mut visit: impl FnMut(ItemIndex, f32)) {
        let Some(of) = self.row(item).map(|row| self.direction_of(row)) else { return };
        for (at, row) in self.rows().chunks_exact(self.row_bytes()).enumerate() {
            visit(ItemIndex(at as u32), of.cosine(self.direction_of(row)));
        }
    }
}

/// Where an item vector points: its packed row and the Euclidean norm of that. The scale of a row does not matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Direction<'a> {
    row: &'a [u8],
    packing: Packing,
    norm: f32,
}

impl Direction<'_> {
    /// -1 to 1; 0 where one of the two is all zeros.
    pub(crate) fn cosine(self, other: Direction<'_>) -> f32 {
        cosine(integer_dot(self.row, other.row, self.packing), self.norm * other.norm)
    }
}

/// Directions of which each is compared with all.
#[derive(Debug, Clone)]
pub(crate) struct Directions {
    row_bytes: usize,
    packing: Packing,
    rows: Vec<u8>,
    norms: Vec<f32>,
}

impl Directions {
    /// Cosines of one with all, in their order, as [`Direction::cosine`] gives them.
    pub(crate) fn cosines(&self, of: usize) -> Vec<f32> {
        let row = &self.rows[of * self.row_bytes..][..self.row_bytes];
        let mut sums = vec![0; self.norms.len()];
        Query::of_row(row, self.packing).sums(&self.rows, &mut sums);
        cosines(&sums, &self.norms, self.norms[of])
    }
}

/// The least scale of a file that is not under `scale`. Below the smallest normal number a quotient could overflow; a row of such a scale is all zeros.
fn stored(scale: f32) -> f32 {
    let stored = columns::half(columns::half_not_under(scale));
    if stored < f32::MIN_POSITIVE { 0.0 } else { stored }
}

/// Eight a byte, the first in the lowest bit.
fn bits_of(mut set: impl Iterator<Item = bool>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(first) = set.next() {
        let rest = set.by_ref().take(7).zip(1..);
        bytes.push(rest.fold(u8::from(first), |byte, (set, at)| byte | u8::from(set) << at));
    }
    bytes
}

fn to_integer(element: f32, scale: f32, bits: ItemBits) -> i8 {
    let largest = f32::from(bits.largest());
    (element / scale).round().clamp(-largest, largest) as i8
}

/// The scale of the smallest squared error among sixteen places where the row is clipped.
fn clipped_scale(row: &[f32], largest: f32, bits: ItemBits) -> f32 {
    let error_of = |scale: f32| -> f32 {
        row.iter().map(|v| (v - scale * f32::from(to_integer(*v, scale, bits))).powi(2)).sum()
    };
    let scales = (0..16).map(|step| largest * (1.0 - 0.03 * step as f32) / f32::from(bits.largest()));
    let usable = scales.filter(|scale| *scale >= f32::MIN_POSITIVE).map(|scale| (error_of(scale), scale));
    usable.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0.0, |(_, scale)| scale)
}

/// A scale of 2^100 would make scores of finite vectors infinite.
fn check_scales(scales: &[[u8; SCALE_BYTES]]) -> Result<()> {
    match columns::first_bad_scale(scales, 1e30) {
        Some(row) => Err(bad_scale(row, columns::half(scales[row]))),
        None => Ok(()),
    }
}

fn bad_scale(row: usize, found: f32) -> Error {
    invalid(format!("items.bin row {row} has a bad scale"))
        .expected("0 or a normal number under 1e30")
        .found(float_text(found))
}

fn check_elements(elements: impl Iterator<Item = i8>, dim: usize, bits: ItemBits) -> Result<()> {
    let largest = bits.largest();
    match elements.enumerate().find(|(_, element)| !(-largest..=largest).contains(element)) {
        Some((at, element)) => {
            Err(invalid(format!("items.bin row {} has an element out of range", at / dim))
                .expected(format!("-{largest} to {largest}"))
                .found(element))
        }
        None => Ok(()),
    }
}

/// Two elements a byte, the first in the low half; the unused half of an odd row is 0.
fn check_nibbles(bytes: &[u8], dim: usize) -> Result<()> {
    let row_bytes = ItemBits::Four.row_bytes(dim);
    if has_least(bytes, Packing::Nibbles) {
        let halves = bytes.iter().flat_map(|byte| [((byte << 4) as i8) >> 4, (*byte as i8) >> 4]);
        check_elements(halves, 2 * row_bytes, ItemBits::Four)?;
    }
    let ends_with_bits = |row: &[u8]| dim % 2 == 1 && row[row_bytes - 1] >> 4 != 0;
    match bytes.chunks_exact(row_bytes).position(ends_with_bits) {
        Some(row) => {
            Err(invalid(format!("items.bin row {row} has bits behind its last element")).expected("0"))
        }
        None => Ok(()),
    }
}

/// The unused bits of the last byte of a row are 0.
fn check_fine(fine: &[u8], fine_bytes: usize, dim: usize) -> Result<()> {
    if fine_bytes == 0 || dim.is_multiple_of(8) {
        return Ok(());
    }
    let ends_with_bits = |row: &[u8]| row[fine_bytes - 1] >> (dim % 8) != 0;
    match fine.chunks_exact(fine_bytes).position(ends_with_bits) {
        Some(row) => {
            Err(invalid(format!("items.bin row {row} has bits behind its last element")).expected("0"))
        }
        None => Ok(()),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::ItemsInvalid, message)
}

fn wrong_length(expected: usize, found: usize) -> Error {
    invalid("items.bin has the wrong length")
        .expected(format!("{expected} bytes"))
        .found(format!("{found} bytes"))
}
