//! The network ranker: hidden layers of SiLU beside a direct linear term (Cheng et al. 2016, "Wide & Deep
//! Learning"), on standardised features, fitted by the listwise softmax loss of [`super::linear`].
//!
//! The direct term starts as the linear ranker, so a fit that ends before its first pass is that.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use super::Rounds;
use super::linear::{self, MIN_DEVIATION, softmax_loss};
use super::lists::{self, CandidateList};
use super::options::{LinearOptions, MlpOptions};
use crate::draw::below;

/// Lists of an optimiser step.
const BATCH_LISTS: usize = 16;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.99;

/// A fitted network.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    net: Net,
    /// Mean and deviation of every feature.
    scales: Vec<(f64, f64)>,
    params: Vec<f64>,
}

/// A network on raw features in f32: `scores = last · hidden(features) + direct · features + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded {
    /// Weights `[inputs, outputs]` and biases `[outputs]` of every hidden layer, each followed by SiLU.
    pub hidden: Vec<(Vec<f32>, Vec<f32>)>,
    /// `[outputs of the last hidden layer]`.
    pub last: Vec<f32>,
    /// `[num_features]`.
    pub direct: Vec<f32>,
    /// The same for every candidate.
    pub bias: f32,
}

/// Sizes of the layers: features, then hidden layers. Parameters are, layer after layer, the matrix
/// `[inputs, outputs]` and the biases, then the last vector and the direct one.
#[derive(Debug, Clone, PartialEq)]
struct Net {
    sizes: Vec<usize>,
}

/// What a backward pass needs of a forward one.
struct Trace {
    /// Inputs of every hidden layer and of the last vector, `[rows, size]` each.
    inputs: Vec<Vec<f64>>,
    /// Values before SiLU of every hidden layer.
    before: Vec<Vec<f64>>,
    scores: Vec<f64>,
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl Net {
    fn num_features(&self) -> usize {
        self.sizes[0]
    }

    /// Where the last vector starts; the direct one follows it.
    fn last_at(&self) -> usize {
        self.sizes.windows(2).map(|pair| (pair[0] + 1) * pair[1]).sum()
    }

    fn direct_at(&self) -> usize {
        self.last_at() + self.sizes[self.sizes.len() - 1]
    }

    fn num_params(&self) -> usize {
        self.direct_at() + self.num_features()
    }

    /// Each hidden layer's inputs, outputs, and start of its matrix.
    fn layers(&self) -> Vec<(usize, usize, usize)> {
        let mut at = 0;
        let layer = |pair: &[usize]| {
            let start = at;
            at += (pair[0] + 1) * pair[1];
            (pair[0], pair[1], start)
        };
        self.sizes.windows(2).map(layer).collect()
    }

    fn forward(&self, params: &[f64], features: Vec<f64>) -> Trace {
        let direct = &params[self.direct_at()..];
        let mut scores: Vec<f64> =
            features.chunks_exact(self.num_features()).map(|row| dot(row, direct)).collect();
        let mut trace = Trace { inputs: vec![features], before: Vec::new(), scores: Vec::new() };
        for (inputs, outputs, at) in self.layers() {
            let (matrix, biases) = params[at..][..(inputs + 1) * outputs].split_at(inputs * outputs);
            let mut sums = biases.repeat(scores.len());
            let rows = trace.inputs[trace.inputs.len() - 1].chunks_exact(inputs);
            for (sums, row) in sums.chunks_exact_mut(outputs).zip(rows) {
                for (x, weights) in row.iter().zip(matrix.chunks_exact(outputs)) {
                    sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += x * weight);
                }
            }
            trace.inputs.push(sums.iter().map(|&x| x * sigmoid(x)).collect());
            trace.before.push(sums);
        }
        let last = &params[self.last_at()..self.direct_at()];
        let hidden = trace.inputs[trace.inputs.len() - 1].chunks_exact(last.len());
        scores.iter_mut().zip(hidden).for_each(|(score, row)| *score += dot(row, last));
        trace.scores = scores;
        trace
    }

    /// Gradient by every parameter of a loss whose gradient by the scores is `errors`.
    fn backward(&self, params: &[f64], trace: &Trace, errors: &[f64]) -> Vec<f64> {
        let mut gradient = vec![0.0; self.num_params()];
        let (last_at, direct_at) = (self.last_at(), self.direct_at());
        for (row, error) in trace.inputs[0].chunks_exact(self.num_features()).zip(errors) {
            add_scaled(&mut gradient[direct_at..], *error, row);
        }
        let hidden = &trace.inputs[trace.inputs.len() - 1];
        let last = &params[last_at..direct_at];
        let mut back = Vec::with_capacity(hidden.len());
        for (row, error) in hidden.chunks_exact(last.len()).zip(errors) {
            add_scaled(&mut gradient[last_at..direct_at], *error, row);
            back.extend(last.iter().map(|weight| weight * error));
        }
        for (layer, (inputs, outputs, at)) in self.layers().into_iter().enumerate().rev() {
            let before = &trace.before[layer];
            for (back, &x) in back.iter_mut().zip(before) {
                let s = sigmoid(x);
                *back *= s * (1.0 + x * (1.0 - s));
            }
            let matrix = &params[at..][..inputs * outputs];
            let mut next = vec![0.0; back.len() / outputs * inputs];
            let rows = trace.inputs[layer].chunks_exact(inputs).zip(back.chunks_exact(outputs));
            for ((row, back), next) in rows.zip(next.chunks_exact_mut(inputs)) {
                for (i, x) in row.iter().enumerate() {
                    add_scaled(&mut gradient[at + i * outputs..][..outputs], *x, back);
                    next[i] = dot(&matrix[i * outputs..][..outputs], back);
                }
                add_scaled(&mut gradient[at + inputs * outputs..][..outputs], 1.0, back);
            }
            back = next;
        }
        gradient
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add_scaled(to: &mut [f64], factor: f64, from: &[f64]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += factor * from);
}

/// A network and the number of passes that it was fitted in; `None` when no list holds its item.
#[must_use]
pub fn fit(
    lists: &[&CandidateList],
    num_features: usize,
    rounds: Rounds<'_>,
    options: &MlpOptions,
    linear: &LinearOptions,
    seed: u64,
) -> Option<(Mlp, usize)> {
    let useful = lists::with_item(lists);
    let direct = linear::fit(&useful, num_features, linear.ridge)?;
    let sizes = std::iter::once(num_features).chain(std::iter::repeat_n(options.hidden, options.layers));
    let net = Net { sizes: sizes.collect() };
    let scales = scales(&useful, num_features);
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut params = initial(&net, &mut rng);
    for ((param, weight), (_, deviation)) in params[net.direct_at()..].iter_mut().zip(&direct).zip(&scales) {
        *param = f64::from(*weight) * deviation;
    }
    let mut mlp = Mlp { net, scales, params };
    let mut optimiser = Adam::new(mlp.params.len());
    let mut order: Vec<&CandidateList> = useful;
    let held = match rounds {
        Rounds::BestOn(held) => lists::with_item(held),
        Rounds::Exactly(_) => Vec::new(),
    };
    let most = if let Rounds::Exactly(most) = rounds { most } else { options.max_epochs };
    let mut best = (mlp.loss(&held), 0, mlp.params.clone());
    for epoch in 1..=most {
        for at in (1..order.len()).rev() {
            order.swap(at, below(&mut rng, at + 1));
        }
        for batch in order.chunks(BATCH_LISTS) {
            let gradient = mlp.gradient(batch);
            optimiser.step(&mut mlp, &gradient, options);
        }
        let loss = mlp.loss(&held);
        if loss < best.0 || matches!(rounds, Rounds::Exactly(_)) {
            best = (loss, epoch, mlp.params.clone());
        } else if epoch - best.1 >= options.patience {
            break;
        }
    }
    (_, _, mlp.params) = best.clone();
    Some((mlp, best.1))
}

/// Uniform within one over the root of a layer's inputs; the direct term is set by the caller.
fn initial(net: &Net, rng: &mut ChaCha20Rng) -> Vec<f64> {
    let mut params = vec![0.0; net.num_params()];
    let mut fill = |params: &mut [f64], inputs: usize| {
        let bound = 1.0 / (inputs as f64).sqrt();
        for param in params {
            *param = bound * (f64::from(rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0);
        }
    };
    for (inputs, outputs, at) in net.layers() {
        fill(&mut params[at..][..inputs * outputs], inputs);
    }
    let (last_at, direct_at) = (net.last_at(), net.direct_at());
    fill(&mut params[last_at..direct_at], direct_at - last_at);
    // Small, so that the fit starts near the linear ranker.
    params[last_at..direct_at].iter_mut().for_each(|param| *param *= 0.1);
    params
}

/// Mean and deviation of every feature over all candidates; 1 for the deviation of a constant.
fn scales<'a>(lists: &[&'a CandidateList], num_features: usize) -> Vec<(f64, f64)> {
    (0..num_features)
        .map(|feature| {
            let values = || {
                let column =
                    move |list: &'a CandidateList| list.features.iter().skip(feature).step_by(num_features);
                lists.iter().copied().flat_map(column).map(|&x| f64::from(x))
            };
            let count = values().count().max(1) as f64;
            let mean = values().sum::<f64>() / count;
            let deviation = (values().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt();
            (mean, if deviation > MIN_DEVIATION { deviation } else { 1.0 })
        })
        .collect()
}

/// Adam with decoupled decay (Loshchilov & Hutter 2019) of what is not direct.
struct Adam {
    first: Vec<f64>,
    second: Vec<f64>,
    steps: i32,
}

impl Adam {
    fn new(num_params: usize) -> Self {
        Self { first: vec![0.0; num_params], second: vec![0.0; num_params], steps: 0 }
    }

    fn step(&mut self, mlp: &mut Mlp, gradient: &[f64], options: &MlpOptions) {
        self.steps += 1;
        let (correct1, correct2) = (1.0 - BETA1.powi(self.steps), 1.0 - BETA2.powi(self.steps));
        let decayed = mlp.net.direct_at();
        for (i, (param, g)) in mlp.params.iter_mut().zip(gradient).enumerate() {
            self.first[i] = BETA1 * self.first[i] + (1.0 - BETA1) * g;
            self.second[i] = BETA2 * self.second[i] + (1.0 - BETA2) * g * g;
            let decay = if i < decayed { options.weight_decay * *param } else { 0.0 };
            let move_by = (self.first[i] / correct1) / ((self.second[i] / correct2).sqrt() + 1e-8);
            *param -= options.learning_rate * (move_by + decay);
        }
    }
}

impl Mlp {
    fn standardised(&self, features: &[f32]) -> Vec<f64> {
        let scaled = |(x, (mean, deviation)): (&f32, &(f64, f64))| (f64::from(*x) - mean) / deviation;
        features.iter().zip(self.scales.iter().cycle()).map(scaled).collect()
    }

    fn trace(&self, list: &CandidateList) -> Trace {
        self.net.forward(&self.params, self.standardised(&list.features))
    }

    /// Mean loss of lists that hold their items.
    fn loss(&self, lists: &[&CandidateList]) -> f64 {
        let loss = |list: &&CandidateList| {
            list.relevant.map_or(0.0, |relevant| softmax_loss(&self.trace(list).scores, relevant).0)
        };
        let losses: Vec<f64> = lists.par_iter().map(loss).collect();
        losses.iter().sum::<f64>() / losses.len().max(1) as f64
    }

    /// Gradient of the mean loss of a batch, added up in the order of the lists.
    fn gradient(&self, batch: &[&CandidateList]) -> Vec<f64> {
        let of = |list: &&CandidateList| {
            let trace = self.trace(list);
            let (_, errors) = softmax_loss(&trace.scores, list.relevant?);
            Some(self.net.backward(&self.params, &trace, &errors))
        };
        let parts: Vec<Option<Vec<f64>>> = batch.par_iter().map(of).collect();
        let mut total = vec![0.0; self.params.len()];
        for part in parts.iter().flatten() {
            add_scaled(&mut total, 1.0 / batch.len() as f64, part);
        }
        total
    }

    /// Scores `[num_candidates]` of raw features `[num_candidates, num_features]`.
    #[must_use]
    pub fn scores(&self, features: &[f32]) -> Vec<f32> {
        let trace = self.net.forward(&self.params, self.standardised(features));
        trace.scores.into_iter().map(|score| score as f32).collect()
    }

    /// The network with the standardisation in its first weights.
    #[must_use]
    pub fn folded(&self) -> Folded {
        let narrow = |params: &[f64]| params.iter().map(|&param| param as f32).collect::<Vec<f32>>();
        let mut hidden = Vec::new();
        for (layer, (inputs, outputs, at)) in self.net.layers().into_iter().enumerate() {
            let (matrix, biases) = self.params[at..][..(inputs + 1) * outputs].split_at(inputs * outputs);
            let (mut matrix, mut biases) = (matrix.to_vec(), biases.to_vec());
            if layer == 0 {
                for (weights, (mean, deviation)) in matrix.chunks_exact_mut(outputs).zip(&self.scales) {
                    weights.iter_mut().for_each(|weight| *weight /= deviation);
                    add_scaled(&mut biases, -mean, weights);
                }
            }
            hidden.push((narrow(&matrix), narrow(&biases)));
        }
        let (last_at, direct_at) = (self.net.last_at(), self.net.direct_at());
        let direct: Vec<f64> =
            self.params[direct_at..].iter().zip(&self.scales).map(|(weight, (_, d))| weight / d).collect();
        let means: Vec<f64> = self.scales.iter().map(|(mean, _)| *mean).collect();
        Folded {
            hidden,
            last: narrow(&self.params[last_at..direct_at]),
            direct: narrow(&direct),
            bias: -dot(&direct, &means) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rankers::choice::tests::lists;

    fn refs(lists: &[CandidateList]) -> Vec<&CandidateList> {
        lists.iter().collect()
    }

    fn fitted(lists: &[CandidateList], layers: usize, rounds: Rounds<'_>) -> (Mlp, usize) {
        let options = MlpOptions { layers, hidden: 8, max_epochs: 20, ..MlpOptions::default() };
        fit(&refs(lists), 3, rounds, &options, &LinearOptions::default(), 5).expect("lists hold their items")
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        for layers in 1..=3 {
            let lists = lists(20, 0.4);
            let (mut mlp, _) = fitted(&lists, layers, Rounds::Exactly(1));
            let batch = refs(&lists[..3]);
            let gradient = mlp.gradient(&batch);
            let step = 1e-5;
            for i in 0..mlp.params.len() {
                let kept = mlp.params[i];
                mlp.params[i] = kept + step;
                let above = mlp.loss(&batch);
                mlp.params[i] = kept - step;
                let slope = (above - mlp.loss(&batch)) / (2.0 * step);
                mlp.params[i] = kept;
                assert!((gradient[i] - slope).abs() < 1e-7, "{layers} layers, {i}: {} {slope}", gradient[i]);
            }
        }
    }

    /// Lists whose right item has the middle value of feature 1: no weight finds it.
    fn middle(num_lists: u32) -> Vec<CandidateList> {
        let list = |user: u32| {
            let relevant = (user % 20) as usize;
            let value = |i: usize| {
                if i == relevant {
                    0.0
                } else if i % 2 == 0 {
                    -1.0
                } else {
                    1.0
                }
            };
            let noise = |i: usize| ((user as usize * 7919 + i * 104_729) % 1000) as f32 / 1000.0;
            let features = (0..20).flat_map(|i| [noise(i), value(i), 5.0]).collect();
            CandidateList { user, features, relevant: Some(relevant) }
        };
        (0..num_lists).map(list).collect()
    }

    #[test]
    fn a_network_finds_what_no_weight_can() {
        let (learnt, held) = (middle(200), middle(40));
        let (mlp, epochs) = fitted(&learnt, 1, Rounds::BestOn(&refs(&held)));
        let first = held.iter().filter(|list| list.rank(&mlp.scores(&list.features)) == Some(1)).count();
        assert_eq!((first, epochs > 0), (held.len(), true));
    }

    #[test]
    fn without_a_pass_the_network_is_nearly_the_linear_ranker() {
        let lists = lists(100, 0.4);
        let (mlp, epochs) = fitted(&lists, 1, Rounds::Exactly(0));
        let weights = linear::fit(&refs(&lists), 3, LinearOptions::default().ridge).expect("fits");
        assert_eq!(epochs, 0);
        for (param, weight) in mlp.folded().direct.iter().zip(weights) {
            assert!((param - weight).abs() < 1e-5, "{param} {weight}");
        }
    }

    #[test]
    fn one_seed_gives_one_network_on_any_number_of_threads() {
        let lists = lists(40, 0.4);
        let of = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
            pool.install(|| fitted(&lists, 2, Rounds::Exactly(2)).0)
        };
        assert_eq!(of(1), of(3));
    }
}
