//! Shared sessions: off unless switched on, stored once, bounded, given to a trainer, and gone when their time is over.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]

mod support;

use std::sync::Arc;

use sanderling_collector::{Config, ManualClock, Problem, Reader, Store, StoreOptions};
use sanderling_types::{
    Code, Report, ReportStatus, Sha256Hash, SharedInteraction, SharedSession, TelemetryConstants,
};
use serde_json::{Value, json};
use support::{
    Client, Collector, Database, Kind, NOW, WINDOW, bundle, bundle_of, config, for_every_database, open,
    padded, report, unpadded,
};

const DAY: i64 = 86_400;
/// What no other text of a database looks like.
const MARK: &str = "tell-tale-item";

for_every_database!(
    a_collector_takes_no_sessions_unless_it_was_told_to,
    a_session_is_stored_once_and_known_after_a_restart,
    what_is_no_session_is_refused_with_its_code_and_counted_apart,
    malformed_sessions_are_refused_and_never_stored,
    a_day_may_begin_within_the_tolerance_of_clocks,
    reports_and_sessions_that_wait_together_are_each_stored_once,
    sessions_are_read_by_bundle_and_day_in_an_order_that_tells_nothing,
    a_session_is_kept_without_its_padding_and_its_time_of_arrival,
    sessions_are_deleted_whole_after_the_retention,
    sessions_of_a_bundle_with_long_windows_stay_deleted,
    an_erased_bundle_takes_its_sessions_along,
    few_sessions_are_not_counted_out_to_administrators,
    a_database_of_the_previous_version_is_moved_on_and_keeps_what_it_has,
);

/// Session number `number` of the test bundle and its day.
fn session(number: u64) -> SharedSession {
    session_of(number, bundle().hash(), WINDOW)
}

fn session_of(number: u64, bundle: Sha256Hash, day: i64) -> SharedSession {
    let interaction =
        |item: String, kind: &str| SharedInteraction { item_id: item.into(), kind: kind.to_owned() };
    let interactions = vec![
        interaction(format!("{MARK}-{number}"), "view"),
        interaction("p-\"ä\"\u{0}".to_owned(), "add-to-cart"),
        interaction(format!("{MARK}-{number}"), "purchase"),
    ];
    SharedSession::of_newest(format!("{number:032x}"), bundle, day, interactions).unwrap()
}

fn accepting() -> Config {
    Config { accept_sessions: true, ..config() }
}

fn collector_at(database: &Database) -> Collector {
    Collector::start(open(&database.location()), accepting())
}

fn post(client: &Client, body: &[u8]) -> (u16, Value) {
    let request = client.agent().post(client.url("/v1/sessions")).content_type("text/plain");
    let mut response = request.send(body).unwrap();
    let body = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&body).unwrap())
}

fn send(client: &Client, session: &SharedSession) -> (u16, Value) {
    post(client, &session.encode())
}

/// Everything that a trainer is given.
fn shared(database: &Database) -> Vec<SharedSession> {
    Reader::open(&database.location()).unwrap().shared_sessions(None, i64::MIN..i64::MAX).unwrap()
}

fn num_rows(database: &Database) -> i64 {
    database.number("SELECT count(*) FROM sessions")
}

fn a_collector_takes_no_sessions_unless_it_was_told_to(kind: Kind) {
    let database = Database::new(kind);
    assert!(!Config::default().accept_sessions);
    let collector = Collector::at(&database);
    let client = collector.client();
    let (status, problem) = send(&client, &session(1));
    let problem: Problem = serde_json::from_value(problem).unwrap();
    assert_eq!((status, problem.status, problem.code.as_str()), (404, 404, "not_found"));
    assert!(problem.expected.unwrap().contains("switched that on"));
    assert_eq!(client.get("/v1/sessions").0, 404, "no method is known");
    assert_eq!(num_rows(&database), 0);
    assert_eq!(client.send(&report(1, "interaction.category", 0)).0, 201, "reports are another matter");
    assert!(collector.status().rejections.is_empty());
    collector.stop().unwrap();

    let collector = collector_at(&database);
    assert_eq!(send(&collector.client(), &session(1)).0, 201);
    assert_eq!(collector.client().get("/v1/sessions").0, 405);
    assert_eq!(post(&collector.administrator(), &session(2).encode()).0, 404, "administrators send none");
}

fn a_session_is_stored_once_and_known_after_a_restart(kind: Kind) {
    let database = Database::new(kind);
    let first = session(7);
    let receipt = |status: &str| json!({"session_id": first.session_id, "status": status});
    let next = bundle_of(2, TelemetryConstants::default());
    for round in 0..3 {
        let collector = collector_at(&database);
        sanderling_collector::register_bundle(&database.location(), &next).unwrap();
        let client = collector.client();
        let expected = if round == 0 { (201, receipt("accepted")) } else { (200, receipt("duplicate")) };
        assert_eq!(send(&client, &first), expected);
        for other in [session_of(7, bundle().hash(), WINDOW - DAY), session_of(7, next.hash(), WINDOW)] {
            let (status, problem) = send(&client, &other);
            assert_eq!((status, problem["code"].as_str()), (409, Some("report_conflict")));
        }
        // An id is stored once, whatever a second session with it holds; a report may have it, too.
        let mut changed = first.clone();
        changed.interactions.truncate(1);
        changed.pad().unwrap();
        assert_eq!(send(&client, &changed), (200, receipt("duplicate")));
        let of_report = client.send(&report(7, "interaction.category", 0)).0;
        assert_eq!(of_report, if round == 0 { 201 } else { 200 });
        assert_eq!(shared(&database), std::slice::from_ref(&first));
        collector.stop().unwrap();
    }
}

fn with(change: impl FnOnce(&mut SharedSession)) -> Vec<u8> {
    let mut session = session(1);
    change(&mut session);
    session.pad().unwrap();
    session.encode()
}

fn what_is_no_session_is_refused_with_its_code_and_counted_apart(kind: Kind) {
    let database = Database::new(kind);
    let collector = collector_at(&database);
    let client = collector.client();
    let retention = i64::from(Config::default().retention_seconds);
    let unknown = bundle_of(9, TelemetryConstants::default()).hash();
    let cases: Vec<(Code, u16, Vec<u8>)> = vec![
        (Code::ReportInvalid, 400, report(1, "interaction.category", 0).encode()),
        (Code::UnsupportedFormatVersion, 400, with(|session| session.format_version = 2)),
        (Code::ReportTooLarge, 413, vec![b' '; SharedSession::MAX_BYTES + 1]),
        (Code::UnknownBundle, 400, with(|session| session.bundle_sha256 = unknown)),
        (Code::ReportTooEarly, 400, with(|session| session.day = WINDOW + 2 * DAY)),
        (Code::ReportExpired, 400, with(|session| session.day = WINDOW - retention)),
    ];
    let num_cases = cases.len() as u64;
    for (code, expected_status, body) in cases {
        let (status, problem) = post(&client, &body);
        let problem: Problem = serde_json::from_value(problem).unwrap();
        assert_eq!((status, problem.code.as_str()), (expected_status, code.as_str()), "{}", problem.detail);
    }
    assert_eq!(num_rows(&database), 0);
    assert_eq!(collector.status().rejections.values().sum::<u64>(), num_cases);
    // The edges of what is allowed, and of the size that a report may not have.
    for day in [WINDOW + DAY, WINDOW + DAY - retention] {
        assert_eq!(send(&client, &session_of(day.unsigned_abs(), bundle().hash(), day)).0, 201, "{day}");
    }
    let long =
        |number: u64| SharedInteraction { item_id: format!("{number:0500}").into(), kind: "view".to_owned() };
    let long = (0..50).map(long).collect();
    let large = SharedSession::of_newest("f".repeat(32), bundle().hash(), WINDOW, long).unwrap();
    assert_eq!((large.encode().len(), send(&client, &large).0), (SharedSession::MAX_BYTES, 201));
    assert_eq!(send(&client, &large).0, 200);
    assert_eq!(client.post(&vec![b' '; Report::MAX_BYTES + 1]).0, 413, "reports have their own limit");

    let (_, text) = collector.administrator().get("/metrics");
    for line in [
        "sanderling_sessions_accepted_total 3",
        "sanderling_sessions_duplicate_total 1",
        "sanderling_sessions_rejected_total{code=\"unknown_bundle\"} 1",
        "sanderling_reports_accepted_total 0",
        "sanderling_reports_rejected_total{code=\"report_too_large\"} 1",
        "sanderling_report_commit_seconds_count 0",
    ] {
        assert!(text.as_str().unwrap().lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

fn malformed_sessions_are_refused_and_never_stored(kind: Kind) {
    let database = Database::new(kind);
    let collector = collector_at(&database);
    let client = collector.client();
    let good = String::from_utf8(session(1).encode()).unwrap();
    // As long as before, so that nothing is refused for its length alone.
    let edit = |from: &str, to: &str| {
        assert!(good.contains(from), "{from} is not in the session");
        let edited = good.replacen(from, to, 1);
        let spaces = " ".repeat((edited.len()).next_multiple_of(SharedSession::PADDED_BYTES) - edited.len());
        edited.replacen("\"padding\":\"", &format!("\"padding\":\"{spaces}"), 1).into_bytes()
    };
    let mut cases: Vec<Vec<u8>> = vec![
        vec![],
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        b"{".repeat(8_000),
        b"[".repeat(8_000),
        vec![0; 1024],
        format!("{good}x").into_bytes(),
        format!("{good}{good}").into_bytes(),
        edit("\"session_id\":\"0", "\"session_id\":\"g"),
        edit("\"session_id\":\"0", "\"session_id\":\"A"),
        edit("\"session_id\":\"0", "\"session_id\":\""),
        edit("\"bundle_sha256\":\"", "\"bundle_sha256\":\"00"),
        edit("\"day\":1728000000", "\"day\":1728003600"),
        edit("\"day\":1728000000", "\"day\":-86400"),
        edit("\"day\":1728000000", "\"day\":1.728e9"),
        edit("\"day\":1728000000", "\"day\":99999999999999964800"),
        edit("\"day\":1728000000", "\"day\":null"),
        edit("\"kind\":\"view\"", "\"kind\":\"View\""),
        edit("\"kind\":\"view\"", "\"kind\":\"\""),
        edit("\"kind\":\"view\"", "\"kind\":\"view\",\"timestamp\":1728000001"),
        edit("\"kind\":\"view\"", "\"kind\":\"view\",\"value\":3.5"),
        edit("\"kind\":\"view\"", "\"kind\":[\"view\"]"),
        edit(MARK, &"i".repeat(600)),
        edit("\"format_version\":1", "\"format_version\":1,\"user_id\":\"u1\""),
        edit("\"format_version\":1", "\"format_version\":1,\"format_version\":1"),
        edit("\"format_version\":1", "\"format_version\":-1"),
        edit("\"padding\":\" ", "\"padding\":\"x"),
        with(|session| session.interactions.clear()),
        with(|session| session.interactions = vec![session.interactions[0].clone(); 51]),
        good.replacen("\"padding\":\" ", "\"padding\":\"", 1).into_bytes(),
    ];
    // Every truncation of a good session is malformed as well.
    cases.extend((0..good.len() - 1).step_by(19).map(|len| good.as_bytes()[..len].to_vec()));
    for body in &cases {
        let (status, problem) = post(&client, body);
        let shown = String::from_utf8_lossy(body);
        assert!(status == 400, "status {status} for {shown}");
        let code = problem["code"].as_str().unwrap();
        assert!(["report_invalid", "unsupported_format_version"].contains(&code), "{code} for {shown}");
    }
    assert_eq!(num_rows(&database), 0);
    assert_eq!(collector.status().rejections.values().sum::<u64>(), cases.len() as u64);
    assert_eq!(post(&client, good.as_bytes()).0, 201, "the unedited session is good");
}

fn a_day_may_begin_within_the_tolerance_of_clocks(kind: Kind) {
    for (seconds_early, expected) in [(300, 201), (301, 400)] {
        let database = Database::new(kind);
        let clock = Arc::new(ManualClock::new(WINDOW - seconds_early));
        let collector = Collector::start(open(&database.location()), Config { clock, ..accepting() });
        assert_eq!(send(&collector.client(), &session(1)).0, expected, "{seconds_early} s early");
    }
}

fn reports_and_sessions_that_wait_together_are_each_stored_once(kind: Kind) {
    support::run(async {
        let database = Database::new(kind);
        // Where collectors may share the database, each gets every message once.
        let num_stores = if kind == Kind::Sqlite { 1 } else { 3 };
        let stores: Vec<_> = (0..num_stores).map(|_| Arc::new(open(&database.location()))).collect();
        let blocker = database.block();
        let mut sending = tokio::task::JoinSet::new();
        for number in 0..60_u64 {
            let store = Arc::clone(&stores[number as usize / 20 % num_stores]);
            // Each comes three times, and every second one is a report.
            sending.spawn(async move {
                match number % 2 {
                    0 => store.submit_session(session(number % 20), NOW).await.unwrap(),
                    _ => store.submit(report(number % 20, "interaction.category", 1), NOW).await.unwrap(),
                }
            });
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        drop(blocker);
        let statuses = sending.join_all().await;
        let accepted = statuses.iter().filter(|status| **status == ReportStatus::Accepted).count();
        assert_eq!((accepted, num_rows(&database)), (20, 10));
        assert_eq!(support::num_stored(&database.location()), 10);
    });
}

fn sessions_are_read_by_bundle_and_day_in_an_order_that_tells_nothing(kind: Kind) {
    let database = Database::new(kind);
    let store = open(&database.location());
    let (one, two) = (bundle().hash(), bundle_of(2, TelemetryConstants::default()));
    store.register(&two).unwrap();
    let two = two.hash();
    let sent = [(9, one, 1), (3, two, 1), (5, one, 0), (4, one, 1), (1, two, 2)];
    let sent = sent.map(|(number, bundle, days)| session_of(number, bundle, WINDOW - days * DAY));
    support::run(async {
        for session in &sent {
            assert_eq!(store.submit_session(session.clone(), NOW).await.unwrap(), ReportStatus::Accepted);
        }
    });
    let numbers = |bundles: Option<&[Sha256Hash]>, days: std::ops::Range<i64>| -> Vec<u64> {
        let sessions = store.reader().shared_sessions(bundles, days).unwrap();
        for session in &sessions {
            assert!(sent.contains(session), "what is read is what was sent: {session:?}");
        }
        sessions.iter().map(|session| u64::from_str_radix(&session.session_id, 16).unwrap()).collect()
    };
    let all = 0..i64::MAX;
    assert_eq!(numbers(None, all.clone()), [1, 3, 4, 9, 5]);
    assert_eq!(numbers(Some(&[one]), all.clone()), [4, 9, 5]);
    assert_eq!(numbers(Some(&[two, one, two]), all.clone()), [1, 3, 4, 9, 5], "each once");
    assert_eq!(numbers(Some(&[]), all.clone()), [0_u64; 0]);
    assert_eq!(numbers(Some(&[Sha256Hash::of(b"another")]), all), [0_u64; 0]);
    assert_eq!(numbers(None, WINDOW - DAY..WINDOW), [3, 4, 9], "the end is exclusive");
}

fn a_session_is_kept_without_its_padding_and_its_time_of_arrival(kind: Kind) {
    let database = Database::new(kind);
    assert_eq!(send(&collector_at(&database).client(), &session(1)).0, 201);
    let columns = match kind {
        Kind::Sqlite => "FROM pragma_table_info('sessions')",
        Kind::Postgres => {
            "FROM information_schema.columns WHERE table_schema = 'sanderling' AND table_name = 'sessions'"
        }
    };
    let num_columns = database.number(&format!("SELECT count(*) {columns}"));
    assert_eq!(num_columns, 5, "a new column must be shown to say nothing new of a user");
    assert_eq!(database.number("SELECT received_at FROM sessions"), NOW - NOW.rem_euclid(3_600));
    let kept = serde_json::to_vec(&session(1).interactions).unwrap().len();
    let octets = if kind == Kind::Sqlite { "length" } else { "octet_length" };
    let question = format!("SELECT CAST({octets}(body) AS bigint) FROM sessions");
    assert_eq!(database.number(&question), kept as i64, "nothing but the interactions");
}

/// Whether the file or its log has the bytes of an item.
fn file_holds_mark(database: &Database) -> bool {
    let log = format!("{}-wal", database.text());
    let bytes = [std::fs::read(database.text()).unwrap(), std::fs::read(log).unwrap_or_default()].concat();
    bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes())
}

fn sessions_are_deleted_whole_after_the_retention(kind: Kind) {
    let database = Database::new(kind);
    let store = open(&database.location());
    let retention = 10 * DAY;
    let delete = async |now: i64| store.delete_expired(now, u32::try_from(retention).unwrap()).await.unwrap();
    support::run(async {
        for number in [1, 2] {
            store.submit_session(session(number), NOW).await.unwrap();
        }
        let plain = SharedInteraction { item_id: "p-1".into(), kind: "view".to_owned() };
        let later =
            SharedSession::of_newest("3".repeat(32), bundle().hash(), WINDOW + DAY, vec![plain]).unwrap();
        store.submit_session(later.clone(), NOW).await.unwrap();
        let closed = WINDOW + DAY;
        assert_eq!(delete(closed + retention).await, 0);
        if kind == Kind::Sqlite {
            assert!(file_holds_mark(&database), "else the look into the file shows nothing");
        }
        assert_eq!(delete(closed + retention + 1).await, 2);
        assert_eq!(shared(&database), std::slice::from_ref(&later));
        if kind == Kind::Sqlite {
            assert!(!file_holds_mark(&database), "pages and log hold nothing of them any more");
        }
        // Their ids are forgotten, so their day is closed for good, even for a clock that went back.
        assert_eq!(store.submit_session(session(1), NOW).await.unwrap_err().code(), Code::ReportExpired);
        assert_eq!(store.submit_session(later.clone(), NOW).await.unwrap(), ReportStatus::Duplicate);
        assert_eq!(delete(0).await, 0);
        assert_eq!(store.submit_session(session(1), NOW).await.unwrap_err().code(), Code::ReportExpired);
    });
    drop(store);

    // A collector deletes when it starts, and also where it takes no new ones.
    let clock = Arc::new(ManualClock::new(NOW + 92 * DAY));
    let _collector = Collector::start(open(&database.location()), Config { clock, ..config() });
    support::wait_for("the deletion", || num_rows(&database) == 0);
}

/// The reports of a window that is still open keep it open; the days in it close one by one.
fn sessions_of_a_bundle_with_long_windows_stay_deleted(kind: Kind) {
    let database = Database::new(kind);
    let store = open(&database.location());
    let weekly =
        bundle_of(3, TelemetryConstants { window_seconds: 604_800, ..TelemetryConstants::default() });
    store.register(&weekly).unwrap();
    let session = session_of(1, weekly.hash(), WINDOW);
    support::run(async {
        store.submit_session(session.clone(), NOW).await.unwrap();
        assert_eq!(store.delete_expired(WINDOW + DAY + 1, 0).await.unwrap(), 1);
        assert_eq!(store.submit_session(session, NOW).await.unwrap_err().code(), Code::ReportExpired);
        let mut of_window = unpadded(1, "interaction.category", 0);
        of_window.bundle_sha256 = weekly.hash();
        assert_eq!(store.submit(padded(of_window), NOW).await.unwrap(), ReportStatus::Accepted);
    });
}

fn an_erased_bundle_takes_its_sessions_along(kind: Kind) {
    let database = Database::new(kind);
    let store = open(&database.location());
    let kept = bundle_of(2, TelemetryConstants::default());
    store.register(&kept).unwrap();
    let collector = Collector::start(store, accepting());
    let client = collector.client();
    for number in 0..20 {
        assert_eq!(send(&client, &session(number)).0, 201);
    }
    let plain = SharedInteraction { item_id: "p-1".into(), kind: "view".to_owned() };
    let other = SharedSession::of_newest("3".repeat(32), kept.hash(), WINDOW, vec![plain]).unwrap();
    assert_eq!(send(&client, &other).0, 201);
    let address = format!("/v1/bundles/{}", bundle().hash());
    assert_eq!(collector.administrator().delete(&address).0, 200);
    assert_eq!(shared(&database), [other]);
    assert_eq!(send(&client, &session(1)).1["code"], "unknown_bundle");
    if kind == Kind::Sqlite {
        assert!(!file_holds_mark(&database));
    }
}

fn few_sessions_are_not_counted_out_to_administrators(kind: Kind) {
    let database = Database::new(kind);
    let collector = collector_at(&database);
    let shown = || collector.status().bundles[0].num_sessions;
    for number in 0..99 {
        assert_eq!(send(&collector.client(), &session(number)).0, 201);
    }
    assert_eq!(shown(), None);
    assert_eq!(Reader::open(&database.location()).unwrap().status().unwrap()[0].num_sessions, Some(99));
    assert_eq!(send(&collector.client(), &session(99)).0, 201);
    assert_eq!(shown(), Some(100));
}

fn a_database_of_the_previous_version_is_moved_on_and_keeps_what_it_has(kind: Kind) {
    let database = Database::new(kind);
    let first = report(1, "interaction.category", 2);
    assert_eq!(Collector::at(&database).client().send(&first).0, 201);
    // What that version did not have.
    database.execute(match kind {
        Kind::Sqlite => {
            "DROP TABLE sessions; ALTER TABLE bundles DROP COLUMN sessions_expired_before; PRAGMA user_version = 2"
        }
        Kind::Postgres => {
            "DROP TABLE sessions; ALTER TABLE bundles DROP COLUMN sessions_expired_before;
             UPDATE schema_version SET version = 1"
        }
    });
    let error = Reader::open(&database.location()).unwrap_err();
    assert_eq!(error.code(), Code::UnsupportedFormatVersion, "reading changes nothing");
    assert!(error.hint_text().unwrap().contains("start a collector"), "{error}");

    // Several collectors may start at once where they may share the database.
    let num_stores = if kind == Kind::Sqlite { 1 } else { 4 };
    std::thread::scope(|scope| {
        let open = || Store::open(&database.location(), &StoreOptions::default()).map(drop);
        let starting: Vec<_> = (0..num_stores).map(|_| scope.spawn(open)).collect();
        starting.into_iter().for_each(|store| store.join().unwrap().unwrap());
    });
    let collector = collector_at(&database);
    assert_eq!(collector.client().send(&first).0, 200, "what was counted is known");
    assert_eq!(support::num_stored(&database.location()), 1);
    assert_eq!(send(&collector.client(), &session(1)).0, 201);
    assert_eq!(shared(&database), [session(1)]);
}
