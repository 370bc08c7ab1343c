//! Vectors.

use crate::simd::widest;

/// Lanes of a partial sum: one order on every machine, whatever the width of its vectors.
const LANES: usize = 8;

/// 1.5 * 2^23: adding it rounds to an integer in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0;

/// The exponential function with its constants as values that the compiler does not know. Engines build a vector that is a constant of the
/// module anew wherever it is used, in every turn of a loop, which was more than half of the work; others are kept in registers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Exp {
    ends: [f32; 2],
    log2_e: f32,
    round: f32,
    /// ln 2 in two parts.
    ln_2: [f32; 2],
    coefficients: [f32; 5],
    one: f32,
}

impl Exp {
    const KNOWN: Self = Self {
        ends: [-87.0, 88.0],
        log2_e: std::f32::consts::LOG2_E,
        round: ROUND,
        ln_2: [0.693_359_4, -2.121_944_4e-4],
        coefficients: [1.388_888_9e-3, 8.333_334e-3, 4.166_666_6e-2, 0.166_666_67, 0.5],
        one: 1.0,
    };

    /// Once for a loop.
    #[inline(always)]
    pub(super) fn new() -> Self {
        std::hint::black_box(Self::KNOWN)
    }

    /// `e^x` to about 2 units in the last place (Cody-Waite reduction, degree-6 polynomial), for `x` from -87 to 88 and
    /// the values at these ends beyond.
    #[inline(always)]
    pub(super) fn of(self, x: f32) -> f32 {
        let x = if x < self.ends[0] { self.ends[0] } else { x };
        let x = if x > self.ends[1] { self.ends[1] } else { x };
        let shifted = x * self.log2_e + self.round;
        let n = shifted - self.round;
        let r = x - n * self.ln_2[0] - n * self.ln_2[1];
        let [p, coefficients @ ..] = self.coefficients;
        let p = coefficients.iter().fold(p, |p, c| p * r + c);
        let p = (p * r + self.one) * r + self.one;
        p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(self.one.to_bits()))
    }
}

/// `e^x` to about 2 units in the last place, for `x` from -87 to 88 and the values at these ends beyond.
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    Exp::KNOWN.of(x)
}

/// SiLU: every element times its logistic function.
pub fn activate(x: &mut [f32]) {
    widest(
        #[inline(always)]
        || {
            let exp = Exp::new();
            x.iter_mut().for_each(|x| *x /= exp.one + exp.of(-*x));
        },
    );
}

/// The largest element; what is not a number is passed over.
#[inline(always)]
pub(super) fn largest(x: &[f32]) -> f32 {
    let larger = |most: f32, x: f32| if x > most { x } else { most };
    let mut most = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            most[lane] = larger(most[lane], chunk[lane]);
        }
    }
    for (most, x) in most.iter_mut().zip(rest) {
        *most = larger(*most, *x);
    }
    tree(most, larger)
}

/// The largest magnitude; not a number where an element is not finite.
#[inline(always)]
pub(super) fn largest_magnitude(x: &[f32]) -> f32 {
    // Without the sign, bits of floats ascend as the floats do, to infinity and then what is not a number.
    let largest = x.iter().fold(0u32, |most, x| most.max(x.to_bits() << 1)) >> 1;
    if largest < f32::INFINITY.to_bits() { f32::from_bits(largest) } else { f32::NAN }
}

/// Each of `x` times `factor` as the nearest whole number, ties to even, of at most 16 bits.
#[inline(always)]
pub(super) fn round_to_integers(x: &[f32], factor: f32, out: &mut [i16]) {
    // Of such a sum the low half is the integer's. See [`Exp`] for the constant.
    let round = std::hint::black_box(ROUND);
    #[cfg(target_feature = "simd128")]
    let (out, x) = round_eights(x, factor, round, out);
    out.iter_mut().zip(x).for_each(|(out, x)| *out = (x * factor + round).to_bits() as i16);
}

/// Rounds whole eights, and gives what is left. The compiler takes halves by a shuffle whose pattern is a constant, too.
#[cfg(target_feature = "simd128")]
#[inline(always)]
fn round_eights<'a, 'b>(
    x: &'a [f32],
    factor: f32,
    round: f32,
    out: &'b mut [i16],
) -> (&'b mut [i16], &'a [f32]) {
    use core::arch::wasm32::{
        f32x4_add, f32x4_mul, f32x4_splat, i16x8_narrow_i32x4, i32x4_sub, v128_load, v128_store,
    };

    let eights = x.len().min(out.len()) / 8;
    let (x, x_rest) = x.split_at(8 * eights);
    let (out, out_rest) = out.split_at_mut(8 * eights);
    let (factor, round) = (f32x4_splat(factor), f32x4_splat(round));
    for (x, out) in x.as_chunks::<8>().0.iter().zip(out.as_chunks_mut::<8>().0) {
        let at = x.as_ptr().cast();
        // SAFETY: eight floats are two vectors, and no load needs alignment.
        let four = unsafe { [v128_load(at), v128_load(at.add(1))] };
        let [a, b] = four.map(|x| i32x4_sub(f32x4_add(f32x4_mul(x, factor), round), round));
        // SAFETY: eight integers of 16 bits are one vector, and no store needs alignment.
        unsafe { v128_store(out.as_mut_ptr().cast(), i16x8_narrow_i32x4(a, b)) };
    }
    (out_rest, x_rest)
}

#[inline(always)]
fn tree(mut lanes: [f32; LANES], of: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = of(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Dot product of two vectors of one length.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    widest(
        #[inline(always)]
        || dot_of(a, b),
    )
}

/// `out += scale * x`.
pub fn add_scaled(out: &mut [f32], x: &[f32], scale: f32) {
    widest(
        #[inline(always)]
        || add_scaled_of(out, x, scale),
    );
}

/// Whether a value exceeds `floor` or is not a number.
#[must_use]
pub(super) fn any_above(values: &[f32], floor: f32) -> bool {
    widest(
        #[inline(always)]
        || values.iter().fold(false, |any, value| any | (*value > floor) | value.is_nan()),
    )
}

#[inline(always)]
pub(super) fn dot_of(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] += a * b;
    }
    tree(sums, |a, b| a + b)
}

/// Sum of `f` of every element.
#[inline(always)]
pub(super) fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += f(chunk[lane]);
        }
    }
    for (lane, x) in rest.iter().enumerate() {
        sums[lane] += f(*x);
    }
    tree(sums, |a, b| a + b)
}

#[inline(always)]
pub(super) fn add_scaled_of(out: &mut [f32], x: &[f32], scale: f32) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out += scale * x);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_right_to_two_units_and_ends_gently() {
        let mut x = -86.9f32;
        while x < 88.0 {
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 3.0 * f64::from(f32::EPSILON), "{x}: {error}");
            x += 0.013_7;
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 2e-38 && exp(f32::INFINITY).is_finite() && exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_have_every_element() {
        for len in 0..40 {
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            assert_eq!(dot(&x, &x), x.iter().map(|x| x * x).sum::<f32>());
            assert_eq!(sum_of(&x, |x| x + 1.0), x.iter().map(|x| x + 1.0).sum::<f32>());
        }
    }
}
