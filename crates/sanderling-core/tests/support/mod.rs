//! A small bundle, models of a few bytes, and a fake runtime.
#![allow(dead_code, reason = "every test file uses its part of it")]
#![allow(unreachable_pub, reason = "shared by several test programs")]

pub mod onnx;

use std::collections::BTreeMap;
use std::path::Path;

use sanderling_core::{
    Bundle, BundleFiles, Combination, Engine, ItemBits, ItemTable, NeighbourTable, PackedVocabulary, Runtime,
    Scorer,
};
use sanderling_types::{
    Baseline, BaselineField, Code, Error, FORMAT_VERSION, FaultCode, FeatureSpec, FieldKind, FileEntry,
    FileRole, ItemId, Limits, Manifest, PolicyDefaults, Quantisation, Request, Result, RuntimeKind,
    SessionInteraction, Sha256Hash, Shapes, Source, TelemetryConstants, TimeKind, TrainingWindow, Vocabulary,
};

pub const DIM: usize = 4;
pub const DAY: i64 = 86_400;
/// 2026-01-02 06:00 UTC.
pub const NOW: i64 = 20_455 * DAY + 6 * 3600;

/// Six items: three shoes, two hats, one without a category. Items 0 and 1 point the same way.
pub fn vectors() -> Vec<f32> {
    [
        [1.0, 0.0, 0.0, 0.0],
        [2.0, 0.5, 0.0, 0.0],
        [0.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.6, 0.8],
        [-1.0, 0.0, 0.0, 0.0],
    ]
    .concat()
}

/// Neighbours of the six items: the boot goes with the cap and the gift, the beret with the gift and
/// not with the pump.
pub fn neighbours() -> NeighbourTable {
    let mut rows = vec![Vec::new(); 6];
    rows[0] = vec![(4, 1.0), (5, 0.25)];
    rows[3] = vec![(5, 2.0), (2, -1.0)];
    NeighbourTable::quantise(&rows, Combination { max_sources: 5, decay: 0.5 }).unwrap()
}

pub fn packed_vocabulary() -> PackedVocabulary {
    PackedVocabulary::decode(vocabulary().encode().unwrap()).unwrap()
}

pub fn vocabulary() -> Vocabulary {
    Vocabulary {
        item_ids: ["boot", "clog", "pump", "beret", "cap", "gift"].map(ItemId::from).to_vec(),
        categories: vec!["shoes".to_owned(), "hats".to_owned()],
        item_categories: vec![vec![0], vec![0], vec![0, 1], vec![1], vec![1], vec![]],
        popularity: vec![100, 50, 20, 10, 5, 0],
        prices: vec![Some(10.0), Some(20.0), Some(40.0), Some(10.0), None, Some(0.0)],
        published_at: vec![Some(NOW - DAY), None, Some(NOW + DAY), None, None, None],
    }
}

pub fn baseline() -> Baseline {
    let numeric = |name: &str, edges: &[f32]| BaselineField {
        name: name.to_owned(),
        bins: FieldKind::Numeric { edges: edges.to_vec() },
        shares: None,
        num_devices: 0,
    };
    let categorical = |name: &str, labels: Vec<String>| BaselineField {
        name: name.to_owned(),
        bins: FieldKind::Categorical { labels },
        shares: None,
        num_devices: 0,
    };
    let strings = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect::<Vec<_>>();
    let faults =
        std::iter::once("none").chain(FaultCode::ALL.iter().map(|(_, text)| *text)).chain(["untold"]);
    let faults: Vec<String> = faults.map(str::to_owned).collect();
    let mut fields: Vec<BaselineField> = FeatureSpec::standard()
        .features
        .iter()
        .map(|feature| numeric(&format!("feature.{}", feature.name), &[0.25, 0.5, 0.75]))
        .collect();
    fields.push(numeric("score.retrieval", &[-1.0, 0.0, 1.0]));
    fields.push(numeric("score.ranker", &[-1.0, 0.0, 1.0]));
    fields.push(numeric("score.first", &[0.0, 1.5]));
    fields.push(categorical("interaction.category", strings(&["shoes", "hats", "other"])));
    let steps = ["ss", "sh", "so", "hs", "hh", "ho", "os", "oh", "oo", "first"];
    fields.push(categorical("transition.category", strings(&steps)));
    fields.push(categorical("interaction.item", strings(&["boot", "clog", "other", "unknown"])));
    let sources = Source::ALL.iter().map(|(_, text)| *text);
    let shown: Vec<&str> = sources.clone().chain(["untold"]).collect();
    fields.push(categorical("impression.source", strings(&shown)));
    fields.push(categorical("outcome.position", strings(&["none", "1", "2-3", "4-10", "over_10", "untold"])));
    let fates: Vec<&str> = std::iter::once("none").chain(sources).chain(["untold"]).collect();
    fields.push(categorical("outcome.source", strings(&fates)));
    fields.push(categorical("outcome.calibration", strings(&["1i", "1c", "2i", "2c", "3i", "3c", "untold"])));
    let histories = ["0i", "0c", "1i", "1c", "3i", "3c", "6i", "6c", "21i", "21c", "untold"];
    fields.push(categorical("outcome.history", strings(&histories)));
    fields.push(numeric("latency", &[1.0, 10.0]));
    fields.push(categorical("fault", faults));
    Baseline { format_version: FORMAT_VERSION, fields }
}

/// The parts of a bundle; tests change them before they are packed.
pub struct Fixture {
    pub items: Option<Vec<u8>>,
    pub neighbours: Option<Vec<u8>>,
    pub vocabulary: Vec<u8>,
    pub features: Vec<u8>,
    pub baseline: Vec<u8>,
    pub encoder: Option<Vec<u8>>,
    pub ranker: Vec<u8>,
    pub trees: Option<Vec<u8>>,
    pub segments: Option<Vec<u8>>,
    pub manifest: Manifest,
}

impl Fixture {
    pub fn new() -> Self {
        let spec = FeatureSpec::standard();
        Self {
            items: Some(ItemTable::quantise(&vectors(), DIM, ItemBits::Eight).unwrap().encode()),
            neighbours: None,
            vocabulary: vocabulary().encode().unwrap(),
            features: spec.encode(),
            baseline: baseline().encode(),
            encoder: Some(onnx::last_row_encoder(DIM)),
            ranker: onnx::first_column_ranker(spec.features.len()),
            trees: None,
            segments: None,
            manifest: manifest(&spec),
        }
    }

    /// An encoder, and neighbours beside it.
    pub fn with_neighbours() -> Self {
        let spec = FeatureSpec::standard().with_neighbours();
        Self { neighbours: Some(neighbours().encode()), ..Self::new().with_spec(&spec) }
    }

    /// Neighbours without an encoder.
    pub fn neighbours_alone() -> Self {
        let spec = FeatureSpec::standard().without_vectors();
        let mut fixture = Self::new().with_spec(&spec);
        fixture.manifest.shapes.dim = 0;
        Self { neighbours: Some(neighbours().encode()), encoder: None, items: None, ..fixture }
    }

    /// Neither: the fallback list is all.
    pub fn popular_alone() -> Self {
        Self { neighbours: None, ..Self::neighbours_alone() }
    }

    fn with_spec(mut self, spec: &FeatureSpec) -> Self {
        let known = |name: &str| spec.features.iter().any(|feature| feature.name == name);
        let mut baseline = baseline();
        baseline.fields.retain(|field| field.name.strip_prefix("feature.").is_none_or(known));
        self.manifest.feature_spec_sha256 = spec.hash();
        self.manifest.shapes.num_features = spec.features.len() as u32;
        let ranker = onnx::first_column_ranker(spec.features.len());
        Self { features: spec.encode(), baseline: baseline.encode(), ranker, ..self }
    }

    pub fn files(mut self) -> BundleFiles {
        let mut files = BTreeMap::new();
        for (role, bytes) in [
            (FileRole::Items, self.items),
            (FileRole::Neighbours, self.neighbours),
            (FileRole::Vocabulary, Some(self.vocabulary)),
            (FileRole::Features, Some(self.features)),
            (FileRole::Baseline, Some(self.baseline)),
            (FileRole::Encoder, self.encoder),
            (FileRole::Ranker, Some(self.ranker)),
            (FileRole::Trees, self.trees),
            (FileRole::Segments, self.segments),
        ] {
            let Some(bytes) = bytes else { continue };
            let entry = FileEntry::of(role.file_name(), &bytes);
            self.manifest.files.insert(role, entry);
            files.insert(role.file_name().to_owned(), bytes);
        }
        files.insert(Manifest::FILE_NAME.to_owned(), self.manifest.encode());
        files.into()
    }

    pub fn bundle(self) -> Bundle {
        Bundle::open(self.files(), None).unwrap()
    }

    pub fn engine(self) -> Engine {
        Engine::new(self.bundle(), &FakeRuntime::default()).unwrap()
    }
}

fn manifest(spec: &FeatureSpec) -> Manifest {
    Manifest {
        expires_at: None,
        rollback_index: None,
        feature_spec_sha256: spec.hash(),
        files: BTreeMap::new(),
        format_version: FORMAT_VERSION,
        limits: Limits { max_candidates: 5, max_limit: 4, max_session_len: 3 },
        metrics: BTreeMap::new(),
        name: "test".to_owned(),
        parent: None,
        policy: PolicyDefaults { category_cap: None, exclude_seen: true },
        quantisation: Quantisation {
            encoder_bits: 32,
            item_bits: 8,
            ndcg10_f32: 0.5,
            ndcg10_packed: 0.5,
            steps: Vec::new(),
        },
        runtime: RuntimeKind::Full,
        recommender: "sequence".to_owned(),
        shapes: Shapes { dim: DIM as u32, num_features: spec.features.len() as u32, num_items: 6 },
        telemetry: TelemetryConstants::default(),
        training: TrainingWindow {
            last_timestamp: NOW,
            num_interactions: 185,
            num_users: 20,
            recipe_sha256: Sha256Hash::of(b"recipe"),
            seed: 1,
            split: "time".to_owned(),
            start_timestamp: 0,
            time: TimeKind::UnixSeconds,
        },
        version: 1,
    }
}

/// How a fake model behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Behaviour {
    /// Encoder: the last row. Ranker: the first column.
    #[default]
    Copies,
    /// Fails on what is not all zeros, and so not while the engine is made.
    Fails,
    /// Fails on sessions of over two rows.
    FailsOnLong,
    GivesNan,
    GivesTooFew,
    /// Ranker only: the same score for all.
    Ties,
}

/// A runtime without models: the pipeline is tested without any inference engine.
#[derive(Debug, Clone, Copy, Default)]
pub struct FakeRuntime {
    pub encoder: Behaviour,
    pub ranker: Behaviour,
}

struct FakeScorer(FileRole, Behaviour);

impl Runtime for FakeRuntime {
    fn scorer(
        &self,
        _onnx: &[u8],
        role: FileRole,
        _shapes: &Shapes,
        _stated: RuntimeKind,
    ) -> Result<Box<dyn Scorer>> {
        let behaviour = if role == FileRole::Encoder { self.encoder } else { self.ranker };
        Ok(Box::new(FakeScorer(role, behaviour)))
    }
}

impl Scorer for FakeScorer {
    fn run(&self, input: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
        assert_eq!(input.len(), shape.iter().product::<usize>());
        let columns = shape[shape.len() - 1];
        let mut out = match self.0 {
            FileRole::Encoder => input[input.len() - columns..].to_vec(),
            _ => input.chunks_exact(columns).map(|row| row[0]).collect(),
        };
        match self.1 {
            _ if input.iter().all(|value| *value == 0.0) && self.1 != Behaviour::FailsOnLong => {}
            Behaviour::FailsOnLong if input.len() > 2 * columns => {
                return Err(Error::new(Code::InferenceFailed, "the fake is short of breath"));
            }
            Behaviour::Copies | Behaviour::FailsOnLong => {}
            Behaviour::Fails => return Err(Error::new(Code::InferenceFailed, "the fake was told to fail")),
            Behaviour::GivesNan => out[0] = f32::NAN,
            Behaviour::GivesTooFew => {
                out.pop();
            }
            Behaviour::Ties => out.fill(0.5),
        }
        Ok(out)
    }
}

pub fn session(ids: &[&str]) -> Vec<SessionInteraction> {
    let interaction = |(at, id): (usize, &&str)| SessionInteraction {
        item_id: ItemId::from(*id),
        kind: "view".to_owned(),
        timestamp: NOW - 60 * (ids.len() - at) as i64,
    };
    ids.iter().enumerate().map(interaction).collect()
}

pub fn request(ids: &[&str], limit: u32) -> Request {
    Request { session: session(ids), limit, now: NOW, ..Request::default() }
}

/// The files of a bundle of this repository, by its folder.
pub fn bundle_of(folder: &str) -> BundleFiles {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder);
    let files = std::fs::read_dir(folder).expect("the bundle is there").map(|entry| {
        let path = entry.expect("is readable").path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read(path).expect("is readable"))
    });
    files.collect::<BTreeMap<_, _>>().into()
}
