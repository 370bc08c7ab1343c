//! One optimiser step: batch to shards, shards to gradients, gradients to weights.
//!
//! A batch is always cut into the same number of shards and their gradients are added in the same
//! order, so the result is the same on any number of threads.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::kernels;
use super::loss::{self, Negatives};
use super::network::{self, Dropout, Pack, Workspace};
use super::params::{Layout, Weights};
use super::vectors::{Gathered, ItemContent};
use crate::draw::below;

/// Shards of a batch, each with gradients of its own.
const SHARDS: usize = 4;

/// Tokens that go through the network together: few enough that what a pass keeps for the way back
/// stays in a core's second-level cache.
const PART_TOKENS: usize = 384;

/// Elements that one thread adds up at once.
const SUM_CHUNK: usize = 1 << 14;

/// Sequences that go through the network together.
#[derive(Debug, Default)]
struct Part {
    pack: Pack,
    targets: Vec<u32>,
    /// Factor of each target's loss.
    weights: Vec<f32>,
}

/// Parts of a batch that share gradients and buffers.
#[derive(Debug, Default)]
struct Shard {
    parts: Vec<Part>,
    tokens: usize,
    work: Workspace,
    grad_hidden: Vec<f32>,
    grad_dense: Vec<f32>,
    grad_table: Vec<f32>,
    logits: Vec<f32>,
    loss: f64,
}

impl Shard {
    /// The part that takes the next sequence.
    fn open_part(&mut self) -> &mut Part {
        if self.parts.last().is_none_or(|part| part.pack.tokens() >= PART_TOKENS) {
            self.parts.push(Part::default());
        }
        // Unwrap safety: a part was pushed when there was none.
        self.parts.last_mut().expect("has a part")
    }
}

/// What steps leave behind for later ones, beside the weights: Adam's moments and the order that
/// negatives are drawn from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Optimiser {
    moments_dense: [Vec<f32>; 2],
    moments_items: [Vec<f32>; 2],
    moments_content: [Vec<f32>; 2],
    permutation: Vec<u32>,
    steps: u64,
}

impl Optimiser {
    pub(crate) fn new(weights: &Weights) -> Self {
        let zeros = |len: usize| [vec![0.0; len], vec![0.0; len]];
        Self {
            moments_dense: zeros(weights.dense.len()),
            moments_items: zeros(weights.items.len()),
            moments_content: zeros(weights.content.len()),
            permutation: (0..weights.num_items() as u32).collect(),
            steps: 0,
        }
    }
}

/// Buffers of a step; item rows are updated only when a batch touches them.
#[derive(Debug)]
pub(crate) struct Trainer {
    layout: Layout,
    shards: Vec<Shard>,
    /// Local row of an item in this batch, `u32::MAX` when absent.
    local_of: Vec<u32>,
    /// Item of each local row; negatives first.
    rows: Vec<u32>,
    gathered: Gathered,
}

/// What a step needs to know beside weights and sequences.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepOptions<'a> {
    /// Factor of the loss of each item as a target; empty for 1 throughout.
    pub(crate) target_weights: &'a [f32],
    pub(crate) content: &'a ItemContent,
    /// Probability that an item with content is seen without its own part.
    pub(crate) id_dropout: f32,
    pub(crate) rate: f32,
    pub(crate) dropout: f32,
    pub(crate) num_negatives: usize,
}

impl Trainer {
    pub(crate) fn new(weights: &Weights) -> Self {
        Self {
            layout: weights.shape.layout(),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            local_of: vec![u32::MAX; weights.num_items()],
            rows: Vec::new(),
            gathered: Gathered::default(),
        }
    }

    /// One step over `batch`, sequences of at least two items, each at most `max_len + 1` long.
    /// Returns the mean loss of a token.
    pub(crate) fn step(
        &mut self,
        weights: &mut Weights,
        optimiser: &mut Optimiser,
        batch: &[&[u32]],
        options: StepOptions<'_>,
        rng: &mut ChaCha20Rng,
    ) -> f64 {
        let negatives = self.draw_negatives(&mut optimiser.permutation, options.num_negatives, rng);
        self.collect(batch);
        let threshold = below_one(options.id_dropout);
        let drop = || threshold > 0 && rng.next_u32() < threshold;
        self.gathered.gather(weights, options.content, &self.rows, drop);
        self.weigh(options.target_weights);
        let tokens: usize = batch.iter().map(|sequence| sequence.len() - 1).sum();
        let seed = rng.next_u32();
        self.gradients(weights, negatives, options.dropout, seed);
        self.update(weights, optimiser, options.content, options.rate);
        for &item in &self.rows {
            self.local_of[item as usize] = u32::MAX;
        }
        self.shards.iter().map(|shard| shard.loss).sum::<f64>() / tokens as f64
    }

    /// Puts distinct uniform items into the first local rows (partial Fisher-Yates).
    fn draw_negatives(&mut self, permutation: &mut [u32], wanted: usize, rng: &mut ChaCha20Rng) -> Negatives {
        let num_items = permutation.len();
        let exact = wanted * 3 / 2 >= num_items;
        let len = if exact { num_items } else { wanted };
        if !exact {
            for i in 0..len {
                let j = i + below(rng, num_items - i);
                permutation.swap(i, j);
            }
        }
        self.rows.clear();
        self.rows.extend_from_slice(&permutation[..len]);
        for (row, &item) in self.rows.iter().enumerate() {
            self.local_of[item as usize] = row as u32;
        }
        let correction = if exact { 0.0 } else { ((num_items - 1) as f32 / len as f32).ln() };
        Negatives { len, correction }
    }

    /// Assigns local rows to the batch's items and cuts it into shards of similar token counts: the longest
    /// sequence first, each to the shard that has least (Graham 1969).
    fn collect(&mut self, batch: &[&[u32]]) {
        for shard in &mut self.shards {
            shard.parts.clear();
            shard.tokens = 0;
        }
        let mut longest_first = batch.to_vec();
        longest_first.sort_by_key(|sequence| std::cmp::Reverse(sequence.len()));
        for sequence in longest_first {
            for &item in sequence {
                let local = &mut self.local_of[item as usize];
                if *local == u32::MAX {
                    *local = self.rows.len() as u32;
                    self.rows.push(item);
                }
            }
            // Unwrap safety: there is always at least one shard.
            let shard = self.shards.iter_mut().min_by_key(|shard| shard.tokens).expect("has shards");
            shard.tokens += sequence.len() - 1;
            let local_of = &self.local_of;
            let local = |item: &u32| local_of[*item as usize];
            let part = shard.open_part();
            part.pack.push(sequence[..sequence.len() - 1].iter().map(local));
            part.targets.extend(sequence[1..].iter().map(local));
        }
    }

    /// Gives every token its share of the batch's mean loss.
    fn weigh(&mut self, target_weights: &[f32]) {
        let mut total = 0.0;
        for part in self.shards.iter_mut().flat_map(|shard| &mut shard.parts) {
            let factor =
                |&row: &u32| target_weights.get(self.rows[row as usize] as usize).copied().unwrap_or(1.0);
            part.weights.extend(part.targets.iter().map(factor));
            total += part.weights.iter().sum::<f32>();
        }
        for part in self.shards.iter_mut().flat_map(|shard| &mut shard.parts) {
            kernels::scale(&mut part.weights, 1.0 / total);
        }
    }

    fn gradients(&mut self, weights: &Weights, negatives: Negatives, dropout: f32, seed: u32) {
        let (layout, table, shape) = (&self.layout, &self.gathered.table, &weights.shape);
        let threshold = below_one(dropout);
        self.shards.par_iter_mut().enumerate().for_each(|(i, shard)| {
            let Shard { parts, work, grad_hidden, grad_dense, grad_table, logits, loss, .. } = shard;
            for (buffer, len) in [(&mut *grad_dense, weights.dense.len()), (&mut *grad_table, table.len())] {
                buffer.clear();
                buffer.resize(len, 0.0);
            }
            *loss = 0.0;
            for (j, Part { pack, targets, weights: factors }) in parts.iter().enumerate() {
                let site = (i + j * SHARDS) as u32;
                let dropout = Dropout { threshold, seed: seed ^ site.wrapping_mul(0x9E37_79B1) };
                network::forward(shape, layout, &weights.dense, table, pack, dropout, work);
                *loss += loss::softmax(
                    shape.dim,
                    &work.hidden,
                    targets,
                    table,
                    negatives,
                    factors,
                    grad_hidden,
                    grad_table,
                    logits,
                );
                network::backward(
                    shape,
                    layout,
                    &weights.dense,
                    pack,
                    dropout,
                    work,
                    grad_hidden,
                    grad_dense,
                    grad_table,
                );
            }
        });
    }

    /// Adds the shards' gradients into the first and applies Adam.
    fn update(&mut self, weights: &mut Weights, optimiser: &mut Optimiser, content: &ItemContent, rate: f32) {
        optimiser.steps += 1;
        let t = optimiser.steps as i32;
        let (correct1, correct2) = (1.0 - 0.9f64.powi(t), 1.0 - 0.98f64.powi(t));
        let rate = (f64::from(rate) * correct2.sqrt() / correct1) as f32;
        let epsilon = (1e-8 * correct2.sqrt()) as f32;
        // Unwrap safety: there is always at least one shard.
        let (first, others) = self.shards.split_first_mut().expect("has shards");
        let sum = |sum: &mut [f32], part: fn(&Shard) -> &[f32]| {
            sum.par_chunks_mut(SUM_CHUNK).enumerate().for_each(|(at, sum)| {
                for shard in &*others {
                    kernels::add_scaled(sum, &part(shard)[at * SUM_CHUNK..][..sum.len()], 1.0);
                }
            });
        };
        sum(&mut first.grad_dense, |shard| &shard.grad_dense);
        sum(&mut first.grad_table, |shard| &shard.grad_table);
        let [m, v] = &mut optimiser.moments_dense;
        let dense = weights.dense.par_chunks_mut(SUM_CHUNK).zip(first.grad_dense.par_chunks(SUM_CHUNK));
        dense.zip(m.par_chunks_mut(SUM_CHUNK)).zip(v.par_chunks_mut(SUM_CHUNK)).for_each(
            |(((w, g), m), v)| {
                kernels::adam(w, g, m, v, rate, epsilon);
            },
        );
        let dim = weights.shape.dim;
        self.gathered.backward(content, &self.rows, &mut first.grad_table, dim);
        let adam = |table: &mut [f32], moments: &mut [Vec<f32>; 2], row: usize, grad: &[f32]| {
            let row = row * dim..(row + 1) * dim;
            let [m, v] = moments;
            kernels::adam(&mut table[row.clone()], grad, &mut m[row.clone()], &mut v[row], rate, epsilon);
        };
        for (row, (&item, grad)) in self.rows.iter().zip(first.grad_table.chunks_exact(dim)).enumerate() {
            if self.gathered.own(row) {
                adam(&mut weights.items, &mut optimiser.moments_items, item as usize, grad);
            }
        }
        for (feature, grad) in self.gathered.content_gradients(dim) {
            adam(&mut weights.content, &mut optimiser.moments_content, feature, grad);
        }
    }

    /// Gradients of one batch without an update, for tests against finite differences: dense weights, own
    /// parts of items, content.
    #[cfg(test)]
    pub(crate) fn probe(
        &mut self,
        weights: &Weights,
        content: &ItemContent,
        batch: &[&[u32]],
    ) -> (f64, [Vec<f32>; 3]) {
        let num_items = weights.num_items();
        self.rows = (0..num_items as u32).collect();
        self.local_of = self.rows.clone();
        self.collect(batch);
        self.gathered.gather(weights, content, &self.rows, || false);
        let tokens: usize = batch.iter().map(|sequence| sequence.len() - 1).sum();
        let negatives = Negatives { len: num_items, correction: 0.0 };
        self.weigh(&[]);
        self.gradients(weights, negatives, 0.0, 0);
        let mut dense = vec![0.0; weights.dense.len()];
        let mut items = vec![0.0; weights.items.len()];
        let mut loss = 0.0;
        for shard in &self.shards {
            kernels::add_scaled(&mut dense, &shard.grad_dense, 1.0);
            kernels::add_scaled(&mut items, &shard.grad_table, 1.0);
            loss += shard.loss;
        }
        let dim = weights.shape.dim;
        self.gathered.backward(content, &self.rows, &mut items, dim);
        let mut features = vec![0.0; weights.content.len()];
        for (feature, grad) in self.gathered.content_gradients(dim) {
            features[feature * dim..][..dim].copy_from_slice(grad);
        }
        (loss / tokens as f64, [dense, items, features])
    }
}

/// A probability in units of 2^-32.
fn below_one(probability: f32) -> u32 {
    (f64::from(probability) * 4_294_967_296.0) as u32
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;
    use crate::sequence::params::Shape;

    /// Central differences on the whole model: every kind of weight, three sequences of different
    /// length, more rows than one attention block.
    #[test]
    fn gradients_agree_with_finite_differences() {
        check_gradients(false);
        check_gradients(true);
    }

    fn check_gradients(unit_items: bool) {
        let shape = Shape { dim: 8, layers: 2, heads: 2, hidden: 12, max_len: 80 };
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let mut weights = Weights::init(shape, 13, 5, unit_items, &mut rng);
        weights.items.iter_mut().for_each(|w| *w *= if unit_items { 2.0 } else { 10.0 });
        weights.content.iter_mut().enumerate().for_each(|(i, w)| *w = (i as f32).sin() * 0.2);
        let content = ItemContent::new(5, (0..13).map(|i| (0..i % 4).collect()));
        let long: Vec<u32> = (0..70).map(|i| (i * 7 + i / 3) % 13).collect();
        let batch: [&[u32]; 3] = [&long, &[1, 2, 3], &[5, 5]];
        let mut trainer = Trainer::new(&weights);
        let (_, [dense, items, features]) = trainer.probe(&weights, &content, &batch);
        let layout = shape.layout();
        let block = &layout.blocks[1];
        let mut sites = vec![layout.norm[0].start + 1, layout.norm[1].start + 2];
        for range in [
            &block.norm1[0],
            &block.norm1[1],
            &block.qkv,
            &block.qkv_bias,
            &block.distance,
            &block.out,
            &block.out_bias,
            &block.norm2[0],
            &block.norm2[1],
            &block.up,
            &block.up_bias,
            &block.down,
            &block.down_bias,
        ] {
            sites.extend([range.start, range.start + range.len() / 2, range.end - 1]);
        }
        sites.extend([layout.blocks[0].qkv.start + 7, block.distance.end - 2, block.distance.end - 30]);
        let h = 1e-2;
        let mut check = |name: &str, site: usize, analytic: f32, nudge: &mut dyn FnMut(&mut Weights, f32)| {
            let mut loss_at = |delta: f32| {
                let mut moved = weights.clone();
                nudge(&mut moved, delta);
                trainer.probe(&moved, &content, &batch).0
            };
            let numeric = (loss_at(h) - loss_at(-h)) / (2.0 * f64::from(h));
            let error = (numeric - f64::from(analytic)).abs();
            assert!(
                error < 2e-4 + 2e-2 * numeric.abs(),
                "{name}[{site}]: analytic {analytic}, numeric {numeric}"
            );
        };
        for site in sites {
            check("dense", site, dense[site], &mut |w, delta| w.dense[site] += delta);
        }
        for site in [0, 9, 40, 103] {
            check("items", site, items[site], &mut |w, delta| w.items[site] += delta);
        }
        for site in [0, 9, 23] {
            check("content", site, features[site], &mut |w, delta| w.content[site] += delta);
        }
        assert!(features[32..].iter().all(|grad| *grad == 0.0), "no item has feature 4");
    }

    /// What `tests/python/torch_gradients.py` prints.
    #[derive(Deserialize)]
    struct Reference {
        loss: f64,
        dense: Vec<f64>,
        items: Vec<f64>,
        content: Vec<f64>,
    }

    #[test]
    fn gradients_are_those_of_pytorch() {
        let wave = |out: &mut [f32], height: f64, start: f64, step: f64| {
            out.iter_mut().zip(0..).for_each(|(w, i)| {
                *w = (height * (start + step * f64::from(i)).sin()) as f32;
            });
        };
        let shape = Shape { dim: 8, layers: 2, heads: 2, hidden: 12, max_len: 10 };
        let mut weights = Weights::init(shape, 13, 5, false, &mut ChaCha20Rng::seed_from_u64(1));
        wave(&mut weights.dense, 0.3, 0.1, 0.73);
        let layout = shape.layout();
        let gains = layout.blocks.iter().flat_map(|block| [&block.norm1[0], &block.norm2[0]]);
        for gain in gains.chain([&layout.norm[0]]) {
            weights.dense[gain.clone()].iter_mut().for_each(|w| *w += 1.0);
        }
        wave(&mut weights.items, 0.5, 1.0, 0.37);
        wave(&mut weights.content, 0.2, 0.0, 1.0);
        let content = ItemContent::new(5, (0..13).map(|i| (0..i % 4).collect()));
        let batch: [&[u32]; 3] = [&[3, 1, 4, 1, 5, 9, 2, 6, 5], &[1, 2, 3], &[5, 5]];
        let (loss, [dense, items, features]) = Trainer::new(&weights).probe(&weights, &content, &batch);

        let expected: Reference =
            serde_json::from_str(include_str!("torch_gradients.json")).expect("the file is whole");
        assert!((loss - expected.loss).abs() < 1e-6, "{loss} {}", expected.loss);
        for (name, found, expected) in [
            ("dense", dense, expected.dense),
            ("items", items, expected.items),
            ("content", features, expected.content),
        ] {
            assert_eq!(found.len(), expected.len(), "{name}");
            for (site, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let error = (f64::from(*found) - expected).abs();
                assert!(error < 2e-6 + 1e-5 * expected.abs(), "{name}[{site}]: {found} {expected}");
            }
        }
    }

    #[test]
    fn the_thread_count_does_not_change_a_single_bit() {
        let shape = Shape { dim: 16, layers: 1, heads: 2, hidden: 32, max_len: 20 };
        let sequences: Vec<Vec<u32>> =
            (0..40u32).map(|s| (0..3 + s % 17).map(|i| (i * 31 + s * 7) % 500).collect()).collect();
        let batch: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let run = |threads: usize| {
            // Unwrap safety: a small thread pool always builds in a test.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
            pool.install(|| {
                let mut rng = ChaCha20Rng::seed_from_u64(1);
                let mut weights = Weights::init(shape, 500, 20, true, &mut rng);
                let content = ItemContent::new(20, (0..500).map(|i| vec![i % 20]));
                let mut trainer = Trainer::new(&weights);
                let mut optimiser = Optimiser::new(&weights);
                let options = StepOptions {
                    target_weights: &[],
                    content: &content,
                    id_dropout: 0.2,
                    rate: 1e-2,
                    dropout: 0.2,
                    num_negatives: 64,
                };
                for _ in 0..5 {
                    trainer.step(&mut weights, &mut optimiser, &batch, options, &mut rng);
                }
                (weights.dense, weights.items, weights.content)
            })
        };
        assert_eq!(run(1), run(3));
    }
}
