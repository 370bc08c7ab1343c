//! Recommending: golden small cases, every fault, and what holds for any request.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use sanderling_core::{Bundle, Engine, Mask, SessionMemory, SessionView};
use sanderling_types::{
    Code, FaultCode, Filter, ItemId, ItemIndex, Pin, Reason, Request, Response, Rules, SessionInteraction,
    Source,
};
use support::{Behaviour, FakeRuntime, Fixture, request, session};

/// Bundles with every combination of retrievers.
const FIXTURES: [fn() -> Fixture; 4] =
    [Fixture::new, Fixture::with_neighbours, Fixture::neighbours_alone, Fixture::popular_alone];

const IDS: [&str; 8] = ["boot", "clog", "pump", "beret", "cap", "gift", "unknown", ""];

fn engine(encoder: Behaviour, ranker: Behaviour) -> Engine {
    Engine::new(Fixture::new().bundle(), &FakeRuntime { encoder, ranker }).unwrap()
}

fn ids(response: &Response) -> Vec<&str> {
    response.recommendations.iter().map(|recommendation| recommendation.item_id.as_str()).collect()
}

fn faults(response: &Response) -> Vec<FaultCode> {
    response.faults.iter().map(|fault| fault.code).collect()
}

#[test]
fn a_list_is_ordered_numbered_and_explained() {
    let outcome = Fixture::new().engine().recommend(&request(&["beret", "boot"], 3));
    let response = &outcome.response;
    // The fake encoder makes the last item the query: the clog points where the boot does; the
    // pump and the cap are at a right angle, so they keep the order of popularity.
    assert_eq!(ids(response), ["clog", "pump", "cap"]);
    assert_eq!(faults(response), []);
    let positions: Vec<u32> = response.recommendations.iter().map(|listed| listed.position).collect();
    assert_eq!(positions, [1, 2, 3]);
    let clog = &response.recommendations[0];
    assert_eq!((clog.source, clog.score), (Source::Retrieval, outcome.retrieval_scores[0]));
    assert!((clog.score - 2.0).abs() < 0.01);
    let [Reason::SimilarTo { item_id, similarity }, Reason::Category { category }] = &clog.reasons[..] else {
        panic!("{:?}", clog.reasons);
    };
    assert_eq!((item_id.as_str(), category.as_str()), ("boot", "shoes"));
    assert!((similarity - 0.970).abs() < 0.001);
    let cap = &response.recommendations[2];
    assert_eq!(cap.reasons.len(), 2, "similar to the beret, and a hat");
    assert_eq!(outcome.features.len(), 3 * 10);
    assert_eq!(outcome.features[0], outcome.retrieval_scores[0]);
}

fn pin(item_id: &str, position: u32) -> Pin {
    Pin { item_id: item_id.into(), position }
}

fn with_rules(request: Request, rules: Rules) -> Request {
    Request { rules, ..request }
}

#[test]
fn pinned_items_stand_where_they_are_put() {
    let engine = Fixture::new().engine();
    let listed = |items: &[&str], limit, rules| engine.recommend(&with_rules(request(items, limit), rules));
    let pins = |pins: &[Pin]| Rules { pins: pins.to_vec(), ..Rules::default() };
    // Without pins: clog, pump, cap.
    let outcome = listed(&["beret", "boot"], 3, pins(&[pin("gift", 2)]));
    assert_eq!(ids(&outcome.response), ["clog", "gift", "pump"]);
    let gift = &outcome.response.recommendations[1];
    assert_eq!((gift.position, gift.source, gift.score), (2, Source::Pinned, 0.0));
    assert_eq!(gift.reasons, [Reason::Pinned]);
    // What telemetry counts is the models' part of the list.
    assert_eq!((outcome.retrieval_scores.len(), outcome.features.len()), (2, 2 * 10));
    // Two at one place, one behind the end, one that was seen, one that would be listed anyway, one twice.
    let order = |pinned: &[Pin], limit| listed(&["beret", "boot"], limit, pins(pinned)).response;
    assert_eq!(ids(&order(&[pin("gift", 1), pin("pump", 1)], 3)), ["gift", "pump", "clog"]);
    assert_eq!(ids(&order(&[pin("gift", 99)], 3)), ["clog", "pump", "gift"]);
    assert_eq!(ids(&order(&[pin("boot", 0), pin("clog", 3), pin("boot", 2)], 3)), ["boot", "pump", "clog"]);
    assert_eq!(ids(&order(&[pin("gift", 1), pin("boot", 2), pin("beret", 3)], 2)), ["gift", "boot"]);
    assert_eq!(ids(&order(&[pin("gift", 1)], 0)), [""; 0]);
    // Not what the bundle does not know, nor what is excluded by name.
    let rules = Rules { exclude: vec!["gift".into()], ..pins(&[pin("gift", 1), pin("nothing", 1)]) };
    assert_eq!(ids(&listed(&["beret", "boot"], 3, rules).response), ["clog", "pump", "cap"]);
    // The fallback list has them, too.
    let fallback = listed(&[], 3, pins(&[pin("cap", 2)])).response;
    assert_eq!(ids(&fallback), ["boot", "cap", "clog"]);
}

#[test]
fn exploration_gives_places_to_chance_and_the_seed_decides() {
    let engine = Fixture::new().engine();
    let listed = |exploration, seed| {
        let rules = Rules { exploration, ..Rules::default() };
        engine.recommend(&Request { seed, ..with_rules(request(&["beret", "boot"], 2), rules) }).response
    };
    let plain = ids(&listed(None, 1)).join(" ");
    assert_eq!(plain, "clog pump");
    for none in [Some(0.0), Some(-1.0), Some(f32::NAN)] {
        assert_eq!(ids(&listed(none, 1)).join(" "), plain, "{none:?}");
    }
    let always = listed(Some(7.0), 3);
    let sources: Vec<Source> = always.recommendations.iter().map(|one| one.source).collect();
    assert_eq!(sources, [Source::Exploration; 2]);
    // Two of two, and then one of one.
    let propensities =
        |list: &Response| list.recommendations.iter().map(|one| one.propensity).collect::<Vec<_>>();
    assert_eq!(propensities(&always), [Some(0.5), Some(1.0)]);
    assert_eq!(propensities(&listed(None, 1)), [None, None]);
    assert_eq!(always, listed(Some(1.0), 3), "the same seed makes the same list");
    // Cap and gift are what is not listed: each place goes to one of them in a tenth of the lists.
    let lists: Vec<Response> = (0..4000).map(|seed| listed(Some(0.1), seed)).collect();
    let at = |place: usize| {
        let explored = |list: &&Response| list.recommendations[place].source == Source::Exploration;
        lists.iter().filter(explored).count()
    };
    for place in 0..2 {
        assert!((320..480).contains(&at(place)), "{} of 4000 at {place}", at(place));
    }
    let gifts = lists.iter().filter(|list| ids(list).contains(&"gift")).count();
    assert!((300..500).contains(&gifts), "half of about 800: {gifts}");
    for list in &lists {
        for one in list.recommendations.iter().filter(|one| one.source == Source::Retrieval) {
            assert!((one.propensity.unwrap() - 0.9).abs() < 1e-6, "{list:?}");
        }
        assert!(ids(list)[0] != ids(list)[1], "{list:?}");
    }
}

#[test]
fn what_would_end_after_the_deadline_is_left_out() {
    let engine = Fixture::new().engine();
    let asked = |deadline_ms| Request { deadline_ms, ..request(&["beret", "boot"], 3) };
    let plain = engine.recommend(&asked(None));
    // A clock that goes on by 4 ms at every look.
    let recommend = |deadline_ms, memory: &mut SessionMemory| {
        let clock = std::cell::Cell::new(0.0);
        let elapsed = || clock.replace(clock.get() + 4.0);
        engine.recommend_timed(&asked(Some(deadline_ms)), memory, &elapsed)
    };
    let memory = &mut SessionMemory::default();
    assert_eq!(recommend(1000.0, memory), plain, "nothing is known of the steps, and all end in time");
    // Looked at: at the start (0), before (4) and after (8) retrieval, and before the ranker (12).
    let late = recommend(12.0, &mut SessionMemory::default());
    assert_eq!(faults(&late.response), [FaultCode::DeadlineExceeded]);
    assert!(late.response.faults[0].detail.starts_with("the ranker was left out: 12.0 of 12.0 ms"));
    let own: Vec<f32> = late.response.recommendations.iter().map(|one| one.score).collect();
    assert_eq!(own, late.retrieval_scores, "retrieval order");
    assert_eq!(late.response.recommendations.len(), 3);
    // Retrieval is known to take 4 ms by now: it would end at 4, after the deadline.
    let fallback = recommend(3.0, memory);
    assert_eq!(faults(&fallback.response), [FaultCode::DeadlineExceeded]);
    assert!(fallback.response.faults[0].detail.starts_with("retrieval was left out"));
    assert!(fallback.response.recommendations.iter().all(|one| one.source == Source::Fallback));
    // A request without a deadline measures nothing, and forgets nothing.
    let known = &mut SessionMemory::default();
    let _ = recommend(1000.0, known);
    let _ = engine.recommend_remembering(&asked(None), known);
    known.forget_session();
    assert_eq!(recommend(3.0, known).response, fallback.response);
    assert_eq!(recommend(-5.0, memory).response.recommendations, fallback.response.recommendations);
    assert_eq!(engine.recommend(&asked(Some(0.0))).response.recommendations.len(), 3, "without a clock");
}

#[test]
fn neighbours_alone_are_a_recommender() {
    let engine = Fixture::neighbours_alone().engine();
    // The boot speaks for the cap and the gift, one step before it the beret for the gift: 1 and
    // 0.25 + 2 / 2. The pump is spoken against; nobody speaks for the clog.
    let outcome = engine.recommend(&request(&["beret", "boot"], 4));
    let response = &outcome.response;
    assert_eq!(ids(response), ["gift", "cap", "clog", "pump"]);
    assert_eq!(faults(response), []);
    let sources: Vec<Source> = response.recommendations.iter().map(|listed| listed.source).collect();
    assert_eq!(sources, [Source::Neighbours, Source::Neighbours, Source::Fallback, Source::Neighbours]);
    for (score, expected) in outcome.retrieval_scores.iter().zip([1.25, 1.0, 0.0, -0.5]) {
        assert!((score - expected).abs() < 0.01, "{:?}", outcome.retrieval_scores);
    }
    let Reason::ChosenWith { item_id, weight } = &response.recommendations[0].reasons[0] else {
        panic!("{:?}", response.recommendations[0].reasons);
    };
    assert_eq!(item_id.as_str(), "beret", "it adds 1, the boot 0.25");
    assert!((weight - 1.0).abs() < 0.01);
    assert!(
        !response.recommendations[3].reasons.iter().any(|reason| matches!(reason, Reason::ChosenWith { .. }))
    );
    assert_eq!(outcome.features.len(), 4 * 9);
    assert_eq!(engine.encode(&[ItemIndex(0)]).unwrap_err().code(), Code::InvalidArgument);
    let similar = engine.similar(&ItemId::from("beret"), 3).unwrap();
    assert_eq!(similar.len(), 1, "the pump is spoken against");
    assert!(
        matches!(&similar[0].reasons[..], [Reason::ChosenWith { .. }])
            && similar[0].item_id.as_str() == "gift"
    );
    let empty = engine.recommend(&request(&[], 3));
    assert_eq!(faults(&empty.response), [FaultCode::EmptySession]);
}

#[test]
fn neighbours_beside_an_encoder_take_turns_with_the_scan() {
    let engine = Fixture::with_neighbours().engine();
    let (view, _) = SessionView::resolve(&session(&["beret", "boot"]), engine.bundle());
    let mut mask = Mask::all(6);
    mask.drop_item(ItemIndex(0));
    mask.drop_item(ItemIndex(3));
    // By the query, which is the boot: clog 2, pump, cap and gift -1. By neighbours: gift, cap.
    let candidates = engine.candidates(&view, &mask, &mut SessionMemory::default()).unwrap();
    let found: Vec<_> = candidates.iter().map(|candidate| (candidate.item.0, candidate.source)).collect();
    let expected =
        [(1, Source::Retrieval), (2, Source::Retrieval), (4, Source::Neighbours), (5, Source::Neighbours)];
    assert_eq!(found, expected);
    for candidate in &candidates {
        let dot = engine.bundle().items().dot(&engine.encode(&view.item_indices()).unwrap(), candidate.item);
        assert_eq!(candidate.score, dot, "every candidate has both scores");
    }
    let near: Vec<f32> = candidates.iter().map(|candidate| candidate.neighbour_score).collect();
    assert!(near[0] == 0.0 && near[1] < 0.0 && near[2] > 0.9 && near[3] > 1.2, "{near:?}");
    let outcome = engine.recommend(&request(&["beret", "boot"], 4));
    assert_eq!(outcome.features.len(), 4 * 12);
    let sum: f32 = near.iter().map(|near| near.max(0.0)).sum();
    let exp: f32 = candidates.iter().map(|candidate| candidate.score.exp()).sum();
    for (row, (candidate, near)) in outcome.features.chunks_exact(12).zip(candidates.iter().zip(&near)) {
        let expected = [(candidate.score.exp() / exp).ln(), (near.max(0.0) / sum + 1e-3).ln()];
        assert!(row[10..].iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-5));
    }
    let gift = outcome.response.recommendations.last().unwrap();
    assert_eq!((gift.item_id.as_str(), gift.source), ("gift", Source::Neighbours));
    assert!(matches!(&gift.reasons[0], Reason::ChosenWith { item_id, .. } if item_id.as_str() == "beret"));
}

#[test]
fn a_turn_each_leaves_no_more_than_max_candidates() {
    let mut fixture = Fixture::with_neighbours();
    fixture.manifest.limits.max_candidates = 3;
    let engine = fixture.engine();
    let (view, _) = SessionView::resolve(&session(&["beret", "boot"]), engine.bundle());
    let candidates = engine.candidates(&view, &Mask::all(6), &mut SessionMemory::default()).unwrap();
    let items: Vec<u32> = candidates.iter().map(|candidate| candidate.item.0).collect();
    // Scan: clog, boot, pump. Neighbours: gift, cap.
    assert_eq!(items, [1, 0, 5]);
}

#[test]
fn a_bundle_that_retrieves_nothing_lists_its_fallback() {
    let engine = Fixture::popular_alone().engine();
    let outcome = engine.recommend(&request(&["boot"], 3));
    assert_eq!(ids(&outcome.response), ["clog", "pump", "beret"]);
    assert_eq!(faults(&outcome.response), [], "nothing went wrong");
    let (view, _) = SessionView::resolve(&session(&["boot"]), engine.bundle());
    assert_eq!(
        engine.candidates(&view, &Mask::all(6), &mut SessionMemory::default()).unwrap_err().code(),
        Code::InvalidArgument
    );
    assert!(engine.similar(&ItemId::from("boot"), 3).unwrap().is_empty());
}

#[test]
fn without_a_usable_session_the_popular_items_are_served() {
    let engine = Fixture::new().engine();
    let empty = engine.recommend(&request(&[], 3));
    assert_eq!(ids(&empty.response), ["boot", "clog", "pump"]);
    assert_eq!(faults(&empty.response), [FaultCode::EmptySession]);
    for listed in &empty.response.recommendations {
        assert_eq!((listed.source, listed.score), (Source::Fallback, 0.0));
        assert_eq!(listed.reasons, [Reason::Popular]);
    }
    assert!(empty.features.is_empty());
    let unknown = engine.recommend(&request(&["unknown"], 3));
    assert_eq!(faults(&unknown.response), [FaultCode::UnknownItems, FaultCode::EmptySession]);
    let rules = Rules { exclude: vec![ItemId::from("boot")], category_cap: Some(1), ..Rules::default() };
    let ruled = engine.recommend(&Request { rules, ..request(&[], 3) });
    assert_eq!(ids(&ruled.response), ["clog", "beret", "gift"], "the policy holds for the fallback too");
}

#[test]
fn unknown_items_of_a_session_are_left_out_and_counted() {
    let engine = Fixture::new().engine();
    let known = engine.recommend(&request(&["beret", "boot"], 3));
    let mixed = engine.recommend(&request(&["beret", "unknown", "boot"], 3));
    assert_eq!(mixed.response.recommendations, known.response.recommendations);
    assert_eq!(mixed.response.faults[0].detail, "1 of 3 session items are not in this bundle");
}

#[test]
fn an_item_older_than_what_the_encoder_reads_is_not_recommended_again() {
    let engine = Fixture::new().engine();
    // The boot was seen sixty steps ago; the encoder reads three.
    let mut seen = vec!["boot"];
    seen.extend(["beret", "pump"].repeat(30));
    let listed = engine.recommend(&request(&seen, 4)).response;
    assert_eq!(ids(&listed), ["clog", "cap", "gift"]);
    assert_eq!(faults(&listed), [FaultCode::TooFewItems]);
    let rules = Rules { exclude_seen: Some(false), ..Rules::default() };
    let listed = engine.recommend(&Request { rules, ..request(&seen, 4) }).response;
    assert!(ids(&listed).contains(&"boot"), "{listed:?}");
}

#[test]
fn an_encoder_that_cannot_run_the_longest_session_is_refused() {
    let runtime = FakeRuntime { encoder: Behaviour::FailsOnLong, ..FakeRuntime::default() };
    let error = Engine::new(Fixture::new().bundle(), &runtime).unwrap_err();
    assert_eq!(error.code(), Code::ModelInvalid);
    let mut fixture = Fixture::new();
    fixture.manifest.limits.max_session_len = 2;
    assert!(Engine::new(fixture.bundle(), &runtime).is_ok());
}

#[test]
fn a_broken_encoder_gives_the_fallback_and_a_broken_ranker_retrieval_order() {
    for broken in [Behaviour::Fails, Behaviour::GivesNan, Behaviour::GivesTooFew] {
        let outcome = engine(broken, Behaviour::Copies).recommend(&request(&["boot"], 3));
        assert_eq!(faults(&outcome.response), [FaultCode::EncoderFailed], "{broken:?}");
        assert_eq!(ids(&outcome.response), ["clog", "pump", "beret"]);
        let outcome = engine(Behaviour::Copies, broken).recommend(&request(&["boot"], 3));
        assert_eq!(faults(&outcome.response), [FaultCode::RankerFailed], "{broken:?}");
        assert_eq!(ids(&outcome.response), ["clog", "pump", "beret"]);
        assert!(outcome.response.recommendations.iter().all(|listed| listed.source == Source::Retrieval));
    }
}

#[test]
fn equal_ranker_scores_keep_retrieval_order() {
    let outcome = engine(Behaviour::Copies, Behaviour::Ties).recommend(&request(&["cap"], 4));
    assert_eq!(ids(&outcome.response), ["beret", "boot", "clog", "pump"]);
}

#[test]
fn limits_are_clamped_and_counted() {
    let engine = Fixture::new().engine();
    let outcome = engine.recommend(&request(&["boot"], 1_000_000));
    assert_eq!(outcome.response.recommendations.len(), 4);
    assert_eq!(faults(&outcome.response), [FaultCode::LimitLowered]);
    let outcome = engine.recommend(&request(&["boot"], 0));
    assert_eq!(outcome.response, Response::default());
    let rules = Rules { filter: Filter { min_price: Some(30.0), ..Filter::default() }, ..Rules::default() };
    let outcome = engine.recommend(&Request { rules, ..request(&["boot"], 3) });
    assert_eq!(ids(&outcome.response), ["pump"]);
    assert_eq!(faults(&outcome.response), [FaultCode::TooFewItems]);
}

#[test]
fn ranking_is_a_permutation_of_the_retrieved_candidates() {
    let engine = Fixture::new().engine();
    let (view, _) = SessionView::resolve(&session(&["pump", "cap"]), engine.bundle());
    let mask = Mask::all(6);
    let ranking = engine.order(&view, &mask, support::NOW, &mut SessionMemory::default()).unwrap();
    let query = engine.encode(&view.item_indices()).unwrap();
    let mut retrieved = engine.retrieve(&query, 5, &mask);
    let mut ranked = ranking.candidates.clone();
    retrieved.sort_by_key(|candidate| candidate.item);
    ranked.sort_by_key(|candidate| candidate.item);
    assert_eq!(ranked, retrieved);
    assert!(ranking.scores.is_sorted_by(|a, b| a >= b));
    let again =
        engine.feature_encoder().encode(&view, &ranking.candidates, engine.bundle().items(), support::NOW);
    assert_eq!(ranking.features, again);
}

#[test]
fn encode_reads_the_last_items_and_refuses_bad_rows() {
    let engine = Fixture::new().engine();
    let query = engine.encode(&[5, 5, 5, 5, 5, 0].map(ItemIndex)).unwrap();
    let mut newest = [0.0; 4];
    engine.bundle().items().row_into(ItemIndex(0), &mut newest);
    assert_eq!(query, newest);
    assert_eq!(engine.encode(&[]).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(engine.encode(&[ItemIndex(6)]).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(engine.rank(&[0.0; 9], 1).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(engine.rank(&[], usize::MAX).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(engine.rank(&[], 0).unwrap(), [0.0; 0]);
    assert_eq!(engine.retrieve(&[1.0], 3, &Mask::all(6)), []);
}

#[test]
fn similar_items_are_ordered_by_cosine_and_leave_out_the_item() {
    let engine = Fixture::new().engine();
    let similar = engine.similar(&ItemId::from("boot"), 100).unwrap();
    let listed: Vec<_> = similar.iter().map(|listed| listed.item_id.as_str()).collect();
    assert_eq!(listed, ["clog", "pump", "beret", "cap"]);
    assert!(
        matches!(&similar[0].reasons[..], [Reason::SimilarTo { item_id, .. }] if item_id.as_str() == "boot")
    );
    assert_eq!(engine.similar(&ItemId::from("unknown"), 3).unwrap_err().code(), Code::UnknownItem);
    assert!(engine.similar(&ItemId::from("boot"), 0).unwrap().is_empty());
}

fn requests() -> impl Strategy<Value = Request> {
    let ids = || prop::collection::vec(prop::sample::select(&IDS[..]), 0..6);
    let behaviour = (ids(), ids(), any::<i64>(), 0u32..8, prop::option::of(0u32..3), any::<Option<bool>>());
    behaviour.prop_map(|(seen, excluded, now, limit, category_cap, exclude_seen)| {
        let interaction = |id: &&str| SessionInteraction {
            item_id: ItemId::from(*id),
            kind: "view".to_owned(),
            timestamp: now.wrapping_sub(5),
        };
        let exclude = excluded.into_iter().map(ItemId::from).collect();
        let rules = Rules { exclude, exclude_seen, category_cap, ..Rules::default() };
        Request { session: seen.iter().map(interaction).collect(), rules, limit, now, ..Request::default() }
    })
}

fn behaviours() -> impl Strategy<Value = Behaviour> {
    prop::sample::select(
        &[Behaviour::Copies, Behaviour::Fails, Behaviour::GivesNan, Behaviour::GivesTooFew, Behaviour::Ties]
            [..],
    )
}

proptest! {
    #[test]
    fn any_request_is_answered_within_its_rules(
        request in requests(),
        encoder in behaviours(),
        ranker in behaviours(),
        fixture in prop::sample::select(&FIXTURES[..]),
    ) {
        let engine = Engine::new(fixture().bundle(), &FakeRuntime { encoder, ranker }).unwrap();
        let outcome = engine.recommend(&request);
        prop_assert_eq!(&engine.recommend(&request), &outcome, "the same request gives the same outcome");
        let listed = ids(&outcome.response);
        prop_assert!(listed.len() <= request.limit.min(4) as usize);
        let distinct: std::collections::BTreeSet<_> = listed.iter().collect();
        prop_assert_eq!(distinct.len(), listed.len());
        for id in &listed {
            prop_assert!(!request.rules.exclude.iter().any(|excluded| excluded.as_str() == *id));
        }
        let positions: Vec<u32> = outcome.response.recommendations.iter().map(|listed| listed.position).collect();
        prop_assert_eq!(positions, (1..=listed.len() as u32).collect::<Vec<_>>());
        prop_assert!(outcome.response.recommendations.iter().all(|listed| listed.score.is_finite()));
        let fields = &engine.bundle().baseline().fields;
        for observed in &outcome.observations {
            prop_assert!(observed.bin < fields[observed.field].bins.num_bins());
        }
    }
}

#[test]
fn a_bundle_without_telemetry_fields_recommends() {
    let mut fixture = Fixture::new();
    fixture.baseline = br#"{"format_version":1,"fields":[]}"#.to_vec();
    let bundle = Bundle::open(fixture.files(), None).unwrap();
    let outcome = Engine::new(bundle, &FakeRuntime::default()).unwrap().recommend(&request(&["boot"], 2));
    assert_eq!(ids(&outcome.response), ["clog", "pump"]);
    assert!(outcome.observations.is_empty());
}
