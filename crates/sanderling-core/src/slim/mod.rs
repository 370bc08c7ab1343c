//! The slim runtime: runs the models that the trainer writes, and no other, without a graph.
//!
//! [`crate::onnx`] reads a file as the parameters of the model that it is; what runs them is written out here. A
//! result has the same bits on every platform, and whether a session is encoded at once or item by item.

mod fold_in;
mod network;
mod transformer;

use sanderling_types::{Code, Error, FileRole, Limits, Result, RuntimeKind, Shapes};

use crate::onnx::Model;
use crate::scorer::shape_text;
use crate::{Runtime, Scorer};

/// Runs the models that the trainer writes. That a bundle has such is what its manifest states; whoever makes or promotes a bundle runs
/// it with a runtime that finds out.
#[derive(Debug, Clone, Copy, Default)]
pub struct SlimRuntime;

impl Runtime for SlimRuntime {
    /// # Errors
    /// [`Code::ModelNotSlim`] where the manifest asks for another runtime, and for a file that is no model of the trainer, or one of other shapes.
    fn scorer(
        &self,
        onnx: &[u8],
        role: FileRole,
        shapes: &Shapes,
        stated: RuntimeKind,
    ) -> Result<Box<dyn Scorer>> {
        if stated == RuntimeKind::Full {
            return Err(Error::new(Code::ModelNotSlim, "the bundle needs the full runtime, by its manifest")
                .hint("use the full runtime"));
        }
        Self::scorer_of(Model::of_constants(onnx), role, shapes)
    }
}

impl SlimRuntime {
    /// Runs a model that was read.
    ///
    /// # Errors
    /// [`Code::ModelNotSlim`] for none, and for one of another role or other shapes.
    pub fn scorer_of(model: Option<Model>, role: FileRole, shapes: &Shapes) -> Result<Box<dyn Scorer>> {
        let (dim, num_features) = (shapes.dim as usize, shapes.num_features as usize);
        let scorer: Option<Box<dyn Scorer>> = match (role, model) {
            (FileRole::Encoder, Some(Model::Transformer(model))) if model.dim == dim => {
                Some(Box::new(transformer::Encoder::new(&model)))
            }
            (FileRole::Encoder, Some(Model::FoldIn(model))) if model.dim == dim => {
                Some(Box::new(fold_in::Encoder::new(model)))
            }
            (FileRole::Ranker, Some(Model::Linear(model))) if model.weights.len() == num_features => {
                Some(Box::new(network::Network::linear(model)))
            }
            (FileRole::Ranker, Some(Model::Mlp(model))) if model.direct.len() == num_features => {
                Some(Box::new(network::Network::mlp(model)))
            }
            _ => None,
        };
        scorer.ok_or_else(|| {
            Error::new(Code::ModelNotSlim, format!("{} is not a model of the slim runtime", role.file_name()))
                .expected("a file that the trainer wrote, of the shapes of the manifest")
                .hint("use the full runtime")
        })
    }
}

/// The number of rows of `[1, rows, width]` (encoders) or `[rows, width]`, if it is 1 to `max_rows`.
fn rows_of(what: &str, input: &[f32], shape: &[usize], width: usize, max_rows: usize) -> Result<usize> {
    let rows = match *shape {
        [1, rows, last] | [rows, last] if last == width => Some(rows),
        _ => None,
    };
    rows.filter(|&rows| (1..=max_rows).contains(&rows) && rows * width == input.len()).ok_or_else(|| {
        Error::new(Code::InvalidArgument, format!("{what} got an input of another shape"))
            .expected(format!("1 to {max_rows} rows of {width}"))
            .found(format!("{} with {} elements", shape_text(shape), input.len()))
    })
}

/// Longest session that an encoder is run with.
const MAX_LEN: usize = Limits::MAX_SESSION_LEN as usize;
/// Most candidates that a ranker is run with.
const MAX_ROWS: usize = Limits::MAX_CANDIDATES as usize;
