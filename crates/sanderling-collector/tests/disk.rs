//! What a full disk, a power cut and a kill at each single write leave of acknowledged reports: all of them, once.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]
#![allow(clippy::print_stdout, reason = "counts are worth reading")]
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sanderling_collector::Reader;
use support::traffic::{Process, Stream, serve_if_child};
use support::{Client, Collector, Database, Kind, baseline, bundle, config, num_stored, open, wait_for};

const FIELD: &str = "interaction.category";
/// Bytes of a frame of the write-ahead log: its header and a page. The log's own header is before the first.
const FRAME: u64 = 24 + 4_096;
const LOG_HEADER: u64 = 32;

/// Not a test by itself: the process that fails.
#[test]
fn collector_child() {
    serve_if_child();
}

/// Not by a macro, whose output the test runner keeps to itself.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Each of these numbers is there once, and was counted once.
fn check_stored(database: &Database, numbers: &BTreeSet<u64>, what: &str) {
    let stored = database.stored();
    let lost: Vec<_> = numbers.iter().filter(|number| !stored.contains_key(number)).collect();
    assert!(lost.is_empty(), "{what}: acknowledged reports {lost:?} are lost");
    assert!(stored.values().all(|count| *count == 1), "{what}");
    let merged = Reader::open(&database.location()).unwrap();
    let merged = merged.merged(bundle().hash(), &baseline(), i64::MIN..i64::MAX).unwrap();
    let count = |bin: u64| stored.keys().filter(|number| *number % 4 == bin).count() as u64;
    assert_eq!(merged.answers[FIELD].counts(), [0, 1, 2, 3].map(count), "{what}: counts and ids differ");
    assert_eq!(merged.num_reports, stored.len() as u64, "{what}");
}

/// Words before a program that give it a disk of 8 MB at a folder; none where that is not permitted.
fn small_disk(folder: &str) -> Option<Vec<&str>> {
    const MOUNT: &str = "mount -t tmpfs -o size=8m tmpfs \"$0\" && exec \"$@\"";
    let ways: [&[&str]; 2] = [&["--mount"], &["--user", "--map-root-user", "--mount"]];
    let words = |way: &&[&'static str]| [&["unshare"], *way, &["sh", "-c", MOUNT, folder]].concat();
    ways.iter().map(words).find(|words| works(words[0], &[&words[1..], &["true"]].concat()))
}

fn status(client: &Client, path: &str) -> (u16, String) {
    let mut response = client.agent().get(client.url(path)).call().unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

/// Checks a copy, for SQLite would look for the original on the disk of this process. Nothing is written meanwhile.
fn check_copy(from: &Path, to: &Path, numbers: &BTreeSet<u64>, what: &str) {
    copy(from, to);
    check_stored(&Database::of_file(to), numbers, what);
}

/// Takes every free byte of the disk.
fn fill(path: &Path) {
    let mut ballast = File::create(path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while ballast.write_all(&vec![0xAA; size]).is_ok() {}
    }
}

#[test]
fn a_disk_that_runs_full_refuses_with_507_and_takes_reports_again_when_there_is_room() {
    const NUM_REPORTS: u64 = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let Some(wrapper) = small_disk(folder.path().to_str().unwrap()) else {
        return skipped("a disk that runs full; mount namespaces are not permitted here");
    };
    let inside = folder.path().join("reports.db");
    let process = Process::start_under(&wrapper, inside.to_str().unwrap(), &[]).unwrap();
    // The mount is the child's alone; this is the way to it.
    let disk = PathBuf::from(format!("/proc/{}/root{}", process.id(), folder.path().display()));
    let on_disk = disk.join("reports.db");
    let outside = tempfile::tempdir().unwrap();
    let copied = outside.path().join("reports.db");
    let ballast = disk.join("ballast");
    let client = Client::new(process.address);
    let stream = Stream::new(NUM_REPORTS);
    *stream.address.lock().unwrap() = process.address;
    let mut extra = NUM_REPORTS;
    stream.flow(4, || {
        stream.wait_until_acknowledged(300);
        fill(&ballast);
        let refusal = |extra: &mut u64| {
            let (status, problem) = client.post(&Stream::body(*extra));
            *extra += u64::from(status == 201);
            (status != 201).then(|| (status, problem["code"].as_str().unwrap().to_owned()))
        };
        let mut found = None;
        wait_for("a full disk", || {
            found = refusal(&mut extra);
            found.is_some()
        });
        assert_eq!(found.unwrap(), (507, "storage_full".to_owned()));
        let acknowledged: BTreeSet<u64> = stream.acknowledged.lock().unwrap().keys().copied().collect();
        assert!(acknowledged.len() < NUM_REPORTS as usize, "the disk ran full after the stream");
        assert_eq!(status(&client, "/healthz").0, 204);
        let ready = status(&client, "/readyz");
        println!("full with {} acknowledged, /readyz: {ready:?}", acknowledged.len());
        assert!(ready.0 == 204 || ready.0 == 503 && ready.1.contains("storage_full"), "{ready:?}");
        check_copy(&on_disk, &copied, &acknowledged, "a full disk");
        std::fs::remove_file(&ballast).unwrap();
        stream.wait_until_acknowledged(NUM_REPORTS);
    });
    assert_eq!(status(&client, "/readyz").0, 204);
    assert_eq!(client.post(&Stream::body(extra)).0, 201);
    check_copy(&on_disk, &copied, &(0..=extra).collect(), "with room again");
    assert_eq!(num_stored(&copied.as_path().into()), extra + 1);
}

fn log_of(database: &Path) -> PathBuf {
    database.with_file_name("reports.db-wal")
}

/// The file and its log, without the index in shared memory, which no power cut survives.
fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_file(to.with_file_name("reports.db-shm"));
    std::fs::copy(from, to).unwrap();
    std::fs::copy(log_of(from), log_of(to)).unwrap();
}

/// What a power cut may leave behind `safe` bytes of the log, which were synced; the last transaction is the rest.
fn damages(safe: u64, log: &[u8]) -> Vec<(String, Vec<u8>)> {
    let (kept, torn) = log.split_at(safe as usize);
    let mut out = Vec::new();
    let cuts =
        (0..torn.len() as u64).step_by(FRAME as usize).flat_map(|at| [at, at + 11, at + 24, at + 24 + 2_048]);
    for cut in cuts.chain([torn.len() as u64 - 1]) {
        out.push((
            format!("cut {cut} bytes after the last synced one"),
            [kept, &torn[..cut as usize]].concat(),
        ));
    }
    for frame in 0..torn.len() as u64 / FRAME {
        let mut flipped = log.to_vec();
        flipped[(safe + frame * FRAME + 24 + 100) as usize] ^= 1;
        out.push((format!("a flipped bit in frame {frame}"), flipped));
        let mut missing = log.to_vec();
        missing[(safe + frame * FRAME) as usize..(safe + (frame + 1) * FRAME) as usize].fill(0);
        out.push((format!("frame {frame} was never written, those after it were"), missing));
    }
    for byte in [0x00, 0xFF] {
        out.push((format!("half a frame of {byte}"), [kept, &vec![byte; FRAME as usize / 2]].concat()));
    }
    // Salt and page number are right, the checksum goes on from elsewhere: what an older use of the log leaves.
    let again = &kept[LOG_HEADER as usize..];
    out.push(("frames of before once more".to_owned(), [kept, again].concat()));
    out
}

#[test]
fn a_torn_log_keeps_every_report_that_was_acknowledged_before() {
    const NUM_REPORTS: u64 = 20;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reports.db");
    let process = Process::start(path.to_str().unwrap());
    let client = Client::new(process.address);
    (0..NUM_REPORTS).for_each(|number| assert_eq!(client.post(&Stream::body(number)).0, 201));
    // Nothing is on its way, and the log is too short to start anew: it ends where its last synced transaction does.
    let safe = log_of(&path).metadata().unwrap().len();
    assert!(safe < 900 * FRAME && (safe - LOG_HEADER).is_multiple_of(FRAME), "{safe}");
    // One more, whose acknowledgement nobody gets.
    client.post(&Stream::body(NUM_REPORTS));
    drop(process);
    let log = std::fs::read(log_of(&path)).unwrap();
    assert!(log.len() as u64 > safe);

    let damages = damages(safe, &log);
    for (what, damaged) in &damages {
        let folder = tempfile::tempdir().unwrap();
        let torn = folder.path().join("reports.db");
        copy(&path, &torn);
        std::fs::write(log_of(&torn), damaged).unwrap();
        let database = Database::of_file(&torn);
        let collector = Collector::start(open(&database.location()), config());
        check_stored(&database, &(0..NUM_REPORTS).collect(), what);
        let client = collector.client();
        assert_eq!(client.post(&Stream::body(NUM_REPORTS)).0, 201, "{what}: the torn report is new");
        assert_eq!(client.post(&Stream::body(NUM_REPORTS - 1)).0, 200, "{what}");
        assert_eq!(client.post(&Stream::body(NUM_REPORTS + 1)).0, 201, "{what}");
        check_stored(&database, &(0..NUM_REPORTS + 2).collect(), what);
        collector.stop().unwrap();
    }
    println!(
        "{} damages behind {safe} synced bytes; the last transaction had {}",
        damages.len(),
        log.len() as u64 - safe
    );
}

/// Words before a program that kill it when one of its threads is about to make a system call of these for the n-th time.
fn kill_at(calls: &str, n: u64) -> Vec<String> {
    let inject = format!("inject={calls}:signal=SIGKILL:when={n}");
    let words = ["strace", "-f", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e", &inject];
    words.map(str::to_owned).to_vec()
}

fn can_trace() -> bool {
    let can = works("strace", &["-f", "-o", "/dev/null", "true"]);
    if !can {
        skipped("kills at each write; strace is not here, or not permitted");
    }
    can
}

/// Sends these until the collector dies, and ends it if it does not; the acknowledged ones, and whether it died.
fn send_until_killed(
    wrapper: &[String],
    location: &str,
    numbers: std::ops::Range<u64>,
) -> (BTreeSet<u64>, bool) {
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let Some(mut process) = Process::start_under(&wrapper, location, &[]) else {
        return (BTreeSet::new(), true);
    };
    let client = Client::new(process.address);
    let mut acknowledged = BTreeSet::new();
    for number in numbers {
        match client.try_post(&Stream::body(number)).map(|answer| answer.status().as_u16()) {
            Ok(200 | 201) => acknowledged.insert(number),
            Ok(other) => panic!("report {number} was answered with {other}"),
            Err(_) => break,
        };
    }
    // Strace ends by the signal that ended the collector.
    (acknowledged, process.finish().signal().is_some())
}

/// A database whose log is about to be written back.
fn nearly_full_log(folder: &Path) -> (PathBuf, u64) {
    let path = folder.join("reports.db");
    let process = Process::start(path.to_str().unwrap());
    let client = Client::new(process.address);
    let is_full = || log_of(&path).metadata().is_ok_and(|log| log.len() >= LOG_HEADER + 985 * FRAME);
    let number = (0..1_000).find(|number| {
        assert_eq!(client.post(&Stream::body(*number)).0, 201);
        is_full()
    });
    drop(process);
    (path, number.unwrap() + 1)
}

#[test]
fn a_kill_at_each_write_to_a_file_loses_nothing() {
    const CALLS: &str = "pwrite64,pwritev,write,fsync,fdatasync,ftruncate,fallocate,unlink";
    if !can_trace() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (full, first) = nearly_full_log(folder.path());
    let mut after = [0_u64; 7];
    let survived = (1..400).find(|n| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reports.db");
        copy(&full, &path);
        let database = Database::of_file(&path);
        let numbers = first..first + after.len() as u64 - 1;
        let (acknowledged, is_killed) =
            send_until_killed(&kill_at(CALLS, *n), database.text(), numbers.clone());
        after[acknowledged.len()] += 1;
        let promised = (0..first).chain(acknowledged).collect();
        check_stored(&database, &promised, &format!("killed at write {n}"));
        let collector = Collector::start(open(&database.location()), config());
        numbers.clone().for_each(|number| {
            assert!(matches!(collector.client().post(&Stream::body(number)).0, 200 | 201));
        });
        check_stored(
            &database,
            &(0..numbers.end).collect(),
            &format!("sent again after a kill at write {n}"),
        );
        !is_killed
    });
    println!(
        "killed at each of a thread's {} calls, while it opens and takes {} reports; by reports acknowledged before: {after:?}",
        survived.unwrap() - 1,
        after.len() - 1
    );
    assert!(survived.unwrap() > 50, "too few writes for {} transactions and a checkpoint", after.len() - 1);
}

#[test]
fn a_kill_at_each_message_to_a_server_loses_nothing() {
    const CALLS: &str = "sendto,sendmsg,write,writev";
    if support::cluster::shared().is_none() || !can_trace() {
        return;
    }
    let database = Database::new(Kind::Postgres);
    drop(open(&database.location()));
    let mut promised = BTreeSet::new();
    let (mut num_kills, mut first) = (0, 0);
    for n in 1..=60 {
        let numbers = first..first + 4;
        first = numbers.end;
        let (acknowledged, is_killed) =
            send_until_killed(&kill_at(CALLS, n), database.text(), numbers.clone());
        num_kills += u64::from(is_killed);
        promised.extend(acknowledged);
        check_stored(&database, &promised, &format!("killed at message {n}"));
    }
    let collector = Collector::start(open(&database.location()), config());
    (0..first)
        .for_each(|number| assert!(matches!(collector.client().post(&Stream::body(number)).0, 200 | 201)));
    check_stored(&database, &(0..first).collect(), "sent again");
    println!("{num_kills} kills in 60 runs; {} of {first} reports acknowledged before", promised.len());
    assert!(num_kills >= 20, "only {num_kills} runs were killed");
}
