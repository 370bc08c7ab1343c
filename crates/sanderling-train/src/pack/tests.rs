//! Packing on a small world: a ring of popular items that everybody walks along, and rare ones.

use sanderling_types::{Interaction, TimeKind};

use super::*;
use crate::data::Dataset;
use crate::recipe::{ModelRecipe, Recipe};
use crate::sequence::{Shape, Weights};
use crate::split::SplitKind;
use crate::train::Lineage;

const RING: usize = 40;
const RARE: usize = 120;
const DIM: usize = 16;

fn dataset() -> Dataset {
    let interaction = |user: String, item: String, timestamp| Interaction {
        user_id: user.as_str().into(),
        item_id: item.as_str().into(),
        kind: "view".to_owned(),
        timestamp,
        value: None,
        split: None,
    };
    let walk = |user: usize| {
        (0..6)
            .map(move |at| interaction(format!("u{user}"), format!("ring{}", (user + at) % RING), at as i64))
    };
    // The last item but one validates.
    let rare = |at: usize| {
        [
            format!("rare{at}"),
            format!("ring{}", at % RING),
            format!("rare{}", (at + 1) % RARE),
            "ring0".to_owned(),
        ]
        .into_iter()
        .zip(0i64..)
        .map(move |(item, time)| interaction(format!("r{at}"), item, time))
    };
    Dataset {
        interactions: (0..80).flat_map(walk).chain((0..RARE).flat_map(rare)).collect(),
        items: Vec::new(),
        time: TimeKind::UnixSeconds,
    }
}

fn recipe(max_bundle_bytes: Option<u64>) -> Recipe {
    let model = ModelRecipe {
        dim: DIM,
        layers: 1,
        max_session_len: Some(8),
        max_epochs: Some(1),
        ..ModelRecipe::default()
    };
    Recipe { split: SplitKind::LeaveOneOut, max_bundle_bytes, model, ..Recipe::default() }
}

/// Weights as they begin, which rank by chance.
fn eight_bits() -> (Split, Weights, Draft) {
    use rand_chacha::rand_core::SeedableRng;
    let recipe = recipe(None);
    let split = crate::split::split(&dataset(), recipe.split).expect("divides");
    let shape = Shape { dim: DIM, layers: 1, heads: 2, hidden: 4 * DIM, max_len: 8 };
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    let weights = Weights::init(shape, split.vocabulary.len(), &mut rng);
    let draft = pack_weights(&split, &recipe, &Lineage::default(), &weights).expect("packs");
    (split, weights, draft)
}

fn kinds(draft: &Draft) -> Vec<PackingKind> {
    draft.facts.quantisation.steps.iter().map(|step| step.kind).collect()
}

#[test]
fn what_costs_least_is_taken_first_until_the_budget_is_met() {
    let (split, weights, start) = eight_bits();
    assert_eq!(kinds(&start), [PackingKind::Int8Items, PackingKind::Int8Encoder]);
    let all = bytes(&start);
    for budget in [all, all - 1, all - 600, all - 1000, all - 1500] {
        let mut draft = start.clone();
        fit_budget(&mut draft, &split, &weights.items, budget).expect("packs");
        assert!(bytes(&draft) <= budget, "{:?}", kinds(&draft));
        let quantisation = &draft.facts.quantisation;
        assert_eq!(quantisation.ndcg10_packed, quantisation.steps.last().expect("steps").ndcg10);
        assert_eq!(
            quantisation.ndcg10_packed,
            draft.ndcg10(&split).expect("runs"),
            "the figure is the engine's"
        );
        let saved: u64 = quantisation.steps[2..].iter().map(|step| step.saved_bytes).sum();
        assert_eq!(saved, (large_bytes(&start) - large_bytes(&draft)) as u64);
        if budget < all {
            let choices = [
                four_bits(&start, &split, &weights.items).expect("packs"),
                pruned(&start, &split, budget).expect("packs").expect("can be pruned"),
            ];
            let values = choices.map(|choice| choice.facts.quantisation.ndcg10_packed);
            assert_eq!(quantisation.steps[2].ndcg10, values[0].max(values[1]), "of {values:?}");
        } else {
            assert_eq!(quantisation.steps.len(), 2);
        }
    }
}

#[test]
fn pruning_states_what_left_and_counts_it_as_missed() {
    let (split, _, start) = eight_bits();
    let budget = bytes(&start) - 1200;
    let draft = pruned(&start, &split, budget).expect("packs").expect("can be pruned");
    let kept = draft.contents.vocabulary.len();
    let step = draft.facts.quantisation.steps.last().expect("a step");
    let left = step.pruned.expect("is stated");
    assert!((MIN_ITEMS..start.contents.vocabulary.len()).contains(&kept));
    assert_eq!(left.num_items as usize, start.contents.vocabulary.len() - kept);
    assert_eq!(
        draft.contents.vocabulary.item_ids,
        start.contents.vocabulary.item_ids[..kept],
        "the most popular stay"
    );
    let counts = &split.vocabulary.popularity;
    let share = f64::from(counts[kept..].iter().sum::<u32>()) / f64::from(counts.iter().sum::<u32>());
    assert!((left.interaction_share - share).abs() < 1e-6, "{left:?}");
    assert!(left.target_share > 0.0 && step.ndcg10 <= 1.0 - left.target_share, "{step:?}");
    // A dozen more would not have fitted.
    let mut more = start.clone();
    more.keep_first(kept + 12).expect("keeps");
    assert!(bytes(&draft) <= budget && budget < bytes(&more));
}

#[test]
fn a_budget_that_nothing_meets_is_an_error() {
    let refused =
        crate::train::train(&dataset(), &recipe(Some(2000)), &Lineage::default(), None, &mut |_| true);
    assert_eq!(refused.expect_err("too small").code(), Code::BudgetExceeded);
}

#[test]
fn a_pruned_bundle_is_measured_over_the_whole_catalogue() {
    let whole = crate::train::train(&dataset(), &recipe(None), &Lineage::default(), None, &mut |_| true);
    let whole = whole.expect("trains").manifest;
    let large: u64 = whole.bundle_bytes();
    let tight = recipe(Some(large - 1000));
    let trained =
        crate::train::train(&dataset(), &tight, &Lineage::default(), None, &mut |_| true).expect("fits");
    assert!(trained.manifest.bundle_bytes() <= large - 1000);
    let listed = f64::from(trained.manifest.shapes.num_items) / f64::from(whole.shapes.num_items);
    assert!(trained.evaluation.metrics["coverage@10"].value <= listed + 1e-6);
}
