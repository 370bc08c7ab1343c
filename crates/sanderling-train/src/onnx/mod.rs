//! The ONNX writer: exactly the operators that the trainer's models need.

mod encoder;
mod fold_in;
mod graph;
mod proto;
mod ranker;

pub(crate) use encoder::int8_saving;
pub use encoder::{WEIGHT_BITS, encoder};
pub use fold_in::{FoldIn, fold_in};
pub use ranker::{linear_ranker, mlp_ranker, tree_ranker};
