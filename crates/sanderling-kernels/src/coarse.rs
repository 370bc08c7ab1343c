//! Upper bounds of scores, from a query of five bits: a scan for the best rows multiplies exactly only where a bound says that
//! a row may be among them. In builds with relaxed SIMD, whose instruction multiplies sixteen bytes by numbers of up to 7 bits.

use crate::columns::half;
use crate::math::dot;
use crate::scan::{Packing, Query, integer_dot};

/// Whether bounds take less than exact sums: in tests they are used nevertheless.
pub(crate) const IS_FASTER: bool = cfg!(any(test, all(target_feature = "simd128", feature = "relaxed")));
/// Bytes that are multiplied at once.
const LANES: usize = 16;
/// Rows that share a bound of their lengths, as many as a word of a mask has bits.
pub(crate) const BLOCK: usize = 64;
/// A whole number of the query is about this many times that of its five bits; the largest becomes 15.
const STEP: i32 = 529;
/// Added to the numbers of five bits, which are multiplied without a sign then.
const OFFSET: i32 = 15;
/// As many sums of two products as 16 bits hold together: 2 · 30 · 128 · 4 < 2^15.
#[cfg(all(target_feature = "simd128", feature = "relaxed", not(feature = "quads")))]
const MOST_ADDED: usize = 4;
/// Chunks of the rows that are bounded: a loop of a length that the compiler knows takes a sixth less.
const WIDTHS: [usize; 3] = [2, 4, 8];
/// What roundings of f32 may add to a score or take from a bound, as a share of the longest row's largest score; they are less than a tenth of it.
const ROUNDING: f32 = 1e-5;

/// Of larger scales a score could overflow before its row's scale makes it smaller.
const LARGEST_SCALE: f32 = 1e30;

/// What bounds are made of, once for all queries.
#[derive(Debug, Clone)]
pub struct Outline {
    /// Sum of each row's whole numbers.
    sums: Vec<i32>,
    /// Of each block the Euclidean norm of its longest row.
    longest: Vec<f32>,
}

impl Outline {
    /// Of rows of whole numbers of 8 bits, and the [`half`]s that they are scaled by. `None` for rows of 4 bits or of
    /// other than 32, 64 or 128 numbers, and in builds that multiply exactly as fast.
    #[must_use]
    pub fn new(rows: &[u8], scales: &[[u8; 2]], packing: Packing) -> Option<Self> {
        let row_bytes = rows.len() / scales.len().max(1);
        let is_bounded = WIDTHS.iter().any(|width| width * LANES == row_bytes) && packing == Packing::Bytes;
        (is_bounded && IS_FASTER).then(|| Self::of_whole(rows, scales, row_bytes))
    }

    fn of_whole(rows: &[u8], scales: &[[u8; 2]], row_bytes: usize) -> Self {
        let mut sums = vec![0; scales.len()];
        Query::of_row(&vec![1; row_bytes], Packing::Bytes).sums(rows, &mut sums);
        let norm = |row: &[u8]| (integer_dot(row, row, Packing::Bytes) as f32).sqrt();
        let blocks = rows.chunks(BLOCK * row_bytes).zip(scales.chunks(BLOCK));
        let longest = blocks.map(|(rows, scales)| {
            let norms = rows.chunks_exact(row_bytes).map(norm);
            let lengths = norms.zip(scales).map(|(norm, scale)| norm * half(*scale));
            lengths.fold(0.0, |most, length| if length > most { length } else { most })
        });
        Self { longest: longest.collect(), sums }
    }
}

/// A query of five bits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CoarseQuery {
    scale: f32,
    /// From 0 to 30.
    digits: Vec<u8>,
    /// Norms of the query, in its whole numbers, and of what the digits leave of it.
    norm: f32,
    rest_norm: f32,
}

impl CoarseQuery {
    /// Of a query's whole numbers and their scale.
    pub(crate) fn new(integers: &[i16], scale: f32) -> Self {
        let nearest = |integer: i16| (i32::from(integer) + STEP / 2).div_euclid(STEP);
        let mut numbers: Vec<f32> = integers.iter().map(|integer| f32::from(*integer)).collect();
        let norm = dot(&numbers, &numbers).sqrt();
        let rests = integers.iter().map(|integer| i32::from(*integer) - STEP * nearest(*integer));
        numbers.iter_mut().zip(rests).for_each(|(number, rest)| *number = rest as f32);
        Self {
            scale,
            digits: integers.iter().map(|integer| (nearest(*integer) + OFFSET) as u8).collect(),
            norm,
            rest_norm: dot(&numbers, &numbers).sqrt(),
        }
    }

    /// Which rows of a block may have a score over `floor`: a bit each, the first in the lowest. By Cauchy and Schwarz what
    /// the digits leave of the query adds at most the product of its norm and the row's. `None` where that is no bound: without a floor,
    /// and for a query that is all zeros, enormous or not finite.
    pub(crate) fn rows_above(
        &self,
        floor: f32,
        outline: &Outline,
        block: usize,
        rows: &[u8],
        scales: &[[u8; 2]; BLOCK],
    ) -> Option<u64> {
        let slack = (self.rest_norm + ROUNDING * self.norm) * outline.longest[block];
        // In units of digits times the scale of a row.
        let least = (floor / self.scale - slack) / STEP as f32;
        let is_bound = least.is_finite() && self.scale < LARGEST_SCALE;
        let sums = outline.sums[block * BLOCK..].first_chunk().filter(|_| is_bound)?;
        Some(rows_above(self.digits.as_chunks().0, rows.as_chunks().0, sums, scales, least))
    }
}

#[cfg(all(target_feature = "simd128", feature = "relaxed"))]
use wasm::rows_above;

/// The same, one by one.
#[cfg(not(all(target_feature = "simd128", feature = "relaxed")))]
fn rows_above(
    digits: &[[u8; LANES]],
    rows: &[[u8; LANES]],
    sums: &[i32; BLOCK],
    scales: &[[u8; 2]; BLOCK],
    least: f32,
) -> u64 {
    let rows = rows.chunks_exact(digits.len()).zip(sums).zip(scales);
    let above = rows.map(|((row, sum), scale)| {
        let products = row.as_flattened().iter().zip(digits.as_flattened());
        let product: i32 = products.map(|(x, digit)| i32::from(*x as i8) * i32::from(*digit)).sum();
        (product - OFFSET * sum) as f32 * half(*scale) > least
    });
    above.enumerate().fold(0, |rows, (row, above)| rows | u64::from(above) << row)
}

#[cfg(all(target_feature = "simd128", feature = "relaxed"))]
mod wasm {
    use core::arch::wasm32::{
        f32x4_convert_i32x4, f32x4_gt, f32x4_mul, f32x4_splat, i32x4_bitmask, i32x4_load_extend_u16x4,
        i32x4_mul, i32x4_shl, i32x4_splat, i32x4_sub, v128, v128_load,
    };

    #[cfg(not(feature = "quads"))]
    use super::MOST_ADDED;
    use super::{BLOCK, LANES, OFFSET};
    use crate::scan::totals;

    #[inline(always)]
    pub(super) fn rows_above(
        digits: &[[u8; LANES]],
        rows: &[[u8; LANES]],
        sums: &[i32; BLOCK],
        scales: &[[u8; 2]; BLOCK],
        least: f32,
    ) -> u64 {
        let rows = |width: usize| rows[..BLOCK * width].as_ptr();
        // SAFETY: this build runs only where relaxed SIMD does, and there are as many chunks as the query has for every row.
        unsafe {
            if let Some(digits) = digits.as_array::<2>() {
                relaxed_rows_above(digits, rows(2), sums, scales, least)
            } else if let Some(digits) = digits.as_array::<4>() {
                relaxed_rows_above(digits, rows(4), sums, scales, least)
            } else if let Some(digits) = digits.as_array::<8>() {
                relaxed_rows_above(digits, rows(8), sums, scales, least)
            } else {
                u64::MAX
            }
        }
    }

    #[inline]
    #[target_feature(enable = "relaxed-simd")]
    unsafe fn relaxed_rows_above<const WIDTH: usize>(
        digits: &[[u8; LANES]; WIDTH],
        rows: *const [u8; LANES],
        sums: &[i32; BLOCK],
        scales: &[[u8; 2]; BLOCK],
        least: f32,
    ) -> u64 {
        let (least, offset) = (f32x4_splat(least), i32x4_splat(OFFSET));
        let mut above = 0;
        for four in 0..BLOCK / 4 {
            // SAFETY: the caller's; no load needs alignment.
            unsafe {
                let row = |row: usize| sum_of_products(digits, rows.add((4 * four + row) * WIDTH));
                let products = totals([row(0), row(1), row(2), row(3)]);
                let sums = v128_load(sums.as_ptr().add(4 * four).cast());
                let scales = i32x4_shl(i32x4_load_extend_u16x4(scales.as_ptr().add(4 * four).cast()), 16);
                let products = i32x4_sub(products, i32x4_mul(sums, offset));
                let scores = f32x4_mul(f32x4_convert_i32x4(products), scales);
                above |= u64::from(i32x4_bitmask(f32x4_gt(scores, least))) << (4 * four);
            }
        }
        above
    }

    /// Products of the digits with a row, added up in four parts.
    #[cfg(feature = "quads")]
    #[inline]
    #[target_feature(enable = "relaxed-simd")]
    unsafe fn sum_of_products<const WIDTH: usize>(
        digits: &[[u8; LANES]; WIDTH],
        row: *const [u8; LANES],
    ) -> v128 {
        use core::arch::wasm32::{i32x4_relaxed_dot_i8x16_i7x16_add, i32x4_splat};

        digits.iter().enumerate().fold(i32x4_splat(0), |sum, (at, digits)| {
            // SAFETY: the caller's.
            let (row, digits) = unsafe { (v128_load(row.add(at).cast()), v128_load(digits.as_ptr().cast())) };
            i32x4_relaxed_dot_i8x16_i7x16_add(row, digits, sum)
        })
    }

    /// The same with twos of products in 16 bits first.
    #[cfg(not(feature = "quads"))]
    #[inline]
    #[target_feature(enable = "relaxed-simd")]
    unsafe fn sum_of_products<const WIDTH: usize>(
        digits: &[[u8; LANES]; WIDTH],
        row: *const [u8; LANES],
    ) -> v128 {
        use core::arch::wasm32::{
            i16x8_add, i16x8_relaxed_dot_i8x16_i7x16, i32x4_add, i32x4_extadd_pairwise_i16x8,
        };

        let twos: [v128; WIDTH] = std::array::from_fn(|at| {
            // SAFETY: the caller's.
            let (row, digits) =
                unsafe { (v128_load(row.add(at).cast()), v128_load(digits[at].as_ptr().cast())) };
            i16x8_relaxed_dot_i8x16_i7x16(row, digits)
        });
        let fours = twos.chunks(MOST_ADDED).map(|twos| {
            let sum = twos.iter().copied().reduce(|a, b| i16x8_add(a, b));
            sum.map_or(twos[0], |sum| i32x4_extadd_pairwise_i16x8(sum))
        });
        fours.reduce(|a, b| i32x4_add(a, b)).unwrap_or(twos[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers(u32);

    impl Numbers {
        /// Of -1 to 1, in the middle more often.
        fn next(&mut self) -> f32 {
            let mut one = || {
                self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
            };
            (one() + one() + one()) / 3.0
        }
    }

    /// Rows and scales; of every third row there are copies, and every fiftieth is all zeros.
    fn table(num_rows: usize, dim: usize, numbers: &mut Numbers) -> (Vec<u8>, Vec<[u8; 2]>) {
        let mut rows: Vec<u8> = Vec::new();
        let mut scales: Vec<[u8; 2]> = Vec::new();
        for row in 0..num_rows {
            if row % 3 == 2 {
                rows.extend_from_within((row - 2) * dim..(row - 1) * dim);
                scales.push(scales[row - 2]);
                continue;
            }
            rows.extend((0..dim).map(|_| (127.0 * numbers.next()) as i8 as u8));
            let scale = if row % 50 == 0 { 0.0f32 } else { 0.01 * (1.5 + numbers.next()) };
            scales.push(crate::columns::half_not_under(scale));
        }
        (rows, scales)
    }

    #[test]
    fn a_scan_with_bounds_finds_what_one_without_them_does() {
        let mut numbers = Numbers(7);
        for (num_rows, dim) in [(1000, 64), (999, 32), (700, 128), (64, 64), (63, 64)] {
            let (rows, scales) = table(num_rows, dim, &mut numbers);
            let outline = Outline::new(&rows, &scales, Packing::Bytes).expect("a usual width");
            let mut allowed: Vec<u64> = vec![u64::MAX; num_rows.div_ceil(64)];
            for _ in 0..4 {
                let mut query: Vec<f32> = (0..dim).map(|_| numbers.next()).collect();
                for kind in 0..7 {
                    match kind {
                        1 => query.iter_mut().for_each(|x| *x = x.signum()),
                        2 => query.iter_mut().for_each(|x| *x *= 1e-38),
                        3 => query.iter_mut().for_each(|x| *x *= 1e38),
                        4 => query.fill(1e36),
                        5 => query.fill(0.0),
                        6 => query[0] = f32::NAN,
                        _ => {}
                    }
                    let query = Query::new(&query, Packing::Bytes);
                    for k in [0, 1, 20, 100] {
                        let found = |outline| {
                            let mut top = crate::Top::new(k, num_rows);
                            query.scan(&rows, &scales, outline, &allowed, &mut top);
                            let bits = |(row, score): (u32, f32)| (row, score.to_bits());
                            top.into_sorted().into_iter().map(bits).collect::<Vec<_>>()
                        };
                        assert_eq!(found(Some(&outline)), found(None), "{num_rows} {dim} {kind} {k}");
                    }
                }
                allowed.iter_mut().for_each(|word| *word ^= 0x1248_0F0F_7777_0001);
            }
        }
    }

    #[test]
    fn a_score_that_overflows_is_found() {
        let rows = [[1; 64 * 64], [127; 64 * 64]].concat();
        let scales = [[1.0f32; 64], [1e-6; 64]].concat();
        let scales: Vec<[u8; 2]> = scales.into_iter().map(crate::columns::half_not_under).collect();
        let outline = Outline::new(&rows, &scales, Packing::Bytes);
        let query = Query::new(&[1e36; 64], Packing::Bytes);
        for outline in [outline.as_ref(), None] {
            let mut top = crate::Top::new(1, 128);
            query.scan(&rows, &scales, outline, &[u64::MAX; 2], &mut top);
            assert_eq!(top.into_sorted(), [(64, f32::INFINITY)]);
        }
    }

    #[test]
    fn most_rows_are_out_of_reach() {
        let mut numbers = Numbers(3);
        let (num_rows, dim) = (64 * 200, 64);
        let (rows, scales) = table(num_rows, dim, &mut numbers);
        let outline = Outline::new(&rows, &scales, Packing::Bytes).expect("a usual width");
        let query: Vec<f32> = (0..dim).map(|_| numbers.next()).collect();
        let query = Query::new(&query, Packing::Bytes);
        let mut scores = vec![0.0; num_rows];
        query.scores(&rows, &scales, &mut scores);
        let mut sorted = scores.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        let (floor, coarse) = (sorted[100], query.coarse());
        let mut num_above = 0;
        for (block, rows) in rows.chunks(BLOCK * dim).enumerate() {
            let scales = scales[block * BLOCK..].first_chunk().expect("whole blocks");
            let above = coarse.rows_above(floor, &outline, block, rows, scales).expect("a floor");
            num_above += above.count_ones();
            for row in 0..BLOCK {
                assert!(scores[block * BLOCK + row] <= floor || above >> row & 1 == 1, "{block} {row}");
            }
        }
        assert!(num_above < 400, "{num_above} of {num_rows} rows for 100 that are above");
        assert_eq!(
            coarse.rows_above(f32::NAN, &outline, 0, &rows[..BLOCK * dim], scales.first_chunk().unwrap()),
            None
        );
    }

    #[test]
    fn rows_of_other_widths_and_packings_have_no_bounds() {
        assert!(Outline::new(&[0; 64], &[[0; 2]; 4], Packing::Bytes).is_none());
        assert!(Outline::new(&[0; 256], &[[0; 2]; 4], Packing::Nibbles).is_none());
        assert!(Outline::new(&[], &[], Packing::Bytes).is_none());
    }
}
