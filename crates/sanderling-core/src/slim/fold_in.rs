//! The fold-in of a matrix factorisation.

use sanderling_kernels::{add_scaled, dot};
use sanderling_types::{FileRole, Result};

use super::{MAX_LEN, rows_of};
use crate::Scorer;
use crate::onnx::{FoldIn, TINY};

#[derive(Debug)]
pub(super) struct Encoder(FoldIn);

impl Encoder {
    pub(super) fn new(model: FoldIn) -> Self {
        Self(model)
    }

    /// The matrix of the problem times `x`: `x + Xᵀ(X x) + len · shrink x`.
    fn image(&self, items: &[f32], x: &[f32]) -> Vec<f32> {
        let dim = self.0.dim;
        let mut out = x.to_vec();
        for item in items.chunks_exact(dim) {
            add_scaled(&mut out, item, dot(item, x));
        }
        let len = (items.len() / dim) as f32;
        for (out, row) in out.iter_mut().zip(self.0.shrink.chunks_exact(dim)) {
            *out += len * dot(row, x);
        }
        out
    }
}

impl Scorer for Encoder {
    fn run(&self, input: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
        let dim = self.0.dim;
        rows_of(FileRole::Encoder.file_name(), input, shape, dim, MAX_LEN)?;
        let mut residual = vec![0.0; dim];
        input.chunks_exact(dim).for_each(|item| add_scaled(&mut residual, item, 1.0));
        let mut direction = residual.clone();
        let mut solution = vec![0.0; dim];
        let mut squared = dot(&residual, &residual);
        for step in 1..=self.0.steps {
            let image = self.image(input, &direction);
            let length = squared / (dot(&direction, &image) + TINY);
            add_scaled(&mut solution, &direction, length);
            if step == self.0.steps {
                break;
            }
            add_scaled(&mut residual, &image, -length);
            let next = dot(&residual, &residual);
            let share = next / (squared + TINY);
            direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + *d * share);
            squared = next;
        }
        Ok(solution)
    }

    fn max_len(&self) -> Option<usize> {
        Some(MAX_LEN)
    }
}
