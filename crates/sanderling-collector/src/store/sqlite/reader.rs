//! The reading connection.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rusqlite::Connection;
use sanderling_types::{Result, Sha256Hash};

use super::{count_of, find_bundle, schema, sessions, storage_error};
use crate::store::reader::{StoredBundle, Sums};
use crate::store::session_row::SessionRow;
use crate::{RegisteredBundle, WindowStatus};

#[derive(Debug)]
pub(in crate::store) struct Reader {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Reader {
    pub(in crate::store) fn open(path: &Path) -> Result<Self> {
        Ok(Self { connection: Mutex::new(schema::open_for_reading(path)?), path: path.to_owned() })
    }

    pub(in crate::store) fn bundle(&self, hash: Sha256Hash) -> Result<Option<RegisteredBundle>> {
        find_bundle(&self.connection(), hash)
    }

    pub(in crate::store) fn sums(&self, bundle: Sha256Hash, windows: &Range<i64>) -> Result<Sums> {
        let connection = self.connection();
        let failed = |error: rusqlite::Error| storage_error(&error);
        // One snapshot for both queries, so that reports and answers belong together.
        let snapshot = connection.unchecked_transaction().map_err(failed)?;
        let range = (bundle.as_bytes(), windows.start, windows.end);
        let (num_windows, num_reports) = snapshot
            .query_row(
                "SELECT count(*), coalesce(sum(num_reports), 0) FROM windows JOIN bundles USING (bundle_id)
                 WHERE bundle_sha256 = ?1 AND window_start >= ?2 AND window_start < ?3",
                range,
                |row| Ok((count_of(row, 0)?, count_of(row, 1)?)),
            )
            .map_err(failed)?;
        let mut statement = snapshot
            .prepare_cached(
                "SELECT field, bin, sum(num_answers) FROM cells JOIN bundles USING (bundle_id)
                 WHERE bundle_sha256 = ?1 AND window_start >= ?2 AND window_start < ?3 GROUP BY field, bin",
            )
            .map_err(failed)?;
        let cells = statement
            .query_map(range, |row| Ok((row.get::<_, String>(0)?, row.get::<_, u16>(1)?, count_of(row, 2)?)))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(failed)?;
        Ok(Sums { num_windows, num_reports, cells })
    }

    pub(in crate::store) fn sessions(
        &self,
        bundles: Option<&[Sha256Hash]>,
        days: &Range<i64>,
    ) -> Result<Vec<SessionRow>> {
        let connection = self.connection();
        // One snapshot for the questions of all bundles.
        let snapshot = connection.unchecked_transaction().map_err(|error| storage_error(&error))?;
        sessions::read(&snapshot, bundles, days)
    }

    pub(in crate::store) fn bundles(&self) -> Result<Vec<StoredBundle>> {
        let connection = self.connection();
        let failed = |error: rusqlite::Error| storage_error(&error);
        let snapshot = connection.unchecked_transaction().map_err(failed)?;
        let bundles: Vec<(i64, Vec<u8>, Vec<u8>)> = snapshot
            .prepare_cached("SELECT bundle_id, manifest, baseline FROM bundles ORDER BY bundle_id")
            .and_then(|mut statement| {
                statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
            })
            .map_err(failed)?;
        let mut statement = snapshot
            .prepare_cached(
                "SELECT window_start, num_reports FROM windows WHERE bundle_id = ?1 ORDER BY window_start",
            )
            .map_err(failed)?;
        let mut num_sessions =
            snapshot.prepare_cached("SELECT count(*) FROM sessions WHERE bundle_id = ?1").map_err(failed)?;
        let mut out = Vec::with_capacity(bundles.len());
        for (bundle_id, manifest, baseline) in bundles {
            let windows = statement
                .query_map([bundle_id], |row| {
                    Ok(WindowStatus { window_start: row.get(0)?, num_reports: Some(count_of(row, 1)?) })
                })
                .and_then(Iterator::collect)
                .map_err(failed)?;
            let num_sessions = num_sessions.query_row([bundle_id], |row| count_of(row, 0)).map_err(failed)?;
            out.push(StoredBundle { manifest, baseline, num_sessions, windows });
        }
        Ok(out)
    }

    /// Of the file and its write-ahead log.
    pub(in crate::store) fn database_bytes(&self) -> u64 {
        let mut log = self.path.as_os_str().to_owned();
        log.push("-wal");
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        bytes(&self.path) + bytes(Path::new(&log))
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic of another reader leaves the connection as usable as before.
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
