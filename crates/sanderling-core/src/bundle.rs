//! The bundle: files in, checked parts out.

use std::collections::BTreeMap;
use std::sync::Arc;

use sanderling_types::{
    Baseline, Code, Error, FeatureSpec, FileEntry, FileRole, ItemId, ItemIndex, Manifest, Result, Segments,
    Sha256Hash,
};

use crate::{ItemTable, NeighbourTable, PackedVocabulary, TreeEnsemble, Trust};

/// The bytes of a bundle folder by file name, with `manifest.json` and, if signed, `manifest.sig`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleFiles {
    /// By ascending name.
    files: Vec<File>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    name: String,
    bytes: Vec<u8>,
    digest: Option<Sha256Hash>,
}

impl BundleFiles {
    /// No file yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file, or replaces the one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, bytes: Vec<u8>) {
        let file = File { name: name.into(), bytes, digest: None };
        match self.find(&file.name) {
            Ok(at) => self.files[at] = file,
            Err(at) => self.files.insert(at, file),
        }
    }

    /// Believes the host in what the SHA-256 of the bytes of a file is, or of its pieces where the manifest has that
    /// ([`FileEntry::pieces_sha256`]), for hosts whose own implementation is faster: a browser hashes with instructions that wasm does
    /// not have. A file that is not there is ignored.
    pub fn set_digest(&mut self, name: &str, digest: Sha256Hash) {
        if let Ok(at) = self.find(name) {
            self.files[at].digest = Some(digest);
        }
    }

    fn find(&self, name: &str) -> std::result::Result<usize, usize> {
        self.files.binary_search_by(|file| file.name.as_str().cmp(name))
    }

    /// What the host says that the digest of a file is.
    fn digest_of(&self, name: &str) -> Option<Sha256Hash> {
        self.files[self.find(name).ok()?].digest
    }

    /// Takes a file out, if it is there.
    pub fn remove(&mut self, name: &str) -> Option<Vec<u8>> {
        self.find(name).ok().map(|at| self.files.remove(at).bytes)
    }

    /// The bytes of a file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.find(name).ok().map(|at| self.files[at].bytes.as_slice())
    }

    /// Names and bytes, by ascending name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|file| (file.name.as_str(), file.bytes.as_slice()))
    }

    fn take(&mut self, name: &str) -> Result<Vec<u8>> {
        self.remove(name).ok_or_else(|| missing(name))
    }
}

impl From<BTreeMap<String, Vec<u8>>> for BundleFiles {
    fn from(files: BTreeMap<String, Vec<u8>>) -> Self {
        // Names of a map ascend.
        let file = |(name, bytes)| File { name, bytes, digest: None };
        Self { files: files.into_iter().map(file).collect() }
    }
}

impl From<BundleFiles> for BTreeMap<String, Vec<u8>> {
    fn from(files: BundleFiles) -> Self {
        files.files.into_iter().map(|file| (file.name, file.bytes)).collect()
    }
}

/// The ranker that a bundle runs.
#[derive(Debug, Clone, PartialEq)]
pub enum RankerModel {
    /// `ranker.onnx`: checked bytes, not yet parsed.
    Onnx(Vec<u8>),
    /// `trees.bin`, in place of the `ranker.onnx` beside it.
    Trees(TreeEnsemble),
}

/// A bundle whose files are what its manifest says and agree with each other. The models are
/// checked bytes, not yet parsed.
#[derive(Debug, Clone)]
pub struct Bundle {
    manifest: Manifest,
    hash: Sha256Hash,
    vocabulary: Arc<PackedVocabulary>,
    features: FeatureSpec,
    baseline: Baseline,
    items: ItemTable,
    encoder: Option<Vec<u8>>,
    neighbours: Option<NeighbourTable>,
    ranker: RankerModel,
    segments: Segments,
}

impl Bundle {
    /// Opens a bundle: the signature and age that `trust` asks for, then length and SHA-256 of every file that
    /// the manifest names, and only then the decoding of each and the checks across them. The
    /// model card may be left out, as it is for people, and `ranker.onnx` beside `trees.bin`, as it is
    /// for other tools; files that the manifest does not name are not looked at.
    ///
    /// # Errors
    /// [`Code::FileMissing`], [`Code::SignatureMissing`], [`Code::SignatureInvalid`],
    /// [`Code::BundleExpired`], [`Code::BundleRolledBack`],
    /// [`Code::ManifestInvalid`], [`Code::UnsupportedFormatVersion`], [`Code::LimitExceeded`],
    /// [`Code::FileTruncated`], [`Code::HashMismatch`], [`Code::ItemsInvalid`],
    /// [`Code::NeighboursInvalid`], [`Code::VocabularyInvalid`], [`Code::SegmentsInvalid`],
    /// [`Code::IncompatibleFeatures`], [`Code::BaselineInvalid`], [`Code::ModelInvalid`].
    pub fn open(mut files: BundleFiles, trust: Option<&Trust>) -> Result<Self> {
        let digest = files.digest_of(Manifest::FILE_NAME);
        let manifest_bytes = files.take(Manifest::FILE_NAME)?;
        let hash = digest.unwrap_or_else(|| Sha256Hash::of(&manifest_bytes));
        if let Some(trust) = trust {
            trust.check_signature(&manifest_bytes, files.get(Manifest::SIGNATURE_FILE_NAME))?;
        }
        let manifest = Manifest::read(&manifest_bytes)?;
        trust.map_or(Ok(()), |trust| trust.check_age(&manifest))?;
        check_files(&manifest, &files)?;
        let mut part = |role| part(&mut files, &manifest, role);
        let vocabulary = PackedVocabulary::decode(part(FileRole::Vocabulary)?)?;
        let has = |role| manifest.files.contains_key(&role);
        let bundle = Self {
            hash,
            vocabulary: Arc::new(vocabulary),
            features: FeatureSpec::decode(&part(FileRole::Features)?)?,
            baseline: Baseline::decode(&part(FileRole::Baseline)?)?,
            items: match has(FileRole::Items) {
                true => ItemTable::decode(part(FileRole::Items)?)?,
                false => ItemTable::none(),
            },
            encoder: has(FileRole::Encoder).then(|| part(FileRole::Encoder)).transpose()?,
            neighbours: has(FileRole::Neighbours)
                .then(|| NeighbourTable::decode(&part(FileRole::Neighbours)?))
                .transpose()?,
            ranker: if has(FileRole::Trees) {
                RankerModel::Trees(TreeEnsemble::decode(&part(FileRole::Trees)?)?)
            } else {
                RankerModel::Onnx(part(FileRole::Ranker)?)
            },
            segments: match has(FileRole::Segments) {
                true => Segments::decode(&part(FileRole::Segments)?, manifest.shapes.num_items as usize)?,
                false => Segments::default(),
            },
            manifest,
        };
        bundle.check_parts()?;
        Ok(bundle)
    }

    fn check_parts(&self) -> Result<()> {
        let shapes = &self.manifest.shapes;
        let (num_items, num_features) = (shapes.num_items as usize, shapes.num_features as usize);
        if self.encoder.is_some() {
            same(Code::ItemsInvalid, "items.bin", "items", num_items, self.items.len())?;
            same(Code::ItemsInvalid, "items.bin", "numbers an item", shapes.dim as usize, self.items.dim())?;
        }
        if let Some(neighbours) = &self.neighbours {
            same(Code::NeighboursInvalid, "neighbours.bin", "items", num_items, neighbours.len())?;
        }
        same(Code::VocabularyInvalid, "vocabulary.bin", "items", num_items, self.vocabulary.len())?;
        // The bytes of the file, which have been checked, mostly are the canonical ones.
        let is_canonical = |file: &FileEntry| file.sha256 == self.manifest.feature_spec_sha256;
        let is_known = self.manifest.files.get(&FileRole::Features).is_some_and(is_canonical);
        if !is_known && self.features.hash() != self.manifest.feature_spec_sha256 {
            return Err(Error::new(
                Code::IncompatibleFeatures,
                "features.json is not the spec of the manifest",
            )
            .expected(self.manifest.feature_spec_sha256)
            .found(self.features.hash()));
        }
        let found = self.features.features.len();
        same(Code::IncompatibleFeatures, "features.json", "features", num_features, found)?;
        if let RankerModel::Trees(trees) = &self.ranker {
            same(Code::ModelInvalid, "trees.bin", "features", num_features, trees.num_features())?;
        }
        let known = |name: &str| self.features.features.iter().any(|feature| feature.name == name);
        let undeclared = |name: &str| name.strip_prefix("feature.").is_some_and(|name| !known(name));
        match self.baseline.fields.iter().find(|field| undeclared(&field.name)) {
            Some(field) => {
                Err(Error::new(Code::BaselineInvalid, "baseline.json disagrees with features.json")
                    .expected("fields of declared features")
                    .found(&field.name))
            }
            None => Ok(()),
        }
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The bundle hash: SHA-256 of the manifest's bytes.
    #[must_use]
    pub fn hash(&self) -> Sha256Hash {
        self.hash
    }

    /// Ids, categories and item facts, in row order.
    #[must_use]
    pub fn vocabulary(&self) -> &PackedVocabulary {
        &self.vocabulary
    }

    pub(crate) fn shared_vocabulary(&self) -> Arc<PackedVocabulary> {
        Arc::clone(&self.vocabulary)
    }

    /// The feature spec.
    #[must_use]
    pub fn features(&self) -> &FeatureSpec {
        &self.features
    }

    /// The baseline of telemetry.
    #[must_use]
    pub fn baseline(&self) -> &Baseline {
        &self.baseline
    }

    /// The item table; without any row in a bundle without an encoder.
    #[must_use]
    pub fn items(&self) -> &ItemTable {
        &self.items
    }

    /// The ONNX bytes of the encoder, where there is one.
    #[must_use]
    pub fn encoder(&self) -> Option<&[u8]> {
        self.encoder.as_deref()
    }

    /// The neighbour table, where there is one.
    #[must_use]
    pub fn neighbours(&self) -> Option<&NeighbourTable> {
        self.neighbours.as_ref()
    }

    /// Whether sessions are looked at; without an encoder and neighbours the fallback list is all that
    /// there is.
    #[must_use]
    pub fn retrieves(&self) -> bool {
        self.encoder.is_some() || self.neighbours.is_some()
    }

    /// The ranker.
    #[must_use]
    pub fn ranker(&self) -> &RankerModel {
        &self.ranker
    }

    /// What the fallback lists of segments begin with; none in a bundle without `segments.json`.
    #[must_use]
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// The row of an item, if this bundle has it.
    #[must_use]
    pub fn item_index(&self, id: &ItemId) -> Option<ItemIndex> {
        self.vocabulary.item_index(id.as_str())
    }

    /// The outside id of a row.
    #[must_use]
    pub fn item_id(&self, item: ItemIndex) -> Option<&str> {
        self.vocabulary.item_id(item)
    }

    /// Names of an item's categories, in the vocabulary's order; none for a row out of range.
    #[must_use]
    pub fn category_names(&self, item: ItemIndex) -> Vec<&str> {
        self.vocabulary
            .categories_of(item)
            .filter_map(|category| self.vocabulary.category(category))
            .collect()
    }
}

/// What a file has, and the manifest says that it has.
fn same(code: Code, file: &str, unit: &str, expected: usize, found: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::new(code, format!("{file} disagrees with the manifest"))
        .expected(format!("{expected} {unit}"))
        .found(format!("{found} {unit}")))
}

/// The bytes of a role.
#[inline(never)]
fn part(files: &mut BundleFiles, manifest: &Manifest, role: FileRole) -> Result<Vec<u8>> {
    files.take(&manifest.file(role)?.path)
}

fn check_files(manifest: &Manifest, files: &BundleFiles) -> Result<()> {
    for (role, entry) in &manifest.files {
        let Some(bytes) = files.get(&entry.path) else {
            if manifest.device_files().all(|(used, _)| used != *role) {
                continue;
            }
            return Err(missing(&entry.path));
        };
        match files.digest_of(&entry.path) {
            Some(digest) => entry.check_hashed(bytes, digest)?,
            None => entry.check(bytes)?,
        }
    }
    Ok(())
}

fn missing(name: &str) -> Error {
    Error::new(Code::FileMissing, format!("{name} was not supplied"))
}
