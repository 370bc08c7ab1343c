//! Products of a query with packed rows, in whole numbers: exact, so every order of summing gives the same.

use crate::coarse::{BLOCK, CoarseQuery, IS_FASTER, Outline};
use crate::columns::half;
use crate::simd::widest;
use crate::{LARGEST, Top};

/// Elements that are multiplied together.
const LANES: usize = 16;

/// Rows of a block that are multiplied one by one where no more than so many may be among the best.
const MOST_ALONE: u32 = 24;

/// How whole numbers of a row are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// One a byte.
    Bytes,
    /// Two a byte, the first in the low half.
    Nibbles,
}

/// A query rounded to whole numbers, 8,191 of them to the largest element: a sixtieth of what rounding an
/// item vector to 8 bits costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    packing: Packing,
    scale: f32,
    /// `[dim]`; for rows of 4 bits first those of the low halves, then those of the high halves.
    integers: Vec<i16>,
    /// How many are for the low halves.
    num_low: usize,
    /// For rows of 4 bits: the integers of sixteen bytes at a time, by the quarter of 16 bits that they are multiplied with, lowest first.
    #[cfg(target_feature = "simd128")]
    quarters: Vec<Quarters>,
}

/// Integers for sixteen bytes of halves: those of each byte with an even place, low half and high half, then of each with an odd one.
#[cfg(target_feature = "simd128")]
type Quarters = [[i16; 8]; 4];

#[cfg(target_feature = "simd128")]
fn quarters(low: &[i16], high: &[i16]) -> Vec<Quarters> {
    let chunks = low.as_chunks::<LANES>().0.iter().zip(high.as_chunks::<LANES>().0);
    let quarter = |(low, high): (&[i16; LANES], &[i16; LANES])| {
        [(low, 0), (high, 0), (low, 1), (high, 1)]
            .map(|(half, odd)| std::array::from_fn(|at| half[2 * at + odd]))
    };
    chunks.map(quarter).collect()
}

impl Query {
    /// For rows of `packing` with as many numbers as `query` has. Every score of a query that is not finite is not
    /// a number.
    #[must_use]
    pub fn new(query: &[f32], packing: Packing) -> Self {
        let largest = query.iter().fold(0.0f32, |most, x| if x.abs() > most { x.abs() } else { most });
        // The sum of all products stays under 2^31 for up to 2,064 elements.
        let most = LARGEST as f32;
        let finite = query.iter().all(|x| x.is_finite());
        let scale = if finite { largest / most } else { f32::NAN };
        let whole = |x: &f32| {
            if scale >= f32::MIN_POSITIVE { (x / scale).round().clamp(-most, most) as i16 } else { 0 }
        };
        let integers = match packing {
            Packing::Bytes => query.iter().map(whole).collect(),
            Packing::Nibbles => {
                let low = query.iter().step_by(2);
                low.chain(query.iter().skip(1).step_by(2)).map(whole).collect()
            }
        };
        Self::of_integers(integers, packing, scale, query.len().div_ceil(2))
    }

    /// A packed row, whose sums with other rows are dot products of rows.
    #[must_use]
    pub fn of_row(row: &[u8], packing: Packing) -> Self {
        let integers = match packing {
            Packing::Bytes => row.iter().map(|byte| i16::from(*byte as i8)).collect(),
            Packing::Nibbles => {
                let low = row.iter().map(|byte| i16::from(((byte << 4) as i8) >> 4));
                low.chain(row.iter().map(|byte| i16::from(*byte as i8 >> 4))).collect()
            }
        };
        Self::of_integers(integers, packing, 1.0, row.len())
    }

    fn of_integers(integers: Vec<i16>, packing: Packing, scale: f32, num_low: usize) -> Self {
        Self {
            packing,
            scale,
            #[cfg(target_feature = "simd128")]
            quarters: match packing {
                Packing::Bytes => Vec::new(),
                Packing::Nibbles => quarters(&integers[..num_low], &integers[num_low..]),
            },
            integers,
            num_low,
        }
    }

    fn row_bytes(&self) -> usize {
        match self.packing {
            Packing::Bytes => self.integers.len(),
            Packing::Nibbles => self.num_low,
        }
        .max(1)
    }

    /// The score of a row by its sum and its scale.
    #[must_use]
    pub fn score(&self, sum: i32, scale: f32) -> f32 {
        sum as f32 * self.scale * scale
    }

    /// Offers the scores of `rows`, one behind the other, with their `scales`, [`half`]s, one a row, to `top`; a row counts when its bit in
    /// `allowed` is set. With the outline of the rows those that can not be among the best are not scored.
    pub fn scan(
        &self,
        rows: &[u8],
        scales: &[[u8; 2]],
        outline: Option<&Outline>,
        allowed: &[u64],
        top: &mut Top,
    ) {
        let coarse = |outline| (CoarseQuery::new(&self.integers, self.scale), outline);
        let coarse = outline.filter(|_| IS_FASTER).map(coarse);
        let row_bytes = self.row_bytes();
        let mut scores = [0.0; BLOCK];
        let blocks = rows.chunks(BLOCK * row_bytes).zip(scales.chunks(BLOCK));
        for (block, (rows, scales)) in blocks.enumerate() {
            let first = block * BLOCK;
            let above = coarse.as_ref().and_then(|(coarse, outline)| {
                let above = coarse.rows_above(top.floor(), outline, block, rows, scales.as_array()?)?;
                let above = above & allowed.get(block).copied().unwrap_or(0);
                // More are done sooner all at once.
                (above.count_ones() < MOST_ALONE).then_some(above)
            });
            let Some(mut above) = above else {
                let scores = &mut scores[..scales.len()];
                self.scores(rows, scales, scores);
                top.offer(first as u32, scores, allowed);
                continue;
            };
            while above != 0 {
                let row = above.trailing_zeros() as usize;
                above &= above - 1;
                let sum = dot8(&self.integers, &rows[row * row_bytes..][..row_bytes]);
                let score = self.score(sum, half(scales[row]));
                if score > top.floor() {
                    top.offer_one((first + row) as u32, score, allowed);
                }
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn coarse(&self) -> CoarseQuery {
        CoarseQuery::new(&self.integers, self.scale)
    }

    /// Scores of `rows`, one behind the other, with their `scales`, [`half`]s, one a row.
    pub fn scores(&self, rows: &[u8], scales: &[[u8; 2]], scores: &mut [f32]) {
        let row_bytes = self.row_bytes();
        let mut sums = [0i32; BLOCK];
        let blocks = rows.chunks(BLOCK * row_bytes).zip(scales.chunks(BLOCK));
        for ((rows, scales), scores) in blocks.zip(scores.chunks_mut(BLOCK)) {
            self.sums(rows, &mut sums[..scales.len()]);
            for ((score, sum), scale) in scores.iter_mut().zip(&sums).zip(scales) {
                *score = self.score(*sum, half(*scale));
            }
        }
    }

    /// Sums of products with `rows`, one behind the other, as many as `sums` has room for.
    pub fn sums(&self, rows: &[u8], sums: &mut [i32]) {
        widest(
            #[inline(always)]
            || match self.packing {
                Packing::Bytes => self.sums8(rows, sums),
                Packing::Nibbles => self.sums4(rows, sums),
            },
        );
    }

    #[inline(always)]
    fn sums8(&self, rows: &[u8], sums: &mut [i32]) {
        let dim = self.integers.len();
        let (query, query_rest) = self.integers.as_chunks::<LANES>();
        let num_in_fours = if query_rest.is_empty() { sums.len() / 4 * 4 } else { 0 };
        let (fours, others) = sums.split_at_mut(num_in_fours);
        let (rows_of_fours, other_rows) = rows.split_at(num_in_fours * dim);
        let (fours, _) = fours.as_chunks_mut::<4>();
        for (sums, rows) in fours.iter_mut().zip(rows_of_fours.chunks_exact(4 * dim)) {
            *sums = dot8_of_four(query, rows);
        }
        for (sum, row) in others.iter_mut().zip(other_rows.chunks_exact(dim)) {
            *sum = dot8(&self.integers, row);
        }
    }

    #[cfg(target_feature = "simd128")]
    #[inline(always)]
    fn sums4(&self, rows: &[u8], sums: &mut [i32]) {
        let whole = self.quarters.len() * LANES;
        let (low, high) = self.integers.split_at(self.num_low);
        let of_row = |row: &[u8]| {
            let rest = rest4(&low[whole..], &high[whole..], &row[whole..]);
            wasm::dot_quarters(&self.quarters, row).wrapping_add(rest)
        };
        let (fours, others) = sums.split_at_mut(if whole == low.len() { sums.len() / 4 * 4 } else { 0 });
        let (rows_of_fours, other_rows) = rows.split_at(fours.len() * low.len());
        for (sums, rows) in
            fours.as_chunks_mut::<4>().0.iter_mut().zip(rows_of_fours.chunks_exact(4 * low.len()))
        {
            *sums = wasm::dot_quarters_of_four(&self.quarters, rows);
        }
        others.iter_mut().zip(other_rows.chunks_exact(low.len())).for_each(|(sum, row)| *sum = of_row(row));
    }

    #[cfg(not(target_feature = "simd128"))]
    #[inline(always)]
    fn sums4(&self, rows: &[u8], sums: &mut [i32]) {
        let (low, high) = self.integers.split_at(self.num_low);
        for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(low.len())) {
            *sum = dot4(low, high, row);
        }
    }
}

/// Exact: `Query::new` keeps the sums in range. Wrapping, so that it vectorises with overflow checks too.
#[inline(always)]
fn add_product(sum: i32, a: i32, b: i32) -> i32 {
    sum.wrapping_add(a.wrapping_mul(b))
}

#[cfg(not(target_feature = "simd128"))]
#[inline(always)]
fn dot8(query: &[i16], row: &[u8]) -> i32 {
    let mut lanes = [0i32; LANES];
    let (query, query_rest) = query.as_chunks::<LANES>();
    let (row, row_rest) = row.as_chunks::<LANES>();
    for (query, row) in query.iter().zip(row) {
        for lane in 0..LANES {
            lanes[lane] = add_product(lanes[lane], i32::from(query[lane]), i32::from(row[lane] as i8));
        }
    }
    lanes.iter().fold(rest8(query_rest, row_rest), |sum, lane| sum.wrapping_add(*lane))
}

/// Four rows, one behind the other, of as many numbers as the query has.
#[cfg(not(target_feature = "simd128"))]
#[inline(always)]
fn dot8_of_four(query: &[[i16; LANES]], rows: &[u8]) -> [i32; 4] {
    let query = query.as_flattened();
    std::array::from_fn(|row| dot8(query, &rows[row * query.len()..][..query.len()]))
}

/// What does not fill the lanes. Apart, since a copy of its loop wherever it is used would be most of the code there.
#[inline(never)]
fn rest8(query: &[i16], row: &[u8]) -> i32 {
    query.iter().zip(row).fold(0, |sum, (q, x)| add_product(sum, i32::from(*q), i32::from(*x as i8)))
}

#[cfg(not(target_feature = "simd128"))]
#[inline(always)]
fn dot4(low: &[i16], high: &[i16], row: &[u8]) -> i32 {
    let mut lanes = [0i32; LANES];
    let (lows, _) = low.as_chunks::<LANES>();
    let (highs, _) = high.as_chunks::<LANES>();
    let (rows, _) = row.as_chunks::<LANES>();
    // One high half less than low halves in a row of odd length: then the last low one is left over.
    for ((low, high), row) in lows.iter().zip(highs).zip(rows) {
        for lane in 0..LANES {
            let byte = row[lane] as i8;
            let sum = add_product(lanes[lane], i32::from(low[lane]), i32::from((byte << 4) >> 4));
            lanes[lane] = add_product(sum, i32::from(high[lane]), i32::from(byte >> 4));
        }
    }
    let done = highs.len().min(lows.len()) * LANES;
    lanes.iter().fold(rest4(&low[done..], &high[done..], &row[done..]), |sum, lane| sum.wrapping_add(*lane))
}

#[inline(never)]
fn rest4(low: &[i16], high: &[i16], row: &[u8]) -> i32 {
    let lows = low.iter().zip(row).map(|(q, x)| (q, ((*x << 4) as i8) >> 4));
    let highs = high.iter().zip(row).map(|(q, x)| (q, (*x as i8) >> 4));
    lows.chain(highs).fold(0, |sum, (q, x)| add_product(sum, i32::from(*q), i32::from(x)))
}

/// Whether a number of `rows` is the least that its bits can hold, -128 or -8: the one without an opposite.
#[must_use]
pub fn has_least(rows: &[u8], packing: Packing) -> bool {
    widest(
        #[inline(always)]
        || match packing {
            // 64 at a time: unoptimised code spends most of its time between the turns of a loop.
            Packing::Bytes => {
                let (blocks, rest) = rows.as_chunks::<64>();
                let has = |bytes: &[u8]| bytes.iter().fold(false, |any, byte| any | (*byte == 0x80));
                blocks.iter().fold(false, |any, block| any | has(block)) | has(rest)
            }
            Packing::Nibbles => {
                rows.iter().fold(false, |any, byte| any | (byte & 0xF == 0x8) | (byte & 0xF0 == 0x80))
            }
        },
    )
}

/// Writes the numbers of a row to `out`.
pub fn dequantise(row: &[u8], packing: Packing, out: &mut [f32]) {
    match packing {
        Packing::Bytes => out.iter_mut().zip(row).for_each(|(out, byte)| *out = f32::from(*byte as i8)),
        Packing::Nibbles => {
            for (out, byte) in out.chunks_mut(2).zip(row) {
                let halves = [((byte << 4) as i8) >> 4, (*byte as i8) >> 4];
                out.iter_mut().zip(halves).for_each(|(out, half)| *out = f32::from(half));
            }
        }
    }
}

/// Moves every number of `out` to the middle of the half of its step that its bit says, the upper one for 1: `bits` eight a byte, the
/// first in the lowest.
pub fn add_halves(bits: &[u8], out: &mut [f32]) {
    for (out, byte) in out.chunks_mut(8).zip(bits) {
        for (out, four) in out.chunks_mut(4).zip([byte & 0xF, byte >> 4]) {
            let halves = &HALVES[usize::from(four)];
            match out.as_mut_array::<4>() {
                Some(out) => *out = std::array::from_fn(|at| out[at] + halves[at]),
                None => out.iter_mut().zip(halves).for_each(|(out, half)| *out += half),
            }
        }
    }
}

/// Of four bits, the first the lowest.
const HALVES: [[f32; 4]; 16] = {
    let mut halves = [[-0.25; 4]; 16];
    let mut at = 0;
    while at < 64 {
        if ((at / 4) >> (at % 4)) & 1 == 1 {
            halves[at / 4][at % 4] = 0.25;
        }
        at += 1;
    }
    halves
};

/// Dot product of two rows of one length and packing; the unused half of an odd row is 0. Exact for up to 100,000
/// numbers.
#[must_use]
#[inline(never)]
pub fn integer_dot(a: &[u8], b: &[u8], packing: Packing) -> i32 {
    widest(
        #[inline(always)]
        || match packing {
            Packing::Bytes => dot_of_bytes(a, b),
            Packing::Nibbles => dot_of_nibbles(a, b),
        },
    )
}

/// Cosines of a row with others: of dot products and the norms of both; 0 where one of the two is all zeros.
#[must_use]
pub fn cosines(dots: &[i32], norms: &[f32], norm: f32) -> Vec<f32> {
    dots.iter().zip(norms).map(|(dot, other)| cosine(*dot, norm * other)).collect()
}

/// The cosine of a dot product and the product of both norms; 0 where that is 0.
#[must_use]
#[inline]
pub fn cosine(dot: i32, norms: f32) -> f32 {
    if norms > 0.0 { (dot as f32 / norms).clamp(-1.0, 1.0) } else { 0.0 }
}

#[cfg(not(target_feature = "simd128"))]
#[inline(always)]
fn dot_of_bytes(a: &[u8], b: &[u8]) -> i32 {
    a.iter().zip(b).fold(0, |sum, (a, b)| add_product(sum, i32::from(*a as i8), i32::from(*b as i8)))
}

#[inline(always)]
fn dot_of_nibbles(a: &[u8], b: &[u8]) -> i32 {
    let halves = |byte: u8| (i32::from(((byte << 4) as i8) >> 4), i32::from((byte as i8) >> 4));
    a.iter().zip(b).fold(0, |sum, (a, b)| {
        let ((a_low, a_high), (b_low, b_high)) = (halves(*a), halves(*b));
        add_product(add_product(sum, a_low, b_low), a_high, b_high)
    })
}

#[cfg(all(target_feature = "simd128", feature = "relaxed"))]
pub(crate) use wasm::totals;
#[cfg(target_feature = "simd128")]
use wasm::{dot_of_bytes, dot8, dot8_of_four};

/// The compiler does not find `i32x4.dot_i16x8_s` by itself.
#[cfg(target_feature = "simd128")]
mod wasm {
    use core::arch::wasm32::{
        i16x8_load_extend_i8x8, i16x8_shl, i16x8_shr, i32x4_add, i32x4_dot_i16x8, i32x4_extract_lane,
        i32x4_shuffle, i32x4_splat, v128, v128_load, v128_store,
    };

    use super::{LANES, Quarters, add_product, rest8};

    /// Sixteen integers of 16 bits.
    type Pair = [v128; 2];

    #[inline(always)]
    fn integers(query: &[i16; LANES]) -> Pair {
        let at = query.as_ptr().cast::<v128>();
        // SAFETY: sixteen integers of 16 bits are two vectors, and no load needs alignment.
        unsafe { [v128_load(at), v128_load(at.add(1))] }
    }

    /// Sixteen bytes, each as 16 bits. Loading them so takes less than loading them first.
    #[inline(always)]
    fn extended(row: &[u8; LANES]) -> Pair {
        let at = row.as_ptr().cast::<i8>();
        // SAFETY: sixteen bytes are twice eight, and no load needs alignment.
        unsafe { [i16x8_load_extend_i8x8(at), i16x8_load_extend_i8x8(at.add(8))] }
    }

    #[inline(always)]
    fn multiply(sum: v128, a: Pair, b: Pair) -> v128 {
        i32x4_add(i32x4_add(sum, i32x4_dot_i16x8(a[0], b[0])), i32x4_dot_i16x8(a[1], b[1]))
    }

    #[inline(always)]
    fn total(sum: v128) -> i32 {
        let sum = i32x4_add(sum, i32x4_shuffle::<2, 3, 0, 1>(sum, sum));
        i32x4_extract_lane::<0>(sum).wrapping_add(i32x4_extract_lane::<1>(sum))
    }

    #[inline(always)]
    pub(super) fn dot_of_bytes(a: &[u8], b: &[u8]) -> i32 {
        let (a_chunks, a_rest) = a.as_chunks::<LANES>();
        let (b_chunks, b_rest) = b.as_chunks::<LANES>();
        let mut sum = i32x4_splat(0);
        for (a, b) in a_chunks.iter().zip(b_chunks) {
            sum = multiply(sum, extended(a), extended(b));
        }
        let rest = a_rest.iter().zip(b_rest);
        let rest = rest.fold(0, |sum, (a, b)| add_product(sum, i32::from(*a as i8), i32::from(*b as i8)));
        total(sum).wrapping_add(rest)
    }

    #[inline(always)]
    pub(super) fn dot8(query: &[i16], row: &[u8]) -> i32 {
        let (query, query_rest) = query.as_chunks::<LANES>();
        let (row, row_rest) = row.as_chunks::<LANES>();
        let products = query.iter().zip(row);
        let sum = products.fold(i32x4_splat(0), |sum, (q, x)| multiply(sum, integers(q), extended(x)));
        total(sum).wrapping_add(rest8(query_rest, row_rest))
    }

    #[inline(always)]
    pub(super) fn dot8_of_four(query: &[[i16; LANES]], rows: &[u8]) -> [i32; 4] {
        let chunks = &rows.as_chunks::<LANES>().0[..4 * query.len()];
        let mut sums = [i32x4_splat(0); 4];
        for (at, q) in query.iter().enumerate() {
            let q = integers(q);
            for (row, sum) in sums.iter_mut().enumerate() {
                // SAFETY: there are four times as many chunks as the query has.
                let chunk = unsafe { chunks.get_unchecked(row * query.len() + at) };
                *sum = multiply(*sum, q, extended(chunk));
            }
        }
        let mut out = [0; 4];
        // SAFETY: four integers are one vector, and no store needs alignment.
        unsafe { v128_store(out.as_mut_ptr().cast(), totals(sums)) };
        out
    }

    /// The sums of the parts of four vectors.
    #[inline(always)]
    pub(crate) fn totals([a, b, c, d]: [v128; 4]) -> v128 {
        let ab = i32x4_add(i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<2, 6, 3, 7>(a, b));
        let cd = i32x4_add(i32x4_shuffle::<0, 4, 1, 5>(c, d), i32x4_shuffle::<2, 6, 3, 7>(c, d));
        i32x4_add(i32x4_shuffle::<0, 1, 4, 5>(ab, cd), i32x4_shuffle::<2, 3, 6, 7>(ab, cd))
    }

    /// Sum of products over whole chunks.
    #[inline(always)]
    pub(super) fn dot_quarters(query: &[Quarters], row: &[u8]) -> i32 {
        total(sum_of_quarters(query, row.as_chunks().0))
    }

    /// The same of four rows, one behind the other, that are whole chunks.
    #[inline(always)]
    pub(super) fn dot_quarters_of_four(query: &[Quarters], rows: &[u8]) -> [i32; 4] {
        let rows = &rows.as_chunks().0[..4 * query.len()];
        let sums = [0, 1, 2, 3].map(|row| sum_of_quarters(query, &rows[row * query.len()..][..query.len()]));
        let mut out = [0; 4];
        // SAFETY: four integers are one vector, and no store needs alignment.
        unsafe { v128_store(out.as_mut_ptr().cast(), totals(sums)) };
        out
    }

    #[inline(always)]
    fn sum_of_quarters(query: &[Quarters], row: &[[u8; LANES]]) -> v128 {
        query.iter().zip(row).fold(i32x4_splat(0), |sum, (query, row)| {
            // SAFETY: sixteen bytes are one vector, and no load needs alignment.
            let row = unsafe { v128_load(row.as_ptr().cast()) };
            let quarters = [i16x8_shl(row, 12), i16x8_shl(row, 8), i16x8_shl(row, 4), row];
            quarters.into_iter().zip(query).fold(sum, |sum, (quarter, query)| {
                // SAFETY: eight integers of 16 bits are one vector, and no load needs alignment.
                let query = unsafe { v128_load(query.as_ptr().cast()) };
                i32x4_add(sum, i32x4_dot_i16x8(i16x8_shr(quarter, 12), query))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize, seed: usize) -> Vec<u8> {
        (0..len).map(|i| ((i * 37 + seed * 101) % 255) as u8).map(|byte| byte.max(1)).collect()
    }

    fn numbers(row: &[u8], packing: Packing) -> Vec<i32> {
        let of = |byte: &u8| match packing {
            Packing::Bytes => vec![i32::from(*byte as i8)],
            Packing::Nibbles => vec![i32::from(((byte << 4) as i8) >> 4), i32::from((*byte as i8) >> 4)],
        };
        row.iter().flat_map(of).collect()
    }

    #[test]
    fn the_number_without_an_opposite_is_found_wherever_it_is() {
        for len in [0, 1, 63, 64, 65, 200] {
            let mut rows = vec![0x7F; len];
            assert!(!has_least(&rows, Packing::Bytes), "{len}");
            for at in 0..len {
                rows[at] = 0x80;
                assert!(has_least(&rows, Packing::Bytes), "{at} of {len}");
                rows[at] = 0x81;
            }
        }
    }

    #[test]
    fn sums_are_those_of_the_numbers_one_by_one() {
        for (packing, widths) in
            [(Packing::Bytes, [1, 15, 16, 33, 64]), (Packing::Nibbles, [1, 7, 16, 33, 40])]
        {
            for width in widths {
                let rows: Vec<Vec<u8>> = (0..7).map(|row| bytes(width, row)).collect();
                let dim = numbers(&rows[0], packing).len();
                // Whole numbers whose largest is what a query is rounded to stay as they are.
                let query: Vec<f32> =
                    (0..dim).map(|i| if i == 0 { 8191.0 } else { (i * 91 % 3000) as f32 }).collect();
                let prepared = Query::new(&query, packing);
                let mut sums = vec![0; rows.len()];
                prepared.sums(&rows.concat(), &mut sums);
                for (row, sum) in rows.iter().zip(sums) {
                    let found = numbers(row, packing);
                    let expected: i32 = query.iter().zip(&found).map(|(q, x)| *q as i32 * x).sum();
                    assert_eq!(sum, expected, "{packing:?} {width}");
                    let other = numbers(&rows[0], packing);
                    let expected: i32 = other.iter().zip(&found).map(|(a, b)| a * b).sum();
                    assert_eq!(integer_dot(&rows[0], row, packing), expected);
                    let mut sum = [0];
                    Query::of_row(&rows[0], packing).sums(row, &mut sum);
                    assert_eq!(sum, [expected]);
                }
            }
        }
    }
}
