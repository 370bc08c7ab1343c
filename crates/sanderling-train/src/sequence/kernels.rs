//! Element-wise kernels of training. Each is plain Rust that the compiler vectorises; `pulp` picks
//! the widest instruction set of the machine at run time. Results do not depend on the thread count.

use pulp::Arch;
use sanderling_core::onnx::NORM_EPSILON;
use sanderling_kernels::exp;

/// Lanes of a partial sum; fixed, so that sums have one order on every machine.
const LANES: usize = 16;

#[inline(always)]
fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut partial = [0.0f32; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            partial[lane] += f(chunk[lane]);
        }
    }
    let tail: f32 = chunks.remainder().iter().map(|&v| f(v)).sum();
    partial.iter().sum::<f32>() + tail
}

#[inline(always)]
fn dot_of(a: &[f32], b: &[f32]) -> f32 {
    let mut partial = [0.0f32; LANES];
    let mut chunks_a = a.chunks_exact(LANES);
    let mut chunks_b = b.chunks_exact(LANES);
    for (x, y) in (&mut chunks_a).zip(&mut chunks_b) {
        for lane in 0..LANES {
            partial[lane] += x[lane] * y[lane];
        }
    }
    let tail: f32 = chunks_a.remainder().iter().zip(chunks_b.remainder()).map(|(x, y)| x * y).sum();
    partial.iter().sum::<f32>() + tail
}

/// Dot product.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    Arch::new().dispatch(
        #[inline(always)]
        || dot_of(a, b),
    )
}

/// `out += scale * x`.
pub(crate) fn add_scaled(out: &mut [f32], x: &[f32], scale: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || out.iter_mut().zip(x).for_each(|(out, x)| *out += scale * x),
    );
}

/// Adds `bias` to every row of `x`.
pub(crate) fn add_bias(x: &mut [f32], bias: &[f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for row in x.chunks_exact_mut(bias.len()) {
                row.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        },
    );
}

/// `sum += ` column sums of `x`: the gradient of a bias.
pub(crate) fn add_column_sums(sum: &mut [f32], x: &[f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for row in x.chunks_exact(sum.len()) {
                sum.iter_mut().zip(row).for_each(|(s, x)| *s += x);
            }
        },
    );
}

/// Per-row layer normalisation (Ba et al. 2016): `out = (x - mean) / sqrt(var + eps) * gain + bias`.
/// `stats` keeps `[mean, 1 / sqrt(var + eps)]` of every row for the way back.
pub(crate) fn layer_norm(x: &[f32], gain: &[f32], bias: &[f32], out: &mut [f32], stats: &mut [[f32; 2]]) {
    let dim = gain.len();
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for ((row, out), stat) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)).zip(stats) {
                let mean = sum_of(row, |v| v) / dim as f32;
                let variance = sum_of(row, |v| (v - mean) * (v - mean)) / dim as f32;
                let inverse = 1.0 / (variance + NORM_EPSILON).sqrt();
                *stat = [mean, inverse];
                for i in 0..dim {
                    out[i] = (row[i] - mean) * inverse * gain[i] + bias[i];
                }
            }
        },
    );
}

/// Way back of [`layer_norm`]: adds the gradient of `x` to `dx` and those of gain and bias to
/// `dgain` and `dbias`.
#[allow(clippy::too_many_arguments, reason = "a kernel: every argument is one array")]
pub(crate) fn layer_norm_back(
    dout: &[f32],
    x: &[f32],
    stats: &[[f32; 2]],
    gain: &[f32],
    dx: &mut [f32],
    dgain: &mut [f32],
    dbias: &mut [f32],
) {
    let dim = gain.len();
    let rows = dout.chunks_exact(dim).zip(x.chunks_exact(dim)).zip(dx.chunks_exact_mut(dim)).zip(stats);
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (((dout, x), dx), &[mean, inverse]) in rows {
                let mut sum_g = [0.0f32; LANES];
                let mut sum_gx = [0.0f32; LANES];
                for i in 0..dim {
                    let normal = (x[i] - mean) * inverse;
                    let g = dout[i] * gain[i];
                    sum_g[i % LANES] += g;
                    sum_gx[i % LANES] += g * normal;
                    dgain[i] += dout[i] * normal;
                    dbias[i] += dout[i];
                }
                let mean_g = sum_g.iter().sum::<f32>() / dim as f32;
                let mean_gx = sum_gx.iter().sum::<f32>() / dim as f32;
                for i in 0..dim {
                    let normal = (x[i] - mean) * inverse;
                    dx[i] += inverse * (dout[i] * gain[i] - mean_g - normal * mean_gx);
                }
            }
        },
    );
}

/// SiLU, `x * sigmoid(x)` (Elfwing et al. 2017).
pub(crate) fn silu(x: &[f32], out: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || x.iter().zip(out).for_each(|(&x, out)| *out = x / (1.0 + exp(-x))),
    );
}

/// Way back of [`silu`], in place on the gradient.
pub(crate) fn silu_back(x: &[f32], grad: &mut [f32]) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (&x, grad) in x.iter().zip(grad) {
                let s = 1.0 / (1.0 + exp(-x));
                *grad *= s * (1.0 + x * (1.0 - s));
            }
        },
    );
}

/// Turns a row of logits into `exp(logit - max)` in place; returns the max and the sum.
pub(crate) fn exp_row(row: &mut [f32]) -> (f32, f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || {
            let mut best = [f32::NEG_INFINITY; LANES];
            let mut chunks = row.chunks_exact(LANES);
            for chunk in &mut chunks {
                for lane in 0..LANES {
                    best[lane] = if chunk[lane] > best[lane] { chunk[lane] } else { best[lane] };
                }
            }
            let tail = chunks.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let max = best.iter().copied().fold(tail, f32::max);
            row.iter_mut().for_each(|v| *v = exp(*v - max));
            (max, sum_of(row, |v| v))
        },
    )
}

/// `row = exp(row - offset)`: probabilities again from saved log-sum-exp.
pub(crate) fn exp_shifted(row: &mut [f32], offset: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || row.iter_mut().for_each(|v| *v = exp(*v - offset)),
    );
}

/// `row *= scale`.
pub(crate) fn scale(row: &mut [f32], factor: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || row.iter_mut().for_each(|v| *v *= factor),
    );
}

/// Way back of a softmax row: `grad = p * (grad - inner)`.
pub(crate) fn softmax_back(p: &[f32], grad: &mut [f32], inner: f32) {
    Arch::new().dispatch(
        #[inline(always)]
        || p.iter().zip(grad).for_each(|(p, grad)| *grad = p * (*grad - inner)),
    );
}

/// Inverted dropout with a mask that is a pure function of `(seed, element)`, so that the way back
/// needs no stored mask. `threshold` is the drop probability in units of 2^-32.
pub(crate) fn dropout(x: &mut [f32], seed: u32, threshold: u32) {
    if threshold == 0 {
        return;
    }
    let keep_scale = 1.0 / (1.0 - threshold as f32 / 4_294_967_296.0);
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (i, v) in x.iter_mut().enumerate() {
                let mut h = (i as u32).wrapping_mul(0x9E37_79B9) ^ seed;
                h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
                h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
                h ^= h >> 16;
                *v = if h < threshold { 0.0 } else { *v * keep_scale };
            }
        },
    );
}

/// One Adam step (Kingma & Ba 2015, algorithm 1) with bias corrections folded into `rate` and
/// `epsilon`.
pub(crate) fn adam(w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], rate: f32, epsilon: f32) {
    const BETA1: f32 = 0.9;
    const BETA2: f32 = 0.98;
    Arch::new().dispatch(
        #[inline(always)]
        || {
            for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                *m = BETA1 * *m + (1.0 - BETA1) * g;
                *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                *w -= rate * *m / (v.sqrt() + epsilon);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_the_standard_library() {
        for i in -8_000..8_000 {
            let x = i as f32 * 0.01;
            let relative = (exp(x) - x.exp()).abs() / x.exp();
            assert!(relative < 4e-7, "exp({x}) is off by {relative:e}");
        }
    }

    #[test]
    fn dropout_keeps_the_mean_and_repeats() {
        let mut a = vec![1.0; 100_000];
        dropout(&mut a, 7, (0.2 * 4_294_967_296.0) as u32);
        let mean = a.iter().sum::<f32>() / 100_000.0;
        assert!((mean - 1.0).abs() < 0.01, "mean {mean}");
        let mut b = vec![1.0; 100_000];
        dropout(&mut b, 7, (0.2 * 4_294_967_296.0) as u32);
        assert_eq!(a, b);
        dropout(&mut b, 8, 1 << 31);
        assert_ne!(a, b);
    }
}
