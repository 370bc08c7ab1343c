//! How item vectors are made: a learned part of the item's own and what its content contributes.
//!
//! The vector of item `i` with content features `F` is `id_i + Σ_f c_f / sqrt(|F|)`, where wanted scaled to
//! unit length (as in NISER, Gupta et al. 2019, section 4.1: with free lengths, popular items get long vectors
//! and crowd out the others). In training the own part of an item is left out at random (dropout of ids,
//! Volkovs et al. 2017, DropoutNet), so that content alone learns to stand for an item nobody has touched.

use serde::{Deserialize, Serialize};

use super::kernels;
use super::params::Weights;

/// Below this length a vector has no direction.
const MIN_LENGTH: f32 = 1e-12;

/// Content features of items: rows of the content table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemContent {
    /// Rows of the content table.
    pub num_features: usize,
    /// Where the features of each item begin and, last, their number; empty when no item has any.
    offsets: Vec<u32>,
    features: Vec<u32>,
}

impl ItemContent {
    /// Content of items in vocabulary order.
    pub fn new(num_features: usize, items: impl IntoIterator<Item = Vec<u32>>) -> Self {
        let mut content = Self { num_features, offsets: vec![0], features: Vec::new() };
        for item in items {
            content.features.extend(item);
            content.offsets.push(content.features.len() as u32);
        }
        content
    }

    /// The features of an item.
    #[must_use]
    pub fn of(&self, item: usize) -> &[u32] {
        match self.offsets.get(item..item + 2) {
            Some(range) => &self.features[range[0] as usize..range[1] as usize],
            None => &[],
        }
    }

    /// Whether any item has a feature.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.features.is_empty()
    }
}

/// Rows `[rows, dim]` of some items as the network sees them, and what the way back needs.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// Item vectors.
    pub(crate) table: Vec<f32>,
    /// Lengths before scaling; empty where vectors keep theirs.
    lengths: Vec<f32>,
    /// Whether the own part of a row was left out.
    dropped: Vec<bool>,
    /// Gradients of the content table; zero outside `touched`.
    grad_content: Vec<f32>,
    touched: Vec<u32>,
}

impl Gathered {
    /// Makes the vectors of `rows`; `drop` says for which the own part is left out.
    pub(crate) fn gather(
        &mut self,
        weights: &Weights,
        content: &ItemContent,
        rows: &[u32],
        mut drop: impl FnMut() -> bool,
    ) {
        let dim = weights.shape.dim;
        self.table.clear();
        self.lengths.clear();
        self.dropped.clear();
        for &item in rows {
            let features = content.of(item as usize);
            let dropped = !features.is_empty() && drop();
            let start = self.table.len();
            if dropped {
                self.table.resize(start + dim, 0.0);
            } else {
                self.table.extend_from_slice(&weights.items[item as usize * dim..][..dim]);
            }
            let vector = &mut self.table[start..];
            add_content(vector, &weights.content, features);
            if weights.unit_items {
                self.lengths.push(to_unit(vector));
            }
            self.dropped.push(dropped);
        }
    }

    /// Turns gradients of the vectors into those of the rows' own parts, in place, and collects those of the
    /// content table. Afterwards [`Gathered::own`] says which own parts took part.
    pub(crate) fn backward(
        &mut self,
        content: &ItemContent,
        rows: &[u32],
        grad_table: &mut [f32],
        dim: usize,
    ) {
        self.grad_content.resize(content.num_features * dim, 0.0);
        for &feature in &self.touched {
            self.grad_content[feature as usize * dim..][..dim].fill(0.0);
        }
        self.touched.clear();
        for (row, (&item, grad)) in rows.iter().zip(grad_table.chunks_exact_mut(dim)).enumerate() {
            if let Some(&length) = self.lengths.get(row) {
                let vector = &self.table[row * dim..][..dim];
                let along = kernels::dot(grad, vector);
                kernels::add_scaled(grad, vector, -along);
                kernels::scale(grad, 1.0 / length);
            }
            let features = content.of(item as usize);
            for &feature in features {
                let sum = &mut self.grad_content[feature as usize * dim..][..dim];
                kernels::add_scaled(sum, grad, share(features.len()));
            }
            self.touched.extend_from_slice(features);
        }
        self.touched.sort_unstable();
        self.touched.dedup();
    }

    /// Whether the own part of a row took part.
    pub(crate) fn own(&self, row: usize) -> bool {
        !self.dropped[row]
    }

    /// Features with gradients, each with its gradient.
    pub(crate) fn content_gradients(&self, dim: usize) -> impl Iterator<Item = (usize, &[f32])> {
        self.touched
            .iter()
            .map(move |&feature| (feature as usize, &self.grad_content[feature as usize * dim..][..dim]))
    }
}

impl Weights {
    /// Vectors `[num_items, dim]` of all items.
    #[must_use]
    pub fn vectors(&self, content: &ItemContent) -> Vec<f32> {
        let rows: Vec<u32> = (0..self.num_items() as u32).collect();
        let mut gathered = Gathered::default();
        gathered.gather(self, content, &rows, || false);
        gathered.table
    }

    /// Vectors of items that have nothing but their features, `[items, dim]`; zeros without features.
    #[must_use]
    pub fn content_vectors<'a>(&self, items: impl Iterator<Item = &'a [u32]>) -> Vec<f32> {
        let dim = self.shape.dim;
        let row = |&feature: &u32| self.content[feature as usize * dim..][..dim].to_vec();
        items
            .flat_map(|features| {
                let vector = content_vector(features.iter().map(row), self.unit_items);
                vector.unwrap_or_else(|| vec![0.0; dim])
            })
            .collect()
    }
}

/// The vector of an item of which only the rows of its features in the content table are known; `None`
/// where there are none.
#[must_use]
pub fn content_vector(rows: impl Iterator<Item = Vec<f32>>, unit_items: bool) -> Option<Vec<f32>> {
    let rows: Vec<Vec<f32>> = rows.collect();
    let mut vector = vec![0.0; rows.first()?.len()];
    for row in &rows {
        kernels::add_scaled(&mut vector, row, share(rows.len()));
    }
    if unit_items {
        to_unit(&mut vector);
    }
    Some(vector)
}

/// Weight of each of `num_features` features.
fn share(num_features: usize) -> f32 {
    1.0 / (num_features as f32).sqrt()
}

fn add_content(vector: &mut [f32], table: &[f32], features: &[u32]) {
    let dim = vector.len();
    for &feature in features {
        kernels::add_scaled(vector, &table[feature as usize * dim..][..dim], share(features.len()));
    }
}

/// Scales to unit length; returns the length before.
fn to_unit(vector: &mut [f32]) -> f32 {
    let length = kernels::dot(vector, vector).sqrt().max(MIN_LENGTH);
    kernels::scale(vector, 1.0 / length);
    length
}
