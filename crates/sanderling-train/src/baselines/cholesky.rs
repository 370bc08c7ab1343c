//! Cholesky factorisation of symmetric positive definite matrices, in blocks of rows.

use crate::sequence::kernels::{add_scaled, scale};
use crate::sequence::linalg::{View, product};

/// Rows of a block: products between blocks are matrix products, work inside one is by rows.
const BLOCK: usize = 32;

/// Upper triangular `U` with `A = Uᵀ U`.
#[derive(Debug)]
pub(crate) struct Cholesky {
    /// `[n, n]`, row-major; what is below the diagonal means nothing.
    upper: Vec<f32>,
    n: usize,
}

impl Cholesky {
    /// Factorises `a` `[n, n]`, of which only the upper triangle is read. `None` when `a` is not
    /// positive definite to working precision.
    pub(crate) fn factor(mut a: Vec<f32>, n: usize) -> Option<Self> {
        for start in (0..n).step_by(BLOCK) {
            let end = n.min(start + BLOCK);
            let (done, rest) = a.split_at_mut(start * n);
            // What the rows above explain of this block's rows.
            if start > 0 {
                let (block, right) = (&done[start..], n - start);
                let left = View::strided(block, start, end - start, n).t();
                product(&mut rest[start..], n, left, View::strided(block, start, right, n), true, -1.0);
            }
            for row in start..end {
                let (above, this) = rest.split_at_mut((row - start) * n);
                let this = &mut this[row..n];
                for above in above.chunks_exact(n) {
                    add_scaled(this, &above[row..], -above[row]);
                }
                let pivot = this[0];
                if pivot.is_nan() || pivot <= 0.0 {
                    return None;
                }
                scale(this, 1.0 / pivot.sqrt());
            }
        }
        Some(Self { upper: a, n })
    }

    /// Replaces the right-hand sides `x` `[n, width]`, row-major, by the solutions of `A x = b`.
    pub(crate) fn solve(&self, x: &mut [f32], width: usize) {
        self.solve_transposed(x, width);
        let n = self.n;
        for start in (0..n).step_by(BLOCK).rev() {
            let end = n.min(start + BLOCK);
            let (head, below) = x.split_at_mut(end * width);
            if end < n {
                let block = View::strided(&self.upper[start * n + end..], end - start, n - end, n);
                let below = View::dense(below, n - end, width);
                product(&mut head[start * width..], width, block, below, true, -1.0);
            }
            for row in (start..end).rev() {
                let upper = &self.upper[row * n..][..n];
                let (this, below) = head[row * width..].split_at_mut(width);
                for (below, &factor) in below.chunks_exact(width).zip(&upper[row + 1..]) {
                    add_scaled(this, below, -factor);
                }
                scale(this, 1.0 / upper[row]);
            }
        }
    }

    /// Solves `Uᵀ y = b` in place.
    pub(crate) fn solve_transposed(&self, x: &mut [f32], width: usize) {
        let n = self.n;
        for start in (0..n).step_by(BLOCK) {
            let end = n.min(start + BLOCK);
            let (above, rest) = x.split_at_mut(start * width);
            if start > 0 {
                let block = View::strided(&self.upper[start..], start, end - start, n).t();
                product(rest, width, block, View::dense(above, start, width), true, -1.0);
            }
            for row in start..end {
                let (above, this) = rest.split_at_mut((row - start) * width);
                let this = &mut this[..width];
                for (at, above) in above.chunks_exact(width).enumerate() {
                    add_scaled(this, above, -self.upper[(start + at) * n + row]);
                }
                scale(this, 1.0 / self.upper[row * n + row]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[n, n]` with 1 / (1 + |i - j|) off a dominant diagonal.
    fn matrix(n: usize) -> Vec<f32> {
        let entry =
            |i: usize, j: usize| if i == j { 4.0 + n as f32 / 8.0 } else { 1.0 / (1 + i.abs_diff(j)) as f32 };
        (0..n * n).map(|at| entry(at / n, at % n)).collect()
    }

    #[test]
    fn solves_across_blocks() {
        for n in [1, 2, BLOCK, BLOCK + 1, 2 * BLOCK + 7] {
            for width in [1, 3, 20] {
                let a = matrix(n);
                let expected: Vec<f32> = (0..n * width).map(|at| (at % 7) as f32 - 3.0).collect();
                let mut x = vec![0.0; n * width];
                let (left, right) = (View::dense(&a, n, n), View::dense(&expected, n, width));
                product(&mut x, width, left, right, false, 1.0);
                Cholesky::factor(a, n).expect("positive definite").solve(&mut x, width);
                let worst = x.iter().zip(&expected).map(|(x, e)| (x - e).abs()).fold(0.0, f32::max);
                assert!(worst < 1e-4, "n {n}, width {width}: off by {worst}");
            }
        }
    }

    #[test]
    fn reads_the_upper_triangle_only_and_refuses_what_is_not_positive_definite() {
        let mut x = [3.0, 5.0];
        Cholesky::factor(vec![2.0, 1.0, f32::NAN, 3.0], 2).expect("positive definite").solve(&mut x, 1);
        assert!((x[0] - 0.8).abs() < 1e-6 && (x[1] - 1.4).abs() < 1e-6, "{x:?}");
        assert!(Cholesky::factor(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(Cholesky::factor(vec![f32::NAN], 1).is_none());
        assert!(Cholesky::factor(Vec::new(), 0).is_some());
    }
}
