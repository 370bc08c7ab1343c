//! The ONNX files of this product: models as plain parameters, written as graphs and read back.
//!
//! Each kind of model has exactly one graph, so a file is read by its constants: the model that they make is
//! written again, and when the bytes agree the file says nothing else. Nobody then has to interpret the graph.
//! Whoever changes a graph changes its name, by which earlier engines know what they can run. All matrices are row-major.

mod builder;
mod constants;
mod fold_in;
mod message;
mod ranker;
mod transformer;

pub use fold_in::FoldIn;
pub(crate) use fold_in::TINY;
pub use ranker::{LinearRanker, MlpRanker, tree_ranker};
pub use transformer::{Block, NORM_EPSILON, Norm, QuantisedLinear, Transformer, rounding_saves};

pub use sanderling_kernels::WeightBits;

use constants::Constants;

/// Longest side of a matrix that is read; items have at most 1024 elements.
const MAX_SIDE: usize = 1 << 16;

/// A matrix `[rows, cols]` in whole numbers with one scale a column.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantisedMatrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// How large integers are.
    pub bits: WeightBits,
    /// `[rows, cols]`.
    pub integers: Vec<i16>,
    /// `[cols]`; an element is its integer times the scale of its column.
    pub scales: Vec<f32>,
}

impl QuantisedMatrix {
    /// Rounds `data` `[rows, cols]`: the largest magnitude of a column becomes the largest of `bits`, everything else rounds to
    /// nearest.
    ///
    /// # Panics
    /// Unless `data` has whole rows of `cols`, at least 1.
    #[must_use]
    pub fn quantise(data: &[f32], cols: usize, bits: WeightBits) -> Self {
        assert!(cols > 0 && data.len().is_multiple_of(cols), "whole rows");
        let largest = f32::from(bits.largest());
        let mut scales = vec![0.0f32; cols];
        for row in data.chunks_exact(cols) {
            scales.iter_mut().zip(row).for_each(|(scale, v)| *scale = scale.max(v.abs() / largest));
        }
        let quantise = |v: f32, scale: f32| if scale < f32::MIN_POSITIVE { 0.0 } else { (v / scale).round() };
        let of_row = |row: &[f32]| -> Vec<i16> {
            row.iter()
                .zip(&scales)
                .map(|(&v, &scale)| quantise(v, scale).clamp(-largest, largest) as i16)
                .collect()
        };
        let integers = data.chunks_exact(cols).flat_map(of_row).collect();
        Self { rows: data.len() / cols, cols, bits, integers, scales }
    }
}

/// A file that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Model {
    /// `encoder.onnx` of a sequence model.
    Transformer(Transformer),
    /// `encoder.onnx` of a matrix factorisation.
    FoldIn(FoldIn),
    /// A linear `ranker.onnx`.
    Linear(LinearRanker),
    /// A network as `ranker.onnx`.
    Mlp(MlpRanker),
}

impl Model {
    /// Reads a file that this module wrote; `None` for any other, whatever is wrong or different about it.
    /// Allocates a few times the file's length at most.
    #[must_use]
    pub fn read(onnx: &[u8]) -> Option<Self> {
        Self::of_constants(onnx).filter(|model| model.to_onnx() == onnx)
    }

    /// The model that the name of the graph and the constants of a file make, whatever its nodes are: that of a file of which somebody
    /// else found out that [`Model::read`] reads it.
    #[must_use]
    pub fn of_constants(onnx: &[u8]) -> Option<Self> {
        let constants = Constants::read(onnx)?;
        Some(match constants.graph_name() {
            transformer::NAME => Self::Transformer(Transformer::from_constants(&constants)?),
            fold_in::NAME => Self::FoldIn(FoldIn::from_constants(&constants)?),
            ranker::LINEAR => Self::Linear(LinearRanker::from_constants(&constants)?),
            ranker::MLP => Self::Mlp(MlpRanker::from_constants(&constants)?),
            _ => return None,
        })
    }

    /// The bytes of the file.
    #[must_use]
    pub fn to_onnx(&self) -> Vec<u8> {
        match self {
            Self::Transformer(model) => model.to_onnx(),
            Self::FoldIn(model) => model.to_onnx(),
            Self::Linear(model) => model.to_onnx(),
            Self::Mlp(model) => model.to_onnx(),
        }
    }
}
