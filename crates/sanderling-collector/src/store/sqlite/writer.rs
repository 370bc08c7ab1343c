//! The writing connection: stores a batch in one transaction, answers after the commit.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, named_params};
use sanderling_types::{Report, ReportStatus, Result, Sha256Hash};

use super::{lock, schema, storage_error};
use crate::RegisteredBundle;
use crate::store::StoreOptions;
use crate::store::queue::{Answer, Backend, BundleRow, Work, hour_of, id_bytes, settle, unknown_bundle};
use crate::validate::oldest_window_start;

/// What a probe needs room for: more pages than a transaction of reports touches.
const PROBE_BYTES: i64 = 64 * 1024;

/// The one writer of a database file.
pub(in crate::store) struct Writer {
    connection: Connection,
    /// Held locked while the connection is open; the lock falls with the process, however it ends.
    _lock: File,
}

impl Writer {
    pub(in crate::store) fn open(path: &Path, options: &StoreOptions) -> Result<Self> {
        let lock = lock(path)?;
        let connection = schema::open_for_writing(path)?;
        if let Some(max_bytes) = options.max_database_bytes {
            schema::limit_size(&connection, max_bytes)?;
        }
        Ok(Self { connection, _lock: lock })
    }
}

impl Backend for Writer {
    fn write(&mut self, batch: &[Work]) -> Vec<Result<Answer>> {
        let written = write(&mut self.connection, batch);
        if written.is_ok() && batch.iter().any(|work| matches!(work, Work::EraseBundle { .. })) {
            empty_log(&self.connection);
        }
        written.unwrap_or_else(|error| {
            tracing::error!(%error, num_jobs = batch.len(), "a transaction failed; nothing of it was stored");
            batch.iter().map(|_| Err(storage_error(&error))).collect()
        })
    }

    fn probe(&mut self) -> Result<()> {
        probe(&mut self.connection).map_err(|error| storage_error(&error))
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
fn write(connection: &mut Connection, batch: &[Work]) -> rusqlite::Result<Vec<Result<Answer>>> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let answers = batch.iter().map(|work| perform(&tx, work)).collect::<rusqlite::Result<_>>()?;
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
    let Some(bundle) = bundle_row(tx, report.bundle_sha256)? else {
        return Ok(Err(unknown_bundle(report.bundle_sha256)));
    };
    let id = id_bytes(&report.report_id);
    let known: Option<(i64, i64)> = tx
        .prepare_cached("SELECT bundle_id, window_start FROM reports WHERE report_id = ?1")?
        .query_row([&id[..]], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some(settled) = settle(report, bundle, known) {
        return Ok(settled);
    }
    tx.prepare_cached(
        "INSERT INTO reports (report_id, bundle_id, window_start, received_at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((&id[..], bundle.bundle_id, report.window_start, hour_of(received_at)))?;
    count(tx, bundle.bundle_id, report)?;
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

fn bundle_row(tx: &Transaction<'_>, hash: Sha256Hash) -> rusqlite::Result<Option<BundleRow>> {
    tx.prepare_cached("SELECT bundle_id, expired_before FROM bundles WHERE bundle_sha256 = ?1")?
        .query_row([hash.as_bytes()], |row| {
            Ok(BundleRow { bundle_id: row.get(0)?, expired_before: row.get(1)? })
        })
        .optional()
}

/// Deletes everything that names the bundle; the pages are overwritten with zeros.
fn erase_bundle(tx: &Transaction<'_>, bundle: Sha256Hash) -> rusqlite::Result<Result<u64>> {
    let Some(BundleRow { bundle_id, .. }) = bundle_row(tx, bundle)? else {
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
