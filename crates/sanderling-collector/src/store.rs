//! The durable store: one SQLite database, one writer thread, any number of readers.

mod reader;
mod schema;
mod writer;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rusqlite::Connection;
use sanderling_types::{Code, Error, Report, ReportStatus, Result, Sha256Hash};
use tokio::sync::oneshot;

use crate::RegisteredBundle;
pub use reader::{Merged, Reader};
use writer::{Answer, Job, Waiting, Work};

/// Settings of [`Store::open`].
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Reports that may wait for the writer; more are refused with [`Code::Overloaded`].
    pub queue_capacity: usize,
    /// Most reports in one transaction.
    pub max_batch: usize,
    /// Upper bound of the database file; reports beyond it are refused with
    /// [`Code::StorageFull`]. `None`: the disk is the bound.
    pub max_database_bytes: Option<u64>,
}

impl Default for StoreOptions {
    /// 1,024 waiting, 256 in a transaction, as large as the disk.
    fn default() -> Self {
        Self { queue_capacity: 1024, max_batch: 256, max_database_bytes: None }
    }
}

/// The store of a running collector. Only one process at a time can hold it; [`Reader`]s of other
/// processes are not affected. Dropping it waits for everything that was accepted.
#[derive(Debug)]
pub struct Store {
    jobs: Option<mpsc::SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    reader: Reader,
    path: PathBuf,
    queue_capacity: usize,
    /// Jobs that are queued or being done.
    num_waiting: Arc<AtomicU64>,
    /// Held locked while the store is open; the lock falls with the process, however it ends.
    _lock: File,
}

impl Store {
    /// Opens the database at `path`, or makes it, and starts the writer.
    ///
    /// # Errors
    /// [`Code::Storage`] where another collector holds the database, the file is another
    /// program's, or SQLite fails; [`Code::UnsupportedFormatVersion`] for a database of another
    /// version; [`Code::InvalidArgument`] for a queue or batch of 0.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self> {
        if options.queue_capacity == 0 || options.max_batch == 0 {
            return Err(Error::new(Code::InvalidArgument, "queue_capacity and max_batch are at least 1"));
        }
        let lock = lock(path)?;
        let connection = schema::open_for_writing(path)?;
        if let Some(max_bytes) = options.max_database_bytes {
            schema::limit_size(&connection, max_bytes)?;
        }
        let reader = Reader::open(path)?;
        let (jobs, receiver) = mpsc::sync_channel(options.queue_capacity);
        let max_batch = options.max_batch;
        let writer = std::thread::Builder::new()
            .name("sanderling-writer".to_owned())
            .spawn(move || writer::run(connection, &receiver, max_batch))
            .map_err(|error| Error::new(Code::Io, "the writer thread cannot start").source_error(error))?;
        Ok(Self {
            jobs: Some(jobs),
            writer: Some(writer),
            reader,
            path: path.to_owned(),
            queue_capacity: options.queue_capacity,
            num_waiting: Arc::default(),
            _lock: lock,
        })
    }

    /// Makes a bundle's reports acceptable; registering it again changes nothing.
    ///
    /// # Errors
    /// [`Code::Storage`] or [`Code::StorageFull`].
    pub fn register(&self, bundle: &RegisteredBundle) -> Result<()> {
        register_bundle(&self.path, bundle)
    }

    /// The reading side.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Stores a valid report durably and counts it once. `received_at` (Unix seconds) is kept
    /// rounded down to the hour.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where the queue is full, [`Code::ReportConflict`] for another report
    /// with the same id, [`Code::ReportExpired`] for a window whose reports were deleted,
    /// [`Code::StorageFull`], [`Code::Storage`]. Nothing of the report is stored then.
    pub async fn submit(&self, report: Report, received_at: i64) -> Result<ReportStatus> {
        match self.perform(Work::Report { report: Box::new(report), received_at }).await? {
            Answer::Report(status) => Ok(status),
            _ => Err(writer_stopped()),
        }
    }

    /// Deletes raw reports whose window closed more than `retention_seconds` before `now`; merged
    /// counts stay. Answers how many were deleted.
    ///
    /// # Errors
    /// [`Code::Overloaded`], [`Code::Storage`], [`Code::StorageFull`].
    pub async fn delete_expired(&self, now: i64, retention_seconds: u32) -> Result<u64> {
        match self.perform(Work::DeleteExpired { now, retention_seconds }).await? {
            Answer::Deleted(num_deleted) => Ok(num_deleted),
            _ => Err(writer_stopped()),
        }
    }

    /// Erases a bundle and everything that was reported of it: counts, ids, windows, and its registration. Answers how
    /// many reports had been counted. Nothing of it is left in the database file afterwards.
    ///
    /// # Errors
    /// [`Code::UnknownBundle`] where it is not registered, [`Code::Overloaded`], [`Code::Storage`], [`Code::StorageFull`].
    pub async fn erase_bundle(&self, bundle: Sha256Hash) -> Result<u64> {
        match self.perform(Work::EraseBundle { bundle }).await? {
            Answer::Deleted(num_reports) => Ok(num_reports),
            _ => Err(writer_stopped()),
        }
    }

    /// Asks the writer whether it could store reports now. It writes more than a transaction of reports takes, and takes it back.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where the queue is full or another program holds the database, [`Code::StorageFull`], [`Code::Storage`].
    pub async fn probe(&self) -> Result<()> {
        self.perform(Work::Probe).await.map(drop)
    }

    /// Jobs that may still be queued before reports are refused with [`Code::Overloaded`].
    #[must_use]
    pub fn queue_capacity_left(&self) -> u64 {
        (self.queue_capacity as u64).saturating_sub(self.num_waiting.load(Ordering::Relaxed))
    }

    /// Bytes of the database on disk, its write-ahead log included.
    #[must_use]
    pub fn database_bytes(&self) -> u64 {
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        bytes(&self.path) + bytes(Path::new(&log))
    }

    async fn perform(&self, work: Work) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(writer_stopped)?;
        let waiting = Waiting::new(&self.num_waiting);
        jobs.try_send(Job { work, reply, waiting }).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => Error::new(Code::Overloaded, "too many reports are waiting")
                .hint("send the same report again later"),
            mpsc::TrySendError::Disconnected(_) => writer_stopped(),
        })?;
        answer.await.map_err(|_| writer_stopped())?
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing the queue lets the writer finish what is in it; only then may the lock fall.
        self.jobs = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer thread panicked");
        }
    }
}

/// Registers a bundle in the database at `path`, which a running collector may hold open: it
/// accepts the bundle's reports from then on.
///
/// # Errors
/// [`Code::Storage`] or [`Code::StorageFull`].
pub fn register_bundle(path: &Path, bundle: &RegisteredBundle) -> Result<()> {
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
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Code::Storage, format!("another collector holds {}", path.display()))
                .hint("stop it first, or give this one a database of its own"))
        }
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

fn writer_stopped() -> Error {
    Error::new(Code::Storage, "the writer has stopped")
}

fn unknown_bundle(hash: Sha256Hash) -> Error {
    Error::new(Code::UnknownBundle, "no bundle with this hash is registered").found(hash)
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
