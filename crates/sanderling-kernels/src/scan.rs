//! Products of a query with packed rows, in whole numbers: exact, so every order of summing gives the same.

use crate::simd::widest;

/// Elements that are multiplied together.
const LANES: usize = 16;

/// How whole numbers of a row are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// One a byte.
    Bytes,
    /// Two a byte, the first in the low half.
    Nibbles,
}

/// A query rounded to whole numbers, about 32,767 of them to the largest element: a hundredth of what rounding an
/// item vector to 8 bits costs.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    packing: Packing,
    scale: f32,
    /// `[dim]`; for rows of 4 bits first those of the low halves, then those of the high halves.
    integers: Vec<i16>,
    /// How many are for the low halves.
    num_low: usize,
}

impl Query {
    /// For rows of `packing` with as many numbers as `query` has. Every score of a query that is not finite is not
    /// a number.
    #[must_use]
    pub fn new(query: &[f32], packing: Packing) -> Self {
        let largest = query.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        // The sum of all products stays under 2^31.
        let most = (i32::MAX / (127 * query.len().max(1) as i32)).min(i32::from(i16::MAX)) as f32;
        let finite = query.iter().all(|x| x.is_finite());
        let scale = if finite { largest / most } else { f32::NAN };
        let whole = |x: &f32| {
            if scale >= f32::MIN_POSITIVE { (x / scale).round().clamp(-most, most) as i16 } else { 0 }
        };
        let integers: Vec<i16> = match packing {
            Packing::Bytes => query.iter().map(whole).collect(),
            Packing::Nibbles => {
                let low = query.iter().step_by(2);
                low.chain(query.iter().skip(1).step_by(2)).map(whole).collect()
            }
        };
        Self { packing, scale, integers, num_low: query.len().div_ceil(2) }
    }

    /// The score of a row by its sum and its scale.
    #[must_use]
    pub fn score(&self, sum: i32, scale: f32) -> f32 {
        sum as f32 * self.scale * scale
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
        let mut rows = rows.chunks_exact(dim);
        let mut sums = sums.chunks_exact_mut(4);
        for four in &mut sums {
            let next: [&[u8]; 4] = std::array::from_fn(|_| rows.next().unwrap_or(&[]));
            four.copy_from_slice(&dot8(&self.integers, next));
        }
        for (sum, row) in sums.into_remainder().iter_mut().zip(rows) {
            [*sum] = dot8(&self.integers, [row]);
        }
    }

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
fn dot8<const ROWS: usize>(query: &[i16], rows: [&[u8]; ROWS]) -> [i32; ROWS] {
    let of_row = |row: &[u8]| {
        let mut lanes = [0i32; LANES];
        let (query, query_rest) = query.as_chunks::<LANES>();
        let (row, row_rest) = row.as_chunks::<LANES>();
        for (query, row) in query.iter().zip(row) {
            for lane in 0..LANES {
                lanes[lane] = add_product(lanes[lane], i32::from(query[lane]), i32::from(row[lane] as i8));
            }
        }
        lanes.iter().fold(rest8(query_rest, row_rest), |sum, lane| sum.wrapping_add(*lane))
    };
    rows.map(of_row)
}

/// What does not fill the lanes.
#[inline(always)]
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

#[inline(always)]
fn rest4(low: &[i16], high: &[i16], row: &[u8]) -> i32 {
    let lows = low.iter().zip(row).map(|(q, x)| (q, ((*x << 4) as i8) >> 4));
    let highs = high.iter().zip(row).map(|(q, x)| (q, (*x as i8) >> 4));
    lows.chain(highs).fold(0, |sum, (q, x)| add_product(sum, i32::from(*q), i32::from(x)))
}

#[cfg(target_feature = "simd128")]
use wasm::{dot4, dot8};

/// The compiler does not find `i32x4.dot_i16x8_s` by itself.
#[cfg(target_feature = "simd128")]
mod wasm {
    use core::arch::wasm32::{
        i8x16_shl, i8x16_shr, i16x8_extend_high_i8x16, i16x8_extend_low_i8x16, i32x4_add, i32x4_dot_i16x8,
        i32x4_extract_lane, i32x4_shuffle, i32x4_splat, v128, v128_load,
    };

    use super::{LANES, rest4, rest8};

    #[inline(always)]
    fn integers(query: &[i16; LANES]) -> [v128; 2] {
        let at = query.as_ptr().cast::<v128>();
        // SAFETY: sixteen integers of 16 bits are two vectors, and `v128_load` needs no alignment.
        unsafe { [v128_load(at), v128_load(at.add(1))] }
    }

    #[inline(always)]
    fn bytes(row: &[u8; LANES]) -> v128 {
        // SAFETY: sixteen bytes are one vector, and `v128_load` needs no alignment.
        unsafe { v128_load(row.as_ptr().cast()) }
    }

    #[inline(always)]
    fn multiply(sum: v128, query: [v128; 2], row: v128) -> v128 {
        let low = i32x4_dot_i16x8(query[0], i16x8_extend_low_i8x16(row));
        let high = i32x4_dot_i16x8(query[1], i16x8_extend_high_i8x16(row));
        i32x4_add(sum, i32x4_add(low, high))
    }

    #[inline(always)]
    fn total(sum: v128) -> i32 {
        let sum = i32x4_add(sum, i32x4_shuffle::<2, 3, 0, 1>(sum, sum));
        i32x4_extract_lane::<0>(sum).wrapping_add(i32x4_extract_lane::<1>(sum))
    }

    #[inline(always)]
    pub(super) fn dot8<const ROWS: usize>(query: &[i16], rows: [&[u8]; ROWS]) -> [i32; ROWS] {
        let (query, query_rest) = query.as_chunks::<LANES>();
        let chunks = rows.map(|row| &row.as_chunks::<LANES>().0[..query.len()]);
        let mut sums = [i32x4_splat(0); ROWS];
        for (at, query) in query.iter().enumerate() {
            let query = integers(query);
            for (sum, chunks) in sums.iter_mut().zip(&chunks) {
                *sum = multiply(*sum, query, bytes(&chunks[at]));
            }
        }
        std::array::from_fn(|row| {
            let rest = rest8(query_rest, &rows[row][query.len() * LANES..]);
            total(sums[row]).wrapping_add(rest)
        })
    }

    #[inline(always)]
    pub(super) fn dot4(low: &[i16], high: &[i16], row: &[u8]) -> i32 {
        let (lows, highs, rows) =
            (low.as_chunks::<LANES>().0, high.as_chunks::<LANES>().0, row.as_chunks::<LANES>().0);
        let mut sum = i32x4_splat(0);
        for ((low, high), row) in lows.iter().zip(highs).zip(rows) {
            let row = bytes(row);
            sum = multiply(sum, integers(low), i8x16_shr(i8x16_shl(row, 4), 4));
            sum = multiply(sum, integers(high), i8x16_shr(row, 4));
        }
        let done = highs.len().min(lows.len()) * LANES;
        total(sum).wrapping_add(rest4(&low[done..], &high[done..], &row[done..]))
    }
}
