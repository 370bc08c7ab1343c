//! Fallback lists of segments: whose list comes first, what the rules do to it, and which files are refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use sanderling_core::{Bundle, Engine, Outcome};
use sanderling_types::{
    Code, Context, FileRole, Filter, ItemId, Pin, Reason, Request, Rules, Segment, Segments, Source,
};
use support::{Behaviour, FakeRuntime, Fixture, session};

/// The cap and the gift for Sweden, the pump for phones.
fn segments() -> Segments {
    let segment = |key: &str, value: &str, items: &[u32]| Segment {
        items: items.to_vec(),
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let segments = vec![segment("country", "se", &[4, 5]), segment("device_class", "phone", &[2])];
    Segments { segments, ..Segments::default() }
}

fn with_segments(fixture: Fixture) -> Fixture {
    Fixture { segments: Some(segments().encode()), ..fixture }
}

fn context(facts: &[(&str, &str)]) -> Context {
    facts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn swedish(rules: Rules) -> Request {
    Request { context: context(&[("country", "se")]), rules, limit: 4, ..Request::default() }
}

fn ids(outcome: &Outcome) -> Vec<&str> {
    outcome.response.recommendations.iter().map(|one| one.item_id.as_str()).collect()
}

fn listed(request: &Request) -> Vec<String> {
    let outcome = with_segments(Fixture::new()).engine().recommend(request);
    ids(&outcome).into_iter().map(str::to_owned).collect()
}

#[test]
fn the_list_of_the_segment_comes_first_and_the_global_list_fills_up() {
    let list =
        |facts: &[(&str, &str)]| listed(&Request { context: context(facts), limit: 4, ..Request::default() });
    let global = ["boot", "clog", "pump", "beret"];
    assert_eq!(list(&[("country", "se")]), ["cap", "gift", "boot", "clog"]);
    assert_eq!(list(&[("device_class", "phone")]), ["pump", "boot", "clog", "beret"], "and nothing twice");
    assert_eq!(list(&[("device_class", "phone"), ("country", "se")]), ["cap", "gift", "boot", "clog"]);
    assert_eq!(list(&[("device_class", "phone"), ("country", "no")]), ["pump", "boot", "clog", "beret"]);
    for nobody in [&[][..], &[("country", "no")], &[("country", "phone")], &[("region", "se")]] {
        assert_eq!(list(nobody), global, "{nobody:?}");
    }
    let outcome = with_segments(Fixture::popular_alone()).engine().recommend(&swedish(Rules::default()));
    assert_eq!(ids(&outcome), ["cap", "gift", "boot", "clog"]);
    assert!(
        outcome.response.recommendations.iter().all(|one| one.source == Source::Fallback
            && one.score == 0.0
            && one.reasons == [Reason::Popular])
    );
}

#[test]
fn only_fallback_lists_look_at_segments() {
    let request = Request { session: session(&["boot"]), ..swedish(Rules::default()) };
    let plain = Fixture::new().engine().recommend(&request);
    assert_eq!(with_segments(Fixture::new()).engine().recommend(&request), plain);
    assert!(plain.response.recommendations.iter().all(|one| one.source == Source::Retrieval));
    let runtime = FakeRuntime { encoder: Behaviour::Fails, ..FakeRuntime::default() };
    let failing = Engine::new(with_segments(Fixture::new()).bundle(), &runtime).unwrap();
    assert_eq!(ids(&failing.recommend(&request)), ["cap", "gift", "clog", "pump"], "without what was seen");
}

#[test]
fn a_bundle_without_segments_answers_as_before() {
    let (plain, with) = (Fixture::new().engine(), with_segments(Fixture::new()).engine());
    let swede = swedish(Rules::default());
    let nobody = Request { context: Context::new(), ..swede.clone() };
    assert_eq!(plain.recommend(&swede), plain.recommend(&nobody));
    assert_eq!(with.recommend(&nobody), plain.recommend(&nobody));
}

#[test]
fn rules_hold_for_lists_of_segments() {
    let excluded = Rules { exclude: vec![ItemId::from("cap")], ..Rules::default() };
    assert_eq!(listed(&swedish(excluded)), ["gift", "boot", "clog", "pump"]);
    let only = Rules { only: vec![ItemId::from("boot"), ItemId::from("gift")], ..Rules::default() };
    assert_eq!(listed(&swedish(only)), ["gift", "boot"]);
    let filter = Filter { categories: vec!["hats".to_owned()], ..Filter::default() };
    assert_eq!(listed(&swedish(Rules { filter, ..Rules::default() })), ["cap", "pump", "beret"]);
    let capped = Rules { category_cap: Some(1), ..Rules::default() };
    assert_eq!(listed(&swedish(capped)), ["cap", "gift", "boot"]);
    let pins = vec![
        Pin { item_id: ItemId::from("gift"), position: 1 },
        Pin { item_id: ItemId::from("boot"), position: 4 },
    ];
    assert_eq!(listed(&swedish(Rules { pins, ..Rules::default() })), ["gift", "cap", "clog", "boot"]);
}

#[test]
fn files_that_cannot_be_listed_do_not_open() {
    let code = |segments: Vec<u8>| {
        let files = Fixture { segments: Some(segments), ..Fixture::new() }.files();
        Bundle::open(files, None).unwrap_err().code()
    };
    let with_items = |items: &[u32]| {
        let mut out = segments();
        out.segments[0].items = items.to_vec();
        code(out.encode())
    };
    assert_eq!(with_items(&[6]), Code::SegmentsInvalid, "the bundle has six items");
    assert_eq!(with_items(&[1, 1]), Code::SegmentsInvalid);
    assert_eq!(with_items(&[]), Code::SegmentsInvalid);
    assert_eq!(code(b"{}".to_vec()), Code::UnsupportedFormatVersion);
    assert_eq!(code(br#"{"format_version":1}"#.to_vec()), Code::SegmentsInvalid);
    let mut files = with_segments(Fixture::new()).files();
    files.insert(FileRole::Segments.file_name(), Segments::default().encode());
    assert_eq!(Bundle::open(files.clone(), None).unwrap_err().code(), Code::FileTruncated);
    files.remove(FileRole::Segments.file_name());
    assert_eq!(Bundle::open(files, None).unwrap_err().code(), Code::FileMissing, "devices load it");
}

proptest! {
    /// Whatever a segment lists and the rules take away: nothing twice, nothing that was taken away, and as many as there are.
    #[test]
    fn lists_of_any_segment_are_lists(
        items in proptest::sample::subsequence(vec![0_u32, 1, 2, 3, 4, 5], 1..=6).prop_shuffle(),
        excluded in proptest::sample::subsequence(vec!["boot", "clog", "pump", "beret", "cap", "gift"], 0..=6),
        limit in 0_u32..=4,
    ) {
        let mut segments = segments();
        segments.segments[0].items = items;
        let engine = Fixture { segments: Some(segments.encode()), ..Fixture::new() }.engine();
        let rules = Rules { exclude: excluded.iter().map(|id| ItemId::from(*id)).collect(), ..Rules::default() };
        let outcome = engine.recommend(&Request { limit, ..swedish(rules) });
        let mut found = ids(&outcome);
        prop_assert!(found.iter().all(|id| !excluded.contains(id)));
        prop_assert_eq!(found.len(), (6 - excluded.len()).min(limit as usize));
        found.sort_unstable();
        found.dedup();
        prop_assert_eq!(found.len(), outcome.response.recommendations.len());
    }
}
