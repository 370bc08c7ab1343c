//! The manifest: the one file of a bundle that is read first and names all others.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use serde::Serialize;

use crate::json::{quoted, to_text};
use crate::{Code, Error, FORMAT_VERSION, Report, Result, Sha256Hash, decode_json, json_names, json_object};

/// What a file of a bundle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FileRole {
    /// Sketches of training features and scores.
    Baseline,
    /// The model card, for people.
    Card,
    /// What attributes contribute to item vectors; for adding items to a bundle, not for devices.
    Content,
    /// ONNX: item vectors `[1, len, dim]` to query `[1, dim]`.
    Encoder,
    /// The feature spec.
    Features,
    /// int8 item vectors and their scales.
    Items,
    /// int8 weights from item to item.
    Neighbours,
    /// ONNX: features `[num_candidates, num_features]` to scores `[num_candidates, 1]`.
    Ranker,
    /// What the fallback lists of segments begin with.
    Segments,
    /// A ranker of trees; a bundle that has one runs it, and `Ranker` is the same for other tools.
    Trees,
    /// Ids, categories and item facts.
    Vocabulary,
}
json_names!(FileRole { Baseline = "baseline", Card = "card", Content = "content", Encoder = "encoder", Features = "features", Items = "items", Neighbours = "neighbours", Ranker = "ranker", Segments = "segments", Trees = "trees", Vocabulary = "vocabulary" });

impl FileRole {
    /// Every role that an engine needs of any bundle. `Encoder` and `Items` come together or not at
    /// all, `Neighbours` or not; without all three the fallback list is the recommender. `Trees` takes
    /// the place of `Ranker`; `Segments` may come with anything.
    pub const REQUIRED: &'static [FileRole] =
        &[FileRole::Baseline, FileRole::Features, FileRole::Ranker, FileRole::Vocabulary];

    /// Whether a device loads the file.
    #[must_use]
    pub fn is_for_devices(self) -> bool {
        !matches!(self, FileRole::Card | FileRole::Content)
    }

    /// The file name that the exporter gives this role.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            FileRole::Baseline => "baseline.json",
            FileRole::Card => "card.md",
            FileRole::Content => "content.bin",
            FileRole::Encoder => "encoder.onnx",
            FileRole::Features => "features.json",
            FileRole::Items => "items.bin",
            FileRole::Neighbours => "neighbours.bin",
            FileRole::Ranker => "ranker.onnx",
            FileRole::Segments => "segments.json",
            FileRole::Trees => "trees.bin",
            FileRole::Vocabulary => "vocabulary.bin",
        }
    }
}

/// One file of the bundle. Fields are in the order of their names, as everywhere in the manifest:
/// that is what makes its JSON canonical.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// Exact length.
    pub bytes: u64,
    /// File name inside the bundle folder; no separators.
    pub path: String,
    /// Digest of the digests of the content's pieces of [`FileEntry::PIECE_BYTES`], see [`Sha256Hash::of_pieces`]. Only of files that
    /// have more than one; left out of the JSON of others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pieces_sha256: Option<Sha256Hash>,
    /// Digest of the content.
    pub sha256: Sha256Hash,
}
json_object!(FileEntry { bytes, path, pieces_sha256, sha256 });

impl FileEntry {
    /// Length of every piece but the last. Browsers copy what they hash, and memory for so much is at hand.
    pub const PIECE_BYTES: NonZeroUsize = NonZeroUsize::new(256 * 1024).unwrap();

    /// What a manifest says of a file.
    #[must_use]
    pub fn of(path: impl Into<String>, content: &[u8]) -> Self {
        let pieces = || Sha256Hash::of_pieces(content, Self::PIECE_BYTES);
        Self {
            bytes: content.len() as u64,
            path: path.into(),
            pieces_sha256: (content.len() > Self::PIECE_BYTES.get()).then(pieces),
            sha256: Sha256Hash::of(content),
        }
    }

    /// Checks the content by its length and its digest.
    ///
    /// # Errors
    /// [`Code::FileTruncated`] and [`Code::HashMismatch`].
    pub fn check(&self, content: &[u8]) -> Result<()> {
        self.check_length(content)?;
        self.check_digest(self.sha256, Sha256Hash::of(content))
    }

    /// Checks the content by its length and by what a host says is its digest: that of its pieces where this has one.
    ///
    /// # Errors
    /// [`Code::FileTruncated`] and [`Code::HashMismatch`].
    pub fn check_hashed(&self, content: &[u8], found: Sha256Hash) -> Result<()> {
        self.check_length(content)?;
        self.check_digest(self.pieces_sha256.unwrap_or(self.sha256), found)
    }

    /// Checks that both digests are of one content, which devices do not.
    ///
    /// # Errors
    /// [`Code::HashMismatch`].
    pub fn check_pieces(&self, content: &[u8]) -> Result<()> {
        self.pieces_sha256.map_or(Ok(()), |expected| {
            self.check_digest(expected, Sha256Hash::of_pieces(content, Self::PIECE_BYTES))
        })
    }

    fn check_length(&self, content: &[u8]) -> Result<()> {
        if content.len() as u64 == self.bytes {
            return Ok(());
        }
        Err(Error::new(Code::FileTruncated, format!("{} has the wrong length", self.path))
            .expected(format!("{} bytes", self.bytes))
            .found(format!("{} bytes", content.len()))
            .hint("fetch the file again"))
    }

    fn check_digest(&self, expected: Sha256Hash, found: Sha256Hash) -> Result<()> {
        if found == expected {
            return Ok(());
        }
        Err(Error::new(Code::HashMismatch, format!("{} has the wrong SHA-256", self.path))
            .expected(expected)
            .found(found)
            .hint("fetch the file again"))
    }
}

/// Bounds that the engine enforces on requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Most candidates that retrieval hands to the ranker.
    pub max_candidates: u32,
    /// Most recommendations in one response.
    pub max_limit: u32,
    /// Most session interactions that the encoder and the features read; older ones only count as
    /// seen, and speak for their neighbours where the bundle has a table of them.
    pub max_session_len: u32,
}
json_object!(Limits { max_candidates, max_limit, max_session_len });

impl Limits {
    /// Largest `max_session_len`, which is also the longest session that any runtime runs an
    /// encoder with; attention grows with its square.
    pub const MAX_SESSION_LEN: u32 = 1024;
    /// Largest `max_candidates`, which is also the most rows that any runtime runs a ranker with.
    pub const MAX_CANDIDATES: u32 = 10_000;
}

/// A point estimate with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Metric {
    /// Upper end of the 95 % bootstrap interval.
    pub high: f64,
    /// Lower end of the 95 % bootstrap interval.
    pub low: f64,
    /// The estimate.
    pub value: f64,
}
json_object!(Metric { high, low, value });

/// What the policy does when a request does not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyDefaults {
    /// Most items of one category in a response, beside pins; `None` for no cap.
    pub category_cap: Option<u32>,
    /// Whether items of the session are left out.
    pub exclude_seen: bool,
}
json_object!(PolicyDefaults { category_cap, exclude_seen });

/// What packing cost. Every NDCG@10 is of retrieval order (no ranker) on the same validation cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantisation {
    /// Bits of an element of the encoder's finest matrices; 0 without an encoder.
    pub encoder_bits: u8,
    /// Bits of an item-vector element; 0 without an encoder.
    pub item_bits: u8,
    /// NDCG@10 of the f32 weights.
    pub ndcg10_f32: f64,
    /// NDCG@10 of the packed bundle, which is that after the last step.
    pub ndcg10_packed: f64,
    /// What was done, in this order.
    pub steps: Vec<PackingStep>,
}
json_object!(Quantisation { encoder_bits, item_bits, ndcg10_f32, ndcg10_packed, steps });

/// One step of packing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PackingStep {
    /// What was done.
    pub kind: PackingKind,
    /// NDCG@10 after it. A case whose item was pruned counts as a miss.
    pub ndcg10: f64,
    /// What left the catalogue, for [`PackingKind::Prune`].
    pub pruned: Option<Pruned>,
    /// Bytes of item vectors, encoder matrices, neighbours and vocabulary that it saved.
    pub saved_bytes: u64,
}
json_object!(PackingStep { kind, ndcg10, pruned, saved_bytes });

/// A kind of packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackingKind {
    /// Item vectors from f32 to 9 bits, of which scans read 8.
    Int9Items,
    /// Item vectors from 9 to 8 bits.
    Int8Items,
    /// Encoder matrices from f32 to 8 and 11 bits.
    RoundedEncoder,
    /// Weights of neighbours from f32 to 8 bits.
    Int8Neighbours,
    /// Item vectors from 8 to 4 bits.
    Int4Items,
    /// The last items of the fallback list left out.
    Prune,
}
json_names!(PackingKind { Int9Items = "int9_items", Int8Items = "int8_items", RoundedEncoder = "rounded_encoder", Int8Neighbours = "int8_neighbours", Int4Items = "int4_items", Prune = "prune" });

/// Items that a bundle leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pruned {
    /// Their share of the training interactions, 0 to 1.
    pub interaction_share: f64,
    /// How many.
    pub num_items: u32,
    /// Share of the validation cases whose next item is one of them, 0 to 1.
    pub target_share: f64,
}
json_object!(Pruned { interaction_share, num_items, target_share });

/// Which runtime a bundle asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuntimeKind {
    /// Runs exactly the models that the trainer writes, see `docs/runtimes.md`.
    #[default]
    Slim,
    /// Runs any ONNX model of the allowed operators.
    Full,
}
json_names!(RuntimeKind { Slim = "slim", Full = "full" } or default);

impl RuntimeKind {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_slim(&self) -> bool {
        *self == Self::Slim
    }
}

/// Sizes that the files must agree with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shapes {
    /// Elements of an item vector and of the query; 0 without an encoder.
    pub dim: u32,
    /// Columns of the ranker input.
    pub num_features: u32,
    /// Items of the vocabulary.
    pub num_items: u32,
}
json_object!(Shapes { dim, num_features, num_items });

/// Constants that bound what leaves a device; the collector refuses reports that claim others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TelemetryConstants {
    /// Local differential privacy budget of one report, and of one device and window.
    pub epsilon: f64,
    /// Declared fields that one report answers; the budget is divided equally among them.
    pub fields_per_report: u32,
    /// Every report is padded to exactly this length.
    pub report_bytes: u32,
    /// Length of a window; at most one report a device and window.
    pub window_seconds: u32,
}
json_object!(TelemetryConstants { epsilon, fields_per_report, report_bytes, window_seconds });

impl TelemetryConstants {
    /// Most fields of a report; more would leave too little of the budget for each.
    pub const MAX_FIELDS_PER_REPORT: u32 = 16;
    /// Smallest padded report.
    pub const MIN_REPORT_BYTES: u32 = 256;
}

impl Default for TelemetryConstants {
    fn default() -> Self {
        Self { epsilon: 3.0, fields_per_report: 1, report_bytes: 512, window_seconds: 86_400 }
    }
}

/// What timestamps mean in the training data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeKind {
    /// Positions in a sequence; features of absolute time are not available.
    Order,
    /// Unix seconds.
    UnixSeconds,
}
json_names!(TimeKind { Order = "order", UnixSeconds = "unix_seconds" });

/// The data that the bundle was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrainingWindow {
    /// Latest training timestamp (inclusive).
    pub last_timestamp: i64,
    /// Number of training interactions.
    pub num_interactions: u64,
    /// Number of training users or sessions.
    pub num_users: u64,
    /// Hash of the canonical recipe.
    pub recipe_sha256: Sha256Hash,
    /// Seed of every random choice.
    pub seed: u64,
    /// Name of the split: `time`, `leave-one-out` or `next-click`.
    pub split: String,
    /// Earliest training timestamp.
    pub start_timestamp: i64,
    /// What timestamps mean.
    pub time: TimeKind,
}
json_object!(TrainingWindow {
    last_timestamp,
    num_interactions,
    num_users,
    recipe_sha256,
    seed,
    split,
    start_timestamp,
    time
});

/// The description of a bundle. Encoded as canonical JSON: keys in ascending order, no white
/// space, shortest round-trip numbers. Its SHA-256 is the bundle hash.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    /// After this time, Unix seconds, the bundle is refused. Left out of the JSON where it is good for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    /// Hash of the feature spec that the engine must compute.
    pub feature_spec_sha256: Sha256Hash,
    /// Every file but the manifest and its signature.
    pub files: BTreeMap<FileRole, FileEntry>,
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Bounds on requests.
    pub limits: Limits,
    /// Test metrics of the packed bundle run by the engine.
    pub metrics: BTreeMap<String, Metric>,
    /// Name of the bundle, such as `shop`.
    pub name: String,
    /// Hash of the champion that this bundle was trained to replace.
    pub parent: Option<Sha256Hash>,
    /// Policy defaults.
    pub policy: PolicyDefaults,
    /// What packing cost.
    pub quantisation: Quantisation,
    /// Which recommender of the trainer made the models, such as `sequence`, `ease` or
    /// `sequence+vmis-knn`.
    pub recommender: String,
    /// Counts up when bundles are taken back for good: a device refuses a bundle whose index is under the largest that it has seen of
    /// this name, so an operator can go back to an older version, and nobody else can. Left out of the JSON where it is 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_index: Option<u64>,
    /// The smallest runtime that runs the models. Left out of the JSON when it is `slim`.
    #[serde(skip_serializing_if = "RuntimeKind::is_slim")]
    pub runtime: RuntimeKind,
    /// Sizes.
    pub shapes: Shapes,
    /// Privacy constants.
    pub telemetry: TelemetryConstants,
    /// Training data.
    pub training: TrainingWindow,
    /// Counts up with every bundle of this name.
    pub version: u64,
}
json_object!(Manifest {
    expires_at,
    feature_spec_sha256,
    files,
    format_version,
    limits,
    metrics,
    name,
    parent,
    policy,
    quantisation,
    recommender,
    rollback_index,
    runtime,
    shapes,
    telemetry,
    training,
    version
});

impl Manifest {
    /// File name of the manifest.
    pub const FILE_NAME: &'static str = "manifest.json";
    /// File name of the detached Ed25519 signature over the manifest's bytes.
    pub const SIGNATURE_FILE_NAME: &'static str = "manifest.sig";
    /// Largest accepted encoding.
    pub const MAX_BYTES: usize = 256 * 1024;
    /// Largest accepted file of a bundle.
    pub const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

    /// Decodes and checks `manifest.json`, and that it is canonical.
    ///
    /// # Errors
    /// Those of [`Manifest::read`], and [`Code::ManifestInvalid`] for other bytes than [`Manifest::encode`] gives.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let manifest = Self::read(bytes)?;
        if manifest.encode() != bytes {
            return Err(Error::new(Code::ManifestInvalid, "manifest.json is not in canonical form")
                .expected("ascending keys, no white space, shortest numbers"));
        }
        Ok(manifest)
    }

    /// Decodes and checks `manifest.json` of any form. For devices, to which its bytes are what they are: they are hashed, signed and never
    /// written again.
    ///
    /// # Errors
    /// [`Code::UnsupportedFormatVersion`], [`Code::ManifestInvalid`], or [`Code::LimitExceeded`]
    /// for sizes beyond what this engine accepts.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let manifest: Self = decode_json(bytes, Self::MAX_BYTES, Self::FILE_NAME, Code::ManifestInvalid)?;
        manifest.check().map(|()| manifest)
    }

    /// Canonical bytes.
    ///
    /// # Panics
    /// Never: a manifest holds only JSON-encodable values.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_text(self).into_bytes()
    }

    /// The bundle hash: SHA-256 of the canonical bytes.
    #[must_use]
    pub fn bundle_hash(&self) -> Sha256Hash {
        Sha256Hash::of(&self.encode())
    }

    /// What a device loads: the manifest and every file that is for devices.
    #[must_use]
    pub fn bundle_bytes(&self) -> u64 {
        self.device_files().map(|(_, file)| file.bytes).sum::<u64>() + self.encode().len() as u64
    }

    /// The files that a device loads: `ranker.onnx` is not one where there is `trees.bin`.
    pub fn device_files(&self) -> impl Iterator<Item = (FileRole, &FileEntry)> {
        let has_trees = self.files.contains_key(&FileRole::Trees);
        let is_loaded =
            move |role: FileRole| role.is_for_devices() && !(has_trees && role == FileRole::Ranker);
        self.files.iter().map(|(role, file)| (*role, file)).filter(move |(role, _)| is_loaded(*role))
    }

    /// The entry of a role.
    ///
    /// # Errors
    /// [`Code::FileMissing`] when the manifest names none.
    pub fn file(&self, role: FileRole) -> Result<&FileEntry> {
        self.files.get(&role).ok_or_else(|| {
            Error::new(Code::FileMissing, format!("the manifest names no {} file", role.file_name()))
        })
    }

    fn check(&self) -> Result<()> {
        let invalid = |message: String| Err(Error::new(Code::ManifestInvalid, message));
        for role in FileRole::REQUIRED {
            self.file(*role)?;
        }
        for file in self.files.values() {
            let safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            if file.path.is_empty() || file.path.starts_with('.') || !file.path.chars().all(safe) {
                return invalid(format!("{} is not a plain file name", quoted(&file.path)));
            }
            if file.bytes > Self::MAX_FILE_BYTES {
                return Err(Error::new(Code::LimitExceeded, format!("{} is too large", file.path))
                    .expected(format!("at most {} bytes", Self::MAX_FILE_BYTES))
                    .found(format!("{} bytes", file.bytes)));
            }
        }
        let Shapes { dim, num_features, num_items } = self.shapes;
        let in_range = |name: &str, value: u32, max: u32| {
            if (1..=max).contains(&value) {
                Ok(())
            } else {
                Err(Error::new(Code::LimitExceeded, format!("{name} is out of range"))
                    .expected(format!("1 to {max}"))
                    .found(value))
            }
        };
        match (self.files.contains_key(&FileRole::Encoder), self.files.contains_key(&FileRole::Items)) {
            (true, true) => in_range("shapes.dim", dim, 1024)?,
            (false, false) if dim == 0 => {}
            (false, false) => {
                return invalid("shapes.dim is not 0 in a bundle without an encoder".to_owned());
            }
            _ => return invalid("an encoder and item vectors must come together".to_owned()),
        }
        in_range("shapes.num_features", num_features, 1024)?;
        in_range("shapes.num_items", num_items, 10_000_000)?;
        in_range("limits.max_session_len", self.limits.max_session_len, Limits::MAX_SESSION_LEN)?;
        in_range("limits.max_candidates", self.limits.max_candidates, Limits::MAX_CANDIDATES)?;
        in_range("limits.max_limit", self.limits.max_limit, 1000)?;
        let t = &self.telemetry;
        in_range(
            "telemetry.fields_per_report",
            t.fields_per_report,
            TelemetryConstants::MAX_FIELDS_PER_REPORT,
        )?;
        in_range("telemetry.report_bytes", t.report_bytes, Report::MAX_BYTES as u32)?;
        if t.report_bytes < TelemetryConstants::MIN_REPORT_BYTES {
            return invalid("telemetry.report_bytes is too small for any report".to_owned());
        }
        let epsilon_ok = t.epsilon.is_finite() && t.epsilon > 0.0 && t.epsilon <= 10.0;
        if !epsilon_ok || t.window_seconds < 3600 {
            return invalid("telemetry constants are out of range".to_owned());
        }
        let pruned = self.quantisation.steps.iter().filter_map(|step| step.pruned);
        let mut shares = pruned.flat_map(|pruned| [pruned.interaction_share, pruned.target_share]);
        if !shares.all(|share| (0.0..=1.0).contains(&share)) {
            return invalid("a share of what was pruned is out of range".to_owned());
        }
        if self.rollback_index == Some(0) {
            return invalid("rollback_index is 0, which is said by leaving it out".to_owned());
        }
        if self.format_version != FORMAT_VERSION {
            return invalid("format_version changed while decoding".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_several_pieces_have_a_digest_of_them() {
        let piece = FileEntry::PIECE_BYTES.get();
        let entry = |len: usize| FileEntry::of("items.bin", &vec![7; len]);
        assert_eq!(entry(piece).pieces_sha256, None);
        let long = entry(piece + 1);
        let content = vec![7; piece + 1];
        assert_eq!(long.pieces_sha256, Some(Sha256Hash::of_pieces(&content, FileEntry::PIECE_BYTES)));
        assert!(long.check(&content).is_ok() && long.check_pieces(&content).is_ok());
        assert_eq!(serde_json::from_str::<FileEntry>(&to_text(&long)).unwrap(), long);
    }
}
