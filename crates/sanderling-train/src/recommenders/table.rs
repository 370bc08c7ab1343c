//! Recommenders that are item-to-item weights: `item-knn`, `vmis-knn` and `ease` as tables that the engine
//! adds up over a session.

use sanderling_core::{Combination, NeighbourTable};
use sanderling_types::{ItemIndex, Result};

use super::{Model, Recommender, history_len};
use crate::baselines::transitions::{TransitionOptions, Vote, transitions};
use crate::baselines::{Baseline, Ease, VmisKnn, answer, cosine_rows};
use crate::metrics::mean_ndcg10;
use crate::recipe::Recipe;
use crate::split::{Case, Split};

/// Decays to choose from, slowest first.
const DECAYS: [f32; 7] = [1.0, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2];
/// Items that count less than this are not looked at.
const LEAST_FACTOR: f32 = 1e-3;
/// Items of a session that speak where none counts less than another.
const MAX_SOURCES: u16 = 500;
/// Share of the best validation NDCG@10 that fewer weights may cost.
const PRUNING_LOSS: f64 = 0.01;

/// Of every item `(item, weight)`, strongest first.
pub(super) type Rows = Vec<Vec<(u32, f32)>>;

/// Weights before they are packed, scored the way the engine scores the packed ones.
#[derive(Debug, Clone)]
struct Weighted {
    rows: Rows,
    combination: Combination,
}

impl Baseline for Weighted {
    fn name(&self) -> &'static str {
        "neighbours"
    }

    fn score(&self, history: &[u32], scores: &mut [f32]) {
        for (source, factor) in self.combination.sources(history.iter().rev().map(|&item| ItemIndex(item))) {
            for &(item, weight) in &self.rows[source.row()] {
                scores[item as usize] += weight * factor;
            }
        }
    }
}

impl Weighted {
    fn ndcg10(&self, split: &Split, cases: &[Case]) -> f64 {
        mean_ndcg10(&answer(self, split, cases))
    }
}

/// A kind of weights with its name: one of several to choose from.
type Variant = (String, Rows);

/// Fits a table. Its weights, the decay and the number of weights an item are what has the best NDCG@10 on
/// the validation part, within the byte budget.
///
/// # Errors
/// As [`NeighbourTable::quantise`].
pub(super) fn fit(recommender: Recommender, split: &Split, recipe: &Recipe) -> Result<Model> {
    let cases = split.choosing_cases();
    let (name, whole) = choose_weights(variants(recommender, split, recipe), split, &cases);
    let by_target = recommender == Recommender::Ease;
    let prune = |most: usize| Weighted { rows: pruned(&whole.rows, most, by_target), ..whole.clone() };
    let (weighted, most) = choose_size(prune, split, recipe, &cases)?;
    let Combination { max_sources, decay } = weighted.combination;
    Ok(Model {
        name: recommender.as_str().to_owned(),
        neighbours: Some(NeighbourTable::quantise(&weighted.rows, weighted.combination)?),
        max_session_len: history_len(recipe, split),
        ndcg10_f32: weighted.ndcg10(split, &split.measuring_cases()),
        settings: format!("{name}at most {most} weights an item, decay {decay} over {max_sources} items"),
        ..Model::default()
    })
}

/// The weights to choose from, each made when the iterator comes to it: only two are in memory at once.
fn variants(recommender: Recommender, split: &Split, recipe: &Recipe) -> Box<dyn Iterator<Item = Variant>> {
    let (max, min_users) = (recipe.retrieval.max_neighbours, recipe.retrieval.min_users);
    match recommender {
        Recommender::VmisKnn => {
            let knn = VmisKnn::fit(split);
            let votes = ways_to_vote(split, max, min_users).into_iter();
            Box::new(votes.map(move |(name, options)| (name, transitions(&knn, options))))
        }
        Recommender::Ease => {
            let ease = Ease::of_shared(split, min_users);
            let name = format!("penalty {} times the mean number of users of an item, ", ease.penalty());
            Box::new(std::iter::once((name, ease.into_rows())))
        }
        _ => Box::new(std::iter::once((String::new(), cosine_rows(split, max, min_users)))),
    }
}

/// Every vote, and where lists may repeat what was seen every vote for the item itself too.
fn ways_to_vote(split: &Split, max: usize, min_sessions: u32) -> Vec<(String, TransitionOptions)> {
    let mut ways = Vec::new();
    for itself in if split.exclude_seen { &[false][..] } else { &[false, true] } {
        for (vote, name) in Vote::ALL {
            let suffix = if *itself { " and for the item itself" } else { "" };
            let options = TransitionOptions { vote, itself: *itself, max, min_sessions };
            ways.push((format!("votes {name}{suffix}, "), options));
        }
    }
    ways
}

/// The variant and the decay with the best validation NDCG@10; the first of equal ones.
fn choose_weights(
    variants: impl Iterator<Item = Variant>,
    split: &Split,
    cases: &[Case],
) -> (String, Weighted) {
    let mut best: Option<(f64, String, Weighted)> = None;
    for (name, rows) in variants {
        let mut weighted = Weighted { rows, combination: combination(1.0) };
        let gain = |weighted: &Weighted| weighted.ndcg10(split, cases);
        let tried = DECAYS.map(|decay| {
            weighted.combination = combination(decay);
            (gain(&weighted), decay)
        });
        let first = (f64::NEG_INFINITY, DECAYS[0]);
        let (most, decay) = tried.into_iter().fold(first, |a, b| if b.0 > a.0 { b } else { a });
        weighted.combination = combination(decay);
        if best.as_ref().is_none_or(|(known, ..)| most > *known) {
            best = Some((most, name, weighted));
        }
    }
    // Unwrap safety: every recommender has a variant.
    best.map(|(_, name, weighted)| (name, weighted)).expect("a variant")
}

fn combination(decay: f32) -> Combination {
    let reach = if decay < 1.0 { (LEAST_FACTOR.ln() / decay.ln()).ceil() as u16 } else { MAX_SOURCES };
    Combination { max_sources: reach, decay }
}

/// The fewest weights an item that cost next to nothing, of those that fit the budget; the fewest at all
/// where none fits.
fn choose_size(
    prune: impl Fn(usize) -> Weighted,
    split: &Split,
    recipe: &Recipe,
    cases: &[Case],
) -> Result<(Weighted, usize)> {
    let most = recipe.retrieval.max_neighbours;
    let sizes = [8, 4, 2, 1].map(|part| most.div_ceil(part));
    let room = recipe.max_bundle_bytes.map(|max| {
        max.saturating_sub(split.vocabulary.encoded_len() as u64 + crate::train::SMALL_FILES_BYTES)
    });
    let mut tried = Vec::new();
    for size in sizes {
        let weighted = prune(size);
        let bytes = NeighbourTable::quantise(&weighted.rows, weighted.combination)?.encode().len() as u64;
        if room.is_some_and(|room| bytes > room) && !tried.is_empty() {
            break;
        }
        tried.push((weighted.ndcg10(split, cases), size, weighted));
    }
    let best = tried.iter().map(|(gain, ..)| *gain).fold(0.0, f64::max);
    let enough = tried.into_iter().find(|(gain, ..)| *gain >= best * (1.0 - PRUNING_LOSS));
    // Unwrap safety: the best one is within any loss of itself.
    Ok(enough.map(|(_, size, weighted)| (weighted, size)).expect("a size"))
}

/// The `most` strongest weights of every row, or for every item by how strongly it is spoken for.
fn pruned(rows: &Rows, most: usize, by_target: bool) -> Rows {
    let order = |a: &(u32, f32), b: &(u32, f32)| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0));
    let strongest = |mut row: Vec<(u32, f32)>| {
        row.sort_unstable_by(order);
        row.truncate(most);
        row
    };
    let turned = |rows: &Rows| {
        let mut out: Rows = vec![Vec::new(); rows.len()];
        for (source, row) in (0..).zip(rows) {
            row.iter().for_each(|&(item, weight)| out[item as usize].push((source, weight)));
        }
        out
    };
    if !by_target {
        return rows.iter().cloned().map(strongest).collect();
    }
    let mut kept = turned(&turned(rows).into_iter().map(strongest).collect());
    // A popular item may speak for more items than a row can hold.
    for row in &mut kept {
        row.sort_unstable_by(order);
        row.truncate(NeighbourTable::MAX_NEIGHBOURS);
    }
    kept
}

#[cfg(test)]
mod tests {
    use sanderling_types::TimeKind;

    use super::*;
    use crate::baselines::tests::split_of;

    #[test]
    fn pruning_keeps_the_strongest_of_a_row_or_for_an_item() {
        let rows = vec![vec![(1, 0.5), (2, -2.0)], vec![(2, 1.0), (0, 0.1)], vec![]];
        assert_eq!(pruned(&rows, 1, false), [vec![(2, -2.0)], vec![(2, 1.0)], vec![]]);
        assert_eq!(pruned(&rows, 1, true), [vec![(2, -2.0), (1, 0.5)], vec![(0, 0.1)], vec![]]);
    }

    #[test]
    fn a_slower_decay_looks_further_back() {
        let reach = DECAYS.map(|decay| combination(decay).max_sources);
        assert!(reach.is_sorted_by(|a, b| a > b), "{reach:?}");
        assert!(DECAYS[1].powi(i32::from(reach[1])) <= LEAST_FACTOR);
    }

    /// Sixty users who go round a circle of twelve items, one step at a time.
    fn circle() -> Split {
        let lists: Vec<Vec<u32>> = (0..60).map(|user| (0..6).map(|at| (user + at) % 12).collect()).collect();
        let mut split = split_of(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>(), 12, TimeKind::Order);
        split.train_len.fill(4);
        split.validation = (0..60).map(|user| Case { user, prefix: 4 }).collect();
        split
    }

    #[test]
    fn the_table_that_is_packed_answers_like_the_weights() {
        let (split, recipe) = (circle(), Recipe::default());
        for recommender in [Recommender::ItemKnn, Recommender::VmisKnn, Recommender::Ease] {
            let model = fit(recommender, &split, &recipe).expect("fits");
            let table = model.neighbours.expect("a table");
            let rows = (0..table.len() as u32)
                .map(|row| table.row(ItemIndex(row)).map(|(item, weight)| (item.0, weight)).collect());
            let packed = Weighted { rows: rows.collect(), combination: table.combination() };
            let loss = model.ndcg10_f32 - packed.ndcg10(&split, &split.validation);
            assert!(loss.abs() < 0.05 && model.ndcg10_f32 > 0.3, "{}: {loss}", model.settings);
        }
    }

    #[test]
    fn where_the_order_decides_only_later_items_get_votes() {
        // Half of the users go up and half of them down, each along a ladder of their own.
        let up = |user: u32| (0..6).map(move |at| user % 8 + at);
        let down = |user: u32| (0..6).map(move |at| 20 + user % 8 + 5 - at);
        let lists: Vec<Vec<u32>> = (0..64)
            .map(|user| if user % 2 == 0 { up(user).collect() } else { down(user).collect() })
            .collect();
        let mut split = split_of(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>(), 40, TimeKind::Order);
        split.exclude_seen = false;
        split.train_len.fill(5);
        split.validation = (0..64).map(|user| Case { user, prefix: 1 }).collect();
        let model = fit(Recommender::VmisKnn, &split, &Recipe::default()).expect("fits");
        assert!(model.settings.starts_with("votes after"), "{}", model.settings);
    }

    #[test]
    fn a_small_budget_means_fewer_weights() {
        let split = circle();
        let of = |max_bundle_bytes| {
            let recipe = Recipe { max_bundle_bytes, ..Recipe::default() };
            fit(Recommender::ItemKnn, &split, &recipe)
                .expect("fits")
                .neighbours
                .expect("a table")
                .num_weights()
        };
        let fixed = split.vocabulary.encoded_len() as u64 + crate::train::SMALL_FILES_BYTES;
        assert!(of(Some(fixed + 40)) <= of(None));
    }
}
