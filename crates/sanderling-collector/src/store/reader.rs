//! The reading side: merged windows and counts, also while collectors write.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sanderling_sketch::Histogram;
use sanderling_types::{Baseline, Result, Sha256Hash, SharedSession};

use super::location::{Place, StoreLocation};
use super::session_row::SessionRow;
use super::{postgres, sqlite};
use crate::{BundleStatus, RegisteredBundle, WindowStatus};

/// Reads a collector's database without changing it.
#[derive(Debug)]
pub struct Reader(Source);

#[derive(Debug)]
enum Source {
    Sqlite(sqlite::Reader),
    Postgres(Box<postgres::Reader>),
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

impl Merged {
    /// The sum over parts that have no window in common; of no part, no answers.
    ///
    /// # Errors
    /// [`sanderling_types::Code::InvalidArgument`] for parts whose fields have different bins.
    pub fn sum<'a>(parts: impl Iterator<Item = &'a Self>) -> Result<Self> {
        let mut sum = Self { num_windows: 0, num_reports: 0, answers: BTreeMap::new() };
        for part in parts {
            sum.num_windows += part.num_windows;
            sum.num_reports += part.num_reports;
            for (name, counts) in &part.answers {
                let empty = || Histogram::new(counts.num_bins());
                sum.answers.entry(name.clone()).or_insert_with(empty).merge(counts)?;
            }
        }
        Ok(sum)
    }
}

/// Sums over windows, of one snapshot, so that reports and answers belong together.
pub(super) struct Sums {
    pub(super) num_windows: u64,
    pub(super) num_reports: u64,
    /// Field, bin, and how often it was reported.
    pub(super) cells: Vec<(String, u16, u64)>,
}

/// A registered bundle as it is stored, with its windows in ascending order.
pub(super) struct StoredBundle {
    pub(super) manifest: Vec<u8>,
    pub(super) baseline: Vec<u8>,
    pub(super) num_sessions: u64,
    pub(super) windows: Vec<WindowStatus>,
}

impl Reader {
    /// Opens an existing database.
    ///
    /// # Errors
    /// [`sanderling_types::Code::Storage`] where there is none or it is another program's,
    /// [`sanderling_types::Code::UnsupportedFormatVersion`] for another version.
    pub fn open(location: &StoreLocation) -> Result<Self> {
        Ok(Self(match &location.0 {
            Place::File(path) => Source::Sqlite(sqlite::Reader::open(path)?),
            Place::Postgres(config) => Source::Postgres(Box::new(postgres::Reader::open(config)?)),
        }))
    }

    /// The registered bundle of a hash.
    ///
    /// # Errors
    /// [`sanderling_types::Code::Storage`]; [`sanderling_types::Code::Overloaded`] where the database cannot be reached now.
    pub fn bundle(&self, hash: Sha256Hash) -> Result<Option<RegisteredBundle>> {
        match &self.0 {
            Source::Sqlite(reader) => reader.bundle(hash),
            Source::Postgres(reader) => reader.bundle(hash),
        }
    }

    /// Adds up the windows of a bundle that start in `windows` (Unix seconds).
    ///
    /// # Errors
    /// As [`Reader::bundle`].
    pub fn merged(&self, bundle: Sha256Hash, baseline: &Baseline, windows: Range<i64>) -> Result<Merged> {
        let sums = match &self.0 {
            Source::Sqlite(reader) => reader.sums(bundle, &windows)?,
            Source::Postgres(reader) => reader.sums(bundle, &windows)?,
        };
        let fields = baseline.fields.iter();
        let mut counts: BTreeMap<String, Vec<u64>> =
            fields.map(|field| (field.name.clone(), vec![0; field.bins.num_bins()])).collect();
        for (field, bin, num_answers) in sums.cells {
            if let Some(count) = counts.get_mut(&field).and_then(|counts| counts.get_mut(usize::from(bin))) {
                *count = num_answers;
            }
        }
        let answers =
            counts.into_iter().map(|(name, counts)| (name, Histogram::from_counts(counts))).collect();
        Ok(Merged { num_windows: sums.num_windows, num_reports: sums.num_reports, answers })
    }

    /// The sessions that devices of some bundles shared (`None`: of any registered bundle) and whose day starts in `days` (Unix
    /// seconds), by day and then by id, which is random: nothing tells which came first within a day.
    ///
    /// # Errors
    /// As [`Reader::bundle`].
    pub fn shared_sessions(
        &self,
        bundles: Option<&[Sha256Hash]>,
        days: Range<i64>,
    ) -> Result<Vec<SharedSession>> {
        // Each once, so that a bundle that is named twice is not read twice.
        let bundles: Option<Vec<Sha256Hash>> =
            bundles.map(|bundles| bundles.iter().copied().collect::<BTreeSet<_>>().into_iter().collect());
        let rows = match &self.0 {
            Source::Sqlite(reader) => reader.sessions(bundles.as_deref(), &days)?,
            Source::Postgres(reader) => reader.sessions(bundles.as_deref(), &days)?,
        };
        let mut sessions = rows.iter().map(SessionRow::session).collect::<Result<Vec<_>>>()?;
        sessions.sort_unstable_by(|a, b| (a.day, &a.session_id).cmp(&(b.day, &b.session_id)));
        Ok(sessions)
    }

    /// Bytes on disk.
    pub(super) fn database_bytes(&self) -> Result<u64> {
        match &self.0 {
            Source::Sqlite(reader) => Ok(reader.database_bytes()),
            Source::Postgres(reader) => reader.database_bytes(),
        }
    }

    /// Every registered bundle with its windows.
    ///
    /// # Errors
    /// As [`Reader::bundle`].
    pub fn status(&self) -> Result<Vec<BundleStatus>> {
        let bundles = match &self.0 {
            Source::Sqlite(reader) => reader.bundles()?,
            Source::Postgres(reader) => reader.bundles()?,
        };
        bundles.into_iter().map(StoredBundle::status).collect()
    }
}

impl StoredBundle {
    fn status(self) -> Result<BundleStatus> {
        let bundle = RegisteredBundle::decode(&self.manifest, &self.baseline)?;
        Ok(BundleStatus {
            bundle_sha256: bundle.hash(),
            name: bundle.manifest().name.clone(),
            version: bundle.manifest().version,
            num_sessions: Some(self.num_sessions),
            windows: self.windows,
        })
    }
}
