//! The booster on lists whose answer is known, and against LightGBM.

use super::*;
use crate::rankers::choice::tests::lists;

fn options() -> GbdtOptions {
    GbdtOptions { max_trees: 30, min_leaf_candidates: 5, ..GbdtOptions::default() }
}

fn refs(lists: &[CandidateList]) -> Vec<&CandidateList> {
    lists.iter().collect()
}

#[test]
fn trees_find_the_feature_that_decides() {
    let (learnt, held) = (lists(200, 1.0), lists(90, 1.0));
    let (trees, num_trees) = fit(&refs(&learnt), 3, Rounds::BestOn(&refs(&held)), &options(), 1);
    assert!(num_trees >= 1);
    let first = held.iter().filter(|list| list.rank(&trees.scores(&list.features)) == Some(1)).count();
    assert_eq!(first, held.len());
}

#[test]
fn one_seed_gives_one_ensemble_on_any_number_of_threads() {
    let lists = lists(60, 0.3);
    let of = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads start");
        pool.install(|| fit(&refs(&lists), 3, Rounds::Exactly(10), &options(), seed).0)
    };
    assert_eq!(of(1, 7), of(3, 7));
    assert_ne!(of(1, 7), of(1, 8), "the seed draws lists and features");
}

#[test]
fn without_a_list_to_learn_from_retrieval_order_stays() {
    let mut lists = lists(10, 1.0);
    lists.iter_mut().for_each(|list| list.relevant = None);
    let (trees, num_trees) = fit(&refs(&lists), 3, Rounds::Exactly(5), &options(), 1);
    assert_eq!((trees.scores(&[0.0; 6]), num_trees), (vec![0.0, 0.0], 0));
}

#[test]
fn a_score_does_not_depend_on_the_order_of_the_trees() {
    let lists = lists(60, 0.3);
    let (trees, num_trees) = fit(&refs(&lists), 3, Rounds::Exactly(25), &options(), 1);
    assert!(num_trees > 10);
    let mut backwards: Vec<Vec<TreeNode>> = trees.trees().map(<[TreeNode]>::to_vec).collect();
    backwards.reverse();
    let backwards = TreeEnsemble::new(3, &backwards).expect("the same trees");
    let bits = |trees: &TreeEnsemble, list: &CandidateList| -> Vec<u32> {
        trees.scores(&list.features).into_iter().map(f32::to_bits).collect()
    };
    assert!(lists.iter().all(|list| bits(&trees, list) == bits(&backwards, list)));
    assert!(lists[0].features.len() > 3);
}

/// Right row and rows of three features; -1 stands for a value that is missing.
const REFERENCE: [(usize, [i8; 18]); 6] = [
    (1, [11, 14, 20, 10, 18, 15, 3, 4, 10, 9, 1, 10, 13, 6, 5, 12, 0, 5]),
    (2, [-1, 8, 0, -1, 9, 20, 11, 16, 15, 4, 8, 5, 20, 13, 10, -1, 8, 0]),
    (0, [13, 11, 5, 5, 8, 15, 5, 6, 15, -1, 12, 10, 6, 9, 5, -1, 10, 15]),
    (1, [10, 7, 20, 15, 14, 10, -1, 13, 0, -1, 7, 0, 1, 5, 0, -1, 14, 20]),
    (5, [-1, 10, 10, 1, 1, 15, 3, 2, 5, 11, 4, 5, 14, 11, 15, 5, 19, 20]),
    (4, [15, 10, 5, -1, 13, 0, 13, 7, 15, 4, 4, 5, -1, 19, 15, 11, 2, 5]),
];

/// Scores on `REFERENCE` after one tree of LightGBM 4.7.0 (objective lambdarank without `lambdarank_norm`,
/// `lambdarank_truncation_level` 100, `num_leaves` 4, `learning_rate` 0.5, `min_data_in_leaf` 2,
/// `min_sum_hessian_in_leaf` 0, `lambda_l2` 1, `min_data_in_bin` 1), and after three trees of NumPy, which tries
/// every split: LightGBM passes over the best split of a leaf of its second tree.
const SCORES: [(usize, [f32; 36]); 2] = [
    (
        1,
        [
            0.5883062, 0.5883062, -0.6216056, -0.6216056, -0.6216056, -0.6216056, -0.6216056, -0.6216056,
            0.5883062, -0.6216056, -0.2090919, -0.6216056, 0.5883062, -0.6216056, -0.6216056, -0.2090919,
            -0.6216056, -0.6216056, -0.6216056, 0.5883062, -0.2090919, -0.6216056, -0.6216056, 0.1447709,
            -0.6216056, -0.6216056, -0.6216056, -0.6216056, 0.5883062, 0.5883062, -0.6216056, -0.2090919,
            -0.6216056, -0.6216056, 0.1447709, -0.6216056,
        ],
    ),
    (
        3,
        [
            1.3016274, 1.3016274, -1.4074775, -1.4074775, -0.389352, -1.4074775, -1.4074775, -1.4074775,
            1.3016274, -1.4074775, -0.5240356, -1.4074775, 0.8205598, -1.4074775, -1.4074775, -0.9949638,
            -1.4074775, -1.4074775, -1.4074775, 1.3016274, -0.9949638, -1.4074775, -1.4074775, 0.8580921,
            -1.4074775, -1.4074775, -1.4074775, -1.4074775, 0.2733625, 1.3016274, -0.389352, -0.9949638,
            -0.9365493, -1.4074775, 0.8580921, -1.4074775,
        ],
    ),
];

#[test]
fn the_first_trees_are_those_of_lightgbm_and_of_trying_every_split() {
    let value = |&x: &i8| if x < 0 { f32::NAN } else { f32::from(x) };
    let list = |(user, (relevant, rows)): (u32, &(usize, [i8; 18]))| CandidateList {
        user,
        features: rows.iter().map(value).collect(),
        relevant: Some(*relevant),
    };
    let lists: Vec<CandidateList> = (0..).zip(&REFERENCE).map(list).collect();
    let options = GbdtOptions {
        learning_rate: 0.5,
        max_leaves: 4,
        max_depth: 32,
        min_leaf_candidates: 2,
        list_fraction: 1.0,
        feature_fraction: 1.0,
        ..GbdtOptions::default()
    };
    for (num_trees, expected) in SCORES {
        let (trees, _) = fit(&refs(&lists), 3, Rounds::Exactly(num_trees), &options, 1);
        let scores = lists.iter().flat_map(|list| trees.scores(&list.features));
        for (at, (found, expected)) in scores.zip(expected).enumerate() {
            assert!((found - expected).abs() < 1e-5, "{num_trees} trees, row {at}: {found} {expected}");
        }
    }
}
