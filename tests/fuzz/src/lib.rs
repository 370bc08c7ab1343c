//! The fuzz targets' bodies, shared with the conformance tests without what else those link.

#[path = "../../src/fuzz.rs"]
mod bodies;

pub use bodies::*;

use std::path::{Path, PathBuf};

/// The checked-in bundle that seeds are made of: the newest version there is.
fn golden_bundle() -> PathBuf {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden");
    let bundles = (1..100).rev().map(|version| golden.join(format!("v{version}/bundle")));
    bundles.into_iter().find(|bundle| bundle.is_dir()).expect("tests/golden holds a bundle")
}
