//! Counts by bin.

use sanderling_types::{Code, Error, Result};
use serde::{Deserialize, Serialize};

/// Counts by bin, `[num_bins]`. Adding and merging saturate instead of wrapping.
///
/// Encoded as the plain array of counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    /// An empty histogram of `num_bins` bins.
    #[must_use]
    pub fn new(num_bins: usize) -> Self {
        Self { counts: vec![0; num_bins] }
    }

    /// Takes counts `[num_bins]` as they are.
    #[must_use]
    pub fn from_counts(counts: Vec<u64>) -> Self {
        Self { counts }
    }

    /// Counts one value.
    ///
    /// # Errors
    /// [`Code::BinOutOfRange`]; nothing is counted then.
    pub fn record(&mut self, bin: usize) -> Result<()> {
        let num_bins = self.counts.len();
        let count = self.counts.get_mut(bin).ok_or_else(|| {
            Error::new(Code::BinOutOfRange, "the histogram has no such bin")
                .expected(format!("a bin under {num_bins}"))
                .found(bin)
        })?;
        *count = count.saturating_add(1);
        Ok(())
    }

    /// Counts `[num_bins]`.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Number of bins.
    #[must_use]
    pub fn num_bins(&self) -> usize {
        self.counts.len()
    }

    /// Sum of all counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// Adds the counts of `other`; the order of merges does not matter.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for another number of bins; nothing is added then.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.counts.len() != other.counts.len() {
            return Err(Error::new(Code::InvalidArgument, "histograms of different bins cannot be merged")
                .expected(format!("{} bins", self.counts.len()))
                .found(format!("{} bins", other.counts.len())));
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        Ok(())
    }
}
