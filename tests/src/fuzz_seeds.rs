//! Good inputs of every fuzz target, from which the fuzzer and the replay start.

use std::collections::BTreeMap;
use std::io::Write;

use sanderling_core::onnx::LinearRanker;
use sanderling_core::{BundleFiles, Combination, NeighbourTable};
use sanderling_types::{
    Correction, FORMAT_VERSION, FileRole, Manifest, Observation, Report, Segment, Segments, Sha256Hash,
    SharedInteraction, SharedSession, pack_files,
};

use crate::fuzz::right_signature;

const CSV: &str = "user_id,item_id,kind,timestamp,value,split\nu1,a,view,1767225600,,train\nu1,\"b,c\",buy,1767225660,2.5,train\n\
    u2,a,view,2026-01-01T00:00:05Z,,validation\nu2,\u{e9},view,1767225600000,-1,test\n";
const SEMICOLONS: &str =
    "\u{feff}ts;product_id;user;event\r\n2026-01-01;p1;u;buy\r\n2026-01-02 10:00:00;p2;u;\r\n";
const JSONL: &str = "{\"userId\": 1, \"itemId\": \"a\", \"time\": 1767225600, \"rating\": 4.5}\n\n\
    {\"userId\":2,\"itemId\":\"b\",\"time\":\"2026-01-01\",\"rating\":null}\n{\"userId\":2,\"itemId\":[\"c\",\"d|e\"],\"time\":1}\n";
const RECIPE: &str = "name = \"shop\"\nseed = 7\nsegments = [\"country\", \"device_class\"]\nsplit = \"leave-one-out\"\nexclude_seen = true\ncategory_cap = 3\n\
    max_bundle_bytes = 1000000\n[model]\ndim = 32\nlayers = 1\nheads = 2\nmax_session_len = 20\ndropout = 0.1\n\
    learning_rate = 1e-3\nnum_negatives = 64\nmax_epochs = 3\npatience = 2\n[limits]\nmax_candidates = 50\nmax_limit = 20\n\
    [telemetry]\nepsilon = 2.0\nfields_per_report = 1\nwindow_seconds = 86400\n\
    [ranker]\nkind = \"gbdt\"\nexclude_features = [\"recency\"]\n[ranker.linear]\nridge = 0.01\n[ranker.mlp]\nhidden = 8\n\
    [ranker.gbdt]\nmax_trees = 5\n[gate]\nmin_gain = 0.0\nmin_coverage_ratio = 0.5\nmax_size_ratio = 1.5\n";

const REQUEST: &str = "{\"session\":[{\"item_id\":\"p00017\",\"kind\":\"view\",\"timestamp\":1779999400},{\"item_id\":\"p00030\",\"kind\":\"cart\",\
    \"timestamp\":1779999500}],\"context\":{\"page\":\"home\"},\"rules\":{\"exclude\":[\"p00040\"],\"only\":[],\"exclude_seen\":true,\"filter\":\
    {\"categories\":[\"Water\"],\"min_price\":1.5,\"max_price\":900},\"category_cap\":2,\"boosts\":[{\"item_ids\":[\"p00002\"],\"categories\":[\"Bags\"],\
    \"add\":0.5}],\"diversity\":0.3,\"pins\":[{\"item_id\":\"p00004\",\"position\":2}],\"exploration\":0.1},\"limit\":10,\"now\":1780000000,\
    \"seed\":7,\"deadline_ms\":50}";

/// What was learned of a user of the golden bundle.
fn correction(files: &BundleFiles) -> String {
    let sums = (0..3 * num_features(files)).map(|at| at as f32 * 0.3).collect();
    let correction =
        Correction { num_updates: 40, sums, ..Correction::new(manifest(files).feature_spec_sha256, 0) };
    serde_json::to_string(&correction).expect("numbers have a text")
}

fn files() -> BundleFiles {
    sanderling_train::bundle::read(&crate::golden_bundle()).expect("the golden bundle can be read")
}

fn manifest(files: &BundleFiles) -> Manifest {
    Manifest::decode(files.get(Manifest::FILE_NAME).expect("a manifest")).expect("it decodes")
}

fn file(files: &BundleFiles, role: FileRole) -> Vec<u8> {
    let manifest = manifest(files);
    let entry = manifest.file(role).expect("the golden bundle has every role");
    files.get(&entry.path).expect("the golden bundle has every file").to_vec()
}

fn num_features(files: &BundleFiles) -> usize {
    manifest(files).shapes.num_features as usize
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("memory takes it")
}

fn zstd(text: &str) -> Vec<u8> {
    zstd::encode_all(text.as_bytes(), 3).expect("memory takes it")
}

fn xz(text: &str) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).expect("memory takes it")
}

fn report() -> Vec<u8> {
    let mut report = Report {
        format_version: FORMAT_VERSION,
        report_id: "0123456789abcdef".repeat(2),
        bundle_sha256: Sha256Hash::of(b"a bundle"),
        window_start: 1_767_225_600,
        window_seconds: 86_400,
        epsilon: 3.0,
        observations: vec![Observation { field: "score.retrieval".to_owned(), bin: 3 }],
        padding: String::new(),
    };
    report.pad_to(512).expect("it fits");
    report.encode()
}

fn container(files: &BundleFiles) -> Vec<u8> {
    let files: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect();
    pack_files(&files).expect("a bundle fits a container")
}

/// A few good inputs of a target of [`crate::fuzz::TARGETS`].
///
/// # Panics
/// When the target is not known or the golden bundle is damaged.
#[must_use]
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let files = files();
    let of = |role: FileRole| file(&files, role);
    let text = |text: &str| text.as_bytes().to_vec();
    match target {
        "baseline" => vec![of(FileRole::Baseline)],
        "bundle" => vec![container(&files)],
        "container" => {
            let small = [
                ("a.json".to_owned(), vec![1, 2, 3]),
                ("b".to_owned(), vec![]),
                ("\u{e9}".to_owned(), vec![0; 40]),
            ];
            vec![pack_files(&small.into()).expect("it fits"), container(&files)]
        }
        "csv" => vec![text(CSV), text(SEMICOLONS), gzip(CSV), zstd(SEMICOLONS), xz(CSV)],
        "encoder" => vec![
            [&[0], of(FileRole::Encoder).as_slice()].concat(),
            [&[1], LinearRanker { weights: vec![0.5; num_features(&files)], bias: 0.0 }.to_onnx().as_slice()]
                .concat(),
        ],
        "content" => vec![of(FileRole::Content)],
        "features" => vec![of(FileRole::Features)],
        "items" => vec![of(FileRole::Items)],
        "jsonl" => vec![text(JSONL), gzip(JSONL), zstd(JSONL)],
        "neighbours" => {
            let combination = Combination { max_sources: 30, decay: 0.8 };
            let rows: Vec<Vec<(u32, f32)>> = (0..300u32)
                .map(|row| (0..row % 7).map(|at| ((row * 37 + at * 91) % 300, at as f32 - 2.5)).collect())
                .collect();
            let table = NeighbourTable::quantise(&rows, combination).expect("it can be stored");
            let none = NeighbourTable::quantise(&[], combination).expect("it can be stored");
            vec![table.encode(), none.encode()]
        }
        "manifest" => vec![files.get(Manifest::FILE_NAME).expect("a manifest").to_vec()],
        "npy" => {
            let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }";
            let padded = format!("{header:<117}\n");
            let magic = |version: &[u8], len: &[u8]| [b"\x93NUMPY", version, len].concat();
            let behind = [padded.as_bytes(), &[0; 16]].concat();
            vec![
                [magic(&[1, 0], &118u16.to_le_bytes()), behind.clone()].concat(),
                [magic(&[2, 0], &118u32.to_le_bytes()), behind].concat(),
            ]
        }
        "recipe" => vec![
            text(RECIPE),
            text(""),
            std::fs::read(crate::here().join("../www/demo/sanderling.toml")).expect("the demo has a recipe"),
        ],
        "report" => vec![report()],
        "request" => {
            let correction = format!("\"correction\":{}", correction(&files));
            vec![text(REQUEST), text("{}"), text(&REQUEST.replace("\"deadline_ms\":50", &correction))]
        }
        "segments" => {
            let segment = |(items, key, value): (Vec<u32>, &str, &str)| Segment {
                items,
                key: key.to_owned(),
                value: value.to_owned(),
            };
            let all = [
                (vec![17, 3, 90], "country", "se"),
                ((0..50).rev().collect(), "country", "\u{e9}\"\n"),
                (vec![0], "device_class", "se"),
            ];
            let segments = Segments { segments: all.map(segment).to_vec(), ..Segments::default() };
            vec![segments.encode(), Segments::default().encode()]
        }
        "session" => {
            let act = |at: usize| SharedInteraction {
                item_id: format!("p\u{e9}-{at}").as_str().into(),
                kind: ["view", "add_to-cart2"][at % 2].to_owned(),
            };
            let of = |len: usize| {
                let (id, bundle) = ("0f".repeat(16), Sha256Hash::of(b"a bundle"));
                SharedSession::of_newest(id, bundle, 86_400, (0..len).map(act).collect())
                    .expect("it fits")
                    .encode()
            };
            vec![of(1), of(50)]
        }
        "signature" => {
            let (key, signature) = right_signature();
            vec![[key.as_slice(), &signature].concat(), [[1; 32].as_slice(), &signature].concat()]
        }
        "trees" => vec![of(FileRole::Trees)],
        "vocabulary" => vec![of(FileRole::Vocabulary)],
        other => panic!("{other} is not a target"),
    }
}
