//! The database file: its tables, its version, and how connections are opened.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use sanderling_types::{Code, Error, Result};

use super::storage_error;

/// Marks the file as a collector's ("SNDC").
const APPLICATION_ID: i32 = 0x534E_4443;
/// Version of the tables below.
const SCHEMA_VERSION: i32 = 3;
/// The version before, which gets what is new in this one when a collector opens it.
const PREVIOUS_VERSION: i32 = 2;
/// How long a connection waits for another one's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The tables of [`PREVIOUS_VERSION`].
const TABLES: &str = "
-- Bundles whose reports are accepted. expired_before: every report of an earlier window was
-- deleted, so that none may be counted again, whatever the clock says.
CREATE TABLE bundles (
    bundle_id INTEGER PRIMARY KEY,
    bundle_sha256 BLOB NOT NULL UNIQUE,
    manifest BLOB NOT NULL,
    baseline BLOB NOT NULL,
    expired_before INTEGER NOT NULL DEFAULT -9223372036854775808
) STRICT;
-- One row a counted report: enough to recognise it, nothing of what it answered. No hash of the
-- content either: an answer is one of a few bins, so a hash would be as good as the answer.
CREATE TABLE reports (
    report_id BLOB PRIMARY KEY,
    bundle_id INTEGER NOT NULL REFERENCES bundles,
    window_start INTEGER NOT NULL,
    received_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reports_by_window ON reports (bundle_id, window_start);
CREATE TABLE windows (
    bundle_id INTEGER NOT NULL REFERENCES bundles,
    window_start INTEGER NOT NULL,
    num_reports INTEGER NOT NULL,
    PRIMARY KEY (bundle_id, window_start)
) STRICT, WITHOUT ROWID;
-- Merged answers: how often a bin was reported.
CREATE TABLE cells (
    bundle_id INTEGER NOT NULL REFERENCES bundles,
    window_start INTEGER NOT NULL,
    field TEXT NOT NULL,
    bin INTEGER NOT NULL,
    num_answers INTEGER NOT NULL,
    PRIMARY KEY (bundle_id, window_start, field, bin)
) STRICT, WITHOUT ROWID;
";

/// What this version adds. A new database is made by the same steps, so that it and one that was moved on are the same.
const SESSIONS: &str = "
-- Every session of an earlier day was deleted: as expired_before, for windows may be longer than days.
ALTER TABLE bundles ADD COLUMN sessions_expired_before INTEGER NOT NULL DEFAULT -9223372036854775808;
-- One row a shared session, whole: body holds its interactions as JSON.
CREATE TABLE sessions (
    session_id BLOB PRIMARY KEY NOT NULL,
    bundle_id INTEGER NOT NULL REFERENCES bundles,
    day INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX sessions_by_day ON sessions (bundle_id, day);
";

/// Opens or makes the database for writing: write-ahead log, and a disk sync with every commit.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path).map_err(|error| cannot_open(path, &error))?;
    prepare(connection, path)
}

fn prepare(mut connection: Connection, path: &Path) -> Result<Connection> {
    let failed = |error: rusqlite::Error| cannot_open(path, &error);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let is_new = is_empty(&connection).map_err(failed)?;
    if !is_new && version(&connection, path)? != PREVIOUS_VERSION {
        check_version(&connection, path)?;
    }
    let journal: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(failed)?;
    if journal != "wal" {
        return Err(Error::new(
            Code::Storage,
            format!("{} is on a file system without shared memory", path.display()),
        )
        .expected("journal mode wal")
        .found(journal));
    }
    connection.pragma_update(None, "synchronous", "full").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    if is_new {
        make_tables(&mut connection).map_err(failed)?;
    } else {
        move_on(&mut connection).map_err(failed)?;
    }
    check_version(&connection, path)?;
    Ok(connection)
}

/// Opens an existing database for reading; a collector may be writing to it.
pub(super) fn open_for_reading(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| cannot_open(path, &error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| cannot_open(path, &error))?;
    check_version(&connection, path)?;
    Ok(connection)
}

/// Lets the database grow to at most `max_bytes`, in whole pages.
pub(super) fn limit_size(connection: &Connection, max_bytes: u64) -> Result<()> {
    let limit = || {
        let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let max_pages = max_bytes / u64::from(page_bytes.max(1));
        let max_pages = u32::try_from(max_pages).unwrap_or(u32::MAX - 1).max(1);
        connection.pragma_update_and_check(None, "max_page_count", max_pages, |row| row.get::<_, i64>(0))
    };
    limit().map_err(|error: rusqlite::Error| storage_error(&error))?;
    Ok(())
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let num_tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
    Ok(num_tables == 0)
}

/// Makes the tables unless another connection was faster.
fn make_tables(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if is_empty(&transaction)? {
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(SESSIONS)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()
}

/// Adds what a database of the previous version lacks, unless another connection was faster; nothing that is there changes.
fn move_on(connection: &mut Connection) -> rusqlite::Result<()> {
    let is_previous = |connection: &Connection| {
        let version = connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0))?;
        Ok::<_, rusqlite::Error>(version == PREVIOUS_VERSION)
    };
    if !is_previous(connection)? {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if is_previous(&transaction)? {
        transaction.execute_batch(SESSIONS)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()
}

/// The version of a collector's database.
fn version(connection: &Connection, path: &Path) -> Result<i32> {
    let number = |name: &str| -> Result<i32> {
        connection.pragma_query_value(None, name, |row| row.get(0)).map_err(|error| cannot_open(path, &error))
    };
    if number("application_id")? != APPLICATION_ID {
        return Err(Error::new(Code::Storage, format!("{} is not a collector's database", path.display())));
    }
    number("user_version")
}

fn check_version(connection: &Connection, path: &Path) -> Result<()> {
    let version = version(connection, path)?;
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    let error = Error::new(Code::UnsupportedFormatVersion, format!("{} has another version", path.display()))
        .expected(SCHEMA_VERSION)
        .found(version);
    Err(match version {
        PREVIOUS_VERSION => error.hint("start a collector of this version with it once"),
        _ => error,
    })
}

fn cannot_open(path: &Path, error: &rusqlite::Error) -> Error {
    match storage_error(error) {
        full if full.code() == Code::StorageFull => full,
        _ => Error::new(Code::Storage, format!("{} cannot be opened", path.display())).found(error),
    }
}
