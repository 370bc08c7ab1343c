//! Converts JavaScript values to sanderling-core calls and back, no decisions.
//!
//! One exported class, `WasmEngine`. Objects cross the boundary with the snake_case names of
//! `sanderling-types`; every failure is thrown as an `Error` with the properties `code`,
//! `message`, `expected`, `found` and `hint`. Nothing is written to the console.
#![deny(missing_docs)]

mod convert;
mod engine;
#[cfg(all(target_family = "wasm", feature = "full"))]
mod entropy;
mod error;

pub use engine::WasmEngine;
