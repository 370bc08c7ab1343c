//! What is known of the items of a split beside who touched them.

use std::collections::BTreeMap;

use sanderling_core::{ItemBits, ItemTable};
use sanderling_types::{Item, ItemId, Result};

use crate::content::{Content, ContentSpec};
use crate::data::Dataset;
use crate::recipe::Recipe;
use crate::sequence::{ItemContent, Weights};
use crate::split::Split;

/// Content of every row of a vocabulary.
#[derive(Debug)]
pub(crate) struct Catalogue {
    spec: ContentSpec,
    /// Features of every row.
    pub(crate) content: ItemContent,
    num_items: usize,
}

impl Catalogue {
    pub(crate) fn new(dataset: &Dataset, split: &Split, recipe: &Recipe) -> Self {
        let facts: BTreeMap<&ItemId, &Item> = match recipe.model.content {
            true => dataset.items.iter().map(|item| (&item.item_id, item)).collect(),
            false => BTreeMap::new(),
        };
        let item_ids = &split.vocabulary.item_ids;
        let trained = item_ids[..split.num_trained()].iter().filter_map(|id| facts.get(id).copied());
        let spec = ContentSpec::learn(trained, recipe.model.unit_items);
        let content = spec.content(&facts, item_ids);
        Self { spec, content, num_items: item_ids.len() }
    }

    /// Vectors of every row; an item without a known feature has none, all zeros.
    pub(crate) fn vectors(&self, weights: &Weights) -> Vec<f32> {
        let mut vectors = weights.vectors(&self.content);
        let untouched = weights.num_items()..self.num_items;
        vectors.extend(weights.content_vectors(untouched.map(|item| self.content.of(item))));
        vectors
    }

    /// What a bundle needs to know to take in more items; `None` where items have nothing in common.
    ///
    /// # Errors
    /// As [`ItemTable::quantise`].
    pub(crate) fn file(&self, weights: &Weights) -> Result<Option<Vec<u8>>> {
        if self.spec.buckets.is_empty() {
            return Ok(None);
        }
        let table = ItemTable::quantise(&weights.content, weights.shape.dim, ItemBits::Eight)?;
        Ok(Some(Content { spec: self.spec.clone(), table }.encode()))
    }
}
