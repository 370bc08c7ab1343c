//! The acceptance test of durability: SIGKILL in the middle of a stream of reports loses none that
//! was acknowledged and counts none twice.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]
#![allow(clippy::print_stdout, reason = "measured rates are worth reading")]
#![cfg(unix)]

mod support;

use std::time::Duration;

use sanderling_collector::Reader;
use sanderling_sketch::noise::{Rng, choose, rng_from_seed};
use support::traffic::{Process, Stream, serve_if_child};
use support::{Client, Database, Kind, baseline, bundle, for_every_database};

const FIELD: &str = "interaction.category";
const NUM_REPORTS: u64 = 1_000;
const NUM_DEVICES: usize = 8;
const NUM_KILLS: usize = 6;

for_every_database!(sigkill_loses_no_acknowledged_report_and_doubles_none);

/// Not a test by itself: the process that gets killed.
#[test]
fn collector_child() {
    serve_if_child();
}

fn kill_during(stream: &Stream, database: &Database, rng: &mut Rng) {
    let mut process = Process::start(database.text());
    *stream.address.lock().unwrap() = process.address;
    for kill in 1..=NUM_KILLS as u64 {
        // Somewhere within each part of the stream, then a random moment within a transaction.
        let part = NUM_REPORTS / (NUM_KILLS as u64 + 1);
        stream.wait_until_acknowledged((kill - 1) * part + choose(part as usize, rng) as u64);
        std::thread::sleep(Duration::from_micros(choose(10_000, rng) as u64));
        let promised = stream.acknowledged.lock().unwrap().clone();
        drop(process);
        let stored = database.stored();
        let lost: Vec<_> = promised.keys().filter(|number| !stored.contains_key(number)).collect();
        assert!(lost.is_empty(), "kill {kill} lost acknowledged reports {lost:?}");
        assert!(stored.len() < NUM_REPORTS as usize, "kill {kill} came after the stream");
        process = Process::start(database.text());
        *stream.address.lock().unwrap() = process.address;
    }
    stream.wait_until_acknowledged(NUM_REPORTS);
    // A device whose acknowledgement got lost sends again.
    let client = Client::new(process.address);
    for number in (0..NUM_REPORTS).step_by(7) {
        assert_eq!(client.post(&Stream::body(number)).0, 200, "report {number} is known");
    }
}

fn sigkill_loses_no_acknowledged_report_and_doubles_none(kind: Kind) {
    let database = Database::new(kind);
    let stream = Stream::new(NUM_REPORTS);
    let mut rng = rng_from_seed([9; 32]);
    stream.flow(NUM_DEVICES, || kill_during(&stream, &database, &mut rng));

    let stored = database.stored();
    assert_eq!(stored.keys().copied().collect::<Vec<_>>(), (0..NUM_REPORTS).collect::<Vec<_>>());
    assert!(stored.values().all(|count| *count == 1));
    let reader = Reader::open(&database.location()).unwrap();
    let merged = reader.merged(bundle().hash(), &baseline(), 0..i64::MAX).unwrap();
    assert_eq!(merged.num_reports, NUM_REPORTS);
    assert_eq!(merged.answers[FIELD].counts(), [NUM_REPORTS / 4; 4]);
    let duplicates = stream.acknowledged.lock().unwrap().values().filter(|status| **status == 200).count();
    println!("{NUM_KILLS} kills; {duplicates} reports were stored without their acknowledgement arriving");
}
