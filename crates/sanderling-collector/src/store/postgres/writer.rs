//! The writing connection: stores a batch in one transaction, answers after the commit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::postgres::{Client, Config, IsolationLevel, Statement, Transaction};
use sanderling_types::{Code, Error, Report, ReportStatus, Result, Sha256Hash};

use super::connection::{Failure, off_runtime};
use super::schema;
use crate::RegisteredBundle;
use crate::store::StoreOptions;
use crate::store::queue::{Answer, Backend, BundleRow, Work, hour_of, id_bytes, settle, unknown_bundle};
use crate::validate::oldest_window_start;

/// How often a batch is done at most, where others got in its way.
const MAX_ATTEMPTS: u32 = 8;
/// Time between two tries to reach the server; each takes twice as long as the one before.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// One collector's writer.
pub(in crate::store) struct Writer {
    config: Config,
    session: Option<Session>,
    wait: Duration,
    next_try: Instant,
    /// Whether the server's disk was full, and no probe has found room since.
    was_full: bool,
}

/// A connection with its statements.
struct Session {
    client: Client,
    statements: Statements,
}

struct Statements {
    bundles: Statement,
    known: Statement,
    add_reports: Statement,
    add_windows: Statement,
    add_cells: Statement,
}

/// The lock keeps [`delete_expired`] of another collector from closing a window between this question and the commit.
const BUNDLES: &str = "
    SELECT bundle_id, bundle_sha256, expired_before FROM sanderling.bundles
    WHERE bundle_sha256 = ANY($1) ORDER BY bundle_id FOR SHARE";
const KNOWN: &str =
    "SELECT report_id, bundle_id, window_start FROM sanderling.reports WHERE report_id = ANY($1)";
const ADD_REPORTS: &str = "
    INSERT INTO sanderling.reports (report_id, bundle_id, window_start, received_at)
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[])
    ON CONFLICT (report_id) DO NOTHING";
const ADD_WINDOWS: &str = "
    INSERT INTO sanderling.windows AS old (bundle_id, window_start, num_reports)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[])
    ON CONFLICT (bundle_id, window_start) DO UPDATE SET num_reports = old.num_reports + excluded.num_reports";
const ADD_CELLS: &str = "
    INSERT INTO sanderling.cells AS old (bundle_id, window_start, field, bin, num_answers)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::integer[], $5::bigint[])
    ON CONFLICT (bundle_id, window_start, field, bin) DO UPDATE SET num_answers = old.num_answers + excluded.num_answers";

/// The locks of a transaction of reports, in its order, and a row that names nothing.
const PROBE: &str = "
    INSERT INTO sanderling.bundles (bundle_id, bundle_sha256, manifest, baseline) OVERRIDING SYSTEM VALUE
    SELECT -1 - floor(random() * 1e15)::bigint, sha256(convert_to(random()::text, 'UTF8')),
        string_agg(sha256(convert_to(random()::text, 'UTF8')), ''), ''
    FROM generate_series(1, $1::bigint / 32)";
const LOCKS: &str =
    "LOCK TABLE sanderling.reports, sanderling.windows, sanderling.cells IN ROW EXCLUSIVE MODE";
/// What a probe writes: little, because every write leaves a dead row for the server to vacuum.
const PROBE_BYTES: i64 = 32;
/// What it writes to find out whether a full disk has room again: more than the tables may have left in their pages.
const FULL_PROBE_BYTES: i64 = 1 << 20;

impl Writer {
    pub(in crate::store) fn open(config: &Config, options: &StoreOptions) -> Result<Self> {
        if options.max_database_bytes.is_some() {
            return Err(Error::new(Code::InvalidArgument, "max_database_bytes is for a file")
                .hint("limit the server's disk instead"));
        }
        let session = off_runtime(|| Session::start(schema::open_for_writing(config)?));
        let session = session.map_err(|failure| failure.on_opening())?;
        Ok(Self {
            config: config.clone(),
            session: Some(session),
            wait: FIRST_WAIT,
            next_try: Instant::now(),
            was_full: false,
        })
    }

    /// Does `work` until nobody gets in its way, for a bounded number of times. Doing it again is right even where a commit
    /// came through and its answer was lost: the reports are known then.
    fn attempt<T>(&mut self, mut work: impl FnMut(&mut Session) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut attempt = 1;
        loop {
            let failure = match work(self.session()?) {
                Ok(done) => return Ok(done),
                Err(failure) => failure,
            };
            if failure.is_lost() {
                tracing::warn!(%failure, "the connection to the database is lost");
                self.session = None;
            }
            if !failure.is_passing() || attempt == MAX_ATTEMPTS {
                return Err(failure);
            }
            tracing::debug!(%failure, attempt, "a transaction is done again");
            attempt += 1;
        }
    }

    /// The connection; a new one where it is lost and the last try was long enough ago.
    fn session(&mut self) -> Result<&mut Session, Failure> {
        if self.session.is_none() {
            if Instant::now() < self.next_try {
                return Err(Failure::Away);
            }
            self.session = self.reconnect();
        }
        self.session.as_mut().ok_or(Failure::Away)
    }

    fn reconnect(&mut self) -> Option<Session> {
        match schema::open(&self.config).and_then(Session::start) {
            Ok(session) => {
                tracing::info!("connected to the database again");
                self.wait = FIRST_WAIT;
                Some(session)
            }
            Err(failure) => {
                tracing::warn!(%failure, wait = ?self.wait, "the database cannot be reached");
                self.next_try = Instant::now() + self.wait;
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
                None
            }
        }
    }

    /// Writes either reports, or one deletion or erasure.
    fn write_part(&mut self, part: &[Work]) -> Vec<Result<Answer>> {
        let done = match part {
            [Work::DeleteExpired { now, retention_seconds }] => self
                .attempt(|session| delete_expired(&mut session.client, *now, *retention_seconds))
                .map(|num_deleted| vec![Ok(Answer::Deleted(num_deleted))]),
            [Work::EraseBundle { bundle }] => {
                // An attempt whose commit came through though its answer was lost.
                let mut erased = None;
                self.attempt(|session| erase_bundle(&mut session.client, *bundle, &mut erased))
                    .map(|answer| vec![answer.map(Answer::Deleted)])
            }
            reports => self.attempt(|session| store(session, &arrivals(reports))),
        };
        self.was_full |= done.as_ref().is_err_and(Failure::is_full);
        done.unwrap_or_else(|failure| {
            // Being away was said when it began.
            if !matches!(failure, Failure::Away) {
                tracing::error!(%failure, num_jobs = part.len(), "a transaction failed; nothing of it was acknowledged");
            }
            part.iter().map(|_| Err(failure.error())).collect()
        })
    }
}

impl Backend for Writer {
    /// Deletions and erasures are transactions of their own, because they take long and lock what reports need.
    fn write(&mut self, batch: &[Work]) -> Vec<Result<Answer>> {
        let is_report = |work: &Work| matches!(work, Work::Report { .. });
        let parts = batch.chunk_by(|a, b| is_report(a) && is_report(b));
        parts.flat_map(|part| self.write_part(part)).collect()
    }

    fn probe(&mut self) -> Result<()> {
        let bytes = if self.was_full { FULL_PROBE_BYTES } else { PROBE_BYTES };
        let probed = self.attempt(|session| probe(&mut session.client, bytes));
        match &probed {
            Ok(()) => self.was_full = false,
            Err(failure) => self.was_full |= failure.is_full(),
        }
        probed.map_err(|failure| failure.error())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Closing a connection runs the client's runtime as well.
        let session = self.session.take();
        off_runtime(|| drop(session));
    }
}

impl Session {
    fn start(mut client: Client) -> Result<Self, Failure> {
        let statements = Statements {
            bundles: client.prepare(BUNDLES)?,
            known: client.prepare(KNOWN)?,
            add_reports: client.prepare(ADD_REPORTS)?,
            add_windows: client.prepare(ADD_WINDOWS)?,
            add_cells: client.prepare(ADD_CELLS)?,
        };
        Ok(Self { client, statements })
    }
}

/// A report of a batch.
struct Arrival<'a> {
    id: Vec<u8>,
    report: &'a Report,
    received_at: i64,
}

fn arrivals(batch: &[Work]) -> Vec<Arrival<'_>> {
    let arrival = |work| match work {
        &Work::Report { ref report, received_at } => {
            Some(Arrival { id: id_bytes(&report.report_id), report, received_at })
        }
        Work::DeleteExpired { .. } | Work::EraseBundle { .. } | Work::Probe => None,
    };
    batch.iter().filter_map(arrival).collect()
}

/// What a batch adds, in the order in which every collector writes it.
#[derive(Default)]
struct Additions {
    /// By report id: bundle, window, hour of arrival.
    reports: BTreeMap<Vec<u8>, (i64, i64, i64)>,
    /// By bundle and window.
    windows: BTreeMap<(i64, i64), i64>,
    /// By bundle, window, field and bin.
    cells: BTreeMap<(i64, i64, String, i32), i64>,
}

impl Additions {
    fn count(&mut self, bundle_id: i64, arrival: &Arrival<'_>) {
        let report = arrival.report;
        let row = (bundle_id, report.window_start, hour_of(arrival.received_at));
        self.reports.insert(arrival.id.clone(), row);
        *self.windows.entry((bundle_id, report.window_start)).or_default() += 1;
        for observation in &report.observations {
            let cell =
                (bundle_id, report.window_start, observation.field.clone(), i32::from(observation.bin));
            *self.cells.entry(cell).or_default() += 1;
        }
    }
}

/// Stores reports in one transaction; the answers may be sent, because it is committed.
fn store(session: &mut Session, arrivals: &[Arrival<'_>]) -> Result<Vec<Result<Answer>>, Failure> {
    let Session { client, statements } = session;
    let mut tx = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start()?;
    let bundles = bundle_rows(&mut tx, statements, arrivals)?;
    let mut known = known_reports(&mut tx, statements, arrivals)?;
    let mut additions = Additions::default();
    let answers = arrivals.iter().map(|arrival| {
        let hash = arrival.report.bundle_sha256;
        let bundle = *bundles.get(&hash.as_bytes()[..]).ok_or_else(|| unknown_bundle(hash))?;
        let settled = settle(arrival.report, bundle, known.get(&arrival.id).copied());
        let status = settled.unwrap_or_else(|| {
            known.insert(arrival.id.clone(), (bundle.bundle_id, arrival.report.window_start));
            additions.count(bundle.bundle_id, arrival);
            Ok(ReportStatus::Accepted)
        });
        status.map(Answer::Report)
    });
    let answers = answers.collect();
    if additions.reports.is_empty() {
        return Ok(answers);
    }
    add(&mut tx, statements, &additions)?;
    tx.commit()?;
    Ok(answers)
}

fn bundle_rows(
    tx: &mut Transaction<'_>,
    statements: &Statements,
    arrivals: &[Arrival<'_>],
) -> Result<BTreeMap<Vec<u8>, BundleRow>, Failure> {
    let mut hashes: Vec<&[u8]> =
        arrivals.iter().map(|arrival| &arrival.report.bundle_sha256.as_bytes()[..]).collect();
    hashes.sort_unstable();
    hashes.dedup();
    let rows = tx.query(&statements.bundles, &[&hashes])?;
    let row = |row: &::postgres::Row| {
        Ok((row.try_get(1)?, BundleRow { bundle_id: row.try_get(0)?, expired_before: row.try_get(2)? }))
    };
    rows.iter().map(row).collect()
}

/// Bundle and window of the reports that were counted before.
fn known_reports(
    tx: &mut Transaction<'_>,
    statements: &Statements,
    arrivals: &[Arrival<'_>],
) -> Result<BTreeMap<Vec<u8>, (i64, i64)>, Failure> {
    let ids: Vec<&[u8]> = arrivals.iter().map(|arrival| &arrival.id[..]).collect();
    let rows = tx.query(&statements.known, &[&ids])?;
    rows.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))).collect()
}

/// Windows and cells come last, because their rows are the ones that other collectors wait for.
fn add(tx: &mut Transaction<'_>, statements: &Statements, additions: &Additions) -> Result<(), Failure> {
    let ids: Vec<&[u8]> = additions.reports.keys().map(|id| &id[..]).collect();
    let rows = additions.reports.values();
    let bundle_ids: Vec<i64> = rows.clone().map(|row| row.0).collect();
    let windows: Vec<i64> = rows.clone().map(|row| row.1).collect();
    let hours: Vec<i64> = rows.map(|row| row.2).collect();
    let num_added = tx.execute(&statements.add_reports, &[&ids, &bundle_ids, &windows, &hours])?;
    if num_added != ids.len() as u64 {
        return Err(Failure::Raced);
    }

    let (bundle_ids, windows): (Vec<i64>, Vec<i64>) = additions.windows.keys().copied().unzip();
    let counts: Vec<i64> = additions.windows.values().copied().collect();
    tx.execute(&statements.add_windows, &[&bundle_ids, &windows, &counts])?;

    let cells = additions.cells.keys();
    let bundle_ids: Vec<i64> = cells.clone().map(|cell| cell.0).collect();
    let windows: Vec<i64> = cells.clone().map(|cell| cell.1).collect();
    let fields: Vec<&str> = cells.clone().map(|cell| &cell.2[..]).collect();
    let bins: Vec<i32> = cells.map(|cell| cell.3).collect();
    let counts: Vec<i64> = additions.cells.values().copied().collect();
    tx.execute(&statements.add_cells, &[&bundle_ids, &windows, &fields, &bins, &counts])?;
    Ok(())
}

/// Deletes everything that names the bundle, in one transaction. The lock waits for reports that are being stored, and those that
/// come later wait for it, and then find no bundle. The server frees what the rows took when it vacuums.
fn erase_bundle(
    client: &mut Client,
    bundle: Sha256Hash,
    erased: &mut Option<u64>,
) -> Result<Result<u64>, Failure> {
    let mut tx = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start()?;
    let row = tx.query_opt(
        "SELECT bundle_id FROM sanderling.bundles WHERE bundle_sha256 = $1 FOR UPDATE",
        &[&&bundle.as_bytes()[..]],
    )?;
    let Some(row) = row else { return Ok(erased.ok_or_else(|| unknown_bundle(bundle))) };
    let bundle_id: i64 = row.try_get(0)?;
    tx.execute("DELETE FROM sanderling.reports WHERE bundle_id = $1", &[&bundle_id])?;
    let counted: i64 = tx
        .query_one(
            "WITH gone AS (DELETE FROM sanderling.windows WHERE bundle_id = $1 RETURNING num_reports)
             SELECT coalesce(sum(num_reports), 0)::bigint FROM gone",
            &[&bundle_id],
        )?
        .try_get(0)?;
    tx.execute("DELETE FROM sanderling.cells WHERE bundle_id = $1", &[&bundle_id])?;
    tx.execute("DELETE FROM sanderling.bundles WHERE bundle_id = $1", &[&bundle_id])?;
    let num_reports = counted.unsigned_abs();
    *erased = Some(num_reports);
    tx.commit()?;
    Ok(Ok(num_reports))
}

/// Writes a row under the locks of reports, and takes it back.
fn probe(client: &mut Client, bytes: i64) -> Result<(), Failure> {
    let mut tx = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start()?;
    tx.execute(PROBE, &[&bytes])?;
    tx.batch_execute(LOCKS)?;
    Ok(tx.rollback()?)
}

/// Closes the windows first, and deletes after that is committed: no collector adds to them any more, and none waits meanwhile.
fn delete_expired(client: &mut Client, now: i64, retention_seconds: u32) -> Result<u64, Failure> {
    let rows = client
        .query("SELECT bundle_id, manifest, baseline FROM sanderling.bundles ORDER BY bundle_id", &[])?;
    let mut num_deleted = 0;
    for row in rows {
        let (bundle_id, manifest, baseline): (i64, &[u8], &[u8]) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let bundle = RegisteredBundle::decode(manifest, baseline)?;
        let oldest = oldest_window_start(now, retention_seconds, bundle.telemetry().window_seconds);
        client.execute(
            "UPDATE sanderling.bundles SET expired_before = $1 WHERE bundle_id = $2 AND expired_before < $1",
            &[&oldest, &bundle_id],
        )?;
        num_deleted += client.execute(
            "DELETE FROM sanderling.reports WHERE bundle_id = $1 AND window_start < $2",
            &[&bundle_id, &oldest],
        )?;
    }
    Ok(num_deleted)
}
