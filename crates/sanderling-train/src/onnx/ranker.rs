//! `ranker.onnx`: features `[num_candidates, num_features]` to scores `[num_candidates, 1]`.

use super::graph::{Builder, Dim};

/// A linear ranker, `scores = features weights + bias`.
#[must_use]
pub fn linear_ranker(weights: &[f32], bias: f32) -> Vec<u8> {
    let mut graph = Builder::new("sanderling_linear_ranker");
    let features = graph.input("features", &[Dim::Symbol("num_candidates"), Dim::Fixed(weights.len())]);
    let weight = graph.floats("weight", &[weights.len(), 1], weights);
    let bias = graph.floats("bias", &[1], &[bias]);
    let product = graph.node("MatMul", &[&features, &weight], vec![]);
    let scores = graph.node("Add", &[&product, &bias], vec![]);
    graph.finish(&scores, "scores", &[Dim::Symbol("num_candidates"), Dim::Fixed(1)])
}
