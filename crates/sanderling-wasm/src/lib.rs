//! Converts JavaScript values to sanderling-core calls and back, no decisions.
//!
//! One exported class, `WasmEngine`, and the files that it is made of, `WasmFiles`. Objects cross the boundary with the snake_case names of
//! `sanderling-types`; every failure is thrown as an `Error` with the properties `code`,
//! `message`, `expected`, `found` and `hint`. Nothing is written to the console.
#![deny(missing_docs)]

mod convert;
mod engine;
#[cfg(all(target_family = "wasm", feature = "full"))]
mod entropy;
mod error;

pub use engine::{WasmEngine, WasmFiles};

// As fast here as that of the standard library, in 2 KB less of a download.
#[cfg(target_family = "wasm")]
#[global_allocator]
static ALLOCATOR: talc::wasm::WasmDynamicTalc = talc::wasm::new_wasm_dynamic_allocator();

/// Whether this build's vector instructions do what they should on this machine: 1 if so. Not a function of the bindings, so that a
/// loader can ask it in an instance without a host.
#[unsafe(no_mangle)]
pub extern "C" fn kernels_work() -> u32 {
    u32::from(sanderling_core::self_test())
}
