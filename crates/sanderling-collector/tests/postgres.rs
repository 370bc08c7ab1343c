//! What only a database that several collectors share, behind a connection that may break, can get wrong.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]
#![allow(clippy::print_stdout, reason = "measured rates are worth reading")]
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sanderling_collector::{Reader, RegisteredBundle, Store, StoreLocation, StoreOptions};
use sanderling_types::{Code, Report, ReportStatus, TelemetryConstants};
use support::cluster::{self, Cluster};
use support::proxy::{Cut, Proxy};
use support::traffic::{Process, Stream, serve_if_child};
use support::{
    Client, Collector, Database, Kind, NOW, WINDOW, baseline, bundle, bundle_of, config, num_stored, open,
    padded, report, unpadded,
};
use tokio::task::JoinSet;

const FIELD: &str = "interaction.category";

/// Not a test by itself: the process that gets killed.
#[test]
fn collector_child() {
    serve_if_child();
}

fn database() -> Option<Database> {
    cluster::shared().map(|_| Database::new(Kind::Postgres))
}

fn next_bundle() -> RegisteredBundle {
    bundle_of(2, TelemetryConstants::default())
}

/// Report `number` of one of two bundles and one of three windows.
fn mixed_report(number: u64) -> Report {
    let mut report = unpadded(number, FIELD, (number % 4) as u16);
    report.window_start = WINDOW - (number % 3) as i64 * 86_400;
    if number % 2 == 1 {
        report.bundle_sha256 = next_bundle().hash();
    }
    padded(report)
}

/// Submits until the database is not busy any more, as devices do; fails after a minute.
async fn submit(store: Arc<Store>, number: u64) -> ReportStatus {
    let start = std::time::Instant::now();
    loop {
        match store.submit(mixed_report(number), NOW).await {
            Err(error) if error.code() == Code::Overloaded && start.elapsed().as_secs() < 60 => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answer => return answer.unwrap(),
        }
    }
}

/// Submits the reports at once; how each was answered.
async fn submit_all(store: Arc<Store>, numbers: Vec<u64>) -> Vec<(u64, ReportStatus)> {
    let mut sending = JoinSet::new();
    for number in numbers {
        let store = Arc::clone(&store);
        sending.spawn(async move { (number, submit(store, number).await) });
    }
    sending.join_all().await
}

#[test]
fn collectors_that_get_the_same_reports_at_the_same_time_count_each_once() {
    let Some(database) = database() else { return };
    let options = StoreOptions { queue_capacity: 10_000, ..StoreOptions::default() };
    let stores: Vec<Arc<Store>> =
        (0..3).map(|_| Arc::new(Store::open(&database.location(), &options).unwrap())).collect();
    stores[0].register(&bundle()).unwrap();
    stores[1].register(&next_bundle()).unwrap();
    let num_reports = 3_000_u64;
    let answers = support::run(async {
        let mut sending = JoinSet::new();
        for (at, store) in stores.iter().enumerate() {
            // Forwards, backwards and mixed, so that batches overlap in every way.
            let mut numbers: Vec<u64> = (0..num_reports).collect();
            match at {
                0 => {}
                1 => numbers.reverse(),
                _ => numbers = numbers.iter().map(|number| number * 1_999 % num_reports).collect(),
            }
            sending.spawn(submit_all(Arc::clone(store), numbers));
        }
        sending.join_all().await.concat()
    });
    let mut accepted: BTreeMap<u64, u32> = BTreeMap::new();
    for (number, status) in answers {
        *accepted.entry(number).or_default() += u32::from(status == ReportStatus::Accepted);
    }
    assert!(accepted.len() as u64 == num_reports && accepted.values().all(|count| *count == 1));

    let stored = database.stored();
    assert!(stored.len() as u64 == num_reports && stored.values().all(|count| *count == 1));
    let reader = Reader::open(&database.location()).unwrap();
    for bundle in [bundle(), next_bundle()] {
        let merged = reader.merged(bundle.hash(), &baseline(), 0..i64::MAX).unwrap();
        assert_eq!((merged.num_windows, merged.num_reports), (3, num_reports / 2));
        assert_eq!(merged.answers[FIELD].total(), num_reports / 2);
    }
}

#[test]
fn collectors_that_start_at_once_on_an_empty_database_all_start() {
    let Some(database) = database() else { return };
    let stores: Vec<Store> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&database.location()))).collect();
        starting.into_iter().map(|store| store.join().unwrap()).collect()
    });
    assert_eq!(stores[7].reader().status().unwrap().len(), 1, "they registered one bundle");
    // The socket's folder may be said in the other way, too.
    let socket = cluster::shared().unwrap().socket();
    let name = database.text().rsplit('/').next().unwrap();
    let url = format!("postgres:///{name}?user=sanderling&host={}", socket.parent().unwrap().display());
    assert_eq!(Reader::open(&url.parse().unwrap()).unwrap().status().unwrap().len(), 1);
}

#[test]
fn a_window_that_one_collector_closed_is_closed_for_all() {
    let Some(database) = database() else { return };
    let (first, second) = (open(&database.location()), open(&database.location()));
    support::run(async {
        assert_eq!(first.submit(report(1, FIELD, 0), NOW).await.unwrap(), ReportStatus::Accepted);
        assert_eq!(second.submit(report(1, FIELD, 0), NOW).await.unwrap(), ReportStatus::Duplicate);
        assert_eq!(second.delete_expired(NOW + 100, 0).await.unwrap(), 1);
        let error = first.submit(report(1, FIELD, 0), NOW).await.unwrap_err();
        assert_eq!(error.code(), Code::ReportExpired);
    });
}

#[test]
fn a_window_is_not_closed_while_a_report_of_it_is_on_its_way() {
    let Some(database) = database() else { return };
    let (first, second) = (open(&database.location()), open(&database.location()));
    support::run(async {
        let blocker = database.block();
        let adding = async { first.submit(report(1, FIELD, 0), NOW).await.unwrap() };
        let deleting = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            second.delete_expired(NOW + 100, 0).await.unwrap()
        };
        let release = async {
            tokio::time::sleep(Duration::from_millis(1_000)).await;
            drop(blocker);
        };
        let (added, num_deleted, ()) = tokio::join!(adding, deleting, release);
        assert_eq!((added, num_deleted), (ReportStatus::Accepted, 1), "it was added before, or refused");
        assert_eq!(database.number("SELECT count(*) FROM reports"), 0);
    });
}

/// A collector is cut off, or killed, at each of its steps in turn, before and after the server has done the step.
fn cut_everywhere(kill: bool) {
    let Some(cluster) = cluster::shared() else { return };
    let url = cluster.new_database();
    let name = url.rsplit('/').next().unwrap();
    let proxy = Proxy::start(cluster.socket());
    let through_proxy = format!("postgres://sanderling@{}/{name}?sslmode=disable", proxy.address);
    let mut process = Process::start(&through_proxy);
    let (mut number, mut num_cuts) = (0, 0);
    for cut in [Cut::BeforeServer, Cut::AfterServer] {
        for step in 1.. {
            // Its statements are known and its first deletion is done.
            let warm = Client::new(process.address).post(&Stream::body(number)).0;
            assert_eq!(warm, 201);
            std::thread::sleep(Duration::from_millis(50));
            number += 1;
            let fired = proxy.cut_at(step, cut, kill);
            let body = Stream::body(number);
            if kill {
                let client = Client::new(process.address);
                let sending = std::thread::spawn(move || client.try_post(&body).is_ok());
                let was_cut = loop {
                    if fired.recv_timeout(Duration::from_millis(5)).is_ok() {
                        break true;
                    }
                    if sending.is_finished() {
                        break false;
                    }
                };
                if was_cut {
                    drop(process);
                    assert!(!sending.join().unwrap(), "{cut:?} {step}: acknowledged without the server");
                    process = Process::start(&through_proxy);
                }
                assert_ne!(was_cut, proxy.disarm());
                let again = Client::new(process.address).post(&Stream::body(number)).0;
                assert!([200, 201].contains(&again), "{cut:?} {step}: {again}");
                if !was_cut {
                    break;
                }
            } else {
                // The collector connects again and goes on by itself.
                let status = Client::new(process.address).post(&body).0;
                assert!([200, 201].contains(&status), "{cut:?} {step}: {status}");
                assert_eq!(Client::new(process.address).post(&body).0, 200);
                if proxy.disarm() {
                    break;
                }
            }
            number += 1;
            num_cuts += 1;
        }
        number += 1;
    }
    println!("{num_cuts} cuts");
    assert!(
        num_cuts >= 2 * 7,
        "begin, two questions, three additions and the commit, but only {num_cuts} cuts"
    );
    let reader = Reader::open(&url.parse().unwrap()).unwrap();
    let merged = reader.merged(bundle().hash(), &baseline(), 0..i64::MAX).unwrap();
    assert_eq!((merged.num_reports, merged.answers[FIELD].total()), (number, number));
    let count: i64 =
        cluster.client(name).query_one("SELECT count(*) FROM sanderling.reports", &[]).unwrap().get(0);
    assert_eq!(count as u64, number);
}

#[test]
fn a_collector_killed_at_any_step_loses_and_doubles_nothing() {
    cut_everywhere(true);
}

#[test]
fn a_connection_that_breaks_at_any_step_loses_and_doubles_nothing() {
    cut_everywhere(false);
}

#[test]
fn a_crash_of_the_server_in_the_middle_of_traffic_loses_nothing_and_needs_no_hand() {
    // With every write on the disk, as in production.
    let Some(cluster) = Cluster::start("") else { return };
    let location = cluster.new_database();
    let collectors = [(); 2].map(|()| Process::start(&location));
    let num_reports = 3_000;
    let stream = Stream::new(num_reports);
    *stream.address.lock().unwrap() = collectors[0].address;
    stream.flow(8, || {
        for crash in 1..=4 {
            stream.wait_until_acknowledged(crash * num_reports / 6);
            cluster.crash();
            let before = stream.num_overloaded.load(Ordering::SeqCst);
            // Devices go to the other collector, too.
            *stream.address.lock().unwrap() = collectors[crash as usize % 2].address;
            support::wait_for("refusals", || stream.num_overloaded.load(Ordering::SeqCst) > before + 10);
            let promised = stream.acknowledged.lock().unwrap().clone();
            assert!(promised.len() < num_reports as usize, "crash {crash} came after the stream");
            cluster.go_on("");
            let name = location.rsplit('/').next().unwrap();
            let rows = cluster.client(name).query("SELECT report_id FROM sanderling.reports", &[]).unwrap();
            let stored: std::collections::BTreeSet<u64> = rows
                .iter()
                .map(|row| u128::from_be_bytes(row.get::<_, &[u8]>(0).try_into().unwrap()) as u64)
                .collect();
            assert!(promised.keys().all(|number| stored.contains(number)), "crash {crash} lost reports");
        }
        stream.wait_until_acknowledged(num_reports);
    });
    let reader = Reader::open(&location.parse().unwrap()).unwrap();
    let merged = reader.merged(bundle().hash(), &baseline(), 0..i64::MAX).unwrap();
    assert_eq!(merged.num_reports, num_reports);
    assert_eq!(merged.answers[FIELD].counts(), [num_reports / 4; 4]);
    for collector in &collectors {
        let unknown = in_bundle_nobody_knows();
        assert_eq!(
            Client::new(collector.address).send(&unknown).1["code"],
            "unknown_bundle",
            "readers are back, too"
        );
    }
}

/// A report for which a collector has to look into the database.
fn in_bundle_nobody_knows() -> Report {
    let mut report = unpadded(1, FIELD, 0);
    report.bundle_sha256 = bundle_of(99, TelemetryConstants::default()).hash();
    padded(report)
}

/// Makes the server fail with `state` while `condition` holds, whenever reports are added.
fn fail_while(database: &Database, condition: &str, state: &str) {
    database.execute(&format!(
        "CREATE SEQUENCE IF NOT EXISTS sanderling.failures;
         CREATE OR REPLACE FUNCTION sanderling.fail() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF {condition} THEN RAISE EXCEPTION 'as the test wants it' USING ERRCODE = '{state}'; END IF;
             RETURN NULL;
         END $$;
         CREATE OR REPLACE TRIGGER fail AFTER INSERT ON sanderling.reports
         FOR EACH STATEMENT EXECUTE FUNCTION sanderling.fail()"
    ));
}

#[test]
fn a_full_disk_refuses_with_507_and_goes_on_when_there_is_room() {
    let Some(database) = database() else { return };
    let collector = Collector::at(&database);
    let client = collector.client();
    assert_eq!(client.send(&report(1, FIELD, 0)).0, 201);
    fail_while(&database, "true", "53100");
    let (status, problem) = client.send(&report(2, FIELD, 0));
    assert_eq!((status, problem["code"].as_str()), (507, Some("storage_full")), "{problem}");
    fail_while(&database, "false", "53100");
    assert_eq!(client.send(&report(2, FIELD, 0)).0, 201);
    assert_eq!(num_stored(&database.location()), 2);
}

#[test]
fn a_full_disk_is_not_ready_until_there_is_room() {
    let Some(database) = database() else { return };
    let collector = Collector::at(&database);
    let client = collector.client();
    let readiness = || {
        let (status, problem) = client.get("/readyz");
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    };
    let [ready, full] = [(204, String::new()), (503, "storage_full".to_owned())];
    // No page is left for anything large.
    fail_while(&database, "true", "53100");
    database.execute(
        "CREATE FUNCTION sanderling.fail_large() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF octet_length(NEW.manifest) > 500000 THEN RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END IF;
             RETURN NULL;
         END $$;
         CREATE TRIGGER fail_large AFTER INSERT ON sanderling.bundles
         FOR EACH ROW EXECUTE FUNCTION sanderling.fail_large()",
    );
    assert_eq!(readiness(), ready, "nothing was refused yet");
    assert_eq!(client.send(&report(1, FIELD, 0)).0, 507);
    assert_eq!([readiness(), readiness()], [full.clone(), full]);
    database
        .execute("DROP TRIGGER fail_large ON sanderling.bundles; DROP TRIGGER fail ON sanderling.reports");
    assert_eq!(readiness(), ready);
    assert_eq!(client.send(&report(1, FIELD, 0)).0, 201);
    assert_eq!(database.number("SELECT count(*) FROM bundles"), 1, "probes leave nothing");
}

/// Reports that are on their way while a bundle is erased are counted in the answer or refused; nothing of them is left.
#[test]
fn a_bundle_that_one_collector_erases_is_unknown_to_all() {
    let Some(database) = database() else { return };
    let (first, second) = (Arc::new(open(&database.location())), open(&database.location()));
    let other = Collector::at(&database);
    assert_eq!(other.client().send(&report(10_000, FIELD, 0)).0, 201);
    let (num_erased, answers) = support::run(async {
        let mut sending = JoinSet::new();
        for number in 0..400 {
            let store = Arc::clone(&first);
            sending.spawn(async move { store.submit(report(number, FIELD, 0), NOW).await });
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let num_erased = second.erase_bundle(bundle().hash()).await.unwrap();
        (num_erased, sending.join_all().await)
    });
    let accepted = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
    assert_eq!(num_erased, accepted + 1);
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!(error.code(), Code::UnknownBundle);
    }
    for table in ["reports", "windows", "cells", "bundles"] {
        assert_eq!(database.number(&format!("SELECT count(*) FROM {table}")), 0, "{table}");
    }
    // It was in this one's memory.
    assert_eq!(other.client().send(&report(10_001, FIELD, 0)).1["code"], "unknown_bundle");
    let path = format!("/v1/bundles/{}", bundle().hash());
    assert_eq!(other.administrator().get(&path).0, 404);
}

#[test]
fn a_deadlock_or_a_conflict_is_tried_again_for_a_bounded_number_of_times() {
    let Some(database) = database() else { return };
    let collector = Collector::at(&database);
    let client = collector.client();
    for (number, state) in [(1, "40P01"), (2, "40001")] {
        fail_while(&database, "nextval('sanderling.failures') <= 3", state);
        assert_eq!(client.send(&report(number, FIELD, 0)).0, 201, "{state}");
        assert_eq!(database.number("SELECT last_value FROM sanderling.failures"), 4);
        database.execute("DROP SEQUENCE sanderling.failures");
    }
    fail_while(&database, "true", "40P01");
    let (status, problem) = client.send(&report(3, FIELD, 0));
    assert_eq!((status, problem["code"].as_str()), (429, Some("overloaded")), "{problem}");
    fail_while(&database, "true", "XX000");
    let (status, problem) = client.send(&report(3, FIELD, 0));
    assert_eq!((status, problem["code"].as_str()), (500, Some("storage")), "{problem}");
    assert!(!problem.to_string().contains("as the test wants it"), "devices do not read the server's words");
    assert_eq!(num_stored(&database.location()), 2);
}

#[test]
fn a_commit_is_synchronous_whatever_the_database_is_set_to() {
    let Some(database) = database() else { return };
    let name = database.text().rsplit('/').next().unwrap().to_owned();
    drop(open(&database.location()));
    database.execute(&format!(
        "ALTER DATABASE {name} SET synchronous_commit = off;
         ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
    ));
    fail_while(
        &database,
        "current_setting('synchronous_commit') <> 'on' OR current_setting('transaction_isolation') <> 'read committed'",
        "XX000",
    );
    let store = open(&database.location());
    support::run(async {
        assert_eq!(store.submit(report(1, FIELD, 0), NOW).await.unwrap(), ReportStatus::Accepted);
    });
}

#[test]
fn databases_that_are_no_collectors_are_refused_unchanged() {
    let Some(database) = database() else { return };
    let location = database.location();
    let open_code = |location: &StoreLocation| {
        Store::open(location, &StoreOptions::default()).map(drop).unwrap_err().code()
    };
    assert_eq!(Reader::open(&location).unwrap_err().code(), Code::Storage);
    let num_tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'sanderling'";
    assert_eq!(database.number(num_tables), 0, "reading makes nothing");

    database.execute("CREATE SCHEMA sanderling; CREATE TABLE sanderling.reports (mine integer)");
    assert_eq!(open_code(&location), Code::Storage);
    assert_eq!(database.number(num_tables), 1);
    database.execute("DROP TABLE sanderling.reports");
    drop(open(&location));
    database.execute("UPDATE sanderling.schema_version SET version = version + 1");
    assert_eq!(open_code(&location), Code::UnsupportedFormatVersion);
    assert_eq!(Reader::open(&location).unwrap_err().code(), Code::UnsupportedFormatVersion);

    let missing: StoreLocation = cluster::shared().unwrap().url("missing").parse().unwrap();
    let error = Store::open(&missing, &StoreOptions::default()).unwrap_err();
    assert_eq!(error.code(), Code::Storage);
    assert!(error.to_string().contains("does not exist"), "{error}");
    let nobody: StoreLocation = "postgres://u@127.0.0.1:9/x".parse().unwrap();
    assert_eq!(open_code(&nobody), Code::Storage);
    let limited = StoreOptions { max_database_bytes: Some(1), ..StoreOptions::default() };
    assert_eq!(Store::open(&location, &limited).unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn a_role_that_may_not_make_tables_can_use_those_that_are_there() {
    let Some(database) = database() else { return };
    drop(open(&database.location()));
    let role = format!("collector_{}", std::process::id());
    database.execute(&format!(
        "CREATE ROLE {role} LOGIN;
         GRANT USAGE ON SCHEMA sanderling TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sanderling TO {role}"
    ));
    let store = open(&database.text().replace("sanderling@", &format!("{role}@")).parse().unwrap());
    let collector = Collector::start(store, config());
    assert_eq!(collector.client().send(&report(1, FIELD, 0)).0, 201);
}

/// A certificate for `localhost` in the folder of a cluster; none where there is no openssl.
fn certificate(folder: &std::path::Path) -> Option<(String, String)> {
    let [key, certificate] = ["server.key", "server.crt"].map(|name| folder.join(name).display().to_string());
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &certificate])
        .output();
    made.is_ok_and(|made| made.status.success()).then_some((key, certificate))
}

#[test]
fn a_connection_is_encrypted_to_a_server_whose_certificate_is_trusted_and_to_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let Some((key, certificate)) = certificate(folder.path()) else {
        println!("SKIPPED: there is no openssl here");
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(cluster) = Cluster::start("-c fsync=off") else { return };
    cluster.crash();
    cluster.take(std::path::Path::new(&key));
    cluster.take(std::path::Path::new(&certificate));
    let options = "-c fsync=off -c ssl=on -c ssl_key_file=server.key -c ssl_cert_file=server.crt \
         -c listen_addresses=localhost";
    cluster.go_on(&format!("{options} -c port={port}"));
    let on_port = |host: &str, options: &str| {
        format!("postgres://sanderling@{host}:{port}/postgres?connect_timeout=5{options}")
    };
    let name = |text: &str| text.parse::<StoreLocation>().unwrap();
    // This program trusts the authorities of the system, of which the certificate is none.
    for options in ["", "&sslmode=require"] {
        let error = Store::open(&name(&on_port("localhost", options)), &StoreOptions::default()).unwrap_err();
        assert!(error.found_value().unwrap().contains("certificate"), "{error:?}");
    }
    let process =
        Process::start_with(&on_port("localhost", "&sslmode=require"), &[("SSL_CERT_FILE", &certificate)]);
    assert_eq!(Client::new(process.address).send(&report(1, FIELD, 0)).0, 201);
    let mut client =
        postgres::Client::connect(&on_port("localhost", "&sslmode=disable"), postgres::NoTls).unwrap();
    let encrypted = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE application_name = 'sanderling' AND ssl";
    assert_eq!(client.query_one(encrypted, &[]).unwrap().get::<_, i64>(0), 2, "a writer and a reader");
}
