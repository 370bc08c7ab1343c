//! `ease`.

use rayon::prelude::*;

use super::baskets::{Baskets, MAX_HISTORY, Together};
use super::cholesky::Cholesky;
use super::{Baseline, answer, distinct};
use crate::metrics::mean_ndcg10;
use crate::split::Split;

/// Largest catalogue that is solved as a whole, in two matrices of 64 MB.
const MAX_EXACT_ITEMS: usize = 4096;
/// Most items that speak for or against one item.
const MAX_SOURCES: usize = 200;
/// Ridge penalties to choose from, as multiples of the mean number of users of an item; the first one
/// where there is nothing to choose by.
const PENALTIES: [f64; 5] = [2.0, 1.0, 5.0, 10.0, 20.0];
/// Columns of the inverse that are solved for at once.
const COLUMNS: usize = 128;

/// Item rows with weights.
type Weights = Vec<(u32, f32)>;

/// "Embarrassingly shallow autoencoders for sparse data" (Steck 2019): the weights `B` with a zero
/// diagonal that best reproduce the binary user-item matrix `X` as `X B` under a ridge penalty; the
/// score of an item is the sum of the weights from the history's distinct items. The penalty is the one
/// of 1, 2, 5, 10 and 20 times the mean number of users of an item with the best validation NDCG@10.
///
/// Up to 4,096 items `B` is exact before each item keeps its 200 largest weights. In a larger catalogue
/// only an item's 200 nearest by cosine similarity may have a weight for it, and they solve a
/// ridge regression of their own (the feature selection of SLIM, Ning and Karypis 2011): memory grows
/// with the data and never with the square of the catalogue.
#[derive(Debug)]
pub struct Ease {
    /// Of each item, the items that it speaks for or against.
    weights: Vec<Weights>,
    /// The chosen penalty as a multiple of the mean number of users of an item.
    penalty: f64,
}

impl Ease {
    /// Solves for the weights of the training part.
    #[must_use]
    pub fn fit(split: &Split) -> Self {
        Self::of_shared(split, 1)
    }

    /// The same with weights only between items that at least `min_users` chose both.
    pub(crate) fn of_shared(split: &Split, min_users: u32) -> Self {
        let baskets = Baskets::new(split);
        if baskets.num_items() > MAX_EXACT_ITEMS {
            return best(split, &baskets, |penalty| restricted(&baskets, penalty, min_users));
        }
        let gram = whole_gram(&baskets);
        best(split, &baskets, |penalty| exact(&baskets, &gram, penalty, min_users))
    }

    /// Of each item, the items that it speaks for or against.
    pub(crate) fn into_rows(self) -> Vec<Weights> {
        self.weights
    }

    /// The chosen penalty as a multiple of the mean number of users of an item.
    pub(crate) fn penalty(&self) -> f64 {
        self.penalty
    }

    fn of_columns(columns: Vec<Weights>, penalty: f64) -> Self {
        let mut weights = vec![Vec::new(); columns.len()];
        for (target, column) in columns.into_iter().enumerate() {
            for (source, weight) in column {
                weights[source as usize].push((target as u32, weight));
            }
        }
        Self { weights, penalty }
    }
}

/// The solution with the best validation NDCG@10, the first of equal ones. Solves for one penalty after the
/// other, so that two solutions at most are in memory.
fn best(split: &Split, baskets: &Baskets, solve: impl Fn(f32) -> Vec<Weights>) -> Ease {
    // At least 1, so that the matrix of a catalogue that nobody chose from is not singular.
    let fit = |factor: f64| Ease::of_columns(solve((factor * baskets.mean_users()).max(1.0) as f32), factor);
    let cases = split.choosing_cases();
    let gain = |ease: &Ease| mean_ndcg10(&answer(ease, split, &cases));
    let mut best = fit(PENALTIES[0]);
    if cases.is_empty() {
        return best;
    }
    let mut most = gain(&best);
    for factor in &PENALTIES[1..] {
        let ease = fit(*factor);
        let value = gain(&ease);
        if value > most {
            (most, best) = (value, ease);
        }
    }
    best
}

fn whole_gram(baskets: &Baskets) -> Vec<f32> {
    gram(baskets.baskets().iter().map(Vec::as_slice), baskets.num_items())
}

/// The weights for every item, from the inverse `P` of the penalised co-occurrence matrix:
/// `B[i, j] = -P[i, j] / P[j, j]`.
fn exact(baskets: &Baskets, gram: &[f32], penalty: f32, min_users: u32) -> Vec<Weights> {
    let n = baskets.num_items();
    let factor = factor(gram, n, penalty);
    let starts: Vec<usize> = (0..n).step_by(COLUMNS).collect();
    let columns = |start| exact_columns(baskets, &factor, start, min_users);
    starts.into_par_iter().flat_map_iter(columns).collect()
}

/// The weights for the items `start..start + COLUMNS`, as far as there are so many.
fn exact_columns(baskets: &Baskets, factor: &Cholesky, start: usize, min_users: u32) -> Vec<Weights> {
    let n = baskets.num_items();
    let width = COLUMNS.min(n - start);
    let mut inverse = vec![0.0; n * width];
    (0..width).for_each(|column| inverse[(start + column) * width + column] = 1.0);
    factor.solve(&mut inverse, width);
    let weights_for = |column: usize| {
        let target = start + column;
        let own = inverse[target * width + column];
        let sources = (0..n).filter(|&source| source != target);
        let weights = sources.map(|source| (source as u32, -inverse[source * width + column] / own));
        let mut weights = strongest(weights.collect());
        if min_users > 1 {
            weights.retain(|&(source, _)| baskets.together_at_least((source, target as u32), min_users));
        }
        weights
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
fn restricted(baskets: &Baskets, penalty: f32, min_users: u32) -> Vec<Weights> {
    let scratch =
        || Scratch { together: baskets.scratch(), chosen: vec![Vec::new(); baskets.baskets().len()] };
    let column = |scratch: &mut Scratch, item| restricted_column(baskets, penalty, item, min_users, scratch);
    (0..baskets.num_items() as u32).into_par_iter().map_init(scratch, column).collect()
}

fn restricted_column(
    baskets: &Baskets,
    penalty: f32,
    item: u32,
    min_users: u32,
    scratch: &mut Scratch,
) -> Weights {
    let sources = baskets.nearest(item, MAX_SOURCES, min_users, &mut scratch.together);
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
    let gram = gram(users.iter().map(|&user| scratch.chosen[user as usize].as_slice()), n);
    users.iter().for_each(|&user| scratch.chosen[user as usize].clear());
    let mut weights: Vec<f32> = sources.iter().map(|&(_, together)| together as f32).collect();
    factor(&gram, n, penalty).solve(&mut weights, 1);
    sources.iter().map(|&(source, _)| source).zip(weights).collect()
}

/// Factorises `gram`, upper triangle `[n, n]`, with the penalty added to the diagonal. Where rounding
/// eats the penalty, as with a basket that millions of users share, the smallest doubling of it that does
/// not.
fn factor(gram: &[f32], n: usize, mut penalty: f32) -> Cholesky {
    loop {
        let mut matrix = gram.to_vec();
        (0..n).for_each(|i| matrix[i * n + i] += penalty);
        if let Some(factor) = Cholesky::factor(matrix, n) {
            return factor;
        }
        // Ends: counts are finite, and a diagonal that dominates them is positive definite.
        penalty *= 2.0;
    }
}

/// Upper triangle `[n, n]` of how many ascending lists hold both of two numbers below `n`.
fn gram<'a>(lists: impl Iterator<Item = &'a [u32]>, n: usize) -> Vec<f32> {
    let mut gram = vec![0.0; n * n];
    for list in lists {
        for (at, &a) in list.iter().enumerate() {
            let row = &mut gram[a as usize * n..][..n];
            list[at..].iter().for_each(|&b| row[b as usize] += 1.0);
        }
    }
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
    use crate::split::Case;

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
        assert!((0..23).all(|item| small.nearest(item, 99, 1, &mut scratch).len() <= 22));
        check(&exact(&small, &whole_gram(&small), 3.0, 1), &reference(&small, 3.0), "exact");
        let wide = baskets(150);
        check(&exact(&wide, &whole_gram(&wide), 2.0, 1), &reference(&wide, 2.0), "exact, 150 items");
        // One user with everything makes every item a neighbour of every other.
        let all: Vec<u32> = (0..40).collect();
        let sequences: [&[u32]; 4] = [&all, &[0, 1, 2], &[1, 2, 39], &[7, 8, 2]];
        let whole = Baskets::new(&split_of(&sequences, 40, TimeKind::Order));
        check(&restricted(&whole, 1.5, 1), &reference(&whole, 1.5), "restricted");
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
    fn the_penalty_with_the_best_validation_is_chosen() {
        // Whoever has item 0 goes on with item 2, whatever else the training part says.
        let lists: Vec<Vec<u32>> = (0..30).map(|user| vec![0, 1 + user % 3, 4 + user % 5, 2]).collect();
        let sequences: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
        let mut split = split_of(&sequences, 9, TimeKind::Order);
        let first = Ease::fit(&split);
        assert_eq!(first.penalty(), PENALTIES[0], "nothing to choose by");
        split.train_len.fill(3);
        split.validation = (0..30).map(|user| Case { user, prefix: 3 }).collect();
        let gain = |ease: &Ease| mean_ndcg10(&answer(ease, &split, &split.validation));
        let baskets = Baskets::new(&split);
        let gram = whole_gram(&baskets);
        let of = |factor: f64| exact(&baskets, &gram, (factor * baskets.mean_users()) as f32, 1);
        let most = PENALTIES
            .map(|factor| gain(&Ease::of_columns(of(factor), factor)))
            .into_iter()
            .fold(0.0, f64::max);
        assert_eq!(gain(&Ease::fit(&split)), most);
    }

    #[test]
    fn what_too_few_users_share_has_no_weight() {
        let split = split_of(&[&[0, 1], &[1, 0], &[0, 2], &[2], &[1]], 3, TimeKind::Order);
        let pairs = |ease: Ease| -> Vec<(usize, u32)> {
            let rows = ease.into_rows().into_iter().enumerate();
            rows.flat_map(|(source, row)| row.into_iter().map(move |(target, _)| (source, target))).collect()
        };
        assert_eq!(pairs(Ease::of_shared(&split, 2)), [(0, 1), (1, 0)]);
        assert_eq!(pairs(Ease::fit(&split)).len(), 6);
    }

    #[test]
    fn a_penalty_that_rounding_eats_is_doubled_until_it_counts() {
        // Two items that the same four users have; 1e-9 is less than one step of f32 at 4.
        assert!(Cholesky::factor(vec![4.0, 4.0, 0.0, 4.0 + 1e-9], 2).is_none(), "singular");
        let mut x = [1.0, 1.0];
        factor(&[4.0, 4.0, 0.0, 4.0], 2, 1e-9).solve(&mut x, 1);
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
