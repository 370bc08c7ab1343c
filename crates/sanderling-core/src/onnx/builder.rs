//! A small builder for ONNX graphs: every method adds a node and names its output.

use sanderling_kernels::{WeightBits, columns};

use super::QuantisedMatrix;
use super::message::Message;

/// Opset of every written model: the first with `LayerNormalization`.
const OPSET: i64 = 17;
/// Version of the operators of classical machine learning, the only other domain in use.
const ML_OPSET: i64 = 3;
const IR_VERSION: i64 = 8;
/// Who wrote a model.
pub(super) const PRODUCER: &str = "sanderling";
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
        Self(Self::named(name).texts(9, values).int(20, 8))
    }
}

#[derive(Debug)]
pub(super) struct Builder {
    name: String,
    num_nodes: usize,
    /// Of the nodes that are of another domain than ONNX itself.
    domain: String,
    /// The graph's fields of nodes, of constants and of inputs, so far.
    nodes: Message,
    constants: Message,
    inputs: Message,
    /// Names of constants.
    known: Vec<Value>,
}

impl Builder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            num_nodes: 0,
            domain: String::new(),
            nodes: Message::default(),
            constants: Message::default(),
            inputs: Message::default(),
            known: Vec::new(),
        }
    }

    pub(super) fn input(&mut self, name: &str, dims: &[Dim<'_>]) -> Value {
        self.inputs.put_message(11, &value_info(name, dims));
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
        let whole = self.node("Cast", &[&integers], &[Attribute::int("to", FLOAT)]);
        self.node("Mul", &[&whole, &scales], &[])
    }

    /// A constant of a name that is there already is that one.
    fn constant(
        &mut self,
        name: &str,
        dims: &[usize],
        data_type: i64,
        raw: impl FnOnce() -> Vec<u8>,
    ) -> Value {
        if !self.known.iter().any(|known| known == name) {
            let dims = dims.iter().map(|&dim| dim as i64);
            let tensor = Message::default().ints(1, dims).int(2, data_type).text(8, name).bytes(9, &raw());
            self.constants.put_message(5, &tensor);
            self.known.push(name.to_owned());
        }
        name.to_owned()
    }

    pub(super) fn node(&mut self, op_type: &str, inputs: &[&str], attributes: &[Attribute]) -> Value {
        let output = self.next_name(op_type);
        self.put_node("", op_type, inputs, &output, attributes);
        output
    }

    fn next_name(&self, op_type: &str) -> Value {
        format!("{}_{}", op_type.to_ascii_lowercase(), self.num_nodes)
    }

    fn put_node(
        &mut self,
        domain: &str,
        op_type: &str,
        inputs: &[&str],
        output: &str,
        attributes: &[Attribute],
    ) {
        let node = Message::default()
            .texts(1, inputs)
            .texts(2, &[output])
            .text(3, &self.next_name(op_type))
            .text(4, op_type)
            .messages(5, attributes.iter().map(|attribute| &attribute.0))
            .text(7, domain);
        self.nodes.put_message(1, &node);
        self.num_nodes += 1;
    }

    /// Ends the graph: the last node, whose value is the output `name`. Returns the encoded model.
    pub(super) fn finish(mut self, op_type: &str, inputs: &[&str], name: &str, dims: &[Dim<'_>]) -> Vec<u8> {
        self.put_node("", op_type, inputs, name, &[]);
        self.encode(name, dims)
    }

    /// [`Builder::finish`] with a node of another domain.
    pub(super) fn finish_in(
        mut self,
        domain: &str,
        op_type: &str,
        inputs: &[&str],
        attributes: &[Attribute],
        name: &str,
        dims: &[Dim<'_>],
    ) -> Vec<u8> {
        self.put_node(domain, op_type, inputs, name, attributes);
        domain.clone_into(&mut self.domain);
        self.encode(name, dims)
    }

    fn encode(self, output: &str, dims: &[Dim<'_>]) -> Vec<u8> {
        let graph = self
            .nodes
            .text(2, &self.name)
            .then(&self.constants)
            .then(&self.inputs)
            .message(12, &value_info(output, dims));
        let mut opsets = Message::default().message(8, &Message::default().int(2, OPSET));
        if !self.domain.is_empty() {
            opsets = opsets.message(8, &Message::default().text(1, &self.domain).int(2, ML_OPSET));
        }
        Message::default().int(1, IR_VERSION).text(2, PRODUCER).message(7, &graph).then(&opsets).into_bytes()
    }
}

fn value_info(name: &str, dims: &[Dim<'_>]) -> Message {
    let mut shape = Message::default();
    for dim in dims {
        let dim = match dim {
            Dim::Fixed(size) => Message::default().ints(1, [*size as i64]),
            Dim::Symbol(symbol) => Message::default().texts(2, &[symbol]),
        };
        shape.put_message(1, &dim);
    }
    let tensor_type = Message::default().int(1, FLOAT).message(2, &shape);
    Message::default().text(1, name).message(2, &Message::default().message(1, &tensor_type))
}
