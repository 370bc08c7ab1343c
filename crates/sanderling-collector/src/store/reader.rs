//! The reading side: merged windows and counts, also while a collector writes.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use rusqlite::Connection;
use sanderling_sketch::Histogram;
use sanderling_types::{Baseline, Result, Sha256Hash};

use super::{count_of, find_bundle, schema, storage_error};
use crate::{BundleStatus, RegisteredBundle, WindowStatus};

/// Reads a collector's database without changing it.
#[derive(Debug)]
pub struct Reader {
    connection: Mutex<Connection>,
}

/// Windows added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// Windows with at least one report.
    pub num_windows: u64,
    /// Reports in them.
    pub num_reports: u64,
    /// Noised answers by field, one histogram for every field of the baseline.
    pub answers: BTreeMap<String, Histogram>,
}

impl Reader {
    /// Opens an existing database.
    ///
    /// # Errors
    /// [`sanderling_types::Code::Storage`] where there is none or it is another program's,
    /// [`sanderling_types::Code::UnsupportedFormatVersion`] for another version.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { connection: Mutex::new(schema::open_for_reading(path)?) })
    }

    /// The registered bundle of a hash.
    ///
    /// # Errors
    /// [`sanderling_types::Code::Storage`].
    pub fn bundle(&self, hash: Sha256Hash) -> Result<Option<RegisteredBundle>> {
        find_bundle(&self.connection(), hash)
    }

    /// Adds up the windows of a bundle that start in `windows` (Unix seconds).
    ///
    /// # Errors
    /// [`sanderling_types::Code::Storage`].
    pub fn merged(&self, bundle: Sha256Hash, baseline: &Baseline, windows: Range<i64>) -> Result<Merged> {
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
        let rows = statement
            .query_map(range, |row| Ok((row.get::<_, String>(0)?, row.get::<_, u16>(1)?, count_of(row, 2)?)))
            .and_then(Iterator::collect::<rusqlite::Result<Vec<_>>>)
            .map_err(failed)?;
        let fields = baseline.fields.iter();
        let mut counts: BTreeMap<String, Vec<u64>> =
            fields.map(|field| (field.name.clone(), vec![0; field.bins.num_bins()])).collect();
        for (field, bin, num_answers) in rows {
            if let Some(count) = counts.get_mut(&field).and_then(|counts| counts.get_mut(usize::from(bin))) {
                *count = num_answers;
            }
        }
        let answers =
            counts.into_iter().map(|(name, counts)| (name, Histogram::from_counts(counts))).collect();
        Ok(Merged { num_windows, num_reports, answers })
    }

    /// Every registered bundle with its windows.
    ///
    /// # Errors
    /// [`sanderling_types::Code::Storage`].
    pub fn status(&self) -> Result<Vec<BundleStatus>> {
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
        let mut out = Vec::with_capacity(bundles.len());
        for (bundle_id, manifest, baseline) in bundles {
            let bundle = RegisteredBundle::decode(&manifest, &baseline)?;
            let windows = statement
                .query_map([bundle_id], |row| {
                    Ok(WindowStatus { window_start: row.get(0)?, num_reports: Some(count_of(row, 1)?) })
                })
                .and_then(Iterator::collect)
                .map_err(failed)?;
            out.push(BundleStatus {
                bundle_sha256: bundle.hash(),
                name: bundle.manifest().name.clone(),
                version: bundle.manifest().version,
                windows,
            });
        }
        Ok(out)
    }

    fn connection(&self) -> MutexGuard<'_, Connection> {
        // A panic of another reader leaves the connection as usable as before.
        self.connection.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
