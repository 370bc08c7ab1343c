//! The choice between the two runtimes.

use sanderling_core::{Runtime, Scorer, SlimRuntime};
use sanderling_types::{Code, FileRole, Result, Shapes};

use crate::TractRuntime;

/// The slim runtime where it can, tract where it must.
#[derive(Debug, Clone, Copy, Default)]
pub struct FullRuntime;

impl Runtime for FullRuntime {
    fn scorer(&self, onnx: &[u8], role: FileRole, shapes: &Shapes) -> Result<Box<dyn Scorer>> {
        match SlimRuntime.scorer(onnx, role, shapes) {
            Err(error) if error.code() == Code::ModelNotSlim => TractRuntime.scorer(onnx, role, shapes),
            outcome => outcome,
        }
    }
}
