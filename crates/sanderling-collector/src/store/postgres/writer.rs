//! The writing connection: stores a batch in one transaction, answers after the commit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::postgres::{Client, Config, IsolationLevel, Statement, Transaction};
use sanderling_types::{Code, Error, Report, ReportStatus, Result, Sha256Hash};

use super::connection::{Failure, off_runtime};
use super::{schema, sessions};
use crate::RegisteredBundle;
use crate::store::StoreOptions;
use crate::store::queue::{Answer, Backend, BundleRow, Once, Work, hour_of, settle, unknown_bundle};
use crate::validate::{oldest_day, oldest_window_start};

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
    sessions: sessions::Statements,
}

/// The lock keeps [`delete_expired`] of another collector from closing a window between this question and the commit.
const BUNDLES: &str = "
    SELECT bundle_id, bundle_sha256, expired_before, sessions_expired_before FROM sanderling.bundles
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
const LOCKS: &str = "LOCK TABLE sanderling.reports, sanderling.sessions, sanderling.windows, sanderling.cells IN ROW EXCLUSIVE MODE";
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
    /// came through and its answer was lost: the reports and sessions are known then.
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

    /// Writes either reports and sessions, or one deletion or erasure.
    fn write_part(&mut self, part: &[Work]) -> Vec<Result<Answer>> {
        let done = match part {
            [Work::DeleteExpired { now, retention_seconds }] => self
                .attempt(|session| delete_expired(&mut session.client, *now, *retention_seconds))
                .map(|answer| vec![Ok(answer)]),
            [Work::EraseBundle { bundle }] => {
                // An attempt whose commit came through though its answer was lost.
                let mut erased = None;
                self.attempt(|session| erase_bundle(&mut session.client, *bundle, &mut erased))
                    .map(|answer| vec![answer.map(Answer::Erased)])
            }
            arriving => self.attempt(|session| store(session, &arrivals(arriving))),
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
    /// Deletions and erasures are transactions of their own, because they take long and lock what reports and sessions need.
    fn write(&mut self, batch: &[Work]) -> Vec<Result<Answer>> {
        let arrives = |work: &Work| Once::of(work).is_some();
        let parts = batch.chunk_by(|a, b| arrives(a) && arrives(b));
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
            sessions: sessions::Statements::prepare(&mut client)?,
        };
        Ok(Self { client, statements })
    }
}

/// A report or session of a batch.
struct Arrival<'a> {
    id: Vec<u8>,
    once: Once<'a>,
    hour: i64,
}

fn arrivals(batch: &[Work]) -> Vec<Arrival<'_>> {
    let arriving = batch.iter().filter_map(Once::of);
    let arrivals = arriving.map(|(once, at)| Arrival { id: once.id_bytes(), once, hour: hour_of(at) });
    arrivals.collect()
}

/// What a batch adds, in the order in which every collector writes it.
#[derive(Default)]
struct Additions {
    /// By report id: bundle, window, hour of arrival.
    reports: BTreeMap<Vec<u8>, (i64, i64, i64)>,
    sessions: sessions::Additions,
    /// By bundle and window.
    windows: BTreeMap<(i64, i64), i64>,
    /// By bundle, window, field and bin.
    cells: BTreeMap<(i64, i64, String, i32), i64>,
}

impl Additions {
    fn take(&mut self, bundle_id: i64, arrival: &Arrival<'_>) {
        match arrival.once {
            Once::Report(report) => {
                self.reports.insert(arrival.id.clone(), (bundle_id, report.window_start, arrival.hour));
                self.count(bundle_id, report);
            }
            Once::Session(session) => {
                self.sessions.add(arrival.id.clone(), bundle_id, session, arrival.hour);
            }
        }
    }

    fn count(&mut self, bundle_id: i64, report: &Report) {
        *self.windows.entry((bundle_id, report.window_start)).or_default() += 1;
        for observation in &report.observations {
            let cell =
                (bundle_id, report.window_start, observation.field.clone(), i32::from(observation.bin));
            *self.cells.entry(cell).or_default() += 1;
        }
    }
}

/// Bundle and start of what was stored before, by id.
type Starts = BTreeMap<Vec<u8>, (i64, i64)>;

/// Reports and sessions have ids of their own.
#[derive(Default)]
struct Known {
    reports: Starts,
    sessions: Starts,
}

impl Known {
    fn of(&mut self, once: Once<'_>) -> &mut Starts {
        match once {
            Once::Report(_) => &mut self.reports,
            Once::Session(_) => &mut self.sessions,
        }
    }
}

/// Stores reports and sessions in one transaction; the answers may be sent, because it is committed.
fn store(session: &mut Session, arrivals: &[Arrival<'_>]) -> Result<Vec<Result<Answer>>, Failure> {
    let Session { client, statements } = session;
    let mut tx = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start()?;
    let bundles = bundle_rows(&mut tx, statements, arrivals)?;
    let mut known = find_known(&mut tx, statements, arrivals)?;
    let mut additions = Additions::default();
    let answers = arrivals.iter().map(|arrival| {
        let hash = arrival.once.bundle();
        let bundle = *bundles.get(&hash.as_bytes()[..]).ok_or_else(|| unknown_bundle(hash))?;
        let known = known.of(arrival.once);
        let settled = settle(arrival.once, bundle, known.get(&arrival.id).copied());
        let status = settled.unwrap_or_else(|| {
            known.insert(arrival.id.clone(), (bundle.bundle_id, arrival.once.start()));
            additions.take(bundle.bundle_id, arrival);
            Ok(ReportStatus::Accepted)
        });
        status.map(Answer::Stored)
    });
    let answers = answers.collect();
    if additions.reports.is_empty() && additions.sessions.is_empty() {
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
    let mut hashes: Vec<Sha256Hash> = arrivals.iter().map(|arrival| arrival.once.bundle()).collect();
    hashes.sort_unstable();
    hashes.dedup();
    let hashes: Vec<&[u8]> = hashes.iter().map(|hash| &hash.as_bytes()[..]).collect();
    let rows = tx.query(&statements.bundles, &[&hashes])?;
    let row = |row: &::postgres::Row| {
        let bundle = BundleRow {
            bundle_id: row.try_get(0)?,
            expired_before: row.try_get(2)?,
            sessions_expired_before: row.try_get(3)?,
        };
        Ok((row.try_get(1)?, bundle))
    };
    rows.iter().map(row).collect()
}

/// What of the arrivals was stored before; nothing is asked about what none of them is.
fn find_known(
    tx: &mut Transaction<'_>,
    statements: &Statements,
    arrivals: &[Arrival<'_>],
) -> Result<Known, Failure> {
    let (reports, sessions): (Vec<_>, Vec<_>) =
        arrivals.iter().partition(|arrival| matches!(arrival.once, Once::Report(_)));
    let mut find = |statement: &Statement, arrivals: Vec<&Arrival<'_>>| -> Result<Starts, Failure> {
        if arrivals.is_empty() {
            return Ok(Starts::new());
        }
        let ids: Vec<&[u8]> = arrivals.iter().map(|arrival| &arrival.id[..]).collect();
        let rows = tx.query(statement, &[&ids])?;
        rows.iter().map(|row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)))).collect()
    };
    Ok(Known {
        reports: find(&statements.known, reports)?,
        sessions: find(&statements.sessions.known, sessions)?,
    })
}

/// Windows and cells come last, because their rows are the ones that other collectors wait for.
fn add(tx: &mut Transaction<'_>, statements: &Statements, additions: &Additions) -> Result<(), Failure> {
    if !additions.reports.is_empty() {
        add_reports(tx, statements, additions)?;
    }
    if !additions.sessions.is_empty() {
        additions.sessions.write(tx, &statements.sessions)?;
    }
    if !additions.reports.is_empty() {
        add_counts(tx, statements, additions)?;
    }
    Ok(())
}

fn add_reports(
    tx: &mut Transaction<'_>,
    statements: &Statements,
    additions: &Additions,
) -> Result<(), Failure> {
    let ids: Vec<&[u8]> = additions.reports.keys().map(|id| &id[..]).collect();
    let rows = additions.reports.values();
    let bundle_ids: Vec<i64> = rows.clone().map(|row| row.0).collect();
    let windows: Vec<i64> = rows.clone().map(|row| row.1).collect();
    let hours: Vec<i64> = rows.map(|row| row.2).collect();
    let num_added = tx.execute(&statements.add_reports, &[&ids, &bundle_ids, &windows, &hours])?;
    if num_added == ids.len() as u64 { Ok(()) } else { Err(Failure::Raced) }
}

fn add_counts(
    tx: &mut Transaction<'_>,
    statements: &Statements,
    additions: &Additions,
) -> Result<(), Failure> {
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
    tx.execute("DELETE FROM sanderling.sessions WHERE bundle_id = $1", &[&bundle_id])?;
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

/// Closes the windows and days first, and deletes after that is committed: no collector adds to them any more, and none waits
/// meanwhile.
fn delete_expired(client: &mut Client, now: i64, retention_seconds: u32) -> Result<Answer, Failure> {
    let rows = client
        .query("SELECT bundle_id, manifest, baseline FROM sanderling.bundles ORDER BY bundle_id", &[])?;
    let oldest_day = oldest_day(now, retention_seconds);
    let (mut num_reports, mut num_sessions) = (0, 0);
    for row in rows {
        let (bundle_id, manifest, baseline): (i64, &[u8], &[u8]) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let bundle = RegisteredBundle::decode(manifest, baseline)?;
        let oldest = oldest_window_start(now, retention_seconds, bundle.telemetry().window_seconds);
        client.execute(
            "UPDATE sanderling.bundles SET expired_before = greatest(expired_before, $1),
                 sessions_expired_before = greatest(sessions_expired_before, $2)
             WHERE bundle_id = $3 AND (expired_before < $1 OR sessions_expired_before < $2)",
            &[&oldest, &oldest_day, &bundle_id],
        )?;
        num_reports += client.execute(
            "DELETE FROM sanderling.reports WHERE bundle_id = $1 AND window_start < $2",
            &[&bundle_id, &oldest],
        )?;
        num_sessions += client.execute(
            "DELETE FROM sanderling.sessions WHERE bundle_id = $1 AND day < $2",
            &[&bundle_id, &oldest_day],
        )?;
    }
    Ok(Answer::Expired { num_reports, num_sessions })
}
