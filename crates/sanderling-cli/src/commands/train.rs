//! `sanderling train`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use sanderling_core::BundleFiles;
use sanderling_train::data::Dataset;
use sanderling_train::rankers::choice::RankerReport;
use sanderling_train::recipe::Recipe;
use sanderling_train::slices::Slices;
use sanderling_train::split::{self, SplitKind};
use sanderling_train::train::{self, Lineage, RECOMMENDER, Step, Trained};
use sanderling_train::{bundle, checkpoint, metrics::Metrics};
use sanderling_types::{Manifest, Quantisation, Result};
use serde::Serialize;

use super::table;
use crate::output::{Output, Verdict};
use crate::progress::TrainingProgress;
use crate::report;
use crate::usage::Usage;

/// How the data is divided, see `docs/evaluation.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitArg {
    /// Newest tenth of the time tests.
    Time,
    /// Each user's last interaction tests.
    LeaveOneOut,
    /// Every prefix of a test session is a case.
    NextClick,
}

impl From<SplitArg> for SplitKind {
    fn from(arg: SplitArg) -> Self {
        match arg {
            SplitArg::Time => SplitKind::Time,
            SplitArg::LeaveOneOut => SplitKind::LeaveOneOut,
            SplitArg::NextClick => SplitKind::NextClick,
        }
    }
}

/// Train a recommender, measure it against baselines, write its bundle.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling train data/shop --out bundles/shop --json\n  \
    sanderling train data/ml-1m --split leave-one-out --seed 7 --out bundles/ml-1m\n  \
    sanderling train data/shop --out bundles/shop --report shop.html")]
pub(crate) struct Train {
    /// Data folder, or a bare table of interactions.
    data: PathBuf,
    /// Recipe file; see docs/formats/recipe.md.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// How the data is divided; overrides the recipe.
    #[arg(long, value_enum)]
    split: Option<SplitArg>,
    /// Seed of every random choice; overrides the recipe.
    #[arg(long)]
    seed: Option<u64>,
    /// Name of the bundle; overrides the recipe.
    #[arg(long)]
    name: Option<String>,
    /// Most passes over the data; overrides the recipe.
    #[arg(long)]
    max_epochs: Option<usize>,
    /// Largest bundle; item vectors are packed tighter to fit. Overrides the recipe.
    #[arg(long, value_name = "BYTES")]
    max_bundle_bytes: Option<u64>,
    /// Threads; the result does not depend on it. By default one a core.
    #[arg(long, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    threads: Option<usize>,
    /// Keep the state of training in this file after every epoch, and go on from it if it is there; it is
    /// removed when the bundle is written.
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Folder to write the bundle to.
    #[arg(long, value_name = "BUNDLE")]
    out: PathBuf,
    /// Also write the result as a page for people: one HTML file that needs no network.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What `train --json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct TrainResult {
    pub(crate) recommender: String,
    pub(crate) split: String,
    pub(crate) seed: u64,
    pub(crate) num_cases: usize,
    pub(crate) metrics: Metrics,
    pub(crate) baselines: BTreeMap<String, Metrics>,
    pub(crate) slices: Slices,
    pub(crate) bundle_bytes: u64,
    pub(crate) bundle_hash: String,
    pub(crate) file_bytes: BTreeMap<String, u64>,
    pub(crate) quantisation: Quantisation,
    pub(crate) ranker: RankerReport,
    pub(crate) epochs: usize,
    pub(crate) tokens: u64,
    /// Of the epochs of this run alone: without reading, packing, evaluating, and what `--resume` took over.
    pub(crate) fit_wall_seconds: f64,
    #[serde(flatten)]
    pub(crate) usage: Usage,
}

/// Length of every file of a bundle.
pub(crate) fn file_bytes(files: &BundleFiles) -> BTreeMap<String, u64> {
    files.iter().map(|(name, bytes)| (name.to_owned(), bytes.len() as u64)).collect()
}

impl TrainResult {
    pub(crate) fn new(trained: &Trained, fit_wall_seconds: f64, usage: Usage) -> Self {
        let Manifest { training, quantisation, .. } = &trained.manifest;
        Self {
            recommender: RECOMMENDER.to_owned(),
            split: training.split.clone(),
            seed: training.seed,
            num_cases: trained.evaluation.num_cases,
            metrics: trained.evaluation.metrics.clone(),
            baselines: trained.evaluation.baselines.clone(),
            slices: trained.evaluation.slices.clone(),
            bundle_bytes: trained.manifest.bundle_bytes(),
            bundle_hash: trained.manifest.bundle_hash().to_string(),
            file_bytes: file_bytes(&trained.files),
            quantisation: quantisation.clone(),
            ranker: trained.ranker.clone(),
            epochs: trained.curve.len(),
            tokens: trained.curve.last().map_or(0, |epoch| epoch.tokens),
            fit_wall_seconds,
            usage,
        }
    }

    pub(crate) fn text(&self) -> String {
        let files: Vec<String> = self
            .file_bytes
            .iter()
            .map(|(name, len)| format!("  {name:<16}{:>12}", table::bytes(*len)))
            .collect();
        format!(
            "{} test cases, split {}, seed {}; metrics of the packed bundle with 95 % intervals\n{}\n\n\
             ranker {}: {}\n\nbundle {} ({})\n{}\n\n{:.0} CPU seconds, {:.0} s, peak memory {}",
            self.num_cases,
            self.split,
            self.seed,
            table::metrics(&self.recommender, &self.metrics, &self.baselines),
            self.ranker.kind.as_str(),
            self.ranker.reason,
            self.bundle_hash,
            table::bytes(self.bundle_bytes),
            files.join("\n"),
            self.usage.cpu_seconds,
            self.usage.wall_seconds,
            table::bytes(self.usage.peak_rss_bytes)
        )
    }
}

/// The recipe of a file (or the default) with what the command line overrides.
pub(crate) fn recipe(file: Option<&PathBuf>, split: Option<SplitArg>, seed: Option<u64>) -> Result<Recipe> {
    let mut recipe = file.map_or_else(|| Ok(Recipe::default()), |file| Recipe::read(file))?;
    recipe.split = split.map_or(recipe.split, SplitKind::from);
    recipe.seed = seed.unwrap_or(recipe.seed);
    Ok(recipe)
}

pub(crate) fn run(args: &Train, output: &Output) -> Result<Verdict> {
    let start = Instant::now();
    report::check_path(args.report.as_deref())?;
    let mut recipe = recipe(args.recipe.as_ref(), args.split, args.seed)?;
    recipe.name = args.name.clone().unwrap_or(recipe.name);
    recipe.model.max_epochs = args.max_epochs.or(recipe.model.max_epochs);
    recipe.max_bundle_bytes = args.max_bundle_bytes.or(recipe.max_bundle_bytes);
    let dataset = Dataset::read(&args.data)?;
    let state = args.resume.as_deref().map_or(Ok(None), checkpoint::read)?;
    if let Some(state) = &state {
        output.note(&format!("going on after epoch {}", state.epochs()));
    }
    let (epochs, tokens) = state.as_ref().map_or((0, 0), |state| (state.epochs(), state.tokens()));
    let mut progress = TrainingProgress::after(epochs, tokens);
    let mut unsaved = Ok(());
    let mut watch = |step: Step<'_>| {
        if let (Some(path), Step::Epoch(_, state)) = (&args.resume, step) {
            unsaved = checkpoint::write(path, state);
        }
        progress.show(step) && unsaved.is_ok()
    };
    let trained = with_threads(args.threads, || {
        train::train(&dataset, &recipe, &Lineage::default(), state, &mut watch)
    })?;
    unsaved?;
    let trained = trained?;
    let fit_wall_seconds = progress.fit_wall_seconds();
    drop(progress);
    bundle::write(&trained.files, &args.out)?;
    args.resume.as_deref().map_or(Ok(()), checkpoint::remove)?;
    if let Some(path) = &args.report {
        let engine = super::load_engine(&args.out, None)?;
        let mut split = split::split(&dataset, recipe.split)?;
        split.exclude_seen = trained.manifest.policy.exclude_seen;
        report::write(path, &engine, &split, &trained.evaluation, &trained.curve)?;
    }
    let result = TrainResult::new(&trained, fit_wall_seconds, Usage::since(start));
    output.result(&result, &result.text())?;
    Ok(Verdict::Done)
}

/// Runs `work` on a pool of `threads`, or on the default pool.
pub(crate) fn with_threads<T: Send>(threads: Option<usize>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let Some(threads) = threads else { return Ok(work()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| {
        sanderling_types::Error::new(sanderling_types::Code::InvalidArgument, "threads cannot be started")
            .found(threads)
            .source_error(error)
    })?;
    Ok(pool.install(work))
}
