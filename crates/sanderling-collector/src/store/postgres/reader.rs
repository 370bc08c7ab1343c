//! The reading connection.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use ::postgres::{Client, Config, IsolationLevel, Row, Transaction};
use sanderling_types::{Code, Error, Result, Sha256Hash};

use super::connection::{Failure, off_runtime};
use super::{schema, sessions};
use crate::store::reader::{StoredBundle, Sums};
use crate::store::session_row::SessionRow;
use crate::{RegisteredBundle, WindowStatus};

pub(in crate::store) struct Reader {
    config: Config,
    client: Mutex<Option<Client>>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Reader {
    pub(in crate::store) fn open(config: &Config) -> Result<Self> {
        let client = off_runtime(|| schema::open(config)).map_err(|failure| failure.on_opening())?;
        Ok(Self { config: config.clone(), client: Mutex::new(Some(client)) })
    }

    pub(in crate::store) fn bundle(&self, hash: Sha256Hash) -> Result<Option<RegisteredBundle>> {
        self.ask(|tx| {
            let row = tx.query_opt(
                "SELECT manifest, baseline FROM sanderling.bundles WHERE bundle_sha256 = $1",
                &[&&hash.as_bytes()[..]],
            )?;
            row.map(|row| Ok(RegisteredBundle::decode(row.try_get(0)?, row.try_get(1)?)?)).transpose()
        })
    }

    pub(in crate::store) fn sums(&self, bundle: Sha256Hash, windows: &Range<i64>) -> Result<Sums> {
        self.ask(|tx| {
            let hash = &bundle.as_bytes()[..];
            let totals = tx.query_one(
                "SELECT count(*), coalesce(sum(num_reports), 0)::bigint
                 FROM sanderling.windows JOIN sanderling.bundles USING (bundle_id)
                 WHERE bundle_sha256 = $1 AND window_start >= $2 AND window_start < $3",
                &[&hash, &windows.start, &windows.end],
            )?;
            let cells = tx.query(
                "SELECT field, bin, sum(num_answers)::bigint
                 FROM sanderling.cells JOIN sanderling.bundles USING (bundle_id)
                 WHERE bundle_sha256 = $1 AND window_start >= $2 AND window_start < $3 GROUP BY field, bin",
                &[&hash, &windows.start, &windows.end],
            )?;
            let cell = |row: &Row| Ok((row.try_get(0)?, bin_of(row.try_get(1)?)?, count_of(row, 2)?));
            Ok(Sums {
                num_windows: count_of(&totals, 0)?,
                num_reports: count_of(&totals, 1)?,
                cells: cells.iter().map(cell).collect::<Result<_, Failure>>()?,
            })
        })
    }

    pub(in crate::store) fn sessions(
        &self,
        bundles: Option<&[Sha256Hash]>,
        days: &Range<i64>,
    ) -> Result<Vec<SessionRow>> {
        self.ask(|tx| sessions::read(tx, bundles, days))
    }

    pub(in crate::store) fn bundles(&self) -> Result<Vec<StoredBundle>> {
        self.ask(|tx| {
            let bundles = tx.query(
                "SELECT bundle_id, manifest, baseline FROM sanderling.bundles ORDER BY bundle_id",
                &[],
            )?;
            let mut out = Vec::with_capacity(bundles.len());
            for row in bundles {
                let bundle_id: i64 = row.try_get(0)?;
                let windows = tx.query(
                    "SELECT window_start, num_reports FROM sanderling.windows WHERE bundle_id = $1
                     ORDER BY window_start",
                    &[&bundle_id],
                )?;
                let window = |row: &Row| {
                    Ok(WindowStatus { window_start: row.try_get(0)?, num_reports: Some(count_of(row, 1)?) })
                };
                let num_sessions = tx.query_one(
                    "SELECT count(*) FROM sanderling.sessions WHERE bundle_id = $1",
                    &[&bundle_id],
                )?;
                out.push(StoredBundle {
                    manifest: row.try_get(1)?,
                    baseline: row.try_get(2)?,
                    num_sessions: count_of(&num_sessions, 0)?,
                    windows: windows.iter().map(window).collect::<Result<_, Failure>>()?,
                });
            }
            Ok(out)
        })
    }

    /// Of the tables with their indexes.
    pub(in crate::store) fn database_bytes(&self) -> Result<u64> {
        self.ask(|tx| {
            let bytes = tx.query_one(
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
                 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = 'sanderling' AND c.relkind = 'r'",
                &[],
            )?;
            count_of(&bytes, 0)
        })
    }

    /// Asks within one snapshot. A connection that broke since the last question is made anew, once.
    fn ask<T: Send>(
        &self,
        question: impl Fn(&mut Transaction<'_>) -> Result<T, Failure> + Sync,
    ) -> Result<T> {
        let answer = off_runtime(|| {
            // A panic of another reader leaves the connection as usable as before.
            let mut slot = self.client.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(client) = slot.as_mut() {
                match ask_with(client, &question) {
                    Err(failure) if failure.is_lost() => *slot = None,
                    answer => return answer,
                }
            }
            let client = slot.insert(schema::open(&self.config)?);
            ask_with(client, &question)
        });
        answer.map_err(|failure| {
            tracing::warn!(%failure, "the database was not read");
            failure.error()
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Closing a connection runs the client's runtime as well.
        let client = self.client.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        off_runtime(|| drop(client));
    }
}

fn ask_with<T>(
    client: &mut Client,
    question: impl Fn(&mut Transaction<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let snapshot = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let mut tx = snapshot.start()?;
    let answer = question(&mut tx)?;
    tx.commit()?;
    Ok(answer)
}

/// A count of a row; PostgreSQL has no unsigned columns.
fn count_of(row: &Row, column: usize) -> Result<u64, Failure> {
    let count: i64 = row.try_get(column)?;
    Ok(u64::try_from(count).map_err(|_| damaged(count))?)
}

fn bin_of(bin: i32) -> Result<u16, Failure> {
    Ok(u16::try_from(bin).map_err(|_| damaged(bin))?)
}

fn damaged(found: impl std::fmt::Display) -> Error {
    Error::new(Code::Storage, "the database holds a number that is none of a collector").found(found)
}
