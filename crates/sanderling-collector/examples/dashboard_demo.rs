//! A collector over a made-up shop, to look at the dashboard: a fortnight of reports, in the last days of which one field
//! drifts, and people with a short history choose less. Serves until its standard input ends; the Node test of the dashboard starts it.
//!
//! `dashboard_demo`: prints `{"url":…,"admin_url":…,"token":…}`. `dashboard_demo --none`: without
//! a bundle.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program to look at")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;

use sanderling_collector::{Config, ManualClock, RegisteredBundle, Store, StoreOptions};
use sanderling_sketch::noise::{Channel, choose, choose_weighted, rng_from_seed};
use sanderling_types::{Baseline, BaselineField, FORMAT_VERSION, FieldKind, Report, TelemetryConstants};
use serde_json::json;
use support::{Collector, WINDOW};
use tokio::task::JoinSet;

const DAY: i64 = 86_400;
const NUM_WINDOWS: u64 = 14;
/// The first window in which people play more games than at training time.
const DRIFT_FROM: u64 = 9;
/// Weights of the bins of categories and histories from then on.
const DRIFTED: [(&str, &[u64]); 2] =
    [("interaction.category", &[15, 60, 15, 10]), ("outcome.history", &[4, 1, 45, 15, 6, 3, 5, 3, 5, 3, 10])];
const REPORTS_PER_WINDOW: u64 = 3_000;

/// Weights of the fields' bins at training time.
const FIELDS: [(&str, &[u64]); 6] = [
    ("interaction.category", &[40, 30, 20, 10]),
    ("score.ranker", &[5, 10, 20, 30, 20, 10, 5]),
    ("session.length", &[30, 25, 20, 15, 10]),
    ("feature.item_age_days", &[10, 15, 20, 25, 20, 10]),
    ("outcome.position", &[50, 10, 15, 10, 5, 10]),
    ("outcome.history", &[4, 1, 15, 45, 6, 3, 5, 3, 5, 3, 10]),
];

fn kind(name: &str) -> FieldKind {
    let labels =
        |labels: &[&str]| FieldKind::Categorical { labels: labels.iter().map(ToString::to_string).collect() };
    match name {
        "interaction.category" => labels(&["books", "games", "music", "everything else"]),
        "outcome.position" => labels(&["none", "1", "2-3", "4-10", "over_10", "untold"]),
        "outcome.history" => {
            let fates = ["0", "1-2", "3-5", "6-20", "over-20"]
                .iter()
                .flat_map(|segment| ["ignored", "chosen"].map(|fate| format!("{segment} {fate}")));
            FieldKind::Categorical { labels: fates.chain(["untold".to_owned()]).collect() }
        }
        "score.ranker" => FieldKind::Numeric { edges: vec![-2.0, -1.0, -0.5, 0.5, 1.0, 2.0] },
        "session.length" => FieldKind::Numeric { edges: vec![2.0, 4.0, 8.0, 16.0] },
        _ => FieldKind::Numeric { edges: vec![1.0, 7.0, 30.0, 90.0, 365.0] },
    }
}

fn bundle(version: u64) -> RegisteredBundle {
    let field = |(name, weights): &(&str, &[u64])| {
        let has_shares = !name.starts_with("outcome.");
        let shares = weights.iter().map(|weight| *weight as f64 / 100.0).collect();
        BaselineField {
            name: (*name).to_owned(),
            bins: kind(name),
            shares: has_shares.then_some(shares),
            num_devices: if has_shares { 50_000 } else { 0 },
        }
    };
    let fields = FIELDS.iter().map(field).collect();
    let baseline = Baseline { format_version: FORMAT_VERSION, fields }.encode();
    let manifest = support::manifest(version, TelemetryConstants::default(), &baseline);
    RegisteredBundle::decode(&manifest.encode(), &baseline).unwrap()
}

/// Reports of a window, through the channel that devices use.
fn reports(bundle: &RegisteredBundle, window: u64, count: u64) -> Vec<Report> {
    let mut rng = rng_from_seed([window as u8; 32]);
    let fields = &bundle.baseline().fields;
    let report = |number: u64| {
        let at = choose(fields.len(), &mut rng);
        let drifted = DRIFTED.iter().find(|(name, _)| window >= DRIFT_FROM && *name == FIELDS[at].0);
        let weights = drifted.map_or(FIELDS[at].1, |(_, weights)| weights);
        let channel = Channel::new(bundle.epsilon_per_field(), fields[at].bins.num_bins()).unwrap();
        let bin = channel.randomise(choose_weighted(weights, &mut rng).unwrap(), &mut rng) as u16;
        let mut report = support::unpadded(window * 1_000_000 + number, &fields[at].name, bin);
        report.bundle_sha256 = bundle.hash();
        report.window_start = WINDOW + window as i64 * DAY;
        support::padded(report)
    };
    (0..count).map(report).collect()
}

async fn fill(store: Store, bundle: &RegisteredBundle) {
    let store = Arc::new(store);
    let mut sending = JoinSet::new();
    for window in 0..NUM_WINDOWS {
        // Devices come and go; the window of today has only begun.
        let count = if window == NUM_WINDOWS - 1 { 60 } else { REPORTS_PER_WINDOW + 200 * (window % 4) };
        for report in reports(bundle, window, count) {
            let store = Arc::clone(&store);
            sending.spawn(async move { store.submit(report, WINDOW).await.unwrap() });
        }
    }
    sending.join_all().await;
}

fn decisions(bundle: &RegisteredBundle) -> String {
    let entry = |day: i64, decision: &str, reason: &str| {
        let at = WINDOW + day * DAY + 7 * 3_600;
        format!(
            "{}\n",
            json!({"at": at, "decision": decision, "bundle_sha256": bundle.hash(), "reason": reason})
        )
    };
    entry(0, "promoted", "nDCG@10 0.212 instead of 0.205 on the test part")
        + &entry(12, "challenger_trained", "interaction.category drifted")
}

fn main() {
    let is_empty = std::env::args().nth(1).as_deref() == Some("--none");
    let folder = tempfile::tempdir().unwrap();
    let (database, journal) =
        (folder.path().join("reports.db").into(), folder.path().join("decisions.jsonl"));
    let options = StoreOptions { queue_capacity: 100_000, max_batch: 10_000, ..StoreOptions::default() };
    let open = || Store::open(&database, &options).unwrap();
    if !is_empty {
        let store = open();
        store.register(&bundle(1)).unwrap();
        store.register(&bundle(2)).unwrap();
        tokio::runtime::Runtime::new().unwrap().block_on(fill(store, &bundle(1)));
        std::fs::write(&journal, decisions(&bundle(1))).unwrap();
    }
    let now = WINDOW + NUM_WINDOWS as i64 * DAY;
    let config = Config { clock: Arc::new(ManualClock::new(now)), ..Config::default() };
    let collector = Collector::start_with(open(), config, Some(&journal));
    if !is_empty {
        let client = collector.client();
        (0..3).for_each(|_| drop(client.post(b"not a report")));
        client.send(&support::report(1, "interaction.category", 0));
    }
    let (url, admin_url) = (format!("http://{}", collector.address), format!("http://{}", collector.admin));
    println!("{}", json!({"url": url, "admin_url": admin_url, "token": support::TOKEN}));
    // The pipe ends with whoever started this.
    let _ = std::io::stdin().lines().last();
}
