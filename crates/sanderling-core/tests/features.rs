//! The feature encoder: every kind on numbers worked out by hand, and always finite.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::approx_constant, reason = "expected values are worked out by hand")]

mod support;

use proptest::prelude::*;
use sanderling_core::{Candidate, FeatureEncoder, ItemBits, ItemTable, SessionItem, SessionView};
use sanderling_types::{Feature, FeatureKind, FeatureSpec, ItemIndex, Source};
use support::{DAY, DIM, NOW, packed_vocabulary, vectors};

/// Features go through logarithms of which the expected values are written with five digits.
const HAND_COMPUTED: f32 = 1e-5;

fn candidate(item: u32, score: f32) -> Candidate {
    Candidate { item: ItemIndex(item), score, neighbour_score: 0.0, source: Source::Retrieval }
}

fn session(items: &[u32]) -> SessionView {
    let items: Vec<SessionItem> =
        items.iter().map(|item| SessionItem { item: ItemIndex(*item), timestamp: NOW }).collect();
    SessionView::new(&items, 10)
}

fn encode(items: &[u32], candidates: &[Candidate], now: i64) -> Vec<f32> {
    let encoder = FeatureEncoder::new(&FeatureSpec::standard(), packed_vocabulary().into()).unwrap();
    let table = ItemTable::quantise(&vectors(), DIM, ItemBits::Eight).unwrap();
    encoder.encode(&session(items), candidates, &table, now)
}

fn assert_row(found: &[f32], expected: [f32; 10]) {
    let names = FeatureSpec::standard().features;
    assert_eq!(found.len(), expected.len());
    for ((found, expected), feature) in found.iter().zip(expected).zip(names) {
        assert!(
            (found - expected).abs() < HAND_COMPUTED,
            "{}: expected {expected}, found {found}",
            feature.name
        );
    }
}

#[test]
fn every_kind_matches_a_hand_computed_row() {
    // The session: beret (hats, price 10), then boot (shoes, price 10).
    let features = encode(&[3, 0], &[candidate(2, 1.5), candidate(0, -0.5)], NOW);
    // Weights of shoes 1 and hats 0.8, over 1.8; the pump is in both.
    let pump = [
        1.5,
        0.0,
        (1.0 + 0.8) / 1.8 / 2.0,
        0.5,
        0.65968,  // ln 21 / ln 101
        0.0,      // published tomorrow
        -1.38629, // |ln 40 - ln 10|
        0.0,
        1.09861, // ln 3
        0.25,
    ];
    assert_row(&features[..10], pump);
    let boot = [-0.5, 1.0, 1.0 / 1.8, 1.0, 1.0, 0.69315, 0.0, 1.0, 1.09861, 0.25];
    assert_row(&features[10..], boot);
}

#[test]
fn an_empty_session_and_unknown_facts_give_zeros() {
    let features = encode(&[], &[candidate(5, 0.0)], NOW);
    assert_row(&features, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25]);
}

#[test]
fn recency_counts_steps_since_the_last_occurrence() {
    let features = encode(&[1, 2, 1, 3], &[candidate(1, 0.0), candidate(2, 0.0), candidate(3, 0.0)], NOW);
    let recency: Vec<f32> = features.chunks(10).map(|row| row[7]).collect();
    assert_eq!(recency, [0.5, 1.0 / 3.0, 1.0]);
}

#[test]
fn the_hour_of_day_is_utc_also_before_1970() {
    let hour = |now| encode(&[], &[candidate(0, 0.0)], now)[9];
    assert_eq!(hour(-1), 23.0 / 24.0);
    assert_eq!(hour(0), 0.0);
    assert_eq!(hour(23 * 3600 + 3599), 23.0 / 24.0);
}

#[test]
fn decay_belongs_to_its_column() {
    let feature =
        |name: &str, decay| Feature { name: name.to_owned(), kind: FeatureKind::CategoryAffinity, decay };
    let spec = FeatureSpec { format_version: 1, features: vec![feature("flat", 1.0), feature("steep", 0.5)] };
    let encoder = FeatureEncoder::new(&spec, packed_vocabulary().into()).unwrap();
    let table = ItemTable::quantise(&vectors(), DIM, ItemBits::Eight).unwrap();
    // Two hats, then a shoe.
    let features = encoder.encode(&session(&[3, 4, 0]), &[candidate(1, 0.0)], &table, NOW);
    assert_eq!(features, [1.0 / 3.0, 1.0 / 1.75]);
}

proptest! {
    #[test]
    fn features_are_finite_and_in_their_ranges(
        items in prop::collection::vec(0u32..6, 0..12),
        scores in prop::collection::vec(prop_oneof![any::<f32>(), Just(f32::NAN), Just(f32::INFINITY)], 1..8),
        now in any::<i64>(),
    ) {
        let candidates: Vec<_> = scores.iter().zip(0..).map(|(score, at)| candidate(at % 6, *score)).collect();
        let features = encode(&items, &candidates, now);
        prop_assert_eq!(features.len(), candidates.len() * 10);
        for row in features.chunks(10) {
            prop_assert!(row.iter().all(|value| value.is_finite()));
            prop_assert!((-1.0..=1.0).contains(&row[1]));
            for column in [2, 3, 4, 7, 9] {
                prop_assert!((0.0..=1.0 + f32::EPSILON).contains(&row[column]), "column {}", column);
            }
            prop_assert!(row[5] >= 0.0 && row[6] <= 0.0);
        }
    }

    #[test]
    fn a_candidate_does_not_depend_on_its_neighbours(
        items in prop::collection::vec(0u32..6, 0..12),
        listed in prop::collection::vec((0u32..6, -2.0f32..2.0), 1..8),
    ) {
        let candidates: Vec<_> = listed.iter().map(|(item, score)| candidate(*item, *score)).collect();
        let together = encode(&items, &candidates, NOW - DAY);
        for (row, candidate) in together.chunks(10).zip(&candidates) {
            prop_assert_eq!(row, &encode(&items, &[*candidate], NOW - DAY)[..]);
        }
    }
}
