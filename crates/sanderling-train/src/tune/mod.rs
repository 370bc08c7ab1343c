//! Tuning by successive halving (Jamieson & Talwalkar 2016): many models are trained a ninth of the way,
//! the best third of them a third of the way, and the best third of those to the end.
//!
//! Trials are drawn from `space.rs` before anything is measured, so they depend on the seed alone; the
//! test part is removed before the first of them begins.

mod log;
mod space;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sanderling_types::{Code, Error, Result, Sha256Hash};
use sha2::{Digest, Sha256};

use crate::catalogue::Catalogue;
use crate::data::Dataset;
use crate::folder::io_error;
use crate::metrics::round;
use crate::recipe::{ModelRecipe, Recipe};
use crate::recommenders::{Model, Recommender};
use crate::sequence::{Epoch, FitState, Fitted, Shape};
use crate::split::{self, Split};
use crate::train::{self, Lineage, SMALL_FILES_BYTES, Step};
use crate::{checkpoint, pack, segments};

pub use log::TrialRecord;
use log::{Header, Log};

/// Parts of a whole training after which trials are compared.
const RUNGS: [f64; 3] = [1.0 / 9.0, 1.0 / 3.0, 1.0];
/// One in so many trials goes on to the next rung.
const HALVING: usize = 3;
/// Draws for a trial that fits the byte budget; then the last one is taken, packed as tight as it needs.
const MAX_DRAWS: usize = 100;
/// Bytes of the encoder's graph beside its matrices.
const GRAPH_BYTES: u64 = 12 * 1024;

/// What happens while tuning.
#[derive(Debug)]
pub enum Progress<'a> {
    /// A trial passed an epoch on its way to the end of a rung.
    Epoch {
        /// Which trial.
        trial: usize,
        /// Which rung.
        rung: usize,
        /// Its last epoch in this rung.
        until: usize,
        /// The epoch.
        epoch: Epoch,
        /// Epochs of all trials that are still to come, this rung's and later ones'.
        epochs_left: usize,
    },
    /// A trial reached the end of a rung; `known` when an earlier run had recorded it.
    Trial {
        /// What is in the log.
        record: &'a TrialRecord,
        /// Whether it was there already.
        known: bool,
    },
}

/// The end of a tuning run.
#[derive(Debug, Clone)]
pub struct Tuned {
    /// The recipe with the best model.
    pub recipe: Recipe,
    /// The record by which it is the best: highest NDCG@10 in the highest rung that any trial reached.
    pub best: TrialRecord,
    /// Every record, in the order of the log.
    pub records: Vec<TrialRecord>,
    /// Whether every rung was finished; not when `watch` ended the run.
    pub complete: bool,
}

/// Tunes the sequence model of `recipe` on `dataset` with `num_trials` trials, the first of which is the recipe as
/// it is and always trained to the end. `log` is a JSON Lines file that is gone on with if it is there;
/// states of unfinished trials lie in a folder beside it. `watch` ends the run by returning `false`.
///
/// # Errors
/// [`Code::InvalidArgument`] without a trial, for another recommender or when `log` is of another run, [`Code::Cancelled`] when
/// `watch` ended the run before the first record, [`Code::Io`], and as [`train::train`].
pub fn tune(
    dataset: &Dataset,
    recipe: &Recipe,
    num_trials: usize,
    log: &Path,
    watch: &mut dyn FnMut(&Progress<'_>) -> bool,
) -> Result<Tuned> {
    recipe.check()?;
    if num_trials == 0 {
        return Err(Error::new(Code::InvalidArgument, "there is no trial").expected("at least 1 trial"));
    }
    if !matches!(recipe.recommender, Recommender::Sequence | Recommender::Auto) {
        return Err(Error::new(Code::InvalidArgument, "the recommender has nothing that trials would vary")
            .expected("recommender sequence or auto")
            .found(recipe.recommender.as_str())
            .hint("what other recommenders have to choose, `train` chooses on the validation part"));
    }
    let mut split = without_test(split::split(dataset, recipe.split)?);
    split.exclude_seen = recipe.exclude_seen.unwrap_or(split.exclude_seen);
    split.segments = segments::segments(&dataset.interactions, &split, &recipe.segments)?;
    // No trial varies what content depends on.
    let catalogue = Catalogue::new(dataset, &split, recipe);
    let plan = plan(num_trials, recipe.fit_options(&split).max_epochs);
    let header = Header::new(hash_of(&split, &catalogue)?, recipe.hash(), num_trials);
    let states = log.with_added_extension("states");
    let mut run = Run {
        trials: draw_trials(recipe, &split, num_trials),
        epochs_left: planned_epochs(&plan),
        plan,
        log: Log::open(log, &header)?,
        split,
        catalogue,
        recipe,
        states,
        watch,
    };
    let complete = run.all_rungs()?;
    run.finish(complete)
}

/// Everything but the test part: what validation cases ask for is the last that stays of a sequence.
fn without_test(mut split: Split) -> Split {
    let mut kept: Vec<u32> = split.train_len.clone();
    for case in &split.validation {
        let kept = &mut kept[case.user as usize];
        *kept = (*kept).max(case.prefix + 1);
    }
    split.sequences.iter_mut().zip(kept).for_each(|(sequence, kept)| sequence.truncate(kept as usize));
    split.test.clear();
    split
}

/// Hash of everything that trials depend on beside the recipe.
fn hash_of(split: &Split, catalogue: &Catalogue) -> Result<Sha256Hash> {
    let mut hash = Sha256::new();
    // Unwrap safety: numbers always encode.
    hash.update(serde_json::to_vec(&catalogue.content).expect("content encodes"));
    hash.update(split.vocabulary.encode()?);
    for (sequence, train_len) in split.sequences.iter().zip(&split.train_len) {
        hash.update(train_len.to_le_bytes());
        hash.update((sequence.len() as u64).to_le_bytes());
        for &event in sequence {
            hash.update(split.item_id(event).as_str());
            hash.update([0]);
            hash.update(event.timestamp.to_le_bytes());
        }
    }
    Ok(Sha256Hash::of(&hash.finalize()))
}

fn draw_trials(recipe: &Recipe, split: &Split, num_trials: usize) -> Vec<ModelRecipe> {
    let mut rng = ChaCha20Rng::seed_from_u64(recipe.seed);
    let session_len = recipe.fit_options(split).shape.max_len;
    let vocabulary_bytes = split.vocabulary.encoded_len();
    let mut draw = || {
        let mut model = space::draw(&mut rng, &recipe.model, session_len);
        for _ in 1..MAX_DRAWS {
            let shape = Recipe { model: model.clone(), ..recipe.clone() }.fit_options(split).shape;
            let least = least_bytes(&shape, split.vocabulary.len(), vocabulary_bytes);
            if recipe.max_bundle_bytes.is_none_or(|max| least <= max) {
                break;
            }
            model = space::draw(&mut rng, &recipe.model, session_len);
        }
        model
    };
    let drawn: Vec<ModelRecipe> = (1..num_trials).map(|_| draw()).collect();
    std::iter::once(recipe.model.clone()).chain(drawn).collect()
}

/// About what a bundle with every item is long with vectors of 4 bits.
fn least_bytes(shape: &Shape, num_items: usize, vocabulary_bytes: usize) -> u64 {
    let Shape { dim, hidden, layers, heads, max_len } = *shape;
    let encoder = layers * (8 * dim * dim + 2 * dim * hidden + 4 * heads * 2 * max_len);
    (encoder + num_items * (2 + dim.div_ceil(2)) + vocabulary_bytes) as u64 + GRAPH_BYTES + SMALL_FILES_BYTES
}

/// One rung: how many trials reach its end, and after how many epochs that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rung {
    num_trials: usize,
    epochs: usize,
}

fn plan(num_trials: usize, max_epochs: usize) -> [Rung; RUNGS.len()] {
    let mut left = num_trials;
    RUNGS.map(|part| {
        let rung = Rung { num_trials: left, epochs: ((part * max_epochs as f64).ceil() as usize).max(1) };
        left = left.div_ceil(HALVING);
        rung
    })
}

fn planned_epochs(plan: &[Rung]) -> usize {
    let before = std::iter::once(0).chain(plan.iter().map(|rung| rung.epochs));
    plan.iter().zip(before).map(|(rung, before)| rung.num_trials * (rung.epochs - before)).sum()
}

/// How far a fit came.
enum Reached {
    /// `watch` ended it.
    Nothing,
    /// The end of a rung before the last one.
    Rung(Box<FitState>),
    /// The end of training.
    End(Fitted),
}

struct Run<'a> {
    split: Split,
    catalogue: Catalogue,
    recipe: &'a Recipe,
    trials: Vec<ModelRecipe>,
    plan: [Rung; RUNGS.len()],
    log: Log,
    states: PathBuf,
    /// Of all trials together, early ends not foreseen.
    epochs_left: usize,
    watch: &'a mut dyn FnMut(&Progress<'_>) -> bool,
}

impl Run<'_> {
    /// `false` when `watch` ended it.
    fn all_rungs(&mut self) -> Result<bool> {
        let mut trials: BTreeSet<usize> = (0..self.trials.len()).collect();
        for rung in 0..RUNGS.len() {
            for &trial in &trials {
                if !self.advance(trial, rung)? {
                    return Ok(false);
                }
            }
            if let Some(next) = self.plan.get(rung + 1) {
                trials = self.best_of(&trials, rung, next.num_trials);
            }
        }
        Ok(true)
    }

    /// The best `count` trials at the end of a rung, earlier ones first where equal, and the first of all.
    fn best_of(&self, trials: &BTreeSet<usize>, rung: usize, count: usize) -> BTreeSet<usize> {
        let value =
            |trial: usize| self.log.find(trial, rung).map_or(f64::NEG_INFINITY, |record| record.ndcg10);
        let mut order: Vec<usize> = trials.iter().copied().collect();
        order.sort_by(|&a, &b| value(b).total_cmp(&value(a)).then(a.cmp(&b)));
        order.into_iter().take(count).chain([0]).collect()
    }

    /// Brings a trial to the end of a rung, unless the log says that it was there.
    fn advance(&mut self, trial: usize, rung: usize) -> Result<bool> {
        let known = self.log.find(trial, rung).is_some();
        if !known {
            let Some(record) = self.measure(trial, rung)? else { return Ok(false) };
            self.log.push(record)?;
        }
        let epochs = self.plan[rung].epochs - self.passed_before(rung);
        self.epochs_left = self.epochs_left.saturating_sub(epochs);
        let record = self.log.find(trial, rung).ok_or_else(|| Error::new(Code::Internal, "no record"))?;
        Ok((self.watch)(&Progress::Trial { record, known }))
    }

    fn measure(&mut self, trial: usize, rung: usize) -> Result<Option<TrialRecord>> {
        let model = self.trials[trial].clone();
        let recipe = Recipe { model: model.clone(), ..self.recipe.clone() };
        let record =
            |epochs, ndcg10, bundle_bytes| TrialRecord { trial, rung, epochs, ndcg10, bundle_bytes, model };
        let state_path = self.states.join(format!("trial-{trial:04}"));
        let before = checkpoint::read(&state_path)?;
        let reached = match self.fit(trial, rung, &recipe, before) {
            // What diverges is the worst that a trial can be, not the end of the run.
            Err(error) if error.code() == Code::TrainingFailed => return Ok(Some(record(0, 0.0, None))),
            other => other?,
        };
        match reached {
            Reached::Nothing => Ok(None),
            Reached::Rung(state) => {
                fs::create_dir_all(&self.states).map_err(|error| io_error("create", &self.states, error))?;
                checkpoint::write(&state_path, &state)?;
                let best = state.best.as_ref().map_or(0.0, |(ndcg10, _)| *ndcg10);
                Ok(Some(record(state.epochs(), round(best), None)))
            }
            // Training that ended early before the end of the rung is compared by its best epoch.
            Reached::End(fitted) if rung + 1 < RUNGS.len() => {
                let best = fitted.curve.iter().map(|epoch| epoch.validation_ndcg10).fold(0.0, f64::max);
                Ok(Some(record(fitted.curve.len(), round(best), None)))
            }
            Reached::End(fitted) => {
                let model = Model::of_sequence(&fitted.weights, &self.split, &self.catalogue)?;
                let packer = pack::pack(&self.split, &recipe, &Lineage::default(), &model)?;
                checkpoint::remove(&state_path)?;
                let ndcg10 = packer.facts.quantisation.ndcg10_packed;
                Ok(Some(record(fitted.curve.len(), ndcg10, Some(packer.estimated_bytes()?))))
            }
        }
    }

    /// Fits a trial from where it was to the end of a rung.
    fn fit(
        &mut self,
        trial: usize,
        rung: usize,
        recipe: &Recipe,
        before: Option<FitState>,
    ) -> Result<Reached> {
        let (until, last) = (self.plan[rung].epochs, rung + 1 == RUNGS.len());
        let at_end = |state: &FitState| !last && state.epochs() >= until;
        if let Some(state) = before.as_ref().filter(|state| at_end(state)) {
            return Ok(Reached::Rung(Box::new(state.clone())));
        }
        let (mut reached, mut ended) = (None, false);
        let (left, passed) = (self.epochs_left, self.passed_before(rung));
        let mut watch = |step: Step<'_>| {
            let Step::Epoch(epoch, state) = step else { return true };
            let epochs_left = left.saturating_sub(epoch.epoch - passed);
            ended = !(self.watch)(&Progress::Epoch { trial, rung, until, epoch, epochs_left });
            if at_end(state) {
                reached = Some(Reached::Rung(Box::new(state.clone())));
            }
            !ended && reached.is_none()
        };
        let content = &self.catalogue.content;
        let fitted = train::fit(&self.split, content, recipe, &Lineage::default(), before, &mut watch);
        match (reached, fitted) {
            (Some(reached), _) => Ok(reached),
            (None, Ok(fitted)) => Ok(Reached::End(fitted)),
            (None, Err(error)) if ended && error.code() == Code::Cancelled => Ok(Reached::Nothing),
            (None, Err(error)) => Err(error),
        }
    }

    /// Epochs of a trial before a rung.
    fn passed_before(&self, rung: usize) -> usize {
        rung.checked_sub(1).map_or(0, |before| self.plan[before].epochs)
    }

    fn finish(self, complete: bool) -> Result<Tuned> {
        if complete && self.states.exists() {
            fs::remove_dir_all(&self.states).map_err(|error| io_error("remove", &self.states, error))?;
        }
        let budget = self.recipe.max_bundle_bytes;
        let fits = |record: &&TrialRecord| {
            record.bundle_bytes.is_none_or(|bytes| budget.is_none_or(|budget| bytes <= budget))
        };
        let order = |a: &&TrialRecord, b: &&TrialRecord| {
            a.rung.cmp(&b.rung).then(a.ndcg10.total_cmp(&b.ndcg10)).then(b.trial.cmp(&a.trial))
        };
        let Some(best) = self.log.records.iter().filter(fits).max_by(order).cloned() else {
            return Err(match self.log.records.first() {
                None => Error::new(Code::Cancelled, "tuning was stopped before the first trial was measured"),
                Some(_) => Error::new(Code::BudgetExceeded, "no trial fits the byte budget")
                    .hint("raise max_bundle_bytes"),
            });
        };
        let recipe = Recipe { model: best.model.clone(), ..self.recipe.clone() };
        Ok(Tuned { recipe, best, records: self.log.records, complete })
    }
}

#[cfg(test)]
mod tests;
