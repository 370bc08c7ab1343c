//! Vectors.

use crate::simd::widest;

/// Lanes of a partial sum: one order on every machine, whatever the width of its vectors.
const LANES: usize = 8;

/// `e^x` to about 2 units in the last place (Cody-Waite reduction, degree-6 polynomial), for `x` from -87 to 88 and
/// the values at these ends beyond.
#[inline(always)]
#[must_use]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it rounds to an integer in the low bits
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.388_888_9e-3;
    let p = p * r + 8.333_334e-3;
    let p = p * r + 4.166_666_6e-2;
    let p = p * r + 0.166_666_67;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    p * f32::from_bits(shifted.to_bits().wrapping_add(127) << 23)
}

/// SiLU: every element times its logistic function.
pub fn activate(x: &mut [f32]) {
    widest(
        #[inline(always)]
        || x.iter_mut().for_each(|x| *x *= 1.0 / (1.0 + exp(-*x))),
    );
}

/// The largest magnitude; what is not a number is passed over.
#[inline(always)]
pub(super) fn largest_magnitude(x: &[f32]) -> f32 {
    let larger = |most: f32, x: f32| if x.abs() > most { x.abs() } else { most };
    let mut most = [0.0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            most[lane] = larger(most[lane], chunk[lane]);
        }
    }
    most.iter().chain(rest).fold(0.0, |most, x| larger(most, *x))
}

#[inline(always)]
fn tree(mut sums: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
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
    tree(sums)
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
    tree(sums)
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
