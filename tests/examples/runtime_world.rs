//! Models for `./build.sh bench runtime`: `runtime_world OUT`. Writes, for 10,000, 50,000, 200,000 and 1,000,000 items of 64
//! elements, `OUT/<items>/retrieve` and `OUT/<items>/full`, bundles with the same encoder (two blocks, two heads, 256
//! hidden, sessions of at most 50) and item table (of 50,000 also `retrieve-int4`, with 4 bits an element); `retrieve` hands 20 candidates to a linear ranker, `full` 200 to a
//! network; and `OUT/rankers`, the rankers alone. Beside them lie the same numbers before rounding, for peers: `OUT/<items>/items.f32` `[items, 64]`,
//! `OUT/encoder.f32` with the places of its matrices in `OUT/encoder.json`. All weights are random, from a fixed seed.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "whoever runs it sees what is wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sanderling_core::onnx::{
    Block, LinearRanker, MlpRanker, Model, Norm, QuantisedLinear, Transformer, WeightBits, tree_ranker,
};
use sanderling_core::{ItemBits, ItemTable, TreeEnsemble, TreeNode};
use sanderling_train::bundle::{Contents, Facts, assemble, write};
use sanderling_train::rankers::RankerFiles;
use sanderling_types::{
    Baseline, BaselineField, FORMAT_VERSION, FaultCode, Feature, FeatureKind, FeatureSpec, FieldKind, Limits,
    PolicyDefaults, Quantisation, Segments, Sha256Hash, Shapes, TelemetryConstants, TimeKind, TrainingWindow,
    Vocabulary,
};
use serde_json::json;

const DIM: usize = 64;
const HEADS: usize = 2;
const HIDDEN: usize = 256;
const MAX_LEN: usize = 50;
const SIZES: [usize; 4] = [10_000, 50_000, 200_000, 1_000_000];
/// Of more items no peer is asked.
const MOST_OF_PEERS: usize = 200_000;
/// Of so many there is a bundle with item vectors of 4 bits, too.
const WITH_FOUR_BITS: usize = 50_000;

/// Roughly normal numbers.
struct Numbers(u64);

impl Numbers {
    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / 16_777_216.0
    }

    fn next(&mut self) -> f32 {
        ((0..12).map(|_| self.uniform()).sum::<f32>() - 6.0).clamp(-4.0, 4.0)
    }

    fn vector(&mut self, len: usize, deviation: f32) -> Vec<f32> {
        (0..len).map(|_| self.next() * deviation).collect()
    }
}

/// The encoder, with its matrices before they were rounded, by the names that the ONNX file gives them.
struct Encoder {
    model: Transformer,
    matrices: Vec<(String, [usize; 2], Vec<f32>)>,
}

fn encoder(numbers: &mut Numbers) -> Encoder {
    let mut matrices = Vec::new();
    let norm = |numbers: &mut Numbers| Norm {
        gain: numbers.vector(DIM, 0.05).into_iter().map(|v| 1.0 + v).collect(),
        bias: numbers.vector(DIM, 0.05),
    };
    let mut linear =
        |numbers: &mut Numbers, name: String, inputs: usize, outputs: usize, bits: WeightBits| {
            let weight = numbers.vector(inputs * outputs, 1.0 / (inputs as f32).sqrt());
            let rounded = QuantisedLinear::quantise(&weight, numbers.vector(outputs, 0.05), bits);
            matrices.push((format!("{name}_weight"), [inputs, outputs], weight));
            rounded
        };
    let blocks = (0..2)
        .map(|at| {
            let mut part = |numbers: &mut Numbers, name: &str, inputs, outputs, bits| {
                linear(numbers, format!("block{at}_{name}"), inputs, outputs, bits)
            };
            let (attention, feed_forward) = (Block::ATTENTION_BITS, Block::FEED_FORWARD_BITS);
            Block {
                norm1: norm(numbers),
                query: part(numbers, "query", DIM, DIM, attention),
                key: part(numbers, "key", DIM, DIM, attention),
                value: part(numbers, "value", DIM, DIM, attention),
                distance: numbers.vector(HEADS * MAX_LEN, 0.3),
                out: part(numbers, "out", DIM, DIM, attention),
                norm2: norm(numbers),
                up: part(numbers, "up", DIM, HIDDEN, feed_forward),
                down: part(numbers, "down", HIDDEN, DIM, feed_forward),
            }
        })
        .collect();
    let model = Transformer { dim: DIM, heads: HEADS, max_len: MAX_LEN, blocks, norm: norm(numbers) };
    Encoder { model, matrices }
}

fn write_encoder(encoder: &Encoder, out: &Path) {
    let mut floats: Vec<f32> = Vec::new();
    let mut places = BTreeMap::new();
    for (name, dims, values) in &encoder.matrices {
        places.insert(name, json!({ "at": floats.len(), "dims": dims }));
        floats.extend(values);
    }
    write_floats(&out.join("encoder.f32"), &floats);
    fs::write(out.join("encoder.json"), json!(places).to_string()).unwrap();
    fs::write(out.join("encoder-small.json"), json!(vectors(&encoder.model)).to_string()).unwrap();
}

/// Everything but the matrices; biases of queries have their scale already.
fn vectors(model: &Transformer) -> BTreeMap<String, &Vec<f32>> {
    let mut out = BTreeMap::new();
    for (at, block) in model.blocks.iter().enumerate() {
        for (name, norm) in [("norm1", &block.norm1), ("norm2", &block.norm2)] {
            out.insert(format!("block{at}_{name}_gain"), &norm.gain);
            out.insert(format!("block{at}_{name}_bias"), &norm.bias);
        }
        let linears = [
            ("query", &block.query),
            ("key", &block.key),
            ("value", &block.value),
            ("out", &block.out),
            ("up", &block.up),
            ("down", &block.down),
        ];
        out.extend(linears.map(|(name, linear)| (format!("block{at}_{name}_bias"), &linear.bias)));
        out.insert(format!("block{at}_distance"), &block.distance);
    }
    out.insert("norm_gain".to_owned(), &model.norm.gain);
    out.insert("norm_bias".to_owned(), &model.norm.bias);
    out
}

fn write_floats(path: &Path, values: &[f32]) {
    fs::write(path, values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
}

fn ranker(numbers: &mut Numbers, num_features: usize, full: bool) -> Vec<u8> {
    let direct = numbers.vector(num_features, 1.0);
    if !full {
        return LinearRanker { weights: direct, bias: 0.0 }.to_onnx();
    }
    let mut layer = |inputs: usize, outputs: usize| {
        (numbers.vector(inputs * outputs, 1.0 / (inputs as f32).sqrt()), numbers.vector(outputs, 0.1))
    };
    let hidden = vec![layer(num_features, 64), layer(64, 32)];
    MlpRanker { hidden, last: numbers.vector(32, 0.2), direct, bias: 0.0 }.to_onnx()
}

fn vocabulary(num_items: usize, numbers: &mut Numbers) -> Vocabulary {
    Vocabulary {
        item_ids: (0..num_items).map(|row| format!("i{row}").into()).collect(),
        categories: (0..40).map(|at| format!("category {at}")).collect(),
        item_categories: (0..num_items).map(|row| vec![(row * 7 % 40) as u16]).collect(),
        popularity: (0..num_items).map(|row| (1_000_000 / (row + 10)) as u32 + 1).collect(),
        prices: (0..num_items).map(|_| Some((numbers.uniform() * 10_000.0).round() / 100.0)).collect(),
        published_at: Vec::new(),
    }
}

/// Fields as every bundle has them.
fn baseline(spec: &FeatureSpec) -> Baseline {
    let numeric = |name: String| BaselineField {
        name,
        bins: FieldKind::Numeric { edges: (1..20).map(|edge| edge as f32 / 10.0 - 1.0).collect() },
        shares: None,
        num_devices: 0,
    };
    let categorical = |name: &str, labels: Vec<String>| BaselineField {
        name: name.to_owned(),
        bins: FieldKind::Categorical { labels },
        shares: None,
        num_devices: 0,
    };
    let scores = ["score.retrieval", "score.ranker"].map(|name| numeric(name.to_owned()));
    let features = spec.features.iter().map(|feature| numeric(format!("feature.{}", feature.name)));
    let faults = std::iter::once("none").chain(FaultCode::ALL.iter().map(|(_, text)| *text));
    let fault = categorical("fault", faults.map(str::to_owned).collect());
    Baseline {
        format_version: FORMAT_VERSION,
        fields: features.chain(scores).chain(std::iter::once(fault)).collect(),
    }
}

fn main() {
    let out = PathBuf::from(std::env::args_os().nth(1).expect("a folder"));
    fs::create_dir_all(&out).unwrap();
    let mut numbers = Numbers(1);
    let encoder = encoder(&mut numbers);
    write_encoder(&encoder, &out);
    write_rankers(&mut numbers, &out);
    for num_items in SIZES {
        let folder = out.join(num_items.to_string());
        fs::create_dir_all(&folder).unwrap();
        let items = numbers.vector(num_items * DIM, 1.0 / (DIM as f32).sqrt());
        if num_items <= MOST_OF_PEERS {
            write_floats(&folder.join("items.f32"), &items);
        }
        let spec = FeatureSpec::standard();
        let vocabulary = vocabulary(num_items, &mut numbers);
        let mut bundles = vec![("retrieve", 20, ItemBits::Nine)];
        if num_items <= MOST_OF_PEERS {
            bundles.push(("full", 200, ItemBits::Nine));
        }
        if num_items == WITH_FOUR_BITS {
            bundles.push(("retrieve-int4", 20, ItemBits::Four));
        }
        for (name, max_candidates, bits) in bundles {
            let contents = Contents {
                encoder: Some(encoder.model.to_onnx()),
                items: Some(ItemTable::quantise(&items, DIM, bits).unwrap().encode()),
                neighbours: None,
                content: None,
                ranker: RankerFiles {
                    onnx: ranker(&mut numbers, spec.features.len(), name == "full"),
                    trees: None,
                },
                vocabulary: vocabulary.clone(),
                segments: Segments::default(),
                features: spec.clone(),
                baseline: baseline(&spec),
                card: "Random weights, for measuring time.\n".to_owned(),
            };
            let mut facts = facts(num_items, max_candidates, spec.features.len());
            facts.quantisation.item_bits = bits.count();
            let (files, _) = assemble(&contents, &facts).unwrap();
            write(&files, &folder.join(name)).unwrap();
        }
    }
}

/// `OUT/rankers/mlp` and `OUT/rankers/trees`: bundles with the network 32-64-32-1 and 100 trees of depth 6 over 32
/// features.
fn write_rankers(numbers: &mut Numbers, out: &Path) {
    const NUM_ITEMS: usize = 100;
    let feature =
        |at: usize| Feature { name: format!("feature{at}"), kind: FeatureKind::RetrievalScore, decay: 1.0 };
    let spec = FeatureSpec { format_version: FORMAT_VERSION, features: (0..32).map(feature).collect() };
    let grown: Vec<Vec<TreeNode>> = (0..100)
        .map(|_| {
            let mut tree = Vec::new();
            grow(numbers, 6, &mut tree);
            tree
        })
        .collect();
    let trees = TreeEnsemble::new(spec.features.len(), &grown).unwrap();
    let network = ranker(numbers, spec.features.len(), true);
    fs::create_dir_all(out.join("rankers")).unwrap();
    fs::write(out.join("rankers/mlp.json"), network_json(&network)).unwrap();
    let rankers = [
        ("mlp", RankerFiles { onnx: network, trees: None }),
        ("trees", RankerFiles { onnx: tree_ranker(&trees), trees: Some(trees.encode()) }),
    ];
    for (name, ranker) in rankers {
        let contents = Contents {
            encoder: None,
            items: None,
            neighbours: None,
            content: None,
            ranker,
            vocabulary: vocabulary(NUM_ITEMS, numbers),
            segments: Segments::default(),
            features: spec.clone(),
            baseline: baseline(&spec),
            card: "Random weights, for measuring time.\n".to_owned(),
        };
        let mut facts = facts(NUM_ITEMS, 200, spec.features.len());
        facts.shapes.dim = 0;
        facts.quantisation.encoder_bits = 0;
        facts.quantisation.item_bits = 0;
        let (files, _) = assemble(&contents, &facts).unwrap();
        write(&files, &out.join("rankers").join(name)).unwrap();
    }
}

/// The parameters of a network with two hidden layers, for peers that read no ONNX.
fn network_json(onnx: &[u8]) -> String {
    let Some(Model::Mlp(model)) = Model::read(onnx) else { panic!("a network") };
    let [(first, first_bias), (second, second_bias)] = &model.hidden[..] else { panic!("two hidden layers") };
    let matrix = |values: &[f32], outputs: usize| json!({ "values": values, "dims": [values.len() / outputs, outputs] });
    json!({
        "matrices": [
            matrix(first, first_bias.len()),
            matrix(second, second_bias.len()),
            matrix(&model.last, 1),
            matrix(&model.direct, 1),
        ],
        "biases": [first_bias, second_bias],
    })
    .to_string()
}

/// A whole tree in pre-order.
fn grow(numbers: &mut Numbers, depth: usize, tree: &mut Vec<TreeNode>) {
    if depth == 0 {
        tree.push(TreeNode::Leaf { score: numbers.next() });
        return;
    }
    let feature = (numbers.uniform() * 32.0) as u16;
    let right = 1 << depth;
    tree.push(TreeNode::Split { feature, threshold: numbers.next(), missing_left: false, right });
    grow(numbers, depth - 1, tree);
    grow(numbers, depth - 1, tree);
}

fn facts(num_items: usize, max_candidates: u32, num_features: usize) -> Facts {
    Facts {
        rollback_index: None,
        name: "bench".to_owned(),
        version: 1,
        parent: None,
        recommender: "sequence".to_owned(),
        shapes: Shapes { dim: DIM as u32, num_features: num_features as u32, num_items: num_items as u32 },
        limits: Limits { max_candidates, max_limit: 100, max_session_len: MAX_LEN as u32 },
        policy: PolicyDefaults { category_cap: None, exclude_seen: false },
        telemetry: TelemetryConstants::default(),
        training: TrainingWindow {
            last_timestamp: 1_700_000_000,
            num_interactions: 1,
            num_users: 1,
            recipe_sha256: Sha256Hash::of(b"random weights"),
            seed: 1,
            split: "time".to_owned(),
            start_timestamp: 1_600_000_000,
            time: TimeKind::UnixSeconds,
        },
        quantisation: Quantisation {
            encoder_bits: 11,
            item_bits: 9,
            ndcg10_f32: 0.0,
            ndcg10_packed: 0.0,
            steps: Vec::new(),
        },
        metrics: BTreeMap::new(),
    }
}
