//! Products with a constant matrix of few bits, in whole numbers.

use crate::LARGEST;
use crate::math::{largest_magnitude, sum_of};
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
    /// Elements of a row, with zeros behind them.
    width: usize,
    /// `[rows, width]` numbers of two bytes, as the kernel of the matrix wants them.
    integers: Vec<[u8; 2]>,
    /// `[rows]`.
    scales: Vec<f32>,
}

impl RoundedRows {
    fn num_rows(&self) -> usize {
        self.scales.len()
    }

    fn row(&self, row: usize) -> &[[u8; 2]] {
        &self.integers[row * self.width..][..self.width]
    }
}

/// The nearest whole number, ties to even; exact for magnitudes under 2^22.
#[inline(always)]
fn whole(x: f32) -> i16 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer in the low bits
    (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i16
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
    #[cfg(all(target_feature = "simd128", feature = "relaxed"))]
    Quads(Vec<[i8; quads::DEPTH * PANEL]>, Vec<[i32; PANEL]>),
}

impl Weights {
    fn new(inputs: usize, outputs: usize, bits: WeightBits, integers: &[i16]) -> Self {
        let at = |input: usize, output: usize| match input < inputs && output < outputs {
            true => integers[input * outputs + output],
            false => 0,
        };
        let panels = outputs.div_ceil(PANEL);
        #[cfg(all(target_feature = "simd128", feature = "relaxed"))]
        if bits == WeightBits::Eight {
            let excess = |panel: usize| {
                let sum =
                    |lane: usize| (0..inputs).map(|input| i32::from(at(input, panel * PANEL + lane))).sum();
                std::array::from_fn(|lane| crate::DIGITS_OFFSET.wrapping_mul(sum(lane)))
            };
            let quads = parts(inputs, panels, &|input, output| at(input, output) as i8);
            return Self::Quads(quads, (0..panels).map(excess).collect());
        }
        let _ = bits;
        Self::Pairs(parts(inputs, panels, &at))
    }

    /// Inputs of a part.
    fn depth(&self) -> usize {
        match self {
            Self::Pairs(_) => pairs::DEPTH,
            #[cfg(all(target_feature = "simd128", feature = "relaxed"))]
            Self::Quads(..) => quads::DEPTH,
        }
    }

    /// Puts the numbers of a row where products look for them.
    #[inline(always)]
    fn store(&self, integers: &[i16], out: &mut [[u8; 2]]) {
        match self {
            Self::Pairs(_) => pairs::store(integers, out),
            #[cfg(all(target_feature = "simd128", feature = "relaxed"))]
            Self::Quads(..) => quads::store(integers, out),
        }
    }

    /// Sums of products of rows with the columns of a panel.
    #[inline(always)]
    fn products<const ROWS: usize>(
        &self,
        rows: [&[[u8; 2]]; ROWS],
        panel: usize,
        parts: usize,
    ) -> [[i32; PANEL]; ROWS] {
        match self {
            Self::Pairs(weights) => pairs::products(rows, &weights[panel * parts..][..parts]),
            #[cfg(all(target_feature = "simd128", feature = "relaxed"))]
            Self::Quads(weights, excess) => {
                let sums = quads::products(rows, &weights[panel * parts..][..parts]);
                let excess = excess[panel];
                sums.map(|sums| std::array::from_fn(|lane| sums[lane].wrapping_sub(excess[lane])))
            }
        }
    }
}

/// Parts of `DEPTH` inputs of eight columns, `WIDTH` numbers each.
fn parts<T, const WIDTH: usize>(
    inputs: usize,
    panels: usize,
    at: &dyn Fn(usize, usize) -> T,
) -> Vec<[T; WIDTH]> {
    let depth = WIDTH / PANEL;
    let part = |panel: usize, part: usize| {
        std::array::from_fn(|place| at(depth * part + place % depth, panel * PANEL + place / depth))
    };
    let part = &part;
    (0..panels).flat_map(|panel| (0..inputs.div_ceil(depth)).map(move |at| part(panel, at))).collect()
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
        let depth = self.weights.depth();
        let width = self.inputs.next_multiple_of(depth);
        let rows = x.len() / self.inputs.max(1);
        let mut out = RoundedRows { width, integers: vec![[0; 2]; rows * width], scales: vec![0.0; rows] };
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
        let mut whole_row = vec![0i16; out.width];
        let rows = x.chunks_exact(self.inputs).zip(out.integers.chunks_exact_mut(out.width));
        for ((row, integers), scale) in rows.zip(&mut out.scales) {
            let largest = largest_magnitude(row);
            // Zero times what is not finite is not a number.
            let finite = sum_of(row, |x| x * 0.0);
            *scale = if largest < 1e-30 { 0.0 } else { largest / most } + finite;
            let factor = if largest < 1e-30 { 0.0 } else { most / largest };
            for (integer, x) in whole_row.iter_mut().zip(row) {
                *integer = whole(x * factor);
            }
            self.weights.store(&whole_row, integers);
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
        let mut out = vec![0.0; x.num_rows() * self.outputs];
        widest(
            #[inline(always)]
            || self.tiles(x, &mut out),
        );
        out
    }

    #[inline(always)]
    fn tiles(&self, x: &RoundedRows, out: &mut [f32]) {
        let rows = x.num_rows();
        let mut row = 0;
        while row + TILE <= rows {
            self.tile::<TILE>(x, row, out);
            row += TILE;
        }
        for row in row..rows {
            self.tile::<1>(x, row, out);
        }
    }

    /// `ROWS` rows from `first` on.
    #[inline(always)]
    fn tile<const ROWS: usize>(&self, x: &RoundedRows, first: usize, out: &mut [f32]) {
        let depth = self.weights.depth();
        let parts = self.inputs.div_ceil(depth);
        let rows: [&[[u8; 2]]; ROWS] = std::array::from_fn(|row| &x.row(first + row)[..depth * parts]);
        let scales: [f32; ROWS] = std::array::from_fn(|row| x.scales[first + row]);
        for (panel, (factors, bias)) in self.scales.iter().zip(&self.bias).enumerate() {
            let sums = self.weights.products(rows, panel, parts);
            let from = panel * PANEL;
            let width = PANEL.min(self.outputs - from);
            for row in 0..ROWS {
                let value = |lane: usize| sums[row][lane] as f32 * (scales[row] * factors[lane]) + bias[lane];
                let out = &mut out[(first + row) * self.outputs + from..][..width];
                match out.as_mut_array::<PANEL>() {
                    Some(out) => *out = std::array::from_fn(value),
                    None => out.iter_mut().enumerate().for_each(|(lane, out)| *out = value(lane)),
                }
            }
        }
    }
}

/// Two inputs at a time, of 16 bits each.
mod pairs {
    use super::PANEL;

    pub(super) const DEPTH: usize = 2;

    /// Little-endian, as wasm and every platform that we build for have them.
    #[inline(always)]
    pub(super) fn store(integers: &[i16], out: &mut [[u8; 2]]) {
        out.iter_mut().zip(integers).for_each(|(out, integer)| *out = integer.to_le_bytes());
    }

    /// Products of rows with the columns of a panel, each as long as the panel.
    #[cfg(not(target_feature = "simd128"))]
    #[inline(always)]
    pub(super) fn products<const ROWS: usize>(
        rows: [&[[u8; 2]]; ROWS],
        weights: &[[i16; DEPTH * PANEL]],
    ) -> [[i32; PANEL]; ROWS] {
        let mut sums = [[0i32; PANEL]; ROWS];
        for (pair, weights) in weights.iter().enumerate() {
            let weights = weights.map(i32::from);
            for (sums, row) in sums.iter_mut().zip(rows) {
                let [a, b] = [row[2 * pair], row[2 * pair + 1]].map(|x| i32::from(i16::from_le_bytes(x)));
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
        rows: [&[[u8; 2]]; ROWS],
        weights: &[[i16; DEPTH * PANEL]],
    ) -> [[i32; PANEL]; ROWS] {
        use core::arch::wasm32::{
            i32x4_add, i32x4_dot_i16x8, i32x4_splat, v128, v128_load, v128_load32_splat,
        };

        let rows = rows.map(|row| row[..DEPTH * weights.len()].as_ptr().cast::<u32>());
        let mut sums = [[i32x4_splat(0); 2]; ROWS];
        let mut add = |pair: usize, weights: &[i16; DEPTH * PANEL]| {
            let weights = weights.as_ptr().cast::<v128>();
            // SAFETY: sixteen numbers of 16 bits are two vectors, and no load needs alignment.
            let (low, high) = unsafe { (v128_load(weights), v128_load(weights.add(1))) };
            for (sums, row) in sums.iter_mut().zip(rows) {
                // SAFETY: every row was found to have `weights.len()` pairs.
                let value = unsafe { v128_load32_splat(row.add(pair)) };
                sums[0] = i32x4_add(sums[0], i32x4_dot_i16x8(value, low));
                sums[1] = i32x4_add(sums[1], i32x4_dot_i16x8(value, high));
            }
        };
        // Four at a time, so that addresses are computed once for all of them.
        let (fours, rest) = weights.as_chunks::<4>();
        for (four, weights) in fours.iter().enumerate() {
            add(4 * four, &weights[0]);
            add(4 * four + 1, &weights[1]);
            add(4 * four + 2, &weights[2]);
            add(4 * four + 3, &weights[3]);
        }
        for (at, weights) in rest.iter().enumerate() {
            add(4 * fours.len() + at, weights);
        }
        // SAFETY: two vectors are eight numbers, and any bits are numbers.
        sums.map(|sums| unsafe { core::mem::transmute::<[v128; 2], [i32; PANEL]>(sums) })
    }
}

/// Four inputs at a time, in two digits of 7 bits: the same sums with instructions that multiply bytes.
#[cfg(all(target_feature = "simd128", feature = "relaxed"))]
mod quads {
    use core::arch::wasm32::{
        i32x4_relaxed_dot_i8x16_i7x16_add, i32x4_shl, i32x4_splat, v128, v128_load, v128_load32_splat,
    };

    use super::PANEL;
    use crate::digits;

    pub(super) const DEPTH: usize = 4;

    /// The high digits of four numbers, then their low ones.
    #[inline(always)]
    pub(super) fn store(integers: &[i16], out: &mut [[u8; 2]]) {
        let (high, low) = out.as_flattened_mut().split_at_mut(integers.len());
        digits::split(integers, high, low);
    }

    #[inline(always)]
    pub(super) fn products<const ROWS: usize>(
        rows: [&[[u8; 2]]; ROWS],
        weights: &[[i8; DEPTH * PANEL]],
    ) -> [[i32; PANEL]; ROWS] {
        // SAFETY: this build runs only where relaxed SIMD does.
        unsafe { relaxed_products(rows, weights) }
    }

    #[inline]
    #[target_feature(enable = "relaxed-simd")]
    fn relaxed_products<const ROWS: usize>(
        rows: [&[[u8; 2]]; ROWS],
        weights: &[[i8; DEPTH * PANEL]],
    ) -> [[i32; PANEL]; ROWS] {
        let quads = weights.len();
        let rows = rows.map(|row| row[..DEPTH * quads].as_ptr().cast::<u32>());
        let mut sums = [[i32x4_splat(0); 2]; ROWS];
        // All high digits first, so that eight sums are enough.
        for digit in 0..2 {
            for (quad, weights) in weights.iter().enumerate() {
                let weights = weights.as_ptr().cast::<v128>();
                // SAFETY: 32 bytes are two vectors, and no load needs alignment.
                let (low, high) = unsafe { (v128_load(weights), v128_load(weights.add(1))) };
                for (sums, row) in sums.iter_mut().zip(rows) {
                    // SAFETY: every row was found to have twice as many quads of digits.
                    let value = unsafe { v128_load32_splat(row.add(digit * quads + quad)) };
                    sums[0] = i32x4_relaxed_dot_i8x16_i7x16_add(low, value, sums[0]);
                    sums[1] = i32x4_relaxed_dot_i8x16_i7x16_add(high, value, sums[1]);
                }
            }
            if digit == 0 {
                sums = sums.map(|sums| sums.map(|sum| i32x4_shl(sum, digits::BITS)));
            }
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
