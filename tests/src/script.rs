//! Runtimes that a Node script drives: the packed npm package in Node, Deno, Bun, Chromium, Firefox and workerd.

use std::path::{Path, PathBuf};
use std::process::Command;

use sanderling_testkit::Runtime;
use serde_json::Value;

pub(crate) struct Script {
    runtime: String,
    bundle: PathBuf,
}

impl Script {
    pub(crate) fn new(runtime: &str, bundle: &Path) -> Self {
        Self { runtime: runtime.to_owned(), bundle: bundle.to_owned() }
    }
}

impl Runtime for Script {
    fn name(&self) -> &str {
        &self.runtime
    }

    fn run(&mut self, operations: &[Value]) -> Result<Vec<Value>, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("operations.json");
        let text = serde_json::to_string(operations).map_err(|error| error.to_string())?;
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        let output = Command::new("node")
            .arg(crate::here().join("js/run-operations.mjs"))
            .args(["--runtime", &self.runtime])
            .arg("--bundle")
            .arg(&self.bundle)
            .arg("--operations")
            .arg(&path)
            .output()
            .map_err(|error| format!("node cannot be started: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "{} runner failed: {}",
                self.runtime,
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{} runner: {error}", self.runtime))
    }
}
