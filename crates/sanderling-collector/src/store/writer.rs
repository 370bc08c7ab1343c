//! The one writer: takes what waits, stores it in one transaction, answers after the commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, named_params};
use sanderling_types::{Code, Error, Report, ReportStatus, Result, Sha256Hash};
use tokio::sync::oneshot;

use super::{storage_error, unknown_bundle};
use crate::RegisteredBundle;
use crate::validate::oldest_window_start;

/// Work for the writer, with the way back to whoever waits for it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Result<Answer>>,
    pub(super) waiting: Waiting,
}

impl Job {
    fn answer(self, answer: Result<Answer>) {
        drop(self.waiting);
        // A waiter that has gone away is no problem in either case: it will ask again.
        let _ = self.reply.send(answer);
    }
}

/// Counts a job until it is done or given up.
pub(super) struct Waiting(Arc<AtomicU64>);

impl Waiting {
    pub(super) fn new(count: &Arc<AtomicU64>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) enum Work {
    Report { report: Box<Report>, received_at: i64 },
    DeleteExpired { now: i64, retention_seconds: u32 },
    EraseBundle { bundle: Sha256Hash },
    Probe,
}

pub(super) enum Answer {
    Report(ReportStatus),
    /// How many reports were deleted.
    Deleted(u64),
    /// It could be written.
    Writable,
}

/// What a probe needs room for: more pages than a transaction of reports touches.
const PROBE_BYTES: i64 = 64 * 1024;

/// Runs until the queue is closed and empty.
pub(super) fn run(mut connection: Connection, jobs: &Receiver<Job>, max_batch: usize) {
    while let Ok(first) = jobs.recv() {
        let batch = std::iter::once(first).chain(jobs.try_iter().take(max_batch - 1));
        let (probes, batch): (Vec<Job>, Vec<Job>) = batch.partition(|job| matches!(job.work, Work::Probe));
        if !batch.is_empty() {
            run_batch(&mut connection, batch);
        }
        if !probes.is_empty() {
            // Apart from the reports: a full database ends the transaction that finds it out.
            let found = probe(&mut connection);
            let answer = || found.as_ref().map(|()| Answer::Writable).map_err(storage_error);
            probes.into_iter().for_each(|job| job.answer(answer()));
        }
    }
}

fn run_batch(connection: &mut Connection, batch: Vec<Job>) {
    let erases = batch.iter().any(|job| matches!(job.work, Work::EraseBundle { .. }));
    let written = write(connection, &batch);
    if erases && written.is_ok() {
        empty_log(connection);
    }
    match written {
        Ok(answers) => batch.into_iter().zip(answers).for_each(|(job, answer)| job.answer(answer)),
        Err(error) => {
            tracing::error!(%error, num_jobs = batch.len(), "a transaction failed; nothing of it was stored");
            batch.into_iter().for_each(|job| job.answer(Err(storage_error(&error))));
        }
    }
}

/// Moves the write-ahead log into the database, so that neither holds what was erased.
fn empty_log(connection: &Connection) {
    let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0));
    if !matches!(done, Ok(0)) {
        tracing::warn!(?done, "erased pages stay in the write-ahead log until it is next emptied");
    }
}

/// Takes the write lock and room for a large transaction, and gives both back.
fn probe(connection: &mut Connection) -> rusqlite::Result<()> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.prepare_cached(
        "INSERT INTO bundles (bundle_sha256, manifest, baseline) VALUES (randomblob(32), zeroblob(?1), x'')",
    )?
    .execute([PROBE_BYTES])?;
    tx.rollback()
}

/// Does the whole batch in one transaction; the answers may be sent, because it is committed.
fn write(connection: &mut Connection, batch: &[Job]) -> rusqlite::Result<Vec<Result<Answer>>> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let answers = batch.iter().map(|job| perform(&tx, &job.work)).collect::<rusqlite::Result<_>>()?;
    tx.commit()?;
    Ok(answers)
}

fn perform(tx: &Transaction<'_>, work: &Work) -> rusqlite::Result<Result<Answer>> {
    match work {
        Work::Report { report, received_at } => Ok(store(tx, report, *received_at)?.map(Answer::Report)),
        Work::DeleteExpired { now, retention_seconds } => {
            Ok(Ok(Answer::Deleted(delete_expired(tx, *now, *retention_seconds)?)))
        }
        Work::EraseBundle { bundle } => Ok(erase_bundle(tx, *bundle)?.map(Answer::Deleted)),
        Work::Probe => Ok(Ok(Answer::Writable)),
    }
}

/// Stores one report. The outer error ends the transaction; the inner one concerns this report.
fn store(tx: &Transaction<'_>, report: &Report, received_at: i64) -> rusqlite::Result<Result<ReportStatus>> {
    let Some((bundle_id, expired_before)) = bundle_row(tx, report.bundle_sha256)? else {
        return Ok(Err(unknown_bundle(report.bundle_sha256)));
    };
    let id = id_bytes(&report.report_id);
    let known: Option<(i64, i64)> = tx
        .prepare_cached("SELECT bundle_id, window_start FROM reports WHERE report_id = ?1")?
        .query_row([&id[..]], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some(known) = known {
        return Ok(if known == (bundle_id, report.window_start) {
            Ok(ReportStatus::Duplicate)
        } else {
            Err(Error::new(Code::ReportConflict, "a report of another window or bundle has this id")
                .found(&report.report_id))
        });
    }
    if report.window_start < expired_before {
        return Ok(Err(Error::new(Code::ReportExpired, "the reports of this window were deleted")
            .expected(format!("a start of {expired_before} or later"))
            .found(report.window_start)));
    }
    tx.prepare_cached(
        "INSERT INTO reports (report_id, bundle_id, window_start, received_at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((&id[..], bundle_id, report.window_start, received_at - received_at.rem_euclid(3600)))?;
    count(tx, bundle_id, report)?;
    Ok(Ok(ReportStatus::Accepted))
}

fn count(tx: &Transaction<'_>, bundle_id: i64, report: &Report) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO windows (bundle_id, window_start, num_reports) VALUES (?1, ?2, 1)
         ON CONFLICT DO UPDATE SET num_reports = num_reports + 1",
    )?
    .execute((bundle_id, report.window_start))?;
    let mut add = tx.prepare_cached(
        "INSERT INTO cells (bundle_id, window_start, field, bin, num_answers) VALUES (?1, ?2, ?3, ?4, 1)
         ON CONFLICT DO UPDATE SET num_answers = num_answers + 1",
    )?;
    for observation in &report.observations {
        add.execute((bundle_id, report.window_start, &observation.field, observation.bin))?;
    }
    Ok(())
}

fn bundle_row(tx: &Transaction<'_>, hash: Sha256Hash) -> rusqlite::Result<Option<(i64, i64)>> {
    tx.prepare_cached("SELECT bundle_id, expired_before FROM bundles WHERE bundle_sha256 = ?1")?
        .query_row([hash.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Deletes everything that names the bundle; the pages are overwritten with zeros.
fn erase_bundle(tx: &Transaction<'_>, bundle: Sha256Hash) -> rusqlite::Result<Result<u64>> {
    let Some((bundle_id, _)) = bundle_row(tx, bundle)? else {
        return Ok(Err(unknown_bundle(bundle)));
    };
    let num_reports: i64 = tx.query_row(
        "SELECT coalesce(sum(num_reports), 0) FROM windows WHERE bundle_id = ?1",
        [bundle_id],
        |row| row.get(0),
    )?;
    tx.query_row("PRAGMA secure_delete = on", (), |_| Ok(()))?;
    for table in ["cells", "windows", "reports", "bundles"] {
        tx.execute(&format!("DELETE FROM {table} WHERE bundle_id = ?1"), [bundle_id])?;
    }
    Ok(Ok(num_reports.unsigned_abs()))
}

fn delete_expired(tx: &Transaction<'_>, now: i64, retention_seconds: u32) -> rusqlite::Result<u64> {
    let bundles: Vec<(i64, Vec<u8>, Vec<u8>)> = tx
        .prepare("SELECT bundle_id, manifest, baseline FROM bundles")?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut num_deleted = 0;
    for (bundle_id, manifest, baseline) in bundles {
        let bundle = RegisteredBundle::decode(&manifest, &baseline)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let oldest = oldest_window_start(now, retention_seconds, bundle.telemetry().window_seconds);
        num_deleted += tx
            .execute("DELETE FROM reports WHERE bundle_id = ?1 AND window_start < ?2", (bundle_id, oldest))?
            as u64;
        tx.execute(
            "UPDATE bundles SET expired_before = max(expired_before, :oldest) WHERE bundle_id = :bundle_id",
            named_params! { ":oldest": oldest, ":bundle_id": bundle_id },
        )?;
    }
    Ok(num_deleted)
}

/// The 16 bytes of an id of 32 hex digits, which decoding has checked.
fn id_bytes(report_id: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
    report_id.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
