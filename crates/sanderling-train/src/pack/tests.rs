//! Packing on a small world: a ring of popular items that everybody walks along, and rare ones.

use sanderling_core::Combination;
use sanderling_types::{Interaction, TimeKind};

use super::*;
use crate::bundle::assemble;
use crate::catalogue::Catalogue;
use crate::data::Dataset;
use crate::recipe::ModelRecipe;
use crate::recommenders::Vectors;
use crate::sequence::{Shape, Weights};
use crate::split::SplitKind;
use crate::train::{Lineage, Trained, train};

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
    let interactions = (0..80).flat_map(walk).chain((0..RARE).flat_map(rare));
    Dataset::new(interactions, Vec::new(), TimeKind::UnixSeconds).expect("fits")
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
fn model(split: &Split) -> Model {
    use rand_chacha::rand_core::SeedableRng;
    let catalogue = Catalogue::new(&dataset(), split, &recipe(None));
    let shape = Shape { dim: DIM, layers: 1, heads: 2, hidden: 4 * DIM, max_len: 8 };
    let mut rng = rand_chacha::ChaCha20Rng::seed_from_u64(1);
    let weights = Weights::init(shape, split.vocabulary.len(), 0, false, &mut rng);
    Model::of_sequence(&weights, split, &catalogue).expect("packs")
}

/// From every item to the next one of the vocabulary and to one far from it.
fn neighbours(num_items: usize) -> NeighbourTable {
    let n = num_items as u32;
    let rows: Vec<Vec<(u32, f32)>> =
        (0..n).map(|item| vec![((item + 1) % n, 1.0), ((item + n / 2) % n, 0.5)]).collect();
    NeighbourTable::quantise(&rows, Combination { max_sources: 4, decay: 0.5 }).expect("packs")
}

fn rounded(split: &Split, model: &Model) -> Packer {
    pack(split, &recipe(None), &Lineage::default(), model).expect("packs")
}

fn world() -> (Split, Model, Packer) {
    let split = crate::split::split(&dataset(), SplitKind::LeaveOneOut).expect("divides");
    let model = model(&split);
    let packer = rounded(&split, &model);
    (split, model, packer)
}

fn trained(recipe: &Recipe) -> Result<Trained> {
    train(&dataset(), recipe, &Lineage::default(), None, &mut |_| true)
}

fn kinds(packer: &Packer) -> Vec<PackingKind> {
    packer.facts.quantisation.steps.iter().map(|step| step.kind).collect()
}

#[test]
fn what_costs_least_is_taken_until_the_budget_is_met() {
    let (split, model, start) = world();
    assert_eq!(kinds(&start), [PackingKind::Int9Items, PackingKind::RoundedEncoder]);
    let all = start.estimated_bytes().expect("fits");
    for budget in [all, all - 1, all - 600, all - 1000, all - 1500] {
        let mut packer = start.clone();
        fit_budget(&mut packer, &split, &model, budget).expect("packs");
        assert!(packer.estimated_bytes().expect("fits") <= budget, "{:?}", kinds(&packer));
        let quantisation = &packer.facts.quantisation;
        assert_eq!(quantisation.ndcg10_packed, quantisation.steps.last().expect("steps").ndcg10);
        assert_eq!(quantisation.ndcg10_packed, packer.ndcg10(&split).expect("runs"), "of the engine");
        let saved: u64 = quantisation.steps[2..].iter().map(|step| step.saved_bytes).sum();
        assert_eq!(saved, start.large_bytes() - packer.large_bytes());
        if budget < all {
            assert_eq!(quantisation.steps[2].kind, PackingKind::Int8Items, "the ninth bit goes first");
            let start = eight_bits(&start, &split, &model).expect("packs").expect("has vectors");
            if start.estimated_bytes().expect("fits") <= budget {
                assert_eq!(quantisation.steps.len(), 3);
                continue;
            }
            let four_bits = four_bits(&start, &split, &model).expect("packs").expect("has vectors");
            let pruned = pruned(&start, &split, budget).expect("packs").expect("can be pruned");
            let [four, pruned] = [&four_bits, &pruned].map(|packer| packer.facts.quantisation.ndcg10_packed);
            let spared = loses_little(&start, &four_bits, &split).expect("runs");
            let expected = if spared { four } else { four.max(pruned) };
            assert_eq!(quantisation.steps[3].ndcg10, expected, "{four}, {pruned}");
        } else {
            assert_eq!(quantisation.steps.len(), 2);
        }
    }
}

#[test]
fn four_bits_without_a_loss_that_shows_spare_the_catalogue() {
    let (split, model, by_chance) = world();
    // Vectors of zeros rank by popularity, which is better than by chance.
    let zeros = |vectors: Vectors| Vectors { rows: vec![0.0; vectors.rows.len()], ..vectors };
    let zeros = Model { vectors: model.vectors.clone().map(zeros), ..model.clone() };
    let by_popularity = rounded(&split, &zeros);
    let cases = [(by_chance, &model, PackingKind::Int4Items), (by_popularity, &zeros, PackingKind::Prune)];
    for (start, of, expected) in cases {
        let start = eight_bits(&start, &split, of).expect("packs").expect("has vectors");
        let budget = start.estimated_bytes().expect("fits") - 2000;
        let four_bits = four_bits(&start, &split, &model).expect("packs").expect("has vectors");
        let pruned = pruned(&start, &split, budget).expect("packs").expect("can be pruned");
        let values = [&start, &four_bits, &pruned].map(|packer| packer.facts.quantisation.ndcg10_packed);
        assert!(values[2] > values[1], "pruning is better here: {values:?}");
        let mut packer = start;
        fit_budget(&mut packer, &split, &model, budget).expect("packs");
        assert_eq!(kinds(&packer)[3], expected, "{values:?}");
    }
}

#[test]
fn pruning_states_what_left_and_counts_it_as_missed() {
    let (split, _, start) = world();
    let budget = start.estimated_bytes().expect("fits") - 1200;
    let packer = pruned(&start, &split, budget).expect("packs").expect("can be pruned");
    let kept = packer.contents.vocabulary.len();
    let step = packer.facts.quantisation.steps.last().expect("a step");
    let left = step.pruned.expect("is stated");
    assert!((MIN_ITEMS..start.contents.vocabulary.len()).contains(&kept));
    assert_eq!(left.num_items as usize, start.contents.vocabulary.len() - kept);
    let ids = &start.contents.vocabulary.item_ids;
    assert_eq!(packer.contents.vocabulary.item_ids, ids[..kept], "the most popular stay");
    let counts = &split.vocabulary.popularity;
    let share = f64::from(counts[kept..].iter().sum::<u32>()) / f64::from(counts.iter().sum::<u32>());
    assert!((left.interaction_share - share).abs() < 1e-6, "{left:?}");
    assert!(left.target_share > 0.0 && step.ndcg10 <= 1.0 - left.target_share, "{step:?}");
    // Not many more would have fitted.
    let mut more = start.clone();
    more.keep_first(kept + 4).expect("keeps");
    assert!(
        packer.estimated_bytes().expect("fits") <= budget
            && budget < more.estimated_bytes().expect("fits") + STEP_BYTES
    );
}

#[test]
fn neighbours_are_packed_and_pruned_alone_and_beside_an_encoder() {
    let (split, encoder, _) = world();
    let table = Some(neighbours(split.vocabulary.len()));
    let beside = Model { neighbours: table.clone(), ..encoder };
    let alone = Model { neighbours: table, max_session_len: 8, ..Model::default() };
    let expected = [
        vec![PackingKind::Int9Items, PackingKind::RoundedEncoder, PackingKind::Int8Neighbours],
        vec![PackingKind::Int8Neighbours],
    ];
    for (model, expected) in [beside, alone].iter().zip(expected) {
        let start = rounded(&split, model);
        assert_eq!(kinds(&start), expected);
        let budget = start.estimated_bytes().expect("fits") - 3000;
        let mut packer = start.clone();
        fit_budget(&mut packer, &split, model, budget).expect("packs");
        assert!(packer.estimated_bytes().expect("fits") <= budget, "{:?}", kinds(&packer));
        let taken = &kinds(&packer)[expected.len()..];
        assert!(taken.contains(&PackingKind::Prune) && taken.len() <= 3, "{taken:?}");
        let engine = packer.engine().expect("opens");
        let rows = engine.bundle().neighbours().map(NeighbourTable::len);
        assert_eq!(rows, Some(packer.contents.vocabulary.len()));
        assert_eq!(packer.facts.quantisation.ndcg10_packed, packer.ndcg10(&split).expect("runs"));
    }
}

#[test]
fn only_what_rounding_loses_is_a_defect() {
    let (split, _, mut packer) = world();
    packer.facts.quantisation.ndcg10_f32 = 1.0;
    let mut step = |at: usize, ndcg10| packer.facts.quantisation.steps[at].ndcg10 = ndcg10;
    step(0, 0.2);
    step(1, 0.95);
    let pruned = PackingStep { kind: PackingKind::Prune, ..packer.facts.quantisation.steps[1] };
    packer.facts.quantisation.steps.push(PackingStep { ndcg10: 0.1, ..pruned });
    packer.facts.quantisation.ndcg10_packed = 0.1;
    check(&packer, &split).expect("a budget may cost anything");
    packer.facts.quantisation.steps[1].ndcg10 = 0.5;
    assert_eq!(check(&packer, &split).expect_err("is refused").code(), Code::TrainingFailed);
}

#[test]
fn a_bundle_whose_reports_would_not_fit_is_not_made() {
    let (_, _, mut packer) = world();
    assert!(assemble(&packer.contents, &packer.facts).is_ok());
    packer.facts.telemetry.fields_per_report = 15;
    assert_eq!(assemble(&packer.contents, &packer.facts).expect_err("too long").code(), Code::ReportTooLarge);
}

#[test]
fn a_budget_that_nothing_meets_is_an_error() {
    assert_eq!(trained(&recipe(Some(2000))).expect_err("too small").code(), Code::BudgetExceeded);
}

#[test]
fn a_pruned_bundle_is_measured_over_the_whole_catalogue() {
    let whole = trained(&recipe(None)).expect("trains").manifest;
    let tight = trained(&recipe(Some(whole.bundle_bytes() - 1000))).expect("fits");
    assert!(tight.manifest.bundle_bytes() <= whole.bundle_bytes() - 1000);
    let listed = f64::from(tight.manifest.shapes.num_items) / f64::from(whole.shapes.num_items);
    assert!(tight.evaluation.metrics["coverage@10"].value <= listed + 1e-6);
}
