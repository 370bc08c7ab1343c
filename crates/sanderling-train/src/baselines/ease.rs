//! `ease`.

use rayon::prelude::*;

use super::baskets::{Baskets, MAX_HISTORY, Together};
use super::cholesky::Cholesky;
use super::{Baseline, distinct};
use crate::split::Split;

/// Largest catalogue that is solved as a whole, in 64 MB.
const MAX_EXACT_ITEMS: usize = 4096;
/// Most items that speak for or against one item.
const MAX_SOURCES: usize = 200;
/// Ridge penalty as a multiple of the mean number of users of an item. From 2 to 5 NDCG@10 moves by
/// less than a standard error, with 13 users an item (Amazon Beauty) and with 289 (MovieLens 1M).
const PENALTY: f64 = 2.0;
/// Columns of the inverse that are solved for at once.
const COLUMNS: usize = 128;

/// Item rows with weights.
type Weights = Vec<(u32, f32)>;

/// "Embarrassingly shallow autoencoders for sparse data" (Steck 2019): the weights `B` with a zero
/// diagonal that best reproduce the binary user-item matrix `X` as `X B` under a ridge penalty; the
/// score of an item is the sum of the weights from the history's distinct items. The penalty is twice
/// the mean number of users of an item.
///
/// Up to 4,096 items `B` is exact before each item keeps its 200 largest weights. In a larger catalogue
/// only an item's 200 nearest by cosine similarity may have a weight for it, and they solve a
/// ridge regression of their own (the feature selection of SLIM, Ning and Karypis 2011): memory grows
/// with the data and never with the square of the catalogue.
#[derive(Debug)]
pub struct Ease {
    /// Of each item, the items that it speaks for or against.
    weights: Vec<Weights>,
}

impl Ease {
    /// Solves for the weights of the training part.
    #[must_use]
    pub fn fit(split: &Split) -> Self {
        let baskets = Baskets::new(split);
        // At least 1, so that the matrix of a catalogue that nobody chose from is not singular.
        let penalty = (PENALTY * baskets.mean_users()).max(1.0) as f32;
        let columns = match baskets.num_items() {
            ..=MAX_EXACT_ITEMS => exact(&baskets, penalty),
            _ => restricted(&baskets, penalty),
        };
        let mut weights = vec![Vec::new(); baskets.num_items()];
        for (target, column) in columns.into_iter().enumerate() {
            for (source, weight) in column {
                weights[source as usize].push((target as u32, weight));
            }
        }
        Self { weights }
    }
}

/// The weights for every item, from the inverse `P` of the penalised co-occurrence matrix:
/// `B[i, j] = -P[i, j] / P[j, j]`.
fn exact(baskets: &Baskets, penalty: f32) -> Vec<Weights> {
    let n = baskets.num_items();
    let factor = factor(|| baskets.baskets().iter().map(Vec::as_slice), n, penalty);
    let starts: Vec<usize> = (0..n).step_by(COLUMNS).collect();
    starts.into_par_iter().flat_map_iter(|start| exact_columns(&factor, n, start)).collect()
}

/// The weights for the items `start..start + COLUMNS`, as far as there are so many.
fn exact_columns(factor: &Cholesky, n: usize, start: usize) -> Vec<Weights> {
    let width = COLUMNS.min(n - start);
    let mut inverse = vec![0.0; n * width];
    (0..width).for_each(|column| inverse[(start + column) * width + column] = 1.0);
    factor.solve(&mut inverse, width);
    let weights_for = |column: usize| {
        let target = start + column;
        let own = inverse[target * width + column];
        let sources = (0..n).filter(|&source| source != target);
        strongest(sources.map(|source| (source as u32, -inverse[source * width + column] / own)).collect())
    };
    (0..width).map(weights_for).collect()
}

/// The largest weights by magnitude.
fn strongest(mut weights: Weights) -> Weights {
    if weights.len() > MAX_SOURCES {
        weights
            .select_nth_unstable_by(MAX_SOURCES, |a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
        // A new vector, because a truncated one would keep its memory.
        weights = weights[..MAX_SOURCES].to_vec();
    }
    weights
}

/// Working memory of a thread.
struct Scratch {
    together: Together,
    /// Of every user, which of the sources at hand the user chose, ascending; empty between items.
    chosen: Vec<Vec<u32>>,
}

/// The weights for every item from its nearest items alone.
fn restricted(baskets: &Baskets, penalty: f32) -> Vec<Weights> {
    let scratch =
        || Scratch { together: baskets.scratch(), chosen: vec![Vec::new(); baskets.baskets().len()] };
    (0..baskets.num_items() as u32)
        .into_par_iter()
        .map_init(scratch, |scratch, item| restricted_column(baskets, penalty, item, scratch))
        .collect()
}

fn restricted_column(baskets: &Baskets, penalty: f32, item: u32, scratch: &mut Scratch) -> Weights {
    let sources = baskets.nearest(item, MAX_SOURCES, &mut scratch.together);
    let mut users = Vec::new();
    for (place, &(source, _)) in sources.iter().enumerate() {
        for &user in baskets.users(source) {
            let chosen = &mut scratch.chosen[user as usize];
            if chosen.is_empty() {
                users.push(user);
            }
            chosen.push(place as u32);
        }
    }
    let n = sources.len();
    let factor = factor(|| users.iter().map(|&user| scratch.chosen[user as usize].as_slice()), n, penalty);
    users.iter().for_each(|&user| scratch.chosen[user as usize].clear());
    let mut weights: Vec<f32> = sources.iter().map(|&(_, together)| together as f32).collect();
    factor.solve(&mut weights, 1);
    sources.iter().map(|&(source, _)| source).zip(weights).collect()
}

/// Factorises the penalised co-occurrence matrix. Where rounding eats the penalty, as with a basket that
/// millions of users share, the smallest doubling of it that does not.
fn factor<'a, Lists: Iterator<Item = &'a [u32]>>(
    lists: impl Fn() -> Lists,
    n: usize,
    mut penalty: f32,
) -> Cholesky {
    loop {
        if let Some(factor) = Cholesky::factor(gram(lists(), n, penalty), n) {
            return factor;
        }
        // Ends: counts are finite, and a diagonal that dominates them is positive definite.
        penalty *= 2.0;
    }
}

/// Upper triangle `[n, n]` of how many ascending lists hold both of two numbers below `n`, with the
/// penalty added to the diagonal.
fn gram<'a>(lists: impl Iterator<Item = &'a [u32]>, n: usize, penalty: f32) -> Vec<f32> {
    let mut gram = vec![0.0; n * n];
    for list in lists {
        for (at, &a) in list.iter().enumerate() {
            let row = &mut gram[a as usize * n..][..n];
            list[at..].iter().for_each(|&b| row[b as usize] += 1.0);
        }
    }
    (0..n).for_each(|i| gram[i * n + i] += penalty);
    gram
}

impl Baseline for Ease {
    fn name(&self) -> &'static str {
        "ease"
    }

    fn score(&self, history: &[u32], scores: &mut [f32]) {
        for item in distinct(history.iter().rev().take(MAX_HISTORY).copied()) {
            for &(target, weight) in &self.weights[item as usize] {
                scores[target as usize] += weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sanderling_types::TimeKind;

    use super::*;
    use crate::baselines::tests::split_of;

    /// Thirty users with three to eight of `n` items each, by a fixed rule.
    fn baskets(n: u32) -> Baskets {
        let lists: Vec<Vec<u32>> = (0..30)
            .map(|user| (0..3 + user % 6).map(|at| (user * user + at * (user + 3)) % n).collect())
            .collect();
        let sequences: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
        Baskets::new(&split_of(&sequences, n as usize, TimeKind::Order))
    }

    /// `B` by the definition: Gauss-Jordan elimination in f64.
    fn reference(baskets: &Baskets, penalty: f64) -> Vec<Vec<f64>> {
        let n = baskets.num_items();
        let unit = |hit: bool| f64::from(u8::from(hit));
        let mut rows: Vec<Vec<f64>> = (0..n)
            .map(|i| {
                let both = |j: usize| {
                    let holds =
                        |basket: &&Vec<u32>| basket.contains(&(i as u32)) && basket.contains(&(j as u32));
                    baskets.baskets().iter().filter(holds).count() as f64
                };
                let left = (0..n).map(|j| both(j) + penalty * unit(i == j));
                left.chain((0..n).map(|j| unit(i == j))).collect()
            })
            .collect();
        for pivot in 0..n {
            let by = rows[pivot][pivot];
            rows[pivot].iter_mut().for_each(|value| *value /= by);
            let pivot_row = rows[pivot].clone();
            for row in (0..n).filter(|&row| row != pivot) {
                let factor = rows[row][pivot];
                rows[row].iter_mut().zip(&pivot_row).for_each(|(value, p)| *value -= factor * p);
            }
        }
        let weight = |i: usize, j: usize| if i == j { 0.0 } else { -rows[i][n + j] / rows[j][n + j] };
        (0..n).map(|i| (0..n).map(|j| weight(i, j)).collect()).collect()
    }

    /// Checks columns of weights against `reference`; sources that are not listed weigh nothing.
    fn check(columns: &[Weights], reference: &[Vec<f64>], what: &str) {
        for (target, column) in columns.iter().enumerate() {
            let mut dense = vec![0.0; columns.len()];
            column.iter().for_each(|&(source, weight)| dense[source as usize] = weight);
            for (source, &weight) in dense.iter().enumerate() {
                let expected = reference[source][target];
                assert!(
                    (f64::from(weight) - expected).abs() < 1e-5,
                    "{what}: {source} for {target} weighs {weight}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn both_methods_agree_with_the_inverse_where_every_item_may_speak() {
        // 23 items share a user with all others; 150 cross the blocks of columns and of the factor.
        let small = baskets(23);
        let mut scratch = small.scratch();
        assert!((0..23).all(|item| small.nearest(item, 99, &mut scratch).len() <= 22));
        check(&exact(&small, 3.0), &reference(&small, 3.0), "exact");
        let wide = baskets(150);
        check(&exact(&wide, 2.0), &reference(&wide, 2.0), "exact, 150 items");
        // One user with everything makes every item a neighbour of every other.
        let all: Vec<u32> = (0..40).collect();
        let sequences: [&[u32]; 4] = [&all, &[0, 1, 2], &[1, 2, 39], &[7, 8, 2]];
        let whole = Baskets::new(&split_of(&sequences, 40, TimeKind::Order));
        check(&restricted(&whole, 1.5), &reference(&whole, 1.5), "restricted");
    }

    #[test]
    fn two_items_by_hand() {
        // Item 0 has four users, item 1 three of them: the penalty is 2 * 3.5.
        let split = split_of(&[&[0, 1], &[1, 0], &[0, 1, 1], &[0]], 2, TimeKind::Order);
        let ease = Ease::fit(&split);
        let scores = |history: &[u32]| {
            let mut scores = [0.0; 2];
            ease.score(history, &mut scores);
            scores
        };
        assert!((scores(&[0])[1] - 3.0 / (4.0 + 7.0)).abs() < 1e-6);
        assert!((scores(&[1, 1])[0] - 3.0 / (3.0 + 7.0)).abs() < 1e-6);
        assert_eq!((scores(&[0])[0], scores(&[1])[1]), (0.0, 0.0), "nothing speaks for itself");
    }

    #[test]
    fn a_penalty_that_rounding_eats_is_doubled_until_it_counts() {
        // Two items that the same four users have; 1e-9 is less than one step of f32 at 4.
        assert!(Cholesky::factor(vec![4.0, 4.0, 0.0, 4.0 + 1e-9], 2).is_none(), "singular");
        let list: &[u32] = &[0, 1];
        let mut x = [1.0, 1.0];
        factor(|| std::iter::repeat_n(list, 4), 2, 1e-9).solve(&mut x, 1);
        assert!((x[0] + x[1] - 0.25).abs() < 0.01, "together 2 / 8: {x:?}");
    }

    #[test]
    fn the_largest_weights_of_either_sign_stay() {
        let weights: Weights =
            (0..300).map(|i| (i, if i % 2 == 0 { 1.0 } else { -1.0 } * i as f32)).collect();
        let mut kept: Vec<u32> = strongest(weights).into_iter().map(|(source, _)| source).collect();
        kept.sort_unstable();
        assert_eq!(kept, (300 - MAX_SOURCES as u32..300).collect::<Vec<u32>>());
    }
}
