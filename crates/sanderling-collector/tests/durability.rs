//! What was acknowledged stays, nothing is counted twice, and a full or locked database is said.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sanderling_collector::{Config, ManualClock, Reader, Store, StoreOptions, register_bundle};
use sanderling_types::{Code, Report, ReportStatus, TelemetryConstants};
use support::{
    Client, Collector, Database, Kind, NOW, WINDOW, baseline, bundle, bundle_of, config, for_every_database,
    num_stored, open, padded, report, unpadded, wait_for,
};
use tokio::task::JoinSet;

const FIELD: &str = "interaction.category";

for_every_database!(
    duplicates_are_recognised_after_a_restart,
    a_thousand_devices_at_once_are_all_counted_once,
    other_processes_read_and_register_while_a_collector_runs,
    a_full_queue_answers_429_with_retry_after_and_nobody_waiting_is_lost,
    raw_reports_are_deleted_after_the_retention_and_counts_stay,
    a_serving_collector_deletes_expired_reports_when_it_starts,
    the_same_report_in_one_batch_is_counted_once,
    a_shutdown_finishes_open_requests_and_frees_the_database,
);

fn num_answers(reader: &Reader) -> u64 {
    let merged = reader.merged(bundle().hash(), &baseline(), 0..i64::MAX).unwrap();
    merged.answers.values().map(sanderling_sketch::Histogram::total).sum()
}

fn duplicates_are_recognised_after_a_restart(kind: Kind) {
    let database = Database::new(kind);
    for round in 0..3 {
        let collector = Collector::at(&database);
        let expected = if round == 0 { 201 } else { 200 };
        assert_eq!(collector.client().send(&report(1, FIELD, 1)).0, expected);
        assert_eq!(collector.client().send(&report(1, FIELD, 0)).0, 200, "the id alone decides");
        collector.stop().unwrap();
    }
    let reader = Reader::open(&database.location()).unwrap();
    assert_eq!(num_answers(&reader), 1);
}

fn a_thousand_devices_at_once_are_all_counted_once(kind: Kind) {
    let database = Database::new(kind);
    let collector = Collector::at(&database);
    let (devices, repeats) = (1_000_u64, 3);
    let client = collector.client();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..50)
            .map(|worker| {
                let client = client.clone();
                scope.spawn(move || {
                    let mine = (0..devices * repeats).filter(|number| number % 50 == worker);
                    mine.map(|number| client.send(&report(number % devices, FIELD, (number % 4) as u16)).0)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let count = |status: u16| statuses.iter().filter(|found| **found == status).count() as u64;
    assert_eq!((count(201), count(200)), (devices, devices * (repeats - 1)));
    assert_eq!(num_stored(&database.location()), devices);
    collector.stop().unwrap();
    let reader = Reader::open(&database.location()).unwrap();
    let merged = reader.merged(bundle().hash(), &baseline(), 0..i64::MAX).unwrap();
    assert_eq!(merged.answers[FIELD].counts(), [250; 4]);
    assert_eq!((merged.num_windows, merged.num_reports), (1, devices));
}

#[test]
fn a_second_collector_on_the_same_database_is_refused_until_the_first_ends() {
    let database = Database::new(Kind::Sqlite);
    let location = database.location();
    let first = open(&location);
    let error = Store::open(&location, &StoreOptions::default()).unwrap_err();
    assert_eq!(error.code(), Code::Storage);
    assert!(error.message().contains("another collector holds"), "{error}");
    drop(first);
    drop(open(&location));
}

fn other_processes_read_and_register_while_a_collector_runs(kind: Kind) {
    let database = Database::new(kind);
    let location = database.location();
    let collector = Collector::at(&database);
    let client = collector.client();
    let next = bundle_of(2, TelemetryConstants::default());
    let mut of_next = unpadded(5, FIELD, 3);
    of_next.bundle_sha256 = next.hash();
    let of_next = padded(of_next);
    assert_eq!(client.send(&of_next).1["code"], "unknown_bundle");
    register_bundle(&location, &next).unwrap();
    register_bundle(&location, &next).unwrap();
    assert_eq!(client.send(&of_next).0, 201);

    let reader = Reader::open(&location).unwrap();
    assert_eq!(reader.bundle(next.hash()).unwrap(), Some(next.clone()));
    assert_eq!(
        reader.merged(next.hash(), &baseline(), 0..i64::MAX).unwrap().answers[FIELD].counts(),
        [0, 0, 0, 1]
    );
    assert_eq!(
        reader.merged(next.hash(), &baseline(), 0..WINDOW).unwrap().num_reports,
        0,
        "the end is exclusive"
    );
    assert_eq!(reader.status().unwrap().len(), 2);
}

#[test]
fn files_that_are_no_collectors_database_are_refused_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE mine (a)").unwrap();
    let before = std::fs::read(&path).unwrap();
    let open =
        |path: &Path| Store::open(&path.into(), &StoreOptions::default()).map(drop).unwrap_err().code();
    let read = |path: &Path| Reader::open(&path.into()).unwrap_err().code();
    assert_eq!(open(&path), Code::Storage);
    assert_eq!(read(&path), Code::Storage);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::write(&path, b"a text file, longer than a header of sqlite would be, and then some more of it")
        .unwrap();
    assert_eq!(open(&path), Code::Storage);
    assert_eq!(read(&folder.path().join("missing.db")), Code::Storage);
    assert_eq!(open(&folder.path().join("no-such-folder/reports.db")), Code::Storage);

    let newer = folder.path().join("newer.db");
    drop(support::open(&newer.as_path().into()));
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 4).unwrap();
    assert_eq!(open(&newer), Code::UnsupportedFormatVersion);
    assert_eq!(read(&newer), Code::UnsupportedFormatVersion);
}

#[test]
fn a_full_database_refuses_with_507_and_keeps_what_it_acknowledged() {
    let database = Database::new(Kind::Sqlite);
    let location = database.location();
    drop(open(&location));
    let options = StoreOptions { max_database_bytes: Some(64 * 1024), ..StoreOptions::default() };
    let collector = Collector::start(Store::open(&location, &options).unwrap(), config());
    let client = collector.client();
    let mut num_accepted = 0;
    let refused = (0..5_000).find(|number| {
        let (status, problem) = client.send(&report(*number, FIELD, 0));
        num_accepted += u64::from(status == 201);
        if status != 201 {
            assert_eq!((status, problem["code"].as_str()), (507, Some("storage_full")), "{problem}");
        }
        status != 201
    });
    let refused = refused.expect("64 KiB hold fewer than 5,000 reports");
    assert!(num_accepted > 50, "only {num_accepted} reports fitted");
    assert_eq!(num_stored(&database.location()), num_accepted);
    collector.stop().unwrap();

    // With room again, the refused report is new and the acknowledged ones are known.
    let collector = Collector::at(&database);
    assert_eq!(collector.client().send(&report(refused, FIELD, 0)).0, 201);
    assert_eq!(collector.client().send(&report(refused - 1, FIELD, 0)).0, 200);
    assert_eq!(num_stored(&database.location()), num_accepted + 1);
}

fn a_full_queue_answers_429_with_retry_after_and_nobody_waiting_is_lost(kind: Kind) {
    let database = Database::new(kind);
    let location = database.location();
    drop(open(&location));
    let options = StoreOptions { queue_capacity: 2, max_batch: 1, ..StoreOptions::default() };
    let collector = Collector::start(Store::open(&location, &options).unwrap(), config());
    // Somebody else writes: the writer has to wait, then the queue fills.
    let blocker = database.block();
    let client = collector.client();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..12)
            .map(|number| {
                let client = client.clone();
                scope.spawn(move || {
                    let response = client.try_post(&report(number, FIELD, 0).encode()).unwrap();
                    let retry_after =
                        response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
                    (response.status().as_u16(), retry_after)
                })
            })
            .collect();
        wait_for("refusals", || {
            collector.status().rejections.get("overloaded").is_some_and(|count| *count >= 9)
        });
        drop(blocker);
        let answers = workers.into_iter().map(|worker| worker.join().unwrap());
        answers
            .map(|(status, retry_after)| {
                assert_eq!(retry_after.as_deref(), (status == 429).then_some("5"), "status {status}");
                status
            })
            .collect()
    });
    let count = |status: u16| statuses.iter().filter(|found| **found == status).count();
    assert_eq!(count(201) + count(429), 12, "{statuses:?}");
    assert!((1..=3).contains(&count(201)), "{statuses:?}");
    assert_eq!(num_stored(&database.location()), count(201) as u64);
}

fn in_window(number: u64, window: i64) -> Report {
    let mut report = unpadded(number, FIELD, 1);
    report.window_start = WINDOW + window * 86_400;
    padded(report)
}

fn raw_reports_are_deleted_after_the_retention_and_counts_stay(kind: Kind) {
    support::run(async {
        let database = Database::new(kind);
        let store = open(&database.location());
        for (number, window) in [(1, 0), (2, 0), (3, 1)] {
            assert_eq!(store.submit(in_window(number, window), NOW).await.unwrap(), ReportStatus::Accepted);
        }
        let retention = 10 * 86_400;
        let closed = WINDOW + 86_400;
        assert_eq!(
            store.delete_expired(closed + retention, u32::try_from(retention).unwrap()).await.unwrap(),
            0
        );
        assert_eq!(
            store.delete_expired(closed + retention + 1, u32::try_from(retention).unwrap()).await.unwrap(),
            2
        );
        assert_eq!(num_answers(store.reader()), 3);

        // Their ids are forgotten, so their window is closed for good, even for a clock that went back.
        let error = store.submit(in_window(1, 0), NOW).await.unwrap_err();
        assert_eq!(error.code(), Code::ReportExpired);
        assert_eq!(store.submit(in_window(3, 1), NOW).await.unwrap(), ReportStatus::Duplicate);
        assert_eq!(store.delete_expired(0, 0).await.unwrap(), 0);
        assert_eq!(store.submit(in_window(1, 0), NOW).await.unwrap_err().code(), Code::ReportExpired);
        assert_eq!(num_answers(store.reader()), 3);
    });
}

fn a_serving_collector_deletes_expired_reports_when_it_starts(kind: Kind) {
    let database = Database::new(kind);
    let location = database.location();
    let collector = Collector::at(&database);
    assert_eq!(collector.client().send(&report(1, FIELD, 0)).0, 201);
    collector.stop().unwrap();
    let later = NOW + 91 * 86_400;
    let collector =
        Collector::start(open(&location), Config { clock: Arc::new(ManualClock::new(later)), ..config() });
    wait_for("the deletion", || database.number("SELECT count(*) FROM reports") == 0);
    assert_eq!(collector.client().send(&report(1, FIELD, 0)).1["code"], "report_expired");
    assert_eq!(num_stored(&database.location()), 1);
}

fn the_same_report_in_one_batch_is_counted_once(kind: Kind) {
    support::run(async {
        let database = Database::new(kind);
        let location = database.location();
        let store = Arc::new(open(&location));
        let blocker = database.block();
        let mut sending = JoinSet::new();
        for _ in 0..8 {
            let store = Arc::clone(&store);
            sending.spawn(async move { store.submit(report(1, FIELD, 0), NOW).await.unwrap() });
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(blocker);
        let statuses = sending.join_all().await;
        assert_eq!(
            statuses.iter().filter(|status| **status == ReportStatus::Accepted).count(),
            1,
            "{statuses:?}"
        );
        assert_eq!(num_answers(store.reader()), 1);
    });
}

fn a_shutdown_finishes_open_requests_and_frees_the_database(kind: Kind) {
    let database = Database::new(kind);
    let location = database.location();
    let collector = Collector::at(&database);
    let address = collector.address;
    let blocker = database.block();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| Client::new(address).send(&report(1, FIELD, 0)).0);
        std::thread::sleep(Duration::from_secs(1));
        let stopping = scope.spawn(|| collector.stop());
        std::thread::sleep(Duration::from_millis(300));
        drop(blocker);
        assert_eq!(waiting.join().unwrap(), 201);
        stopping.join().unwrap().unwrap();
    });
    assert!(Client::new(address).try_post(b"").is_err(), "nobody listens any more");
    drop(open(&location));
}
