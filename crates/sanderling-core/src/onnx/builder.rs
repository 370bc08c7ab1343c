//! A small builder for ONNX graphs: every method adds a node and names its output.

use sanderling_kernels::{WeightBits, columns};

use super::QuantisedMatrix;
use super::message::Message;

/// Opset of every written model: the first with `LayerNormalization`.
const OPSET: i64 = 17;
/// Version of the operators of classical machine learning, the only other domain in use.
const ML_OPSET: i64 = 3;
const IR_VERSION: i64 = 8;
/// Tensor types of the ONNX schema.
pub(super) const FLOAT: i64 = 1;
pub(super) const INT8: i64 = 3;
pub(super) const INT16: i64 = 5;
pub(super) const INT64: i64 = 7;

/// A dimension of an input or output.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dim<'a> {
    Fixed(usize),
    Symbol(&'a str),
}

/// Name of a value in the graph.
pub(super) type Value = String;

/// An attribute of a node.
#[derive(Debug)]
pub(super) struct Attribute(Message);

impl Attribute {
    fn named(name: &str) -> Message {
        Message::default().text(1, name)
    }

    pub(super) fn float(name: &str, value: f32) -> Self {
        Self(Self::named(name).float(2, value).int(20, 1))
    }

    pub(super) fn int(name: &str, value: i64) -> Self {
        Self(Self::named(name).int(3, value).int(20, 2))
    }

    pub(super) fn string(name: &str, value: &str) -> Self {
        Self(Self::named(name).text(4, value).int(20, 3))
    }

    pub(super) fn floats(name: &str, values: &[f32]) -> Self {
        Self(Self::named(name).packed_floats(7, values).int(20, 6))
    }

    pub(super) fn ints(name: &str, values: &[i64]) -> Self {
        Self(Self::named(name).packed_ints(8, values).int(20, 7))
    }

    pub(super) fn strings(name: &str, values: &[&str]) -> Self {
        Self(Self::named(name).texts(9, values.iter().copied()).int(20, 8))
    }
}

#[derive(Debug)]
struct Node {
    inputs: Vec<Value>,
    output: Value,
    name: String,
    op_type: String,
    attributes: Vec<Attribute>,
    domain: String,
}

impl Node {
    fn message(&self) -> Message {
        Message::default()
            .texts(1, self.inputs.iter().map(String::as_str))
            .texts(2, [self.output.as_str()])
            .text(3, &self.name)
            .text(4, &self.op_type)
            .messages(5, self.attributes.iter().map(|attribute| &attribute.0))
            .text(7, &self.domain)
    }
}

#[derive(Debug)]
pub(super) struct Builder {
    name: String,
    nodes: Vec<Node>,
    inputs: Vec<Message>,
    constants: Vec<(Value, Message)>,
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), nodes: Vec::new(), inputs: Vec::new(), constants: Vec::new() }
    }

    pub(super) fn input(&mut self, name: &str, dims: &[Dim<'_>]) -> Value {
        self.inputs.push(value_info(name, dims));
        name.to_owned()
    }

    /// A float constant, row-major.
    pub(super) fn floats(&mut self, name: &str, dims: &[usize], data: &[f32]) -> Value {
        debug_assert_eq!(dims.iter().product::<usize>(), data.len());
        self.constant(name, dims, FLOAT, || columns::bytes_of_f32s(data))
    }

    /// A vector of integers.
    pub(super) fn ints(&mut self, name: &str, data: &[i64]) -> Value {
        self.constant(name, &[data.len()], INT64, || data.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A matrix, of which the runtime computes the floats while it loads.
    pub(super) fn matrix(&mut self, name: &str, matrix: &QuantisedMatrix) -> Value {
        let dims = [matrix.rows, matrix.cols];
        let integers = match matrix.bits {
            WeightBits::Eight => self.constant(name, &dims, INT8, || columns::bytes_of_i8s(&matrix.integers)),
            WeightBits::Eleven => {
                self.constant(name, &dims, INT16, || columns::bytes_of_i16s(&matrix.integers))
            }
        };
        let scales = self.floats(&format!("{name}_scale"), &[1, matrix.cols], &matrix.scales);
        let whole = self.node("Cast", &[&integers], vec![Attribute::int("to", FLOAT)]);
        self.node("Mul", &[&whole, &scales], vec![])
    }

    /// A constant of a name that is there already is that one.
    fn constant(
        &mut self,
        name: &str,
        dims: &[usize],
        data_type: i64,
        raw: impl FnOnce() -> Vec<u8>,
    ) -> Value {
        if !self.constants.iter().any(|(known, _)| known == name) {
            let dims = dims.iter().map(|&dim| dim as i64);
            let tensor = Message::default().ints(1, dims).int(2, data_type).text(8, name).bytes(9, &raw());
            self.constants.push((name.to_owned(), tensor));
        }
        name.to_owned()
    }

    pub(super) fn node(&mut self, op_type: &str, inputs: &[&str], attributes: Vec<Attribute>) -> Value {
        self.node_in("", op_type, inputs, attributes)
    }

    /// A node of another domain than ONNX itself.
    pub(super) fn node_in(
        &mut self,
        domain: &str,
        op_type: &str,
        inputs: &[&str],
        attributes: Vec<Attribute>,
    ) -> Value {
        let name = format!("{}_{}", op_type.to_ascii_lowercase(), self.nodes.len());
        self.nodes.push(Node {
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: name.clone(),
            name: name.clone(),
            op_type: op_type.to_owned(),
            attributes,
            domain: domain.to_owned(),
        });
        name
    }

    /// Ends the graph: `value` becomes the output `name`. Returns the encoded model.
    pub(super) fn finish(mut self, value: &str, name: &str, dims: &[Dim<'_>]) -> Vec<u8> {
        for node in &mut self.nodes {
            for end in std::iter::once(&mut node.output).chain(&mut node.inputs) {
                if end == value {
                    name.clone_into(end);
                }
            }
        }
        let nodes: Vec<Message> = self.nodes.iter().map(Node::message).collect();
        let graph = Message::default()
            .messages(1, &nodes)
            .text(2, &self.name)
            .messages(5, self.constants.iter().map(|(_, tensor)| tensor))
            .messages(11, &self.inputs)
            .message(12, &value_info(name, dims));
        let mut opsets = vec![Message::default().int(2, OPSET)];
        if let Some(node) = self.nodes.iter().find(|node| !node.domain.is_empty()) {
            opsets.push(Message::default().text(1, &node.domain).int(2, ML_OPSET));
        }
        Message::default()
            .int(1, IR_VERSION)
            .text(2, "sanderling")
            .message(7, &graph)
            .messages(8, &opsets)
            .into_bytes()
    }
}

fn value_info(name: &str, dims: &[Dim<'_>]) -> Message {
    let dims: Vec<Message> = dims
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(size) => Message::default().ints(1, [*size as i64]),
            Dim::Symbol(symbol) => Message::default().texts(2, [*symbol]),
        })
        .collect();
    let shape = Message::default().messages(1, &dims);
    let tensor_type = Message::default().int(1, FLOAT).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor_type))
}
