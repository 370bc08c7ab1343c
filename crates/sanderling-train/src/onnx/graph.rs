//! A small builder for ONNX graphs: every method adds a node and names its output.

use prost::Message;

use super::proto::{
    Attribute, Dimension, DimensionValue, Graph, Model, Node, OperatorSet, Tensor, TensorShape, TensorType,
    Type, ValueInfo,
};

/// Opset of every exported model: the first with `LayerNormalization`.
const OPSET: i64 = 17;
/// Version of the operators of classical machine learning, the only other domain in use.
const ML_OPSET: i64 = 3;
const IR_VERSION: i64 = 8;

/// A dimension of an input or output.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Dim<'a> {
    Fixed(usize),
    Symbol(&'a str),
}

/// Name of a value in the graph.
pub(crate) type Value = String;

#[derive(Debug, Default)]
pub(crate) struct Builder {
    graph: Graph,
}

impl Builder {
    pub(crate) fn new(name: &str) -> Self {
        Self { graph: Graph { name: name.to_owned(), ..Graph::default() } }
    }

    pub(crate) fn input(&mut self, name: &str, dims: &[Dim<'_>]) -> Value {
        self.graph.input.push(value_info(name, dims));
        name.to_owned()
    }

    /// A float constant, row-major.
    pub(crate) fn floats(&mut self, name: &str, dims: &[usize], data: &[f32]) -> Value {
        debug_assert_eq!(dims.iter().product::<usize>(), data.len());
        let raw = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, dims, Tensor::FLOAT, raw)
    }

    /// A vector of integers.
    pub(crate) fn ints(&mut self, name: &str, data: &[i64]) -> Value {
        let raw = data.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.constant(name, &[data.len()], Tensor::INT64, raw)
    }

    /// A matrix `[rows, cols]`, kept as int8 with one scale a column: the largest magnitude of a column
    /// becomes 127, everything else rounds to nearest. The runtime computes the floats while it loads.
    pub(crate) fn int8_matrix(&mut self, name: &str, dims: [usize; 2], data: &[f32]) -> Value {
        let cols = dims[1];
        let mut scales = vec![0.0f32; cols];
        for row in data.chunks_exact(cols) {
            scales.iter_mut().zip(row).for_each(|(scale, v)| *scale = scale.max(v.abs() / 127.0));
        }
        let quantise = |v: f32, scale: f32| if scale < f32::MIN_POSITIVE { 0.0 } else { (v / scale).round() };
        let bytes = data.chunks_exact(cols).flat_map(|row| {
            row.iter().zip(&scales).map(|(&v, &scale)| quantise(v, scale).clamp(-127.0, 127.0) as i8 as u8)
        });
        let bytes = self.constant(name, &dims, Tensor::INT8, bytes.collect());
        let scales = self.floats(&format!("{name}_scale"), &[1, cols], &scales);
        let whole = self.node("Cast", &[&bytes], vec![Attribute::int("to", i64::from(Tensor::FLOAT))]);
        self.node("Mul", &[&whole, &scales], vec![])
    }

    fn constant(&mut self, name: &str, dims: &[usize], data_type: i32, raw_data: Vec<u8>) -> Value {
        if !self.graph.initializer.iter().any(|tensor| tensor.name == name) {
            let dims = dims.iter().map(|&dim| dim as i64).collect();
            self.graph.initializer.push(Tensor { dims, data_type, name: name.to_owned(), raw_data });
        }
        name.to_owned()
    }

    pub(crate) fn node(&mut self, op_type: &str, inputs: &[&str], attribute: Vec<Attribute>) -> Value {
        self.node_in("", op_type, inputs, attribute)
    }

    /// A node of another domain than ONNX itself.
    pub(crate) fn node_in(
        &mut self,
        domain: &str,
        op_type: &str,
        inputs: &[&str],
        attribute: Vec<Attribute>,
    ) -> Value {
        let name = format!("{}_{}", op_type.to_lowercase(), self.graph.node.len());
        self.graph.node.push(Node {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op_type.to_owned(),
            attribute,
            domain: domain.to_owned(),
        });
        name
    }

    /// Ends the graph: `value` becomes the output `name`. Returns the encoded model.
    pub(crate) fn finish(mut self, value: &str, name: &str, dims: &[Dim<'_>]) -> Vec<u8> {
        for node in &mut self.graph.node {
            for output in node.output.iter_mut().chain(&mut node.input) {
                if output == value {
                    name.clone_into(output);
                }
            }
        }
        self.graph.output.push(value_info(name, dims));
        let mut opset_import = vec![OperatorSet { domain: String::new(), version: OPSET }];
        if let Some(node) = self.graph.node.iter().find(|node| !node.domain.is_empty()) {
            opset_import.push(OperatorSet { domain: node.domain.clone(), version: ML_OPSET });
        }
        Model {
            ir_version: IR_VERSION,
            producer_name: "sanderling".to_owned(),
            graph: Some(self.graph),
            opset_import,
        }
        .encode_to_vec()
    }
}

fn value_info(name: &str, dims: &[Dim<'_>]) -> ValueInfo {
    let dim = dims
        .iter()
        .map(|dim| {
            let value = match dim {
                Dim::Fixed(size) => DimensionValue::Fixed(*size as i64),
                Dim::Symbol(symbol) => DimensionValue::Symbol((*symbol).to_owned()),
            };
            Dimension { value: Some(value) }
        })
        .collect();
    let tensor_type = TensorType { elem_type: Tensor::FLOAT, shape: Some(TensorShape { dim }) };
    ValueInfo { name: name.to_owned(), r#type: Some(Type { tensor_type: Some(tensor_type) }) }
}
