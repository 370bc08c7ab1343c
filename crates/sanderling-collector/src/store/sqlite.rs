//! One SQLite database file, which one collector at a time holds.

mod reader;
mod schema;
mod sessions;
mod writer;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use sanderling_types::{Code, Error, Result, Sha256Hash};

use crate::RegisteredBundle;
pub(super) use reader::Reader;
pub(super) use writer::Writer;

pub(super) fn register(path: &Path, bundle: &RegisteredBundle) -> Result<()> {
    let connection = schema::open_for_writing(path)?;
    connection
        .execute(
            "INSERT INTO bundles (bundle_sha256, manifest, baseline) VALUES (?1, ?2, ?3)
             ON CONFLICT (bundle_sha256) DO NOTHING",
            (bundle.hash().as_bytes(), bundle.manifest().encode(), bundle.baseline().encode()),
        )
        .map_err(|error| storage_error(&error))?;
    Ok(())
}

/// How long a lock is waited for: a collector that is just closing may hold it, and so does a process that was forked from it until it is another program.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_NAP: Duration = Duration::from_millis(10);

fn lock(path: &Path) -> Result<File> {
    let mut lock_path = path.as_os_str().to_owned();
    lock_path.push(".lock");
    let lock_path = PathBuf::from(lock_path);
    let unusable = |error: std::io::Error| {
        Error::new(Code::Storage, format!("{} cannot be locked", lock_path.display()))
            .found(&error)
            .source_error(error)
    };
    let file = File::options().create(true).truncate(false).write(true).open(&lock_path).map_err(unusable)?;
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < patience => thread::sleep(LOCK_NAP),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(Code::Storage, format!("another collector holds {}", path.display()))
                    .hint("stop it first, or give this one a database of its own"));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
    }
}

/// The error of a failed SQLite call. What is about this moment (a full disk, a lock that someone
/// holds for long) gets a code of its own.
fn storage_error(error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => {
            Error::new(Code::StorageFull, "the database cannot grow; nothing was stored")
                .found(error)
                .hint("free some space, or raise the size limit")
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Error::new(Code::Overloaded, "another program holds the database").found(error)
        }
        _ => Error::new(Code::Storage, "the database failed").found(error),
    }
}

/// Registered bundle of a hash, from an open connection.
fn find_bundle(connection: &Connection, hash: Sha256Hash) -> Result<Option<RegisteredBundle>> {
    use rusqlite::OptionalExtension as _;
    let row: Option<(Vec<u8>, Vec<u8>)> = connection
        .prepare_cached("SELECT manifest, baseline FROM bundles WHERE bundle_sha256 = ?1")
        .and_then(|mut statement| {
            statement.query_row([hash.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(|error| storage_error(&error))?;
    row.map(|(manifest, baseline)| RegisteredBundle::decode(&manifest, &baseline)).transpose()
}

/// A count of a row; rusqlite has no unsigned 64-bit columns.
fn count_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let count: i64 = row.get(column)?;
    u64::try_from(count).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, count))
}
