//! Rankers.

use sanderling_kernels::{Linear, activate, dot};
use sanderling_types::{FileRole, Result};

use super::{MAX_ROWS, rows_of};
use crate::Scorer;
use crate::onnx::{LinearRanker, MlpRanker};

/// A linear part beside layers of SiLU, of which a linear ranker has none.
#[derive(Debug)]
pub(super) struct Network {
    hidden: Vec<Linear>,
    last: Vec<f32>,
    direct: Vec<f32>,
    bias: f32,
}

impl Network {
    pub(super) fn linear(model: LinearRanker) -> Self {
        Self { hidden: Vec::new(), last: Vec::new(), direct: model.weights, bias: model.bias }
    }

    pub(super) fn mlp(model: MlpRanker) -> Self {
        let layer = |(weight, bias): &(Vec<f32>, Vec<f32>)| {
            let outputs = bias.len();
            Linear::new(weight.len() / outputs, bias, |row, col| weight[row * outputs + col])
        };
        let hidden = model.hidden.iter().map(layer).collect();
        Self { hidden, last: model.last, direct: model.direct, bias: model.bias }
    }

    /// What the layers add to each of `rows` scores.
    fn deep(&self, features: &[f32], rows: usize) -> Vec<f32> {
        let Some((first, others)) = self.hidden.split_first() else { return vec![0.0; rows] };
        let layer = |layer: &Linear, x: &[f32]| {
            let mut out = layer.run(x);
            activate(&mut out);
            out
        };
        let hidden = others.iter().fold(layer(first, features), |x, next| layer(next, &x));
        hidden.chunks_exact(self.last.len()).map(|row| dot(row, &self.last)).collect()
    }
}

impl Scorer for Network {
    fn run(&self, input: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
        let num_features = self.direct.len();
        let rows = rows_of(FileRole::Ranker.file_name(), input, shape, num_features, MAX_ROWS)?;
        let wide = input.chunks_exact(num_features).map(|row| dot(row, &self.direct));
        Ok(self.deep(input, rows).iter().zip(wide).map(|(deep, wide)| deep + wide + self.bias).collect())
    }
}
