//! The recipe (`sanderling.toml`): what to train, how, within which bounds.

use std::path::Path;

use sanderling_types::{Code, Error, Result, Sha256Hash, TelemetryConstants};
use serde::{Deserialize, Serialize};

use crate::data::ColumnMap;
use crate::rankers::options::RankerRecipe;
use crate::recommenders::{Recommender, SecondSource};
use crate::sequence::{FitOptions, Shape};
use crate::split::{Split, SplitKind};

/// Training interactions an item below which a catalogue counts as sparse: its item vectors are then
/// most of what the model has to remember, and it overfits sooner.
const SPARSE: usize = 50;

/// Most context columns; each takes 4 bytes an interaction while training.
const MAX_SEGMENT_KEYS: usize = 8;

/// Everything that decides a bundle beside the data. Every key has a default; unknown keys are
/// refused. `docs/formats/recipe.md` lists them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Name of the bundle.
    pub name: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// How the data is divided.
    pub split: SplitKind,
    /// Leave items of the history out of lists; by default only where users hardly ever repeat.
    pub exclude_seen: Option<bool>,
    /// Most items of one first category in a list.
    pub category_cap: Option<u32>,
    /// Largest bundle.
    pub max_bundle_bytes: Option<u64>,
    /// Context columns of the interactions, whose values get fallback lists of their own; the first ones come first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<String>,
    /// What is trained.
    pub recommender: Recommender,
    /// The sequence model.
    pub model: ModelRecipe,
    /// What orders the candidates.
    pub ranker: RankerRecipe,
    /// Tables of neighbours.
    pub retrieval: RetrievalRecipe,
    /// Bounds on requests.
    pub limits: LimitsRecipe,
    /// Privacy constants of reports.
    pub telemetry: TelemetryRecipe,
    /// When a challenger replaces a champion.
    pub gate: GateRecipe,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            name: "recommender".to_owned(),
            seed: 1,
            split: SplitKind::Time,
            exclude_seen: None,
            category_cap: None,
            max_bundle_bytes: None,
            segments: Vec::new(),
            recommender: Recommender::default(),
            model: ModelRecipe::default(),
            ranker: RankerRecipe::default(),
            retrieval: RetrievalRecipe::default(),
            limits: LimitsRecipe::default(),
            telemetry: TelemetryRecipe::default(),
            gate: GateRecipe::default(),
        }
    }
}

/// The sequence model and its training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelRecipe {
    /// Elements of an item vector, 8 to 512.
    pub dim: usize,
    /// Transformer blocks, 1 to 8.
    pub layers: usize,
    /// Attention heads; divides `dim`.
    pub heads: usize,
    /// Elements of the feed-forward layer; by default four times `dim`.
    pub hidden: Option<usize>,
    /// Longest history that the encoder reads; by default the 95th percentile of training
    /// histories, between 20 and 200.
    pub max_session_len: Option<usize>,
    /// Dropout probability, 0 to 0.9; by default 0.2, and 0.4 where there are fewer than 50 training
    /// interactions an item.
    pub dropout: Option<f32>,
    /// Whether item vectors have unit length.
    pub unit_items: bool,
    /// Whether item vectors have a part that attributes of the catalogue contribute.
    pub content: bool,
    /// Probability that training sees an item with attributes without its own part, 0 to 0.9.
    pub id_dropout: f32,
    /// Peak learning rate.
    pub learning_rate: f32,
    /// Shared negatives of a batch.
    pub num_negatives: usize,
    /// Tokens of an optimiser step; by default a hundredth of the data, 256 to 1024.
    pub batch_tokens: Option<usize>,
    /// Passes over the data; by default what makes about 20 million training tokens, 10 to 80.
    pub max_epochs: Option<usize>,
    /// Epochs without a better validation NDCG@10 before the learning rate is brought down for good, in
    /// a quarter of the epochs so far.
    pub patience: usize,
}

impl Default for ModelRecipe {
    fn default() -> Self {
        Self {
            dim: 64,
            layers: 2,
            heads: 2,
            hidden: None,
            max_session_len: None,
            dropout: None,
            unit_items: false,
            content: true,
            id_dropout: 0.1,
            learning_rate: 2e-3,
            num_negatives: 1024,
            batch_tokens: None,
            max_epochs: None,
            patience: 8,
        }
    }
}

/// Tables of neighbours, of their own or beside a sequence model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrievalRecipe {
    /// Whether a sequence model carries neighbours as a second source of candidates; by default `auto`
    /// where the recommender is `auto`, `vmis-knn` for sessions (split `next-click`), else `none`.
    pub neighbours: Option<SecondSource>,
    /// Most weights an item, 8 to 1000; fewer where they cost next to nothing.
    pub max_neighbours: usize,
    /// Fewest users or sessions behind a weight; with 1 a table tells what single users chose together.
    pub min_users: u32,
}

impl Default for RetrievalRecipe {
    fn default() -> Self {
        Self { neighbours: None, max_neighbours: 200, min_users: 2 }
    }
}

/// Bounds on requests, stated in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsRecipe {
    /// Most candidates that retrieval hands to the ranker.
    pub max_candidates: u32,
    /// Most recommendations in one response.
    pub max_limit: u32,
}

impl Default for LimitsRecipe {
    fn default() -> Self {
        Self { max_candidates: 200, max_limit: 100 }
    }
}

/// Privacy constants of reports, stated in the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryRecipe {
    /// Local differential privacy budget of one device and window.
    pub epsilon: f64,
    /// Fields that one report answers.
    pub fields_per_report: u32,
    /// Length of a window.
    pub window_seconds: u32,
}

impl Default for TelemetryRecipe {
    fn default() -> Self {
        let constants = TelemetryConstants::default();
        Self {
            epsilon: constants.epsilon,
            fields_per_report: constants.fields_per_report,
            window_seconds: constants.window_seconds,
        }
    }
}

/// When a challenger replaces a champion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GateRecipe {
    /// The lower end of the 95 % interval of the paired difference in NDCG@10 must exceed this.
    pub min_gain: f64,
    /// Smallest share of the champion's coverage@10 that the challenger may have.
    pub min_coverage_ratio: f64,
    /// Largest bundle in bytes as a multiple of the champion's.
    pub max_size_ratio: f64,
}

impl Default for GateRecipe {
    fn default() -> Self {
        Self { min_gain: 0.0, min_coverage_ratio: 0.5, max_size_ratio: 1.5 }
    }
}

impl Recipe {
    /// Reads and checks a recipe file.
    ///
    /// # Errors
    /// [`Code::Io`] when the file cannot be read, [`Code::RecipeInvalid`] for everything else.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Error::new(Code::Io, format!("recipe {} cannot be read", path.display())).source_error(error)
        })?;
        Self::parse(&text)
    }

    /// Parses and checks a recipe.
    ///
    /// # Errors
    /// [`Code::RecipeInvalid`] with the line of an unknown key or the range of a bad value.
    pub fn parse(text: &str) -> Result<Self> {
        let recipe: Self = toml::from_str(text)
            .map_err(|error| Error::new(Code::RecipeInvalid, "the recipe cannot be read").found(error))?;
        recipe.check()?;
        Ok(recipe)
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`Code::RecipeInvalid`].
    pub fn check(&self) -> Result<()> {
        let m = &self.model;
        let range = |key: &str, ok: bool, expected: &str, found: String| {
            if ok {
                return Ok(());
            }
            Err(Error::new(Code::RecipeInvalid, format!("{key} is out of range"))
                .expected(expected)
                .found(found))
        };
        range("model.dim", (8..=512).contains(&m.dim), "8 to 512", m.dim.to_string())?;
        range("model.layers", (1..=8).contains(&m.layers), "1 to 8", m.layers.to_string())?;
        let heads_ok = m.heads > 0 && m.dim.is_multiple_of(m.heads);
        range("model.heads", heads_ok, "a divisor of model.dim", m.heads.to_string())?;
        let dropout = m.dropout.unwrap_or(0.0);
        range("model.dropout", (0.0..=0.9).contains(&dropout), "0 to 0.9", dropout.to_string())?;
        let id_dropout_ok = (0.0..=0.9).contains(&m.id_dropout);
        range("model.id_dropout", id_dropout_ok, "0 to 0.9", m.id_dropout.to_string())?;
        let hidden = m.hidden.unwrap_or(1);
        range("model.hidden", (1..=4096).contains(&hidden), "1 to 4096", hidden.to_string())?;
        let batch = m.batch_tokens.unwrap_or(1024);
        range("model.batch_tokens", (64..=1 << 20).contains(&batch), "64 to 1048576", batch.to_string())?;
        let rate_ok = m.learning_rate > 0.0 && m.learning_rate <= 1.0;
        range("model.learning_rate", rate_ok, "above 0, at most 1", m.learning_rate.to_string())?;
        range("model.num_negatives", m.num_negatives >= 8, "at least 8", m.num_negatives.to_string())?;
        range("model.patience", m.patience >= 1, "at least 1", m.patience.to_string())?;
        let len = m.max_session_len.unwrap_or(1);
        range("model.max_session_len", (1..=1024).contains(&len), "1 to 1024", len.to_string())?;
        let epochs = m.max_epochs.unwrap_or(1);
        range("model.max_epochs", (1..=10_000).contains(&epochs), "1 to 10000", epochs.to_string())?;
        self.ranker.check()?;
        let keys = &self.segments;
        let key_ok = |at: usize| (1..=64).contains(&keys[at].len()) && !keys[..at].contains(&keys[at]);
        let keys_ok = keys.len() <= MAX_SEGMENT_KEYS && (0..keys.len()).all(key_ok);
        range("segments", keys_ok, "at most 8 different names of 1 to 64 bytes", keys.join(", "))?;
        let r = &self.retrieval;
        let neighbours_ok = (8..=1000).contains(&r.max_neighbours);
        range("retrieval.max_neighbours", neighbours_ok, "8 to 1000", r.max_neighbours.to_string())?;
        range("retrieval.min_users", r.min_users >= 1, "at least 1", r.min_users.to_string())?;
        let carries = matches!(self.recommender, Recommender::Sequence | Recommender::Auto);
        let second_ok = carries || matches!(r.neighbours, None | Some(SecondSource::None));
        let found = format!("recommender {:?}", self.recommender.as_str());
        range("retrieval.neighbours", second_ok, "none, unless the recommender is sequence or auto", found)?;
        let l = &self.limits;
        let candidates_ok = (20..=10_000).contains(&l.max_candidates);
        range("limits.max_candidates", candidates_ok, "20 to 10000", l.max_candidates.to_string())?;
        let limit_ok = (20..=1000).contains(&l.max_limit);
        range("limits.max_limit", limit_ok, "20 to 1000", l.max_limit.to_string())?;
        let t = &self.telemetry;
        let epsilon_ok = t.epsilon > 0.0 && t.epsilon <= 10.0;
        range("telemetry.epsilon", epsilon_ok, "above 0, at most 10", t.epsilon.to_string())?;
        // Pages read no more of a number, and must find the very one that was written.
        let digits =
            t.epsilon.to_string().trim_start_matches(['0', '.']).chars().filter(char::is_ascii_digit).count();
        range("telemetry.epsilon", digits <= 15, "at most 15 digits", t.epsilon.to_string())?;
        let fields_ok = (1..=4).contains(&t.fields_per_report);
        range("telemetry.fields_per_report", fields_ok, "1 to 4", t.fields_per_report.to_string())?;
        let window_ok = t.window_seconds >= 3600;
        range("telemetry.window_seconds", window_ok, "at least 3600", t.window_seconds.to_string())?;
        let g = &self.gate;
        let gain_ok = (-1.0..=1.0).contains(&g.min_gain);
        range("gate.min_gain", gain_ok, "-1 to 1", g.min_gain.to_string())?;
        let coverage_ok = (0.0..=1.0).contains(&g.min_coverage_ratio);
        range("gate.min_coverage_ratio", coverage_ok, "0 to 1", g.min_coverage_ratio.to_string())?;
        let size_ok = g.max_size_ratio > 0.0 && g.max_size_ratio.is_finite();
        range("gate.max_size_ratio", size_ok, "above 0", g.max_size_ratio.to_string())?;
        let name_ok = !self.name.is_empty() && self.name.len() <= 64;
        range("name", name_ok, "1 to 64 characters", self.name.clone())
    }

    /// Canonical bytes' hash, stated in the manifest.
    ///
    /// # Panics
    /// Never: a recipe holds only JSON-encodable values.
    #[must_use]
    pub fn hash(&self) -> Sha256Hash {
        // Unwrap safety: strings and finite numbers always encode.
        Sha256Hash::of(&serde_json::to_vec(self).expect("recipe encodes"))
    }

    /// The columns to read interactions with.
    #[must_use]
    pub fn columns(&self) -> ColumnMap {
        ColumnMap { context: self.segments.clone(), ..ColumnMap::default() }
    }

    /// The second source of candidates, its default filled in.
    #[must_use]
    pub fn second_source(&self) -> SecondSource {
        self.retrieval.neighbours.unwrap_or(match (self.recommender, self.split) {
            (Recommender::Auto, _) => SecondSource::Auto,
            // What other sessions went on with says something else than vectors do.
            (Recommender::Sequence, SplitKind::NextClick) => SecondSource::VmisKnn,
            _ => SecondSource::None,
        })
    }

    /// The privacy constants that the manifest states.
    #[must_use]
    pub fn telemetry_constants(&self) -> TelemetryConstants {
        TelemetryConstants {
            epsilon: self.telemetry.epsilon,
            fields_per_report: self.telemetry.fields_per_report,
            window_seconds: self.telemetry.window_seconds,
            ..TelemetryConstants::default()
        }
    }

    /// Fills in what depends on the data.
    #[must_use]
    pub fn fit_options(&self, split: &Split) -> FitOptions {
        let m = &self.model;
        let mut lengths: Vec<usize> = split.training().map(<[_]>::len).filter(|&len| len >= 2).collect();
        lengths.sort_unstable();
        let tokens: usize = lengths.iter().map(|len| len - 1).sum::<usize>().max(1);
        let typical = lengths.get(lengths.len() * 95 / 100).copied().unwrap_or(20);
        let shape = Shape {
            dim: m.dim,
            layers: m.layers,
            heads: m.heads,
            hidden: m.hidden.unwrap_or(4 * m.dim),
            max_len: m.max_session_len.unwrap_or(typical.clamp(20, 200)),
        };
        FitOptions {
            shape,
            learning_rate: m.learning_rate,
            dropout: m.dropout.unwrap_or(if tokens < SPARSE * split.num_trained() { 0.4 } else { 0.2 }),
            unit_items: m.unit_items,
            id_dropout: m.id_dropout,
            num_negatives: m.num_negatives,
            batch_tokens: m.batch_tokens.unwrap_or((tokens / 100).clamp(256, 1024)),
            max_epochs: m.max_epochs.unwrap_or((20_000_000 / tokens).clamp(10, 80)),
            patience: m.patience,
            seed: self.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_recipe_is_the_default_and_mistakes_are_named() {
        assert_eq!(Recipe::parse("").expect("parses"), Recipe::default());
        let error = Recipe::parse("[model]\ndimm = 3\n").expect_err("unknown key");
        assert_eq!(error.code(), Code::RecipeInvalid);
        assert!(error.to_string().contains("dimm"), "{error}");
        let error = Recipe::parse("[model]\nheads = 3\n").expect_err("not a divisor");
        assert!(error.to_string().contains("model.heads"), "{error}");
        for text in [
            "[limits]\nmax_candidates = 20000",
            "[limits]\nmax_limit = 0",
            "[telemetry]\nfields_per_report = 9",
            "[telemetry]\nwindow_seconds = 60",
            "[telemetry]\nepsilon = nan",
            "[telemetry]\nepsilon = 1.6094379124341003",
            "[model]\nmax_session_len = 2000",
            "[model]\npatience = 0",
            "recommender = \"best\"",
            "[retrieval]\nneighbours = \"popular\"",
            "recommender = \"ease\"\n[retrieval]\nneighbours = \"auto\"",
            "[retrieval]\nmax_neighbours = 5000",
            "[retrieval]\nmin_users = 0",
            "segments = [\"country\", \"country\"]",
            "segments = [\"\"]",
            "segments = \"country\"",
            "[gate]\nmin_gain = nan",
            "[gate]\nmax_size_ratio = -1.0",
        ] {
            assert_eq!(Recipe::parse(text).expect_err(text).code(), Code::RecipeInvalid);
        }
        assert_ne!(Recipe::default().hash(), Recipe { seed: 2, ..Recipe::default() }.hash());
    }
}
