//! What the collector knows about a bundle: its constants and its baseline, nothing else.

use std::path::Path;

use sanderling_types::{
    Baseline, Code, Error, FileRole, Manifest, Report, Result, Sha256Hash, TelemetryConstants,
};

/// A bundle whose reports are accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisteredBundle {
    manifest: Manifest,
    hash: Sha256Hash,
    baseline: Baseline,
}

impl RegisteredBundle {
    /// Reads `manifest.json` and the baseline of a bundle folder; no other file is touched.
    ///
    /// # Errors
    /// [`Code::Io`], and whatever [`RegisteredBundle::decode`] finds.
    pub fn read(folder: &Path) -> Result<Self> {
        let manifest_bytes = read_file(&folder.join(Manifest::FILE_NAME))?;
        let manifest = Manifest::decode(&manifest_bytes)?;
        let baseline_bytes = read_file(&folder.join(&manifest.file(FileRole::Baseline)?.path))?;
        Self::decode(&manifest_bytes, &baseline_bytes)
    }

    /// Decodes the two files and checks that they belong together.
    ///
    /// # Errors
    /// The codes of [`Manifest::decode`], [`Baseline::decode`] and [`Report::check_longest`], [`Code::FileTruncated`] and
    /// [`Code::HashMismatch`] where the baseline is not the manifest's.
    pub fn decode(manifest_bytes: &[u8], baseline_bytes: &[u8]) -> Result<Self> {
        let manifest = Manifest::decode(manifest_bytes)?;
        let entry = manifest.file(FileRole::Baseline)?;
        entry.check(baseline_bytes)?;
        entry.check_pieces(baseline_bytes)?;
        let baseline = Baseline::decode(baseline_bytes)?;
        Report::check_longest(&baseline, &manifest.telemetry)?;
        Ok(Self { hash: manifest.bundle_hash(), manifest, baseline })
    }

    /// The bundle hash that reports name.
    #[must_use]
    pub fn hash(&self) -> Sha256Hash {
        self.hash
    }

    /// Share of the declared fields that a report answers, at most 1.
    pub(crate) fn answered_share(&self) -> f64 {
        let num_fields = self.baseline.fields.len().max(1) as f64;
        (f64::from(self.telemetry().fields_per_report) / num_fields).min(1.0)
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The declared fields.
    #[must_use]
    pub fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// The privacy constants.
    #[must_use]
    pub fn telemetry(&self) -> &TelemetryConstants {
        &self.manifest.telemetry
    }

    /// The budget that one answer spends: the report's, divided equally among its answers.
    #[must_use]
    pub fn epsilon_per_field(&self) -> f64 {
        self.telemetry().epsilon / f64::from(self.telemetry().fields_per_report)
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let size = std::fs::metadata(path).map_err(|error| io_error(path, error))?.len();
    if size > Baseline::MAX_BYTES as u64 {
        return Err(Error::new(Code::LimitExceeded, format!("{} is too large", path.display()))
            .expected(format!("at most {} bytes", Baseline::MAX_BYTES))
            .found(format!("{size} bytes")));
    }
    std::fs::read(path).map_err(|error| io_error(path, error))
}

fn io_error(path: &Path, error: std::io::Error) -> Error {
    Error::new(Code::Io, format!("{} cannot be read", path.display())).found(&error).source_error(error)
}
