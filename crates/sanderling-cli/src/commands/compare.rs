//! `sanderling compare`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use sanderling_core::Engine;
use sanderling_train::compare::{Comparison, compare};
use sanderling_train::evaluate::Evaluation;
use sanderling_train::metrics::Metrics;
use sanderling_train::slices::Slices;
use sanderling_train::split::{self, SplitKind};
use sanderling_types::{Code, Error, Metric, Result};
use serde::Serialize;

use super::recipe::SplitArg;
use super::{evaluate, table};
use crate::location::DataLocation;
use crate::output::{Output, Verdict};
use crate::progress;
use crate::usage::Usage;

/// Measure two bundles on the same test part of data; exit 1 when the second is not better.
///
/// B is better when the lower end of the 95 % interval of the paired difference in NDCG@10, B minus A,
/// is above 0.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling compare bundles/shop bundles/shop-next data/shop --json")]
pub(crate) struct Compare {
    /// Bundle folder that B must beat.
    a: PathBuf,
    /// Bundle folder that may be better.
    b: PathBuf,
    /// Data folder, or the object-store URL of one.
    data: DataLocation,
    /// How the data is divided; by default as both bundles were trained.
    #[arg(long, value_enum)]
    split: Option<SplitArg>,
}

#[derive(Debug, Serialize)]
struct CompareResult {
    split: String,
    num_cases: usize,
    a: Side,
    b: Side,
    difference_ndcg10: Metric,
    better: bool,
    #[serde(flatten)]
    usage: Usage,
}

/// One of the two bundles.
#[derive(Debug, Serialize)]
struct Side {
    name: String,
    version: u64,
    recommender: String,
    seed: u64,
    metrics: Metrics,
    slices: Slices,
    bundle_bytes: u64,
    bundle_hash: String,
}

impl Side {
    fn new(engine: &Engine, evaluation: Evaluation) -> Self {
        let manifest = engine.bundle().manifest();
        Self {
            name: manifest.name.clone(),
            version: manifest.version,
            recommender: manifest.recommender.clone(),
            seed: manifest.training.seed,
            metrics: evaluation.metrics,
            slices: evaluation.slices,
            bundle_bytes: manifest.bundle_bytes(),
            bundle_hash: engine.bundle().hash().to_string(),
        }
    }

    fn line(&self, letter: char) -> String {
        let bytes = table::bytes(self.bundle_bytes);
        format!("{letter}  {} version {}  {bytes}  {}", self.name, self.version, self.bundle_hash)
    }
}

/// The split that neither bundle has seen the test part of.
fn common_split(a: &Engine, b: &Engine) -> Result<SplitKind> {
    let trained_on = |engine: &Engine| evaluate::split_kind(&engine.bundle().manifest().training.split);
    let (a, b) = (trained_on(a)?, trained_on(b)?);
    if a == b {
        return Ok(a);
    }
    Err(Error::new(Code::SplitUnsupported, "the bundles were trained on different splits")
        .expected(format!("both on {}", a.as_str()))
        .found(format!("the second on {}", b.as_str()))
        .hint("say which to use with --split; a bundle may have trained on the test part of another split"))
}

fn text(result: &CompareResult) -> String {
    let difference = result.difference_ndcg10;
    format!(
        "{}\n{}\n\n{} test cases, split {}\n{}\n\nNDCG@10, B minus A, paired: {:+.4} ({:+.4} to {:+.4})\n{}",
        result.a.line('A'),
        result.b.line('B'),
        result.num_cases,
        result.split,
        table::metrics("A", &result.a.metrics, &BTreeMap::from([("B".to_owned(), result.b.metrics.clone())])),
        difference.value,
        difference.low,
        difference.high,
        if result.better { "B is better" } else { "B is not better" }
    )
}

pub(crate) fn run(args: &Compare, output: &Output) -> Result<Verdict> {
    let start = Instant::now();
    let (a, b) = (super::load_engine(&args.a, None)?, super::load_engine(&args.b, None)?);
    let kind = args.split.map_or_else(|| common_split(&a, &b), |split| Ok(split.into()))?;
    let Comparison { a: of_a, b: of_b, difference_ndcg10, better } =
        compare(&a, &b, split::split(&progress::read_dataset(&args.data)?, kind)?);
    let result = CompareResult {
        split: kind.as_str().to_owned(),
        num_cases: of_a.num_cases,
        a: Side::new(&a, of_a),
        b: Side::new(&b, of_b),
        difference_ndcg10,
        better,
        usage: Usage::since(start),
    };
    output.result(&result, &text(&result))?;
    Ok(Verdict::wanting_if(!better))
}
