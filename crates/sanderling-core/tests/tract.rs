//! The tract runtime: good models run at every length, bad ones are refused before they cost anything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use prost::Message;
use sanderling_core::{Bundle, Engine, Runtime, Scorer};
use sanderling_tract::TractRuntime;
use sanderling_types::{Code, FileRole, ItemIndex, Result, RuntimeKind, Shapes};
use support::onnx::{
    first_column_ranker_model, floats, integers, last_row_encoder, last_row_encoder_model, model, node,
    value, with_int, with_ints,
};
use support::{Fixture, request};
use tract_onnx::pb::{ModelProto, NodeProto, StringStringEntryProto, TensorProto};

const SHAPES: Shapes = Shapes { dim: 4, num_features: 3, num_items: 6 };

fn load(model: &ModelProto, role: FileRole) -> Result<Box<dyn Scorer>> {
    TractRuntime.scorer(&model.encode_to_vec(), role, &SHAPES, RuntimeKind::Full)
}

fn encoder_code(change: impl Fn(&mut ModelProto)) -> Code {
    let mut model = last_row_encoder_model(4);
    change(&mut model);
    load(&model, FileRole::Encoder).err().expect("the model is refused").code()
}

#[test]
fn one_plan_runs_every_length() {
    let encoder = load(&last_row_encoder_model(4), FileRole::Encoder).unwrap();
    for len in 1..=16 {
        let input: Vec<f32> = (0..len * 4).map(|i| i as f32).collect();
        assert_eq!(encoder.run(&input, &[1, len, 4]).unwrap(), input[input.len() - 4..]);
    }
    let ranker = load(&first_column_ranker_model(3), FileRole::Ranker).unwrap();
    for num_candidates in [1, 2, 7, 200] {
        let input: Vec<f32> = (0..num_candidates * 3).map(|i| i as f32).collect();
        let expected: Vec<f32> = (0..num_candidates).map(|i| (i * 3) as f32).collect();
        assert_eq!(ranker.run(&input, &[num_candidates, 3]).unwrap(), expected);
    }
}

#[test]
fn inputs_of_another_shape_are_refused() {
    let encoder = load(&last_row_encoder_model(4), FileRole::Encoder).unwrap();
    for (num_elements, shape) in
        [(4, vec![1, 1, 5]), (4, vec![2, 1, 4]), (4, vec![1, 4]), (0, vec![1, 0, 4]), (5, vec![1, 1, 4])]
    {
        let error = encoder.run(&vec![0.0; num_elements], &shape).unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{shape:?}");
    }
    let error = encoder.run(&vec![0.0; 2000 * 4], &[1, 2000, 4]).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "longer than any session");
}

#[test]
fn the_engine_runs_the_models_of_a_bundle() {
    let engine = Engine::new(Bundle::open(Fixture::new().files(), None).unwrap(), &TractRuntime).unwrap();
    let mut newest = [0.0; 4];
    engine.bundle().items().row_into(ItemIndex(0), &mut newest);
    assert_eq!(engine.encode(&[ItemIndex(2), ItemIndex(0)]).unwrap(), newest);
    let outcome = engine.recommend(&request(&["boot"], 2));
    assert_eq!(outcome.response.faults, []);
    assert_eq!(outcome.response.recommendations[0].item_id.as_str(), "clog");
    let expected = Fixture::new().engine().recommend(&request(&["boot"], 2));
    assert_eq!(outcome.response, expected.response, "tract and the fake compute the same");
}

#[test]
fn every_byte_flip_and_truncation_is_survived() {
    let good = last_row_encoder(4);
    for len in 0..good.len() {
        let outcome = TractRuntime.scorer(&good[..len], FileRole::Encoder, &SHAPES, RuntimeKind::Full);
        assert!(outcome.is_err(), "cut to {len}");
    }
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        if let Ok(scorer) = TractRuntime.scorer(&changed, FileRole::Encoder, &SHAPES, RuntimeKind::Full) {
            let _ = scorer.run(&[0.0; 8], &[1, 2, 4]);
        }
    }
}

#[test]
fn graphs_that_are_not_allowed_are_refused() {
    fn nodes(model: &mut ModelProto) -> &mut Vec<NodeProto> {
        &mut model.graph.as_mut().unwrap().node
    }
    fn tensors(model: &mut ModelProto) -> &mut Vec<TensorProto> {
        &mut model.graph.as_mut().unwrap().initializer
    }
    let invalid = Code::ModelInvalid;
    assert_eq!(encoder_code(|m| m.graph = None), invalid, "no graph");
    assert_eq!(encoder_code(|m| m.opset_import.clear()), invalid, "no operator set");
    assert_eq!(encoder_code(|m| m.opset_import[0].version = 99), invalid, "future operator set");
    assert_eq!(encoder_code(|m| nodes(m)[4].op_type = "RandomNormal".to_owned()), invalid, "random operator");
    assert_eq!(encoder_code(|m| nodes(m)[4].op_type = "Loop".to_owned()), invalid, "control flow");
    assert_eq!(encoder_code(|m| nodes(m)[4].domain = "com.example".to_owned()), invalid, "foreign domain");
    assert_eq!(encoder_code(|m| nodes(m).swap(0, 1)), invalid, "used before defined");
    assert_eq!(encoder_code(|m| nodes(m)[4].input[0] = "nothing".to_owned()), invalid, "dangling input");
    assert_eq!(encoder_code(|m| nodes(m)[4].input.truncate(1)), invalid, "too few inputs");
    assert_eq!(encoder_code(|m| nodes(m)[6].output[0] = "sum".to_owned()), invalid, "defined twice");
    assert_eq!(
        encoder_code(|m| m.graph.as_mut().unwrap().output[0].name = "no".to_owned()),
        invalid,
        "no output"
    );
    assert_eq!(encoder_code(|m| m.graph.as_mut().unwrap().output.clear()), invalid, "zero outputs");
    assert_eq!(
        encoder_code(|m| {
            m.graph.as_mut().unwrap().input.push(value("second", &[Ok(1)]));
        }),
        invalid,
        "two inputs"
    );
    assert_eq!(encoder_code(|m| tensors(m)[5].dims = vec![1 << 40, 1 << 40]), invalid, "overflowing dims");
    assert_eq!(encoder_code(|m| tensors(m)[5].dims = vec![17, 4]), invalid, "payload too short");
    assert_eq!(encoder_code(|m| tensors(m)[5].dims = vec![-16, -4]), invalid, "negative dims");
    assert_eq!(encoder_code(|m| tensors(m)[5].data_type = 8), invalid, "strings");
    assert_eq!(
        encoder_code(|m| {
            let entry =
                StringStringEntryProto { key: "location".to_owned(), value: "/etc/passwd".to_owned() };
            tensors(m)[5].external_data.push(entry);
        }),
        invalid,
        "external data"
    );
}

#[test]
fn shapes_of_another_bundle_are_refused() {
    for (dim, role) in [(5, FileRole::Encoder), (4, FileRole::Ranker)] {
        let error = load(&last_row_encoder_model(dim), role).err().unwrap();
        assert_eq!(error.code(), Code::ModelInvalid);
    }
    assert_eq!(
        load(&first_column_ranker_model(2), FileRole::Ranker).err().unwrap().code(),
        Code::ModelInvalid
    );
    assert_eq!(
        load(&first_column_ranker_model(3), FileRole::Items).err().unwrap().code(),
        Code::InvalidArgument
    );
    let fixed = |m: &mut ModelProto| {
        m.graph.as_mut().unwrap().input[0] = value("x", &[Ok(1), Ok(5), Ok(4)]);
    };
    assert_eq!(encoder_code(fixed), Code::ModelInvalid, "a fixed length");
}

#[test]
fn small_tensors_cannot_be_blown_up() {
    let input = || value("features", &[Err("num_candidates"), Ok(3)]);
    let output = || value("scores", &[Err("num_candidates"), Ok(1)]);
    let refused = |nodes: Vec<NodeProto>, tensors: Vec<TensorProto>| {
        let mut nodes = nodes;
        nodes.push(node("ReduceSum", &["features", "one"], "scores"));
        let mut tensors = tensors;
        tensors.push(integers("one", &[1]));
        load(&model(nodes, tensors, input(), output()), FileRole::Ranker).err().map(|error| error.code())
    };
    assert_eq!(refused(vec![], vec![]), None, "the frame of these graphs is good");
    let limit = Some(Code::LimitExceeded);
    let huge = integers("huge", &[1 << 20, 1 << 20]);
    assert_eq!(refused(vec![node("ConstantOfShape", &["huge"], "big")], vec![huge.clone()]), limit);
    let seed = floats("seed", &[1, 1], &[1.0]);
    assert_eq!(
        refused(vec![node("Expand", &["seed", "huge"], "big")], vec![huge.clone(), seed.clone()]),
        limit
    );
    assert_eq!(refused(vec![node("Tile", &["seed", "huge"], "big")], vec![huge, seed]), limit);
    let wide = floats("wide", &[1, 10_000], &vec![1.0; 10_000]);
    let outer = vec![node("Transpose", &["wide"], "tall"), node("MatMul", &["tall", "wide"], "big")];
    assert_eq!(refused(outer, vec![wide.clone()]), limit, "outer product");
    let sum = vec![node("Transpose", &["wide"], "tall"), node("Add", &["tall", "wide"], "big")];
    assert_eq!(refused(sum, vec![wide]), limit, "broadcast");
    let mut doubling = vec![with_int(node("Concat", &["features", "features"], "d0"), "axis", 0)];
    for step in 1..20 {
        let (from, to) = (format!("d{}", step - 1), format!("d{step}"));
        doubling.push(with_int(node("Concat", &[&from, &from], &to), "axis", 0));
    }
    assert_eq!(refused(doubling, vec![]), limit, "doubling");
    let computed = vec![node("Shape", &["features"], "shape"), node("ConstantOfShape", &["shape"], "big")];
    assert_eq!(refused(computed, vec![]), limit, "a shape that does not follow from constants");
}

#[test]
fn indices_and_axes_stay_in_their_tensors() {
    let code = |nodes: Vec<NodeProto>, tensors: Vec<TensorProto>| {
        let input = value("features", &[Err("num_candidates"), Ok(3)]);
        let output = value("scores", &[Err("num_candidates"), Ok(1)]);
        let nodes = [nodes, vec![node("ReduceSum", &["features", "one"], "scores")]].concat();
        let tensors = [tensors, vec![integers("one", &[1])]].concat();
        load(&model(nodes, tensors, input, output), FileRole::Ranker).err().map(|error| error.code())
    };
    let gather = |from: &str, axis: i64| with_int(node("Gather", &[from, "at"], "picked"), "axis", axis);
    let table = || floats("table", &[6, 1], &[0.0; 6]);
    let invalid = Some(Code::ModelInvalid);
    for (index, expected) in [(5, None), (-6, None), (6, invalid), (-7, invalid)] {
        let picked = code(vec![gather("table", 0)], vec![table(), integers("at", &[index])]);
        assert_eq!(picked, expected, "row {index} of 6");
    }
    for (index, axis, expected) in [(0, 0, None), (-1, 0, None), (1, 0, invalid), (2, 1, invalid)] {
        let picked = code(vec![gather("features", axis)], vec![integers("at", &[index])]);
        assert_eq!(picked, expected, "candidate {index}: there may be a single one");
    }
    let computed = |change: &str, by: i64| {
        let nodes = vec![
            node("Shape", &["features"], "shape"),
            node(change, &["shape", "by"], "at"),
            gather("long", 0),
        ];
        code(nodes, vec![floats("long", &[10_500], &[0.0; 10_500]), integers("by", &[by])])
    };
    assert_eq!(computed("Add", 499), None, "at most 10,000 candidates and 499");
    assert_eq!(computed("Add", 500), invalid, "may be one outside");
    assert_eq!(computed("Mul", i64::MAX), invalid, "may overflow");
    assert_eq!(computed("Div", 0), invalid, "divides by zero");
    assert_eq!(computed("Div", 2), None, "half of it");
    let with_perm = |perm: &[i64]| {
        code(vec![with_ints(node("Transpose", &["table"], "turned"), "perm", perm)], vec![table()])
    };
    assert_eq!(with_perm(&[1, 0]), None);
    assert_eq!(with_perm(&[1, 1]), invalid, "an axis twice");
    assert_eq!(with_perm(&[0]), invalid, "an axis left out");
    let softmax =
        |axis| code(vec![with_int(node("Softmax", &["table"], "soft"), "axis", axis)], vec![table()]);
    assert_eq!((softmax(1), softmax(2)), (None, invalid));
}

#[test]
fn files_that_are_costly_to_decode_are_refused() {
    let code = |bytes: &[u8]| {
        TractRuntime.scorer(bytes, FileRole::Encoder, &SHAPES, RuntimeKind::Full).err().unwrap().code()
    };
    assert_eq!(code(&vec![0; (32 << 20) + 1]), Code::LimitExceeded);
    // A graph of a million empty nodes, two bytes each.
    let nodes = [0x0a, 0x00].repeat(1_000_000);
    let mut bomb = vec![0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut bomb);
    bomb.extend(nodes);
    assert_eq!(code(&bomb), Code::LimitExceeded);
    assert_eq!(code(b""), Code::ModelInvalid);
    assert_eq!(code(b"not an onnx file"), Code::ModelInvalid);
    assert_eq!(code(&[0xff; 64]), Code::ModelInvalid);
}
