//! The trait between the engine and whatever runs its models.

use sanderling_types::{FileRole, Result, RuntimeKind, Shapes};

/// Anything that turns numbers into scores: an ONNX model, or a fake in tests.
pub trait Scorer: Send + Sync {
    /// Runs once. Encoder: `[1, len, dim]` to `[1, dim]`. Ranker: `[num_candidates, num_features]`
    /// to `[num_candidates, 1]`. `input` is row-major and has as many elements as `shape` says.
    ///
    /// # Errors
    /// [`sanderling_types::Code::InferenceFailed`] when the model fails,
    /// [`sanderling_types::Code::InvalidArgument`] when `input` does not have that shape.
    fn run(&self, input: &[f32], shape: &[usize]) -> Result<Vec<f32>>;

    /// The longest session of an encoder that knows it.
    fn max_len(&self) -> Option<usize> {
        None
    }

    /// The same encoder taking items in one after the other, where it can.
    fn incremental(&self) -> Option<&dyn Incremental> {
        None
    }
}

/// An encoder that remembers what it made of the items so far.
pub trait Incremental {
    /// Takes the item vectors `items` `[new, dim]`, oldest first, in behind those that made `memory`. Gives the
    /// query of all of them, with the same bits as [`Scorer::run`] gives of all at once.
    ///
    /// # Errors
    /// [`sanderling_types::Code::InvalidArgument`] without an item or for more than the encoder takes; `memory`
    /// is as it was then.
    fn append(&self, memory: &mut Memory, items: &[f32]) -> Result<Vec<f32>>;
}

/// What an encoder made of some items; of none to begin with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Memory {
    pub(crate) blocks: Vec<BlockMemory>,
}

/// Keys and values of attention, `[len, dim]` each.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct BlockMemory {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}

/// Turns the bytes of a model into a [`Scorer`]. The bytes are untrusted.
pub trait Runtime {
    /// Loads the model of `role`, which is `Encoder` or `Ranker`, once, ready to run. `stated` is the runtime that the manifest says
    /// is enough for it.
    ///
    /// # Errors
    /// [`sanderling_types::Code::ModelInvalid`] when the model is malformed, uses what is not
    /// allowed or does not have `shapes`; [`sanderling_types::Code::LimitExceeded`] when it is too
    /// large.
    fn scorer(
        &self,
        onnx: &[u8],
        role: FileRole,
        shapes: &Shapes,
        stated: RuntimeKind,
    ) -> Result<Box<dyn Scorer>>;
}

/// A shape as people read it, such as `[1, 50, 64]`.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    let mut out = String::from("[");
    for side in shape {
        out.push_str(if out.len() > 1 { ", " } else { "" });
        out.push_str(&side.to_string());
    }
    out + "]"
}
