//! The slim runtime against tract, and against itself item by item.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use proptest::prelude::*;
use sanderling_core::onnx::{
    Block, FoldIn, LinearRanker, MlpRanker, Model, Norm, QuantisedLinear, Transformer, WeightBits,
};
use sanderling_core::{Bundle, Engine, Memory, Runtime, Scorer, SessionMemory, SlimRuntime};
use sanderling_tract::{FullRuntime, TractRuntime};
use sanderling_types::{
    Code, FileRole, ItemIndex, Manifest, Request, RuntimeKind, SessionInteraction, Sha256Hash, Shapes,
};

/// Numbers that look random, -1 to 1.
struct Numbers(u32);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / 8_388_608.0 - 1.0
    }

    fn vector(&mut self, len: usize, scale: f32) -> Vec<f32> {
        (0..len).map(|_| self.next() * scale).collect()
    }

    fn linear(&mut self, inputs: usize, outputs: usize, bits: WeightBits) -> QuantisedLinear {
        let weight = self.vector(inputs * outputs, 1.5 / (inputs as f32).sqrt());
        QuantisedLinear::quantise(&weight, self.vector(outputs, 0.2), bits)
    }

    fn norm(&mut self, dim: usize) -> Norm {
        Norm { gain: self.vector(dim, 1.0), bias: self.vector(dim, 0.3) }
    }

    fn transformer(&mut self, heads: usize, head_dim: usize, hidden: usize, layers: usize) -> Transformer {
        let (dim, max_len) = (heads * head_dim, 12);
        let mut block = |_| Block {
            norm1: self.norm(dim),
            query: self.linear(dim, dim, Block::ATTENTION_BITS),
            key: self.linear(dim, dim, Block::ATTENTION_BITS),
            value: self.linear(dim, dim, Block::ATTENTION_BITS),
            distance: self.vector(heads * max_len, 1.0),
            out: self.linear(dim, dim, Block::ATTENTION_BITS),
            norm2: self.norm(dim),
            up: self.linear(dim, hidden, Block::FEED_FORWARD_BITS),
            down: self.linear(hidden, dim, Block::FEED_FORWARD_BITS),
        };
        let blocks = (0..layers).map(&mut block).collect();
        Transformer { dim, heads, max_len, blocks, norm: self.norm(dim) }
    }

    fn fold_in(&mut self, dim: usize, steps: usize) -> FoldIn {
        let mut shrink = self.vector(dim * dim, 0.02);
        for row in 0..dim {
            for col in 0..row {
                shrink[row * dim + col] = shrink[col * dim + row];
            }
            shrink[row * dim + row] = 0.1 * dim as f32 * self.next().abs();
        }
        FoldIn { dim, shrink, steps }
    }

    fn mlp(&mut self, num_features: usize, sizes: &[usize]) -> MlpRanker {
        let mut inputs = num_features;
        let mut hidden = Vec::new();
        for &outputs in sizes {
            hidden.push((self.vector(inputs * outputs, 0.7), self.vector(outputs, 0.3)));
            inputs = outputs;
        }
        MlpRanker {
            hidden,
            last: self.vector(inputs, 1.0),
            direct: self.vector(num_features, 1.0),
            bias: self.next(),
        }
    }
}

fn shapes(dim: usize, num_features: usize) -> Shapes {
    Shapes { dim: dim as u32, num_features: num_features as u32, num_items: 1 }
}

fn slim(onnx: &[u8], role: FileRole, shapes: &Shapes) -> Box<dyn Scorer> {
    SlimRuntime.scorer(onnx, role, shapes, RuntimeKind::Slim).expect("is slim")
}

/// Both runtimes on the same input; slim rounds activations to 14 bits.
#[track_caller]
fn check_parity(onnx: &[u8], role: FileRole, shapes: &Shapes, input: &[f32], shape: &[usize]) {
    let found = slim(onnx, role, shapes).run(input, shape).expect("slim runs");
    let expected =
        TractRuntime.scorer(onnx, role, shapes, RuntimeKind::Full).expect("tract loads it").run(input, shape);
    let expected = expected.expect("tract runs");
    let largest = expected.iter().fold(1.0f32, |largest, x| largest.max(x.abs()));
    assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert!((found - expected).abs() < 1e-3 * largest, "value {at}: {found}, tract {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn transformers_give_what_tract_gives(
        seed: u32, heads in 1usize..4, head_dim in 4usize..12, hidden in 1usize..40, layers in 1usize..4, len in 1usize..=12,
    ) {
        let mut numbers = Numbers(seed);
        let model = numbers.transformer(heads, head_dim, hidden, layers);
        let input = numbers.vector(len * model.dim, 0.5);
        check_parity(&model.to_onnx(), FileRole::Encoder, &shapes(model.dim, 1), &input, &[1, len, model.dim]);
    }

    #[test]
    fn fold_ins_give_what_tract_gives(seed: u32, dim in 1usize..24, steps in 1usize..6, len in 1usize..12) {
        let mut numbers = Numbers(seed);
        let model = numbers.fold_in(dim, steps);
        let input = numbers.vector(len * dim, 0.5);
        check_parity(&model.to_onnx(), FileRole::Encoder, &shapes(dim, 1), &input, &[1, len, dim]);
    }

    #[test]
    fn rankers_give_what_tract_gives(
        seed: u32, num_features in 1usize..20, sizes in prop::collection::vec(1usize..20, 1..4), rows in 1usize..40,
    ) {
        let mut numbers = Numbers(seed);
        let input = numbers.vector(rows * num_features, 2.0);
        let mlp = numbers.mlp(num_features, &sizes).to_onnx();
        let linear = LinearRanker { weights: numbers.vector(num_features, 1.0), bias: numbers.next() }.to_onnx();
        for onnx in [mlp, linear] {
            check_parity(&onnx, FileRole::Ranker, &shapes(1, num_features), &input, &[rows, num_features]);
        }
    }

    #[test]
    fn item_by_item_is_at_once_to_the_bit(seed: u32, layers in 1usize..4, cut in 1usize..11) {
        let mut numbers = Numbers(seed);
        let model = numbers.transformer(2, 8, 24, layers);
        let (dim, len) = (model.dim, model.max_len);
        let encoder = slim(&model.to_onnx(), FileRole::Encoder, &shapes(dim, 1));
        let incremental = encoder.incremental().expect("takes items in one after the other");
        let input = numbers.vector(len * dim, 0.5);
        let mut memory = Memory::default();
        let mut at = 0;
        while at < len {
            let next = (at + cut).min(len);
            let found = incremental.append(&mut memory, &input[at * dim..next * dim]).unwrap();
            prop_assert_eq!(found, encoder.run(&input[..next * dim], &[1, next, dim]).unwrap());
            at = next;
        }
        let full = memory.clone();
        prop_assert_eq!(incremental.append(&mut memory, &input[..dim]).unwrap_err().code(), Code::InvalidArgument);
        prop_assert_eq!(memory, full, "what is refused changes nothing");
    }
}

#[test]
fn the_bundles_of_this_repository_are_slim() {
    for name in ["tests/golden/v1/bundle", "models/shop/1"] {
        let mut num_models = 0;
        let files = support::bundle_of(name);
        let manifest = Manifest::decode(files.get(Manifest::FILE_NAME).unwrap()).unwrap();
        for role in [FileRole::Encoder, FileRole::Ranker] {
            let Some(onnx) = manifest.files.get(&role).and_then(|entry| files.get(&entry.path)) else {
                continue;
            };
            // Trees have a file of their own, and this one beside it for other tools.
            if role == FileRole::Encoder || !manifest.files.contains_key(&FileRole::Trees) {
                assert_eq!(Model::read(onnx).expect("is slim").to_onnx(), onnx, "{name} {role:?}");
                num_models += 1;
            }
        }
        assert!(num_models > 0, "{name}");
        Engine::new(Bundle::open(files, None).unwrap(), &SlimRuntime).expect("loads");
    }
}

#[test]
fn a_changed_byte_is_refused_or_means_the_same_to_tract() {
    let mut numbers = Numbers(7);
    let model = numbers.transformer(2, 2, 3, 2);
    let onnx = model.to_onnx();
    let (shapes, len) = (shapes(model.dim, 1), 3);
    let input = numbers.vector(len * model.dim, 0.5);
    let mut num_read = 0;
    for at in (0..onnx.len()).step_by(7) {
        let mut changed = onnx.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(Model::read(&changed[..at]).is_none(), "cut at {at}");
        // On a device, where the manifest is believed, it is refused or runs.
        match SlimRuntime.scorer(&changed, FileRole::Encoder, &shapes, RuntimeKind::Slim) {
            Err(error) => assert_eq!(error.code(), Code::ModelNotSlim, "byte {at}"),
            Ok(found) => drop(found.run(&input, &[1, len, model.dim]).unwrap()),
        }
        match FullRuntime.scorer(&changed, FileRole::Encoder, &shapes, RuntimeKind::Slim) {
            Err(error) => assert_eq!(error.code(), Code::ModelInvalid, "byte {at}"),
            Ok(found) => {
                num_read += 1;
                let found = found.run(&input, &[1, len, model.dim]).unwrap();
                let tract = TractRuntime
                    .scorer(&changed, FileRole::Encoder, &shapes, RuntimeKind::Full)
                    .expect("is a model");
                let expected = tract.run(&input, &[1, len, model.dim]).unwrap();
                for (found, expected) in found.iter().zip(&expected) {
                    // A weight of 1e30 swamps whatever is rounded beside it, or overflows, which the engine tells.
                    let close = (found - expected).abs() < 1e-2 * expected.abs().max(1.0);
                    assert!(close || !found.is_finite(), "byte {at}: {found} {expected}");
                }
            }
        }
    }
    assert!(num_read > 50, "most bytes are weights: {num_read}");
}

/// Engines of earlier releases go by the name of a graph, so whoever changes what is written changes the name, and then the hash here.
#[test]
fn graphs_are_those_of_their_names() {
    let mut numbers = Numbers(13);
    let written = [
        numbers.transformer(2, 2, 3, 1).to_onnx(),
        numbers.transformer(2, 2, 3, 2).to_onnx(),
        numbers.fold_in(3, 2).to_onnx(),
        LinearRanker { weights: numbers.vector(3, 1.0), bias: 0.5 }.to_onnx(),
        numbers.mlp(3, &[4, 2]).to_onnx(),
    ];
    let hashes = written.map(|onnx| Sha256Hash::of(&onnx).to_string()[..16].to_owned());
    assert_eq!(
        hashes,
        ["86f66e032ce350dc", "408c2636d7ffa48f", "36afbab2a5cfc62b", "969f9d62f1e9b991", "64c085bbf21fdb5a"]
    );
}

#[test]
fn what_the_manifest_states_decides_where_a_model_runs() {
    let mut numbers = Numbers(11);
    let ours = numbers.mlp(5, &[4]).to_onnx();
    // A field that tools leave alone: the model is the same, the file is not.
    let same = [ours.as_slice(), &[0x22, 1, b'x']].concat();
    let code = |runtime: &dyn Runtime, onnx: &[u8], stated| {
        runtime.scorer(onnx, FileRole::Ranker, &shapes(8, 5), stated).err().map(|error| error.code())
    };
    let (slim, full) = (RuntimeKind::Slim, RuntimeKind::Full);
    assert_eq!([code(&SlimRuntime, &ours, slim), code(&SlimRuntime, &same, slim)], [None, None]);
    assert_eq!(code(&SlimRuntime, &ours, full), Some(Code::ModelNotSlim));
    assert_eq!([code(&FullRuntime, &ours, slim), code(&FullRuntime, &ours, full)], [None, None]);
    assert_eq!(
        [code(&FullRuntime, &same, slim), code(&FullRuntime, &same, full)],
        [Some(Code::ModelInvalid), None]
    );
}

#[test]
fn models_of_other_shapes_or_roles_are_refused() {
    let mut numbers = Numbers(3);
    let encoder = numbers.transformer(2, 4, 8, 1).to_onnx();
    let ranker = numbers.mlp(5, &[4]).to_onnx();
    let code = |onnx: &[u8], role, shapes| {
        SlimRuntime.scorer(onnx, role, &shapes, RuntimeKind::Slim).err().map(|e| e.code())
    };
    assert_eq!(code(&encoder, FileRole::Encoder, shapes(8, 1)), None);
    assert_eq!(code(&encoder, FileRole::Encoder, shapes(9, 1)), Some(Code::ModelNotSlim));
    assert_eq!(code(&encoder, FileRole::Ranker, shapes(8, 8)), Some(Code::ModelNotSlim));
    assert_eq!(code(&ranker, FileRole::Ranker, shapes(8, 5)), None);
    assert_eq!(code(&ranker, FileRole::Ranker, shapes(8, 6)), Some(Code::ModelNotSlim));
    assert_eq!(code(&ranker, FileRole::Encoder, shapes(5, 5)), Some(Code::ModelNotSlim));
    assert_eq!(code(b"", FileRole::Ranker, shapes(8, 5)), Some(Code::ModelNotSlim));
    let runs = slim(&encoder, FileRole::Encoder, &shapes(8, 1));
    for (input, shape) in
        [(vec![0.0; 8], vec![1, 2, 8]), (vec![], vec![1, 0, 8]), (vec![0.0; 13 * 8], vec![1, 13, 8])]
    {
        assert_eq!(runs.run(&input, &shape).unwrap_err().code(), Code::InvalidArgument, "{shape:?}");
    }
}

#[test]
fn a_remembered_session_gives_the_same_list() {
    let engine = || {
        Engine::new(Bundle::open(support::bundle_of("tests/golden/v1/bundle"), None).unwrap(), &SlimRuntime)
            .unwrap()
    };
    let (engine, other) = (engine(), engine());
    let max_len = engine.bundle().manifest().limits.max_session_len as usize;
    let num_items = engine.bundle().vocabulary().len();
    let item = |at: usize| engine.bundle().item_id(ItemIndex((at * 7 % num_items) as u32)).unwrap().into();
    let request = |items: Vec<usize>| Request {
        session: items
            .into_iter()
            .map(|at| SessionInteraction { item_id: item(at), kind: "view".to_owned(), timestamp: 0 })
            .collect(),
        limit: 10,
        ..Request::default()
    };
    let mut memory = SessionMemory::default();
    // Longer and longer until the oldest items fall out, then shorter, empty, and another one.
    let growing = (1..max_len + 3).map(|len| (0..len).collect::<Vec<usize>>());
    let others = [vec![0, 1], vec![], vec![0, 1, 2], vec![5, 1, 2], vec![5, 1, 2]];
    for session in growing.chain(others) {
        let request = request(session);
        let remembered = engine.recommend_remembering(&request, &mut memory);
        assert_eq!(remembered, other.recommend(&request), "{} items", request.session.len());
    }
}
