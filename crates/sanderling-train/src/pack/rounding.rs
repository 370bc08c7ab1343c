//! Four bits for item vectors: levels that keep the dot products with queries.
//!
//! Rounding every element to the nearest of 15 levels keeps the vector, but what ranks is its dot
//! product with queries, and errors of several elements can cancel there. With `H` the second moment
//! of queries, the expected squared error of the dot product of a vector `v` and its levels `z` with
//! scale `s` is `(v - s z)' H (v - s z)` (the layer objective of Frantar et al. 2023, "GPTQ", eq. 1).
//! Coordinate descent from the nearest levels makes it smaller; `s` is the least-squares scale of the levels.

use rayon::prelude::*;
use sanderling_core::{Engine, ItemBits, ItemTable};
use sanderling_types::{ItemIndex, Result};

use crate::split::Split;

/// Most training histories whose queries are looked at.
const MAX_QUERIES: usize = 2000;

/// Share of `H` that weighs all directions alike: vectors are read by the encoder, too, and not every
/// query is among those that were looked at.
const EVEN_SHARE: f32 = 0.2;

/// Shares of the largest magnitude at which a row is clipped to begin with.
const CLIPS: [f32; 8] = [1.0, 0.94, 0.88, 0.82, 0.76, 0.7, 0.64, 0.58];

const MAX_SWEEPS: usize = 8;

/// `H` `[dim, dim]`: the second moment of queries of training histories, scaled to a mean of 1 on the
/// diagonal, with [`EVEN_SHARE`] of the identity.
pub(super) fn importance(engine: &Engine, split: &Split) -> Vec<f32> {
    let histories: Vec<Vec<ItemIndex>> = split
        .training()
        .map(|events| events.iter().filter_map(|&event| engine.bundle().item_index(split.item_id(event))))
        .map(Iterator::collect)
        .filter(|history: &Vec<ItemIndex>| !history.is_empty())
        .collect();
    let kept = histories.len().min(MAX_QUERIES);
    let queries: Vec<Vec<f32>> = (0..kept)
        .into_par_iter()
        .filter_map(|i| engine.encode(&histories[i * histories.len() / kept]).ok())
        .collect();
    even(&second_moment(&queries, engine.bundle().items().dim()))
}

fn second_moment(queries: &[Vec<f32>], dim: usize) -> Vec<f64> {
    let mut moment = vec![0.0f64; dim * dim];
    for query in queries {
        for (row, &a) in moment.chunks_exact_mut(dim).zip(query) {
            row.iter_mut().zip(query).for_each(|(sum, &b)| *sum += f64::from(a) * f64::from(b));
        }
    }
    moment
}

fn even(moment: &[f64]) -> Vec<f32> {
    let dim = moment.len().isqrt();
    let diagonal = (0..dim).map(|i| moment[i * dim + i]).sum::<f64>() / dim as f64;
    let identity = |i: usize| if i.is_multiple_of(dim + 1) { 1.0 } else { 0.0 };
    // Without a query, or with queries of zeros, all directions are alike.
    let scaled = |i: usize| if diagonal > 0.0 { (moment[i] / diagonal) as f32 } else { identity(i) };
    (0..moment.len()).map(|i| (1.0 - EVEN_SHARE) * scaled(i) + EVEN_SHARE * identity(i)).collect()
}

/// Packs row-major vectors `[num_items, dim]` under the weight `importance` `[dim, dim]`.
///
/// # Errors
/// As [`ItemTable::from_integers`].
pub(super) fn four_bits(vectors: &[f32], dim: usize, importance: &[f32]) -> Result<ItemTable> {
    let rows: Vec<Rounded> = vectors.par_chunks_exact(dim).map(|row| round_row(row, importance)).collect();
    let scales: Vec<f32> = rows.iter().map(|row| row.scale).collect();
    let levels: Vec<i8> = rows.iter().flat_map(|row| row.levels.iter().map(|&level| level as i8)).collect();
    ItemTable::from_integers(dim, ItemBits::Four, &scales, &levels)
}

/// A row as levels, whole numbers, times a scale.
#[derive(Debug, Clone)]
struct Rounded {
    scale: f32,
    levels: Vec<f32>,
    /// Of the row: `(v - s z)' H (v - s z)`.
    error: f32,
}

fn round_row(row: &[f32], importance: &[f32]) -> Rounded {
    let largest = row.iter().fold(0.0f32, |largest, element| largest.max(element.abs()));
    let tried = CLIPS
        .iter()
        .map(|clip| clip * largest / f32::from(ItemBits::Four.largest()))
        .filter(|scale| scale.is_normal())
        .map(|scale| descend(row, scale, importance));
    let zeros = || Rounded { scale: 0.0, levels: vec![0.0; row.len()], error: 0.0 };
    tried.min_by(|a, b| a.error.total_cmp(&b.error)).unwrap_or_else(zeros)
}

/// Coordinate descent from the levels nearest to `row / scale`.
fn descend(row: &[f32], scale: f32, importance: &[f32]) -> Rounded {
    let dim = row.len();
    let largest = f32::from(ItemBits::Four.largest());
    let level = |value: f32| value.round().clamp(-largest, largest);
    let mut rounded =
        Rounded { scale, levels: row.iter().map(|element| level(element / scale)).collect(), error: 0.0 };
    for _ in 0..MAX_SWEEPS {
        let mut pull = product(importance, &rounded.residual(row));
        let mut moved = false;
        for (j, weights) in importance.chunks_exact(dim).enumerate() {
            let wanted = level(rounded.levels[j] + pull[j] / (rounded.scale * weights[j]));
            let step = rounded.scale * (wanted - rounded.levels[j]);
            if step != 0.0 {
                rounded.levels[j] = wanted;
                pull.iter_mut().zip(weights).for_each(|(pull, weight)| *pull -= step * weight);
                moved = true;
            }
        }
        rounded.fit_scale(row, importance);
        if !moved {
            break;
        }
    }
    let residual = rounded.residual(row);
    rounded.error = dot(&residual, &product(importance, &residual));
    rounded
}

impl Rounded {
    fn residual(&self, row: &[f32]) -> Vec<f32> {
        row.iter().zip(&self.levels).map(|(element, level)| element - self.scale * level).collect()
    }

    /// The scale of least error for these levels, where there is one.
    fn fit_scale(&mut self, row: &[f32], importance: &[f32]) {
        let weighted = product(importance, &self.levels);
        let scale = dot(&weighted, row) / dot(&weighted, &self.levels);
        if scale.is_normal() && scale > 0.0 {
            self.scale = scale;
        }
    }
}

/// A symmetric matrix times a vector.
fn product(matrix: &[f32], vector: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; vector.len()];
    for (row, &factor) in matrix.chunks_exact(vector.len()).zip(vector) {
        out.iter_mut().zip(row).for_each(|(sum, element)| *sum += factor * element);
    }
    out
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    const DIM: usize = 24;

    fn draws(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        (0..n).map(|_| rng.next_u32() as f32 / u32::MAX as f32 - 0.5).collect()
    }

    /// Queries along few directions, as an encoder's are.
    fn queries() -> Vec<Vec<f32>> {
        let directions = draws(4 * DIM, 1);
        let mix = |weights: &[f32]| {
            let at = |j: usize| (0..4).map(|d| weights[d] * directions[d * DIM + j]).sum::<f32>();
            (0..DIM).map(at).collect()
        };
        draws(4 * 300, 2).chunks_exact(4).map(mix).collect()
    }

    fn squared_error(table: &ItemTable, vectors: &[f32], queries: &[Vec<f32>]) -> f32 {
        let of = |query: &Vec<f32>, row: usize, vector: &[f32]| {
            (table.dot(query, ItemIndex(row as u32)) - dot(query, vector)).powi(2)
        };
        let rows = || vectors.chunks_exact(DIM).enumerate();
        queries.iter().flat_map(|query| rows().map(move |(row, vector)| of(query, row, vector))).sum()
    }

    #[test]
    fn dot_products_with_queries_are_kept_better_than_by_nearest_levels() {
        let (vectors, queries) = (draws(200 * DIM, 3), queries());
        let importance = even(&second_moment(&queries, DIM));
        let ours = four_bits(&vectors, DIM, &importance).expect("packs");
        let nearest = ItemTable::quantise(&vectors, DIM, ItemBits::Four).expect("packs");
        let (ours, nearest) =
            (squared_error(&ours, &vectors, &queries), squared_error(&nearest, &vectors, &queries));
        assert!(ours < 0.4 * nearest, "{ours} against {nearest}");
    }

    #[test]
    fn without_a_query_no_direction_is_worse_than_by_nearest_levels() {
        let vectors = draws(200 * DIM, 4);
        let importance = even(&second_moment(&[], DIM));
        let ours = four_bits(&vectors, DIM, &importance).expect("packs");
        let nearest = ItemTable::quantise(&vectors, DIM, ItemBits::Four).expect("packs");
        let axes: Vec<Vec<f32>> =
            (0..DIM).map(|i| (0..DIM).map(|j| f32::from(u8::from(i == j))).collect()).collect();
        let (ours, nearest) =
            (squared_error(&ours, &vectors, &axes), squared_error(&nearest, &vectors, &axes));
        assert!(ours < 1.02 * nearest, "{ours} against {nearest}");
    }

    #[test]
    fn rows_without_a_scale_become_zeros() {
        let mut vectors = vec![0.0; 2 * DIM];
        vectors[DIM + 3] = 1e-40;
        let table = four_bits(&vectors, DIM, &even(&second_moment(&queries(), DIM))).expect("packs");
        let mut row = [1.0; DIM];
        for item in 0..2 {
            table.row_into(ItemIndex(item), &mut row);
            assert_eq!(row, [0.0; DIM]);
        }
    }
}
