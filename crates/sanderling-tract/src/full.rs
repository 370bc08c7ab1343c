//! The choice between the two runtimes.

use sanderling_core::onnx::Model;
use sanderling_core::{Runtime, Scorer, SlimRuntime};
use sanderling_types::{Code, Error, FileRole, Result, RuntimeKind, Shapes};

use crate::TractRuntime;

/// The slim runtime where it can, tract where it must. It looks at the models themselves.
#[derive(Debug, Clone, Copy, Default)]
pub struct FullRuntime;

impl Runtime for FullRuntime {
    /// # Errors
    /// As tract; [`Code::ModelInvalid`], too, for a model that the slim runtime does not run where the manifest states that it does.
    fn scorer(
        &self,
        onnx: &[u8],
        role: FileRole,
        shapes: &Shapes,
        stated: RuntimeKind,
    ) -> Result<Box<dyn Scorer>> {
        match SlimRuntime::scorer_of(Model::read(onnx), role, shapes) {
            Ok(scorer) => Ok(scorer),
            Err(_) if stated == RuntimeKind::Full => TractRuntime.scorer(onnx, role, shapes, stated),
            Err(_) => {
                let message = format!("{} is not what manifest.json says of it", role.file_name());
                Err(Error::new(Code::ModelInvalid, message)
                    .expected("a file that the trainer wrote, since the manifest's runtime is slim")
                    .found("another model, or one of other shapes")
                    .hint("pack the bundle again"))
            }
        }
    }
}
