//! Fitting: batches, learning-rate schedule, early end by validation NDCG@10.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;
use sanderling_types::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::network::{self, Dropout, Pack, Workspace};
use super::params::{Shape, Weights};
use super::state::FitState;
use super::step::{StepOptions, Trainer};
use super::vectors::ItemContent;
use crate::draw::below;

/// How to fit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FitOptions {
    /// Shape of the encoder.
    pub shape: Shape,
    /// Peak learning rate, reached after a linear warm-up and followed by a cosine decay.
    pub learning_rate: f32,
    /// Dropout probability after embedding, attention and feed-forward.
    pub dropout: f32,
    /// Whether item vectors have unit length.
    pub unit_items: bool,
    /// Probability that an item with content is seen without its own part.
    pub id_dropout: f32,
    /// Shared negatives of a batch; the softmax is exact when the catalogue is not much larger.
    pub num_negatives: usize,
    /// Tokens of a batch.
    pub batch_tokens: usize,
    /// Passes over the data; the schedule ends here.
    pub max_epochs: usize,
    /// Epochs without a better validation NDCG@10 before the learning rate is brought down for good.
    pub patience: usize,
    /// Seed of every random choice.
    pub seed: u64,
}

/// A question with a known answer, in vocabulary rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FitCase {
    /// What the user did before, oldest first.
    pub history: Vec<u32>,
    /// What the user did next.
    pub target: u32,
}

/// State after an epoch, for progress lines and learning curves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// Counted from 1.
    pub epoch: usize,
    /// Planned passes.
    pub max_epochs: usize,
    /// Mean training loss of a token.
    pub loss: f64,
    /// NDCG@10 of the f32 weights on the validation cases.
    pub validation_ndcg10: f64,
    /// Training tokens so far.
    pub tokens: u64,
}

/// The best weights and the way there.
#[derive(Debug)]
pub struct Fitted {
    /// Weights of the best validation epoch.
    pub weights: Weights,
    /// Every epoch.
    pub curve: Vec<Epoch>,
}

/// What to learn from.
#[derive(Debug, Clone, Copy)]
pub struct FitData<'a> {
    /// Training sequences in vocabulary rows.
    pub sequences: &'a [Vec<u32>],
    /// Items to learn vectors of: the first rows of the vocabulary.
    pub num_items: usize,
    /// What is known of the items beside who touched them.
    pub content: &'a ItemContent,
    /// Factor of the loss of each item as a target (importance weights); empty for 1 throughout.
    pub target_weights: &'a [f32],
    /// Cases to stop by.
    pub validation: &'a [FitCase],
    /// Whether items of the history are left out of the validation ranking.
    pub exclude_seen: bool,
}

/// Fits the sequence model, from the beginning or from where `resume` was. `watch` sees every epoch
/// with the state after it and stops the fit by returning `false`. A fit that is resumed ends with the
/// same weights as one that was never interrupted.
///
/// # Errors
/// [`Code::EmptyData`] without a sequence of two items, [`Code::InvalidArgument`] when `resume` is of
/// other data or options, [`Code::TrainingFailed`] when the loss stops being finite,
/// [`Code::Cancelled`] when `watch` says so.
pub fn fit(
    data: &FitData<'_>,
    options: &FitOptions,
    resume: Option<FitState>,
    watch: &mut dyn FnMut(&Epoch, &FitState) -> bool,
) -> Result<Fitted> {
    let FitData { sequences, num_items, .. } = *data;
    if !sequences.iter().any(|sequence| sequence.len() >= 2) || num_items < 2 {
        return Err(Error::new(
            Code::EmptyData,
            "there is no sequence of at least two interactions to learn from",
        ));
    }
    let mut state = match resume {
        Some(state) => state.checked(data, options)?,
        None => FitState::new(data, options),
    };
    let mut trainer = Trainer::new(&state.weights);
    while state.curve.len() < state.schedule.max_epochs {
        let epoch = state.curve.len() + 1;
        let (loss, epoch_tokens) = pass(&mut state, &mut trainer, data, options);
        if !loss.is_finite() {
            return Err(Error::new(Code::TrainingFailed, format!("the loss of epoch {epoch} is not finite"))
                .hint("lower training.learning_rate in the recipe"));
        }
        let validation_ndcg10 = ndcg10(&state.weights, data);
        let tokens = state.curve.last().map_or(0, |last| last.tokens) + epoch_tokens;
        state.since_best += 1;
        if state.best.as_ref().is_none_or(|(value, _)| validation_ndcg10 > *value) {
            state.best = Some((validation_ndcg10, state.weights.clone()));
            state.since_best = 0;
        }
        let max_epochs = state.schedule.max_epochs;
        if state.since_best >= options.patience {
            state.schedule.end_early(epoch);
        }
        let done = Epoch { epoch, max_epochs, loss, validation_ndcg10, tokens };
        state.curve.push(done);
        if !watch(&done, &state) {
            return Err(Error::new(Code::Cancelled, "training was stopped"));
        }
    }
    let FitState { best, weights, curve, .. } = state;
    Ok(Fitted { weights: best.map_or(weights, |(_, best)| best), curve })
}

/// One pass over the data: the mean loss of a token and the number of tokens.
fn pass(state: &mut FitState, trainer: &mut Trainer, data: &FitData<'_>, options: &FitOptions) -> (f64, u64) {
    let FitState { weights, optimiser, rng, schedule, .. } = state;
    let windows = cut_windows(data.sequences, options.shape.max_len, rng);
    let batches = make_batches(&windows, options.batch_tokens, rng);
    let before = state.curve.len() as f64;
    let (mut loss, mut tokens) = (0.0, 0u64);
    for (at, batch) in batches.iter().enumerate() {
        let batch: Vec<&[u32]> = batch.iter().map(|&window| windows[window]).collect();
        let step = StepOptions {
            target_weights: data.target_weights,
            content: data.content,
            id_dropout: options.id_dropout,
            rate: schedule.rate(state.steps, before + at as f64 / batches.len() as f64),
            dropout: options.dropout,
            num_negatives: options.num_negatives,
        };
        let batch_tokens = batch.iter().map(|window| window.len() as u64 - 1).sum::<u64>();
        loss += trainer.step(weights, optimiser, &batch, step, rng) * batch_tokens as f64;
        tokens += batch_tokens;
        state.steps += 1;
    }
    (loss / tokens as f64, tokens)
}

/// Most steps of the linear warm-up.
const MAX_WARM_UP: usize = 200;

/// Learning rate over the epochs: a warm-up of at most a tenth of the plan, then half a cosine down to 2 % at the last epoch. Where
/// validation stops getting better earlier, the rest of the cosine is passed in a quarter of the epochs
/// so far: weights that never saw a small rate are worse than they need to be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Schedule {
    peak: f32,
    warm_up: usize,
    max_epochs: usize,
    /// The epochs at which the early end began, if it did, and how far the cosine had come.
    early: Option<(f64, f64)>,
}

impl Schedule {
    pub(crate) fn new(options: &FitOptions, tokens: usize) -> Self {
        let planned = tokens / options.batch_tokens * options.max_epochs;
        Self {
            peak: options.learning_rate,
            warm_up: (planned / 10).clamp(1, MAX_WARM_UP),
            max_epochs: options.max_epochs,
            early: None,
        }
    }

    /// How far the cosine has come after `epochs`, 0 to 1.
    fn progress(&self, epochs: f64) -> f64 {
        let end = self.max_epochs as f64;
        match self.early {
            None => epochs / end,
            Some((since, progress)) => progress + (1.0 - progress) * (epochs - since) / (end - since),
        }
    }

    fn rate(&self, step: usize, epochs: f64) -> f32 {
        let ramp = ((step + 1) as f32 / self.warm_up as f32).min(1.0);
        let cosine = (std::f64::consts::PI * self.progress(epochs)).cos();
        self.peak * ramp * (0.49 * (1.0 + cosine) + 0.02) as f32
    }

    /// Ends a quarter of `epochs` later, unless an end is nearer than that.
    fn end_early(&mut self, epochs: usize) {
        let end = epochs + (epochs / 4).max(1);
        if self.early.is_none() && end < self.max_epochs {
            self.early = Some((epochs as f64, self.progress(epochs as f64)));
            self.max_epochs = end;
        }
    }
}

/// Windows of at most `max_len + 1` items that overlap by one, so that every transition is a target
/// once; where the first cut lies changes from epoch to epoch.
fn cut_windows<'a>(sequences: &'a [Vec<u32>], max_len: usize, rng: &mut ChaCha20Rng) -> Vec<&'a [u32]> {
    let mut windows = Vec::new();
    for sequence in sequences.iter().filter(|sequence| sequence.len() >= 2) {
        if sequence.len() <= max_len + 1 {
            windows.push(sequence.as_slice());
            continue;
        }
        let mut end = sequence.len();
        if rng.next_u32() & 1 == 0 {
            let cut = end - below(rng, max_len);
            if end - cut >= 1 && cut >= 2 {
                windows.push(&sequence[cut - 1..end]);
                end = cut;
            }
        }
        while end >= 2 {
            windows.push(&sequence[end.saturating_sub(max_len + 1)..end]);
            end = end.saturating_sub(max_len);
        }
    }
    windows
}

/// Batches of windows in random order. Lengths are mixed: nothing is padded, and windows of several lengths are
/// easier to share out evenly.
fn make_batches(windows: &[&[u32]], batch_tokens: usize, rng: &mut ChaCha20Rng) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..windows.len()).collect();
    for i in (1..order.len()).rev() {
        order.swap(i, below(rng, i + 1));
    }
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = batch_tokens;
    for window in order {
        if tokens >= batch_tokens {
            batches.push(Vec::new());
            tokens = 0;
        }
        tokens += windows[window].len() - 1;
        // Unwrap safety: a batch was pushed when there was none.
        batches.last_mut().expect("has a batch").push(window);
    }
    batches
}

/// NDCG@10 of the f32 weights over the whole catalogue on the validation cases, one relevant item a case.
fn ndcg10(weights: &Weights, data: &FitData<'_>) -> f64 {
    vectors_ndcg10(weights, &weights.vectors(data.content), data.validation, data.exclude_seen)
}

/// NDCG@10 of the encoder with item vectors `[items, dim]`, of which there may be more than were trained.
pub(crate) fn vectors_ndcg10(
    weights: &Weights,
    vectors: &[f32],
    cases: &[FitCase],
    exclude_seen: bool,
) -> f64 {
    if cases.is_empty() {
        return 0.0;
    }
    let total: f64 = cases
        .par_chunks(64)
        .map(|chunk| {
            let histories: Vec<&[u32]> = chunk.iter().map(|case| case.history.as_slice()).collect();
            let queries = encode(weights, vectors, &histories);
            let dim = weights.shape.dim;
            let num_items = vectors.len() / dim;
            let mut scores = vec![0.0; chunk.len() * num_items];
            super::linalg::product(
                &mut scores,
                num_items,
                super::linalg::View::dense(&queries, chunk.len(), dim),
                super::linalg::View::dense(vectors, num_items, dim).t(),
                false,
                1.0,
            );
            chunk
                .iter()
                .zip(scores.chunks_exact_mut(num_items))
                .map(|(case, scores)| gain_at_10(case, scores, exclude_seen))
                .sum::<f64>()
        })
        .collect::<Vec<f64>>()
        .iter()
        .sum();
    total / cases.len() as f64
}

fn gain_at_10(case: &FitCase, scores: &mut [f32], exclude_seen: bool) -> f64 {
    let target = scores[case.target as usize];
    if exclude_seen {
        if case.history.contains(&case.target) {
            return 0.0;
        }
        case.history.iter().for_each(|&item| scores[item as usize] = f32::NEG_INFINITY);
    }
    let better = scores.iter().filter(|&&score| score > target).count();
    if better < 10 { 1.0 / (better as f64 + 2.0).log2() } else { 0.0 }
}

/// Queries `[histories, dim]` of the newest `max_len` items of each history (at least one item).
fn encode(weights: &Weights, vectors: &[f32], histories: &[&[u32]]) -> Vec<f32> {
    let (shape, layout) = (&weights.shape, weights.shape.layout());
    let mut pack = Pack::default();
    for history in histories {
        let newest = &history[history.len().saturating_sub(shape.max_len)..];
        pack.push(newest.iter().copied());
    }
    let mut work = Workspace::default();
    network::forward(shape, &layout, &weights.dense, vectors, &pack, Dropout::OFF, &mut work);
    pack.offsets[1..]
        .iter()
        .flat_map(|end| work.hidden[(end - 1) * shape.dim..end * shape.dim].iter().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn windows_make_every_transition_a_target_exactly_once() {
        let sequences = [(0..1003).collect::<Vec<u32>>(), vec![5, 6], vec![9]];
        let mut rng = ChaCha20Rng::seed_from_u64(0);
        for _ in 0..20 {
            let windows = cut_windows(&sequences, 50, &mut rng);
            assert!(windows.iter().all(|window| (2..=51).contains(&window.len())));
            let mut targets: Vec<u32> =
                windows.iter().filter(|w| w[0] != 5).flat_map(|w| w[1..].iter().copied()).collect();
            targets.sort_unstable();
            assert_eq!(targets, (1..1003).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn an_early_end_passes_the_rest_of_the_cosine() {
        let mut schedule = Schedule { peak: 1.0, warm_up: 1, max_epochs: 80, early: None };
        let before = schedule.rate(1, 20.0);
        schedule.end_early(20);
        assert_eq!(schedule.max_epochs, 25);
        assert_eq!(schedule.rate(1, 20.0), before, "no jump");
        let rates: Vec<f32> = (20..=25).map(|epoch| schedule.rate(1, f64::from(epoch))).collect();
        assert!(rates.is_sorted_by(|a, b| a > b), "{rates:?}");
        assert!((rates[5] - 0.02).abs() < 1e-6, "{rates:?}");
        schedule.end_early(22);
        assert_eq!(schedule.max_epochs, 25, "an end is not put off");
        let mut late = Schedule { peak: 1.0, warm_up: 1, max_epochs: 22, early: None };
        late.end_early(20);
        assert_eq!((late.max_epochs, late.early), (22, None), "the plan ends sooner anyway");
    }

    #[test]
    fn learns_a_cycle_and_stops_on_validation() {
        let sequences: Vec<Vec<u32>> =
            (0..200u32).map(|s| (0..12).map(|i| (s + i * 3) % 40).collect()).collect();
        let validation: Vec<FitCase> =
            (0..40u32).map(|s| FitCase { history: vec![s, (s + 3) % 40], target: (s + 6) % 40 }).collect();
        let options = FitOptions {
            shape: Shape { dim: 16, layers: 1, heads: 2, hidden: 32, max_len: 16 },
            learning_rate: 1e-2,
            dropout: 0.1,
            unit_items: false,
            id_dropout: 0.0,
            num_negatives: 16,
            batch_tokens: 256,
            max_epochs: 30,
            patience: 30,
            seed: 5,
        };
        let mut seen = 0;
        let data = FitData {
            sequences: &sequences,
            num_items: 40,
            content: &ItemContent::default(),
            target_weights: &[],
            validation: &validation,
            exclude_seen: true,
        };
        let fitted = fit(&data, &options, None, &mut |_, _| {
            seen += 1;
            true
        })
        .expect("fits");
        assert_eq!(seen, fitted.curve.len());
        let value = ndcg10(&fitted.weights, &data);
        assert!(value > 0.95, "NDCG@10 {value} after {} epochs", fitted.curve.len());
        let stopped = fit(&data, &options, None, &mut |_, _| false);
        assert_eq!(stopped.expect_err("stops").code(), Code::Cancelled);
    }
}
