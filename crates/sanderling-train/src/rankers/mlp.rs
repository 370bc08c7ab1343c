//! The network ranker: hidden layers of SiLU beside a direct linear term (Cheng et al. 2016, "Wide & Deep
//! Learning"), on standardised features, fitted by the listwise softmax loss of [`super::linear`].
//!
//! The direct term starts as the linear ranker, so a fit that ends before its first pass is that.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;
use sanderling_core::onnx::MlpRanker;

use super::Rounds;
use super::linear::{self, MIN_DEVIATION, softmax_loss};
use super::lists::{self, CandidateList, Example};
use super::options::{LinearOptions, MlpOptions};
use crate::draw::below;
use crate::sequence::kernels;
use crate::sequence::linalg::{View, product};

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
    params: Vec<f32>,
}

/// Sizes of the layers: features, then hidden layers. Parameters are, layer after layer, the matrix
/// `[inputs, outputs]` and the biases, then the last vector and the direct one.
#[derive(Debug, Clone, PartialEq)]
struct Net {
    sizes: Vec<usize>,
}

/// What a backward pass needs of a forward one.
struct Trace {
    /// Values before SiLU of every hidden layer, `[rows, outputs]` each.
    before: Vec<Vec<f32>>,
    /// The same after it.
    after: Vec<Vec<f32>>,
    scores: Vec<f32>,
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

    /// Runs the network on standardised features `[rows, num_features]`.
    fn forward(&self, params: &[f32], features: &[f32]) -> Trace {
        let rows = features.len() / self.num_features();
        let mut trace = Trace { before: Vec::new(), after: Vec::new(), scores: vec![0.0; rows] };
        for (inputs, outputs, at) in self.layers() {
            let (matrix, biases) = params[at..][..(inputs + 1) * outputs].split_at(inputs * outputs);
            let input = trace.after.last().map_or(features, Vec::as_slice);
            let (mut before, mut after) = (vec![0.0; rows * outputs], vec![0.0; rows * outputs]);
            let matrix = View::dense(matrix, inputs, outputs);
            product(&mut before, outputs, View::dense(input, rows, inputs), matrix, false, 1.0);
            kernels::add_bias(&mut before, biases);
            kernels::silu(&before, &mut after);
            trace.before.push(before);
            trace.after.push(after);
        }
        let (last, direct) = params[self.last_at()..].split_at(self.direct_at() - self.last_at());
        let hidden = trace.after.last().map_or(features, Vec::as_slice);
        for (input, weights, keep) in [(hidden, last, false), (features, direct, true)] {
            let (input, column) =
                (View::dense(input, rows, weights.len()), View::dense(weights, weights.len(), 1));
            product(&mut trace.scores, 1, input, column, keep, 1.0);
        }
        trace
    }

    /// Gradient by every parameter of a loss whose gradient by the scores is `errors`.
    fn backward(&self, params: &[f32], features: &[f32], trace: &Trace, errors: &[f32]) -> Vec<f32> {
        let mut gradient = vec![0.0; self.num_params()];
        let (rows, last_at, direct_at) = (errors.len(), self.last_at(), self.direct_at());
        let last = &params[last_at..direct_at];
        let hidden = trace.after.last().map_or(features, Vec::as_slice);
        let (head, tail) = gradient.split_at_mut(last_at);
        let (last_gradient, direct_gradient) = tail.split_at_mut(last.len());
        for (gradient, input) in [(last_gradient, hidden), (direct_gradient, features)] {
            let input = View::dense(input, rows, gradient.len()).t();
            product(gradient, 1, input, View::dense(errors, rows, 1), false, 1.0);
        }
        let mut back = vec![0.0; hidden.len()];
        let (errors, last) = (View::dense(errors, rows, 1), View::dense(last, 1, last.len()));
        product(&mut back, self.direct_at() - last_at, errors, last, false, 1.0);
        for (layer, (inputs, outputs, at)) in self.layers().into_iter().enumerate().rev() {
            kernels::silu_back(&trace.before[layer], &mut back);
            let input = if layer == 0 { features } else { &trace.after[layer - 1] };
            let (by_matrix, by_biases) = head[at..][..(inputs + 1) * outputs].split_at_mut(inputs * outputs);
            let errors = View::dense(&back, rows, outputs);
            product(by_matrix, outputs, View::dense(input, rows, inputs).t(), errors, false, 1.0);
            kernels::add_column_sums(by_biases, &back);
            if layer > 0 {
                let mut next = vec![0.0; rows * inputs];
                let matrix = View::dense(&params[at..][..inputs * outputs], inputs, outputs);
                product(&mut next, inputs, errors, matrix.t(), false, 1.0);
                back = next;
            }
        }
        gradient
    }
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
    let examples = lists::examples(&useful, &scales);
    let (held, most) = match rounds {
        Rounds::BestOn(held) => (lists::examples(held, &scales), options.max_epochs),
        Rounds::Exactly(most) => (Vec::new(), most),
    };
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut params = initial(&net, &mut rng);
    for ((param, weight), (_, deviation)) in params[net.direct_at()..].iter_mut().zip(&direct).zip(&scales) {
        *param = (f64::from(*weight) * deviation) as f32;
    }
    let mut mlp = Mlp { net, scales, params };
    let mut optimiser = Adam::new(mlp.params.len());
    let mut order: Vec<&Example> = examples.iter().collect();
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
    let (_, epochs, params) = best;
    mlp.params = params;
    Some((mlp, epochs))
}

/// Uniform within one over the root of a layer's inputs; the direct term is set by the caller.
fn initial(net: &Net, rng: &mut ChaCha20Rng) -> Vec<f32> {
    let mut params = vec![0.0; net.num_params()];
    let mut fill = |params: &mut [f32], inputs: usize| {
        let bound = 1.0 / (inputs as f64).sqrt();
        for param in params {
            *param = (bound * (f64::from(rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0)) as f32;
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
            let value = f64::from(*param);
            let decay = if i < decayed { options.weight_decay * value } else { 0.0 };
            let move_by = (self.first[i] / correct1) / ((self.second[i] / correct2).sqrt() + 1e-8);
            *param = (value - options.learning_rate * (move_by + decay)) as f32;
        }
    }
}

impl Mlp {
    fn trace(&self, features: &[f32]) -> Trace {
        self.net.forward(&self.params, features)
    }

    /// Mean loss.
    fn loss(&self, examples: &[Example]) -> f64 {
        let loss = |example: &Example| softmax_loss(self.trace(&example.features).scores, example.relevant).0;
        let losses: Vec<f64> = examples.par_iter().map(loss).collect();
        losses.iter().sum::<f64>() / losses.len().max(1) as f64
    }

    /// Gradient of the mean loss of a batch, added up in the order of the lists.
    fn gradient(&self, batch: &[&Example]) -> Vec<f64> {
        let of = |Example { features, relevant }: &&Example| {
            let mut trace = self.trace(features);
            let (_, errors) = softmax_loss(std::mem::take(&mut trace.scores), *relevant);
            self.net.backward(&self.params, features, &trace, &errors)
        };
        let parts: Vec<Vec<f32>> = batch.par_iter().map(of).collect();
        let mut total = vec![0.0; self.params.len()];
        for part in parts {
            total.iter_mut().zip(part).for_each(|(total, g)| *total += f64::from(g) / batch.len() as f64);
        }
        total
    }

    /// Scores `[num_candidates]` of raw features `[num_candidates, num_features]`.
    #[must_use]
    pub fn scores(&self, features: &[f32]) -> Vec<f32> {
        self.trace(&lists::standardised(features, &self.scales)).scores
    }

    /// The network with the standardisation in its first weights.
    #[must_use]
    pub fn folded(&self) -> MlpRanker {
        let mut hidden = Vec::new();
        for (layer, (inputs, outputs, at)) in self.net.layers().into_iter().enumerate() {
            let (matrix, biases) = self.params[at..][..(inputs + 1) * outputs].split_at(inputs * outputs);
            hidden.push(match layer {
                0 => self.folded_layer(matrix, biases),
                _ => (matrix.to_vec(), biases.to_vec()),
            });
        }
        let (last_at, direct_at) = (self.net.last_at(), self.net.direct_at());
        let direct = self.params[direct_at..].iter().zip(&self.scales);
        let bias: f64 = direct.clone().map(|(weight, (mean, d))| -f64::from(*weight) * mean / d).sum();
        MlpRanker {
            hidden,
            last: self.params[last_at..direct_at].to_vec(),
            direct: direct.map(|(weight, (_, d))| (f64::from(*weight) / d) as f32).collect(),
            bias: bias as f32,
        }
    }

    /// The first layer on raw features.
    fn folded_layer(&self, matrix: &[f32], biases: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let outputs = biases.len();
        let mut biases: Vec<f64> = biases.iter().map(|&bias| f64::from(bias)).collect();
        let mut folded = Vec::with_capacity(matrix.len());
        for (weights, (mean, deviation)) in matrix.chunks_exact(outputs).zip(&self.scales) {
            for (weight, bias) in weights.iter().zip(&mut biases) {
                let weight = f64::from(*weight) / deviation;
                *bias -= weight * mean;
                folded.push(weight as f32);
            }
        }
        (folded, biases.into_iter().map(|bias| bias as f32).collect())
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
            let batch = lists::examples(&refs(&lists[..3]), &mlp.scales);
            let gradient = mlp.gradient(&batch.iter().collect::<Vec<_>>());
            let step = 1e-2;
            for (i, found) in gradient.into_iter().enumerate() {
                let kept = mlp.params[i];
                mlp.params[i] = kept + step;
                let above = mlp.loss(&batch);
                mlp.params[i] = kept - step;
                let slope = (above - mlp.loss(&batch)) / f64::from(2.0 * step);
                mlp.params[i] = kept;
                let bound = 1e-4 + 2e-3 * slope.abs();
                assert!((found - slope).abs() < bound, "{layers} layers, {i}: {found} {slope}");
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
                } else if i.is_multiple_of(2) {
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
