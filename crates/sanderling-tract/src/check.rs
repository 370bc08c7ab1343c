//! The second look at an ONNX model: what it may contain, before tract sees the graph.

use std::collections::BTreeSet;

use sanderling_types::{Code, Error, Result};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::bounds::{self, Problem};

const MAX_NODES: usize = 4096;
const MAX_INITIALIZERS: usize = 4096;
const MAX_RANK: usize = 8;
const MAX_ATTRIBUTES: usize = 16;

/// An allowed operator with its least and most inputs. Each gives one output but `Split`.
pub(super) struct Operator {
    name: &'static str,
    min_inputs: usize,
    max_inputs: usize,
}

const fn op(name: &'static str, min_inputs: usize, max_inputs: usize) -> Operator {
    Operator { name, min_inputs, max_inputs }
}

/// Deterministic operators without sub-graphs whose output size [`bounds`] can bound.
pub(super) const OPERATORS: &[Operator] = &[
    op("Abs", 1, 1),
    op("Add", 2, 2),
    op("Cast", 1, 1),
    op("Clip", 1, 3),
    op("Concat", 1, 64),
    op("Constant", 0, 0),
    op("ConstantOfShape", 1, 1),
    op("Div", 2, 2),
    op("Equal", 2, 2),
    op("Erf", 1, 1),
    op("Exp", 1, 1),
    op("Expand", 2, 2),
    op("Flatten", 1, 1),
    op("Gather", 2, 2),
    op("Gelu", 1, 1),
    op("Gemm", 2, 3),
    op("Greater", 2, 2),
    op("Identity", 1, 1),
    op("LayerNormalization", 2, 3),
    op("LeakyRelu", 1, 1),
    op("Less", 2, 2),
    op("Log", 1, 1),
    op("MatMul", 2, 2),
    op("Max", 2, 2),
    op("Min", 2, 2),
    op("Mul", 2, 2),
    op("Neg", 1, 1),
    op("Pow", 2, 2),
    op("ReduceMax", 1, 2),
    op("ReduceMean", 1, 2),
    op("ReduceSum", 1, 2),
    op("Relu", 1, 1),
    op("Reshape", 2, 2),
    op("Shape", 1, 1),
    op("Sigmoid", 1, 1),
    op("Slice", 3, 5),
    op("Softmax", 1, 1),
    op("Split", 1, 2),
    op("Sqrt", 1, 1),
    op("Squeeze", 1, 2),
    op("Sub", 2, 2),
    op("Tanh", 1, 1),
    op("Tile", 2, 2),
    op("Transpose", 1, 1),
    op("Trilu", 1, 2),
    op("Unsqueeze", 1, 2),
    op("Where", 3, 3),
];

/// Checks a decoded model: one input, one output, allowed operators, names that are defined before
/// they are used, tensors whose payload is what their dimensions say, bounded results, and indices
/// that stay in their tensors.
///
/// # Errors
/// [`Code::ModelInvalid`], or [`Code::LimitExceeded`] for a graph that could take too much memory.
pub(super) fn check_model(model: &ModelProto, what: &str, input_shape: &[u64]) -> Result<()> {
    let invalid = |message: String| Error::new(Code::ModelInvalid, format!("{what} {message}"));
    let graph = model.graph.as_ref().ok_or_else(|| invalid("has no graph".to_owned()))?;
    let opset =
        model.opset_import.iter().find(|import| is_onnx_domain(&import.domain)).map(|import| import.version);
    if !opset.is_some_and(|version| (13..=18).contains(&version)) {
        return Err(invalid("uses another operator set".to_owned())
            .expected("13 to 18")
            .found(format!("{opset:?}")));
    }
    if graph.node.len() > MAX_NODES || graph.initializer.len() > MAX_INITIALIZERS {
        return Err(Error::new(Code::LimitExceeded, format!("{what} has too many parts"))
            .expected(format!("at most {MAX_NODES} nodes and {MAX_INITIALIZERS} initializers"))
            .found(format!("{} and {}", graph.node.len(), graph.initializer.len())));
    }
    for tensor in &graph.initializer {
        check_tensor(tensor).map_err(&invalid)?;
    }
    let input = check_names(graph).map_err(&invalid)?;
    for node in &graph.node {
        check_node(node).map_err(&invalid)?;
    }
    bounds::check_bounds(graph, input, input_shape).map_err(|problem| match problem {
        Problem::TooLarge(message) => Error::new(Code::LimitExceeded, format!("{what} {message}"))
            .hint("shapes of intermediate results must follow from constants and from the input"),
        Problem::OutOfRange(message) => invalid(message)
            .hint("axes must be constants, and indices must stay in their tensor whatever the length is"),
    })
}

fn is_onnx_domain(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

/// Gives the name of the only input.
fn check_names(graph: &GraphProto) -> Result<&str, String> {
    let mut defined = BTreeSet::new();
    for tensor in &graph.initializer {
        define(&mut defined, &tensor.name)?;
    }
    let mut inputs = graph.input.iter().filter(|input| !defined.contains(input.name.as_str()));
    let (Some(input), None, [output]) = (inputs.next(), inputs.next(), graph.output.as_slice()) else {
        return Err("does not have exactly one input and one output".to_owned());
    };
    define(&mut defined, &input.name)?;
    for node in &graph.node {
        if let Some(name) =
            node.input.iter().find(|name| !name.is_empty() && !defined.contains(name.as_str()))
        {
            return Err(format!("uses {name:?} before it is defined"));
        }
        for name in &node.output {
            define(&mut defined, name)?;
        }
    }
    let computed = graph.node.iter().any(|node| node.output.contains(&output.name));
    if !computed {
        return Err(format!("does not compute its output {:?}", output.name));
    }
    let typed = graph
        .input
        .iter()
        .chain([output])
        .all(|value| value.r#type.as_ref().is_some_and(|value_type| value_type.value.is_some()));
    if !typed {
        return Err("has an input or output without a tensor type".to_owned());
    }
    Ok(&input.name)
}

fn define<'a>(defined: &mut BTreeSet<&'a str>, name: &'a str) -> Result<(), String> {
    if name.is_empty() || !defined.insert(name) {
        return Err(format!("defines the name {name:?} twice or not at all"));
    }
    Ok(())
}

fn check_node(node: &NodeProto) -> Result<(), String> {
    let name = node.op_type.as_str();
    let allowed = OPERATORS.iter().find(|operator| operator.name == name);
    let Some(operator) = allowed.filter(|_| is_onnx_domain(&node.domain)) else {
        return Err(format!(
            "uses the operator {:?}, which is not allowed",
            format!("{}{name}", node.domain)
        ));
    };
    let num_inputs = node.input.len();
    let named = node.input.iter().take(operator.min_inputs).all(|input| !input.is_empty());
    let num_outputs_ok = node.output.len() == 1 || (name == "Split" && (1..=64).contains(&node.output.len()));
    if !(operator.min_inputs..=operator.max_inputs).contains(&num_inputs) || !named || !num_outputs_ok {
        return Err(format!("has a node {name} with a wrong number of inputs or outputs"));
    }
    if node.attribute.len() > MAX_ATTRIBUTES {
        return Err(format!("has a node {name} with too many attributes"));
    }
    for attribute in &node.attribute {
        if attribute.ints.len() > 64 || attribute.floats.len() > 64 || !attribute.tensors.is_empty() {
            return Err(format!("has a node {name} with an attribute that is too large"));
        }
        attribute.t.as_ref().map_or(Ok(()), check_tensor)?;
    }
    Ok(())
}

/// The number of elements of a tensor whose payload has exactly that many.
fn check_tensor(tensor: &TensorProto) -> Result<(), String> {
    const FLOAT: i32 = 1;
    const INT8: i32 = 3;
    const INT16: i32 = 5;
    const INT32: i32 = 6;
    const INT64: i32 = 7;
    const BOOL: i32 = 9;
    let problem = |text: &str| format!("has a tensor {:?} {text}", tensor.name);
    if tensor.data_location.is_some_and(|location| location != 0) || !tensor.external_data.is_empty() {
        return Err(problem("outside of the file"));
    }
    if tensor.segment.is_some() || !tensor.string_data.is_empty() || tensor.dims.len() > MAX_RANK {
        return Err(problem("of a form that is not allowed"));
    }
    let dims = || tensor.dims.iter().map(|dim| u64::try_from(*dim).ok());
    let num_elements = dims().try_fold(1u64, |product, dim| product.checked_mul(dim?));
    let num_elements = num_elements.ok_or_else(|| problem("with bad dimensions"))?;
    let (width, typed_len) = match tensor.data_type {
        FLOAT => (4, tensor.float_data.len()),
        INT32 => (4, tensor.int32_data.len()),
        INT64 => (8, tensor.int64_data.len()),
        INT8 | BOOL => (1, tensor.int32_data.len()),
        INT16 => (2, tensor.int32_data.len()),
        _ => return Err(problem("of a type that is not allowed")),
    };
    let payload = if tensor.raw_data.is_empty() {
        Some(typed_len as u64)
    } else {
        let raw_bytes = tensor.raw_data.len() as u64;
        raw_bytes.is_multiple_of(width).then_some(raw_bytes / width)
    };
    if payload != Some(num_elements) {
        return Err(problem("whose payload disagrees with its dimensions"));
    }
    Ok(())
}
