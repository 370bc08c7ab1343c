//! Fixtures, golden-vector checker over a Runtime trait, fault injection; unpublished.
//!
//! A golden file is data: operations of `sanderling_core::operations` with the answer of the native
//! reference. [`check`] runs the operations on any [`Runtime`] and says where it differs.
#![deny(missing_docs)]

mod compare;
mod golden;
mod samples;

pub use compare::difference;
pub use golden::{Expectation, GoldenCase, GoldenFile, Tolerance, check, read_golden, write_golden};
pub use samples::{samples, tampering};

use serde_json::Value;

/// Something that runs the engine: the native library, wasmtime, Node, a browser, a worker host.
pub trait Runtime {
    /// Name for messages.
    fn name(&self) -> &str;

    /// Runs operations in order; each answer is `{"ok": …}` or `{"error": {"code": …}}`.
    /// `{"op": "load", "mutate": …}` opens a changed copy of the bundle, see [`tampering`].
    ///
    /// # Errors
    /// When the runtime itself cannot be used; failing operations are answers.
    fn run(&mut self, operations: &[Value]) -> Result<Vec<Value>, String>;
}
