//! Products with a constant matrix of few bits, in whole numbers.

use core::mem::MaybeUninit;

use crate::LARGEST;
use crate::math::{largest_magnitude, round_to_integers};
use crate::simd::widest;

/// Columns that are computed together: two vectors of four in wasm.
const PANEL: usize = 8;
/// Rows that are computed together, so that a loaded weight is used as often.
const TILE: usize = 4;

/// How fine the whole numbers of a matrix are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightBits {
    /// -127 to 127.
    Eight,
    /// -1023 to 1023: as many as leave the sum of products with [`RoundedRows`] of 256 numbers exact.
    Eleven,
}

impl WeightBits {
    /// The largest magnitude.
    #[must_use]
    pub const fn largest(self) -> i16 {
        match self {
            Self::Eight => 127,
            Self::Eleven => 1023,
        }
    }
}

/// Rows rounded to whole numbers, 8,191 of them to the largest element of a row: a sixtieth of what rounding a
/// matrix to 8 bits costs, an eighth of what 11 bits do. Made by [`RoundedLinear::round`].
#[derive(Debug, Clone, PartialEq)]
pub struct RoundedRows {
    /// Words of a row.
    width: usize,
    /// The words of rows as the kernel of the matrix wants them: of [`TILE`] rows the first words, then the second ones, and so on, since
    /// one vector has what the rows of a tile are multiplied with; of rows that fill no tile row by row.
    words: Vec<Word>,
    /// `[rows]`.
    scales: Vec<f32>,
}

/// Two numbers of 16 bits, or digits of four.
type Word = [u8; 4];

impl RoundedRows {
    fn num_rows(&self) -> usize {
        self.scales.len()
    }

    /// Rows that are in tiles.
    fn num_tiled(&self) -> usize {
        self.num_rows() / TILE * TILE
    }

    fn words(&self, first: usize, rows: usize) -> &[Word] {
        &self.words[first * self.width..][..rows * self.width]
    }
}

/// `y = x weight + bias`, the weights whole numbers with one scale a column. Sums are exact, so every order of summing
/// gives the same.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundedLinear {
    inputs: usize,
    outputs: usize,
    bits: WeightBits,
    weights: Weights,
    /// `[panels, 8]`.
    scales: Vec<[f32; PANEL]>,
    /// `[panels, 8]`.
    bias: Vec<[f32; PANEL]>,
}

/// `[panels, parts]`: for each of eight columns the weights of the inputs of a part, zeros behind the last column and the
/// last input.
#[derive(Debug, Clone, PartialEq)]
enum Weights {
    /// Parts of two inputs.
    Pairs(Vec<[i16; pairs::DEPTH * PANEL]>),
    /// Parts of four inputs, of at most 8 bits; and `[panels, 8]` what the products of each column are too large by.
    #[cfg(all(target_feature = "simd128", feature = "quads"))]
    Quads(Vec<[i8; quads::DEPTH * PANEL]>, Vec<[i32; PANEL]>),
}

impl Weights {
    fn new(inputs: usize, outputs: usize, bits: WeightBits, integers: &[i16]) -> Self {
        #[cfg(all(target_feature = "simd128", feature = "quads"))]
        if bits == WeightBits::Eight {
            let mut excess = vec![[0i32; PANEL]; outputs.div_ceil(PANEL)];
            for row in integers.chunks_exact(outputs) {
                let lanes = excess.as_flattened_mut().iter_mut().zip(row);
                lanes.for_each(|(sum, weight)| *sum += crate::DIGITS_OFFSET * i32::from(*weight));
            }
            let quads = parts(inputs, outputs, integers, |weight| weight as i8);
            return Self::Quads(quads, excess);
        }
        let _ = bits;
        Self::Pairs(parts(inputs, outputs, integers, |weight| weight))
    }

    /// Inputs of a part.
    fn depth(&self) -> usize {
        match self {
            Self::Pairs(_) => pairs::DEPTH,
            #[cfg(all(target_feature = "simd128", feature = "quads"))]
            Self::Quads(..) => quads::DEPTH,
        }
    }

    /// The words of a row, as many as half its numbers.
    #[inline(always)]
    fn store(&self, integers: &[i16], out: &mut [Word]) {
        match self {
            Self::Pairs(_) => pairs::store(integers, out),
            #[cfg(all(target_feature = "simd128", feature = "quads"))]
            Self::Quads(..) => quads::store(integers, out),
        }
    }

    /// Sums of products of the rows of a tile with the columns of a panel.
    #[inline(always)]
    fn products<const ROWS: usize>(&self, tile: &[Word], panel: usize, parts: usize) -> [[i32; PANEL]; ROWS] {
        match self {
            Self::Pairs(weights) => pairs::products(tile, &weights[panel * parts..][..parts]),
            #[cfg(all(target_feature = "simd128", feature = "quads"))]
            Self::Quads(weights, excess) => {
                let sums = quads::products(tile, &weights[panel * parts..][..parts]);
                let excess = excess[panel];
                sums.map(|sums| std::array::from_fn(|lane| sums[lane].wrapping_sub(excess[lane])))
            }
        }
    }
}

/// Parts of eight columns, `WIDTH` numbers each.
fn parts<T: Copy + Default, const WIDTH: usize>(
    inputs: usize,
    outputs: usize,
    integers: &[i16],
    of: impl Fn(i16) -> T,
) -> Vec<[T; WIDTH]> {
    let depth = WIDTH / PANEL;
    let parts = inputs.div_ceil(depth);
    let mut out = vec![[T::default(); WIDTH]; outputs.div_ceil(PANEL) * parts];
    for (input, row) in integers.chunks_exact(outputs.max(1)).enumerate() {
        for (panel, columns) in row.chunks(PANEL).enumerate() {
            let part = &mut out[panel * parts + input / depth];
            for (lane, weight) in columns.iter().enumerate() {
                part[lane * depth + input % depth] = of(*weight);
            }
        }
    }
    out
}

impl RoundedLinear {
    /// `integers` `[inputs, outputs]` of `bits`; `scales` and `bias` `[outputs]`.
    ///
    /// # Panics
    /// When there are fewer integers than whole rows, or none at all.
    #[must_use]
    pub fn new(integers: &[i16], bits: WeightBits, scales: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        let inputs = integers.len() / outputs.max(1);
        let columns = |values: &[f32], panel: usize| {
            std::array::from_fn(|lane| values.get(panel * PANEL + lane).copied().unwrap_or(0.0))
        };
        let panels = 0..outputs.div_ceil(PANEL);
        Self {
            inputs,
            outputs,
            bits,
            weights: Weights::new(inputs, outputs, bits, integers),
            scales: panels.clone().map(|panel| columns(scales, panel)).collect(),
            bias: panels.map(|panel| columns(bias, panel)).collect(),
        }
    }

    /// Rounds `x` `[rows, inputs]` for this matrix and every other of as many inputs and bits. What is not finite makes its whole
    /// row not a number.
    #[must_use]
    pub fn round(&self, x: &[f32]) -> RoundedRows {
        let width = self.inputs.next_multiple_of(self.weights.depth()) / 2;
        let rows = x.len() / self.inputs.max(1);
        let mut out = RoundedRows { width, words: vec![[0; 4]; rows * width], scales: vec![0.0; rows] };
        widest(
            #[inline(always)]
            || self.round_into(x, &mut out),
        );
        out
    }

    #[inline(always)]
    fn round_into(&self, x: &[f32], out: &mut RoundedRows) {
        // The sum of all products stays under 2^31. The same for every padding.
        let largest_weight = i32::from(self.bits.largest()) + 1;
        let most = (i32::MAX / (largest_weight * self.inputs as i32)).min(LARGEST) as f32;
        let mut integers = vec![0i16; 2 * out.width];
        let rows = x.chunks_exact(self.inputs).zip(out.words.chunks_exact_mut(out.width));
        for ((x, words), scale) in rows.zip(&mut out.scales) {
            let largest = largest_magnitude(x);
            let is_zero = largest < 1e-30;
            *scale = if is_zero { 0.0 } else { largest / most };
            round_to_integers(x, if is_zero { 0.0 } else { most / largest }, &mut integers);
            self.weights.store(&integers, words);
        }
        let mut by_row = vec![[0; 4]; TILE * out.width];
        for tile in out.words.chunks_exact_mut(TILE * out.width) {
            by_row.copy_from_slice(tile);
            interleave(&by_row, tile);
        }
    }

    /// `x` `[rows, inputs]` to `[rows, outputs]`.
    #[must_use]
    pub fn run(&self, x: &[f32]) -> Vec<f32> {
        self.run_rounded(&self.round(x))
    }

    /// The same of rows that [`RoundedLinear::round`] made for a matrix of as many inputs and bits.
    #[must_use]
    pub fn run_rounded(&self, x: &RoundedRows) -> Vec<f32> {
        let mut out = Vec::new();
        self.extend(&mut out, x);
        out
    }

    /// Puts the rows behind those of `out`.
    pub fn extend(&self, out: &mut Vec<f32>, x: &RoundedRows) {
        let len = x.num_rows() * self.outputs;
        out.reserve(len);
        // Not zeroed before: that is a hundredth of an encoder's time.
        let rows = &mut out.spare_capacity_mut()[..len];
        widest(
            #[inline(always)]
            || self.tiles(x, rows),
        );
        // SAFETY: each tile has filled every column of its rows, and the tiles are all rows.
        unsafe { out.set_len(out.len() + len) };
    }

    #[inline(always)]
    fn tiles(&self, x: &RoundedRows, out: &mut [MaybeUninit<f32>]) {
        for first in (0..x.num_tiled()).step_by(TILE) {
            self.tile::<TILE>(x, first, out);
        }
        for row in x.num_tiled()..x.num_rows() {
            self.tile::<1>(x, row, out);
        }
    }

    /// Fills `ROWS` rows from `first` on.
    #[inline(always)]
    fn tile<const ROWS: usize>(&self, x: &RoundedRows, first: usize, out: &mut [MaybeUninit<f32>]) {
        let parts = self.inputs.div_ceil(self.weights.depth());
        let words = x.words(first, ROWS);
        let scales: [f32; ROWS] = std::array::from_fn(|row| x.scales[first + row]);
        let rows = &mut out[first * self.outputs..][..ROWS * self.outputs];
        for (panel, (factors, bias)) in self.scales.iter().zip(&self.bias).enumerate() {
            let sums: [_; ROWS] = self.weights.products(words, panel, parts);
            let values = |row: usize| -> [f32; PANEL] {
                std::array::from_fn(|lane| {
                    sums[row][lane] as f32 * (scales[row] * factors[lane]) + bias[lane]
                })
            };
            let from = panel * PANEL;
            // Apart, so that whole panels stay in registers.
            if from + PANEL <= self.outputs {
                for row in 0..ROWS {
                    rows[row * self.outputs + from..][..PANEL].write_copy_of_slice(&values(row));
                }
            } else {
                for row in 0..ROWS {
                    let out = &mut rows[row * self.outputs..][..self.outputs][from..];
                    out.write_copy_of_slice(&values(row)[..out.len()]);
                }
            }
        }
    }
}

/// From `[TILE, width]` to `[width, TILE]`.
#[inline(always)]
fn interleave(by_row: &[Word], out: &mut [Word]) {
    let width = by_row.len() / TILE;
    #[cfg(target_feature = "simd128")]
    let done = interleave_fours(by_row, out);
    #[cfg(not(target_feature = "simd128"))]
    let done = 0;
    for (at, words) in out.as_chunks_mut::<TILE>().0.iter_mut().enumerate().skip(done) {
        *words = std::array::from_fn(|row| by_row[row * width + at]);
    }
}

/// Four words of each row at a time; gives how many were done.
#[cfg(target_feature = "simd128")]
#[inline(always)]
fn interleave_fours(by_row: &[Word], out: &mut [Word]) -> usize {
    use core::arch::wasm32::{i32x4_shuffle as shuffle, v128, v128_load, v128_store};

    let width = by_row.len() / TILE;
    let rows: [&[[Word; 4]]; TILE] =
        std::array::from_fn(|row| by_row[row * width..][..width].as_chunks::<4>().0);
    let (outs, _) = out.as_chunks_mut::<{ 4 * TILE }>();
    for (at, out) in outs.iter_mut().enumerate() {
        // SAFETY: four words are one vector, and no load needs alignment.
        let [a, b, c, d] = rows.map(|row| unsafe { v128_load(row[at].as_ptr().cast()) });
        let (ab, cd) = (shuffle::<0, 4, 1, 5>(a, b), shuffle::<0, 4, 1, 5>(c, d));
        let (ab_high, cd_high) = (shuffle::<2, 6, 3, 7>(a, b), shuffle::<2, 6, 3, 7>(c, d));
        let turned: [v128; 4] = [
            shuffle::<0, 1, 4, 5>(ab, cd),
            shuffle::<2, 3, 6, 7>(ab, cd),
            shuffle::<0, 1, 4, 5>(ab_high, cd_high),
            shuffle::<2, 3, 6, 7>(ab_high, cd_high),
        ];
        for (out, four) in out.as_chunks_mut::<4>().0.iter_mut().zip(turned) {
            // SAFETY: four words are one vector, and no store needs alignment.
            unsafe { v128_store(out.as_mut_ptr().cast(), four) };
        }
    }
    4 * outs.len()
}

/// A word of each row of a tile, in every lane of a vector.
#[cfg(target_feature = "simd128")]
#[inline(always)]
fn splats<const ROWS: usize>(words: &[Word; ROWS]) -> [core::arch::wasm32::v128; ROWS] {
    use core::arch::wasm32::{i32x4_shuffle as shuffle, i32x4_splat, v128_load, v128_load32_splat};

    let at = words.as_ptr();
    if ROWS != TILE {
        // SAFETY: every word has four bytes, and no load needs alignment.
        return std::array::from_fn(|row| unsafe { v128_load32_splat(at.add(row).cast()) });
    }
    // SAFETY: the words of a tile are one vector, and no load needs alignment.
    let all = unsafe { v128_load(at.cast()) };
    std::array::from_fn(|row| match row {
        0 => shuffle::<0, 0, 0, 0>(all, all),
        1 => shuffle::<1, 1, 1, 1>(all, all),
        2 => shuffle::<2, 2, 2, 2>(all, all),
        3 => shuffle::<3, 3, 3, 3>(all, all),
        _ => i32x4_splat(0),
    })
}

/// Two inputs at a time, of 16 bits each.
mod pairs {
    use super::{PANEL, Word};

    pub(super) const DEPTH: usize = 2;

    /// Little-endian, as wasm and every platform that we build for have them.
    #[inline(always)]
    pub(super) fn store(integers: &[i16], out: &mut [Word]) {
        let halves = out.as_flattened_mut().as_chunks_mut::<2>().0;
        halves.iter_mut().zip(integers).for_each(|(half, integer)| *half = integer.to_le_bytes());
    }

    /// Products of the rows of a tile with the columns of a panel.
    #[cfg(not(target_feature = "simd128"))]
    #[inline(always)]
    pub(super) fn products<const ROWS: usize>(
        tile: &[Word],
        weights: &[[i16; DEPTH * PANEL]],
    ) -> [[i32; PANEL]; ROWS] {
        let mut sums = [[0i32; PANEL]; ROWS];
        for (words, weights) in tile.as_chunks::<ROWS>().0.iter().zip(weights) {
            let weights = weights.map(i32::from);
            for (sums, [a0, a1, b0, b1]) in sums.iter_mut().zip(words) {
                let [a, b] = [[*a0, *a1], [*b0, *b1]].map(|x| i32::from(i16::from_le_bytes(x)));
                for lane in 0..PANEL {
                    let products =
                        a.wrapping_mul(weights[2 * lane]).wrapping_add(b.wrapping_mul(weights[2 * lane + 1]));
                    sums[lane] = sums[lane].wrapping_add(products);
                }
            }
        }
        sums
    }

    /// The compiler does not find `i32x4.dot_i16x8_s` by itself.
    #[cfg(target_feature = "simd128")]
    #[inline(always)]
    pub(super) fn products<const ROWS: usize>(
        tile: &[Word],
        weights: &[[i16; DEPTH * PANEL]],
    ) -> [[i32; PANEL]; ROWS] {
        use core::arch::wasm32::{i32x4_add, i32x4_dot_i16x8, i32x4_splat, v128, v128_load};

        let mut sums = [[i32x4_splat(0); 2]; ROWS];
        for (words, weights) in tile.as_chunks::<ROWS>().0.iter().zip(weights) {
            let weights = weights.as_ptr().cast::<v128>();
            // SAFETY: sixteen numbers of 16 bits are two vectors, and no load needs alignment.
            let (low, high) = unsafe { (v128_load(weights), v128_load(weights.add(1))) };
            for (sums, value) in sums.iter_mut().zip(super::splats(words)) {
                sums[0] = i32x4_add(sums[0], i32x4_dot_i16x8(value, low));
                sums[1] = i32x4_add(sums[1], i32x4_dot_i16x8(value, high));
            }
        }
        // SAFETY: two vectors are eight numbers, and any bits are numbers.
        sums.map(|sums| unsafe { core::mem::transmute::<[v128; 2], [i32; PANEL]>(sums) })
    }
}

/// Four inputs at a time, in two digits of 7 bits: the same sums with instructions that multiply bytes.
#[cfg(all(target_feature = "simd128", feature = "quads"))]
mod quads {
    use core::arch::wasm32::{i32x4_relaxed_dot_i8x16_i7x16_add, i32x4_shl, i32x4_splat, v128, v128_load};

    use super::{PANEL, Word};
    use crate::digits;

    pub(super) const DEPTH: usize = 4;

    /// The high digits of all numbers, then their low ones.
    #[inline(always)]
    pub(super) fn store(integers: &[i16], out: &mut [Word]) {
        let (high, low) = out.as_flattened_mut().split_at_mut(integers.len());
        digits::split(integers, high, low);
    }

    #[inline(always)]
    pub(super) fn products<const ROWS: usize>(
        tile: &[Word],
        weights: &[[i8; DEPTH * PANEL]],
    ) -> [[i32; PANEL]; ROWS] {
        // This build runs only where relaxed SIMD does.
        relaxed_products(tile, weights)
    }

    #[inline]
    #[target_feature(enable = "relaxed-simd")]
    fn relaxed_products<const ROWS: usize>(
        tile: &[Word],
        weights: &[[i8; DEPTH * PANEL]],
    ) -> [[i32; PANEL]; ROWS] {
        let mut sums = [[i32x4_splat(0); 2]; ROWS];
        let (high, low) = tile.as_chunks::<ROWS>().0.split_at(weights.len());
        // All high digits first, so that eight sums are enough.
        for (digits, shift) in [(high, digits::BITS), (low, 0)] {
            for (words, weights) in digits.iter().zip(weights) {
                let weights = weights.as_ptr().cast::<v128>();
                // SAFETY: 32 bytes are two vectors, and no load needs alignment.
                let (first, second) = unsafe { (v128_load(weights), v128_load(weights.add(1))) };
                for (sums, value) in sums.iter_mut().zip(super::splats(words)) {
                    sums[0] = i32x4_relaxed_dot_i8x16_i7x16_add(first, value, sums[0]);
                    sums[1] = i32x4_relaxed_dot_i8x16_i7x16_add(second, value, sums[1]);
                }
            }
            sums = sums.map(|sums| sums.map(|sum| i32x4_shl(sum, shift)));
        }
        // SAFETY: two vectors are eight numbers, and any bits are numbers.
        sums.map(|sums| unsafe { core::mem::transmute::<[v128; 2], [i32; PANEL]>(sums) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_rounded_numbers() {
        let sizes = [(1, 1), (7, 8), (16, 9), (5, 23), (300, 3)];
        for ((inputs, outputs), bits) in
            sizes.into_iter().flat_map(|size| [(size, WeightBits::Eight), (size, WeightBits::Eleven)])
        {
            let largest = i32::from(bits.largest());
            let integer = |i: i32| (i * 53 % (2 * largest + 1) - largest) as i16;
            let integers: Vec<i16> = (0..(inputs * outputs) as i32).map(integer).collect();
            let scales: Vec<f32> = (0..outputs).map(|i| 0.01 + i as f32 / 1000.0).collect();
            let bias: Vec<f32> = (0..outputs).map(|i| i as f32).collect();
            let linear = RoundedLinear::new(&integers, bits, &scales, &bias);
            for rows in 0..6 {
                let x: Vec<f32> = (0..rows * inputs).map(|i| (i % 13) as f32 / 7.0 - 0.8).collect();
                let found = linear.run(&x);
                assert_eq!(found.len(), rows * outputs);
                let mut behind = vec![7.0];
                linear.extend(&mut behind, &linear.round(&x));
                assert_eq!(behind, [&[7.0], &*found].concat());
                for (row, found) in x.chunks_exact(inputs).zip(found.chunks_exact(outputs)) {
                    assert_eq!(linear.run(row), found, "a row alone");
                    for (output, found) in found.iter().enumerate() {
                        let at = |input: usize| f64::from(integers[input * outputs + output]);
                        let products = row.iter().enumerate().map(|(input, x)| f64::from(*x) * at(input));
                        let scale = f64::from(scales[output]);
                        let expected = products.sum::<f64>() * scale + f64::from(bias[output]);
                        let largest = f64::from(largest) * inputs as f64 * scale;
                        assert!((f64::from(*found) - expected).abs() < 1e-4 * largest, "{found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        for inputs in [1, 2, 64, 515, 516, 4096, 65_536] {
            for (bits, weight) in [(WeightBits::Eight, -128), (WeightBits::Eleven, -1024)] {
                let linear = RoundedLinear::new(&vec![weight; inputs], bits, &[1.0], &[0.0]);
                let [found] = linear.run(&vec![-3.0; inputs])[..] else { panic!("one value") };
                let expected = -3.0 * f32::from(weight) * inputs as f32;
                // Where rows are so long, few numbers are left for an element.
                let error = if inputs > 4096 { 2e-2 } else { 1e-3 };
                assert!((found - expected).abs() < error * expected, "{inputs}: {found}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so_and_zeros_are_zeros() {
        let linear = RoundedLinear::new(&[1, 2, 3, 4], WeightBits::Eight, &[1.0, 1.0], &[0.5, 0.25]);
        assert_eq!(linear.run(&[0.0, -0.0]), [0.5, 0.25]);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(linear.run(&[1.0, bad]).iter().all(|value| value.is_nan()), "{bad}");
        }
    }
}
