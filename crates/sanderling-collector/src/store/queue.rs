//! What waits for the writer, and the rules by which a report is counted.

use std::sync::mpsc::Receiver;

use sanderling_types::{Code, Error, Report, ReportStatus, Result, Sha256Hash};
use tokio::sync::oneshot;

/// Work for the writer, with the way back to whoever waits for it.
pub(super) struct Job {
    pub(super) work: Work,
    pub(super) reply: oneshot::Sender<Result<Answer>>,
}

pub(super) enum Work {
    Report { report: Box<Report>, received_at: i64 },
    DeleteExpired { now: i64, retention_seconds: u32 },
}

pub(super) enum Answer {
    Report(ReportStatus),
    /// How many raw reports were deleted.
    Deleted(u64),
}

/// A database that is written to.
pub(super) trait Backend: Send {
    /// Does the work, and gives one answer for each part of it, in order. What is answered with success was committed and survives
    /// a kill; of what failed nothing was stored, or it is recognised when it comes again.
    fn write(&mut self, batch: &[Work]) -> Vec<Result<Answer>>;
}

/// Writes what waits, as much as a batch takes at a time, until the queue is closed and empty.
pub(super) fn run(mut backend: Box<dyn Backend>, jobs: &Receiver<Job>, max_batch: usize) {
    while let Ok(first) = jobs.recv() {
        let batch = std::iter::once(first).chain(jobs.try_iter().take(max_batch - 1));
        let (batch, replies): (Vec<Work>, Vec<_>) = batch.map(|job| (job.work, job.reply)).unzip();
        for (reply, answer) in replies.into_iter().zip(backend.write(&batch)) {
            // A waiter that has gone away is no problem: it will ask again.
            let _ = reply.send(answer);
        }
    }
}

/// What the database has about a registered bundle.
#[derive(Debug, Clone, Copy)]
pub(super) struct BundleRow {
    pub(super) bundle_id: i64,
    /// Every report of an earlier window was deleted.
    pub(super) expired_before: i64,
}

/// What becomes of a report; `known` is the bundle and window of a counted report with its id. `None`: it is new and to be counted.
pub(super) fn settle(
    report: &Report,
    bundle: BundleRow,
    known: Option<(i64, i64)>,
) -> Option<Result<ReportStatus>> {
    match known {
        Some(known) if known == (bundle.bundle_id, report.window_start) => Some(Ok(ReportStatus::Duplicate)),
        Some(_) => {
            Some(Err(Error::new(Code::ReportConflict, "a report of another window or bundle has this id")
                .found(&report.report_id)))
        }
        None if report.window_start < bundle.expired_before => {
            Some(Err(Error::new(Code::ReportExpired, "the reports of this window were deleted")
                .expected(format!("a start of {} or later", bundle.expired_before))
                .found(report.window_start)))
        }
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

/// The 16 bytes of an id of 32 hex digits, which decoding has checked.
pub(super) fn id_bytes(report_id: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
    report_id.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
