//! `sanderling verify`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sanderling_cli::wasm_host::{HostLimits, WasmHost};
use sanderling_core::PublicKey;
use sanderling_testkit::{Expectation, difference, samples};
use sanderling_types::{Code, Error, Result};
use serde_json::{Value, json};

use crate::output::{Output, Verdict};

/// Check a bundle: lengths, hashes, signature, models; that no model fails on a session of known
/// items; and that it gives the same results as wasm. Exit 1 when a model fails or results differ.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sanderling verify bundles/shop --public-key shop.key.pub\n  \
    sanderling verify bundles/shop --runtime wasm --component build/sanderling-edge.wasm")]
pub(crate) struct Verify {
    /// Bundle folder.
    bundle: PathBuf,
    /// File with a public key; with several, one of them must have signed the bundle.
    #[arg(long, value_name = "FILE")]
    public_key: Vec<PathBuf>,
    /// Where to run the bundle.
    #[arg(long, value_enum, default_value_t = RuntimeArg::Native)]
    runtime: RuntimeArg,
    /// The engine as a wasi:http component, for --runtime wasm.
    #[arg(long, value_name = "FILE", default_value = "build/sanderling-edge.wasm")]
    component: PathBuf,
    /// Most wasm instructions (fuel) of one operation.
    #[arg(long, default_value_t = HostLimits::default().fuel)]
    fuel: u64,
    /// Most wasm memory in bytes.
    #[arg(long, default_value_t = HostLimits::default().memory_bytes)]
    memory_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RuntimeArg {
    /// The native library.
    Native,
    /// The same core as a wasm component under wasmtime, with limits on fuel and memory.
    Wasm,
}

pub(crate) fn run(args: &Verify, output: &Output) -> Result<Verdict> {
    let trust = super::trust(&args.public_key)?;
    let engine = super::load_engine(&args.bundle, Some(&trust))?;
    let bundle = engine.bundle();
    let cases = samples(bundle.manifest(), &bundle.vocabulary().unpack(), bundle.baseline());
    let native: Vec<Value> =
        cases.iter().map(|case| super::run_operation(&engine, &case.operation)).collect();
    let differences = match args.runtime {
        RuntimeArg::Native => Vec::new(),
        RuntimeArg::Wasm => compare(args, &cases, &native, &trust.keys)?,
    };
    let failures: Vec<String> =
        cases.iter().zip(&native).flat_map(|(case, answer)| failures(&case.name, answer)).collect();
    let json = json!({
        "bundle_hash": bundle.hash(),
        "signature_checked": !trust.keys.is_empty(),
        "runtime": if args.runtime == RuntimeArg::Wasm { "wasm" } else { "native" },
        "operations": cases.len(),
        "differences": differences,
        "failures": failures,
    });
    let mut lines = vec![format!("{} is intact; {} operations run", bundle.hash(), cases.len())];
    lines.extend(differences.iter().chain(&failures).cloned());
    output.result(&json, &lines.join("\n"))?;
    Ok(Verdict::wanting_if(!differences.is_empty() || !failures.is_empty()))
}

/// The faults of an answer that say that a model failed. A session without known items never
/// reaches a model, so none of these can be the session's own fault.
fn failures(name: &str, answer: &Value) -> Vec<String> {
    let faults = answer["ok"]["response"]["faults"].as_array();
    let failed = faults.into_iter().flatten().filter(|fault| {
        let code = fault["code"].as_str();
        code.is_some_and(|code| code.ends_with("_failed"))
    });
    failed
        .map(|fault| {
            let text = |key: &str| fault[key].as_str().unwrap_or_default().to_owned();
            format!("{name}: {}: {}", text("code"), text("detail"))
        })
        .collect()
}

fn compare(
    args: &Verify,
    cases: &[Expectation],
    native: &[Value],
    keys: &[PublicKey],
) -> Result<Vec<String>> {
    let limits = HostLimits { fuel: args.fuel, memory_bytes: args.memory_bytes, ..HostLimits::default() };
    let mut host = WasmHost::new(&args.component, limits)?;
    let files: BTreeMap<String, Vec<u8>> = sanderling_train::bundle::read(&args.bundle)?
        .iter()
        .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .collect();
    host.load_bundle(&files, keys)?;
    let operations: Vec<Value> = cases.iter().map(|case| case.operation.clone()).collect();
    let answers = host.run_operations(&operations)?;
    if answers.len() != native.len() {
        return Err(Error::new(Code::Internal, "wasm answered another number of operations")
            .expected(native.len())
            .found(answers.len()));
    }
    let found = cases.iter().zip(native).zip(&answers).filter_map(|((case, native), answer)| {
        difference(native, answer, case.tolerance).map(|found| format!("{}: {found}", case.name))
    });
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_fails_is_a_failure_and_an_empty_session_is_none() {
        let answer =
            |code: &str| json!({ "ok": { "response": { "faults": [{ "code": code, "detail": "why" }] } } });
        assert_eq!(failures("recommend 3", &answer("encoder_failed")), ["recommend 3: encoder_failed: why"]);
        assert_eq!(failures("recommend 3", &answer("ranker_failed")).len(), 1);
        assert!(failures("recommend 3", &answer("empty_session")).is_empty());
        assert!(failures("encode", &json!({ "ok": { "query": [1.0] } })).is_empty());
    }
}
