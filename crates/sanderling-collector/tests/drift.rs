//! The verdict: silent without drift, loud and right about the field with it.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]

mod support;

use std::sync::Arc;

use sanderling_collector::drift::{
    Aspect, DriftReport, FieldDrift, JudgedWindows, Options, Skipped, judge, judge_merged,
};
use sanderling_collector::{Merged, RegisteredBundle, Store, StoreOptions};
use sanderling_sketch::Histogram;
use sanderling_sketch::noise::{Channel, choose, choose_weighted, rng_from_seed};
use sanderling_types::{Code, Report, TelemetryConstants};
use support::{Database, Kind, NOW, WINDOW, bundle, for_every_database, padded, unpadded};
use tokio::task::JoinSet;

for_every_database!(
    devices_that_behave_as_at_training_time_raise_no_alarm,
    the_same_devices_in_seven_windows_are_not_seven_times_as_many,
    a_shift_alarms_in_its_field_and_in_no_other,
    fields_without_baseline_are_compared_with_reference_windows,
    what_calm_windows_do_is_no_drift,
    few_answers_are_neither_judged_nor_shown,
    the_report_survives_json_and_options_are_checked,
);

const CATEGORY: &str = "interaction.category";
const RANKER: &str = "score.ranker";
const POSITION: &str = "outcome.position";

/// What devices hold in one window: weights of each field's bins, in the baseline's order.
struct World {
    window: i64,
    category: [u64; 4],
    ranker: [u64; 4],
    position: [u64; 5],
}

const AS_TRAINED: World =
    World { window: 0, category: [4, 3, 2, 1], ranker: [1, 1, 1, 1], position: [60, 10, 15, 10, 5] };

impl World {
    /// Reports of `num_devices` devices, each choosing its field by chance and sending it through
    /// the channel, as the telemetry of the engine does.
    fn reports(&self, num_devices: u64) -> Vec<Report> {
        let bundle = bundle();
        let mut seed = [0; 32];
        seed[0] = self.window as u8;
        let mut rng = rng_from_seed(seed);
        let fields = &bundle.baseline().fields;
        let report = |number: u64| {
            let at = choose(fields.len(), &mut rng);
            let weights: [&[u64]; 3] = [&self.category, &self.ranker, &self.position];
            let truth = choose_weighted(weights[at], &mut rng).unwrap();
            let channel = Channel::new(bundle.epsilon_per_field(), fields[at].bins.num_bins()).unwrap();
            let bin = channel.randomise(truth, &mut rng) as u16;
            let mut report = unpadded(self.window as u64 * 1_000_000 + number, &fields[at].name, bin);
            report.window_start = WINDOW + self.window * 86_400;
            padded(report)
        };
        (0..num_devices).map(report).collect()
    }
}

struct Fixture {
    store: Arc<Store>,
    bundle: RegisteredBundle,
    _database: Database,
}

impl Fixture {
    async fn new(kind: Kind, worlds: &[World], num_devices: u64) -> Self {
        let database = Database::new(kind);
        let options = StoreOptions { queue_capacity: 100_000, max_batch: 10_000, ..StoreOptions::default() };
        let store = Arc::new(Store::open(&database.location(), &options).unwrap());
        store.register(&bundle()).unwrap();
        let mut sending = JoinSet::new();
        for report in worlds.iter().flat_map(|world| world.reports(num_devices)) {
            let store = Arc::clone(&store);
            sending.spawn(async move { store.submit(report, NOW).await.unwrap() });
        }
        sending.join_all().await;
        Self { store, bundle: bundle(), _database: database }
    }

    fn judge(&self, windows: std::ops::Range<i64>, options: &Options) -> DriftReport {
        let seconds = |window: i64| WINDOW + window * 86_400;
        judge(self.store.reader(), &self.bundle, seconds(windows.start)..seconds(windows.end), options)
            .unwrap()
    }
}

fn drifted(report: &DriftReport) -> Vec<&str> {
    report.fields.iter().filter(|field| field.drifted).map(|field| field.name.as_str()).collect()
}

fn devices_that_behave_as_at_training_time_raise_no_alarm(kind: Kind) {
    support::run(async {
        let worlds: Vec<World> = (0..5).map(|window| World { window, ..AS_TRAINED }).collect();
        let fixture = Fixture::new(kind, &worlds, 3_000).await;
        for window in 0..5 {
            let report = fixture.judge(window..window + 1, &Options::default());
            assert_eq!(drifted(&report), Vec::<&str>::new());
            assert!(!report.drifted);
            // Without a floor for the effect, significance alone keeps it quiet.
            let eager = Options { min_effect: 0.0, ..Options::default() };
            assert!(!fixture.judge(window..window + 1, &eager).drifted);
        }
        let report = fixture.judge(0..5, &Options::default());
        assert!(!report.drifted);
        assert_eq!((report.num_reports, report.windows.num_windows), (15_000, 5));
        let answers: u64 = report.fields.iter().map(|field| field.num_answers).sum();
        assert_eq!(answers, 15_000, "one answer a report");
        let category = &report.fields[0];
        for (share, expected) in category.shares.iter().zip(support::SHARES) {
            assert!((share - expected).abs() < 0.05, "{:?}", category.shares);
        }
        assert_eq!(category.baseline_shares, support::SHARES);
    });
}

/// The same devices in each of seven windows, each always with the same true values, and each report
/// with one field that was drawn.
async fn same_devices(kind: Kind, category: [u64; 4], num_devices: u64, seed: u8) -> Fixture {
    let bundle = bundle();
    let field = &bundle.baseline().fields[0];
    assert_eq!(field.name, CATEGORY);
    let channel = Channel::new(bundle.epsilon_per_field(), field.bins.num_bins()).unwrap();
    let mut rng = rng_from_seed([seed; 32]);
    let truths: Vec<usize> =
        (0..num_devices).map(|_| choose_weighted(&category, &mut rng).unwrap()).collect();
    let fixture = Fixture::new(kind, &[], 0).await;
    let mut sending = JoinSet::new();
    for window in 0..7_u64 {
        for (device, truth) in truths.iter().enumerate() {
            let (field, truth) = match choose(bundle.baseline().fields.len(), &mut rng) {
                0 => (CATEGORY, *truth),
                _ => ("score.ranker", device % 4),
            };
            let bin = channel.randomise(truth, &mut rng) as u16;
            let mut report = unpadded(window * 1_000_000 + device as u64, field, bin);
            report.window_start = WINDOW + window as i64 * 86_400;
            let (store, report) = (Arc::clone(&fixture.store), padded(report));
            sending.spawn(async move { store.submit(report, NOW).await.unwrap() });
        }
    }
    sending.join_all().await;
    fixture
}

fn the_same_devices_in_seven_windows_are_not_seven_times_as_many(kind: Kind) {
    support::run(async {
        let eager = Options { min_effect: 0.0, ..Options::default() };
        let mut alarms = 0;
        for seed in 1..=20 {
            let fixture = same_devices(kind, AS_TRAINED.category, 1_000, seed).await;
            alarms += usize::from(fixture.judge(0..7, &eager).drifted);
        }
        assert!(alarms <= 1, "{alarms} false alarms of 20 at alpha 0.01");
        let fixture = same_devices(kind, [1, 2, 3, 4], 1_000, 1).await;
        assert_eq!(drifted(&fixture.judge(0..7, &Options::default())), [CATEGORY]);
    });
}

fn a_shift_alarms_in_its_field_and_in_no_other(kind: Kind) {
    support::run(async {
        let shifted = World { window: 1, category: [1, 2, 3, 4], ..AS_TRAINED };
        let fixture = Fixture::new(kind, &[World { window: 0, ..AS_TRAINED }, shifted], 4_000).await;
        assert!(!fixture.judge(0..1, &Options::default()).drifted);
        let report = fixture.judge(1..2, &Options::default());
        assert_eq!(drifted(&report), [CATEGORY]);
        assert!(report.drifted);
        let category = &report.fields[0];
        // 0.9 is the population stability index of the true shares.
        assert!((0.5..1.5).contains(&category.effect.unwrap()), "{category:?}");
        assert!(category.adjusted_p_value.unwrap() >= category.p_value.unwrap());
        assert_eq!(category.degrees_of_freedom, Some(3));
        // Significant, but the caller asked for more.
        let demanding = Options { min_effect: 5.0, ..Options::default() };
        assert!(!fixture.judge(1..2, &demanding).drifted);
    });
}

fn fields_without_baseline_are_compared_with_reference_windows(kind: Kind) {
    support::run(async {
        let ignored = World { window: 2, position: [95, 1, 1, 1, 2], ..AS_TRAINED };
        let same = |window| World { window, ..AS_TRAINED };
        let fixture = Fixture::new(kind, &[same(0), same(1), ignored], 4_000).await;
        let by_default = fixture.judge(2..3, &Options::default());
        assert_eq!(drifted(&by_default), [POSITION]);
        let before = by_default.reference.as_ref().unwrap();
        assert_eq!((before.num_reports, before.end), (8_000, by_default.windows.start), "the windows before");
        let all = 0..i64::MAX;
        let all = judge(fixture.store.reader(), &fixture.bundle, all, &Options::default()).unwrap();
        let position = all.fields.iter().find(|field| field.name == POSITION).unwrap();
        assert_eq!((position.skipped, position.p_value), (Some(Skipped::NoReference), None));

        let reference = |windows: std::ops::Range<i64>| Options {
            reference: Some(WINDOW + windows.start * 86_400..WINDOW + windows.end * 86_400),
            ..Options::default()
        };
        assert_eq!(drifted(&fixture.judge(1..2, &reference(0..1))), Vec::<&str>::new());
        let with = fixture.judge(2..3, &reference(0..2));
        assert_eq!(drifted(&with), [POSITION]);
        assert_eq!(with.reference.as_ref().unwrap().num_reports, 8_000);
        let empty = fixture.judge(2..3, &reference(7..9));
        let position = empty.fields.iter().find(|field| field.name == POSITION).unwrap();
        assert_eq!(position.skipped, Some(Skipped::TooFewReferenceAnswers));
    });
}

/// Every second window is another world, with and without a baseline: known to be calm, it is no drift, and more than that is.
fn what_calm_windows_do_is_no_drift(kind: Kind) {
    support::run(async {
        let even = |window| World { window, ..AS_TRAINED };
        let odd =
            |window| World { window, category: [2, 3, 3, 2], position: [45, 20, 15, 12, 8], ..AS_TRAINED };
        let milder =
            World { window: 5, category: [25, 30, 28, 17], position: [50, 16, 15, 11, 8], ..AS_TRAINED };
        let beyond =
            World { window: 7, category: [1, 2, 3, 4], position: [20, 40, 15, 15, 10], ..AS_TRAINED };
        let worlds = [even(0), odd(1), even(2), odd(3), even(4), milder, even(6), beyond];
        let fixture = Fixture::new(kind, &worlds, 4_000).await;
        let seconds = |window: i64| WINDOW + window * 86_400;
        let of = |window: i64, options: &Options| fixture.judge(window..window + 1, options);
        assert_eq!(drifted(&of(5, &Options::default())), [CATEGORY], "what is judged by default");
        let calm = Options { reference: Some(seconds(0)..seconds(5)), ..Options::default() };
        let report = of(5, &calm);
        assert_eq!((drifted(&report), report.num_calm_parts), (vec![], 5), "{report:#?}");
        let category = report.fields.iter().find(|field| field.name == CATEGORY).unwrap();
        assert!(category.shifted && category.effect.unwrap() > 0.1, "{category:?}");
        assert!(category.min_effect > category.effect.unwrap(), "{category:?}");
        let ranker = report.fields.iter().find(|field| field.name == RANKER).unwrap();
        assert_eq!(ranker.min_effect, 0.1, "it never moved");
        assert_eq!(drifted(&of(7, &calm)), [CATEGORY, POSITION]);
        assert!(report.reference_is_named && !of(5, &Options::default()).reference_is_named);
        let short = Options { reference: Some(seconds(4)..seconds(5)), ..Options::default() };
        let report = of(5, &short);
        assert_eq!((drifted(&report), report.num_calm_parts), (vec![CATEGORY], 0), "one is no range");
        let both = Options { reference: Some(seconds(0)..seconds(6)), ..Options::default() };
        let judged = seconds(5)..seconds(6);
        let error = judge(fixture.store.reader(), &fixture.bundle, judged, &both).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "what is judged says nothing of what is usual");
    });
}

fn few_answers_are_neither_judged_nor_shown(kind: Kind) {
    support::run(async {
        let shifted = World { category: [0, 0, 0, 1], ranker: [0, 0, 0, 1], ..AS_TRAINED };
        let fixture = Fixture::new(kind, &[shifted], 150).await;
        for report in [fixture.judge(0..1, &Options::default()), fixture.judge(5..6, &Options::default())] {
            assert!(!report.drifted);
            for field in report.fields.iter().filter(|field| field.name != POSITION) {
                assert_eq!(field.skipped, Some(Skipped::TooFewAnswers));
                assert!(field.shares.is_empty() && field.psi.is_none());
            }
        }
        let brave = Options { min_answers: 10, ..Options::default() };
        assert_eq!(drifted(&fixture.judge(0..1, &brave)), [CATEGORY, RANKER]);
    });
}

fn the_report_survives_json_and_options_are_checked(kind: Kind) {
    support::run(async {
        let fixture = Fixture::new(kind, &[AS_TRAINED], 600).await;
        let report = fixture.judge(0..1, &Options::default());
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<DriftReport>(&text).unwrap(), report);
        for options in [
            Options { alpha: 0.0, ..Options::default() },
            Options { alpha: 1.0, ..Options::default() },
            Options { alpha: f64::NAN, ..Options::default() },
            Options { min_effect: -0.1, ..Options::default() },
            Options { min_effect: f64::NAN, ..Options::default() },
        ] {
            let error = judge(fixture.store.reader(), &fixture.bundle, 0..1, &options).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{options:?}");
        }
    });
}

#[test]
fn a_budget_for_several_answers_is_divided_among_them() {
    let constants =
        TelemetryConstants { epsilon: 3.0, fields_per_report: 3, ..TelemetryConstants::default() };
    assert_eq!(support::bundle_of(1, constants).epsilon_per_field(), 1.0);
}

/// Expected noised counts of `n` answers that fall into a field's bins with these weights.
fn expected_answers(bundle: &RegisteredBundle, weights: &[f64], n: f64) -> Histogram {
    let channel = Channel::new(bundle.epsilon_per_field(), weights.len()).unwrap();
    let total: f64 = weights.iter().sum();
    let shares: Vec<f64> = weights.iter().map(|weight| weight / total).collect();
    Histogram::from_counts(channel.apply(&shares).iter().map(|share| (share * n).round() as u64).collect())
}

/// The golden bundle, with a baseline of as many devices.
fn golden(num_devices: u64) -> RegisteredBundle {
    let golden = format!("{}/../../tests/golden/v1/bundle", env!("CARGO_MANIFEST_DIR"));
    let golden = RegisteredBundle::read(golden.as_ref()).unwrap();
    let mut baseline = golden.baseline().clone();
    let known = baseline.fields.iter_mut().filter(|field| field.shares.is_some());
    known.for_each(|field| field.num_devices = num_devices);
    let baseline = baseline.encode();
    let manifest = support::manifest(1, golden.telemetry().clone(), &baseline);
    RegisteredBundle::decode(&manifest.encode(), &baseline).unwrap()
}

/// A judgement of fields of `bundle` that so many answers have with other weights than before.
fn judged(
    bundle: &RegisteredBundle,
    num_answers: f64,
    before: &[(&str, Vec<f64>)],
    now: &[(&str, Vec<f64>)],
) -> DriftReport {
    let windows = |fields: &[(&str, Vec<f64>)]| {
        let answers = fields
            .iter()
            .map(|(name, weights)| ((*name).to_owned(), expected_answers(bundle, weights, num_answers)));
        Merged { num_windows: 1, num_reports: 2 * num_answers as u64, answers: answers.collect() }
    };
    let (before, now) = (windows(before), windows(now));
    let at = |starts, merged| JudgedWindows { starts, merged };
    judge_merged(bundle, at(&(1..2), &now), Some(at(&(0..1), &before)), &[], &Options::default()).unwrap()
}

fn field<'a>(report: &'a DriftReport, name: &str) -> &'a FieldDrift {
    report.fields.iter().find(|field| field.name == name).unwrap()
}

/// The bands of a score and what is chosen in each: that a band became more frequent is no drift of the concept.
#[test]
fn a_score_that_means_something_else_is_drift_of_the_concept() {
    let judged = |calibration: [f64; 7]| {
        let windows = |calibration: &[f64]| {
            [("outcome.calibration", calibration.to_vec()), ("score.first", vec![1.0; 3])]
        };
        let before = windows(&[9.0, 1.0, 8.0, 2.0, 6.0, 4.0, 3.0]);
        judged(&golden(1_000), 1e4, &before, &windows(&calibration))
    };
    let concept = |report: &DriftReport| {
        let found = field(report, "outcome.calibration");
        (found.shifted, found.drifted, found.degrees_of_freedom)
    };
    assert_eq!(concept(&judged([18.0, 2.0, 8.0, 2.0, 3.0, 2.0, 35.0])), (false, false, Some(3)));
    let inverted = judged([6.0, 4.0, 8.0, 2.0, 9.0, 1.0, 3.0]);
    assert_eq!(concept(&inverted), (true, true, Some(3)));
    let slightly = judged([9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 3.0]);
    assert_eq!(
        concept(&slightly),
        (true, false, Some(3)),
        "small differences are told apart from large ones"
    );
    // Nobody was told of an outcome: there are no rates to judge.
    let silent = judged([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    let silent = field(&silent, "outcome.calibration");
    assert_eq!((silent.skipped, silent.p_value), (Some(Skipped::TooFewAnswers), None));
    assert!(silent.shares.is_empty() && silent.segments.is_empty());
    assert_eq!(field(&inverted, "outcome.calibration").aspect, Aspect::Concept);
    let aspects: std::collections::BTreeSet<Aspect> =
        inverted.fields.iter().map(|field| field.aspect).collect();
    assert_eq!(aspects.len(), 5, "{aspects:?}");
}

/// Those with a short history choose half as often: the verdict says who, and from what to what.
#[test]
fn a_verdict_tells_for_whom_a_rate_moved() {
    let history = |short: f64| {
        let rates = [0.1, short, 0.3, 0.3, 0.3];
        let fates = rates.iter().flat_map(|rate| [1.0 - rate, *rate]).chain([0.5]);
        [("outcome.history", fates.collect::<Vec<f64>>())]
    };
    let report = judged(&golden(1_000), 1e4, &history(0.4), &history(0.2));
    let found = field(&report, "outcome.history");
    assert_eq!((found.shifted, found.aspect, found.moves.as_slice()), (true, Aspect::Outcomes, &[][..]));
    let names: Vec<&str> = found.segments.iter().map(|segment| segment.name.as_str()).collect();
    assert_eq!(names, ["history 0", "history 1-2", "history 3-5", "history 6-20", "history over-20"]);
    let shifted: Vec<bool> = found.segments.iter().map(|segment| segment.shifted).collect();
    assert_eq!(shifted, [false, true, false, false, false], "{found:#?}");
    let [chosen] = found.segments[1].moves.as_slice() else { panic!("{found:#?}") };
    assert_eq!(chosen.label, "chosen");
    assert!((chosen.baseline_share - 0.4).abs() < 0.01 && (chosen.share - 0.2).abs() < 0.01, "{chosen:?}");
    assert!(found.segments.iter().all(|segment| (segment.share - 0.2).abs() < 0.01), "{found:#?}");
}

/// From one category users step to others than before; from all others as at training time.
#[test]
fn a_verdict_tells_from_which_category_steps_moved() {
    let bundle = golden(50_000);
    let categories = bundle.baseline().field(CATEGORY).unwrap().bins.num_bins();
    let trained = bundle.baseline().field("transition.category").unwrap().shares.clone().unwrap();
    let mut now = trained.clone();
    // All that left the first category for itself goes to the second one.
    now[1] += now[0];
    now[0] = 0.0;
    // Fifty bins behind noise take many answers.
    let calm = judged(&bundle, 1e6, &[], &[("transition.category", trained)]);
    assert!(!field(&calm, "transition.category").shifted);
    let report = judged(&bundle, 1e6, &[], &[("transition.category", now)]);
    let found = field(&report, "transition.category");
    assert!(found.drifted && found.segments.len() == categories, "{found:#?}");
    let shifted: Vec<usize> = (0..categories).filter(|at| found.segments[*at].shifted).collect();
    assert_eq!(shifted, [0], "{found:#?}");
    let moves: Vec<&str> = found.segments[0].moves.iter().map(|one| one.label.as_str()).collect();
    let label = |bin: usize| bundle.baseline().field(CATEGORY).unwrap().bins.name_of_bin(bin);
    assert_eq!(moves, [label(0), label(1)]);
    assert_eq!(found.segments[0].name, format!("after {}", label(0)));
    assert!(found.segments[1..].iter().all(|segment| segment.moves.is_empty()), "{found:#?}");
    assert_eq!(found.moves.len(), 2, "the whole field names the two steps: {found:#?}");
}

/// Devices that are told of no outcome are no drift, however many, and what the others choose is.
#[test]
fn silence_is_no_drift_of_outcomes() {
    let position = |untold: f64, none: f64| [("outcome.position", vec![none, 0.1, 0.1, 0.1, 0.1, untold])];
    let report = judged(&golden(1_000), 1e4, &position(0.1, 0.6), &position(3.0, 0.6));
    assert!(!field(&report, "outcome.position").shifted, "{report:#?}");
    let report = judged(&golden(1_000), 1e4, &position(0.1, 0.6), &position(0.1, 3.6));
    let found = field(&report, "outcome.position");
    assert!(found.drifted && found.segments.is_empty(), "{found:#?}");
    assert_eq!(found.moves[0].label, "none");
    assert!((found.moves[0].baseline_share - 0.6).abs() < 0.01 && (found.moves[0].share - 0.9).abs() < 0.01);
}
