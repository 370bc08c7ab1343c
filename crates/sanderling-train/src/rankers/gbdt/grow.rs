//! One regression tree on binned features, grown leaf by leaf: the leaf whose split gains most is split
//! next.

use rayon::prelude::*;
use sanderling_core::TreeNode;

use super::bins::{Bins, MISSING, NUM_BINS};
use super::lambda::Slope;
use crate::rankers::options::GbdtOptions;

/// A split that gains less is rounding.
const MIN_GAIN: f64 = 1e-10;

/// Sums over some candidates.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    gradient: f64,
    hessian: f64,
    count: u32,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.gradient += other.gradient;
        self.hessian += other.hessian;
        self.count += other.count;
    }

    fn without(&self, other: &Self) -> Self {
        Self {
            gradient: self.gradient - other.gradient,
            hessian: self.hessian - other.hessian,
            count: self.count - other.count,
        }
    }

    /// Twice what the best constant takes off the loss to second order.
    fn gain(&self, l2: f64) -> f64 {
        self.gradient * self.gradient / (self.hessian + l2)
    }
}

/// Candidates with bin `bin` or less in `feature` go left.
#[derive(Debug, Clone, Copy)]
struct Split {
    gain: f64,
    feature: usize,
    bin: usize,
    missing_left: bool,
}

impl Split {
    fn goes_left(&self, bin: u8) -> bool {
        let bin = usize::from(bin);
        if bin == MISSING { self.missing_left } else { bin <= self.bin }
    }
}

struct Node {
    rows: Vec<u32>,
    /// `[num_features, NUM_BINS]`; zeros for features that are not used.
    histogram: Vec<Sums>,
    total: Sums,
    depth: usize,
    best: Option<Split>,
    children: Option<(usize, usize)>,
}

struct Grower<'a> {
    bins: &'a Bins,
    slopes: &'a [Slope],
    features: &'a [usize],
    options: &'a GbdtOptions,
}

/// A tree on `rows` of the bins, in pre-order. A leaf is the Newton step of its candidates times the
/// learning rate.
pub(super) fn tree(
    bins: &Bins,
    slopes: &[Slope],
    rows: Vec<u32>,
    features: &[usize],
    options: &GbdtOptions,
) -> Vec<TreeNode> {
    let grower = Grower { bins, slopes, features, options };
    let histogram = grower.histogram(&rows);
    let mut nodes = vec![grower.node(rows, histogram, 0)];
    for _ in 1..options.max_leaves {
        let gain = |at: &usize| nodes[*at].best.map_or(0.0, |split| split.gain);
        let open = (0..nodes.len()).filter(|&at| nodes[at].children.is_none());
        // Of equal gains the oldest leaf.
        let next = open.max_by(|a, b| gain(a).total_cmp(&gain(b)).then(b.cmp(a)));
        let Some((at, split)) = next.and_then(|at| Some((at, nodes[at].best?))) else { break };
        let (left, right) = grower.split(&mut nodes[at], &split);
        nodes[at].children = Some((nodes.len(), nodes.len() + 1));
        nodes.extend([left, right]);
    }
    let mut out = Vec::with_capacity(nodes.len());
    grower.write(&nodes, 0, &mut out);
    out
}

impl Grower<'_> {
    fn histogram(&self, rows: &[u32]) -> Vec<Sums> {
        let mut histogram = vec![Sums::default(); self.bins.columns.len() * NUM_BINS];
        histogram.par_chunks_exact_mut(NUM_BINS).enumerate().for_each(|(feature, cells)| {
            if !self.features.contains(&feature) {
                return;
            }
            let column = &self.bins.columns[feature];
            for &row in rows {
                let Slope { gradient, hessian } = self.slopes[row as usize];
                cells[usize::from(column[row as usize])].add(&Sums { gradient, hessian, count: 1 });
            }
        });
        histogram
    }

    fn node(&self, rows: Vec<u32>, histogram: Vec<Sums>, depth: usize) -> Node {
        let mut total = Sums::default();
        for &row in &rows {
            let Slope { gradient, hessian } = self.slopes[row as usize];
            total.add(&Sums { gradient, hessian, count: 1 });
        }
        let best = if depth < self.options.max_depth { self.best_split(&histogram, &total) } else { None };
        Node { rows, histogram, total, depth, best, children: None }
    }

    /// The split with the largest gain; of equal ones the first feature, missing values right, lowest bin.
    fn best_split(&self, histogram: &[Sums], total: &Sums) -> Option<Split> {
        let (l2, least) = (self.options.l2, self.options.min_leaf_candidates);
        let mut best: Option<Split> = None;
        for &feature in self.features {
            let cells = &histogram[feature * NUM_BINS..][..NUM_BINS];
            let missing = cells[MISSING];
            for missing_left in [false, true] {
                if missing_left && missing.count == 0 {
                    continue;
                }
                let mut left = if missing_left { missing } else { Sums::default() };
                for (bin, cell) in cells.iter().enumerate().take(self.bins.edges[feature].len()) {
                    left.add(cell);
                    let right = total.without(&left);
                    if (left.count as usize) < least || (right.count as usize) < least {
                        continue;
                    }
                    let gain = left.gain(l2) + right.gain(l2) - total.gain(l2);
                    if gain > best.map_or(MIN_GAIN, |best| best.gain) {
                        best = Some(Split { gain, feature, bin, missing_left });
                    }
                }
            }
        }
        best
    }

    /// The children of a node, whose rows and histogram are used up.
    fn split(&self, node: &mut Node, split: &Split) -> (Node, Node) {
        let column = &self.bins.columns[split.feature];
        let goes_left = |row: &u32| split.goes_left(column[*row as usize]);
        let (left, right): (Vec<u32>, Vec<u32>) =
            std::mem::take(&mut node.rows).into_iter().partition(goes_left);
        let parent = std::mem::take(&mut node.histogram);
        // The larger child has what the smaller one leaves of the parent.
        let smaller = self.histogram(if left.len() <= right.len() { &left } else { &right });
        let larger = parent.iter().zip(&smaller).map(|(whole, part)| whole.without(part)).collect();
        let (in_left, in_right) =
            if left.len() <= right.len() { (smaller, larger) } else { (larger, smaller) };
        let depth = node.depth + 1;
        (self.node(left, in_left, depth), self.node(right, in_right, depth))
    }

    fn write(&self, nodes: &[Node], at: usize, out: &mut Vec<TreeNode>) {
        let node = &nodes[at];
        let (Some((left, right)), Some(split)) = (node.children, node.best) else {
            let step = -node.total.gradient / (node.total.hessian + self.options.l2);
            out.push(TreeNode::Leaf { score: (step * self.options.learning_rate) as f32 });
            return;
        };
        let start = out.len();
        // The place of the right child is known after the left one.
        out.push(TreeNode::Leaf { score: 0.0 });
        self.write(nodes, left, out);
        out[start] = TreeNode::Split {
            feature: split.feature as u16,
            threshold: self.bins.edges[split.feature][split.bin],
            missing_left: split.missing_left,
            right: (out.len() - start) as u16,
        };
        self.write(nodes, right, out);
    }
}
