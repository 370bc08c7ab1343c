//! Models that were trained elsewhere, such as with PyTorch: checked, measured and packed like our own.

pub mod npy;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rayon::prelude::*;
use sanderling_core::{ItemTable, Runtime, Scorer};
use sanderling_tract::FullRuntime;
use sanderling_types::{Code, Error, FeatureSpec, FileRole, ItemId, Result, RuntimeKind, Shapes};
use serde::Serialize;

use crate::data::Dataset;
use crate::folder::io_error;
use crate::metrics::{gain_at_10, round};
use crate::pack;
use crate::rankers::RankerFiles;
use crate::rankers::choice::RankerReport;
use crate::recipe::Recipe;
use crate::recommenders::{Model, Vectors};
use crate::segments;
use crate::split::{self, Case, SessionsUsed, Split};
use crate::train::{Lineage, Story, Trained};
use npy::Matrix;

/// Name of the recommender in manifests.
pub const RECOMMENDER: &str = "external";

/// Bits of the matrices of an encoder that is bundled as it came.
const ENCODER_BITS: u8 = 32;

/// A model as it came.
#[derive(Debug, Clone)]
pub struct ExternalModel {
    /// ONNX: item vectors `[1, len, dim]`, oldest first, to a query `[1, dim]`.
    pub encoder: Vec<u8>,
    /// Item vectors `[num_items, dim]`: what the encoder reads, and what its query is multiplied with.
    pub vectors: Matrix,
    /// The item of each row.
    pub item_ids: Vec<ItemId>,
    /// ONNX: features `[num_candidates, num_features]` to scores `[num_candidates, 1]`; without one a
    /// linear ranker is fitted.
    pub ranker: Option<Vec<u8>>,
}

/// Items that are not in both the model and the data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LeftOut {
    /// Items with training interactions and without a vector. The bundle lacks them; cases that ask for
    /// them are misses.
    pub num_without_vector: usize,
    /// Their share of the training interactions, 0 to 1.
    pub interaction_share: f64,
    /// Items with a vector of which neither the training part nor the catalogue says anything. The bundle
    /// lacks them.
    pub num_unknown: usize,
}

impl ExternalModel {
    /// Reads a model: ONNX files, vectors as `.npy`, and a text file with one item id a line in the order
    /// of the vectors.
    ///
    /// # Errors
    /// [`Code::Io`], and as [`npy::decode`].
    pub fn read(encoder: &Path, vectors: &Path, item_ids: &Path, ranker: Option<&Path>) -> Result<Self> {
        let bytes = |path: &Path| fs::read(path).map_err(|error| io_error("read", path, error));
        let ids = fs::read_to_string(item_ids).map_err(|error| io_error("read", item_ids, error))?;
        Ok(Self {
            encoder: bytes(encoder)?,
            vectors: npy::decode(&bytes(vectors)?)?,
            item_ids: ids.lines().map(ItemId::from).collect(),
            ranker: ranker.map(bytes).transpose()?,
        })
    }

    /// Rows by item id.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when ids and vectors disagree or a vector is not finite.
    fn rows(&self) -> Result<BTreeMap<&ItemId, usize>> {
        let Matrix { rows, cols, elements } = &self.vectors;
        let invalid = |message: String| Error::new(Code::InvalidArgument, message);
        if self.item_ids.len() != *rows {
            return Err(invalid("item ids and item vectors disagree".to_owned())
                .expected(format!("{rows} lines, one a vector"))
                .found(format!("{} lines", self.item_ids.len())));
        }
        if !(1..=ItemTable::MAX_DIM).contains(cols) {
            return Err(invalid("item vectors have the wrong shape".to_owned())
                .expected(format!("1 to {} elements", ItemTable::MAX_DIM))
                .found(cols));
        }
        if let Some(at) = elements.iter().position(|element| !element.is_finite()) {
            let id = self.item_ids[at / cols].as_str();
            return Err(invalid(format!("the vector of item {id:?} is not finite")).found(elements[at]));
        }
        let mut by_id = BTreeMap::new();
        for (row, id) in self.item_ids.iter().enumerate() {
            if by_id.insert(id, row).is_some() {
                return Err(invalid(format!("item {:?} has two vectors", id.as_str())));
            }
        }
        Ok(by_id)
    }
}

/// The rows of the vocabulary that have a vector, and these vectors.
struct Known {
    rows: Vec<u32>,
    vectors: Vec<f32>,
    left_out: LeftOut,
}

fn known(model: &ExternalModel, split: &Split) -> Result<Known> {
    let by_id = model.rows()?;
    let vocabulary = &split.vocabulary;
    let (mut rows, mut vectors) = (Vec::new(), Vec::new());
    let (mut num_without_vector, mut lost) = (0, 0.0);
    for (row, (id, &popularity)) in vocabulary.item_ids.iter().zip(&vocabulary.popularity).enumerate() {
        match by_id.get(id) {
            Some(at) => {
                rows.push(row as u32);
                vectors.extend(&model.vectors.elements[at * model.vectors.cols..][..model.vectors.cols]);
            }
            None if popularity > 0 => {
                num_without_vector += 1;
                lost += f64::from(popularity);
            }
            None => {}
        }
    }
    if rows.len() < 2 {
        let first = |ids: &[ItemId]| ids.first().map_or(String::new(), |id| format!("{:?}", id.as_str()));
        return Err(Error::new(Code::EmptyData, "fewer than two items of the training part have a vector")
            .expected(format!("ids of the data, such as {}", first(&vocabulary.item_ids)))
            .found(format!("ids such as {}", first(&model.item_ids))));
    }
    let all: f64 = vocabulary.popularity.iter().map(|&count| f64::from(count)).sum();
    let left_out = LeftOut {
        num_without_vector,
        interaction_share: round(lost / all.max(1.0)),
        num_unknown: by_id.len() - rows.len(),
    };
    Ok(Known { rows, vectors, left_out })
}

/// Checks a model, packs it, and measures the bundle on `dataset` beside the baselines, as
/// [`crate::train::train`] does. `doing` hears what is being done; the recipe's model keys do not count
/// but for `model.max_session_len`.
///
/// # Errors
/// [`Code::ModelInvalid`] or [`Code::LimitExceeded`] when a model is not what the engine runs,
/// [`Code::InvalidArgument`] when ids and vectors disagree, [`Code::TrainingFailed`] when 8 bits cost too
/// much, [`Code::EmptyData`], [`Code::SplitUnsupported`], [`Code::RecipeInvalid`],
/// [`Code::BudgetExceeded`].
pub fn pack(
    dataset: &Dataset,
    recipe: &Recipe,
    model: &ExternalModel,
    doing: &mut dyn FnMut(&'static str),
) -> Result<(Trained, LeftOut)> {
    recipe.check()?;
    let mut split = split::split(dataset, recipe.split)?;
    split.exclude_seen = recipe.exclude_seen.unwrap_or(split.exclude_seen);
    split.segments = segments::segments(&dataset.interactions, &split, &recipe.segments)?;
    let known = known(model, &split)?;
    doing("checking the models");
    let max_session_len = recipe.fit_options(&split).shape.max_len;
    let scorer = checked(model)?;
    doing("measuring the model as it came");
    let ndcg10_f32 = ndcg10(scorer.as_ref(), &known, model.vectors.cols, &split, max_session_len)?;
    doing("packing the bundle");
    let fitted = fitted(model, known.rows, known.vectors, max_session_len, ndcg10_f32);
    let mut packer = pack::pack(&split, recipe, &Lineage::default(), &fitted)?;
    pack::check(&packer, &split)?;
    doing("measuring the ranker");
    let ranker = match &model.ranker {
        Some(ranker) => {
            let retrieval = packer.answers(&split)?;
            packer.contents.ranker = RankerFiles::of_onnx(ranker.clone());
            RankerReport::external(&packer.answers(&split)?, &retrieval, recipe.seed)
        }
        None => packer.fit_ranker(&split, recipe)?,
    };
    doing("measuring the baseline");
    packer.measure_baseline(&split, recipe)?;
    doing("evaluating on the test part");
    let settings = fitted.settings;
    let story =
        Story { curve: Vec::new(), ranker, settings, choice: None, sessions: SessionsUsed::default() };
    Ok((packer.finish(&split, recipe, story)?, known.left_out))
}

/// The model as one that was fitted here.
fn fitted(
    model: &ExternalModel,
    rows: Vec<u32>,
    vectors: Vec<f32>,
    max_session_len: usize,
    ndcg10_f32: f64,
) -> Model {
    let dim = model.vectors.cols;
    Model {
        name: RECOMMENDER.to_owned(),
        vectors: Some(Vectors {
            encoder: model.encoder.clone(),
            encoder_bits: ENCODER_BITS,
            narrowed: None,
            rows: vectors,
            dim,
        }),
        order: Some(rows),
        max_session_len,
        ndcg10_f32,
        settings: format!("{dim} dimensions, histories up to {max_session_len}"),
        ..Model::default()
    }
}

/// The encoder, after both models passed what the runtime checks: bytes, operators, shapes, bounds.
fn checked(model: &ExternalModel) -> Result<Box<dyn Scorer>> {
    let shapes = Shapes {
        dim: model.vectors.cols as u32,
        num_features: FeatureSpec::standard().features.len() as u32,
        num_items: model.vectors.rows as u32,
    };
    if let Some(ranker) = &model.ranker {
        FullRuntime.scorer(ranker, FileRole::Ranker, &shapes, RuntimeKind::Full)?;
    }
    FullRuntime.scorer(&model.encoder, FileRole::Encoder, &shapes, RuntimeKind::Full)
}

/// Validation NDCG@10 of the f32 vectors in retrieval order. A case without a known item is a miss.
fn ndcg10(scorer: &dyn Scorer, known: &Known, dim: usize, split: &Split, max_len: usize) -> Result<f64> {
    let mut row_of: Vec<Option<usize>> = vec![None; split.vocabulary.len()];
    known.rows.iter().enumerate().for_each(|(at, &row)| row_of[row as usize] = Some(at));
    let gain = |&case: &Case| -> Result<f64> {
        let history: Vec<usize> =
            split.rows(split.history(case)).filter_map(|row| row_of[row as usize]).collect();
        let target = split.row(split.target(case)).and_then(|row| row_of[row as usize]);
        let Some(target) = target.filter(|_| !history.is_empty()) else { return Ok(0.0) };
        let newest = &history[history.len().saturating_sub(max_len)..];
        let input: Vec<f32> =
            newest.iter().flat_map(|&at| &known.vectors[at * dim..][..dim]).copied().collect();
        let query = scorer.run(&input, &[1, newest.len(), dim]).map_err(|error| {
            Error::new(Code::ModelInvalid, "the encoder failed on a history of the data")
                .expected(format!("a query of {} items", newest.len()))
                .found(error)
        })?;
        if let Some(value) = query.iter().find(|value| !value.is_finite()) {
            return Err(Error::new(Code::ModelInvalid, "the encoder gave a value that is not finite")
                .expected("finite queries for the histories of the data")
                .found(format!("{value} for {} items", newest.len())));
        }
        let score = |at: usize| {
            let vector = &known.vectors[at * dim..][..dim];
            query.iter().zip(vector).map(|(query, element)| query * element).sum::<f32>()
        };
        let best = score(target);
        let seen = |at: &usize| split.exclude_seen && history.contains(at);
        if seen(&target) {
            return Ok(0.0);
        }
        let before = (0..known.rows.len()).filter(|at| score(*at) > best && !seen(at)).count();
        Ok(gain_at_10(Some(before as u32 + 1)))
    };
    let cases = split.measuring_cases();
    let gains = cases.par_iter().map(gain).collect::<Result<Vec<f64>>>()?;
    Ok(gains.iter().sum::<f64>() / cases.len().max(1) as f64)
}
