//! The constants of an ONNX file.

use sanderling_kernels::{WeightBits, columns};
use sanderling_types::sorted_positions;

use super::builder::{FLOAT, INT8, INT16, INT64, PRODUCER};
use super::message::{Fields, Value};
use super::{MAX_SIDE, QuantisedMatrix};

/// Most constants of a file that is read.
const MAX_CONSTANTS: usize = 4096;

#[derive(Debug, Clone)]
struct Tensor<'a> {
    dims: Vec<usize>,
    data_type: i64,
    raw: &'a [u8],
}

/// Name, constants and number of nodes of a graph.
#[derive(Debug)]
pub(super) struct Constants<'a> {
    graph_name: &'a str,
    num_nodes: usize,
    tensors: Vec<(&'a str, Tensor<'a>)>,
    /// Positions of tensors by name.
    by_name: Vec<usize>,
}

impl<'a> Constants<'a> {
    pub(super) fn read(onnx: &'a [u8]) -> Option<Self> {
        let (mut producer, mut graph) = (None, None);
        for field in Fields(onnx) {
            match field {
                (2, Value::Bytes(name)) => producer = Some(name),
                (7, Value::Bytes(bytes)) => graph = Some(bytes),
                _ => {}
            }
        }
        let graph = graph.filter(|_| producer == Some(PRODUCER.as_bytes()))?;
        let mut out = Self { graph_name: "", num_nodes: 0, tensors: Vec::new(), by_name: Vec::new() };
        for field in Fields(graph) {
            match field {
                (1, Value::Bytes(_)) => out.num_nodes += 1,
                (2, Value::Bytes(name)) => out.graph_name = str::from_utf8(name).ok()?,
                (5, Value::Bytes(tensor)) if out.tensors.len() < MAX_CONSTANTS => {
                    out.tensors.push(tensor_of(tensor)?);
                }
                (5, _) => return None,
                _ => {}
            }
        }
        let tensors = &out.tensors;
        out.by_name = sorted_positions(tensors.len(), &|a, b| tensors[a].0.cmp(tensors[b].0));
        Some(out)
    }

    fn find(&self, name: &str) -> Option<&Tensor<'a>> {
        let found = self.by_name.binary_search_by(|at| self.tensors[*at].0.cmp(name)).ok()?;
        Some(&self.tensors[self.by_name[found]].1)
    }

    pub(super) fn graph_name(&self) -> &str {
        self.graph_name
    }

    pub(super) fn num_nodes(&self) -> usize {
        self.num_nodes
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn tensor(&self, name: &str, data_type: i64, width: usize) -> Option<&Tensor<'a>> {
        let tensor = self.find(name).filter(|tensor| tensor.data_type == data_type)?;
        let len = tensor.dims.iter().try_fold(width, |product, &dim| product.checked_mul(dim))?;
        (len == tensor.raw.len()).then_some(tensor)
    }

    /// Dimensions and elements.
    pub(super) fn floats(&self, name: &str) -> Option<(&[usize], Vec<f32>)> {
        let tensor = self.tensor(name, FLOAT, 4)?;
        let (values, _) = tensor.raw.as_chunks::<4>();
        Some((&tensor.dims, columns::f32s(values)))
    }

    /// Elements of a tensor of `dims`.
    pub(super) fn floats_of(&self, name: &str, dims: &[usize]) -> Option<Vec<f32>> {
        self.floats(name).filter(|(found, _)| *found == dims).map(|(_, values)| values)
    }

    pub(super) fn ints(&self, name: &str) -> Option<Vec<i64>> {
        let (values, _) = self.tensor(name, INT64, 8)?.raw.as_chunks::<8>();
        Some(values.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
    }

    /// A matrix with its scales.
    pub(super) fn matrix(&self, name: &str) -> Option<QuantisedMatrix> {
        let bits = if self.find(name)?.data_type == INT16 { WeightBits::Eleven } else { WeightBits::Eight };
        let (tensor, integers) = match bits {
            WeightBits::Eight => {
                let tensor = self.tensor(name, INT8, 1)?;
                (tensor, columns::i8s(tensor.raw))
            }
            WeightBits::Eleven => {
                let tensor = self.tensor(name, INT16, 2)?;
                (tensor, columns::i16s(tensor.raw.as_chunks().0))
            }
        };
        let &[rows, cols] = tensor.dims.as_slice() else { return None };
        // Products of larger ones would not be exact; of 8 bits all are small enough.
        let too_large = |integer: &i16| integer.unsigned_abs() > WeightBits::Eleven.largest().unsigned_abs();
        if integers.iter().any(too_large) {
            return None;
        }
        Some(QuantisedMatrix {
            rows,
            cols,
            bits,
            integers,
            scales: self.floats_of(&format!("{name}_scale"), &[1, cols])?,
        })
    }
}

fn tensor_of(bytes: &[u8]) -> Option<(&str, Tensor<'_>)> {
    let mut tensor = Tensor { dims: Vec::new(), data_type: 0, raw: &[] };
    let mut name = "";
    for field in Fields(bytes) {
        match field {
            (1, Value::Int(dim)) if tensor.dims.len() < 2 => {
                let dim = usize::try_from(dim).ok().filter(|dim| (1..=MAX_SIDE).contains(dim))?;
                tensor.dims.push(dim);
            }
            (2, Value::Int(data_type)) => tensor.data_type = i64::try_from(data_type).ok()?,
            (8, Value::Bytes(bytes)) => name = str::from_utf8(bytes).ok()?,
            (9, Value::Bytes(bytes)) => tensor.raw = bytes,
            _ => return None,
        }
    }
    Some((name, tensor))
}
