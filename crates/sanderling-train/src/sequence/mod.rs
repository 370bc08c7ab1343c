//! The sequence model: a causal transformer over item vectors, trained on the CPU with a softmax
//! over shared negatives.

mod attention;
mod export;
mod fit;
pub(crate) mod kernels;
pub(crate) mod linalg;
mod loss;
mod network;
mod params;
mod state;
mod step;
mod vectors;

pub use export::transformer;
pub(crate) use fit::vectors_ndcg10;
pub use fit::{Epoch, FitCase, FitData, FitOptions, Fitted, fit};
pub use params::{Shape, Weights};
pub use state::FitState;
pub use vectors::{ItemContent, content_vector};
