//! From a dataset and a recipe to a measured bundle.

use std::collections::{BTreeMap, HashMap};

use sanderling_core::{Bundle, BundleFiles, Engine, ItemBits, ItemTable, NeighbourTable};
use sanderling_tract::FullRuntime;
use sanderling_types::{
    Baseline, Code, Error, Limits, Manifest, Metric, PolicyDefaults, Quantisation, Result, Sha256Hash,
    Shapes, SharedSession, TrainingWindow,
};

use crate::bundle::{self, Contents, Facts};
use crate::catalogue::Catalogue;
use crate::data::Dataset;
use crate::details::{self, Details};
use crate::evaluate::{self, Evaluation};
use crate::metrics::{CaseResult, mean_ndcg10, round};
use crate::rankers::choice::{self, RankerReport};
use crate::rankers::lists::{self, CandidateList};
use crate::rankers::{Ranker, leaks, linear};
use crate::recipe::Recipe;
use crate::recommenders::{self, Choice, Contender, Job, Model};
use crate::reported::Reported;
use crate::sequence::{self, Epoch, FitCase, FitData, FitState, ItemContent};
use crate::split::{self, Case, SessionsUsed, Split};
use crate::{baseline, card, pack, segments};

/// Fewest validation cases that early stopping looks at, where there are as many.
const MIN_STOPPING_CASES: usize = 500;

/// Bytes of a bundle beside encoder, item table, neighbours and vocabulary: baseline, features, manifest, ranker.
pub(crate) const SMALL_FILES_BYTES: u64 = 12 * 1024;

/// Bytes of a bundle that are still to come after packing: metrics in the manifest, shares of the baseline.
const LATER_BYTES: u64 = 3 * 1024;

/// Where the new bundle comes from.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    /// The champion's hash and version.
    pub parent: Option<(Sha256Hash, u64)>,
    /// The champion's rollback index: devices that have seen it refuse a bundle with a smaller one.
    pub rollback_index: Option<u64>,
    /// What devices reported to have done lately, to weigh targets by.
    pub reported: Reported,
    /// Sessions that users chose to share: more to train on, see [`Split::append_sessions`].
    pub sessions: Vec<SharedSession>,
}

/// A step of training, for progress lines.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// An epoch of the sequence model ended with this state, from which training can be resumed.
    Epoch(Epoch, &'a FitState),
    /// The recommender of this name is fitted now, and measured next where there is a choice.
    Fitting(&'a str),
    /// A recommender was fitted, packed and measured on the validation part.
    Measured(&'a Contender),
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
    /// What explains them.
    pub details: Details,
    /// Every epoch.
    pub curve: Vec<Epoch>,
    /// Which ranker the bundle has, and why.
    pub ranker: RankerReport,
    /// What was chosen on the validation part on the way, for people.
    pub settings: String,
    /// What else was tried, and why it was not taken; `None` where there was nothing to choose between.
    pub choice: Option<Choice>,
    /// What became of the sessions of [`Lineage::sessions`].
    pub sessions: SessionsUsed,
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
    split.segments = segments::segments(&dataset.interactions, &split, &recipe.segments)?;
    let sessions = split.append_sessions(&lineage.sessions);
    let catalogue = Catalogue::new(dataset, &split, recipe);
    let mut job = Job { split: &split, catalogue: &catalogue, recipe, lineage, watch };
    if !recipe.segments.is_empty() {
        job.tell(Step::Decided(&segments::describe(&split.segments, &recipe.segments)))?;
    }
    let recommenders::Chosen { mut packer, settings, curve, choice } =
        recommenders::choose(&mut job, resume)?;
    pack::check(&packer, &split)?;
    job.tell(Step::Doing("fitting the ranker"))?;
    let ranker = packer.fit_ranker(&split, recipe)?;
    job.tell(Step::Decided(&format!("ranker {}: {}", ranker.kind.as_str(), ranker.reason)))?;
    job.tell(Step::Doing("measuring the baseline"))?;
    packer.measure_baseline(&split, recipe)?;
    job.tell(Step::Doing("evaluating on the test part"))?;
    packer.finish(&split, recipe, Story { curve, ranker, settings, choice, sessions })
}

/// How a bundle came to be what it is.
pub(crate) struct Story {
    pub(crate) curve: Vec<Epoch>,
    pub(crate) ranker: RankerReport,
    pub(crate) settings: String,
    pub(crate) choice: Option<Choice>,
    pub(crate) sessions: SessionsUsed,
}

/// Trains the sequence model.
///
/// # Errors
/// As [`sequence::fit`].
pub(crate) fn fit(
    split: &Split,
    content: &ItemContent,
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
        num_items: split.num_trained(),
        content,
        target_weights: &lineage.reported.target_weights(split),
        validation: &validation,
        exclude_seen: split.exclude_seen,
    };
    let mut watch = |epoch: &Epoch, state: &FitState| watch(Step::Epoch(*epoch, state));
    sequence::fit(&data, &recipe.fit_options(split), resume, &mut watch)
}

/// Evenly spaced validation cases whose histories hold about `max_tokens` together, so that looking
/// at them after every epoch costs less than the epoch.
fn stopping_cases(split: &Split, max_tokens: usize) -> Vec<FitCase> {
    let trained = split.num_trained();
    let all: Vec<FitCase> =
        split.choosing_cases().iter().filter_map(|&case| fit_case(split, case, trained)).collect();
    let tokens: usize = all.iter().map(|case| case.history.len().min(200)).sum();
    let wanted = all.len() * max_tokens / tokens.max(1);
    let keep = wanted.max(MIN_STOPPING_CASES).min(all.len());
    (0..keep).map(|i| all[i * all.len() / keep].clone()).collect()
}

/// A case that the model can be asked: known history and known target among the first `known` rows.
pub(crate) fn fit_case(split: &Split, case: Case, known: usize) -> Option<FitCase> {
    let known = |row: &u32| (*row as usize) < known;
    let history: Vec<u32> = split.rows(split.history(case)).filter(known).collect();
    let target = split.row(split.target(case)).filter(known)?;
    (!history.is_empty()).then_some(FitCase { history, target })
}

/// A bundle in the making: contents and facts that later steps replace one by one.
#[derive(Debug, Clone)]
pub(crate) struct Packer {
    pub(crate) contents: Contents,
    pub(crate) facts: Facts,
}

impl Packer {
    /// Takes a fitted model with item vectors of eight bits and a ranker that keeps retrieval order.
    ///
    /// # Errors
    /// As [`ItemTable::quantise`]; [`Code::FeatureLeaks`].
    pub(crate) fn new(split: &Split, recipe: &Recipe, lineage: &Lineage, model: &Model) -> Result<Self> {
        let features = recipe.ranker.without_excluded(model.features());
        leaks::check_sources(split, &features)?;
        let names = baseline::numeric_names(&features);
        let vocabulary = model
            .order
            .as_ref()
            .map_or_else(|| split.vocabulary.clone(), |order| split.vocabulary.subset(order));
        let segments = model.order.as_ref().map_or_else(
            || split.segments.clone(),
            |order| {
                let rows: HashMap<u32, u32> = order.iter().copied().zip(0..).collect();
                split.segments.moved(|item| rows.get(&item).copied())
            },
        );
        let items = model
            .vectors
            .as_ref()
            .map(|vectors| ItemTable::quantise(&vectors.rows, vectors.dim, ItemBits::Nine))
            .transpose()?;
        let contents = Contents {
            encoder: model.vectors.as_ref().map(|vectors| vectors.encoder.clone()),
            items: items.as_ref().map(ItemTable::encode),
            neighbours: model.neighbours.as_ref().map(NeighbourTable::encode),
            content: model.content.clone(),
            ranker: Ranker::retrieval_order(&features).files(),
            baseline: baseline::draft(&names, &vocabulary),
            vocabulary,
            segments,
            features,
            card: String::new(),
        };
        let shapes = Shapes {
            dim: model.vectors.as_ref().map_or(0, |vectors| vectors.dim as u32),
            num_features: contents.features.features.len() as u32,
            num_items: contents.vocabulary.len() as u32,
        };
        let facts = Facts {
            name: recipe.name.clone(),
            version: lineage.parent.map_or(1, |(_, version)| version + 1),
            parent: lineage.parent.map(|(hash, _)| hash),
            rollback_index: lineage.rollback_index,
            recommender: model.name.clone(),
            shapes,
            limits: Limits {
                max_candidates: recipe.limits.max_candidates,
                max_limit: recipe.limits.max_limit,
                max_session_len: model.max_session_len as u32,
            },
            policy: PolicyDefaults { category_cap: recipe.category_cap, exclude_seen: split.exclude_seen },
            telemetry: recipe.telemetry_constants(),
            training: training_window(split, recipe),
            quantisation: Quantisation {
                encoder_bits: model.vectors.as_ref().map_or(0, |vectors| vectors.encoder_bits),
                item_bits: items.map_or(0, |items| items.bits().count()),
                ndcg10_f32: round(model.ndcg10_f32),
                ndcg10_packed: round(model.ndcg10_f32),
                steps: Vec::new(),
            },
            metrics: BTreeMap::<String, Metric>::new(),
        };
        Ok(Self { contents, facts })
    }

    /// Length of the bundle, with [`LATER_BYTES`] for what later steps write.
    ///
    /// # Errors
    /// As [`bundle::assemble`].
    pub(crate) fn estimated_bytes(&self) -> Result<u64> {
        let (_, manifest) = bundle::assemble(&self.contents, &self.facts)?;
        Ok(manifest.bundle_bytes() + LATER_BYTES)
    }

    /// Length of the files that packing works on.
    pub(crate) fn large_bytes(&self) -> u64 {
        let Contents { encoder, items, neighbours, vocabulary, .. } = &self.contents;
        let models: usize = [encoder, items, neighbours].into_iter().flatten().map(Vec::len).sum();
        (models + vocabulary.encoded_len()) as u64
    }

    /// Replaces the catalogue by its first `num_items` items.
    ///
    /// # Errors
    /// As [`ItemTable::decode`] and [`NeighbourTable::decode`].
    pub(crate) fn keep_first(&mut self, num_items: usize) -> Result<()> {
        let Contents { items, neighbours, vocabulary, segments, .. } = &mut self.contents;
        if let Some(items) = items {
            *items = ItemTable::decode(items.as_slice())?.first(num_items).encode();
        }
        if let Some(neighbours) = neighbours {
            *neighbours = NeighbourTable::decode(neighbours)?.first(num_items).encode();
        }
        let kept: Vec<u32> = (0..num_items as u32).collect();
        *vocabulary = vocabulary.subset(&kept);
        *segments = segments.moved(|item| ((item as usize) < num_items).then_some(item));
        let names = baseline::numeric_names(&self.contents.features);
        self.contents.baseline = baseline::draft(&names, &self.contents.vocabulary);
        self.facts.shapes.num_items = num_items as u32;
        Ok(())
    }

    /// Validation NDCG@10 of the bundle as it is now, run by the engine.
    ///
    /// # Errors
    /// As [`Bundle::open`] and [`Engine::new`].
    pub(crate) fn ndcg10(&self, split: &Split) -> Result<f64> {
        Ok(round(mean_ndcg10(&self.answers(split)?)))
    }

    /// Answers of the bundle as it is now to the measuring cases.
    ///
    /// # Errors
    /// As [`Bundle::open`] and [`Engine::new`].
    pub(crate) fn answers(&self, split: &Split) -> Result<Vec<CaseResult>> {
        Ok(evaluate::answer(&self.engine()?, split, &split.measuring_cases(), split.exclude_seen))
    }

    /// Answers to the choosing cases in the order of [`in_halves`], each half with a ranker that was
    /// fitted on the other; the ranker is as before afterwards.
    ///
    /// # Errors
    /// As [`Bundle::open`] and [`Engine::new`].
    pub(crate) fn cross_fitted_answers(&mut self, split: &Split, recipe: &Recipe) -> Result<Vec<CaseResult>> {
        let engine = self.engine()?;
        let halves = in_halves(&split.choosing_cases());
        let answers =
            |engine: &Engine, half: &[Case]| evaluate::answer(engine, split, half, split.exclude_seen);
        if !engine.bundle().retrieves() {
            return Ok(halves.iter().flat_map(|half| answers(&engine, half)).collect());
        }
        let before = self.contents.ranker.clone();
        let mut out = Vec::new();
        for (half, other) in [(&halves[0], &halves[1]), (&halves[1], &halves[0])] {
            let lists = lists::candidate_lists(&engine, split, other)?;
            self.contents.ranker = self.linear_ranker(&lists, recipe).files();
            out.extend(answers(&self.engine()?, half));
        }
        self.contents.ranker = before;
        Ok(out)
    }

    /// The bundle as it is now, opened and loaded the way a device does it.
    pub(crate) fn engine(&self) -> Result<Engine> {
        let (files, _) = bundle::assemble(&self.contents, &self.facts)?;
        Engine::new(Bundle::open(files, None)?, &FullRuntime)
    }

    pub(crate) fn fit_ranker(&mut self, split: &Split, recipe: &Recipe) -> Result<RankerReport> {
        let engine = self.engine()?;
        let lists = lists::candidate_lists(&engine, split, &lists::ranker_cases(&engine, split))?;
        leaks::check_lists(&lists, &self.contents.features)?;
        // The estimate has the ranker as it is, which this one replaces.
        let others = self.estimated_bytes()?.saturating_sub(self.contents.ranker.device_bytes());
        let max_bytes = recipe.max_bundle_bytes.map(|max| max.saturating_sub(others));
        let (ranker, report) =
            choice::choose(&lists, &self.contents.features, &recipe.ranker, max_bytes, recipe.seed);
        self.contents.ranker = ranker.files();
        Ok(report)
    }

    /// The linear ranker of `lists`; retrieval order where they teach nothing.
    fn linear_ranker(&self, lists: &[CandidateList], recipe: &Recipe) -> Ranker {
        let features = &self.contents.features;
        let lists: Vec<&CandidateList> = lists.iter().collect();
        linear::fit(&lists, features.features.len(), recipe.ranker.linear.ridge)
            .map_or_else(|| Ranker::retrieval_order(features), Ranker::Linear)
    }

    pub(crate) fn measure_baseline(&mut self, split: &Split, recipe: &Recipe) -> Result<()> {
        let engine = self.engine()?;
        let measured: Baseline = baseline::measure(&engine, split, recipe.telemetry.window_seconds);
        self.contents.baseline = measured;
        Ok(())
    }

    /// Measures the bundle on the test part beside the baselines, writes its card and opens it once more
    /// as a whole.
    ///
    /// # Errors
    /// [`Code::BudgetExceeded`], and as [`Bundle::open`] and [`Engine::new`].
    pub(crate) fn finish(mut self, split: &Split, recipe: &Recipe, story: Story) -> Result<Trained> {
        let engine = self.engine()?;
        let evaluation = evaluate::beside_baselines(&engine, split);
        let details = details::details(&engine, split)?;
        let Story { curve, ranker, settings, choice, sessions } = story;
        self.facts.metrics = evaluation.metrics.clone();
        self.contents.card = card::card(&self.facts, &settings, &evaluation, choice.as_ref(), &ranker);
        let (files, manifest) = bundle::assemble(&self.contents, &self.facts)?;
        if let Some(max) = recipe.max_bundle_bytes.filter(|max| manifest.bundle_bytes() > *max) {
            return Err(Error::new(Code::BudgetExceeded, "the bundle is over its budget")
                .expected(format!("at most {max} bytes"))
                .found(format!("{} bytes", manifest.bundle_bytes()))
                .hint("lower model.dim or model.max_session_len, or raise max_bundle_bytes"));
        }
        Bundle::open(files.clone(), None)?;
        Ok(Trained { files, manifest, evaluation, details, curve, ranker, settings, choice, sessions })
    }
}

/// Cases of two halves of the users.
fn in_halves(cases: &[Case]) -> [Vec<Case>; 2] {
    let numbers = lists::user_numbers(cases.iter().map(|case| case.user));
    let half = |parity: u32| {
        let of_half = cases.iter().zip(&numbers).filter(|(_, number)| *number % 2 == parity);
        of_half.map(|(case, _)| *case).collect()
    };
    [half(0), half(1)]
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
