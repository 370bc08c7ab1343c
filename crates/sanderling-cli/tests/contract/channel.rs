//! The loop by itself: a champion, a canary, what devices report of both, and what follows.

use std::fs;
use std::path::{Path, PathBuf};

use sanderling_collector::{RegisteredBundle, Store, StoreOptions};
use sanderling_types::{Channel, Observation, Report, SharedInteraction, SharedSession};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::report::check_page;
use crate::support::{RECIPE, Ran, WORLD, run, sanderling};

const DAY: i64 = 86_400;
/// Labels of `outcome.position`: `none` and `1`.
const OUTCOME: &str = "outcome.position";

/// A channel with a champion, and the database of its collector.
struct Site {
    dir: TempDir,
    now: i64,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let recipe =
            format!("{RECIPE}[gate]\nmin_gain = -1.0\nmin_coverage_ratio = 0.0\nmax_size_ratio = 100.0\n");
        fs::write(dir.path().join("recipe.toml"), recipe).unwrap();
        run!("keygen", "--out", &dir.path().join("shop.key")).expect(0);
        let store = Store::open(&dir.path().join("reports.db").into(), &StoreOptions::default()).unwrap();
        store.register(&RegisteredBundle::read(&WORLD.path("bundle")).unwrap()).unwrap();
        drop(store);
        let site = Self { dir, now: 0 };
        run!("promote", &WORLD.path("bundle"), "--channel", &site.path("live")).expect(0);
        let now = site.channel().champion.since;
        Self { now, ..site }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `channel.json` as devices find it.
    fn channel(&self) -> Channel {
        Channel::decode(&fs::read(self.path("live").join(Channel::FILE_NAME)).unwrap()).unwrap()
    }

    /// One check, so many days later.
    fn check(&mut self, days: i64, more: &[&str]) -> Ran {
        self.now += days * DAY;
        let (now, live, store) = (self.now.to_string(), self.path("live"), self.path("reports.db"));
        let (recipe, key, data) = (self.path("recipe.toml"), self.path("shop.key"), WORLD.path("data"));
        let mut arguments: Vec<&std::ffi::OsStr> = vec!["retrain".as_ref(), data.as_ref()];
        for (flag, value) in [
            ("--channel", live.as_os_str()),
            ("--store", store.as_os_str()),
            ("--recipe", recipe.as_os_str()),
            ("--key", key.as_os_str()),
            ("--now", now.as_ref()),
        ] {
            arguments.extend([flag.as_ref(), value]);
        }
        arguments.extend(more.iter().map(|word| std::ffi::OsStr::new(*word)));
        arguments.push("--json".as_ref());
        sanderling(&arguments)
    }

    /// In each of `days` windows from now on, reports of a bundle: of a hundred `hits` chose the first item.
    fn report(&self, bundle: &Path, days: i64, each_day: u64, hits: u64) {
        let bundle = RegisteredBundle::read(bundle).unwrap();
        let store = Store::open(
            &self.path("reports.db").into(),
            &StoreOptions { queue_capacity: 100_000, max_batch: 10_000, ..StoreOptions::default() },
        )
        .unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let constants = bundle.telemetry();
        let first = self.now.div_euclid(DAY) * DAY + DAY;
        runtime.block_on(async {
            let reports = (0..days).flat_map(|day| (0..each_day).map(move |number| (day, number)));
            let sent = reports.map(|(day, number)| {
                let bin = u16::from(number % 100 < hits);
                store.submit(
                    Report {
                        format_version: 1,
                        report_id: format!(
                            "{}{number:08x}{:08x}",
                            &bundle.hash().to_string()[..16],
                            first / DAY + day
                        ),
                        bundle_sha256: bundle.hash(),
                        window_start: first + day * DAY,
                        window_seconds: constants.window_seconds,
                        epsilon: constants.epsilon,
                        observations: vec![Observation { field: OUTCOME.to_owned(), bin }],
                        padding: String::new(),
                    },
                    first + (day + 1) * DAY,
                )
            });
            for receipt in futures_util::future::join_all(sent).await {
                receipt.unwrap();
            }
        });
    }

    /// Two sessions that were shared: of the first day of the logs, and of today.
    fn share_sessions(&self) {
        let bundle = RegisteredBundle::read(&WORLD.path("bundle")).unwrap();
        let store = Store::open(&self.path("reports.db").into(), &StoreOptions::default()).unwrap();
        let logs = fs::read_to_string(WORLD.path("data").join("interactions.csv")).unwrap();
        let seen = |line: &str| line.split(',').nth(1).unwrap().to_owned();
        let items: Vec<String> = logs.lines().skip(1).take(3).map(seen).collect();
        let first: i64 = logs.lines().nth(1).unwrap().split(',').nth(3).unwrap().parse().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        for (number, day) in [first, self.now].map(SharedSession::day_of).into_iter().enumerate() {
            let act =
                |item: &String| SharedInteraction { item_id: item.as_str().into(), kind: "view".to_owned() };
            let interactions = items.iter().map(act).collect();
            let id = format!("{number:032x}");
            let session = SharedSession::of_newest(id, bundle.hash(), day, interactions).unwrap();
            runtime.block_on(store.submit_session(session, day + DAY)).unwrap();
        }
    }

    fn decisions(&self) -> Vec<String> {
        let status = run!("status", "--channel", &self.path("live"), "--json").expect_json(0);
        let decisions = status["decisions"].as_array().unwrap();
        decisions.iter().map(|one| one["decision"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn a_canary_that_hurts_is_rolled_back_and_a_good_one_promoted_without_a_hand() {
    let mut site = Site::new();
    let champion = site.channel().champion;
    let rested = site.check(1, &[]).expect_json(0);
    assert_eq!((&rested["decision"], site.decisions().len()), (&Value::Null, 1), "{rested}");
    assert!(rested["reason"].as_str().unwrap().contains("last decision"), "{rested}");

    site.share_sessions();
    let canary = site.check(9, &["--max-age-days", "1", "--canary-share", "0.2"]).expect_json(0);
    assert_eq!(canary["decision"], "canary", "{canary}");
    assert!(canary["reason"].as_str().unwrap().contains("days old"), "{canary}");
    assert_eq!(canary["evidence"]["gate"]["promote"], true);
    let sessions = json!({ "found": 2, "used": 1, "interactions": 3 });
    assert_eq!(canary["evidence"]["shared_sessions"], sessions, "what may answer a test case does not train");
    let channel = site.channel();
    let trial = channel.canary.unwrap();
    assert_eq!((channel.champion, trial.share), (champion.clone(), 0.2));
    let folder = site.path("live").join(&trial.release.path);
    run!("verify", &folder, "--public-key", &site.path("shop.key.pub"), "--json").expect_json(0);

    let served = site.path("live").join(&champion.path);
    site.report(&served, 1, 4_000, 30);
    site.report(&folder, 1, 2_000, 20);
    let rolled_back = site.check(2, &[]).expect_json(1);
    assert_eq!(rolled_back["decision"], "roll_back", "{rolled_back}");
    assert!(rolled_back["evidence"]["comparison"]["hit_rate"]["value"].as_f64().unwrap() < 0.0);
    assert_eq!((site.channel().canary, site.channel().champion), (None, champion.clone()));

    let canary = site.check(9, &["--max-age-days", "1", "--max-epochs", "1"]).expect_json(0);
    assert_eq!(canary["decision"], "canary", "{canary}");
    let folder = site.path("live").join(&site.channel().canary.unwrap().release.path);
    site.report(&served, 7, 4_000, 30);
    site.report(&folder, 7, 4_000, 31);
    assert_eq!(site.check(8, &["--canary-windows", "8"]).expect_json(0)["decision"], Value::Null);
    let promoted = site.check(1, &[]).expect_json(0);
    assert_eq!(promoted["decision"], "promote", "{promoted}");
    assert!(
        site.channel().canary.is_none() && site.channel().champion.bundle_sha256 != champion.bundle_sha256
    );

    let (store, path) = (site.path("reports.db"), site.path("drift.html"));
    run!("drift", "--store", &store, "--bundle", &served, "--html", &path).expect(0);
    let page = check_page(&path);
    for text in
        ["no drift", "outcome.position (%)", "2-3", "too few answers", &champion.bundle_sha256.to_string()]
    {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    assert_eq!(site.decisions(), ["champion", "canary", "roll_back", "canary", "promote"]);

    run!("rollback", "--channel", &site.path("live")).expect(0);
    assert_eq!(site.channel().champion.bundle_sha256, champion.bundle_sha256);
    run!("rollback", "--channel", &site.path("live"), "--json").expect_error("not_found");
}

#[test]
fn a_challenger_that_the_gate_refuses_changes_nothing_for_devices() {
    let mut site = Site::new();
    let before = site.channel();
    fs::write(site.path("recipe.toml"), format!("{RECIPE}[gate]\nmin_gain = 1.0\n")).unwrap();
    let refused = site.check(9, &["--max-age-days", "1"]).expect_json(1);
    assert_eq!(refused["decision"], "refuse", "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("gain"), "{refused}");
    assert_eq!(
        (site.channel(), site.decisions()),
        (before, vec!["champion".to_owned(), "refuse".to_owned()])
    );
}

#[test]
fn a_channel_says_what_is_missing() {
    let site = Site::new();
    run!("status", "--channel", &site.path("nowhere"), "--json").expect_error("not_found");
    run!("promote", "--channel", &site.path("live"), "--json").expect_error("not_found");
    run!("rollback", "--channel", &site.path("nowhere"), "--json").expect_error("not_found");
    assert!(!site.path("nowhere").exists(), "nothing is left behind");
    let signed = crate::support::copy_of_bundle();
    run!("sign", signed.path(), "--key", &site.path("shop.key")).expect(0);
    run!("promote", signed.path(), "--channel", &site.path("live")).expect(0);
    let (data, live, store) = (WORLD.path("data"), site.path("live"), site.path("reports.db"));
    run!("retrain", &data, "--channel", &live, "--store", &store, "--json").expect_error("signature_missing");
    run!("promote", &site.path("nowhere"), "--channel", &site.path("live"), "--json").expect(2);
    let args = |share| ["--canary-share", share, "--json"];
    for share in ["0", "0.6", "nan"] {
        let (live, store) = (site.path("live"), site.path("reports.db"));
        let mut all: Vec<&std::ffi::OsStr> =
            vec!["retrain".as_ref(), "data".as_ref(), "--channel".as_ref(), live.as_ref()];
        all.extend(["--store".as_ref(), store.as_os_str()]);
        all.extend(args(share).map(std::ffi::OsStr::new));
        sanderling(&all).expect_error("invalid_argument");
    }
}

/// Of the numbers of the statement: a longer or shorter report, another budget or window, more answers and late reports are refused in
/// `sanderling-collector/tests/reports.rs` and `durability.rs`, fields with fewer answers in `drift.rs`, a second report of a window in
/// `tests/js/outbox.test.mjs`; here a report of the program's own bundle obeys them.
#[test]
fn the_privacy_statement_is_what_a_report_obeys() {
    let statement = run!("privacy", &WORLD.path("bundle"), "--json").expect_json(0);
    let bundle = RegisteredBundle::read(&WORLD.path("bundle")).unwrap();
    let telemetry = bundle.telemetry();
    let counts = sanderling_core::Telemetry::new(bundle.baseline(), telemetry, bundle.hash());
    let report = counts.build_report(0, [7; 32], [9; 16]).unwrap();
    assert_eq!(statement["report_bytes"], report.encode().len());
    assert_eq!(statement["fields_per_report"], report.observations.len());
    assert_eq!(statement["epsilon_per_report"], report.epsilon);
    assert_eq!(statement["epsilon_per_day"], report.epsilon * 86_400.0 / f64::from(report.window_seconds));
    assert_eq!(statement["reports_per_day"], 86_400.0 / f64::from(telemetry.window_seconds));
    let names = |field: &Value| field["name"].as_str().unwrap().to_owned();
    let declared: Vec<String> = statement["fields"].as_array().unwrap().iter().map(names).collect();
    assert!(report.observations.iter().all(|observation| declared.contains(&observation.field)));
    assert_eq!(statement["min_answers"], sanderling_collector::drift::Options::default().min_answers);
    let retention = sanderling_collector::Config::default().retention_seconds;
    assert_eq!(statement["retention_days"], retention / 86_400);
}
