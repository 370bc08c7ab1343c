//! `sanderling evaluate`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use sanderling_train::candidates::Candidates;
use sanderling_train::details::{Details, details};
use sanderling_train::evaluate;
use sanderling_train::metrics::Metrics;
use sanderling_train::slices::Slices;
use sanderling_train::split::{self, SplitKind};
use sanderling_types::{Code, Error, Quantisation, Result};
use serde::Serialize;

use super::recipe::SplitArg;
use super::table;
use super::train::file_bytes;
use crate::location::DataLocation;
use crate::output::{self, Output, Verdict};
use crate::progress;
use crate::report;
use crate::usage::Usage;

/// The word for items without training interactions.
const UNTOUCHED: &str = "untouched";

/// Measure a bundle on the test part of data, beside the baselines.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling evaluate bundles/shop data/shop --json\n  \
    sanderling evaluate bundles/shop data/shop --report shop.html\n  \
    sanderling evaluate bundles/cold data/shop --among untouched")]
pub(crate) struct Evaluate {
    /// Bundle folder.
    bundle: PathBuf,
    /// Data folder, or the object-store URL of one.
    data: DataLocation,
    /// How the data is divided; by default as the bundle was trained.
    #[arg(long, value_enum)]
    split: Option<SplitArg>,
    /// What answers are looked for among instead of the whole catalogue: `untouched`, the items without training
    /// interactions, or a CSV file of user_id,item_id with the candidates of each user.
    #[arg(long, value_name = "untouched|FILE")]
    among: Option<PathBuf>,
    /// Also write the result as a page for people: one HTML file that needs no network.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct EvaluateResult {
    recommender: String,
    split: String,
    /// What answers were looked for among.
    among: String,
    seed: u64,
    num_cases: usize,
    metrics: Metrics,
    baselines: BTreeMap<String, Metrics>,
    slices: Slices,
    #[serde(flatten)]
    details: Details,
    bundle_bytes: u64,
    bundle_hash: String,
    file_bytes: BTreeMap<String, u64>,
    quantisation: Quantisation,
    #[serde(flatten)]
    usage: Usage,
}

/// The split of a manifest's name.
pub(crate) fn split_kind(name: &str) -> Result<SplitKind> {
    [SplitKind::Time, SplitKind::LeaveOneOut, SplitKind::HeldOutItems, SplitKind::NextClick]
        .into_iter()
        .find(|kind| kind.as_str() == name)
        .ok_or_else(|| {
            Error::new(Code::SplitUnsupported, "the bundle was trained on a split that is not known")
                .expected("time, leave-one-out, held-out-items or next-click")
                .found(name)
                .hint("say which to use with --split")
        })
}

pub(crate) fn run(args: &Evaluate, output: &Output) -> Result<Verdict> {
    let start = Instant::now();
    output::check_path(args.report.as_deref())?;
    let engine = super::load_engine(&args.bundle, None)?;
    let manifest = engine.bundle().manifest();
    let kind = match args.split {
        Some(split) => split.into(),
        None => split_kind(&manifest.training.split)?,
    };
    let dataset = progress::read_dataset(&args.data)?;
    let mut split = split::split(&dataset, kind)?;
    split.exclude_seen = manifest.policy.exclude_seen;
    split.candidates = match args.among.as_deref() {
        None => Candidates::Catalogue,
        Some(path) if path == Path::new(UNTOUCHED) => Candidates::untouched(&split),
        Some(path) => Candidates::read(path, &dataset, &split)?,
    };
    let evaluation = evaluate::beside_baselines(&engine, &split);
    let details = details(&engine, &split)?;
    if let Some(path) = &args.report {
        report::write(path, &engine, &split, &evaluation, &details, &[])?;
    }
    let result = EvaluateResult {
        recommender: manifest.recommender.clone(),
        split: kind.as_str().to_owned(),
        seed: manifest.training.seed,
        among: split.candidates.describe(),
        num_cases: evaluation.num_cases,
        metrics: evaluation.metrics,
        baselines: evaluation.baselines,
        slices: evaluation.slices,
        details,
        bundle_bytes: manifest.bundle_bytes(),
        bundle_hash: engine.bundle().hash().to_string(),
        file_bytes: file_bytes(manifest),
        quantisation: manifest.quantisation.clone(),
        usage: Usage::since(start),
    };
    let text = format!(
        "{} test cases, split {}, among {}\n{}",
        result.num_cases,
        result.split,
        result.among,
        table::metrics(&result.recommender, &result.metrics, &result.baselines)
    );
    output.result(&result, &text)?;
    Ok(Verdict::Done)
}
