//! What the collector accepts, what it refuses, and how it says so.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]

mod support;

use sanderling_collector::{Config, Problem, RegisteredBundle};
use sanderling_types::{Code, FileRole, Manifest, Observation, Report, Sha256Hash, TelemetryConstants};
use support::{
    Collector, Database, Kind, NOW, WINDOW, baseline, bundle, bundle_of, config, for_every_database,
    manifest, num_stored, open, padded, report, unpadded,
};

const FIELD: &str = "interaction.category";

for_every_database!(
    accepts_a_report_once_and_acknowledges_it_again,
    refuses_everything_undeclared_with_its_code_and_counts_it,
    a_window_may_start_within_the_tolerance_of_clocks,
    malformed_bodies_are_refused_and_never_stored,
    the_store_holds_no_answer_of_a_single_report_and_no_exact_arrival,
);

#[test]
fn a_baseline_that_is_not_the_manifests_is_refused() {
    let baseline = baseline().encode();
    let honest = manifest(1, TelemetryConstants::default(), &baseline);
    let refusal = |manifest: &Manifest, baseline: &[u8]| {
        RegisteredBundle::decode(&manifest.encode(), baseline).map(drop).unwrap_err().code()
    };
    let mut changed = baseline.clone();
    assert_eq!(refusal(&honest, &changed[1..]), Code::FileTruncated);
    changed[0] ^= 1;
    assert_eq!(refusal(&honest, &changed), Code::HashMismatch);
    // A device may look at this digest alone.
    let mut other = honest;
    other.files.get_mut(&FileRole::Baseline).unwrap().pieces_sha256 = Some(Sha256Hash::of(b"other"));
    assert_eq!(refusal(&other, &baseline), Code::HashMismatch);
}

fn with(change: impl FnOnce(&mut Report)) -> Vec<u8> {
    let mut report = unpadded(1, FIELD, 0);
    change(&mut report);
    padded(report).encode()
}

fn accepts_a_report_once_and_acknowledges_it_again(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    let client = collector.client();
    let first = report(7, FIELD, 2);
    let receipt = |status: &str| serde_json::json!({"report_id": first.report_id, "status": status});
    assert_eq!(client.send(&first), (201, receipt("accepted")));
    assert_eq!(client.send(&first), (200, receipt("duplicate")));

    // An id is counted once, whatever a second report with it answers.
    assert_eq!(client.send(&report(7, FIELD, 3)), (200, receipt("duplicate")));
    let mut elsewhen = unpadded(7, FIELD, 2);
    elsewhen.window_start -= 86_400;
    let (status, problem) = client.send(&padded(elsewhen));
    assert_eq!((status, problem["code"].as_str()), (409, Some("report_conflict")));

    assert_eq!(num_stored(&database.location()), 1);
    let status = collector.status();
    assert_eq!(status.bundles[0].bundle_sha256, bundle().hash());
    assert_eq!(status.bundles[0].windows[0].window_start, WINDOW);
    assert_eq!(status.rejections, [("report_conflict".to_owned(), 1)].into());
}

fn refuses_everything_undeclared_with_its_code_and_counts_it(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    let client = collector.client();
    let day = 86_400;
    let retention = i64::from(Config::default().retention_seconds);
    let unpadded_report = unpadded(1, FIELD, 0).encode();
    let too_large = vec![b' '; Report::MAX_BYTES + 1];
    let version_2 = with(|report| report.format_version = 2);
    let cases: Vec<(Code, u16, Vec<u8>)> = vec![
        (Code::ReportInvalid, 400, b"{\"format_version\":1}".to_vec()),
        (Code::UnsupportedFormatVersion, 400, version_2),
        (Code::ReportTooLarge, 413, too_large),
        (
            Code::UnknownBundle,
            400,
            with(|report| report.bundle_sha256 = bundle_of(9, TelemetryConstants::default()).hash()),
        ),
        (Code::UnknownField, 400, with(|report| report.observations[0].field = "user.name".to_owned())),
        (Code::BinOutOfRange, 400, with(|report| report.observations[0].bin = 4)),
        (Code::PrivacyViolation, 400, with(|report| report.epsilon = 8.0)),
        (Code::PrivacyViolation, 400, with(|report| report.window_seconds = 3_600)),
        (
            Code::PrivacyViolation,
            400,
            with(|report| report.observations.push(Observation { field: "score.ranker".to_owned(), bin: 0 })),
        ),
        (Code::PrivacyViolation, 400, unpadded_report),
        (Code::ReportTooEarly, 400, with(|report| report.window_start = WINDOW + 2 * day)),
        (Code::ReportExpired, 400, with(|report| report.window_start = WINDOW - retention)),
    ];
    let mut expected_rejections = std::collections::BTreeMap::new();
    for (code, expected_status, body) in cases {
        let (status, problem) = client.post(&body);
        let problem: Problem = serde_json::from_value(problem).unwrap();
        assert_eq!((status, problem.code.as_str()), (expected_status, code.as_str()), "{}", problem.detail);
        assert_eq!(problem.status, status);
        assert_eq!(problem.title, code.description());
        assert_eq!(problem.problem_type, format!("urn:sanderling:problem:{code}"));
        *expected_rejections.entry(code.to_string()).or_insert(0) += 1;
    }
    assert_eq!(collector.status().rejections, expected_rejections);
    assert_eq!(num_stored(&database.location()), 0);
    // The edges of what is allowed.
    for window_start in [WINDOW + day, WINDOW + day - retention] {
        let mut edge = unpadded(window_start.unsigned_abs(), FIELD, 0);
        edge.window_start = window_start;
        assert_eq!(client.send(&padded(edge)).0, 201, "window {window_start}");
    }
}

fn a_window_may_start_within_the_tolerance_of_clocks(kind: Kind) {
    for (seconds_early, expected) in [(300, 201), (301, 400)] {
        let database = Database::new(kind);
        let clock = std::sync::Arc::new(sanderling_collector::ManualClock::new(WINDOW - seconds_early));
        let store = open(&database.location());
        let collector = Collector::start(store, Config { clock, ..config() });
        assert_eq!(collector.client().send(&report(1, FIELD, 0)).0, expected, "{seconds_early} s early");
    }
}

fn malformed_bodies_are_refused_and_never_stored(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    let client = collector.client();
    let good = String::from_utf8(report(1, FIELD, 0).encode()).unwrap();
    let edit = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in the report");
        good.replacen(from, to, 1).into_bytes()
    };
    let mut cases: Vec<Vec<u8>> = vec![
        vec![],
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"report\"".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        b"{".repeat(4_000),
        b"[".repeat(4_000),
        vec![0; 512],
        format!("{good}x").into_bytes(),
        format!("{good}{good}").into_bytes(),
        edit("\"report_id\":\"0", "\"report_id\":\"g"),
        edit("\"report_id\":\"0", "\"report_id\":\""),
        edit("\"report_id\":\"0", "\"report_id\":\"A"),
        edit("\"window_start\":1", "\"window_start\":1.5e1"),
        edit("\"window_start\":1728000000", "\"window_start\":1728000001"),
        edit("\"window_start\":1728000000", "\"window_start\":-1"),
        edit("\"window_start\":1728000000", "\"window_start\":99999999999999999999"),
        edit("\"window_seconds\":86400", "\"window_seconds\":0"),
        edit("\"window_seconds\":86400", "\"window_seconds\":-86400"),
        edit("\"epsilon\":3.0", "\"epsilon\":-2.0"),
        edit("\"epsilon\":3.0", "\"epsilon\":0"),
        edit("\"epsilon\":3.0", "\"epsilon\":1e999"),
        edit("\"epsilon\":3.0", "\"epsilon\":null"),
        edit("\"epsilon\":3.0", "\"epsilon\":\"2.0\""),
        edit("\"bin\":0", "\"bin\":-1"),
        edit("\"bin\":0", "\"bin\":65536"),
        edit("\"bin\":0", "\"bin\":0,\"user\":\"u1\""),
        edit("\"format_version\":1", "\"format_version\":1,\"user_id\":\"u1\""),
        edit("\"format_version\":1", "\"format_version\":1,\"format_version\":1"),
        edit("\"format_version\":1", "\"format_version\":-1"),
        edit("\"padding\":\" ", "\"padding\":\"x"),
        edit("\"bundle_sha256\":\"", "\"bundle_sha256\":\"00"),
        edit("[{\"field\":\"interaction.category\",\"bin\":0}]", "[]"),
        edit("{\"field\"", "{\"field\":\"interaction.category\",\"bin\":0},{\"field\""),
    ];
    // Every truncation of a good report is malformed as well.
    cases.extend((0..good.len() - 1).step_by(7).map(|len| good.as_bytes()[..len].to_vec()));
    for body in &cases {
        let (status, problem) = client.post(body);
        let shown = String::from_utf8_lossy(body);
        assert!(status == 400, "status {status} for {shown}");
        let code = problem["code"].as_str().unwrap();
        assert!(["report_invalid", "unsupported_format_version"].contains(&code), "{code} for {shown}");
    }
    assert_eq!(num_stored(&database.location()), 0);
    assert_eq!(collector.status().rejections.values().sum::<u64>(), cases.len() as u64);
    assert_eq!(client.post(good.as_bytes()).0, 201, "the unedited report is good");
}

#[test]
fn only_configured_origins_may_send_from_pages() {
    let database = Database::new(Kind::Sqlite);
    let store = open(&database.location());
    let origin = "https://shop.example";
    let collector = Collector::start(store, Config { allowed_origins: vec![origin.to_owned()], ..config() });
    let client = collector.client();
    let allowed = |sender: &str, body: &[u8]| {
        let request = client.agent().post(client.url("/v1/reports")).header("origin", sender);
        let response = request.send(body).unwrap();
        response.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(allowed(origin, &report(1, FIELD, 0).encode()).as_deref(), Some(origin));
    assert_eq!(
        allowed(origin, b"not a report").as_deref(),
        Some(origin),
        "pages may read why they were refused"
    );
    assert_eq!(allowed("https://elsewhere.example", &report(2, FIELD, 0).encode()), None);
}

#[tokio::test]
async fn refuses_to_serve_with_an_origin_that_is_none() {
    for origin in ["shop.example", "https://shop.example/", "https://shop.example\n"] {
        let database = Database::new(Kind::Sqlite);
        let store = open(&database.location());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = Config { allowed_origins: vec![origin.to_owned()], ..config() };
        let error = sanderling_collector::serve(config, store, listener, async {}).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{origin:?}");
    }
}

#[test]
fn other_addresses_and_methods_are_problems_too() {
    let database = Database::new(Kind::Sqlite);
    let collector = Collector::at(&database);
    let client = collector.client();
    for (path, expected_status, expected_code) in
        [("/v1/devices", 404, "not_found"), ("/v1/reports", 405, "invalid_argument")]
    {
        let mut response = client.agent().get(client.url(path)).call().unwrap();
        assert_eq!(response.status(), expected_status, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: Problem = serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap();
        assert_eq!((problem.code.as_str(), problem.status), (expected_code, expected_status));
    }
    assert_eq!(client.agent().get(client.url("/healthz")).call().unwrap().status(), 204);
}

fn the_store_holds_no_answer_of_a_single_report_and_no_exact_arrival(kind: Kind) {
    let rows: Vec<String> = [2, 3]
        .map(|bin| {
            let database = Database::new(kind);
            Collector::at(&database).client().send(&report(1, FIELD, bin));
            let (row, num_columns) = database.only_report();
            assert_eq!(num_columns, 4, "a new column must be shown to say nothing of the answer");
            let received_at = database.number("SELECT received_at FROM reports");
            assert_eq!(received_at, NOW - NOW.rem_euclid(3_600));
            row
        })
        .into();
    assert_eq!(rows[0], rows[1], "reports that differ in their answers alone leave the same row");
}
