//! Cross-crate and cross-runtime conformance: golden vectors, bad vectors, the whole loop.
//!
//! Tests ask for [`runtimes`]: the native engine always, and whatever `SANDERLING_RUNTIMES` names
//! (`wasmtime,node,deno,bun,chromium,firefox,workerd`), which `./build.sh test` sets after building them. A named
//! runtime that cannot be used fails the test; nothing is skipped quietly.

pub mod fuzz;
pub mod fuzz_seeds;
mod native;
mod script;
mod wasmtime;

use std::path::{Path, PathBuf};

use sanderling_testkit::Runtime;

/// The folder of this crate.
#[must_use]
pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The checked-in bundle that golden files belong to.
#[must_use]
pub fn golden_bundle() -> PathBuf {
    here().join("golden/v1/bundle")
}

/// Every runtime to check, with `bundle` loaded.
///
/// # Panics
/// When a named runtime is not known or cannot start.
#[must_use]
pub fn runtimes(bundle: &Path) -> Vec<Box<dyn Runtime>> {
    let named = std::env::var("SANDERLING_RUNTIMES").unwrap_or_default();
    let others = named.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "native");
    let native: Box<dyn Runtime> = Box::new(native::Native::new(bundle));
    let others = others.map(|name| -> Box<dyn Runtime> {
        match name {
            "wasmtime" => Box::new(wasmtime::Wasmtime::new(bundle)),
            "node" | "deno" | "bun" | "chromium" | "firefox" | "workerd" => {
                Box::new(script::Script::new(name, bundle))
            }
            other => panic!("SANDERLING_RUNTIMES names {other:?}, which is not known"),
        }
    });
    std::iter::once(native).chain(others).collect()
}
