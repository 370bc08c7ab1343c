//! `ranker.onnx`: features `[num_candidates, num_features]` to scores `[num_candidates, 1]`.

use super::graph::{Builder, Dim, Value};
use super::proto::Attribute;
use crate::rankers::mlp::Folded;
use sanderling_core::{TreeEnsemble, TreeNode};

/// Operators of classical machine learning, which are no part of ONNX proper.
const ML_DOMAIN: &str = "ai.onnx.ml";

fn ranker(name: &str, num_features: usize) -> (Builder, Value) {
    let mut graph = Builder::new(name);
    let features = graph.input("features", &[Dim::Symbol("num_candidates"), Dim::Fixed(num_features)]);
    (graph, features)
}

fn finish(graph: Builder, scores: &str) -> Vec<u8> {
    graph.finish(scores, "scores", &[Dim::Symbol("num_candidates"), Dim::Fixed(1)])
}

/// A linear ranker, `scores = features weights + bias`.
#[must_use]
pub fn linear_ranker(weights: &[f32], bias: f32) -> Vec<u8> {
    let (mut graph, features) = ranker("sanderling_linear_ranker", weights.len());
    let weight = graph.floats("weight", &[weights.len(), 1], weights);
    let bias = graph.floats("bias", &[1], &[bias]);
    let product = graph.node("MatMul", &[&features, &weight], vec![]);
    let scores = graph.node("Add", &[&product, &bias], vec![]);
    finish(graph, &scores)
}

/// A network on raw features.
#[must_use]
pub fn mlp_ranker(mlp: &Folded) -> Vec<u8> {
    let num_features = mlp.direct.len();
    let (mut graph, features) = ranker("sanderling_mlp_ranker", num_features);
    let mut hidden = features.clone();
    for (layer, (matrix, biases)) in mlp.hidden.iter().enumerate() {
        let outputs = biases.len();
        let weight = graph.floats(&format!("weight_{layer}"), &[matrix.len() / outputs, outputs], matrix);
        let bias = graph.floats(&format!("bias_{layer}"), &[outputs], biases);
        let product = graph.node("MatMul", &[&hidden, &weight], vec![]);
        let sum = graph.node("Add", &[&product, &bias], vec![]);
        let gate = graph.node("Sigmoid", &[&sum], vec![]);
        hidden = graph.node("Mul", &[&sum, &gate], vec![]);
    }
    let last = graph.floats("weight_last", &[mlp.last.len(), 1], &mlp.last);
    let direct = graph.floats("weight_direct", &[num_features, 1], &mlp.direct);
    let bias = graph.floats("bias_last", &[1], &[mlp.bias]);
    let deep = graph.node("MatMul", &[&hidden, &last], vec![]);
    let wide = graph.node("MatMul", &[&features, &direct], vec![]);
    let both = graph.node("Add", &[&deep, &wide], vec![]);
    let scores = graph.node("Add", &[&both, &bias], vec![]);
    finish(graph, &scores)
}

/// The trees of `trees.bin` as one `TreeEnsembleRegressor`, for other tools.
#[must_use]
pub fn tree_ranker(trees: &TreeEnsemble) -> Vec<u8> {
    let (mut graph, features) = ranker("sanderling_tree_ranker", trees.num_features());
    let scores = graph.node_in(ML_DOMAIN, "TreeEnsembleRegressor", &[&features], tree_attributes(trees));
    finish(graph, &scores)
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

#[cfg(test)]
mod tests {
    use sanderling_core::{Runtime, TractRuntime};
    use sanderling_types::{FileRole, Shapes};

    use super::*;
    use crate::rankers::lists::CandidateList;
    use crate::rankers::options::{LinearOptions, MlpOptions};
    use crate::rankers::{Rounds, mlp};

    /// Lists of features on very different scales.
    fn lists() -> Vec<CandidateList> {
        let list = |user: u32| {
            let value = |i: u32, scale: f32| ((user * 7919 + i * 104_729) % 1000) as f32 / 1000.0 * scale;
            let features =
                (0..20).flat_map(|i| [value(i, 1.0), 300.0 + value(i * 3 + 1, 50.0), 5.0]).collect();
            CandidateList { user, features, relevant: Some((user % 20) as usize) }
        };
        (0..40).map(list).collect()
    }

    #[test]
    fn the_engine_computes_the_network_that_was_fitted() {
        let lists = lists();
        let refs: Vec<&CandidateList> = lists.iter().collect();
        let shapes = Shapes { dim: 1, num_features: 3, num_items: 1 };
        for layers in 1..=3 {
            let options = MlpOptions { layers, ..MlpOptions::default() };
            let fitted = mlp::fit(&refs, 3, Rounds::Exactly(2), &options, &LinearOptions::default(), 1);
            let (mlp, _) = fitted.expect("lists hold their items");
            let scorer = TractRuntime
                .scorer(&mlp_ranker(&mlp.folded()), FileRole::Ranker, &shapes)
                .expect("tract loads it");
            for list in &lists {
                let found = scorer.run(&list.features, &[20, 3]).expect("runs");
                for (found, expected) in found.iter().zip(mlp.scores(&list.features)) {
                    assert!((found - expected).abs() < 1e-4, "{layers} layers: {found} {expected}");
                }
            }
        }
    }
}
