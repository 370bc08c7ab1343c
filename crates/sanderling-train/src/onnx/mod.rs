//! The ONNX writer: exactly the operators that the trainer's models need.

mod encoder;
mod graph;
mod proto;
mod ranker;

pub use encoder::{WEIGHT_BITS, encoder};
pub use ranker::{linear_ranker, mlp_ranker, tree_ranker};
