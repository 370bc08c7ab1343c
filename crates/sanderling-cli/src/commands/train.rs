//! `sanderling train`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use sanderling_train::details::Details;
use sanderling_train::rankers::choice::RankerReport;
use sanderling_train::recommenders::Recommender;
use sanderling_train::sequence::Epoch;
use sanderling_train::slices::Slices;
use sanderling_train::train::{self, Lineage, Step, Trained};
use sanderling_train::{bundle, checkpoint, metrics::Metrics};
use sanderling_types::{Code, Error, Manifest, Quantisation, Result};
use serde::Serialize;

use super::choice::{ChoiceResult, CostMeter};
use super::recipe::RecipeArgs;
use super::table;
use crate::location::DataLocation;
use crate::output::{self, Output, Verdict};
use crate::progress::{self, TrainingProgress};
use crate::report;
use crate::usage::Usage;

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecommenderArg {
    /// All of them; the best on the validation part is taken.
    Auto,
    /// Most interactions first, fading with time where that helps.
    Popular,
    /// Popularity that fades.
    Recent,
    /// Items that the same users chose.
    ItemKnn,
    /// What similar sessions held, added up from item to item.
    VmisKnn,
    /// A linear autoencoder of users' items.
    Ease,
    /// Matrix factorisation.
    Ials,
    /// A transformer over the history.
    Sequence,
}

impl From<RecommenderArg> for Recommender {
    fn from(arg: RecommenderArg) -> Self {
        match arg {
            RecommenderArg::Auto => Recommender::Auto,
            RecommenderArg::Popular => Recommender::Popular,
            RecommenderArg::Recent => Recommender::Recent,
            RecommenderArg::ItemKnn => Recommender::ItemKnn,
            RecommenderArg::VmisKnn => Recommender::VmisKnn,
            RecommenderArg::Ease => Recommender::Ease,
            RecommenderArg::Ials => Recommender::Ials,
            RecommenderArg::Sequence => Recommender::Sequence,
        }
    }
}

/// Train a recommender, measure it against baselines, write its bundle.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling train data/shop --out bundles/shop --json\n  \
    sanderling train data/ml-1m --split leave-one-out --seed 7 --out bundles/ml-1m\n  \
    sanderling train data/shop --recommender auto --max-bundle-bytes 500000 --out bundles/shop\n  \
    sanderling train data/shop --out bundles/shop --report shop.html")]
pub(crate) struct Train {
    /// Data folder, or a bare table of interactions, or the object-store URL of one.
    data: DataLocation,
    #[command(flatten)]
    recipe: RecipeArgs,
    /// What to train; overrides the recipe.
    #[arg(long, value_enum)]
    recommender: Option<RecommenderArg>,
    /// Most passes over the data; overrides the recipe.
    #[arg(long)]
    max_epochs: Option<usize>,
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
    #[serde(flatten)]
    pub(crate) details: Details,
    pub(crate) curve: Vec<Epoch>,
    pub(crate) bundle_bytes: u64,
    pub(crate) bundle_hash: String,
    pub(crate) file_bytes: BTreeMap<String, u64>,
    pub(crate) quantisation: Quantisation,
    pub(crate) ranker: RankerReport,
    /// What was chosen on the validation part on the way, for people.
    pub(crate) settings: String,
    /// What else was tried, and why it was not taken; `null` where there was nothing to choose between.
    pub(crate) choice: Option<ChoiceResult>,
    pub(crate) epochs: usize,
    pub(crate) tokens: u64,
    /// Of the epochs of this run alone: without reading, packing, evaluating, and what `--resume` took over.
    pub(crate) fit_wall_seconds: f64,
    #[serde(flatten)]
    pub(crate) usage: Usage,
}

/// Length of every file of a bundle, the manifest included.
pub(crate) fn file_bytes(manifest: &Manifest) -> BTreeMap<String, u64> {
    let itself = (Manifest::FILE_NAME.to_owned(), manifest.encode().len() as u64);
    manifest.files.values().map(|file| (file.path.clone(), file.bytes)).chain([itself]).collect()
}

impl TrainResult {
    pub(crate) fn new(trained: &Trained, costs: &CostMeter, fit_wall_seconds: f64, usage: Usage) -> Self {
        let Manifest { training, quantisation, recommender, .. } = &trained.manifest;
        Self {
            recommender: recommender.clone(),
            split: training.split.clone(),
            seed: training.seed,
            num_cases: trained.evaluation.num_cases,
            metrics: trained.evaluation.metrics.clone(),
            baselines: trained.evaluation.baselines.clone(),
            slices: trained.evaluation.slices.clone(),
            details: trained.details.clone(),
            curve: trained.curve.clone(),
            bundle_bytes: trained.manifest.bundle_bytes(),
            bundle_hash: trained.manifest.bundle_hash().to_string(),
            file_bytes: file_bytes(&trained.manifest),
            quantisation: quantisation.clone(),
            ranker: trained.ranker.clone(),
            settings: trained.settings.clone(),
            choice: trained.choice.as_ref().map(|choice| ChoiceResult::new(choice, costs)),
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
        let choice = self.choice.as_ref().map_or_else(String::new, |choice| format!("{}\n\n", choice.text()));
        format!(
            "{choice}{} test cases, split {}, seed {}; metrics of the packed bundle with 95 % intervals\n{}\n\n\
             ranker {}: {}\n\nbundle {} ({})\n{}\n\n{}\n\n{:.0} CPU seconds, {:.0} s, peak memory {}",
            self.num_cases,
            self.split,
            self.seed,
            table::metrics(&self.recommender, &self.metrics, &self.baselines),
            self.ranker.kind.as_str(),
            self.ranker.reason,
            self.bundle_hash,
            table::bytes(self.bundle_bytes),
            files.join("\n"),
            table::packing(&self.quantisation),
            self.usage.cpu_seconds,
            self.usage.wall_seconds,
            table::bytes(self.usage.peak_rss_bytes)
        )
    }
}

pub(crate) fn run(args: &Train, output: &Output) -> Result<Verdict> {
    let start = Instant::now();
    output::check_path(args.report.as_deref())?;
    let mut recipe = args.recipe.recipe()?;
    recipe.recommender = args.recommender.map_or(recipe.recommender, Recommender::from);
    recipe.model.max_epochs = args.max_epochs.or(recipe.model.max_epochs);
    let dataset = progress::read_for(&args.data, &recipe)?;
    let state = args.resume.as_deref().map_or(Ok(None), checkpoint::read)?;
    if let Some(state) = &state {
        output.note(&format!("going on after epoch {}", state.epochs()));
    }
    let (epochs, tokens) = state.as_ref().map_or((0, 0), |state| (state.epochs(), state.tokens()));
    let mut progress = TrainingProgress::after(epochs, tokens)?;
    let mut costs = CostMeter::new(start);
    let mut unsaved = Ok(());
    let mut watch = |step: Step<'_>| {
        if let (Some(path), Step::Epoch(_, state)) = (&args.resume, step) {
            unsaved = checkpoint::write(path, state);
        }
        costs.note(step);
        progress.show(step) && unsaved.is_ok()
    };
    let trained = with_threads(args.threads, || {
        train::train(&dataset, &recipe, &Lineage::default(), state, &mut watch)
    })?;
    unsaved?;
    let trained = trained.map_err(|error| with_the_way_on(error, args.resume.as_deref()))?;
    let fit_wall_seconds = progress.fit_wall_seconds();
    drop(progress);
    bundle::write(&trained.files, &args.out)?;
    args.resume.as_deref().map_or(Ok(()), checkpoint::remove)?;
    if let Some(path) = &args.report {
        report::write_of_bundle(path, &args.out, &dataset, recipe.split, &trained)?;
    }
    let result = TrainResult::new(&trained, &costs, fit_wall_seconds, Usage::since(start));
    output.result(&result, &result.text())?;
    Ok(Verdict::Done)
}

/// Tells how a stopped training goes on.
fn with_the_way_on(error: Error, checkpoint: Option<&Path>) -> Error {
    if error.code() != Code::Cancelled {
        return error;
    }
    error.hint(match checkpoint {
        Some(path) if path.exists() => {
            format!("the same command goes on after the last epoch, which is in {}", path.display())
        }
        Some(_) => "no epoch had ended; the same command starts again".to_owned(),
        None => "with --resume FILE the same command goes on after the last epoch".to_owned(),
    })
}

/// Runs `work` on a pool of `threads`, or on the default pool.
pub(crate) fn with_threads<T: Send>(threads: Option<usize>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let Some(threads) = threads else { return Ok(work()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| {
        Error::new(Code::InvalidArgument, "threads cannot be started").found(threads).source_error(error)
    })?;
    Ok(pool.install(work))
}
