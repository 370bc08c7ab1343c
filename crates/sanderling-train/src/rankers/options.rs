//! The part of the recipe about rankers.

use sanderling_types::{Code, Error, FeatureKind, FeatureSpec, Result};
use serde::{Deserialize, Serialize};

use super::RankerKind;

/// Which ranker is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WantedRanker {
    /// The simplest one that is not clearly worse than the best.
    Auto,
    /// Retrieval order.
    None,
    /// Linear, whatever it gains.
    Linear,
    /// A network, whatever it gains.
    Mlp,
    /// Trees, whatever they gain.
    Gbdt,
}

impl WantedRanker {
    /// The kind, unless it is to be chosen.
    #[must_use]
    pub fn kind(self) -> Option<RankerKind> {
        match self {
            WantedRanker::Auto => None,
            WantedRanker::None => Some(RankerKind::None),
            WantedRanker::Linear => Some(RankerKind::Linear),
            WantedRanker::Mlp => Some(RankerKind::Mlp),
            WantedRanker::Gbdt => Some(RankerKind::Gbdt),
        }
    }
}

/// Rankers and what they may look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RankerRecipe {
    /// Which ranker.
    pub kind: WantedRanker,
    /// Names of features that no ranker sees; never `retrieval_score`.
    pub exclude_features: Vec<String>,
    /// The linear ranker.
    pub linear: LinearOptions,
    /// The network.
    pub mlp: MlpOptions,
    /// The trees.
    pub gbdt: GbdtOptions,
}

impl Default for RankerRecipe {
    fn default() -> Self {
        Self {
            kind: WantedRanker::Auto,
            exclude_features: Vec::new(),
            linear: LinearOptions::default(),
            mlp: MlpOptions::default(),
            gbdt: GbdtOptions::default(),
        }
    }
}

/// How the linear ranker is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinearOptions {
    /// Pull of every standardised weight towards zero, 0 to 1.
    pub ridge: f64,
}

impl Default for LinearOptions {
    fn default() -> Self {
        Self { ridge: 1e-3 }
    }
}

/// How the network is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MlpOptions {
    /// Hidden layers, 1 to 3.
    pub layers: usize,
    /// Elements of a hidden layer, 1 to 256.
    pub hidden: usize,
    /// Learning rate of Adam, above 0, at most 1.
    pub learning_rate: f64,
    /// Decay of the weights of hidden layers a step, as a multiple of the rate, 0 to 1.
    pub weight_decay: f64,
    /// Most passes over the lists, 1 to 1,000.
    pub max_epochs: usize,
    /// Passes without a smaller loss on held-out lists before the fit ends, at least 1.
    pub patience: usize,
}

impl Default for MlpOptions {
    fn default() -> Self {
        Self { layers: 1, hidden: 32, learning_rate: 3e-3, weight_decay: 0.01, max_epochs: 40, patience: 5 }
    }
}

/// How trees are grown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GbdtOptions {
    /// Most trees, 1 to 2,048.
    pub max_trees: usize,
    /// Share of each tree that counts (shrinkage), above 0, at most 1.
    pub learning_rate: f64,
    /// Most leaves of a tree, 2 to 256.
    pub max_leaves: usize,
    /// Most splits between a root and a leaf, 1 to 32.
    pub max_depth: usize,
    /// Fewest candidates of a leaf, at least 1.
    pub min_leaf_candidates: usize,
    /// Added to the second derivative of a leaf, above 0, at most 1,000.
    pub l2: f64,
    /// Most quantile bins of a feature, 2 to 255.
    pub max_bins: usize,
    /// Share of the lists that a tree is grown on, above 0, at most 1.
    pub list_fraction: f64,
    /// Share of the features that a tree may use, above 0, at most 1.
    pub feature_fraction: f64,
    /// Trees without a better NDCG on held-out lists before growing ends, at least 1.
    pub patience: usize,
}

impl Default for GbdtOptions {
    fn default() -> Self {
        Self {
            max_trees: 200,
            learning_rate: 0.1,
            max_leaves: 16,
            max_depth: 6,
            min_leaf_candidates: 100,
            l2: 1.0,
            max_bins: 255,
            list_fraction: 0.8,
            feature_fraction: 0.8,
            patience: 25,
        }
    }
}

impl RankerRecipe {
    /// `spec` without the excluded features.
    #[must_use]
    pub fn without_excluded(&self, mut spec: FeatureSpec) -> FeatureSpec {
        spec.features.retain(|feature| !self.exclude_features.contains(&feature.name));
        spec
    }

    fn check_excluded(&self) -> Result<()> {
        let all = FeatureSpec::standard().with_neighbours().features;
        let may_go =
            |name: &&String| all.iter().any(|f| f.name == **name && f.kind != FeatureKind::RetrievalScore);
        let Some(name) = self.exclude_features.iter().find(|name| !may_go(name)) else { return Ok(()) };
        let names: Vec<&str> = all.iter().map(|feature| feature.name.as_str()).collect();
        Err(Error::new(Code::RecipeInvalid, "ranker.exclude_features names what cannot go")
            .expected(format!("some of {}, but not retrieval_score", names.join(", ")))
            .found(name))
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Code::RecipeInvalid`].
    pub fn check(&self) -> Result<()> {
        self.check_excluded()?;
        let up_to_one = |number: f64| (0.0..=1.0).contains(&number);
        let share = |number: f64| number > 0.0 && number <= 1.0;
        number("ranker.linear.ridge", self.linear.ridge, up_to_one, "0 to 1")?;
        let m = &self.mlp;
        count("ranker.mlp.layers", m.layers, 1, 3)?;
        count("ranker.mlp.hidden", m.hidden, 1, 256)?;
        number("ranker.mlp.learning_rate", m.learning_rate, share, "above 0, at most 1")?;
        number("ranker.mlp.weight_decay", m.weight_decay, up_to_one, "0 to 1")?;
        count("ranker.mlp.max_epochs", m.max_epochs, 1, 1000)?;
        count("ranker.mlp.patience", m.patience, 1, 1000)?;
        let g = &self.gbdt;
        count("ranker.gbdt.max_trees", g.max_trees, 1, 2048)?;
        number("ranker.gbdt.learning_rate", g.learning_rate, share, "above 0, at most 1")?;
        count("ranker.gbdt.max_leaves", g.max_leaves, 2, 256)?;
        count("ranker.gbdt.max_depth", g.max_depth, 1, 32)?;
        count("ranker.gbdt.min_leaf_candidates", g.min_leaf_candidates, 1, 1_000_000)?;
        number("ranker.gbdt.l2", g.l2, |l2| (1e-6..=1000.0).contains(&l2), "1e-6 to 1000")?;
        count("ranker.gbdt.max_bins", g.max_bins, 2, 255)?;
        number("ranker.gbdt.list_fraction", g.list_fraction, share, "above 0, at most 1")?;
        number("ranker.gbdt.feature_fraction", g.feature_fraction, share, "above 0, at most 1")?;
        count("ranker.gbdt.patience", g.patience, 1, 2048)
    }
}

fn out_of_range(key: &str, expected: impl Into<String>, found: String) -> Error {
    Error::new(Code::RecipeInvalid, format!("{key} is out of range")).expected(expected.into()).found(found)
}

fn count(key: &str, found: usize, least: usize, most: usize) -> Result<()> {
    let ok = (least..=most).contains(&found);
    if ok { Ok(()) } else { Err(out_of_range(key, format!("{least} to {most}"), found.to_string())) }
}

fn number(key: &str, found: f64, ok: impl Fn(f64) -> bool, expected: &str) -> Result<()> {
    if ok(found) { Ok(()) } else { Err(out_of_range(key, expected, found.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    #[test]
    fn keys_have_ranges_and_features_names() {
        for text in [
            "kind = \"forest\"",
            "exclude_features = [\"retrieval_score\"]",
            "exclude_features = [\"no such feature\"]",
            "linear.ridge = nan",
            "mlp.layers = 4",
            "mlp.hidden = 0",
            "mlp.learning_rate = 0.0",
            "gbdt.max_leaves = 1",
            "gbdt.max_bins = 256",
            "gbdt.max_depth = 33",
            "gbdt.l2 = 0.0",
            "gbdt.l2 = 1e-40",
            "gbdt.list_fraction = 1.5",
            "gbdt.trees = 3",
        ] {
            let error = Recipe::parse(&format!("[ranker]\n{text}\n")).expect_err(text);
            assert_eq!(error.code(), Code::RecipeInvalid, "{text}");
        }
        let text =
            "[ranker]\nkind = \"gbdt\"\nexclude_features = [\"age_days\"]\n[ranker.gbdt]\nmax_trees = 3\n";
        let ranker = Recipe::parse(text).expect("parses").ranker;
        assert_eq!((ranker.kind.kind(), ranker.gbdt.max_trees), (Some(RankerKind::Gbdt), 3));
        let features = ranker.without_excluded(FeatureSpec::standard()).features;
        assert_eq!(features.len(), FeatureSpec::standard().features.len() - 1);
        assert!(features.iter().all(|feature| feature.name != "age_days"));
    }
}
