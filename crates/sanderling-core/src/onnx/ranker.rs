//! `ranker.onnx`: features `[num_candidates, num_features]` to scores `[num_candidates, 1]`.

use super::builder::{Attribute, Builder, Dim, Value};
use super::constants::Constants;
use crate::{TreeEnsemble, TreeNode};

pub(super) const LINEAR: &str = "sanderling_linear_ranker";
pub(super) const MLP: &str = "sanderling_mlp_ranker";
/// Operators of classical machine learning, which are no part of ONNX proper.
const ML_DOMAIN: &str = "ai.onnx.ml";

/// `scores = features weights + bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearRanker {
    /// `[num_features]`.
    pub weights: Vec<f32>,
    /// Added to every score.
    pub bias: f32,
}

/// A network on raw features: layers of SiLU, and beside them a linear part.
#[derive(Debug, Clone, PartialEq)]
pub struct MlpRanker {
    /// Matrix `[inputs, outputs]` and biases `[outputs]` of each layer, at least one.
    pub hidden: Vec<(Vec<f32>, Vec<f32>)>,
    /// Weights of the last layer's outputs.
    pub last: Vec<f32>,
    /// Weights of the features `[num_features]`.
    pub direct: Vec<f32>,
    /// Added to every score.
    pub bias: f32,
}

fn ranker(name: &str, num_features: usize) -> (Builder, Value) {
    let mut graph = Builder::new(name);
    let features = graph.input("features", &[Dim::Symbol("num_candidates"), Dim::Fixed(num_features)]);
    (graph, features)
}

const SCORES: &str = "scores";
const SCORES_DIMS: [Dim<'_>; 2] = [Dim::Symbol("num_candidates"), Dim::Fixed(1)];

impl LinearRanker {
    /// The bytes of the file.
    #[must_use]
    pub fn to_onnx(&self) -> Vec<u8> {
        let (mut graph, features) = ranker(LINEAR, self.weights.len());
        let weight = graph.floats("weight", &[self.weights.len(), 1], &self.weights);
        let bias = graph.floats("bias", &[1], &[self.bias]);
        let product = graph.node("MatMul", &[&features, &weight], &[]);
        graph.finish("Add", &[&product, &bias], SCORES, &SCORES_DIMS)
    }

    pub(super) fn from_constants(constants: &Constants<'_>) -> Option<Self> {
        let (_, weights) = constants.floats("weight")?;
        Some(Self { weights, bias: *constants.floats("bias")?.1.first()? })
    }
}

impl MlpRanker {
    /// The bytes of the file.
    #[must_use]
    pub fn to_onnx(&self) -> Vec<u8> {
        let num_features = self.direct.len();
        let (mut graph, features) = ranker(MLP, num_features);
        let mut hidden = features.clone();
        for (layer, (matrix, biases)) in self.hidden.iter().enumerate() {
            let outputs = biases.len();
            let weight = graph.floats(&format!("weight_{layer}"), &[matrix.len() / outputs, outputs], matrix);
            let bias = graph.floats(&format!("bias_{layer}"), &[outputs], biases);
            let product = graph.node("MatMul", &[&hidden, &weight], &[]);
            let sum = graph.node("Add", &[&product, &bias], &[]);
            let gate = graph.node("Sigmoid", &[&sum], &[]);
            hidden = graph.node("Mul", &[&sum, &gate], &[]);
        }
        let last = graph.floats("weight_last", &[self.last.len(), 1], &self.last);
        let direct = graph.floats("weight_direct", &[num_features, 1], &self.direct);
        let bias = graph.floats("bias_last", &[1], &[self.bias]);
        let deep = graph.node("MatMul", &[&hidden, &last], &[]);
        let wide = graph.node("MatMul", &[&features, &direct], &[]);
        let both = graph.node("Add", &[&deep, &wide], &[]);
        graph.finish("Add", &[&both, &bias], SCORES, &SCORES_DIMS)
    }

    pub(super) fn from_constants(constants: &Constants<'_>) -> Option<Self> {
        let mut hidden: Vec<(Vec<f32>, Vec<f32>)> = Vec::new();
        let (_, direct) = constants.floats("weight_direct")?;
        let mut inputs = direct.len();
        while constants.contains(&format!("weight_{}", hidden.len())) {
            let (_, biases) = constants.floats(&format!("bias_{}", hidden.len()))?;
            let matrix = constants.floats_of(&format!("weight_{}", hidden.len()), &[inputs, biases.len()])?;
            inputs = biases.len();
            hidden.push((matrix, biases));
        }
        let last = constants.floats_of("weight_last", &[inputs, 1])?;
        let bias = *constants.floats("bias_last")?.1.first()?;
        (!hidden.is_empty()).then_some(Self { hidden, last, direct, bias })
    }
}

/// The trees of `trees.bin` as one `TreeEnsembleRegressor`, for other tools.
#[must_use]
pub fn tree_ranker(trees: &TreeEnsemble) -> Vec<u8> {
    let (graph, features) = ranker("sanderling_tree_ranker", trees.num_features());
    let attributes = tree_attributes(trees);
    graph.finish_in(ML_DOMAIN, "TreeEnsembleRegressor", &[&features], &attributes, SCORES, &SCORES_DIMS)
}

fn tree_attributes(trees: &TreeEnsemble) -> Vec<Attribute> {
    // One entry a node; a leaf has the neutral one.
    let (mut tree_ids, mut node_ids, mut modes, mut values) = (vec![], vec![], vec![], vec![]);
    let (mut features, mut lefts, mut rights, mut missing) = (vec![], vec![], vec![], vec![]);
    // One entry a leaf.
    let (mut target_trees, mut target_nodes, mut weights) = (vec![], vec![], vec![]);
    for (tree_id, tree) in (0i64..).zip(trees.trees()) {
        for (node_id, node) in (0i64..).zip(tree) {
            tree_ids.push(tree_id);
            node_ids.push(node_id);
            let (mode, feature, value, left, right, missing_left) = match *node {
                TreeNode::Split { feature, threshold, missing_left, right } => (
                    "BRANCH_LEQ",
                    i64::from(feature),
                    threshold,
                    node_id + 1,
                    node_id + i64::from(right),
                    missing_left,
                ),
                TreeNode::Leaf { score } => {
                    target_trees.push(tree_id);
                    target_nodes.push(node_id);
                    weights.push(score);
                    ("LEAF", 0, 0.0, 0, 0, false)
                }
            };
            modes.push(mode);
            features.push(feature);
            values.push(value);
            lefts.push(left);
            rights.push(right);
            missing.push(i64::from(missing_left));
        }
    }
    vec![
        Attribute::string("aggregate_function", "SUM"),
        Attribute::string("post_transform", "NONE"),
        Attribute::int("n_targets", 1),
        Attribute::ints("nodes_treeids", &tree_ids),
        Attribute::ints("nodes_nodeids", &node_ids),
        Attribute::strings("nodes_modes", &modes),
        Attribute::ints("nodes_featureids", &features),
        Attribute::floats("nodes_values", &values),
        Attribute::ints("nodes_truenodeids", &lefts),
        Attribute::ints("nodes_falsenodeids", &rights),
        Attribute::ints("nodes_missing_value_tracks_true", &missing),
        Attribute::ints("target_treeids", &target_trees),
        Attribute::ints("target_nodeids", &target_nodes),
        Attribute::ints("target_ids", &vec![0; weights.len()]),
        Attribute::floats("target_weights", &weights),
    ]
}
