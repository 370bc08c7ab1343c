//! One file a group of commands: arguments, library call, printed result.

pub(crate) mod bundle;
pub(crate) mod choice;
pub(crate) mod collect;
pub(crate) mod compare;
pub(crate) mod data;
pub(crate) mod drift;
pub(crate) mod evaluate;
pub(crate) mod golden;
pub(crate) mod items;
pub(crate) mod pack;
pub(crate) mod recipe;
pub(crate) mod recommend;
pub(crate) mod retrain;
pub(crate) mod serve;
pub(crate) mod table;
pub(crate) mod train;
pub(crate) mod tune;
pub(crate) mod verify;

use std::path::Path;

use sanderling_core::{Bundle, Engine, PublicKey, operations};
use sanderling_tract::FullRuntime;
use sanderling_types::Result;
use serde_json::Value;

/// Opens a bundle folder and loads its models.
pub(crate) fn load_engine(dir: &Path, key: Option<&PublicKey>) -> Result<Engine> {
    Engine::new(Bundle::open(sanderling_train::bundle::read(dir)?, key)?, &FullRuntime)
}

/// Runs a conformance operation.
///
/// # Panics
/// Never: an answer is JSON.
pub(crate) fn run_operation(engine: &Engine, operation: &Value) -> Value {
    serde_json::from_str(&operations::run(engine, &operation.to_string())).expect("an answer is JSON")
}
