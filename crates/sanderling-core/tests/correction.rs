//! The per-user correction: what it learns, what bounds it, and when there is none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use sanderling_core::correction::MAX_DEVIATIONS;
use sanderling_core::{Engine, Outcome};
use sanderling_types::{
    Correction, FeatureSpec, Pin, Request, Response, Rules, Sha256Hash, Source, read_json,
};
use support::{Behaviour, FakeRuntime, Fixture, request};

/// Column of the feature that users of these tests care for.
const PRICE_MATCH: usize = 6;
/// Column of one that is the same for all candidates.
const SESSION_LENGTH: usize = 8;

fn with(request: &Request, correction: &Correction) -> Request {
    Request { correction: Some(correction.clone()), ..request.clone() }
}

fn ids(response: &Response) -> Vec<&str> {
    response.recommendations.iter().map(|listed| listed.item_id.as_str()).collect()
}

/// A correction with the evidence of `errors` standard errors for one feature of a spread of 1.
fn evident(engine: &Engine, feature: usize, errors: f32) -> Correction {
    let features = engine.bundle().features();
    let mut correction = Correction::new(features.hash(), features.features.len());
    correction.num_updates = 50;
    correction.sums[3 * feature..][..3].copy_from_slice(&[errors, 1.0, 1.0]);
    correction
}

fn position_of(outcome: &Outcome, item_id: &str) -> Option<usize> {
    ids(&outcome.response).iter().position(|id| *id == item_id)
}

#[test]
fn without_a_correction_and_with_one_that_learned_nothing_lists_are_the_same_to_the_bit() {
    for fixture in [Fixture::new, Fixture::with_neighbours, Fixture::neighbours_alone, Fixture::popular_alone]
    {
        let engine = fixture().engine();
        let features = engine.bundle().features();
        let nothing = Correction::new(features.hash(), features.features.len());
        for rules in
            [Rules::default(), Rules { diversity: Some(0.5), exploration: Some(0.5), ..Rules::default() }]
        {
            let asked = Request { rules, seed: 3, ..request(&["beret", "boot"], 4) };
            let plain = engine.recommend(&asked);
            assert_eq!(plain, engine.recommend(&with(&asked, &nothing)));
            let bits = |outcome: &Outcome| -> Vec<u32> {
                outcome.response.recommendations.iter().map(|one| one.score.to_bits()).collect()
            };
            assert_eq!(bits(&plain), bits(&engine.recommend(&with(&asked, &nothing))));
        }
    }
}

#[test]
fn one_of_another_spec_or_with_wrong_numbers_changes_nothing_and_is_begun_anew() {
    let engine = Fixture::new().engine();
    let asked = request(&["beret", "boot"], 4);
    let plain = engine.recommend(&asked);
    let good = evident(&engine, PRICE_MATCH, 30.0);
    assert_ne!(plain.response, engine.recommend(&with(&asked, &good)).response, "it would matter");
    let with_sum = |sum: f32| Correction { sums: vec![sum; 30], ..good.clone() };
    for wrong in [
        Correction { feature_spec_sha256: Sha256Hash::of(b"another"), ..good.clone() },
        Correction { format_version: 2, ..good.clone() },
        Correction { num_updates: 201, ..good.clone() },
        Correction { sums: vec![1.0; 27], ..good.clone() },
        Correction { sums: Vec::new(), ..good.clone() },
        with_sum(f32::NAN),
        with_sum(f32::INFINITY),
    ] {
        assert_eq!(plain, engine.recommend(&with(&asked, &wrong)));
        let anew = engine.learn(Some(wrong), &plain, 2);
        assert_eq!(anew, engine.learn(None, &plain, 2));
        assert_eq!((anew.num_updates, anew.feature_spec_sha256), (1, FeatureSpec::standard().hash()));
    }
}

#[test]
fn a_chosen_item_rises_above_what_was_skipped_once_there_is_evidence() {
    let engine = Fixture::new().engine();
    let asked = request(&["beret", "boot"], 4);
    let plain = engine.recommend(&asked);
    let wanted = ids(&plain.response)[2].to_owned();
    let mut correction = None;
    let mut ranks = Vec::new();
    for _ in 0..30 {
        let asked = Request { correction: correction.clone(), ..asked.clone() };
        let outcome = engine.recommend(&asked);
        let at = position_of(&outcome, &wanted).unwrap();
        ranks.push(at);
        correction = Some(engine.learn(correction, &outcome, at as u32 + 1));
    }
    assert_eq!(ranks[..4], [2; 4], "a few choices are no evidence");
    assert!(ranks.is_sorted_by(|before, after| before >= after), "{ranks:?}");
    assert!(*ranks.last().unwrap() < 2, "{ranks:?}");
    // What is counted and shown as the ranker's score is the ranker's own.
    let outcome = engine.recommend(&Request { correction, ..asked });
    let score =
        |outcome: &Outcome| outcome.response.recommendations[position_of(outcome, &wanted).unwrap()].score;
    assert_eq!(score(&outcome), score(&plain));
}

#[test]
fn a_correction_is_bounded_by_the_spread_of_scores() {
    let engine = Fixture::new().engine();
    let asked = request(&["beret", "boot"], 4);
    let plain = engine.recommend(&asked);
    let scores: Vec<f32> = plain.response.recommendations.iter().map(|listed| listed.score).collect();
    for errors in [-1e30, -1e3, 1e3, 1e30, f32::MAX] {
        for feature in 0..10 {
            let correction = evident(&engine, feature, errors);
            let outcome = engine.recommend(&with(&asked, &correction));
            // What is further apart than twice the bound keeps its order.
            let apart = 2.0 * MAX_DEVIATIONS * plain.score_deviation * 1.001;
            let listed = &outcome.response.recommendations;
            for (at, one) in listed.iter().enumerate() {
                assert!(
                    listed[..at].iter().all(|above| one.score - above.score <= apart),
                    "{errors} {feature}"
                );
            }
            assert_eq!(listed.len(), scores.len());
        }
    }
}

#[test]
fn only_what_a_ranker_ordered_and_a_user_chose_teaches() {
    let asked = request(&["beret", "boot"], 4);
    let taught = |engine: &Engine, request: &Request, position| {
        let outcome = engine.recommend(request);
        engine.learn(None, &outcome, position).num_updates
    };
    let engine = Fixture::new().engine();
    assert_eq!((taught(&engine, &asked, 1), taught(&engine, &asked, 3)), (1, 1));
    assert_eq!(taught(&engine, &asked, 99), 0, "behind the list");
    assert_eq!(taught(&engine, &asked, 0), 0);
    assert_eq!(taught(&engine, &Request { session: Vec::new(), ..asked.clone() }, 2), 0, "a fallback list");
    assert_eq!(taught(&engine, &Request { limit: 1, ..asked.clone() }, 1), 0, "nothing else was there");
    let failing = Engine::new(
        Fixture::new().bundle(),
        &FakeRuntime { encoder: Behaviour::Copies, ranker: Behaviour::Fails },
    );
    assert_eq!(taught(&failing.unwrap(), &asked, 2), 0, "retrieval order");
    let ties = Engine::new(
        Fixture::new().bundle(),
        &FakeRuntime { encoder: Behaviour::Copies, ranker: Behaviour::Ties },
    );
    assert_eq!(taught(&ties.unwrap(), &asked, 2), 0, "scores without a spread");
}

#[test]
fn pinned_items_teach_nothing_and_explored_ones_do() {
    let engine = Fixture::new().engine();
    let pins = vec![Pin { item_id: "gift".into(), position: 1 }];
    let asked = Request { rules: Rules { pins, ..Rules::default() }, ..request(&["beret", "boot"], 4) };
    let outcome = engine.recommend(&asked);
    assert_eq!(outcome.response.recommendations[0].source, Source::Pinned);
    assert_eq!(engine.learn(None, &outcome, 1).num_updates, 0, "the site chose its place");
    // As if it were not there.
    let unpinned = engine.recommend(&Request {
        rules: Rules { exclude: vec!["gift".into()], ..Rules::default() },
        limit: 3,
        ..asked.clone()
    });
    let mut expected = unpinned.clone();
    expected.score_deviation = outcome.score_deviation;
    assert_eq!(engine.learn(None, &outcome, 3), engine.learn(None, &expected, 2));
    let rules = Rules { exploration: Some(1.0), ..Rules::default() };
    let explored = engine.recommend(&Request { rules, seed: 1, limit: 2, ..asked });
    assert!(explored.response.recommendations.iter().any(|one| one.source == Source::Exploration));
    assert_eq!(engine.learn(None, &explored, 2).num_updates, 1);
}

#[test]
fn an_old_taste_fades() {
    let engine = Fixture::new().engine();
    let outcome = engine.recommend(&request(&["beret", "boot"], 4));
    let mut correction = None;
    for _ in 0..2 * Correction::MAX_UPDATES {
        correction = Some(engine.learn(correction, &outcome, 3));
    }
    let liked = correction.unwrap();
    assert_eq!(liked.num_updates, Correction::MAX_UPDATES);
    let mut now = liked.clone();
    for _ in 0..Correction::MAX_UPDATES {
        now = engine.learn(Some(now), &outcome, 1);
    }
    // A feature that is the same for all candidates learns nothing more, and is forgotten by a 200th a list.
    let full = Correction { num_updates: Correction::MAX_UPDATES, ..evident(&engine, SESSION_LENGTH, 100.0) };
    let sum = |correction: &Correction| correction.sums[3 * SESSION_LENGTH];
    assert_eq!(sum(&engine.learn(Some(full.clone()), &outcome, 3)), 99.5);
    let young = Correction { num_updates: 199, ..full };
    assert_eq!(sum(&engine.learn(Some(young), &outcome, 3)), 100.0);
    let turned = |at: usize| liked.sums[3 * at] * now.sums[3 * at] < 0.0;
    assert!((0..10).any(turned), "{liked:?} {now:?}");
}

#[test]
fn json_has_all_of_it_and_nothing_else() {
    let engine = Fixture::new().engine();
    let correction = evident(&engine, 3, -0.1);
    let text = serde_json::to_string(&correction).unwrap();
    let read = |text: &str| -> sanderling_types::Result<Correction> {
        read_json(
            text.as_bytes(),
            sanderling_types::Code::InvalidArgument,
            "it",
            sanderling_types::FromJson::from_json,
        )
    };
    assert_eq!(read(&text).unwrap(), correction);
    assert!(read(&text.replace("num_updates", "updates")).is_err());
    let asked = format!(r#"{{"correction":{text}}}"#);
    assert_eq!(Request::decode(asked.as_bytes(), 0, 0).unwrap().correction, Some(correction));
    assert_eq!(Request::decode(br#"{"correction":null}"#, 0, 0).unwrap().correction, None);
}

fn any_number() -> impl Strategy<Value = f32> {
    prop_oneof![
        Just(0.0f32),
        -10.0f32..10.0,
        Just(f32::MIN_POSITIVE),
        Just(1e-45),
        Just(f32::MAX),
        Just(f32::MIN)
    ]
}

proptest! {
    #[test]
    fn no_sequence_of_outcomes_makes_it_unusable(
        lists in prop::collection::vec((prop::collection::vec(any_number(), 40), prop::collection::vec(any_number(), 4), any_number(), 0u32..6), 1..30),
    ) {
        let engine = Fixture::new().engine();
        let asked = request(&["beret", "boot"], 4);
        let shown = engine.recommend(&asked);
        let mut correction = None;
        for (features, scores, score_deviation, position) in lists {
            let mut outcome = Outcome { features, score_deviation, ..shown.clone() };
            for (listed, score) in outcome.response.recommendations.iter_mut().zip(scores) {
                listed.score = score;
            }
            let next = engine.learn(correction, &outcome, position);
            prop_assert!(next.fits(FeatureSpec::standard().hash(), 10));
            prop_assert!(next.sums.chunks_exact(3).all(|sums| sums[1] >= 0.0 && sums[2] >= 0.0));
            correction = Some(next);
        }
        let outcome = engine.recommend(&Request { correction, ..asked });
        prop_assert_eq!(outcome.response.recommendations.len(), shown.response.recommendations.len());
    }
}
