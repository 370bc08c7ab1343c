//! From a dataset and a recipe to a measured bundle.

use std::collections::BTreeMap;

use sanderling_core::BundleFiles;
use sanderling_types::{Code, Error, Manifest, Result, Sha256Hash};

use crate::data::Dataset;
use crate::details::Details;
use crate::evaluate::Evaluation;
use crate::pack;
use crate::recipe::Recipe;
use crate::sequence::{self, Epoch, FitCase, FitData, FitState};
use crate::split::{self, Case, Split};

/// Name of the recommender that this module trains.
pub const RECOMMENDER: &str = "sequence";

/// Fewest validation cases that early stopping looks at, where there are as many.
const MIN_STOPPING_CASES: usize = 500;

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
    /// What explains them.
    pub details: Details,
    /// Every epoch.
    pub curve: Vec<Epoch>,
    /// NDCG@10 that the ranker adds to retrieval order on held-out validation users.
    pub ranker_gain_ndcg10: f64,
}

/// Trains, packs and measures, from the beginning or from the epoch after `resume`. `watch` sees every step and stops the work by returning `false`.
///
/// # Errors
/// [`Code::EmptyData`], [`Code::SplitUnsupported`], [`Code::RecipeInvalid`],
/// [`Code::TrainingFailed`], [`Code::Cancelled`], [`Code::BudgetExceeded`]; [`Code::InvalidArgument`] when
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
    let fitted = fit(&split, recipe, lineage, resume, watch)?;
    let doing = |what, watch: &mut dyn FnMut(Step<'_>) -> bool| {
        if watch(Step::Doing(what)) {
            Ok(())
        } else {
            Err(Error::new(Code::Cancelled, "training was stopped"))
        }
    };
    doing("packing the bundle", watch)?;
    let mut draft = pack::pack_weights(&split, recipe, lineage, &fitted.weights)?;
    if let Some(max_bytes) = recipe.max_bundle_bytes {
        pack::fit_budget(&mut draft, &split, &fitted.weights.items, max_bytes)?;
    }
    doing("fitting the ranker", watch)?;
    let ranker = draft.fit_ranker(&split)?;
    doing("measuring the baseline", watch)?;
    draft.measure_baseline(&split, recipe)?;
    doing("evaluating on the test part", watch)?;
    draft.finish(&split, recipe.max_bundle_bytes, fitted.curve, ranker.gain_ndcg10)
}

/// Fits the sequence model to the training part, as [`sequence::fit`].
pub(crate) fn fit(
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
pub(crate) fn fit_case(split: &Split, case: Case) -> Option<FitCase> {
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
