//! The parts of the `sanderling` program that tests use too.
#![deny(missing_docs)]

pub mod bundle_source;
pub mod serve;
pub mod wasm_host;
