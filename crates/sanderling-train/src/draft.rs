//! A bundle in the making: contents and facts that later steps replace one by one.

use std::collections::BTreeMap;

use sanderling_core::{Bundle, Engine, ItemTable, TractRuntime};
use sanderling_types::{
    Code, Error, FeatureSpec, Limits, Metric, PolicyDefaults, Quantisation, Result, Shapes, TrainingWindow,
    Vocabulary,
};

use crate::bundle::{self, Contents, Facts};
use crate::evaluate;
use crate::metrics;
use crate::ranker::{self, LinearRanker};
use crate::recipe::Recipe;
use crate::sequence::Epoch;
use crate::split::Split;
use crate::train::{Lineage, Trained};
use crate::{baseline, card, details, onnx};

/// What a draft begins with.
#[derive(Debug)]
pub(crate) struct Models {
    /// Which recommender made them.
    pub(crate) recommender: String,
    /// `encoder.onnx`.
    pub(crate) encoder: Vec<u8>,
    /// Bits of an element of its matrices.
    pub(crate) encoder_bits: u8,
    /// Longest history that it reads.
    pub(crate) max_session_len: usize,
    /// One row an item of `vocabulary`.
    pub(crate) items: ItemTable,
    /// The catalogue.
    pub(crate) vocabulary: Vocabulary,
    /// Validation NDCG@10 of the f32 weights in retrieval order.
    pub(crate) ndcg10_f32: f64,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) contents: Contents,
    pub(crate) facts: Facts,
}

impl Draft {
    /// The models in retrieval order, with a provisional baseline.
    pub(crate) fn new(split: &Split, recipe: &Recipe, lineage: &Lineage, models: Models) -> Self {
        let features = FeatureSpec::standard();
        let names = baseline::numeric_names(&features);
        let shapes = Shapes {
            dim: models.items.dim() as u32,
            num_features: features.features.len() as u32,
            num_items: models.items.len() as u32,
        };
        let quantisation = Quantisation {
            encoder_bits: models.encoder_bits,
            item_bits: models.items.bits().count(),
            ndcg10_f32: models.ndcg10_f32,
            ndcg10_packed: models.ndcg10_f32,
            steps: Vec::new(),
        };
        let contents = Contents {
            encoder: models.encoder,
            items: models.items.encode(),
            ranker: onnx::linear_ranker(&ranker::retrieval_order(&features).weights, 0.0),
            baseline: baseline::draft(&names, &models.vocabulary),
            vocabulary: models.vocabulary,
            features,
            card: String::new(),
        };
        let facts = Facts {
            name: recipe.name.clone(),
            version: lineage.parent.map_or(1, |(_, version)| version + 1),
            parent: lineage.parent.map(|(hash, _)| hash),
            recommender: models.recommender,
            shapes,
            limits: Limits {
                max_candidates: recipe.limits.max_candidates,
                max_limit: recipe.limits.max_limit,
                max_session_len: models.max_session_len as u32,
            },
            policy: PolicyDefaults { category_cap: recipe.category_cap, exclude_seen: split.exclude_seen },
            telemetry: recipe.telemetry_constants(),
            training: training_window(split, recipe),
            quantisation,
            metrics: BTreeMap::<String, Metric>::new(),
        };
        Self { contents, facts }
    }

    /// The bundle as it is now, opened and loaded the way a device does it.
    pub(crate) fn engine(&self) -> Result<Engine> {
        let (files, _) = bundle::assemble(&self.contents, &self.facts);
        Engine::new(Bundle::open(files, None)?, &TractRuntime)
    }

    /// Validation NDCG@10 of the bundle as it is now, run by the engine.
    pub(crate) fn ndcg10(&self, split: &Split) -> Result<f64> {
        let results = evaluate::answer(&self.engine()?, split, &split.choosing_cases(), split.exclude_seen);
        Ok(round(metrics::mean_ndcg10(&results)))
    }

    /// Replaces the catalogue by its first `num_items` items.
    pub(crate) fn keep_first(&mut self, num_items: usize) -> Result<()> {
        self.contents.items = ItemTable::decode(&self.contents.items)?.first(num_items).encode();
        let rows: Vec<usize> = (0..num_items).collect();
        self.contents.vocabulary = self.contents.vocabulary.subset(&rows);
        let names = baseline::numeric_names(&self.contents.features);
        self.contents.baseline = baseline::draft(&names, &self.contents.vocabulary);
        self.facts.shapes.num_items = num_items as u32;
        Ok(())
    }

    /// Fits a ranker on candidate lists of the validation part and takes it over.
    pub(crate) fn fit_ranker(&mut self, split: &Split) -> Result<LinearRanker> {
        let engine = self.engine()?;
        let lists = ranker::candidate_lists(&engine, split, &split.choosing_cases(), split.exclude_seen);
        let ranker = ranker::fit(&lists, &self.contents.features);
        self.contents.ranker = onnx::linear_ranker(&ranker.weights, 0.0);
        Ok(ranker)
    }

    /// Measures the shares of every telemetry field.
    pub(crate) fn measure_baseline(&mut self, split: &Split, recipe: &Recipe) -> Result<()> {
        let engine = self.engine()?;
        self.contents.baseline = baseline::measure(&engine, split, recipe.telemetry.window_seconds);
        Ok(())
    }

    /// Measures the bundle on the test part beside the baselines, writes its card and opens it once more
    /// as a whole.
    pub(crate) fn finish(
        mut self,
        split: &Split,
        max_bytes: Option<u64>,
        curve: Vec<Epoch>,
        ranker_gain_ndcg10: f64,
    ) -> Result<Trained> {
        let engine = self.engine()?;
        let evaluation = evaluate::beside_baselines(&engine, split);
        let details = details::details(&engine, split)?;
        self.facts.metrics = evaluation.metrics.clone();
        self.contents.card = card::card(&self.facts, &evaluation);
        let (files, manifest) = bundle::assemble(&self.contents, &self.facts);
        if let Some(max) = max_bytes.filter(|max| manifest.bundle_bytes() > *max) {
            return Err(Error::new(Code::BudgetExceeded, "the bundle is over its budget")
                .expected(format!("at most {max} bytes"))
                .found(format!("{} bytes", manifest.bundle_bytes()))
                .hint("lower model.dim or model.max_session_len, or raise max_bundle_bytes"));
        }
        Bundle::open(files.clone(), None)?;
        Ok(Trained { files, manifest, evaluation, details, curve, ranker_gain_ndcg10 })
    }
}

/// Six digits, as every metric is stated.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn training_window(split: &Split, recipe: &Recipe) -> TrainingWindow {
    let (start_timestamp, last_timestamp, num_users, num_interactions) = split.training_counts();
    TrainingWindow {
        last_timestamp,
        num_interactions,
        num_users,
        recipe_sha256: recipe.hash(),
        seed: recipe.seed,
        split: split.kind.as_str().to_owned(),
        start_timestamp,
        time: split.time,
    }
}
