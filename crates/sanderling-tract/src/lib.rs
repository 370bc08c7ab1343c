//! The full runtime: any ONNX model of the allowed operators.
//!
//! Models that the slim runtime of `sanderling-core` reads are run by it, so that a bundle gives the same numbers
//! whichever runtime a host has; every other model goes to tract, behind checks of our own.
#![deny(missing_docs)]
#![deny(clippy::disallowed_methods)]

mod bounds;
mod check;
mod full;
mod integers;
mod tract;
mod wire;

pub use full::FullRuntime;
pub use tract::TractRuntime;
