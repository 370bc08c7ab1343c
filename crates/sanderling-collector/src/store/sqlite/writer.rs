//! The writing connection: stores a batch in one transaction, answers after the commit.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, named_params};
use sanderling_types::{Report, ReportStatus, Result, Sha256Hash};

use super::{lock, schema, sessions, storage_error};
use crate::RegisteredBundle;
use crate::store::StoreOptions;
use crate::store::queue::{Answer, Backend, BundleRow, Once, Work, hour_of, settle, unknown_bundle};
use crate::validate::{oldest_day, oldest_window_start};

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
        if written.as_ref().is_ok_and(|answers| answers.iter().any(leaves_traces)) {
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

/// Whether something was deleted that the write-ahead log must not keep: all of a bundle, or sessions, which are not noised.
fn leaves_traces(answer: &Result<Answer>) -> bool {
    matches!(answer, Ok(Answer::Erased(_) | Answer::Expired { num_sessions: 1.., .. }))
}

/// Moves the write-ahead log into the database, so that neither holds what was deleted.
fn empty_log(connection: &Connection) {
    let done = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0));
    if !matches!(done, Ok(0)) {
        tracing::warn!(?done, "deleted pages stay in the write-ahead log until it is next emptied");
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
        Work::Report { report, received_at } => {
            Ok(store_once(tx, Once::Report(report), *received_at)?.map(Answer::Stored))
        }
        Work::Session { session, received_at } => {
            Ok(store_once(tx, Once::Session(session), *received_at)?.map(Answer::Stored))
        }
        Work::DeleteExpired { now, retention_seconds } => {
            Ok(Ok(delete_expired(tx, *now, *retention_seconds)?))
        }
        Work::EraseBundle { bundle } => Ok(erase_bundle(tx, *bundle)?.map(Answer::Erased)),
        Work::Probe => Ok(Ok(Answer::Writable)),
    }
}

/// Stores one report or session. The outer error ends the transaction; the inner one concerns this one.
fn store_once(
    tx: &Transaction<'_>,
    once: Once<'_>,
    received_at: i64,
) -> rusqlite::Result<Result<ReportStatus>> {
    let Some(bundle) = bundle_row(tx, once.bundle())? else {
        return Ok(Err(unknown_bundle(once.bundle())));
    };
    let id = once.id_bytes();
    let known: Option<(i64, i64)> = tx
        .prepare_cached(match once {
            Once::Report(_) => "SELECT bundle_id, window_start FROM reports WHERE report_id = ?1",
            Once::Session(_) => "SELECT bundle_id, day FROM sessions WHERE session_id = ?1",
        })?
        .query_row([&id[..]], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some(settled) = settle(once, bundle, known) {
        return Ok(settled);
    }
    match once {
        Once::Report(report) => add_report(tx, &id, bundle.bundle_id, report, hour_of(received_at))?,
        Once::Session(session) => sessions::add(tx, &id, bundle.bundle_id, session, hour_of(received_at))?,
    }
    Ok(Ok(ReportStatus::Accepted))
}

fn add_report(
    tx: &Transaction<'_>,
    id: &[u8],
    bundle_id: i64,
    report: &Report,
    hour: i64,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO reports (report_id, bundle_id, window_start, received_at) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((id, bundle_id, report.window_start, hour))?;
    count(tx, bundle_id, report)
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
    tx.prepare_cached(
        "SELECT bundle_id, expired_before, sessions_expired_before FROM bundles WHERE bundle_sha256 = ?1",
    )?
    .query_row([hash.as_bytes()], |row| {
        Ok(BundleRow {
            bundle_id: row.get(0)?,
            expired_before: row.get(1)?,
            sessions_expired_before: row.get(2)?,
        })
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
    for table in ["cells", "windows", "reports", "sessions", "bundles"] {
        tx.execute(&format!("DELETE FROM {table} WHERE bundle_id = ?1"), [bundle_id])?;
    }
    Ok(Ok(num_reports.unsigned_abs()))
}

fn delete_expired(tx: &Transaction<'_>, now: i64, retention_seconds: u32) -> rusqlite::Result<Answer> {
    let bundles: Vec<(i64, Vec<u8>, Vec<u8>)> = tx
        .prepare("SELECT bundle_id, manifest, baseline FROM bundles")?
        .query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let oldest_day = oldest_day(now, retention_seconds);
    // A session is not noised: its pages are overwritten as those of an erased bundle are.
    tx.query_row("PRAGMA secure_delete = on", (), |_| Ok(()))?;
    let (mut num_reports, mut num_sessions) = (0, 0);
    for (bundle_id, manifest, baseline) in bundles {
        let bundle = RegisteredBundle::decode(&manifest, &baseline)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let oldest = oldest_window_start(now, retention_seconds, bundle.telemetry().window_seconds);
        num_reports += tx
            .execute("DELETE FROM reports WHERE bundle_id = ?1 AND window_start < ?2", (bundle_id, oldest))?
            as u64;
        num_sessions += tx
            .execute("DELETE FROM sessions WHERE bundle_id = ?1 AND day < ?2", (bundle_id, oldest_day))?
            as u64;
        tx.execute(
            "UPDATE bundles SET expired_before = max(expired_before, :oldest),
                 sessions_expired_before = max(sessions_expired_before, :oldest_day)
             WHERE bundle_id = :bundle_id",
            named_params! { ":oldest": oldest, ":oldest_day": oldest_day, ":bundle_id": bundle_id },
        )?;
    }
    Ok(Answer::Expired { num_reports, num_sessions })
}
