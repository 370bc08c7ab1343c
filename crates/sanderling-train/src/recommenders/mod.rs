//! What a bundle can be made of: every recommender that can be trained, and the choice between them.
//!
//! ```text
//! Recommender ─ fit ─> Model ─ Packer ─> draft bundle ─ engine ─> answers to validation cases ─ choose
//! ```

mod choose;
mod ials;
mod popular;
mod table;

use sanderling_core::onnx::rounding_saves;
use sanderling_core::{ItemBits, ItemTable, NeighbourTable};
use sanderling_types::{Code, Error, FeatureSpec, Result};
use serde::{Deserialize, Serialize};

pub use choose::{Choice, Contender};
pub(crate) use choose::{Chosen, Job, choose};

use crate::catalogue::Catalogue;
use crate::recipe::Recipe;
use crate::sequence::{self, FitCase, Weights, vectors_ndcg10};
use crate::split::Split;

/// What is trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recommender {
    /// Every one of the others, of which the best on the validation part is taken.
    Auto,
    /// Most interactions first, fading with time where that helps.
    Popular,
    /// Popularity that fades.
    Recent,
    /// Item-to-item cosine similarity over users.
    ItemKnn,
    /// What sessions that resemble this one went on with, added up from item to item.
    VmisKnn,
    /// A linear autoencoder of users' items.
    Ease,
    /// Matrix factorisation, with the fold-in of a session as encoder.
    Ials,
    /// The causal transformer of [`crate::sequence`].
    #[default]
    Sequence,
}

impl Recommender {
    /// Those that need no passes over the data, in the order in which they are tried.
    const CHEAP: [Self; 6] =
        [Self::Popular, Self::Recent, Self::ItemKnn, Self::VmisKnn, Self::Ease, Self::Ials];
    /// Those that are a table of neighbours.
    const TABLES: [Self; 3] = [Self::ItemKnn, Self::VmisKnn, Self::Ease];

    /// The name in recipes, on the command line and in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Popular => "popular",
            Self::Recent => "recent",
            Self::ItemKnn => "item-knn",
            Self::VmisKnn => "vmis-knn",
            Self::Ease => "ease",
            Self::Ials => "ials",
            Self::Sequence => "sequence",
        }
    }
}

/// Whether a sequence model carries neighbours as a second source of candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecondSource {
    /// No.
    None,
    /// Those of the best table, where they improve the validation NDCG@10 by more than a standard error.
    Auto,
    /// Those of `item-knn`.
    ItemKnn,
    /// Those of `vmis-knn`.
    VmisKnn,
    /// Those of `ease`.
    Ease,
}

impl SecondSource {
    fn table(self) -> Option<Recommender> {
        match self {
            Self::None | Self::Auto => None,
            Self::ItemKnn => Some(Recommender::ItemKnn),
            Self::VmisKnn => Some(Recommender::VmisKnn),
            Self::Ease => Some(Recommender::Ease),
        }
    }
}

/// The recommender and the second source behind the `recommender` of a manifest; `None` for a name that
/// this trainer does not give.
#[must_use]
pub fn named(text: &str) -> Option<(Recommender, SecondSource)> {
    let (first, second) = text.split_once('+').map_or((text, None), |(first, second)| (first, Some(second)));
    let mut known = Recommender::CHEAP.into_iter().chain([Recommender::Sequence]);
    let recommender = known.find(|known| known.as_str() == first)?;
    let sources = [SecondSource::ItemKnn, SecondSource::VmisKnn, SecondSource::Ease];
    let is_named = |source: &SecondSource| source.table().map(Recommender::as_str) == second;
    match second {
        None => Some((recommender, SecondSource::None)),
        Some(_) if recommender != Recommender::Sequence => None,
        Some(_) => Some((recommender, sources.into_iter().find(is_named)?)),
    }
}

/// A fitted recommender in the parts that a bundle is packed from. Without vectors and neighbours the
/// order is all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    /// The manifest's `recommender`.
    pub(crate) name: String,
    pub(crate) vectors: Option<Vectors>,
    /// `content.bin`, where attributes contribute to the vectors.
    pub(crate) content: Option<Vec<u8>>,
    pub(crate) neighbours: Option<NeighbourTable>,
    /// Rows of the split's vocabulary in the order of the fallback list, where that is not all of them by
    /// popularity; vectors and neighbours are in this order.
    pub(crate) order: Option<Vec<u32>>,
    pub(crate) max_session_len: usize,
    /// NDCG@10 on the measuring cases before anything is packed, without a ranker.
    pub(crate) ndcg10_f32: f64,
    /// What was chosen on the way, for people.
    pub(crate) settings: String,
}

/// Item vectors with the encoder that makes a query of a session's.
#[derive(Debug, Clone)]
pub(crate) struct Vectors {
    /// ONNX.
    pub(crate) encoder: Vec<u8>,
    /// Bits of an element of its finest matrices.
    pub(crate) encoder_bits: u8,
    /// What it cost to bring the encoder to these bits; `None` where it is as it was trained.
    pub(crate) narrowed: Option<Narrowed>,
    /// `[num_items, dim]`.
    pub(crate) rows: Vec<f32>,
    pub(crate) dim: usize,
}

/// An encoder of fewer bits than it was trained with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Narrowed {
    /// NDCG@10 on the measuring cases of the f32 encoder with item vectors of nine bits. No engine runs the
    /// two together, but the trainer's own arithmetic does.
    pub(crate) ndcg10_before: f64,
    pub(crate) saved_bytes: u64,
}

impl Model {
    /// The trained sequence model.
    ///
    /// # Errors
    /// As [`sanderling_core::ItemTable::quantise`].
    pub(crate) fn of_sequence(weights: &Weights, split: &Split, catalogue: &Catalogue) -> Result<Self> {
        let vectors = catalogue.vectors(weights);
        let num_items = split.vocabulary.len();
        let cases = split.measuring_cases();
        let known: Vec<FitCase> =
            cases.iter().filter_map(|&case| crate::train::fit_case(split, case, num_items)).collect();
        let share = known.len() as f64 / cases.len().max(1) as f64;
        let shape = weights.shape;
        let ndcg10 = |vectors: &[f32]| vectors_ndcg10(weights, vectors, &known, split.exclude_seen) * share;
        let nine_bits = ItemTable::quantise(&vectors, shape.dim, ItemBits::Nine)?;
        let narrowed = Narrowed {
            ndcg10_before: ndcg10(&nine_bits.vectors()),
            saved_bytes: rounding_saves(shape.layers, shape.dim, shape.hidden) as u64,
        };
        let ndcg10_f32 = ndcg10(&vectors);
        Ok(Self {
            name: Recommender::Sequence.as_str().to_owned(),
            vectors: Some(Vectors {
                encoder: sequence::transformer(weights).to_onnx(),
                encoder_bits: 11,
                narrowed: Some(narrowed),
                rows: vectors,
                dim: shape.dim,
            }),
            max_session_len: shape.max_len,
            content: catalogue.file(weights)?,
            ndcg10_f32,
            settings: format!(
                "{} dimensions, {} blocks, histories up to {}",
                shape.dim, shape.layers, shape.max_len
            ),
            ..Self::default()
        })
    }

    /// The same with the neighbours of `table` as a second source.
    fn beside(&self, table: &Self) -> Self {
        Self {
            name: format!("{}+{}", self.name, table.name),
            neighbours: table.neighbours.clone(),
            settings: format!("{}; {}", self.settings, table.settings),
            ..self.clone()
        }
    }

    /// The ranker inputs that this model can fill.
    pub(crate) fn features(&self) -> FeatureSpec {
        match (&self.vectors, &self.neighbours) {
            (Some(_), Some(_)) => FeatureSpec::standard().with_neighbours(),
            (Some(_), None) => FeatureSpec::standard(),
            (None, _) => FeatureSpec::standard().without_vectors(),
        }
    }
}

/// Fits a recommender that needs no passes over the data.
fn fit(recommender: Recommender, split: &Split, recipe: &Recipe) -> Result<Model> {
    match recommender {
        Recommender::Popular | Recommender::Recent => Ok(popular::fit(recommender, split, recipe)),
        Recommender::ItemKnn | Recommender::VmisKnn | Recommender::Ease => {
            table::fit(recommender, split, recipe)
        }
        Recommender::Ials => Ok(ials::fit(split, recipe)),
        Recommender::Auto | Recommender::Sequence => {
            Err(Error::new(Code::Internal, "the recommender is fitted elsewhere").found(recommender.as_str()))
        }
    }
}

/// The longest history that the features read.
fn history_len(recipe: &Recipe, split: &Split) -> usize {
    recipe.fit_options(split).shape.max_len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_manifest_names_can_be_trained_again() {
        for recommender in [&Recommender::CHEAP[..], &[Recommender::Sequence]].concat() {
            assert_eq!(named(recommender.as_str()), Some((recommender, SecondSource::None)));
        }
        assert_eq!(named("sequence+ease"), Some((Recommender::Sequence, SecondSource::Ease)));
        for unknown in ["", "auto", "ease+vmis-knn", "sequence+popular", "sequence+"] {
            assert_eq!(named(unknown), None, "{unknown}");
        }
    }
}
