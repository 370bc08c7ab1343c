//! The acceptance test of durability: SIGKILL in the middle of a stream of reports loses none that
//! was acknowledged and counts none twice.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]
#![allow(clippy::print_stdout, reason = "measured rates are worth reading")]
#![cfg(unix)]

mod support;

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sanderling_collector::Reader;
use sanderling_sketch::noise::{Rng, choose, rng_from_seed};
use support::{Client, baseline, bundle, config, open, report};

const FIELD: &str = "interaction.category";
const NUM_REPORTS: u64 = 1_000;
const NUM_DEVICES: usize = 8;
const NUM_KILLS: usize = 6;
/// Tells this test program that it is the collector, and where its database is.
const DATABASE: &str = "SANDERLING_TEST_DATABASE";
const LISTENING: &str = "listening on ";

/// Not a test by itself: the process that gets killed.
#[test]
fn collector_child() {
    let Some(path) = std::env::var_os(DATABASE) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(&PathBuf::from(path));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{LISTENING}{}", listener.local_addr().unwrap());
        // The pipe ends with the test program, so that no child outlives it.
        let orphaned = async {
            let _ = tokio::task::spawn_blocking(|| std::io::stdin().lines().last()).await;
        };
        sanderling_collector::serve(config(), store, listener, orphaned).await.unwrap();
    });
}

/// A running collector process; killed when dropped.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(database: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "collector_child", "--nocapture"])
            .env(DATABASE, database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            let at = line.find(LISTENING)?;
            line[at + LISTENING.len()..].parse().ok()
        });
        Self { address: address.expect("the child says where it listens"), child }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // On Unix this is SIGKILL: no handler, no destructor, no flush runs in the child.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Reports on their way: what still has to be sent, and what was acknowledged how.
struct Stream {
    address: Mutex<SocketAddr>,
    waiting: Mutex<VecDeque<u64>>,
    acknowledged: Mutex<BTreeMap<u64, u16>>,
    done: AtomicBool,
}

impl Stream {
    fn body(number: u64) -> Vec<u8> {
        report(number, FIELD, (number % 4) as u16).encode()
    }

    /// Sends until everything is acknowledged; whatever is not comes back to the queue.
    fn send_all(&self) {
        while !self.done.load(Ordering::SeqCst) {
            let Some(number) = self.waiting.lock().unwrap().pop_front() else {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            let address = *self.address.lock().unwrap();
            let status =
                Client::new(address).try_post(&Self::body(number)).map(|answer| answer.status().as_u16());
            if let Ok(status @ (200 | 201)) = status {
                let before = self.acknowledged.lock().unwrap().insert(number, status);
                assert_eq!(before, None, "report {number} was in the queue twice");
            } else {
                assert!(!matches!(status, Ok(400..=428)), "report {number} was refused with {status:?}");
                self.waiting.lock().unwrap().push_back(number);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn num_acknowledged(&self) -> u64 {
        self.acknowledged.lock().unwrap().len() as u64
    }

    fn wait_until_acknowledged(&self, count: u64) {
        for _ in 0..60_000 {
            if self.num_acknowledged() >= count {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("only {} of {count} reports were acknowledged in two minutes", self.num_acknowledged());
    }
}

/// Every report id in the database, counted by the raw table, not through the code under test.
fn stored(database: &Path) -> BTreeMap<u64, u64> {
    let connection = rusqlite::Connection::open(database).unwrap();
    let mut statement =
        connection.prepare("SELECT report_id, count(*) FROM reports GROUP BY report_id").unwrap();
    let rows = statement
        .query_map((), |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get::<_, i64>(1)? as u64)))
        .unwrap();
    rows.map(|row| row.map(|(id, count)| (u128::from_be_bytes(id) as u64, count)).unwrap()).collect()
}

fn kill_during(stream: &Stream, database: &Path, rng: &mut Rng) {
    let mut process = Process::start(database);
    *stream.address.lock().unwrap() = process.address;
    for kill in 1..=NUM_KILLS as u64 {
        // Somewhere within each part of the stream, then a random moment within a transaction.
        let part = NUM_REPORTS / (NUM_KILLS as u64 + 1);
        stream.wait_until_acknowledged((kill - 1) * part + choose(part as usize, rng) as u64);
        std::thread::sleep(Duration::from_micros(choose(10_000, rng) as u64));
        let promised = stream.acknowledged.lock().unwrap().clone();
        drop(process);
        let stored = stored(database);
        let lost: Vec<_> = promised.keys().filter(|number| !stored.contains_key(number)).collect();
        assert!(lost.is_empty(), "kill {kill} lost acknowledged reports {lost:?}");
        assert!(stored.len() < NUM_REPORTS as usize, "kill {kill} came after the stream");
        process = Process::start(database);
        *stream.address.lock().unwrap() = process.address;
    }
    stream.wait_until_acknowledged(NUM_REPORTS);
    // A device whose acknowledgement got lost sends again.
    let client = Client::new(process.address);
    for number in (0..NUM_REPORTS).step_by(7) {
        assert_eq!(client.post(&Stream::body(number)).0, 200, "report {number} is known");
    }
}

#[test]
fn sigkill_loses_no_acknowledged_report_and_doubles_none() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("reports.db");
    let stream = Stream {
        address: Mutex::new(([127, 0, 0, 1], 9).into()),
        waiting: Mutex::new((0..NUM_REPORTS).collect()),
        acknowledged: Mutex::default(),
        done: AtomicBool::new(false),
    };
    let mut rng = rng_from_seed([9; 32]);
    std::thread::scope(|scope| {
        let devices: Vec<_> = (0..NUM_DEVICES).map(|_| scope.spawn(|| stream.send_all())).collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            kill_during(&stream, &database, &mut rng);
        }));
        stream.done.store(true, Ordering::SeqCst);
        devices.into_iter().for_each(|device| device.join().unwrap());
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });

    let stored = stored(&database);
    assert_eq!(stored.keys().copied().collect::<Vec<_>>(), (0..NUM_REPORTS).collect::<Vec<_>>());
    assert!(stored.values().all(|count| *count == 1));
    let reader = Reader::open(&database).unwrap();
    let merged = reader.merged(bundle().hash(), &baseline(), 0..i64::MAX).unwrap();
    assert_eq!(merged.num_reports, NUM_REPORTS);
    assert_eq!(merged.answers[FIELD].counts(), [NUM_REPORTS / 4; 4]);
    let duplicates = stream.acknowledged.lock().unwrap().values().filter(|status| **status == 200).count();
    println!("{NUM_KILLS} kills; {duplicates} reports were stored without their acknowledgement arriving");
}
