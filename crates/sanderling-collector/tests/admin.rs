//! What administrators can ask, who may ask it, and what is kept from them too.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]

mod support;

use sanderling_collector::{Problem, Store, StoreOptions};
use sanderling_types::{Code, Report};
use serde_json::{Value, json};
use support::{
    Client, Collector, Database, Kind, TOKEN, WINDOW, bundle, config, for_every_database, num_stored, open,
    padded, report, unpadded,
};

const FIELD: &str = "interaction.category";
const DAY: i64 = 86_400;
const ADDRESSES: [&str; 5] =
    ["/v1/status", "/v1/drift?bundle=x", "/v1/drift/series?bundle=x", "/v1/decisions", "/metrics"];

for_every_database!(
    only_the_right_token_opens_the_admin_addresses,
    the_two_listeners_share_no_address,
    the_dashboard_needs_no_token_and_allows_nothing_from_elsewhere,
    small_windows_are_listed_without_their_counts,
    verdicts_and_their_series_are_those_of_the_windows,
    questions_that_make_no_sense_are_refused,
    metrics_count_what_happened,
    decisions_are_shown_as_they_were_written,
    an_erased_bundle_leaves_nothing_and_the_others_stay,
    a_locked_database_is_not_ready_until_it_is_free,
);

fn in_window(number: u64, window_start: i64, bin: u16) -> Report {
    let mut report = unpadded(number, FIELD, bin);
    report.window_start = window_start;
    padded(report)
}

/// `count` reports of a window with these bins in turns.
fn send_window(client: &Client, first: u64, window_start: i64, count: u64, bins: &[u16]) {
    for number in first..first + count {
        let bin = bins[(number % bins.len() as u64) as usize];
        assert_eq!(client.send(&in_window(number, window_start, bin)).0, 201);
    }
}

fn asked(client: &Client, path: &str, authorization: Option<&str>) -> (u16, Value, Option<String>) {
    let mut request = client.agent().get(client.url(path));
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let mut response = request.call().unwrap();
    let challenge =
        response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
    let body = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&body).unwrap_or(Value::Null), challenge)
}

fn only_the_right_token_opens_the_admin_addresses(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    let client = collector.administrator();
    let wrong = format!("Bearer {}", TOKEN.to_uppercase());
    for path in ADDRESSES {
        for authorization in [None, Some(wrong.as_str()), Some("Bearer"), Some("Bearer "), Some(TOKEN)] {
            let (status, problem, challenge) = asked(&client, path, authorization);
            let problem: Problem = serde_json::from_value(problem).unwrap();
            assert_eq!((status, problem.status), (401, 401), "{path} {authorization:?}");
            assert_eq!(problem.code, Code::InvalidArgument.as_str());
            assert_eq!(challenge.as_deref(), Some("Bearer"));
        }
        let lower_case = format!("bearer {TOKEN}");
        assert_ne!(asked(&client, path, Some(&lower_case)).0, 401, "{path}");
    }
    let erase = client.agent().delete(client.url(&format!("/v1/bundles/{}", bundle().hash())));
    assert_eq!(erase.call().unwrap().status(), 401);
    assert_eq!(collector.status().bundles.len(), 1, "nothing was erased");
}

fn the_two_listeners_share_no_address(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    let public = collector.client();
    let bundle_path = format!("/v1/bundles/{}", bundle().hash());
    for path in ADDRESSES.iter().copied().chain(["/", "/app.js", &bundle_path]) {
        assert_eq!(public.get(path).0, 404, "{path} is not for devices");
    }
    assert_eq!(public.delete(&bundle_path).0, 404);
    let admin = collector.administrator();
    assert_eq!(admin.post(&report(1, FIELD, 0).encode()).0, 404);
    for path in ["/healthz", "/readyz"] {
        assert_eq!(public.agent().get(public.url(path)).call().unwrap().status(), 204, "{path}");
    }
}

fn the_dashboard_needs_no_token_and_allows_nothing_from_elsewhere(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    let client = collector.administrator();
    for (path, kind) in
        [("/", "text/html"), ("/app.js", "text/javascript"), ("/vendor/uPlot.min.css", "text/css")]
    {
        let mut response = client.agent().get(client.url(path)).call().unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with(kind), "{path}");
        assert!(header("content-security-policy").starts_with("default-src 'self';"), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert!(!response.body_mut().read_to_string().unwrap().is_empty());
    }
}

fn small_windows_are_listed_without_their_counts(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    send_window(&collector.client(), 0, WINDOW - DAY, 99, &[0]);
    send_window(&collector.client(), 1_000, WINDOW, 100, &[0]);
    let status = collector.status();
    let windows = status.bundles[0].windows.iter();
    let shown: Vec<_> = windows.map(|window| (window.window_start, window.num_reports)).collect();
    assert_eq!(shown, [(WINDOW - DAY, None), (WINDOW, Some(100))]);
    assert_eq!(status.num_reports, 100, "a sum over both would tell the small one");
    assert_eq!(num_stored(&database.location()), 199);

    let hash = bundle().hash();
    let small = format!("/v1/drift?bundle={hash}&from={}&to={WINDOW}", WINDOW - DAY);
    let (status, verdict) = collector.administrator().get(&small);
    assert_eq!(status, 200, "{verdict}");
    assert_eq!(verdict["num_reports"], Value::Null);
    assert_eq!(verdict["windows"]["num_reports"], Value::Null);
    assert_eq!(verdict["fields"][0]["num_answers"], Value::Null);
    assert_eq!(verdict["fields"][0]["skipped"], "too_few_answers");
    assert_eq!(verdict["fields"][0]["shares"], json!([]));
}

fn verdicts_and_their_series_are_those_of_the_windows(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    let as_trained = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3];
    send_window(&collector.client(), 0, WINDOW - DAY, 400, &as_trained);
    send_window(&collector.client(), 1_000, WINDOW, 400, &[3]);
    let (client, hash) = (collector.administrator(), bundle().hash());

    let (status, series) = client.get(&format!("/v1/drift/series?bundle={hash}"));
    assert_eq!(status, 200, "{series}");
    let windows = series["windows"].as_array().unwrap();
    let flags =
        |at: usize| [&windows[at]["window_start"], &windows[at]["fields"][0]["drifted"]].map(Clone::clone);
    assert_eq!(flags(0), [json!(WINDOW - DAY), json!(false)]);
    assert_eq!(flags(1), [json!(WINDOW), json!(true)]);
    assert_eq!(windows[1]["num_reports"], 400);
    let mut keys: Vec<_> = windows[1]["fields"][0].as_object().unwrap().keys().collect();
    keys.sort();
    let expected =
        ["adjusted_p_value", "drifted", "effect", "name", "num_answers", "psi", "shifted", "skipped"];
    assert_eq!(keys, expected);

    let num_reports = |query: &str| {
        let (status, verdict) = client.get(&format!("/v1/drift?bundle={hash}{query}"));
        assert_eq!(status, 200, "{verdict}");
        verdict["num_reports"].as_u64().unwrap()
    };
    assert_eq!(num_reports(""), 800, "the last seven windows");
    assert_eq!(num_reports("&windows=1"), 400);
    assert_eq!(num_reports(&format!("&to={WINDOW}")), 400);
    assert_eq!(num_reports(&format!("&from={}", WINDOW - DAY)), 800);
    let (_, verdict) = client.get(&format!("/v1/drift?bundle={hash}&windows=1"));
    assert_eq!((&verdict["drifted"], &verdict["fields"][0]["drifted"]), (&json!(true), &json!(true)));

    let (status, about) = client.get(&format!("/v1/bundles/{hash}"));
    assert_eq!((status, &about["name"], about["fields"].as_array().unwrap().len()), (200, &json!("shop"), 3));
}

fn questions_that_make_no_sense_are_refused(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    let (client, hash, other) = (collector.administrator(), bundle().hash(), "0".repeat(64));
    let cases = [
        ("/v1/drift".to_owned(), 400, "invalid_argument"),
        ("/v1/drift?bundle=abc".to_owned(), 400, "invalid_argument"),
        (format!("/v1/drift?bundle={hash}&windows=0"), 400, "invalid_argument"),
        (format!("/v1/drift?bundle={hash}&windows=-1"), 400, "invalid_argument"),
        (format!("/v1/drift?bundle={hash}&windows=2&from=0"), 400, "invalid_argument"),
        (format!("/v1/drift?bundle={hash}&alpha=0.5"), 400, "invalid_argument"),
        (format!("/v1/drift?bundle={other}"), 404, "unknown_bundle"),
        (format!("/v1/drift/series?bundle={other}"), 404, "unknown_bundle"),
        (format!("/v1/bundles/{other}"), 404, "unknown_bundle"),
        ("/v1/devices".to_owned(), 404, "not_found"),
    ];
    for (path, status, code) in cases {
        let (found, problem) = client.get(&path);
        assert_eq!((found, problem["code"].as_str()), (status, Some(code)), "{path}: {problem}");
    }
    assert_eq!(client.delete(&format!("/v1/bundles/{other}")).0, 404);
    assert_eq!(client.delete("/v1/status").0, 405);
}

fn metrics_count_what_happened(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    let client = collector.client();
    for number in [1, 2, 3, 3] {
        client.send(&report(number, FIELD, 0));
    }
    client.post(b"nonsense");
    client.post(b"nonsense");
    client.send(&report(4, FIELD, 9));
    let (status, text) = collector.administrator().get("/metrics");
    let text = text.as_str().unwrap();
    assert_eq!(status, 200);
    for line in [
        "sanderling_reports_accepted_total 3",
        "sanderling_reports_duplicate_total 1",
        "sanderling_reports_rejected_total{code=\"report_invalid\"} 2",
        "sanderling_reports_rejected_total{code=\"bin_out_of_range\"} 1",
        "sanderling_report_commit_seconds_count 4",
        "sanderling_queue_capacity_left 1024",
        "# TYPE sanderling_database_bytes gauge",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let bytes = text.lines().find_map(|line| line.strip_prefix("sanderling_database_bytes "));
    assert!(bytes.unwrap().parse::<u64>().unwrap() > 4_096);
}

fn decisions_are_shown_as_they_were_written(kind: Kind) {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("decisions.jsonl");
    let database = Database::new(kind);
    let store = open(&database.location());
    let collector = Collector::start_with(store, config(), Some(&journal));
    let client = collector.administrator();
    assert_eq!(client.get("/v1/decisions"), (200, json!([])), "there is no journal yet");
    std::fs::write(&journal, "{\"decision\":\"promoted\",\"version\":2}\n{\"decision\":\"rolled_back\"}\n")
        .unwrap();
    let expected = json!([{"decision": "promoted", "version": 2}, {"decision": "rolled_back"}]);
    assert_eq!(client.get("/v1/decisions"), (200, expected));
    let elsewhere = Database::new(kind);
    assert_eq!(Collector::at(&elsewhere).administrator().get("/v1/decisions"), (200, json!([])));
}

fn an_erased_bundle_leaves_nothing_and_the_others_stay(kind: Kind) {
    let database = Database::new(kind);
    let store = open(&database.location());
    let kept = support::bundle_of(2, sanderling_types::TelemetryConstants::default());
    store.register(&kept).unwrap();
    let collector = Collector::start(store, config());
    let client = collector.client();
    send_window(&client, 0, WINDOW, 120, &[0, 1, 2, 3]);
    let mut other = unpadded(500, FIELD, 1);
    other.bundle_sha256 = kept.hash();
    assert_eq!(client.send(&padded(other)).0, 201);

    let address = format!("/v1/bundles/{}", bundle().hash());
    let answer = json!({"bundle_sha256": bundle().hash(), "num_reports": 120});
    assert_eq!(collector.administrator().delete(&address), (200, answer));
    let status = collector.status();
    assert_eq!(status.bundles.iter().map(|known| known.bundle_sha256).collect::<Vec<_>>(), [kept.hash()]);
    assert_eq!(num_stored(&database.location()), 1);
    for table in ["reports", "windows", "cells", "bundles"] {
        assert_eq!(database.number(&format!("SELECT count(*) FROM {table}")), 1, "{table}");
    }
    assert_eq!(client.send(&report(900, FIELD, 0)).1["code"], "unknown_bundle");
    assert_eq!(collector.administrator().delete(&address).1["code"], "unknown_bundle");

    if kind == Kind::Postgres {
        return;
    }
    // Neither the file nor its log has the bytes of the bundle's hash any more; they have those of the other one.
    let log = format!("{}-wal", database.text());
    let bytes = [std::fs::read(database.text()).unwrap(), std::fs::read(log).unwrap_or_default()].concat();
    let holds = |hash: &[u8]| bytes.windows(32).any(|window| window == hash);
    assert!(holds(kept.hash().as_bytes()));
    assert!(!holds(bundle().hash().as_bytes()));
}

/// The status of `/readyz`, and its code.
fn readiness(client: &Client) -> (u16, Value) {
    let (status, problem) = client.get("/readyz");
    (status, problem["code"].clone())
}

#[test]
fn a_full_database_is_not_ready_though_it_is_healthy() {
    let database = Database::new(Kind::Sqlite);
    let location = database.location();
    drop(open(&location));
    let options = StoreOptions { max_database_bytes: Some(192 * 1024), ..StoreOptions::default() };
    let collector = Collector::start(Store::open(&location, &options).unwrap(), config());
    let client = collector.client();
    assert_eq!(readiness(&client).0, 204);
    let refused = (0..20_000).find(|number| client.send(&report(*number, FIELD, 0)).0 == 507);
    assert!(refused.is_some_and(|number| number > 100), "{refused:?}");
    assert_eq!(readiness(&client), (503, json!("storage_full")));
    assert_eq!(client.get("/healthz").0, 204);
    // What is full can still be emptied.
    assert_eq!(collector.administrator().delete(&format!("/v1/bundles/{}", bundle().hash())).0, 200);
    assert_eq!(readiness(&client).0, 204);
}

fn a_locked_database_is_not_ready_until_it_is_free(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    let client = collector.client();
    let blocker = database.block();
    assert_eq!(readiness(&client), (503, json!("overloaded")));
    drop(blocker);
    support::wait_for("readiness", || readiness(&client).0 == 204);
}
