//! From a dataset and a recipe to a measured bundle.

use std::collections::BTreeMap;

use sanderling_core::{Bundle, BundleFiles, Engine, ItemBits, ItemTable, TractRuntime};
use sanderling_types::{
    Baseline, Code, Error, FeatureSpec, Limits, Manifest, Metric, PolicyDefaults, Quantisation, Result,
    Sha256Hash, Shapes, TrainingWindow,
};

use crate::bundle::{self, Contents, Facts};
use crate::data::Dataset;
use crate::evaluate::{self, Evaluation};
use crate::metrics::{self, CaseResult};
use crate::rankers::choice::{self, RankerReport};
use crate::rankers::{Ranker, RankerKind, leaks, lists};
use crate::recipe::Recipe;
use crate::sequence::{self, Epoch, FitCase, FitData, FitState, Weights};
use crate::split::{self, Case, Split};
use crate::{baseline, card, importance, onnx};

/// Name of the recommender that this module trains.
pub const RECOMMENDER: &str = "sequence";

/// Fewest validation cases that early stopping looks at, where there are as many.
const MIN_STOPPING_CASES: usize = 500;

/// Largest share of validation NDCG@10 that packing may cost; more is a defect of the exporter.
const MAX_PACKING_LOSS: f64 = 0.05;

/// Bytes of a bundle beside encoder, item table and vocabulary: baseline, card, features, manifest, ranker.
const SMALL_FILES_BYTES: u64 = 12 * 1024;

/// Where the new bundle comes from.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    /// The champion's hash and version.
    pub parent: Option<(Sha256Hash, u64)>,
    /// What devices reported since: share of interactions by first category. Training examples are
    /// weighted so that target categories have these shares (importance weighting under covariate
    /// shift, Shimodaira 2000), each weight bounded to [0.5, 2].
    pub category_shares: BTreeMap<String, f64>,
}

/// A step of training, for progress lines.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// An epoch of the sequence model ended with this state, from which training can be resumed.
    Epoch(Epoch, &'a FitState),
    /// What is being done now.
    Doing(&'static str),
    /// What was decided, and why.
    Decided(&'a str),
}

/// A finished bundle with what was measured on the way.
#[derive(Debug)]
pub struct Trained {
    /// All files, manifest included.
    pub files: BundleFiles,
    /// The manifest.
    pub manifest: Manifest,
    /// Test metrics.
    pub evaluation: Evaluation,
    /// Every epoch.
    pub curve: Vec<Epoch>,
    /// Which ranker the bundle has, and why.
    pub ranker: RankerReport,
}

/// Trains, packs and measures, from the beginning or from the epoch after `resume`. `watch` sees every step and stops the work by returning `false`.
///
/// # Errors
/// [`Code::EmptyData`], [`Code::SplitUnsupported`], [`Code::RecipeInvalid`],
/// [`Code::FeatureLeaks`], [`Code::TrainingFailed`], [`Code::Cancelled`], [`Code::BudgetExceeded`]; [`Code::InvalidArgument`] when
/// `resume` is of other data or another recipe.
pub fn train(
    dataset: &Dataset,
    recipe: &Recipe,
    lineage: &Lineage,
    resume: Option<FitState>,
    watch: &mut dyn FnMut(Step<'_>) -> bool,
) -> Result<Trained> {
    recipe.check()?;
    let mut split = split::split(dataset, recipe.split)?;
    split.exclude_seen = recipe.exclude_seen.unwrap_or(split.exclude_seen);
    leaks::check_sources(&split, &recipe.ranker.features()?)?;
    let fitted = fit(&split, recipe, lineage, resume, watch)?;
    let doing = |what, watch: &mut dyn FnMut(Step<'_>) -> bool| {
        if watch(Step::Doing(what)) {
            Ok(())
        } else {
            Err(Error::new(Code::Cancelled, "training was stopped"))
        }
    };
    doing("packing the bundle", watch)?;
    let mut packer = Packer::new(&split, recipe, lineage, &fitted.weights)?;
    packer.measure_packing(&split)?;
    doing("fitting the ranker", watch)?;
    let ranker = packer.fit_ranker(&split, recipe)?;
    watch(Step::Decided(&format!("ranker {}: {}", ranker.kind.as_str(), ranker.reason)));
    doing("measuring the baseline", watch)?;
    packer.measure_baseline(&split, recipe)?;
    doing("evaluating on the test part", watch)?;
    let engine = packer.engine()?;
    let evaluation = evaluate::beside_baselines(&engine, &split);
    packer.facts.metrics = evaluation.metrics.clone();
    packer.contents.card = card::card(&packer.facts, &evaluation, &ranker);
    let (files, manifest) = bundle::assemble(&packer.contents, &packer.facts);
    if let Some(max) = recipe.max_bundle_bytes.filter(|max| manifest.bundle_bytes() > *max) {
        return Err(Error::new(Code::BudgetExceeded, "the bundle is over its budget")
            .expected(format!("at most {max} bytes"))
            .found(format!("{} bytes", manifest.bundle_bytes()))
            .hint("lower model.dim or model.max_session_len, or raise max_bundle_bytes"));
    }
    Bundle::open(files.clone(), None)?;
    Ok(Trained { files, manifest, evaluation, curve: fitted.curve, ranker })
}

fn mean_ndcg10(results: &[CaseResult]) -> f64 {
    results.iter().map(|result| metrics::gain_at_10(result.rank)).sum::<f64>() / results.len().max(1) as f64
}

fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn fit(
    split: &Split,
    recipe: &Recipe,
    lineage: &Lineage,
    resume: Option<FitState>,
    watch: &mut dyn FnMut(Step<'_>) -> bool,
) -> Result<sequence::Fitted> {
    let sequences: Vec<Vec<u32>> =
        split.training().map(|events| events.iter().map(|event| event.item).collect()).collect();
    let tokens: usize = sequences.iter().map(Vec::len).sum();
    let validation = stopping_cases(split, tokens / 2);
    let data = FitData {
        sequences: &sequences,
        num_items: split.vocabulary.len(),
        target_weights: &target_weights(split, &lineage.category_shares),
        validation: &validation,
        exclude_seen: split.exclude_seen,
    };
    let mut watch = |epoch: &Epoch, state: &FitState| watch(Step::Epoch(*epoch, state));
    sequence::fit(&data, &recipe.fit_options(split), resume, &mut watch)
}

/// Evenly spaced validation cases whose histories hold about `max_tokens` together, so that looking
/// at them after every epoch costs less than the epoch.
fn stopping_cases(split: &Split, max_tokens: usize) -> Vec<FitCase> {
    let all: Vec<FitCase> = split.choosing_cases().iter().filter_map(|&case| fit_case(split, case)).collect();
    let tokens: usize = all.iter().map(|case| case.history.len().min(200)).sum();
    let wanted = all.len() * max_tokens / tokens.max(1);
    let keep = wanted.max(MIN_STOPPING_CASES).min(all.len());
    (0..keep).map(|i| all[i * all.len() / keep].clone()).collect()
}

/// A case that the model can be asked: known history and known target.
fn fit_case(split: &Split, case: Case) -> Option<FitCase> {
    let history: Vec<u32> = split.rows(split.history(case)).collect();
    let target = split.row(split.target(case))?;
    (!history.is_empty()).then_some(FitCase { history, target })
}

/// Importance weight of every item as a target, see [`Lineage::category_shares`].
fn target_weights(split: &Split, shares: &BTreeMap<String, f64>) -> Vec<f32> {
    if shares.is_empty() {
        return Vec::new();
    }
    let vocabulary = &split.vocabulary;
    let first =
        |row: usize| vocabulary.item_categories[row].first().map(|&c| &vocabulary.categories[usize::from(c)]);
    let mut trained: BTreeMap<&String, f64> = BTreeMap::new();
    let total: f64 = vocabulary.popularity.iter().map(|&count| f64::from(count)).sum();
    for (row, &count) in vocabulary.popularity.iter().enumerate() {
        if let Some(category) = first(row) {
            *trained.entry(category).or_default() += f64::from(count) / total;
        }
    }
    (0..vocabulary.len())
        .map(|row| {
            let weight = first(row).and_then(|category| Some(shares.get(category)? / trained.get(category)?));
            weight.map_or(1.0, |weight| weight.clamp(0.5, 2.0) as f32)
        })
        .collect()
}

/// A bundle in the making: contents and facts that later steps replace one by one.
struct Packer {
    contents: Contents,
    facts: Facts,
}

impl Packer {
    fn new(split: &Split, recipe: &Recipe, lineage: &Lineage, weights: &Weights) -> Result<Self> {
        let features: FeatureSpec = recipe.ranker.features()?;
        let names = baseline::numeric_names(&features);
        let contents = Contents {
            encoder: onnx::encoder(weights),
            items: Vec::new(),
            ranker: Ranker::retrieval_order(&features).files(),
            vocabulary: split.vocabulary.clone(),
            baseline: baseline::draft(&names, &split.vocabulary),
            features,
            card: String::new(),
        };
        let shapes = Shapes {
            dim: weights.shape.dim as u32,
            num_features: contents.features.features.len() as u32,
            num_items: weights.num_items() as u32,
        };
        let choosing = split.choosing_cases();
        let validation: Vec<FitCase> = choosing.iter().filter_map(|&case| fit_case(split, case)).collect();
        let known = validation.len() as f64 / choosing.len().max(1) as f64;
        let ndcg10_f32 = round(sequence::ndcg10(weights, &validation, split.exclude_seen) * known);
        let facts = Facts {
            name: recipe.name.clone(),
            version: lineage.parent.map_or(1, |(_, version)| version + 1),
            parent: lineage.parent.map(|(hash, _)| hash),
            recommender: RECOMMENDER.to_owned(),
            shapes,
            limits: Limits {
                max_candidates: recipe.limits.max_candidates,
                max_limit: recipe.limits.max_limit,
                max_session_len: weights.shape.max_len as u32,
            },
            policy: PolicyDefaults { category_cap: recipe.category_cap, exclude_seen: split.exclude_seen },
            telemetry: recipe.telemetry_constants(),
            training: training_window(split, recipe),
            quantisation: Quantisation {
                item_bits: ItemBits::Eight.count(),
                encoder_bits: onnx::WEIGHT_BITS,
                ndcg10_f32,
                ndcg10_packed: 0.0,
            },
            metrics: BTreeMap::<String, Metric>::new(),
        };
        let mut packer = Self { contents, facts };
        packer.pack_items(weights, recipe)?;
        Ok(packer)
    }

    /// Packs item vectors to eight bits, or to four where the budget asks for it.
    fn pack_items(&mut self, weights: &Weights, recipe: &Recipe) -> Result<()> {
        for bits in [ItemBits::Eight, ItemBits::Four] {
            self.contents.items = ItemTable::quantise(&weights.items, weights.shape.dim, bits)?.encode();
            self.facts.quantisation.item_bits = bits.count();
            if recipe.max_bundle_bytes.is_none_or(|max| self.packed_bytes() <= max) {
                break;
            }
        }
        Ok(())
    }

    /// The bundle as it is now, opened and loaded the way a device does it.
    fn engine(&self) -> Result<Engine> {
        let (files, _) = bundle::assemble(&self.contents, &self.facts);
        Engine::new(Bundle::open(files, None)?, &TractRuntime)
    }

    /// Compares the packed models, run by the engine in retrieval order, with the weights they were
    /// made from, on the same cases.
    fn measure_packing(&mut self, split: &Split) -> Result<()> {
        let results = evaluate::answer(&self.engine()?, split, &split.choosing_cases(), split.exclude_seen);
        let quantisation = &mut self.facts.quantisation;
        quantisation.ndcg10_packed = round(mean_ndcg10(&results));
        if quantisation.ndcg10_packed < quantisation.ndcg10_f32 * (1.0 - MAX_PACKING_LOSS) - 0.005 {
            return Err(Error::new(Code::TrainingFailed, "the packed bundle ranks worse than the weights")
                .expected(format!("NDCG@10 near {}", quantisation.ndcg10_f32))
                .found(quantisation.ndcg10_packed));
        }
        Ok(())
    }

    fn fit_ranker(&mut self, split: &Split, recipe: &Recipe) -> Result<RankerReport> {
        let lists = lists::candidate_lists(&self.engine()?, split);
        leaks::check_lists(&lists, &self.contents.features)?;
        // Every ranker but the smallest comes out of the budget.
        let max_bytes = recipe.max_bundle_bytes.map(|max| max.saturating_sub(self.packed_bytes()));
        let (ranker, mut report) =
            choice::choose(&lists, &self.contents.features, &recipe.ranker, max_bytes, recipe.seed);
        self.contents.ranker = ranker.files();
        if report.kind != RankerKind::None {
            report.importance = importance::permutation(&self.engine()?, &lists, recipe.seed)?;
        }
        Ok(report)
    }

    /// Bytes of everything but a ranker, of which the small files are not final yet.
    fn packed_bytes(&self) -> u64 {
        let large = [self.contents.items.len(), self.contents.encoder.len()];
        (large.iter().sum::<usize>() + self.contents.vocabulary.encode().len()) as u64 + SMALL_FILES_BYTES
    }

    fn measure_baseline(&mut self, split: &Split, recipe: &Recipe) -> Result<()> {
        let engine = self.engine()?;
        let measured: Baseline = baseline::measure(&engine, split, recipe.telemetry.window_seconds);
        self.contents.baseline = measured;
        Ok(())
    }
}

fn training_window(split: &Split, recipe: &Recipe) -> TrainingWindow {
    let (start_timestamp, last_timestamp, num_users, num_interactions) = split.training_counts();
    TrainingWindow {
        last_timestamp,
        num_interactions,
        num_users,
        recipe_sha256: recipe.hash(),
        seed: recipe.seed,
        split: split.kind.as_str().to_owned(),
        start_timestamp,
        time: split.time,
    }
}
