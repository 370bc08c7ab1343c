//! Telemetry: nothing is lost, nothing undeclared is counted or sent, and state comes back as it was.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use sanderling_core::{Bundle, Engine, Telemetry, TelemetryState};
use sanderling_types::{Code, Report};
use support::{Behaviour, DAY, FakeRuntime, Fixture, NOW, request};

const START: i64 = NOW - 6 * 3600;

fn new_telemetry(bundle: &Bundle) -> Telemetry {
    Telemetry::new(bundle.baseline(), &bundle.manifest().telemetry, bundle.hash())
}

/// Counts of the current window by field, without fields that have none.
fn counts(telemetry: &Telemetry) -> BTreeMap<String, Vec<u64>> {
    let fields = telemetry.state().current.fields;
    let counted = fields.into_iter().filter(|field| field.counts.total() > 0);
    counted.map(|field| (field.name, field.counts.counts().to_vec())).collect()
}

#[test]
fn every_observation_of_a_list_is_counted_in_its_bin() {
    let engine = Fixture::new().engine();
    let mut telemetry = new_telemetry(engine.bundle());
    telemetry.record(&engine.recommend(&request(&["beret", "boot"], 3)));
    let counts = counts(&telemetry);
    assert_eq!(telemetry.state().current.num_lists, 1);
    assert_eq!(telemetry.state().current.window_start, Some(START));
    // Scores 2, 0, 0 with edges -1, 0, 1.
    assert_eq!(counts["score.retrieval"], [0, 0, 2, 1]);
    assert_eq!(counts["score.ranker"], [0, 0, 2, 1]);
    assert_eq!(counts["feature.hour_of_day"], [0, 3, 0, 0]);
    assert_eq!(counts["score.first"], [0, 0, 1], "of the first item alone");
    assert_eq!(counts["interaction.category"], [1, 0, 0]);
    assert_eq!(counts["interaction.item"], [1, 0, 0, 0], "the last item of the session");
    assert_eq!(counts["transition.category"], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0], "from a hat to shoes");
    assert_eq!(counts["impression.source"], [3, 0, 0, 0, 0, 0]);
    assert_eq!(counts["fault"], [1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(!counts.contains_key("outcome.position"));
}

#[test]
fn a_fallback_list_counts_its_faults_alone() {
    let engine = Fixture::new().engine();
    let mut telemetry = new_telemetry(engine.bundle());
    telemetry.record(&engine.recommend(&request(&[], 3)));
    let expected =
        [("fault", vec![0, 1, 0, 0, 0, 0, 0, 0, 0]), ("impression.source", vec![0, 0, 3, 0, 0, 0])];
    assert_eq!(counts(&telemetry), BTreeMap::from(expected.map(|(name, bins)| (name.to_owned(), bins))));
    assert_eq!(telemetry.state().current.num_lists, 0);
    let broken = FakeRuntime { ranker: Behaviour::Fails, ..FakeRuntime::default() };
    let engine = Engine::new(Fixture::new().bundle(), &broken).unwrap();
    telemetry.clear();
    telemetry.record(&engine.recommend(&request(&["boot"], 3)));
    telemetry.record_outcome(Some(1));
    let counted = counts(&telemetry);
    for name in ["score.ranker", "score.first", "outcome.calibration"] {
        assert!(!counted.contains_key(name), "retrieval scores are no ranker scores: {name}");
    }
}

#[test]
fn outcomes_and_interactions_fall_into_their_labels() {
    let bundle = Fixture::new().bundle();
    let mut telemetry = new_telemetry(&bundle);
    for position in [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(10), Some(11), Some(u32::MAX)] {
        telemetry.record_outcome(position);
    }
    for item in ["clog", "beret", "gift", "sandal"] {
        telemetry.record_interaction(&bundle, &item.into());
    }
    for milliseconds in [0.2, 1.0, 9.9, 10.0, f32::INFINITY] {
        telemetry.record_latency(milliseconds);
    }
    let counts = counts(&telemetry);
    assert_eq!(counts["outcome.position"], [2, 1, 2, 2, 2, 0]);
    assert_eq!(counts["interaction.category"], [1, 1, 1], "of an unknown item there is none");
    assert_eq!(counts["interaction.item"], [0, 1, 2, 1]);
    assert_eq!(counts["latency"], [1, 2, 2]);
    assert!(!counts.contains_key("outcome.source"), "no list was shown");
}

#[test]
fn an_outcome_is_held_against_its_list_once() {
    let engine = Fixture::new().engine();
    let mut telemetry = new_telemetry(engine.bundle());
    // The first own score is 2, above both edges; after the fallback list there is none.
    for (session, position) in
        [(&["boot"][..], Some(2)), (&["boot"], None), (&[], Some(1)), (&["boot"], Some(99))]
    {
        telemetry.record(&engine.recommend(&request(session, 3)));
        telemetry.record_outcome(position);
        telemetry.record_outcome(position);
    }
    let counts = counts(&telemetry);
    assert_eq!(counts["outcome.position"].iter().sum::<u64>(), 6, "what a host says twice is counted twice");
    assert_eq!(
        counts["outcome.source"],
        [1, 1, 0, 1, 0, 0, 0],
        "a place that the list does not have is of another"
    );
    assert_eq!(counts["outcome.calibration"], [0, 0, 0, 0, 1, 1, 0]);
    assert_eq!(counts["outcome.history"], [0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], "one list had nothing to go by");
    assert_eq!(
        counts["transition.category"].iter().sum::<u64>(),
        counts["transition.category"][9],
        "of a single item"
    );
}

/// What the noise leaves of an answer is the bin for it, not any bin, which would look like choices.
#[test]
fn a_device_without_an_outcome_says_so() {
    let mut fixture = Fixture::new();
    fixture.manifest.telemetry.epsilon = 10.0;
    let engine = fixture.engine();
    let mut telemetry = new_telemetry(engine.bundle());
    telemetry.record(&engine.recommend(&request(&["boot"], 3)));
    let answers =
        (0..=255).flat_map(|seed| telemetry.build_report(START, [seed; 32], [1; 16]).unwrap().observations);
    let answers: Vec<_> = answers.collect();
    for (name, untold) in
        [("outcome.calibration", 6), ("outcome.history", 10), ("outcome.position", 5), ("outcome.source", 6)]
    {
        let of_field = answers.iter().filter(|answer| answer.field == name).map(|answer| answer.bin);
        let bins: Vec<u16> = of_field.collect();
        assert!(!bins.is_empty() && bins.iter().all(|bin| *bin == untold), "{name}: {bins:?}");
    }
}

#[test]
fn a_list_belongs_to_the_length_of_the_history_that_it_was_made_from() {
    let engine = Fixture::new().engine();
    for (known, segment) in [(0, 0), (1, 1), (2, 1), (3, 2), (5, 2), (6, 3), (20, 3), (21, 4), (60, 4)] {
        let mut telemetry = new_telemetry(engine.bundle());
        let session: Vec<&str> = std::iter::repeat_n("boot", known).chain(["sandal"]).collect();
        telemetry.record(&engine.recommend(&request(&session, 3)));
        telemetry.record_outcome(Some(1));
        let counts = counts(&telemetry);
        let found = counts["outcome.history"].iter().position(|count| *count == 1);
        assert_eq!(found, Some(2 * segment + 1), "{known} known items and one that is not: {counts:?}");
    }
}

#[test]
fn a_later_window_closes_the_one_before_and_both_can_be_reported() {
    let engine = Fixture::new().engine();
    let mut telemetry = new_telemetry(engine.bundle());
    let mut later = request(&["boot"], 2);
    telemetry.record(&engine.recommend(&later));
    later.now += DAY;
    telemetry.record(&engine.recommend(&later));
    telemetry.record(&engine.recommend(&later));
    let state = telemetry.state();
    assert_eq!((state.current.window_start, state.current.num_lists), (Some(START + DAY), 2));
    let closed = state.closed.as_ref().unwrap();
    assert_eq!((closed.window_start, closed.num_lists), (Some(START), 1));
    assert!(telemetry.build_report(START, [1; 32], [2; 16]).is_ok());
    assert!(telemetry.build_report(START + DAY, [1; 32], [2; 16]).is_ok());
    let code = |start| telemetry.build_report(start, [1; 32], [2; 16]).unwrap_err().code();
    assert_eq!(code(START - DAY), Code::InvalidArgument, "nothing was counted there");
    assert_eq!(code(START + 1), Code::InvalidArgument, "not the start of a window");
    assert!(new_telemetry(engine.bundle()).build_report(START + 1, [1; 32], [2; 16]).is_err());
    telemetry.discard(START);
    assert_eq!(telemetry.state().closed, None);
    assert_eq!(telemetry.state().current.num_lists, 2);
    telemetry.discard(START + DAY);
    assert_eq!(telemetry.state(), new_telemetry(engine.bundle()).state());
}

#[test]
fn a_report_is_declared_padded_and_repeatable() {
    let engine = Fixture::new().engine();
    let mut telemetry = new_telemetry(engine.bundle());
    telemetry.record(&engine.recommend(&request(&["boot"], 3)));
    let constants = &engine.bundle().manifest().telemetry;
    let mut fields = BTreeMap::new();
    for seed in 0..250 {
        let report = telemetry.build_report(START, [seed; 32], [0xab; 16]).unwrap();
        let bytes = report.encode();
        assert_eq!(bytes.len(), constants.report_bytes as usize);
        assert_eq!(Report::decode(&bytes).unwrap(), report);
        assert_eq!(report, telemetry.build_report(START, [seed; 32], [0xab; 16]).unwrap());
        assert_eq!(report.report_id, "ab".repeat(16));
        assert_eq!((report.bundle_sha256, report.epsilon), (engine.bundle().hash(), constants.epsilon));
        assert_eq!(report.observations.len(), constants.fields_per_report as usize);
        for observation in report.observations {
            let field = engine.bundle().baseline().field(&observation.field).expect("the field is declared");
            assert!(usize::from(observation.bin) < field.bins.num_bins());
            *fields.entry(observation.field).or_insert(0u32) += 1;
        }
    }
    assert_eq!(fields.len(), 23, "every declared field is drawn, with data or without");
}

#[test]
fn several_fields_a_report_are_distinct_and_share_the_budget() {
    let mut fixture = Fixture::new();
    fixture.manifest.telemetry.fields_per_report = 4;
    fixture.manifest.telemetry.report_bytes = 1024;
    let bundle = fixture.bundle();
    let telemetry = new_telemetry(&bundle);
    let report = telemetry.build_report(START, [9; 32], [1; 16]).unwrap();
    assert_eq!(report.observations.len(), 4);
    assert_eq!(Report::decode(&report.encode()).unwrap(), report, "a field is answered once");
    let mut fixture = Fixture::new();
    fixture.manifest.telemetry.fields_per_report = 15;
    // Nobody makes such a bundle, and no collector takes one; a device that has it sends nothing.
    let error = new_telemetry(&fixture.bundle()).build_report(START, [9; 32], [1; 16]).unwrap_err();
    assert_eq!(error.code(), Code::ReportTooLarge);
}

#[test]
fn stored_states_of_another_shape_are_refused_and_change_nothing() {
    let engine = Fixture::new().engine();
    let mut telemetry = new_telemetry(engine.bundle());
    telemetry.record(&engine.recommend(&request(&["boot"], 3)));
    let good = telemetry.state();
    let mut refused = |change: &dyn Fn(&mut TelemetryState)| {
        let mut state = good.clone();
        change(&mut state);
        let code = telemetry.restore(state).unwrap_err().code();
        assert_eq!(telemetry.state(), good);
        code
    };
    assert_eq!(refused(&|s| s.format_version = 2), Code::UnsupportedFormatVersion);
    assert_eq!(refused(&|s| s.bundle_sha256 = sanderling_types::Sha256Hash::of(b"")), Code::InvalidArgument);
    assert_eq!(refused(&|s| s.current.window_start = Some(START + 1)), Code::InvalidArgument);
    assert_eq!(refused(&|s| s.current.fields.truncate(3)), Code::InvalidArgument);
    assert_eq!(refused(&|s| s.current.fields[0].name = "other".to_owned()), Code::InvalidArgument);
    assert_eq!(refused(&|s| s.current.fields.swap(0, 1)), Code::InvalidArgument);
    let counts = |counts: Vec<u64>| sanderling_sketch::Histogram::from_counts(counts);
    assert_eq!(refused(&|s| s.current.fields[0].counts = counts(vec![0; 5])), Code::InvalidArgument);
    assert_eq!(refused(&|s| s.current.fields[0].counts = counts(vec![u64::MAX; 4])), Code::InvalidArgument);
    assert_eq!(
        refused(&|s| s.closed = Some(s.current.clone()).map(|mut w| {
            w.fields.clear();
            w
        })),
        Code::InvalidArgument
    );
    let mut value = serde_json::to_value(&good).unwrap();
    value["user_id"] = "u1".into();
    assert!(serde_json::from_value::<TelemetryState>(value).is_err(), "unknown fields are refused");
}

proptest! {
    #[test]
    fn counts_are_conserved_and_state_round_trips(
        lists in prop::collection::vec(0usize..4, 0..6),
        positions in prop::collection::vec(any::<Option<u32>>(), 0..6),
    ) {
        let engine = Fixture::new().engine();
        let mut telemetry = new_telemetry(engine.bundle());
        let mut expected = 0;
        let mut newest = None;
        for len in lists {
            let outcome = engine.recommend(&request(&["pump", "cap", "boot"][..len], 3));
            expected += outcome.observations.len();
            newest = Some(outcome.response.recommendations.len() as u32);
            telemetry.record(&outcome);
        }
        for position in positions {
            // One that the newest list does not have is of another list, until an outcome of its own was counted.
            let is_counted = position.zip(newest).is_none_or(|(position, len)| position <= len);
            if is_counted {
                (expected, newest) = (expected + 1, None);
            }
            telemetry.record_outcome(position);
        }
        // Those are counted once a list, not once an outcome.
        let once = ["outcome.source", "outcome.calibration", "outcome.history"];
        let fields = telemetry.state().current.fields.into_iter();
        let total: u64 =
            fields.filter(|field| !once.contains(&field.name.as_str())).map(|field| field.counts.total()).sum();
        prop_assert_eq!(total, expected as u64);
        let stored = serde_json::to_string(&telemetry.state()).unwrap();
        let mut restored = new_telemetry(engine.bundle());
        restored.restore(serde_json::from_str(&stored).unwrap()).unwrap();
        prop_assert_eq!(restored.state(), telemetry.state());
    }
}
