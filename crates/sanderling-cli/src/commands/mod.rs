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
pub(crate) mod table;
pub(crate) mod train;
pub(crate) mod tune;
pub(crate) mod verify;

use std::path::Path;

use sanderling_core::{Bundle, Engine, PublicKey, TractRuntime};
use sanderling_types::Result;

/// Opens a bundle folder and loads its models.
pub(crate) fn load_engine(dir: &Path, key: Option<&PublicKey>) -> Result<Engine> {
    Engine::new(Bundle::open(sanderling_train::bundle::read(dir)?, key)?, &TractRuntime)
}
