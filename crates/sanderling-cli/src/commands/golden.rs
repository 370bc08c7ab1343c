//! `sanderling golden`.

use std::path::PathBuf;

use clap::Args;
use sanderling_testkit::{GoldenCase, GoldenFile, samples, write_golden};
use sanderling_types::{Code, Error, FORMAT_VERSION, Result};
use serde_json::json;

use crate::output::{Output, Verdict};

/// Write golden vectors: sample operations with the answers of the native engine.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sanderling golden tests/golden/v1/bundle --out tests/golden/v1/operations.json"
)]
pub(crate) struct Golden {
    /// Bundle folder.
    bundle: PathBuf,
    /// File to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(crate) fn run(args: &Golden, output: &Output) -> Result<Verdict> {
    let engine = super::load_engine(&args.bundle, None)?;
    let bundle = engine.bundle();
    let cases: Vec<GoldenCase> = samples(bundle.manifest(), &bundle.vocabulary().unpack(), bundle.baseline())
        .into_iter()
        .map(|expectation| {
            let expected = super::run_operation(&engine, &expectation.operation);
            GoldenCase { expectation, expected }
        })
        .collect();
    let file = GoldenFile {
        format_version: FORMAT_VERSION,
        bundle_sha256: bundle.hash().to_string(),
        written_by: "sanderling golden".to_owned(),
        cases,
    };
    write_golden(&file, &args.out).map_err(|error| Error::new(Code::Io, error))?;
    let text = format!("{} cases in {}", file.cases.len(), args.out.display());
    output.result(&json!({ "cases": file.cases.len(), "out": args.out }), &text)?;
    Ok(Verdict::Done)
}
