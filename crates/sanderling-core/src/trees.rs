//! The tree ensemble: a ranker of regression trees, run by a plain loop.

pub use sanderling_kernels::TreeNode;
use sanderling_kernels::add_leaves;
use sanderling_types::{Code, Error, Limits, Result};

use crate::Scorer;
use crate::scorer::shape_text;

const MAGIC: &[u8; 4] = b"SNDT";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 16;
/// Bytes of a node over all columns: feature, right child, value.
const NODE_BYTES: usize = 8;
/// In the column of features: this node is a leaf.
const LEAF: u16 = u16::MAX;
/// In the column of features: a value that is not a number goes left.
const MISSING_LEFT: u16 = 1 << 15;
/// Largest magnitude of a leaf: the sum over all trees stays finite.
const MAX_SCORE: f32 = 1e30;

/// Regression trees over `num_features` columns; the score of a row is the sum of the leaves that it
/// reaches.
///
/// Layout of the encoding: `docs/formats/trees.md`.
#[derive(Debug, Clone, PartialEq)]
pub struct TreeEnsemble {
    num_features: usize,
    /// Number of nodes of each tree.
    tree_lens: Vec<u32>,
    /// Nodes of all trees, one after the other.
    nodes: Vec<TreeNode>,
}

impl TreeEnsemble {
    /// Most columns of the ranker input.
    pub const MAX_FEATURES: usize = 1024;
    /// Most trees.
    pub const MAX_TREES: usize = 2048;
    /// Most nodes of all trees together.
    pub const MAX_NODES: usize = 1 << 20;
    /// Most splits between a root and a leaf.
    pub const MAX_DEPTH: usize = 32;

    /// An ensemble of trees, each in pre-order.
    ///
    /// # Errors
    /// [`Code::ModelInvalid`] for a tree that is not whole or has a value out of range,
    /// [`Code::LimitExceeded`] for more than the limits above.
    pub fn new(num_features: usize, trees: &[Vec<TreeNode>]) -> Result<Self> {
        let tree_lens = trees.iter().map(|tree| tree.len() as u32).collect();
        Self { num_features, tree_lens, nodes: trees.concat() }.checked()
    }

    fn checked(self) -> Result<Self> {
        let sizes = [
            (self.num_features, Self::MAX_FEATURES, "features"),
            (self.tree_lens.len(), Self::MAX_TREES, "trees"),
            (self.nodes.len(), Self::MAX_NODES, "nodes"),
        ];
        for (found, most, what) in sizes {
            check_size(found, most, what)?;
        }
        for (at, tree) in self.trees().enumerate() {
            check_tree(tree, self.num_features)
                .map_err(|problem| invalid(format!("trees.bin: tree {at} {problem}")))?;
        }
        Ok(self)
    }

    /// Columns of the ranker input.
    #[must_use]
    pub fn num_features(&self) -> usize {
        self.num_features
    }

    /// The nodes of every tree, in pre-order.
    pub fn trees(&self) -> impl Iterator<Item = &[TreeNode]> {
        let mut rest = self.nodes.as_slice();
        self.tree_lens.iter().map(move |&len| {
            let (tree, after) = rest.split_at(len as usize);
            rest = after;
            tree
        })
    }

    /// Scores `[num_rows]` of row-major features `[num_rows, num_features]`, any values.
    #[must_use]
    pub fn scores(&self, features: &[f32]) -> Vec<f32> {
        let mut scores = vec![0.0; features.len() / self.num_features];
        for tree in self.trees() {
            add_leaves(tree, features, self.num_features, &mut scores);
        }
        scores
    }

    /// The bytes of `trees.bin`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (num_trees, num_nodes) = (self.tree_lens.len(), self.nodes.len());
        let mut out = Vec::with_capacity(HEADER_BYTES + 4 * num_trees + NODE_BYTES * num_nodes);
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend((self.num_features as u16).to_le_bytes());
        out.extend((num_trees as u32).to_le_bytes());
        out.extend((num_nodes as u32).to_le_bytes());
        out.extend(self.tree_lens.iter().flat_map(|len| len.to_le_bytes()));
        let columns: Vec<(u16, u16, f32)> = self.nodes.iter().map(columns).collect();
        out.extend(columns.iter().flat_map(|(feature, _, _)| feature.to_le_bytes()));
        out.extend(columns.iter().flat_map(|(_, right, _)| right.to_le_bytes()));
        out.extend(columns.iter().flat_map(|(_, _, value)| value.to_le_bytes()));
        out
    }

    /// Decodes `trees.bin`. Every length is checked before anything is allocated, every path ends in a
    /// leaf, and there is exactly one encoding of an ensemble.
    ///
    /// # Errors
    /// [`Code::UnsupportedFormatVersion`] for another version, [`Code::LimitExceeded`] for more than the
    /// limits above, else [`Code::ModelInvalid`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let header =
            bytes.first_chunk::<HEADER_BYTES>().ok_or_else(|| wrong_length(HEADER_BYTES, bytes.len()))?;
        let (start, counts) = header.split_at(8);
        if &start[..4] != MAGIC {
            return Err(invalid("trees.bin has the wrong first bytes").expected("SNDT"));
        }
        let [version, num_features] = [&start[4..6], &start[6..8]].map(|bytes| u16s(bytes).next());
        if version != Some(VERSION) {
            return Err(Error::new(Code::UnsupportedFormatVersion, "trees.bin has another format version")
                .expected(VERSION)
                .found(version.unwrap_or(0))
                .hint("use a matching release of the engine, or export the bundle again"));
        }
        let [num_trees, num_nodes] =
            [&counts[..4], &counts[4..]].map(|bytes| u32s(bytes).next().unwrap_or(0) as usize);
        check_size(num_trees, Self::MAX_TREES, "trees")?;
        check_size(num_nodes, Self::MAX_NODES, "nodes")?;
        let expected = HEADER_BYTES + 4 * num_trees + NODE_BYTES * num_nodes;
        if bytes.len() != expected {
            return Err(wrong_length(expected, bytes.len()));
        }
        let (lens, columns) = bytes[HEADER_BYTES..].split_at(4 * num_trees);
        let (features, columns) = columns.split_at(2 * num_nodes);
        let (rights, values) = columns.split_at(2 * num_nodes);
        let tree_lens: Vec<u32> = u32s(lens).collect();
        let total: u64 = tree_lens.iter().map(|&len| u64::from(len)).sum();
        if total != num_nodes as u64 {
            return Err(invalid("trees.bin: the trees do not have all nodes")
                .expected(num_nodes)
                .found(total));
        }
        let nodes = u16s(features).zip(u16s(rights)).zip(u32s(values).map(f32::from_bits));
        let nodes = nodes.map(|((feature, right), value)| node(feature, right, value));
        let nodes = nodes.collect::<Option<Vec<TreeNode>>>();
        let nodes = nodes.ok_or_else(|| invalid("trees.bin: a leaf has a right child").expected("0"))?;
        Self { num_features: usize::from(num_features.unwrap_or(0)), tree_lens, nodes }.checked()
    }
}

impl Scorer for TreeEnsemble {
    fn run(&self, input: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
        const MAX_ROWS: usize = Limits::MAX_CANDIDATES as usize;
        match *shape {
            [rows @ 1..=MAX_ROWS, columns]
                if columns == self.num_features && rows * columns == input.len() =>
            {
                Ok(self.scores(input))
            }
            _ => Err(Error::new(Code::InvalidArgument, "trees.bin got an input of another shape")
                .expected(format!("f32 [any, {}] with at most {MAX_ROWS} rows", self.num_features))
                .found(format!("{} with {} elements", shape_text(shape), input.len()))),
        }
    }
}

/// Checks that `nodes` are one whole tree in pre-order: every child comes after its parent and has no
/// other one.
fn check_tree(nodes: &[TreeNode], num_features: usize) -> Result<(), String> {
    // Right children that are still to come, innermost last, with their depths.
    let mut waiting: Vec<(usize, usize)> = Vec::new();
    let mut depth = 0;
    for (at, node) in nodes.iter().enumerate() {
        match *node {
            TreeNode::Split { feature, threshold, right, .. } => {
                if usize::from(feature) >= num_features || !threshold.is_finite() {
                    return Err(format!("node {at} has a feature or a threshold out of range"));
                }
                depth += 1;
                if depth > TreeEnsemble::MAX_DEPTH {
                    return Err(format!("is deeper than {} splits", TreeEnsemble::MAX_DEPTH));
                }
                waiting.push((at + usize::from(right), depth));
            }
            TreeNode::Leaf { score } => {
                if score.is_nan() || score.abs() >= MAX_SCORE {
                    return Err(format!("node {at} has a score out of range"));
                }
                match waiting.pop() {
                    None if at + 1 == nodes.len() => return Ok(()),
                    Some((right, at_depth)) if right == at + 1 => depth = at_depth,
                    _ => return Err(format!("is not in pre-order at node {at}")),
                }
            }
        }
    }
    Err("ends before its last leaf".to_owned())
}

/// A node as its entries in the three columns.
fn columns(node: &TreeNode) -> (u16, u16, f32) {
    match *node {
        TreeNode::Leaf { score } => (LEAF, 0, score),
        TreeNode::Split { feature, threshold, missing_left, right } => {
            (feature | if missing_left { MISSING_LEFT } else { 0 }, right, threshold)
        }
    }
}

/// The node of three entries; `None` for a leaf with a right child.
fn node(feature: u16, right: u16, value: f32) -> Option<TreeNode> {
    match (feature, right) {
        (LEAF, 0) => Some(TreeNode::Leaf { score: value }),
        (LEAF, _) => None,
        _ => Some(TreeNode::Split {
            feature: feature & !MISSING_LEFT,
            threshold: value,
            missing_left: feature & MISSING_LEFT != 0,
            right,
        }),
    }
}

fn u16s(bytes: &[u8]) -> impl Iterator<Item = u16> {
    bytes.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32s(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
}

fn check_size(found: usize, most: usize, what: &str) -> Result<()> {
    if (1..=most).contains(&found) {
        return Ok(());
    }
    Err(Error::new(Code::LimitExceeded, format!("trees.bin has too many or too few {what}"))
        .expected(format!("1 to {most}"))
        .found(found))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::ModelInvalid, message)
}

fn wrong_length(expected: usize, found: usize) -> Error {
    invalid("trees.bin has the wrong length")
        .expected(format!("{expected} bytes"))
        .found(format!("{found} bytes"))
}
