//! The durable store: one database, one writer thread, any number of readers.

mod location;
mod postgres;
mod queue;
mod reader;
mod session_row;
mod sqlite;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use sanderling_types::{Code, Error, Report, ReportStatus, Result, Sha256Hash, SharedSession};
use tokio::sync::oneshot;

use crate::RegisteredBundle;
use location::Place;
pub use location::StoreLocation;
use queue::{Answer, Backend, Job, Reply, Waiting, Work};
pub use reader::{Merged, Reader};

/// Settings of [`Store::open`].
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Reports and sessions that may wait for the writer; more are refused with [`Code::Overloaded`].
    pub queue_capacity: usize,
    /// Most reports and sessions in one transaction.
    pub max_batch: usize,
    /// Upper bound of a SQLite database file; what goes beyond it is refused with
    /// [`Code::StorageFull`]. `None`: the disk is the bound. A PostgreSQL database has no such bound.
    pub max_database_bytes: Option<u64>,
}

impl Default for StoreOptions {
    /// 1,024 waiting, 256 in a transaction, as large as the disk.
    fn default() -> Self {
        Self { queue_capacity: 1024, max_batch: 256, max_database_bytes: None }
    }
}

/// The store of a running collector. Only one process at a time can hold a SQLite database; any number share a PostgreSQL
/// database. [`Reader`]s of other processes are not affected. Dropping it waits for everything that was accepted.
#[derive(Debug)]
pub struct Store {
    jobs: Option<mpsc::SyncSender<Job>>,
    writer: Option<JoinHandle<()>>,
    reader: Reader,
    location: StoreLocation,
    queue_capacity: usize,
    /// Jobs that are queued or being done.
    num_waiting: Arc<AtomicU64>,
}

impl Store {
    /// Opens the database at `location`, or makes it (on a server: its tables), and starts the writer.
    ///
    /// # Errors
    /// [`Code::Storage`] where another collector holds the file, the database is another
    /// program's, or it cannot be used; [`Code::UnsupportedFormatVersion`] for a database of another
    /// version; [`Code::InvalidArgument`] for a queue or batch of 0, and for a size limit of a server.
    pub fn open(location: &StoreLocation, options: &StoreOptions) -> Result<Self> {
        if options.queue_capacity == 0 || options.max_batch == 0 {
            return Err(Error::new(Code::InvalidArgument, "queue_capacity and max_batch are at least 1"));
        }
        let backend: Box<dyn Backend> = match &location.0 {
            Place::File(path) => Box::new(sqlite::Writer::open(path, options)?),
            Place::Postgres(config) => Box::new(postgres::Writer::open(config, options)?),
        };
        let reader = Reader::open(location)?;
        let (jobs, receiver) = mpsc::sync_channel(options.queue_capacity);
        let max_batch = options.max_batch;
        let writer = std::thread::Builder::new()
            .name("sanderling-writer".to_owned())
            .spawn(move || queue::run(backend, &receiver, max_batch))
            .map_err(|error| Error::new(Code::Io, "the writer thread cannot start").source_error(error))?;
        Ok(Self {
            jobs: Some(jobs),
            writer: Some(writer),
            reader,
            location: location.clone(),
            queue_capacity: options.queue_capacity,
            num_waiting: Arc::default(),
        })
    }

    /// Makes a bundle's reports acceptable; registering it again changes nothing.
    ///
    /// # Errors
    /// [`Code::Storage`], [`Code::StorageFull`] or [`Code::Overloaded`].
    pub fn register(&self, bundle: &RegisteredBundle) -> Result<()> {
        register_bundle(&self.location, bundle)
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
    /// [`Code::Overloaded`] where the queue is full or the server cannot be reached, [`Code::ReportConflict`] for another report
    /// with the same id, [`Code::ReportExpired`] for a window whose reports were deleted,
    /// [`Code::StorageFull`], [`Code::Storage`]. Nothing of the report is stored then; or, where the
    /// connection to a server broke at the commit, it is recognised when it comes again.
    pub async fn submit(&self, report: Report, received_at: i64) -> Result<ReportStatus> {
        self.store(Work::Report { report: Box::new(report), received_at }).await
    }

    /// Stores a valid session durably and once. `received_at` (Unix seconds) is kept rounded down to the hour.
    ///
    /// # Errors
    /// Those of [`Store::submit`], for the session's day in place of a window.
    pub async fn submit_session(&self, session: SharedSession, received_at: i64) -> Result<ReportStatus> {
        self.store(Work::Session { session: Box::new(session), received_at }).await
    }

    async fn store(&self, work: Work) -> Result<ReportStatus> {
        match self.perform(work).await? {
            Answer::Stored(status) => Ok(status),
            _ => Err(writer_stopped()),
        }
    }

    /// Deletes raw reports whose window, and sessions whose day, closed more than `retention_seconds` before `now`; merged
    /// counts stay. Of a session nothing is left in a database file; a server frees the space when it vacuums. Answers how many
    /// reports and sessions were deleted.
    ///
    /// # Errors
    /// [`Code::Overloaded`], [`Code::Storage`], [`Code::StorageFull`].
    pub async fn delete_expired(&self, now: i64, retention_seconds: u32) -> Result<u64> {
        match self.perform(Work::DeleteExpired { now, retention_seconds }).await? {
            Answer::Expired { num_reports, num_sessions } => Ok(num_reports + num_sessions),
            _ => Err(writer_stopped()),
        }
    }

    /// Erases a bundle and everything that was reported of it: counts, ids, windows, sessions, and its registration. Answers
    /// how many reports had been counted. Nothing of it is left in a database file afterwards; a server frees the space when it
    /// vacuums.
    ///
    /// # Errors
    /// [`Code::UnknownBundle`] where it is not registered, [`Code::Overloaded`], [`Code::Storage`], [`Code::StorageFull`].
    pub async fn erase_bundle(&self, bundle: Sha256Hash) -> Result<u64> {
        match self.perform(Work::EraseBundle { bundle }).await? {
            Answer::Erased(num_reports) => Ok(num_reports),
            _ => Err(writer_stopped()),
        }
    }

    /// Asks the writer whether it could store reports now. It writes, and takes it back: more than a transaction of reports
    /// takes where a file has a bound, or where a server's disk was full when it was last tried.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where the queue is full, another program holds the database or its server cannot be reached, [`Code::StorageFull`], [`Code::Storage`].
    pub async fn probe(&self) -> Result<()> {
        self.perform(Work::Probe).await.map(drop)
    }

    /// Jobs that may still be queued before reports and sessions are refused with [`Code::Overloaded`].
    #[must_use]
    pub fn queue_capacity_left(&self) -> u64 {
        (self.queue_capacity as u64).saturating_sub(self.num_waiting.load(Ordering::Relaxed))
    }

    /// Bytes on disk: of a database file and its write-ahead log, or of the tables on a server with their indexes.
    ///
    /// # Errors
    /// [`Code::Overloaded`] where the server cannot be reached, [`Code::Storage`].
    pub fn database_bytes(&self) -> Result<u64> {
        self.reader.database_bytes()
    }

    async fn perform(&self, work: Work) -> Result<Answer> {
        let (sender, answer) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(writer_stopped)?;
        let reply = Reply { sender, waiting: Waiting::new(&self.num_waiting) };
        jobs.try_send(Job { work, reply }).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => {
                Error::new(Code::Overloaded, "too many reports and sessions are waiting")
                    .hint("send the same again later")
            }
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

/// Registers a bundle in the database at `location`, which running collectors may hold open: they
/// accept the bundle's reports from then on.
///
/// # Errors
/// [`Code::Storage`], [`Code::StorageFull`] or [`Code::Overloaded`].
pub fn register_bundle(location: &StoreLocation, bundle: &RegisteredBundle) -> Result<()> {
    match &location.0 {
        Place::File(path) => sqlite::register(path, bundle),
        Place::Postgres(config) => postgres::register(config, bundle),
    }
}

fn writer_stopped() -> Error {
    Error::new(Code::Storage, "the writer has stopped")
}
