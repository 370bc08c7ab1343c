//! The tree ranker: LambdaMART (Burges 2010, "From RankNet to LambdaRank to LambdaMART"), grown leaf by
//! leaf on histograms (Ke et al. 2017, "LightGBM").

mod bins;
mod grow;
mod lambda;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;
use sanderling_core::{TreeEnsemble, TreeNode};

use super::Rounds;
use super::lists::{self, CandidateList};
use super::options::GbdtOptions;
use crate::draw::below;
use bins::Bins;
use lambda::Slope;

/// Trees and how many there are, those that early stopping took back not counted. Without a list to
/// learn from, one leaf of 0 keeps retrieval order.
///
/// # Panics
/// Never: a grown tree is whole and within the limits of [`TreeEnsemble`].
#[must_use]
pub fn fit(
    lists: &[&CandidateList],
    num_features: usize,
    rounds: Rounds<'_>,
    options: &GbdtOptions,
    seed: u64,
) -> (TreeEnsemble, usize) {
    let mut booster = Booster::new(lists::with_item(lists), num_features, options, seed);
    let mut trees: Vec<Vec<TreeNode>> = Vec::new();
    match rounds {
        Rounds::Exactly(most) => {
            trees.extend((0..most).map_while(|_| booster.grow()));
        }
        Rounds::BestOn(held) => {
            let mut held = Scored::new(lists::with_item(held), num_features);
            let mut best = (held.ndcg(), 0);
            while trees.len() < options.max_trees && trees.len() < best.1 + options.patience {
                let Some(tree) = booster.grow() else { break };
                held.add(&tree);
                trees.push(tree);
                if held.ndcg() > best.0 {
                    best = (held.ndcg(), trees.len());
                }
            }
            trees.truncate(best.1);
        }
    }
    let num_trees = trees.len();
    if trees.is_empty() {
        trees.push(vec![TreeNode::Leaf { score: 0.0 }]);
    }
    round_leaves(&mut trees);
    // Unwrap safety: the grower makes whole trees of finite values, within the recipe's limits.
    (TreeEnsemble::new(num_features, &trees).expect("grown trees are whole"), num_trees)
}

/// Lists with the scores of the trees so far.
struct Scored<'a> {
    lists: Vec<&'a CandidateList>,
    num_features: usize,
    scores: Vec<Vec<f32>>,
}

impl<'a> Scored<'a> {
    fn new(lists: Vec<&'a CandidateList>, num_features: usize) -> Self {
        let scores = lists.iter().map(|list| vec![0.0; list.features.len() / num_features]).collect();
        Self { lists, num_features, scores }
    }

    fn add(&mut self, tree: &[TreeNode]) {
        // Unwrap safety: as in `fit`.
        let tree = TreeEnsemble::new(self.num_features, &[tree.to_vec()]).expect("a grown tree is whole");
        self.scores.par_iter_mut().zip(&self.lists).for_each(|(scores, list)| {
            scores.iter_mut().zip(tree.scores(&list.features)).for_each(|(score, more)| *score += more);
        });
    }

    /// Mean NDCG without a cut-off, which is what the gradients lead to.
    fn ndcg(&self) -> f64 {
        let gain = |(list, scores): (&&CandidateList, &Vec<f32>)| {
            list.rank(scores).map_or(0.0, |rank| 1.0 / f64::from(rank + 1).log2())
        };
        let gains: Vec<f64> = self.lists.par_iter().zip(&self.scores).map(gain).collect();
        gains.iter().sum::<f64>() / gains.len().max(1) as f64
    }
}

struct Booster<'a> {
    learning: Scored<'a>,
    bins: Bins,
    /// First row of each list in the bins.
    starts: Vec<u32>,
    options: &'a GbdtOptions,
    rng: ChaCha20Rng,
}

impl<'a> Booster<'a> {
    fn new(lists: Vec<&'a CandidateList>, num_features: usize, options: &'a GbdtOptions, seed: u64) -> Self {
        let mut starts = Vec::with_capacity(lists.len());
        let mut next = 0;
        for list in &lists {
            starts.push(next);
            next += (list.features.len() / num_features) as u32;
        }
        Self {
            bins: Bins::new(&lists, num_features, options.max_bins),
            learning: Scored::new(lists, num_features),
            starts,
            options,
            rng: ChaCha20Rng::seed_from_u64(seed),
        }
    }

    /// One more tree, already added to the scores; `None` when nothing is left to split.
    fn grow(&mut self) -> Option<Vec<TreeNode>> {
        let num_lists = self.learning.lists.len();
        let sample = draw(&mut self.rng, num_lists, self.options.list_fraction);
        let features = draw(&mut self.rng, self.learning.num_features, self.options.feature_fraction);
        let slopes: Vec<Vec<Slope>> = self
            .learning
            .lists
            .par_iter()
            .zip(&self.learning.scores)
            .map(|(list, scores)| lambda::slopes(scores, list.relevant.unwrap_or(0)))
            .collect();
        let slopes = slopes.concat();
        let end = |list: usize| self.starts.get(list + 1).copied().unwrap_or(slopes.len() as u32);
        let rows: Vec<u32> = sample.iter().flat_map(|&list| self.starts[list]..end(list)).collect();
        let grown =
            |features: &[usize]| grow::tree(&self.bins, &slopes, rows.clone(), features, self.options);
        let mut tree = grown(&features);
        if tree.len() < 2 && features.len() < self.learning.num_features {
            // The draw may hold nothing but features that are constant within lists.
            tree = grown(&(0..self.learning.num_features).collect::<Vec<_>>());
        }
        if tree.len() < 2 {
            return None;
        }
        self.learning.add(&tree);
        Some(tree)
    }
}

/// `fraction` of the numbers below `n` (at least one of them), ascending.
fn draw(rng: &mut ChaCha20Rng, n: usize, fraction: f64) -> Vec<usize> {
    let kept = ((n as f64 * fraction).ceil() as usize).clamp(1.min(n), n);
    let mut all: Vec<usize> = (0..n).collect();
    if kept < n {
        for at in 0..kept {
            let other = at + below(rng, n - at);
            all.swap(at, other);
        }
        all.truncate(kept);
        all.sort_unstable();
    }
    all
}

/// Rounds leaves to multiples of one power of two, small beside any of them and large enough that f32
/// adds leaves of all trees without rounding: a score does not depend on the order of the trees, so every
/// runtime computes the same bits.
fn round_leaves(trees: &mut [Vec<TreeNode>]) {
    let leaf = |node: &TreeNode| match *node {
        TreeNode::Leaf { score } => f64::from(score).abs(),
        TreeNode::Split { .. } => 0.0,
    };
    let largest_sum: f64 = trees.iter().map(|tree| tree.iter().map(leaf).fold(0.0, f64::max)).sum();
    // One bit to spare for what rounding adds.
    let step = (largest_sum.max(f64::MIN_POSITIVE).log2().ceil() - 23.0).exp2();
    for node in trees.iter_mut().flatten() {
        if let TreeNode::Leaf { score } = node {
            *score = ((f64::from(*score) / step).round() * step) as f32;
        }
    }
}

#[cfg(test)]
mod tests;
