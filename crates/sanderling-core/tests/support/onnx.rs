//! ONNX models of a few hundred bytes, written field by field.

use prost::Message;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as Extent};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};

pub const FLOAT: i32 = 1;
pub const INT64: i32 = 7;

pub fn node(op_type: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op_type.to_owned(),
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        name: output.to_owned(),
        ..NodeProto::default()
    }
}

pub fn with_int(mut node: NodeProto, name: &str, value: i64) -> NodeProto {
    const INT: i32 = 2;
    node.attribute.push(AttributeProto {
        name: name.to_owned(),
        i: value,
        r#type: INT,
        ..AttributeProto::default()
    });
    node
}

pub fn with_ints(mut node: NodeProto, name: &str, values: &[i64]) -> NodeProto {
    const INTS: i32 = 7;
    node.attribute.push(AttributeProto {
        name: name.to_owned(),
        ints: values.to_vec(),
        r#type: INTS,
        ..AttributeProto::default()
    });
    node
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: FLOAT,
        dims: dims.to_vec(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

pub fn integers(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type: INT64,
        dims: vec![values.len() as i64],
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// A value of f32; `Err` names a symbolic extent.
pub fn value(name: &str, shape: &[Result<i64, &str>]) -> ValueInfoProto {
    let dim = shape
        .iter()
        .map(|extent| Dimension {
            value: Some(match extent {
                Ok(extent) => Extent::DimValue(*extent),
                Err(symbol) => Extent::DimParam((*symbol).to_owned()),
            }),
            ..Dimension::default()
        })
        .collect();
    let tensor = type_proto::Tensor { elem_type: FLOAT, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

pub fn model(
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    input: ValueInfoProto,
    output: ValueInfoProto,
) -> ModelProto {
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
        graph: Some(GraphProto {
            name: "test".to_owned(),
            node: nodes,
            initializer: initializers,
            input: vec![input],
            output: vec![output],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

/// `query[0, :] = x[0, -1, :]`, with a position table in between that adds nothing: the shape
/// arithmetic of the encoders that the trainer writes.
pub fn last_row_encoder_model(dim: usize) -> ModelProto {
    let dim = dim as i64;
    let nodes = vec![
        node("Shape", &["x"], "shape"),
        with_int(node("Gather", &["shape", "one"], "len"), "axis", 0),
        node("Neg", &["len"], "start"),
        node("Slice", &["positions", "start", "end", "zero"], "position"),
        node("Add", &["x", "position"], "sum"),
        node("Slice", &["sum", "last", "end", "one"], "last_row"),
        node("Reshape", &["last_row", "flat"], "query"),
    ];
    let initializers = vec![
        integers("zero", &[0]),
        integers("one", &[1]),
        integers("last", &[-1]),
        integers("end", &[i64::from(i32::MAX)]),
        integers("flat", &[1, dim]),
        floats("positions", &[16, dim], &vec![0.0; 16 * dim as usize]),
    ];
    model(nodes, initializers, value("x", &[Ok(1), Err("len"), Ok(dim)]), value("query", &[Ok(1), Ok(dim)]))
}

pub fn last_row_encoder(dim: usize) -> Vec<u8> {
    last_row_encoder_model(dim).encode_to_vec()
}

/// `scores[i, 0] = features[i, 0]`, as a linear layer.
pub fn first_column_ranker_model(num_features: usize) -> ModelProto {
    let mut weights = vec![0.0; num_features];
    weights[0] = 1.0;
    let nodes = vec![
        node("MatMul", &["features", "weights"], "product"),
        node("Add", &["product", "bias"], "scores"),
    ];
    let initializers =
        vec![floats("weights", &[num_features as i64, 1], &weights), floats("bias", &[1], &[0.0])];
    let input = value("features", &[Err("num_candidates"), Ok(num_features as i64)]);
    model(nodes, initializers, input, value("scores", &[Err("num_candidates"), Ok(1)]))
}

pub fn first_column_ranker(num_features: usize) -> Vec<u8> {
    first_column_ranker_model(num_features).encode_to_vec()
}
