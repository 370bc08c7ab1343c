//! A canary is promoted, rolled back or left alone for the reasons that are stated, and as rarely wrong.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeMap;

use sanderling_collector::online::{Comparison, Decision, Options, compare_merged};
use sanderling_collector::{Merged, RegisteredBundle};
use sanderling_sketch::Histogram;
use sanderling_sketch::noise::{Channel, Rng, choose, choose_weighted, rng_from_seed};
use sanderling_types::{Baseline, BaselineField, Code, FORMAT_VERSION, FieldKind, TelemetryConstants};

const LABELS: [&str; 5] = ["none", "1", "2-3", "4-10", "over_10"];
const FAULTS: [&str; 3] = ["none", "encoder_failed", "ranker_failed"];

const BANDS: (&str, &[&str]) =
    ("outcome.calibration", &["1 ignored", "1 chosen", "2 ignored", "2 chosen", "untold"]);
const SOURCES: (&str, &[&str]) = ("outcome.source", &["none", "retrieval", "fallback", "untold"]);
const HISTORIES: (&str, &[&str]) =
    ("outcome.history", &["0 ignored", "0 chosen", "1-2 ignored", "1-2 chosen", "untold"]);

fn field(name: &str, labels: &[&str]) -> BaselineField {
    BaselineField {
        name: name.to_owned(),
        bins: FieldKind::Categorical { labels: labels.iter().map(ToString::to_string).collect() },
        shares: None,
        num_devices: 0,
    }
}

fn bundle(version: u64) -> RegisteredBundle {
    let fields = [("outcome.position", &LABELS[..]), BANDS, HISTORIES, ("fault", &FAULTS)];
    registered(version, fields.map(|(name, labels)| field(name, labels)).into())
}

fn registered(version: u64, fields: Vec<BaselineField>) -> RegisteredBundle {
    let baseline = Baseline { format_version: FORMAT_VERSION, fields }.encode();
    let manifest = support::manifest(version, TelemetryConstants::default(), &baseline);
    RegisteredBundle::decode(&manifest.encode(), &baseline).unwrap()
}

/// Reports of some windows: of 1,000 lists `hits` have a choice, and `faults` a fault.
#[derive(Clone, Copy)]
struct Arm {
    hits: u64,
    faults: u64,
    num_answers: u64,
    num_windows: u64,
}

const GOOD: Arm = Arm { hits: 300, faults: 5, num_answers: 20_000, num_windows: 7 };

impl Arm {
    fn merged(self, bundle: &RegisteredBundle, rng: &mut Rng) -> Merged {
        let mut answers = BTreeMap::new();
        for (name, truth) in [
            ("outcome.position", vec![1_000 - self.hits, self.hits / 2, self.hits / 2, 0, 0]),
            (
                "outcome.calibration",
                vec![500 - self.hits / 2, self.hits / 2, 500 - self.hits / 2, self.hits / 2, 400],
            ),
            ("outcome.history", vec![800 - self.hits, self.hits, 200, 0, 100]),
            ("fault", vec![1_000 - self.faults, self.faults, 0]),
        ] {
            let channel = Channel::new(bundle.epsilon_per_field(), truth.len()).unwrap();
            let mut counts = vec![0; truth.len()];
            for _ in 0..self.num_answers {
                counts[channel.randomise(choose_weighted(&truth, rng).unwrap(), rng)] += 1;
            }
            answers.insert(name.to_owned(), Histogram::from_counts(counts));
        }
        Merged { num_windows: self.num_windows, num_reports: 2 * self.num_answers, answers }
    }
}

fn compared(champion: Arm, canary: Arm, seed: u64) -> Comparison {
    let mut rng = rng_from_seed([seed.to_le_bytes(); 4].concat().try_into().unwrap());
    let bundles = [bundle(1), bundle(2)];
    let merged = [champion.merged(&bundles[0], &mut rng), canary.merged(&bundles[1], &mut rng)];
    let options = Options::default();
    compare_merged((&bundles[0], &merged[0]), (&bundles[1], &merged[1]), &options).unwrap()
}

#[test]
fn a_canary_that_is_no_worse_is_promoted_after_a_week() {
    let early = compared(GOOD, Arm { num_windows: 6, ..GOOD }, 1);
    assert_eq!(early.decision, Decision::Wait, "{early:?}");
    let late = compared(GOOD, GOOD, 1);
    assert_eq!(late.decision, Decision::Promote, "{late:?}");
    let hit_rate = late.hit_rate.unwrap();
    assert!(
        hit_rate.value.abs() < 4.0 * hit_rate.standard_error && hit_rate.standard_error < 0.02,
        "{hit_rate:?}"
    );
    assert!((late.champion.hit_rate.value.unwrap() - 0.3).abs() < 0.02);
}

/// Devices that were told of no outcome are not counted among those that chose, or did not.
#[test]
fn the_hit_rate_is_that_of_devices_that_were_told() {
    let labels = ["none", "1", "2-3", "4-10", "over_10", "untold"];
    let fields = vec![field("outcome.position", &labels), field("fault", &FAULTS)];
    let bundle = registered(1, fields);
    let channel = Channel::new(bundle.epsilon_per_field(), 6).unwrap();
    let rate = |untold: f64, num_answers: f64| {
        let told = [0.8, 0.1, 0.1, 0.0, 0.0].map(|share| share * (1.0 - untold));
        let sent = channel.apply(&[&told[..], &[untold]].concat());
        let counts = sent.iter().map(|share| (share * num_answers).round() as u64).collect();
        let answers = [("outcome.position".to_owned(), Histogram::from_counts(counts))].into();
        let merged = Merged { num_windows: 1, num_reports: 1_000_000, answers };
        let found = compare_merged((&bundle, &merged), (&bundle, &merged), &Options::default()).unwrap();
        found.champion.hit_rate
    };
    for untold in [0.0, 0.5, 0.9] {
        assert!((rate(untold, 1e5).value.unwrap() - 0.2).abs() < 1e-3, "{untold}");
    }
    let [few, many] = [0.9, 0.0].map(|untold| rate(untold, 1e5).standard_error.unwrap());
    assert!(few > 5.0 * many, "a tenth of the answers tell less: {few} {many}");
    assert_eq!(rate(1.0, 1e5).value, None, "nobody was told");
    assert_eq!(rate(0.99, 5e3).value, None, "fifty were told, of a hundred that say something");
}

/// A bundle from before devices said that they were told of nothing has another rate of the same choices: no difference of the two says anything.
#[test]
fn bundles_that_count_silence_differently_are_not_compared() {
    let labels = ["none", "1", "2-3", "4-10", "over_10", "untold"];
    let faults = ["none", "encoder_failed", "ranker_failed", "untold"];
    let old = registered(1, vec![field("outcome.position", &LABELS), field("fault", &FAULTS)]);
    let new = registered(2, vec![field("outcome.position", &labels), field("fault", &faults)]);
    // Three in ten are told of nothing: any bin of the old bundle, the last one of the new.
    let champion = expected(&old, &[("outcome.position", &[0.62, 0.13, 0.13, 0.06, 0.06]), NO_FAULT]);
    let canary = |faulty: f64| {
        let told: &[f64] = &[0.56, 0.07, 0.07, 0.0, 0.0, 0.3];
        expected(&new, &[("outcome.position", told), ("fault", &[0.9 - faulty, faulty, 0.0, 0.1])])
    };
    let compare = |canary| compare_merged((&old, &champion), (&new, &canary), &Options::default()).unwrap();
    let found = compare(canary(0.0));
    assert!((found.champion.hit_rate.value.unwrap() - 0.38).abs() < 1e-3, "{found:?}");
    assert!((found.canary.hit_rate.value.unwrap() - 0.2).abs() < 1e-3, "{found:?}");
    assert_eq!((found.hit_rate, found.decision), (None, Decision::Wait), "{found:?}");
    assert!(found.reason.contains("sanderling promote"), "{}", found.reason);
    let broken = compare(canary(0.4));
    assert_eq!(broken.decision, Decision::RollBack, "faults are seen all the same: {broken:?}");
    // The other way round, silence would look like faults of the canary.
    let back = compare_merged((&new, &canary(0.0)), (&old, &champion), &Options::default()).unwrap();
    assert_eq!((back.hit_rate, back.fault_rate, back.decision), (None, None, Decision::Wait), "{back:?}");
}

/// The same devices answer one field a window for four weeks, each as ever: a device with a choice has it in all of them.
#[test]
fn devices_that_answer_again_are_not_taken_for_others() {
    let fields = [("outcome.position", &LABELS[..]), SOURCES, HISTORIES, ("fault", &FAULTS)];
    let bundle = registered(1, fields.map(|(name, labels)| field(name, labels)).into());
    let labels = |name: &str| bundle.baseline().field(name).unwrap().bins.num_bins();
    let names = fields.map(|(name, _)| name);
    let channels = names.map(|name| Channel::new(bundle.epsilon_per_field(), labels(name)).unwrap());
    let mut rng = rng_from_seed([8; 32]);
    let mut fleet = || {
        let mut counts = names.map(|name| vec![0; labels(name)]);
        for _ in 0..1_000 {
            let chosen = usize::from(choose(10, &mut rng) < 3);
            for _ in 0..28 {
                let at = choose(4, &mut rng);
                let bin = if names[at] == "fault" { 0 } else { chosen };
                counts[at][channels[at].randomise(bin, &mut rng)] += 1;
            }
        }
        let answers = names.into_iter().zip(counts);
        let answers = answers.map(|(name, counts)| (name.to_owned(), Histogram::from_counts(counts)));
        Merged { num_windows: 28, num_reports: 28_000, answers: answers.collect() }
    };
    let (runs, mut wrong) = (300, 0);
    for _ in 0..runs {
        let (champion, canary) = (fleet(), fleet());
        let options = Options::default();
        let found = compare_merged((&bundle, &champion), (&bundle, &canary), &options).unwrap();
        wrong += usize::from(found.decision == Decision::RollBack && found.reason.contains("hit rate"));
    }
    // 99.9 % of a binomial(300, 0.01) lie under 11; taken for different devices, dozens would be rolled back.
    assert!(wrong <= 10, "{wrong} of {runs}");
}

const NO_FAULT: (&str, &[f64]) = ("fault", &[1.0, 0.0, 0.0]);

/// What 100,000 answers of each field are expected to be behind the noise, over a week.
fn expected(bundle: &RegisteredBundle, fields: &[(&str, &[f64])]) -> Merged {
    let counts = |shares: &[f64]| {
        let channel = Channel::new(bundle.epsilon_per_field(), shares.len()).unwrap();
        channel.apply(shares).iter().map(|share| (share * 1e5).round() as u64).collect()
    };
    let answers =
        fields.iter().map(|(name, shares)| ((*name).to_owned(), Histogram::from_counts(counts(shares))));
    Merged { num_windows: 7, num_reports: 200_000, answers: answers.collect() }
}

/// The least number is one of answers, however much the devices behind them resemble themselves.
#[test]
fn windows_that_have_answers_enough_have_a_rate() {
    let (arm, mut rng) = (Arm { num_answers: 150, num_windows: 28, ..GOOD }, rng_from_seed([6; 32]));
    let bundle = bundle(1);
    let merged = arm.merged(&bundle, &mut rng);
    let found = compare_merged((&bundle, &merged), (&bundle, &merged), &Options::default()).unwrap();
    assert!(found.hit_rate.is_some(), "{found:?}");
}

/// Three fields tell whether something was chosen: each has the same rate, and together they know it better.
#[test]
fn every_field_that_tells_of_choices_counts() {
    let positions: (&str, &[&str]) = ("outcome.position", &["none", "1", "2-3", "4-10", "over_10", "untold"]);
    let shares: [(&str, &[f64]); 4] = [
        ("outcome.position", &[0.6, 0.1, 0.1, 0.0, 0.0, 0.2]),
        ("outcome.source", &[0.375, 0.1, 0.025, 0.5]),
        ("outcome.history", &[0.255, 0.195, 0.42, 0.03, 0.1]),
        NO_FAULT,
    ];
    let rate = |known: &[(&str, &[&str])]| {
        let fields = known.iter().map(|(name, labels)| field(name, labels)).chain([field("fault", &FAULTS)]);
        let bundle = registered(1, fields.collect());
        let merged = expected(&bundle, &shares);
        let found = compare_merged((&bundle, &merged), (&bundle, &merged), &Options::default()).unwrap();
        let (rate, difference) = (found.champion.hit_rate, found.hit_rate.unwrap());
        assert!(difference.value.abs() < 1e-9);
        assert!((rate.value.unwrap() - 0.25).abs() < 2e-3, "{rate:?}");
        (difference.standard_error, rate.num_answers)
    };
    for one in [positions, SOURCES, HISTORIES] {
        rate(&[one]);
    }
    let (alone, num_answers) = rate(&[positions]);
    let (together, all_answers) = rate(&[positions, SOURCES, HISTORIES]);
    assert!(together < 0.7 * alone, "{together} {alone}");
    assert!(all_answers > 290_000 && num_answers < 100_010, "{all_answers} {num_answers}");
}

#[test]
fn a_canary_that_hurts_is_rolled_back_at_the_first_check() {
    let canary = Arm { hits: 240, num_answers: 4_000, num_windows: 1, ..GOOD };
    let found = compared(GOOD, canary, 2);
    assert_eq!(found.decision, Decision::RollBack, "{found:?}");
    assert!(found.reason.contains("hit rate is lower"), "{}", found.reason);
    let found = compared(GOOD, Arm { faults: 80, num_windows: 1, ..GOOD }, 3);
    assert_eq!(found.decision, Decision::RollBack, "{found:?}");
    assert!(found.reason.contains("fault"), "{}", found.reason);
}

#[test]
fn few_answers_decide_nothing_until_patience_ends() {
    let few = Arm { num_answers: 99, ..GOOD };
    let found = compared(GOOD, few, 4);
    assert_eq!((found.decision, found.hit_rate), (Decision::Wait, None));
    assert_eq!((found.canary.hit_rate.value, found.canary.hit_rate.num_answers), (None, 2 * 99));
    let found = compared(GOOD, Arm { num_windows: 28, ..few }, 4);
    assert_eq!(found.decision, Decision::RollBack);
    assert!(found.reason.contains("undecided"), "{}", found.reason);
}

#[test]
fn an_equal_canary_is_rolled_back_as_rarely_as_alpha_says() {
    let arm = Arm { num_answers: 1_000, num_windows: 1, ..GOOD };
    let runs = 1_000;
    let wrong =
        (0..runs).filter(|seed| compared(arm, arm, 100 + seed).decision == Decision::RollBack).count();
    // 99.9 % of a binomial(1000, 0.01) lie under 21; faults have a margin beside it.
    assert!(wrong <= 21, "{wrong} of {runs}");
}

#[test]
fn a_canary_that_loses_the_margin_is_promoted_as_rarely_as_alpha_says() {
    let (champion, canary) =
        (Arm { num_answers: 1_000, ..GOOD }, Arm { num_answers: 1_000, hits: 250, ..GOOD });
    let runs = 500;
    let wrong = (0..runs)
        .filter(|seed| compared(champion, canary, 5_000 + seed).decision == Decision::Promote)
        .count();
    // 99.9 % of a binomial(500, 0.1) lie under 72. Devices might have answered all fields in all windows, so the test errs on the quiet side.
    assert!((1..=72).contains(&wrong), "{wrong} of {runs}");
}

#[test]
fn options_out_of_range_are_refused() {
    let (bundle, none) = (bundle(1), Merged { num_windows: 0, num_reports: 0, answers: BTreeMap::new() });
    for options in [
        Options { alpha: 0.0, ..Options::default() },
        Options { alpha: 0.5, ..Options::default() },
        Options { promotion_alpha: 0.0, ..Options::default() },
        Options { margin: -0.1, ..Options::default() },
        Options { fault_margin: f64::NAN, ..Options::default() },
    ] {
        let error = compare_merged((&bundle, &none), (&bundle, &none), &options).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    let nothing = compare_merged((&bundle, &none), (&bundle, &none), &Options::default()).unwrap();
    assert_eq!(nothing.decision, Decision::Wait);
}
