//! The engine as a wasm component under wasmtime, with limits on fuel and memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sanderling_cli::wasm_host::{HostLimits, WasmHost};
use sanderling_core::BundleFiles;
use sanderling_testkit::Runtime;
use serde_json::{Value, json};

pub(crate) struct Wasmtime {
    files: BundleFiles,
    host: WasmHost,
}

impl Wasmtime {
    pub(crate) fn new(bundle: &Path) -> Self {
        let component = std::env::var_os("SANDERLING_COMPONENT")
            .map_or_else(|| crate::here().join("../build/sanderling-edge.wasm"), PathBuf::from);
        let mut host = WasmHost::new(&component, HostLimits::default())
            .expect("the component loads; `./build.sh wasm` makes it");
        let files = sanderling_train::bundle::read(bundle).expect("the bundle folder can be read");
        host.load_bundle(&by_name(&files), &[]).expect("the bundle opens under wasmtime");
        Self { files, host }
    }
}

fn by_name(files: &BundleFiles) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
}

impl Runtime for Wasmtime {
    fn name(&self) -> &str {
        "wasmtime"
    }

    fn run(&mut self, operations: &[Value]) -> Result<Vec<Value>, String> {
        let mut answers = Vec::with_capacity(operations.len());
        for operation in operations {
            if operation["op"] == "load" {
                let files = crate::native::mutated(&self.files, operation.get("mutate"));
                answers.push(match self.host.load_bundle(&by_name(&files), &[]) {
                    Ok(_) => json!({ "ok": null }),
                    Err(error) => json!({ "error": error }),
                });
            } else {
                let answer = self.host.run_operations(std::slice::from_ref(operation));
                answers.extend(answer.map_err(|error| error.to_string())?);
            }
        }
        Ok(answers)
    }
}
