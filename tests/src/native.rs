//! The native engine, and the mutations of bundles that every runtime must refuse.

use std::path::Path;

use sanderling_core::{Bundle, BundleFiles, Engine, operations};
use sanderling_testkit::Runtime;
use sanderling_tract::FullRuntime;
use sanderling_types::Result;
use serde_json::{Value, json};

pub(crate) struct Native {
    files: BundleFiles,
    engine: Engine,
}

impl Native {
    pub(crate) fn new(bundle: &Path) -> Self {
        let files = sanderling_train::bundle::read(bundle).expect("the bundle folder can be read");
        let engine = open(files.clone()).expect("the bundle opens");
        Self { files, engine }
    }
}

fn open(files: BundleFiles) -> Result<Engine> {
    Engine::new(Bundle::open(files, None)?, &FullRuntime)
}

/// A changed copy of a bundle's files, as the argument `mutate` of the operation `load` says.
pub(crate) fn mutated(files: &BundleFiles, mutate: Option<&Value>) -> BundleFiles {
    let mut files = files.clone();
    let Some(mutate) = mutate else { return files };
    let name = mutate["file"].as_str().expect("a mutation names a file").to_owned();
    let mut bytes = files.get(&name).expect("the bundle has the file").to_vec();
    if let Some(at) = mutate["flip_byte"].as_u64() {
        bytes[at as usize] ^= 0xFF;
    } else if let Some(len) = mutate["truncate_to"].as_u64() {
        bytes.truncate(len as usize);
    } else if let Some(version) = mutate["replace_format_version"].as_u64() {
        let text = String::from_utf8(bytes).expect("a manifest is text");
        bytes = text.replace("\"format_version\":1", &format!("\"format_version\":{version}")).into_bytes();
    }
    files.insert(name, bytes);
    files
}

impl Runtime for Native {
    fn name(&self) -> &str {
        "native"
    }

    fn run(&mut self, operations: &[Value]) -> std::result::Result<Vec<Value>, String> {
        Ok(operations
            .iter()
            .map(|operation| {
                if operation["op"] != "load" {
                    let answer = operations::run(&self.engine, &operation.to_string());
                    return serde_json::from_str(&answer).expect("an answer is JSON");
                }
                match open(mutated(&self.files, operation.get("mutate"))) {
                    Ok(_) => json!({ "ok": null }),
                    Err(error) => json!({ "error": error }),
                }
            })
            .collect())
    }
}
