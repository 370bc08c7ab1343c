//! One checker, every runtime: golden vectors and bundles that must be refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sanderling_conformance::{golden_bundle, here, runtimes};
use sanderling_testkit::{GoldenCase, GoldenFile, check, read_golden, tampering};
use sanderling_types::{Manifest, Sha256Hash};
use serde_json::json;

#[test]
fn every_runtime_gives_the_golden_answers() {
    let file = read_golden(&here().join("golden/v1/operations.json")).expect("the golden file can be read");
    let manifest =
        std::fs::read(golden_bundle().join(Manifest::FILE_NAME)).expect("the manifest can be read");
    let answered = Sha256Hash::of(&manifest).to_string();
    assert_eq!(file.bundle_sha256, answered, "the answers are of another bundle: run `sanderling golden`");
    for mut runtime in runtimes(&golden_bundle()) {
        let failures = check(&file, runtime.as_mut()).expect("the runtime runs");
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}

/// The code that each mutation must give: a flip is found by the hash, a cut by the length.
fn expected(name: &str) -> serde_json::Value {
    let code = match name {
        "load/good" => return json!({ "ok": null }),
        "load/bad_version" => "unsupported_format_version",
        name if name.starts_with("load/bad_manifest") => "manifest_invalid",
        name if name.starts_with("load/bad_flip") => "hash_mismatch",
        _ => "file_truncated",
    };
    json!({ "error": { "code": code } })
}

#[test]
fn every_runtime_refuses_a_damaged_bundle_with_the_same_code() {
    let bytes = std::fs::read(golden_bundle().join(Manifest::FILE_NAME)).expect("the manifest can be read");
    let manifest = Manifest::decode(&bytes).expect("the manifest decodes");
    let cases: Vec<GoldenCase> = tampering(&manifest)
        .into_iter()
        .map(|expectation| GoldenCase { expected: expected(&expectation.name), expectation })
        .collect();
    assert!(cases.len() > 40, "every file is flipped and cut at several places");
    let file = GoldenFile {
        format_version: 1,
        bundle_sha256: manifest.bundle_hash().to_string(),
        written_by: String::new(),
        cases,
    };
    for mut runtime in runtimes(&golden_bundle()) {
        let failures = check(&file, runtime.as_mut()).expect("the runtime runs");
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}
