//! The item table: int8 or int4 item vectors, used both as encoder input and for scoring.

use sanderling_types::{Code, Error, ItemIndex, Result};

const MAGIC: &[u8; 4] = b"SNDI";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;

/// Width of an element in the file; in memory every element is an `i8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemBits {
    /// Integers of -7 to 7, two a byte.
    Four,
    /// Integers of -127 to 127.
    Eight,
}

impl ItemBits {
    /// The number of bits.
    #[must_use]
    pub fn count(self) -> u8 {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    fn from_count(bits: u16) -> Option<Self> {
        [Self::Four, Self::Eight].into_iter().find(|width| u16::from(width.count()) == bits)
    }

    /// The largest magnitude of an element.
    #[must_use]
    pub fn largest(self) -> i8 {
        match self {
            Self::Four => 7,
            Self::Eight => 127,
        }
    }

    fn row_bytes(self, dim: usize) -> usize {
        match self {
            Self::Four => dim.div_ceil(2),
            Self::Eight => dim,
        }
    }
}

/// Item vectors `[num_items, dim]`: element = scale of the row × an integer.
///
/// Layout of the encoding: `docs/formats/items.md`.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemTable {
    dim: usize,
    bits: ItemBits,
    scales: Vec<f32>,
    rows: Vec<i8>,
    /// Euclidean norms of the integer rows, that is without their scales.
    norms: Vec<f32>,
}

impl ItemTable {
    /// Most elements of a row.
    pub const MAX_DIM: usize = 1024;
    /// Most rows.
    pub const MAX_ITEMS: usize = 10_000_000;

    /// Quantises row-major vectors `[num_items, dim]`, each row with its own scale. With eight bits the
    /// largest magnitude becomes 127; with four, larger elements are clipped where that makes the
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
                .found(rows[at]));
        }
        let mut scales = Vec::with_capacity(rows.len() / dim);
        let mut quantised = Vec::with_capacity(rows.len());
        for row in rows.chunks_exact(dim) {
            let largest = row.iter().fold(0.0f32, |largest, element| largest.max(element.abs()));
            let scale = match bits {
                ItemBits::Four => clipped_scale(row, largest, bits),
                ItemBits::Eight => largest / f32::from(bits.largest()),
            };
            // Below the smallest normal number a quotient could overflow; such a row is all zeros.
            let scale = if scale < f32::MIN_POSITIVE { 0.0 } else { scale };
            scales.push(scale);
            let zero = scale == 0.0;
            quantised
                .extend(row.iter().map(|element| if zero { 0 } else { to_integer(*element, scale, bits) }));
        }
        Ok(Self::from_parts(dim, bits, scales, quantised))
    }

    /// A table of integers that were chosen elsewhere: row-major `rows` `[num_items, dim]` and `scales`
    /// `[num_items]`.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when the shapes disagree, else as [`ItemTable::decode`].
    pub fn from_integers(dim: usize, bits: ItemBits, scales: Vec<f32>, rows: Vec<i8>) -> Result<Self> {
        let in_range = (1..=Self::MAX_DIM).contains(&dim) && scales.len() <= Self::MAX_ITEMS;
        if !in_range || scales.len().checked_mul(dim) != Some(rows.len()) {
            return Err(Error::new(Code::InvalidArgument, "item rows have the wrong shape")
                .expected(format!("{} rows of dim elements, dim 1 to {}", scales.len(), Self::MAX_DIM))
                .found(format!("{} elements, dim {dim}", rows.len())));
        }
        Self::checked(dim, bits, scales, rows)
    }

    /// The first `num_items` items, or all of them.
    #[must_use]
    pub fn first(&self, num_items: usize) -> Self {
        let kept = num_items.min(self.len());
        Self::from_parts(
            self.dim,
            self.bits,
            self.scales[..kept].to_vec(),
            self.rows[..kept * self.dim].to_vec(),
        )
    }

    /// The table of a bundle without an encoder: every item is out of its range.
    pub(crate) fn none() -> Self {
        Self::from_parts(1, ItemBits::Eight, Vec::new(), Vec::new())
    }

    fn from_parts(dim: usize, bits: ItemBits, scales: Vec<f32>, rows: Vec<i8>) -> Self {
        let norm = |row: &[i8]| (integer_dot(row, row) as f32).sqrt();
        let norms = rows.chunks_exact(dim).map(norm).collect();
        Self { dim, bits, scales, rows, norms }
    }

    /// The bytes of `items.bin`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + 4 * self.scales.len() + self.rows.len());
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend(u16::from(self.bits.count()).to_le_bytes());
        out.extend((self.scales.len() as u32).to_le_bytes());
        out.extend((self.dim as u32).to_le_bytes());
        out.extend(self.scales.iter().flat_map(|scale| scale.to_le_bytes()));
        match self.bits {
            ItemBits::Eight => out.extend(self.rows.iter().map(|element| *element as u8)),
            ItemBits::Four => {
                let nibble = |element: &i8| *element as u8 & 0xF;
                let pair = |pair: &[i8]| nibble(&pair[0]) | pair.get(1).map_or(0, nibble) << 4;
                out.extend(self.rows.chunks_exact(self.dim).flat_map(|row| row.chunks(2).map(pair)));
            }
        }
        out
    }

    /// Decodes `items.bin`. Every length is checked before anything is allocated, and there is
    /// exactly one encoding of a table.
    ///
    /// # Errors
    /// [`Code::UnsupportedFormatVersion`] for another version, else [`Code::ItemsInvalid`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
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
                .expected(format!("4 or 8 bits, at most {} items of 1 to {}", Self::MAX_ITEMS, Self::MAX_DIM))
                .found(format!("{} bits, {num_items} items of {dim}", u16_at(6))));
        };
        let expected = bits
            .row_bytes(dim)
            .checked_add(4)
            .and_then(|row_bytes| row_bytes.checked_mul(num_items))
            .and_then(|body_bytes| body_bytes.checked_add(HEADER_BYTES))
            .ok_or_else(|| invalid("items.bin declares more than memory can hold"))?;
        if bytes.len() != expected {
            return Err(wrong_length(expected, bytes.len()));
        }
        let (scales, rows) = bytes[HEADER_BYTES..].split_at(4 * num_items);
        let scales = scales
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect();
        let rows = match bits {
            ItemBits::Eight => rows.iter().map(|byte| *byte as i8).collect(),
            ItemBits::Four => unpack_nibbles(rows, dim)?,
        };
        Self::checked(dim, bits, scales, rows)
    }

    fn checked(dim: usize, bits: ItemBits, scales: Vec<f32>, rows: Vec<i8>) -> Result<Self> {
        // A scale of 2^100 would make scores of finite vectors infinite.
        let scale_ok =
            |scale: &f32| scale.is_sign_positive() && (*scale == 0.0 || scale.is_normal()) && *scale < 1e30;
        if let Some(row) = scales.iter().position(|scale| !scale_ok(scale)) {
            return Err(invalid(format!("items.bin row {row} has a bad scale"))
                .expected("0 or a normal number under 1e30")
                .found(scales[row]));
        }
        let largest = bits.largest();
        if let Some(at) = rows.iter().position(|element| !(-largest..=largest).contains(element)) {
            return Err(invalid(format!("items.bin row {} has an element out of range", at / dim))
                .expected(format!("-{largest} to {largest}"))
                .found(rows[at]));
        }
        Ok(Self::from_parts(dim, bits, scales, rows))
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
        self.scales.extend(more.scales);
        self.rows.extend(more.rows);
        self.norms.extend(more.norms);
        Ok(())
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.scales.len()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.scales.is_empty()
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
        if let Some(row) = self.row(item) {
            let scale = self.scales[item.row()];
            for (out, element) in out.iter_mut().zip(row) {
                *out = f32::from(*element) * scale;
            }
        }
    }

    /// All item vectors, dequantised, row-major `[num_items, dim]`.
    #[must_use]
    pub fn vectors(&self) -> Vec<f32> {
        let scaled = |(row, scale): (&[i8], &f32)| row.iter().map(|&x| f32::from(x) * scale).collect();
        self.rows
            .chunks_exact(self.dim)
            .zip(&self.scales)
            .flat_map(|row| -> Vec<f32> { scaled(row) })
            .collect()
    }

    /// Euclidean norm of the item vector; 0 for an item out of range.
    #[must_use]
    pub fn norm(&self, item: ItemIndex) -> f32 {
        self.norms.get(item.row()).map_or(0.0, |norm| norm * self.scales[item.row()])
    }

    /// Dot product of `query` `[dim]` with an item vector; 0 for an item out of range.
    #[must_use]
    pub fn dot(&self, query: &[f32], item: ItemIndex) -> f32 {
        self.row(item).map_or(0.0, |row| float_dot(query, row) * self.scales[item.row()])
    }

    /// Cosine of two item vectors, -1 to 1, exact up to the last rounding; 0 where one is all
    /// zeros or out of range.
    #[must_use]
    pub fn cosine(&self, a: ItemIndex, b: ItemIndex) -> f32 {
        let (Some(row_a), Some(row_b)) = (self.row(a), self.row(b)) else { return 0.0 };
        // The scales of both rows cancel out.
        cosine(integer_dot(row_a, row_b), self.norms[a.row()], self.norms[b.row()])
    }

    pub(crate) fn row(&self, item: ItemIndex) -> Option<&[i8]> {
        let start = item.row().checked_mul(self.dim)?;
        self.rows.get(start..start.checked_add(self.dim)?)
    }

    /// Calls `visit` with the dot product of `query` and every item vector, in ascending order.
    pub(crate) fn for_each_dot(&self, query: &[f32], mut visit: impl FnMut(ItemIndex, f32)) {
        for (row, (elements, scale)) in self.rows.chunks_exact(self.dim).zip(&self.scales).enumerate() {
            visit(ItemIndex(row as u32), float_dot(query, elements) * scale);
        }
    }

    /// Calls `visit` with the cosine of `item` and every item vector, in ascending order.
    pub(crate) fn for_each_cosine(&self, item: ItemIndex, mut visit: impl FnMut(ItemIndex, f32)) {
        let Some(of) = self.row(item) else { return };
        let norm_of = self.norms[item.row()];
        for (row, (elements, norm)) in self.rows.chunks_exact(self.dim).zip(&self.norms).enumerate() {
            visit(ItemIndex(row as u32), cosine(integer_dot(of, elements), norm_of, *norm));
        }
    }
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

/// Two elements a byte, the first in the low half; the unused half of an odd row is 0.
fn unpack_nibbles(bytes: &[u8], dim: usize) -> Result<Vec<i8>> {
    let extend = |nibble: u8| ((nibble << 4) as i8) >> 4;
    let row_bytes = ItemBits::Four.row_bytes(dim);
    let mut rows = Vec::with_capacity(bytes.len() / row_bytes * dim);
    for (row, packed) in bytes.chunks_exact(row_bytes).enumerate() {
        let elements = packed.iter().flat_map(|byte| [extend(byte & 0xF), extend(byte >> 4)]);
        rows.extend(elements.take(dim));
        if dim % 2 == 1 && packed[row_bytes - 1] >> 4 != 0 {
            return Err(
                invalid(format!("items.bin row {row} has bits behind its last element")).expected("0")
            );
        }
    }
    Ok(rows)
}

fn cosine(dot: i32, norm_a: f32, norm_b: f32) -> f32 {
    let norms = norm_a * norm_b;
    if norms > 0.0 { (dot as f32 / norms).clamp(-1.0, 1.0) } else { 0.0 }
}

/// Exact: 1024 products of at most 127² stay far under 2³¹.
fn integer_dot(a: &[i8], b: &[i8]) -> i32 {
    // Wrapping, so that it vectorises with overflow checks too; 1024 products of int8 cannot wrap.
    a.iter().zip(b).fold(0, |sum, (a, b)| sum.wrapping_add(i32::from(*a).wrapping_mul(i32::from(*b))))
}

/// Sixteen independent sums, added in a fixed tree: the compiler turns the loop into vector
/// instructions of any width and the result is the same on every platform.
fn float_dot(query: &[f32], row: &[i8]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let (query_chunks, query_rest) = query.as_chunks::<LANES>();
    let (row_chunks, row_rest) = row.as_chunks::<LANES>();
    for (query, row) in query_chunks.iter().zip(row_chunks) {
        for lane in 0..LANES {
            sums[lane] += query[lane] * f32::from(row[lane]);
        }
    }
    for (lane, (query, row)) in query_rest.iter().zip(row_rest).enumerate() {
        sums[lane] += query * f32::from(*row);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::ItemsInvalid, message)
}

fn wrong_length(expected: usize, found: usize) -> Error {
    invalid("items.bin has the wrong length")
        .expected(format!("{expected} bytes"))
        .found(format!("{found} bytes"))
}
