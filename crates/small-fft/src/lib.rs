//! A plain discrete Fourier transform behind the few names of the crate `rustfft` that `tract-core` uses.
//!
//! tract links a Fourier transform for `DFT` and `STFT`, which are not among the operators that this product allows. The real
//! crate is hundreds of kilobytes of the full runtime's code that nobody may run; this one gives the same numbers in quadratic time, so
//! that tract stays whole.
#![deny(missing_docs)]

use std::marker::PhantomData;
use std::sync::Arc;

pub use num_complex;
use num_complex::Complex;
pub use num_traits;
use num_traits::{Float, FromPrimitive, Signed};

/// Numbers that can be transformed.
pub trait FftNum: Copy + FromPrimitive + Signed + Float + Sync + Send + std::fmt::Debug + 'static {}

impl<T: Copy + FromPrimitive + Signed + Float + Sync + Send + std::fmt::Debug + 'static> FftNum for T {}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FftDirection {
    /// `X[k] = sum of x[n] e^(-2 pi i n k / len)`.
    Forward,
    /// The same with a positive exponent; nothing is divided.
    Inverse,
}

/// A transform of one length and direction.
pub trait Fft<T: FftNum>: Send + Sync {
    /// Transforms each whole part of `len` numbers in its place.
    fn process(&self, buffer: &mut [Complex<T>]);
}

/// Makes transforms.
#[derive(Debug, Default)]
pub struct FftPlanner<T>(PhantomData<T>);

impl<T: FftNum> FftPlanner<T> {
    /// A planner.
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }

    /// A transform of `len` numbers.
    pub fn plan_fft(&mut self, len: usize, direction: FftDirection) -> Arc<dyn Fft<T>> {
        Arc::new(Plain { len, direction })
    }

    /// A forward transform of `len` numbers.
    pub fn plan_fft_forward(&mut self, len: usize) -> Arc<dyn Fft<T>> {
        self.plan_fft(len, FftDirection::Forward)
    }
}

struct Plain {
    len: usize,
    direction: FftDirection,
}

impl<T: FftNum> Fft<T> for Plain {
    fn process(&self, buffer: &mut [Complex<T>]) {
        let sign = if self.direction == FftDirection::Forward { -1.0 } else { 1.0 };
        let turn = |step: usize| {
            let angle = sign * std::f64::consts::TAU * (step % self.len) as f64 / self.len as f64;
            let of = |value: f64| T::from_f64(value).unwrap_or_else(T::nan);
            Complex::new(of(angle.cos()), of(angle.sin()))
        };
        let turns: Vec<Complex<T>> = (0..self.len).map(turn).collect();
        for part in buffer.chunks_exact_mut(self.len.max(1)) {
            let input = part.to_vec();
            for (k, out) in part.iter_mut().enumerate() {
                let terms = input.iter().enumerate().map(|(n, x)| *x * turns[(n * k) % self.len]);
                *out = terms.fold(Complex::new(T::zero(), T::zero()), |sum, term| sum + term);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_has_one_frequency_and_comes_back() {
        let len = 12;
        let wave = |n: usize| (std::f64::consts::TAU * 3.0 * n as f64 / len as f64).cos();
        let mut numbers: Vec<Complex<f64>> = (0..len).map(|n| Complex::new(wave(n), 0.0)).collect();
        FftPlanner::new().plan_fft_forward(len).process(&mut numbers);
        for (k, found) in numbers.iter().enumerate() {
            let expected = if k == 3 || k == len - 3 { len as f64 / 2.0 } else { 0.0 };
            assert!((found - Complex::new(expected, 0.0)).norm() < 1e-12, "{k}: {found}");
        }
        FftPlanner::new().plan_fft(len, FftDirection::Inverse).process(&mut numbers);
        for (n, found) in numbers.iter().enumerate() {
            assert!((found / len as f64 - Complex::new(wave(n), 0.0)).norm() < 1e-12);
        }
    }
}
