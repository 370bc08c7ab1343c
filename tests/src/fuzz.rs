//! What must hold for any bytes of any format: the bodies of the fuzz targets.
//!
//! Each function takes bytes that nobody checked and panics when a promise breaks: decoding panics,
//! what was accepted does not come back from its encoding, or what it says is out of its range. It
//! gives whether the bytes were accepted. A panic of our own code that something catches is broken, too:
//! in wasm nothing catches it. The libFuzzer targets in `tests/fuzz` and the replay in `tests/tests/fuzz.rs` run the same functions.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ed25519_dalek::{Signer, SigningKey};
use sanderling_core::{
    Bundle, BundleFiles, Engine, ItemTable, NeighbourTable, PackedVocabulary, PublicKey, Runtime, Signatures,
    SlimRuntime, TreeEnsemble, Trust,
};
use sanderling_tract::FullRuntime;
use sanderling_train::content::Content;
use sanderling_train::data::{self, Dataset, ImportOptions};
use sanderling_train::recipe::Recipe;
use sanderling_types::{
    Baseline, FeatureSpec, FileRole, Item, ItemId, ItemIndex, Manifest, Report, Request, RuntimeKind,
    Segments, SessionInteraction, Sha256Hash, SharedSession, pack_files, unpack_files,
};

/// A target: takes bytes, gives whether they were accepted, panics when a promise breaks.
pub type Target = fn(&[u8]) -> bool;

/// Every target by name; `tests/fuzz/fuzz_targets` has one file each.
pub const TARGETS: [(&str, Target); 20] = [
    ("baseline", baseline),
    ("bundle", bundle),
    ("container", container),
    ("content", content),
    ("csv", csv),
    ("encoder", encoder),
    ("features", features),
    ("items", items),
    ("jsonl", jsonl),
    ("manifest", manifest),
    ("neighbours", neighbours),
    ("npy", npy),
    ("recipe", recipe),
    ("report", report),
    ("request", request),
    ("segments", segments),
    ("session", session),
    ("signature", signature),
    ("trees", trees),
    ("vocabulary", vocabulary),
];

/// Largest container that is looked into; no seed is larger.
const MAX_CONTAINER_BYTES: usize = 4 << 20;
/// Longest session that a model is run with here; the engine's own bound takes seconds.
const MAX_ROWS: usize = 16;

static GOLDEN: LazyLock<BundleFiles> = LazyLock::new(|| {
    sanderling_train::bundle::read(&super::golden_bundle()).expect("the golden bundle can be read")
});
static GOLDEN_ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let bundle = Bundle::open(GOLDEN.clone(), None).expect("the golden bundle opens");
    Engine::new(bundle, &SlimRuntime).expect("its models load")
});
static GOLDEN_MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
    Manifest::decode(GOLDEN.get(Manifest::FILE_NAME).expect("a bundle has a manifest")).expect("it decodes")
});

/// `manifest.json`: one encoding, and the hash is that of the bytes.
#[must_use]
pub fn manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::decode(bytes) else { return false };
    assert_eq!(manifest.encode(), bytes, "an accepted manifest is canonical");
    assert_eq!(manifest.bundle_hash(), Sha256Hash::of(bytes));
    assert!(manifest.bundle_bytes() >= bytes.len() as u64);
    true
}

/// `content.bin`: what was accepted comes back from its encoding, and every vector is finite.
#[must_use]
pub fn content(bytes: &[u8]) -> bool {
    let Ok(content) = Content::decode(bytes) else { return false };
    assert_eq!(Content::decode(&content.encode()).expect("it comes back"), content);
    for category in ["Lighting", "Tents", ""] {
        let item = Item {
            item_id: ItemId::from("new"),
            title: format!("A {category} thing"),
            categories: vec![category.to_owned()],
            price: Some(9.5),
            published_at: None,
            attributes: std::collections::BTreeMap::new(),
        };
        let vector = content.vector(&item).unwrap_or_default();
        assert!(vector.iter().all(|number| number.is_finite()), "{category} has {vector:?}");
    }
    true
}

/// `items.bin`: one encoding, and every row gives finite numbers.
#[must_use]
pub fn items(bytes: &[u8]) -> bool {
    let Ok(table) = ItemTable::decode(bytes) else { return false };
    assert_eq!(table.encode(), bytes, "an accepted table has one encoding");
    let mut row = vec![0.0; table.dim()];
    let query = vec![1.0; table.dim()];
    for item in (0..table.len().min(64) as u32).map(ItemIndex) {
        table.row_into(item, &mut row);
        let numbers = [table.norm(item), table.dot(&query, item), table.cosine(item, ItemIndex(0))];
        assert!(row.iter().chain(&numbers).all(|number| number.is_finite()), "row {item:?} is not finite");
    }
    true
}

/// `trees.bin`: one encoding, and every row, whatever is in it, gets a finite score.
#[must_use]
pub fn trees(bytes: &[u8]) -> bool {
    let Ok(trees) = TreeEnsemble::decode(bytes) else { return false };
    assert_eq!(trees.encode(), bytes, "accepted trees have one encoding");
    let rows = [f32::NEG_INFINITY, -1.0, 0.0, 1.0, f32::MAX, f32::INFINITY, f32::NAN];
    let features: Vec<f32> = rows.iter().flat_map(|&value| vec![value; trees.num_features()]).collect();
    let scores = trees.scores(&features);
    assert!(scores.len() == rows.len() && scores.iter().all(|score| score.is_finite()), "{scores:?}");
    true
}

/// `neighbours.bin`: one encoding, and scores of any session are finite and have a reason where they are
/// above 0.
#[must_use]
pub fn neighbours(bytes: &[u8]) -> bool {
    let Ok(table) = NeighbourTable::decode(bytes) else { return false };
    assert_eq!(table.encode(), bytes, "an accepted table has one encoding");
    let newest_first = (0..table.len().min(64) as u32).map(ItemIndex);
    let sources = table.combination().sources(newest_first.clone());
    let mut scores = vec![0.0; table.len()];
    table.add_scores(&sources, &mut scores);
    assert!(scores.iter().all(|score| score.is_finite()));
    for item in newest_first {
        assert!(scores[item.row()] <= 0.0 || table.strongest(&sources, item).is_some());
    }
    true
}

/// A matrix of item vectors in NumPy's format: as many elements as its shape says.
#[must_use]
pub fn npy(bytes: &[u8]) -> bool {
    let Ok(matrix) = sanderling_train::external::npy::decode(bytes) else { return false };
    assert_eq!(Some(matrix.elements.len()), matrix.rows.checked_mul(matrix.cols));
    true
}

/// `vocabulary.bin`: what was accepted survives its own encoding, and every index points at something.
#[must_use]
pub fn vocabulary(bytes: &[u8]) -> bool {
    let Ok(packed) = PackedVocabulary::decode(bytes.to_vec()) else { return false };
    let vocabulary = packed.unpack();
    let again = vocabulary.encode().expect("it fitted");
    assert_eq!(PackedVocabulary::decode(again).expect("its encoding decodes").unpack(), vocabulary);
    for (row, id) in (0u32..).map(ItemIndex).zip(packed.item_ids()) {
        assert_eq!(packed.item_index(id), Some(row));
        assert!(packed.categories_of(row).all(|category| packed.category(category).is_some()));
    }
    true
}

/// `features.json`: what was accepted survives its own encoding, hash included.
#[must_use]
pub fn features(bytes: &[u8]) -> bool {
    let Ok(spec) = FeatureSpec::decode(bytes) else { return false };
    let again = FeatureSpec::decode(&spec.encode()).expect("its encoding decodes");
    assert_eq!((again.hash(), &again), (spec.hash(), &spec));
    true
}

/// `baseline.json`: what was accepted survives its own encoding, and every value has a bin.
#[must_use]
pub fn baseline(bytes: &[u8]) -> bool {
    let Ok(baseline) = Baseline::decode(bytes) else { return false };
    assert_eq!(Baseline::decode(&baseline.encode()).expect("its encoding decodes"), baseline);
    for field in &baseline.fields {
        let num_bins = field.bins.num_bins();
        assert!((1..=Baseline::MAX_BINS).contains(&num_bins), "{} has {num_bins} bins", field.name);
        for value in [f32::NEG_INFINITY, -1.0, 0.0, 1e-30, 1e30, f32::INFINITY, f32::NAN] {
            assert!(field.bins.bin_of_value(value).is_none_or(|bin| bin < num_bins));
        }
        assert!(field.shares.as_ref().is_none_or(|shares| shares.len() == num_bins));
    }
    true
}

/// `segments.json` of the golden bundle: what was accepted survives its own encoding, its lists can be listed, and it can be pruned.
#[must_use]
pub fn segments(bytes: &[u8]) -> bool {
    let num_items = GOLDEN_MANIFEST.shapes.num_items;
    let Ok(segments) = Segments::decode(bytes, num_items as usize) else { return false };
    let decode = |segments: &Segments| Segments::decode(&segments.encode(), num_items as usize);
    assert_eq!(decode(&segments).expect("its encoding decodes"), segments);
    for segment in &segments.segments {
        let items = segments.of(&[(segment.key.clone(), segment.value.clone())].into());
        assert_eq!(items, segment.items, "a segment is the first of its own context");
        assert!(items.iter().all(|item| *item < num_items));
    }
    let pruned = segments.moved(|item| (item < num_items / 2).then_some(item));
    assert_eq!(decode(&pruned).expect("what was pruned decodes"), pruned);
    true
}

/// A report: what was accepted survives its own encoding, and padding it gives the length asked for.
#[must_use]
pub fn report(bytes: &[u8]) -> bool {
    let Ok(mut report) = Report::decode(bytes) else { return false };
    assert_eq!(Report::decode(&report.encode()).expect("its encoding decodes"), report);
    if report.pad_to(Report::MAX_BYTES as u32).is_ok() {
        assert_eq!(report.encode().len(), Report::MAX_BYTES);
    }
    true
}

/// A shared session: what was accepted survives its own encoding, as long as that is padded.
#[must_use]
pub fn session(bytes: &[u8]) -> bool {
    let Ok(mut session) = SharedSession::decode(bytes) else { return false };
    session.pad().expect("what was accepted is not too long");
    let encoded = session.encode();
    assert!(encoded.len() <= bytes.len().next_multiple_of(SharedSession::PADDED_BYTES));
    assert_eq!(SharedSession::decode(&encoded).expect("its encoding decodes"), session);
    true
}

/// A request with the session that a host imports: whatever is accepted is answered, and what was learned of its user
/// can be learned on.
#[must_use]
pub fn request(bytes: &[u8]) -> bool {
    let Ok(request) = Request::decode(bytes, 0, 0) else { return false };
    let outcome = GOLDEN_ENGINE.recommend(&request);
    let num_features = GOLDEN_ENGINE.feature_encoder().num_features();
    let learned = GOLDEN_ENGINE.learn(request.correction.clone(), &outcome, 2);
    assert!(learned.fits(GOLDEN_MANIFEST.feature_spec_sha256, num_features));
    let answer = outcome.response;
    let wanted = request.limit.min(GOLDEN_MANIFEST.limits.max_limit) as usize;
    assert!(answer.recommendations.len() <= wanted);
    assert!(answer.recommendations.iter().all(|one| one.score.is_finite()));
    true
}

/// A container: one encoding.
#[must_use]
pub fn container(bytes: &[u8]) -> bool {
    let Ok(files) = unpack_files(bytes, MAX_CONTAINER_BYTES) else { return false };
    assert_eq!(pack_files(&files).expect("what was unpacked packs"), bytes);
    true
}

/// A bundle folder as a container: opened as it is, and again with lengths and hashes made right, so
/// that the checks behind the hashes see damaged files. What opens must answer.
#[must_use]
pub fn bundle(bytes: &[u8]) -> bool {
    let Ok(files) = unpack_files(bytes, MAX_CONTAINER_BYTES) else { return false };
    let files = BundleFiles::from(files);
    let opened = open_and_ask(files.clone());
    with_right_hashes(files).is_some_and(open_and_ask) || opened
}

fn with_right_hashes(mut files: BundleFiles) -> Option<BundleFiles> {
    let mut manifest = Manifest::decode(files.get(Manifest::FILE_NAME)?).ok()?;
    for entry in manifest.files.values_mut() {
        if let Some(bytes) = files.get(&entry.path) {
            (entry.bytes, entry.sha256) = (bytes.len() as u64, Sha256Hash::of(bytes));
        }
    }
    let spec = manifest.file(FileRole::Features).ok().and_then(|entry| files.get(&entry.path));
    if let Some(spec) = spec.and_then(|bytes| FeatureSpec::decode(bytes).ok()) {
        manifest.feature_spec_sha256 = spec.hash();
    }
    files.insert(Manifest::FILE_NAME, manifest.encode());
    Some(files)
}

fn open_and_ask(files: BundleFiles) -> bool {
    let engine = Bundle::open(files, None).and_then(|bundle| Engine::new(bundle, &FullRuntime));
    let Ok(engine) = engine else { return false };
    let bundle = engine.bundle();
    let newest = bundle.vocabulary().item_ids().take(3);
    let interaction =
        |id: &str| SessionInteraction { item_id: id.into(), kind: "view".to_owned(), timestamp: 1 };
    let request =
        Request { session: newest.map(interaction).collect(), limit: 10, now: 1_000, ..Request::default() };
    let limit = bundle.manifest().limits.max_limit.min(request.limit) as usize;
    let response = engine.recommend(&request).response;
    assert!(response.recommendations.len() <= limit, "more recommendations than asked for");
    let mut seen = std::collections::BTreeSet::new();
    for (at, recommendation) in response.recommendations.iter().enumerate() {
        assert_eq!(recommendation.position as usize, at + 1);
        assert!(seen.insert(recommendation.item_id.as_str().to_owned()), "an item is recommended twice");
    }
    true
}

/// An ONNX model after one byte that says of what role: even for an encoder, odd for a ranker. A
/// model that loads must run, or say why not.
#[must_use]
pub fn encoder(bytes: &[u8]) -> bool {
    let Some((role, onnx)) = bytes.split_first() else { return false };
    let shapes = &GOLDEN_MANIFEST.shapes;
    let role = if role.is_multiple_of(2) { FileRole::Encoder } else { FileRole::Ranker };
    let Ok(scorer) = FullRuntime.scorer(onnx, role, shapes, RuntimeKind::Full) else { return false };
    for rows in [1, 2, MAX_ROWS] {
        let (shape, expected) = match role {
            FileRole::Encoder => (vec![1, rows, shapes.dim as usize], shapes.dim as usize),
            _ => (vec![rows, shapes.num_features as usize], rows),
        };
        let input = vec![0.5; shape.iter().product()];
        if let Ok(scores) = scorer.run(&input, &shape) {
            assert_eq!(scores.len(), expected);
        }
    }
    true
}

/// A recipe: what was accepted has a hash and passes its own check.
#[must_use]
pub fn recipe(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(recipe) = Recipe::parse(text) else { return false };
    recipe.check().expect("a parsed recipe is checked");
    let _ = (recipe.hash(), recipe.telemetry_constants());
    true
}

/// A table of interactions as CSV, perhaps compressed.
#[must_use]
pub fn csv(bytes: &[u8]) -> bool {
    table("csv", bytes)
}

/// A table of interactions as JSON Lines, perhaps compressed.
#[must_use]
pub fn jsonl(bytes: &[u8]) -> bool {
    table("jsonl", bytes)
}

thread_local! {
    /// A folder of this thread, in memory where the system has such a place.
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

fn folder() -> PathBuf {
    FOLDER.with_borrow_mut(|folder| {
        let new = || {
            let memory = Path::new("/dev/shm");
            let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
            made.expect("a temporary folder can be made")
        };
        folder.get_or_insert_with(new).path().to_owned()
    })
}

/// What can be imported can be validated, and comes back from the data folder that it is written to.
fn table(layout: &str, bytes: &[u8]) -> bool {
    let folder = folder();
    let file = folder.join(format!("log.{layout}"));
    std::fs::write(&file, bytes).expect("the temporary file can be written");
    let imported = data::import(layout, &file, &ImportOptions::default(), &mut |_| {});
    let validated = data::validate(&file, 1_800_000_000, &mut |_| {});
    let Ok((dataset, summary)) = imported else { return false };
    assert_eq!(summary.num_interactions, dataset.interactions.len() as u64);
    assert_eq!(
        validated.expect("an imported file can be validated").num_interactions,
        summary.num_interactions
    );
    let written = folder.join("data");
    dataset.write(&written).expect("an imported data set can be written");
    assert_eq!(Dataset::read(&written).expect("a written data set can be read"), dataset);
    true
}

/// The secret key whose signature of the golden manifest is the only one that may be accepted.
const SECRET: [u8; 32] = [7; 32];

/// The key and the `manifest.sig` that [`signature`] accepts.
#[must_use]
pub fn right_signature() -> ([u8; 32], Vec<u8>) {
    let key = SigningKey::from_bytes(&SECRET);
    let signed = key.sign(GOLDEN.get(Manifest::FILE_NAME).expect("a bundle has a manifest"));
    let public = PublicKey(key.verifying_key().to_bytes());
    let mut signatures = Signatures::default();
    signatures.insert(&public, signed.to_bytes()).expect("one signature fits");
    (public.0, signatures.encode())
}

/// `manifest.sig` after a public key of 32 bytes: nothing but the one signature, perhaps among others, opens the bundle,
/// whatever the key.
#[must_use]
pub fn signature(bytes: &[u8]) -> bool {
    let Some((key, signature)) = bytes.split_at_checked(32) else { return false };
    let (right_key, right) = right_signature();
    let has_right = signature.chunks(right.len()).any(|entry| entry == right);
    let mut accepted = false;
    for key in [right_key, key.try_into().expect("32 bytes were split off")] {
        let mut files = GOLDEN.clone();
        files.insert(Manifest::SIGNATURE_FILE_NAME, signature.to_vec());
        let opened = Bundle::open(files, Some(&Trust::in_keys([PublicKey(key)]))).is_ok();
        let well_formed = Signatures::decode(signature).is_ok();
        assert_eq!(opened, well_formed && has_right && key == right_key, "a forged signature opens a bundle");
        accepted |= opened;
    }
    accepted
}
