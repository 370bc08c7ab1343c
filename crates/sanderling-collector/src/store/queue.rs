//! What waits for the writer, and the rules by which a report or a session is stored once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use sanderling_types::{Code, Error, Report, ReportStatus, Result, Sha256Hash, SharedSession};
use tokio::sync::oneshot;

/// Work for the writer, with the way back to whoever waits for it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) reply: Reply,
}

/// The way back.
pub(super) struct Reply {
    pub(super) sender: oneshot::Sender<Result<Answer>>,
    pub(super) waiting: Waiting,
}

impl Reply {
    fn send(self, answer: Result<Answer>) {
        drop(self.waiting);
        // A waiter that has gone away is no problem: it will ask again.
        let _ = self.sender.send(answer);
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
    Report {
        report: Box<Report>,
        received_at: i64,
    },
    Session {
        session: Box<SharedSession>,
        received_at: i64,
    },
    DeleteExpired {
        now: i64,
        retention_seconds: u32,
    },
    EraseBundle {
        bundle: Sha256Hash,
    },
    /// Never part of a [`Backend::write`].
    Probe,
}

pub(super) enum Answer {
    /// Of a report or a session.
    Stored(ReportStatus),
    /// How much was beyond the retention, and is deleted.
    Expired { num_reports: u64, num_sessions: u64 },
    /// How many reports of the erased bundle had been counted.
    Erased(u64),
    /// It could be written.
    Writable,
}

/// A database that is written to.
pub(super) trait Backend: Send {
    /// Does the work, and gives one answer for each part of it, in order. What is answered with success was committed and survives
    /// a kill; of what failed nothing was stored, or it is recognised when it comes again.
    fn write(&mut self, batch: &[Work]) -> Vec<Result<Answer>>;

    /// Writes what a report could need, and takes it back.
    fn probe(&mut self) -> Result<()>;
}

/// Writes what waits, as much as a batch takes at a time, until the queue is closed and empty.
pub(super) fn run(mut backend: Box<dyn Backend>, jobs: &Receiver<Job>, max_batch: usize) {
    while let Ok(first) = jobs.recv() {
        let batch = std::iter::once(first).chain(jobs.try_iter().take(max_batch - 1));
        let (probes, batch): (Vec<Job>, Vec<Job>) = batch.partition(|job| matches!(job.work, Work::Probe));
        let (batch, replies): (Vec<Work>, Vec<Reply>) =
            batch.into_iter().map(|job| (job.work, job.reply)).unzip();
        if !batch.is_empty() {
            let commit = tracing::info_span!("commit", num_jobs = batch.len());
            replies
                .into_iter()
                .zip(commit.in_scope(|| backend.write(&batch)))
                .for_each(|(reply, answer)| reply.send(answer));
        }
        // Apart from the reports: a full database ends the transaction that finds it out.
        let asking: Vec<Reply> = probes.into_iter().map(|job| job.reply).collect();
        if asking.iter().any(|reply| !reply.sender.is_closed()) {
            let found = backend.probe();
            let answer = || found.as_ref().map(|()| Answer::Writable).map_err(repeat);
            asking.into_iter().for_each(|reply| reply.send(answer()));
        }
    }
}

/// The error, once more for another who asked.
pub(super) fn repeat(error: &Error) -> Error {
    let mut out = Error::new(error.code(), error.message());
    if let Some(expected) = error.expected_value() {
        out = out.expected(expected);
    }
    if let Some(found) = error.found_value() {
        out = out.found(found);
    }
    if let Some(hint) = error.hint_text() {
        out = out.hint(hint);
    }
    out
}

/// What the database has about a registered bundle.
#[derive(Debug, Clone, Copy)]
pub(super) struct BundleRow {
    pub(super) bundle_id: i64,
    /// Every report of an earlier window was deleted.
    pub(super) expired_before: i64,
    /// Every session of an earlier day was deleted.
    pub(super) sessions_expired_before: i64,
}

/// What is stored once: a report of a window, or a session of a day.
#[derive(Debug, Clone, Copy)]
pub(super) enum Once<'a> {
    Report(&'a Report),
    Session(&'a SharedSession),
}

impl<'a> Once<'a> {
    /// The report or session of a job that brings one, and when it came.
    pub(super) fn of(work: &'a Work) -> Option<(Self, i64)> {
        match work {
            Work::Report { report, received_at } => Some((Self::Report(report), *received_at)),
            Work::Session { session, received_at } => Some((Self::Session(session), *received_at)),
            Work::DeleteExpired { .. } | Work::EraseBundle { .. } | Work::Probe => None,
        }
    }

    fn id(self) -> &'a str {
        match self {
            Self::Report(report) => &report.report_id,
            Self::Session(session) => &session.session_id,
        }
    }

    /// The 16 bytes of the id of 32 hex digits, which decoding has checked.
    pub(super) fn id_bytes(self) -> Vec<u8> {
        let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
        self.id().as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    pub(super) fn bundle(self) -> Sha256Hash {
        match self {
            Self::Report(report) => report.bundle_sha256,
            Self::Session(session) => session.bundle_sha256,
        }
    }

    /// Start of the window or of the day.
    pub(super) fn start(self) -> i64 {
        match self {
            Self::Report(report) => report.window_start,
            Self::Session(session) => session.day,
        }
    }
}

/// What becomes of a report or a session; `known` is the bundle and start of a stored one with its id. `None`: it is new and to be
/// stored.
pub(super) fn settle(
    once: Once<'_>,
    bundle: BundleRow,
    known: Option<(i64, i64)>,
) -> Option<Result<ReportStatus>> {
    let (other, deleted, oldest) = match once {
        Once::Report(_) => (
            "a report of another window or bundle has this id",
            "the reports of this window were deleted",
            bundle.expired_before,
        ),
        Once::Session(_) => (
            "a session of another day or bundle has this id",
            "the sessions of this day were deleted",
            bundle.sessions_expired_before,
        ),
    };
    match known {
        Some(known) if known == (bundle.bundle_id, once.start()) => Some(Ok(ReportStatus::Duplicate)),
        Some(_) => Some(Err(Error::new(Code::ReportConflict, other).found(once.id()))),
        None if once.start() < oldest => Some(Err(Error::new(Code::ReportExpired, deleted)
            .expected(format!("a start of {oldest} or later"))
            .found(once.start()))),
        None => None,
    }
}

pub(super) fn unknown_bundle(hash: Sha256Hash) -> Error {
    Error::new(Code::UnknownBundle, "no bundle with this hash is registered").found(hash)
}

/// What is kept of the time of arrival: the hour.
pub(super) fn hour_of(received_at: i64) -> i64 {
    received_at - received_at.rem_euclid(3600)
}
