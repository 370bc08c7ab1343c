//! Bundles on disk: assembling the manifest, writing and reading folders.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use sanderling_core::BundleFiles;
use sanderling_core::onnx::Model;
use sanderling_types::{
    Baseline, Code, Error, FORMAT_VERSION, FeatureSpec, FileEntry, FileRole, Limits, Manifest, Metric,
    PolicyDefaults, Quantisation, Report, Result, RuntimeKind, Segments, Sha256Hash, Shapes,
    TelemetryConstants, TrainingWindow, Vocabulary,
};

use crate::folder::{write_file, write_folder};
use crate::rankers::RankerFiles;

/// Everything that a manifest states beside its files.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Name of the bundle.
    pub name: String,
    /// Counts up with every bundle of this name.
    pub version: u64,
    /// The champion that this bundle was trained to replace.
    pub parent: Option<Sha256Hash>,
    /// See [`Manifest::rollback_index`].
    pub rollback_index: Option<u64>,
    /// Which recommender made the models.
    pub recommender: String,
    /// Sizes.
    pub shapes: Shapes,
    /// Bounds on requests.
    pub limits: Limits,
    /// Policy defaults.
    pub policy: PolicyDefaults,
    /// Privacy constants.
    pub telemetry: TelemetryConstants,
    /// Training data.
    pub training: TrainingWindow,
    /// What packing cost.
    pub quantisation: Quantisation,
    /// Test metrics.
    pub metrics: BTreeMap<String, Metric>,
}

/// Contents of the files of a bundle.
#[derive(Debug, Clone)]
pub struct Contents {
    /// `encoder.onnx`; comes with `items`.
    pub encoder: Option<Vec<u8>>,
    /// `items.bin`; comes with `encoder`.
    pub items: Option<Vec<u8>>,
    /// `neighbours.bin`.
    pub neighbours: Option<Vec<u8>>,
    /// `content.bin`, where attributes contribute to item vectors.
    pub content: Option<Vec<u8>>,
    /// `ranker.onnx`, and `trees.bin` where the ranker is trees.
    pub ranker: RankerFiles,
    /// Ids and item facts.
    pub vocabulary: Vocabulary,
    /// `segments.json`, which is there where it has any.
    pub segments: Segments,
    /// Ranker inputs.
    pub features: FeatureSpec,
    /// Telemetry fields.
    pub baseline: Baseline,
    /// The model card, for people.
    pub card: String,
}

impl Contents {
    /// The smallest runtime for the models that a device runs.
    fn runtime(&self) -> RuntimeKind {
        let ranker = Some(&self.ranker.onnx).filter(|_| self.ranker.trees.is_none());
        let mut models = self.encoder.iter().chain(ranker);
        if models.all(|onnx| Model::read(onnx).is_some()) { RuntimeKind::Slim } else { RuntimeKind::Full }
    }
}

/// Names, hashes and lists the contents; the manifest is among the files.
///
/// # Errors
/// As [`Vocabulary::encode`]; [`Code::ReportTooLarge`] when the longest report of a device does not fit.
pub fn assemble(contents: &Contents, facts: &Facts) -> Result<(BundleFiles, Manifest)> {
    Report::check_longest(&contents.baseline, &facts.telemetry)?;
    let mut files = BundleFiles::new();
    let mut entries = BTreeMap::new();
    let segments = !contents.segments.segments.is_empty();
    let contents_by_role = [
        (FileRole::Baseline, Some(contents.baseline.encode())),
        (FileRole::Card, Some(contents.card.clone().into_bytes())),
        (FileRole::Content, contents.content.clone()),
        (FileRole::Encoder, contents.encoder.clone()),
        (FileRole::Features, Some(contents.features.encode())),
        (FileRole::Items, contents.items.clone()),
        (FileRole::Neighbours, contents.neighbours.clone()),
        (FileRole::Ranker, Some(contents.ranker.onnx.clone())),
        (FileRole::Segments, segments.then(|| contents.segments.encode())),
        (FileRole::Trees, contents.ranker.trees.clone()),
        (FileRole::Vocabulary, Some(contents.vocabulary.encode()?)),
    ];
    for (role, bytes) in contents_by_role {
        let Some(bytes) = bytes else { continue };
        let path = role.file_name().to_owned();
        let entry = FileEntry::of(path.clone(), &bytes);
        entries.insert(role, entry);
        files.insert(path, bytes);
    }
    let facts = facts.clone();
    let manifest = Manifest {
        expires_at: None,
        rollback_index: facts.rollback_index,
        feature_spec_sha256: contents.features.hash(),
        files: entries,
        format_version: FORMAT_VERSION,
        limits: facts.limits,
        metrics: facts.metrics,
        name: facts.name,
        parent: facts.parent,
        policy: facts.policy,
        quantisation: facts.quantisation,
        recommender: facts.recommender,
        runtime: contents.runtime(),
        shapes: facts.shapes,
        telemetry: facts.telemetry,
        training: facts.training,
        version: facts.version,
    };
    files.insert(Manifest::FILE_NAME, manifest.encode());
    Ok((files, manifest))
}

/// Files that a bundle folder may hold.
const FILE_NAMES: [&str; 13] = [
    Manifest::FILE_NAME,
    Manifest::SIGNATURE_FILE_NAME,
    "baseline.json",
    "card.md",
    "content.bin",
    "encoder.onnx",
    "features.json",
    "items.bin",
    "neighbours.bin",
    "ranker.onnx",
    "segments.json",
    "trees.bin",
    "vocabulary.bin",
];

/// Writes a bundle folder, which appears complete or not at all.
///
/// # Errors
/// [`Code::Io`]; [`Code::InvalidArgument`] when `dir` holds anything but a bundle.
pub fn write(files: &BundleFiles, dir: &Path) -> Result<()> {
    write_folder(dir, &FILE_NAMES, |folder| {
        files.iter().try_for_each(|(name, bytes)| write_file(&folder.join(name), |out| out.write_all(bytes)))
    })
}

/// Reads the manifest and every file that it names, of each no more than a byte beyond its length; checking them is
/// [`sanderling_core::Bundle::open`]'s work, but for the digests of pieces.
///
/// # Errors
/// [`Code::FileMissing`] or [`Code::Io`], [`Code::HashMismatch`] for pieces, and what [`Manifest::decode`] says.
pub fn read(dir: &Path) -> Result<BundleFiles> {
    let read_file = |name: &str, max_bytes: u64| {
        let path = dir.join(name);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(max_bytes + 1).read_to_end(&mut bytes));
        read.map(|_| bytes).map_err(|error| {
            let code =
                if error.kind() == std::io::ErrorKind::NotFound { Code::FileMissing } else { Code::Io };
            Error::new(code, format!("{} cannot be read", path.display())).found(&error).source_error(error)
        })
    };
    let manifest_bytes = read_file(Manifest::FILE_NAME, Manifest::MAX_BYTES as u64)?;
    let manifest = Manifest::decode(&manifest_bytes)?;
    let mut files = BundleFiles::new();
    for entry in manifest.files.values() {
        let content = read_file(&entry.path, entry.bytes)?;
        // Devices look at one of the two digests, so whoever lets a bundle through looks at both.
        if content.len() as u64 == entry.bytes {
            entry.check_pieces(&content)?;
        }
        files.insert(entry.path.clone(), content);
    }
    files.insert(Manifest::FILE_NAME, manifest_bytes);
    if dir.join(Manifest::SIGNATURE_FILE_NAME).exists() {
        files.insert(
            Manifest::SIGNATURE_FILE_NAME,
            read_file(Manifest::SIGNATURE_FILE_NAME, Manifest::MAX_BYTES as u64)?,
        );
    }
    Ok(files)
}
