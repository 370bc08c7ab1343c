//! Bundles on disk: assembling the manifest, writing and reading folders.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use sanderling_core::BundleFiles;
use sanderling_types::{
    Baseline, Code, Error, FORMAT_VERSION, FeatureSpec, FileEntry, FileRole, Limits, Manifest, Metric,
    PolicyDefaults, Quantisation, Result, Sha256Hash, Shapes, TelemetryConstants, TrainingWindow, Vocabulary,
};

/// Everything that a manifest states beside its files.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Name of the bundle.
    pub name: String,
    /// Counts up with every bundle of this name.
    pub version: u64,
    /// The champion that this bundle was trained to replace.
    pub parent: Option<Sha256Hash>,
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
    /// `encoder.onnx`.
    pub encoder: Vec<u8>,
    /// `items.bin`.
    pub items: Vec<u8>,
    /// `ranker.onnx`.
    pub ranker: Vec<u8>,
    /// Ids and item facts.
    pub vocabulary: Vocabulary,
    /// Ranker inputs.
    pub features: FeatureSpec,
    /// Telemetry fields.
    pub baseline: Baseline,
    /// The model card, for people.
    pub card: String,
}

/// Names, hashes and lists the contents; the manifest is among the files.
#[must_use]
pub fn assemble(contents: &Contents, facts: &Facts) -> (BundleFiles, Manifest) {
    let mut files = BundleFiles::new();
    let mut entries = BTreeMap::new();
    let contents_by_role = [
        (FileRole::Baseline, contents.baseline.encode()),
        (FileRole::Card, contents.card.clone().into_bytes()),
        (FileRole::Encoder, contents.encoder.clone()),
        (FileRole::Features, contents.features.encode()),
        (FileRole::Items, contents.items.clone()),
        (FileRole::Ranker, contents.ranker.clone()),
        (FileRole::Vocabulary, contents.vocabulary.encode()),
    ];
    for (role, bytes) in contents_by_role {
        let path = role.file_name().to_owned();
        let entry =
            FileEntry { bytes: bytes.len() as u64, path: path.clone(), sha256: Sha256Hash::of(&bytes) };
        entries.insert(role, entry);
        files.insert(path, bytes);
    }
    let facts = facts.clone();
    let manifest = Manifest {
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
        shapes: facts.shapes,
        telemetry: facts.telemetry,
        training: facts.training,
        version: facts.version,
    };
    files.insert(Manifest::FILE_NAME, manifest.encode());
    (files, manifest)
}

fn io_error(what: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(Code::Io, format!("{} cannot be {what}", path.display())).found(&error).source_error(error)
}

/// Writes a bundle folder: everything goes into a temporary folder beside it, which then takes its
/// place, so that a stopped run leaves either the old folder or the new one.
///
/// # Errors
/// [`Code::Io`]; [`Code::InvalidArgument`] when `dir` exists and is not a bundle.
pub fn write(files: &BundleFiles, dir: &Path) -> Result<()> {
    if dir.exists() && !dir.join(Manifest::FILE_NAME).exists() && !is_empty_dir(dir) {
        return Err(Error::new(Code::InvalidArgument, format!("{} is not a bundle", dir.display()))
            .expected("a new folder, an empty one, or a bundle to replace")
            .hint("choose another --out"));
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| io_error("created", parent, error))?;
    let name = dir.file_name().map_or_else(|| "bundle".into(), |name| name.to_string_lossy());
    let fresh = parent.join(format!(".{name}.{}.new", std::process::id()));
    let old = parent.join(format!(".{name}.{}.old", std::process::id()));
    let result = write_all(files, &fresh).and_then(|()| replace(&fresh, &old, dir));
    if result.is_err() {
        // The error that matters is already known; what is left of the attempt is only tidied away.
        let _ = fs::remove_dir_all(&fresh);
    }
    result
}

fn is_empty_dir(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

fn write_all(files: &BundleFiles, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|error| io_error("created", dir, error))?;
    for (name, bytes) in files.iter() {
        let path = dir.join(name);
        let write = || {
            let mut file = fs::File::create(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(|error| io_error("written", &path, error))?;
    }
    Ok(())
}

fn replace(fresh: &Path, old: &Path, dir: &Path) -> Result<()> {
    let had_old = dir.exists();
    if had_old {
        fs::rename(dir, old).map_err(|error| io_error("replaced", dir, error))?;
    }
    fs::rename(fresh, dir).map_err(|error| io_error("written", dir, error))?;
    if had_old {
        fs::remove_dir_all(old).map_err(|error| io_error("removed", old, error))?;
    }
    Ok(())
}

/// Reads the manifest and every file that it names; checking them is [`sanderling_core::Bundle::open`]'s work.
///
/// # Errors
/// [`Code::FileMissing`] or [`Code::Io`], and what [`Manifest::decode`] says.
pub fn read(dir: &Path) -> Result<BundleFiles> {
    let read_file = |name: &str| {
        let path = dir.join(name);
        fs::read(&path).map_err(|error| {
            let code =
                if error.kind() == std::io::ErrorKind::NotFound { Code::FileMissing } else { Code::Io };
            Error::new(code, format!("{} cannot be read", path.display())).found(&error).source_error(error)
        })
    };
    let manifest_bytes = read_file(Manifest::FILE_NAME)?;
    let manifest = Manifest::decode(&manifest_bytes)?;
    let mut files = BundleFiles::new();
    for entry in manifest.files.values() {
        files.insert(entry.path.clone(), read_file(&entry.path)?);
    }
    files.insert(Manifest::FILE_NAME, manifest_bytes);
    if dir.join(Manifest::SIGNATURE_FILE_NAME).exists() {
        files.insert(Manifest::SIGNATURE_FILE_NAME, read_file(Manifest::SIGNATURE_FILE_NAME)?);
    }
    Ok(files)
}
