//! Rankers: what orders the candidates that retrieval found.
//!
//! ```text
//! validation cases ─ lists ─> CandidateList ─ leaks ─> choice ─> Ranker ─ export ─> ranker.onnx, trees.bin
//!                    engine                   refuses  fits linear, mlp and gbdt, measures, decides
//! ```
//! All of them see the same features, which the engine computes for a case as it was before its answer.

pub mod choice;
pub mod gbdt;
pub mod leaks;
pub mod linear;
pub mod lists;
pub mod mlp;
pub mod options;

use sanderling_core::TreeEnsemble;
use sanderling_core::onnx::{LinearRanker, tree_ranker};
use sanderling_types::{FeatureKind, FeatureSpec};
use serde::{Deserialize, Serialize};

use mlp::Mlp;

/// What a ranker is, simplest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RankerKind {
    /// Retrieval order.
    None,
    /// A weighted sum of the features.
    Linear,
    /// A small feed-forward network.
    Mlp,
    /// Gradient-boosted regression trees.
    Gbdt,
    /// A model that was given.
    External,
}

impl RankerKind {
    /// Every kind that is fitted here, simplest first.
    pub const ALL: [RankerKind; 4] = [Self::None, Self::Linear, Self::Mlp, Self::Gbdt];

    /// The name in recipes, results and cards.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RankerKind::None => "none",
            RankerKind::Linear => "linear",
            RankerKind::Mlp => "mlp",
            RankerKind::Gbdt => "gbdt",
            RankerKind::External => "external",
        }
    }
}

/// A fitted ranker.
#[derive(Debug, Clone, PartialEq)]
pub enum Ranker {
    /// One weight a feature.
    Linear(Vec<f32>),
    /// A network.
    Mlp(Mlp),
    /// Trees.
    Gbdt(TreeEnsemble),
}

/// The files that hold a ranker in a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankerFiles {
    /// `ranker.onnx`.
    pub onnx: Vec<u8>,
    /// `trees.bin`, which the engine runs instead where it is there.
    pub trees: Option<Vec<u8>>,
}

impl Ranker {
    /// The ranker that keeps retrieval order.
    #[must_use]
    pub fn retrieval_order(spec: &FeatureSpec) -> Self {
        let weight = |kind| if kind == FeatureKind::RetrievalScore { 1.0 } else { 0.0 };
        Self::Linear(spec.features.iter().map(|feature| weight(feature.kind)).collect())
    }

    /// Scores `[num_candidates]` of features `[num_candidates, num_features]`.
    #[must_use]
    pub fn scores(&self, features: &[f32]) -> Vec<f32> {
        match self {
            Ranker::Linear(weights) => features
                .chunks_exact(weights.len())
                .map(|row| row.iter().zip(weights).map(|(x, w)| x * w).sum())
                .collect(),
            Ranker::Mlp(mlp) => mlp.scores(features),
            Ranker::Gbdt(trees) => trees.scores(features),
        }
    }

    /// What a bundle holds of it.
    #[must_use]
    pub fn files(&self) -> RankerFiles {
        match self {
            Ranker::Linear(weights) => RankerFiles {
                onnx: LinearRanker { weights: weights.clone(), bias: 0.0 }.to_onnx(),
                trees: None,
            },
            Ranker::Mlp(mlp) => RankerFiles { onnx: mlp.folded().to_onnx(), trees: None },
            Ranker::Gbdt(trees) => RankerFiles { onnx: tree_ranker(trees), trees: Some(trees.encode()) },
        }
    }
}

impl RankerFiles {
    /// A ranker that was given as ONNX.
    #[must_use]
    pub fn of_onnx(onnx: Vec<u8>) -> Self {
        Self { onnx, trees: None }
    }

    /// Length of the file that a device loads.
    #[must_use]
    pub fn device_bytes(&self) -> u64 {
        self.trees.as_ref().unwrap_or(&self.onnx).len() as u64
    }
}

/// When the rounds of a fit end: passes of a network, trees of an ensemble.
#[derive(Debug, Clone, Copy)]
pub enum Rounds<'a> {
    /// After the one that was best on these lists, none of which is learnt from.
    BestOn(&'a [&'a lists::CandidateList]),
    /// After so many.
    Exactly(usize),
}
