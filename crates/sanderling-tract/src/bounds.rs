//! Upper bounds of every intermediate result of a graph, before anything is computed.
//!
//! A small tensor can be blown up by broadcasting, and constants are computed while a model is
//! loaded. So every node's output is bounded from the bounds of its inputs, with the symbolic
//! dimension at its largest. A shape that cannot be followed keeps its number of elements.

use std::collections::BTreeMap;

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::integers::{self, Range};

/// Most elements of one intermediate result.
const MAX_ELEMENTS: u64 = 1 << 26;
/// Most elements of all results that do not depend on the input, which loading computes.
const MAX_CONSTANT_ELEMENTS: u64 = 1 << 26;
/// Longest constant whose values are followed.
const MAX_FOLLOWED: usize = 64;

/// No axis, and no number of elements, is larger than this in any run.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) dims: Option<Vec<u64>>,
    pub(super) num_elements: u64,
    constant: bool,
    /// The dimensions are these in every run, not at most these.
    pub(super) exact: bool,
    /// No axis is empty in any run.
    pub(super) nonempty: bool,
    /// What the integers are; `None` for floats.
    pub(super) range: Option<Range>,
}

impl Bound {
    fn of(dims: Vec<u64>) -> Self {
        let num_elements = dims.iter().fold(1u64, |product, dim| product.saturating_mul(*dim));
        Self { dims: Some(dims), ..Self::unshaped(num_elements) }
    }

    fn unshaped(num_elements: u64) -> Self {
        Self { dims: None, num_elements, constant: false, exact: false, nonempty: false, range: None }
    }
}

/// Why a graph is refused.
#[derive(Debug)]
pub(super) enum Problem {
    /// It could take too much memory or time.
    TooLarge(String),
    /// It names an axis or picks a row that is not there, or may.
    OutOfRange(String),
}

/// Bounds every node of a graph whose names have been checked.
///
/// # Errors
/// The node that could become too large.
pub(super) fn check_bounds(graph: &GraphProto, input: &str, input_shape: &[u64]) -> Result<(), Problem> {
    let mut scope = Scope::default();
    for tensor in &graph.initializer {
        scope.constant(&tensor.name, tensor);
    }
    scope.bounds.insert(input, Bound { nonempty: true, ..Bound::of(input_shape.to_vec()) });
    let mut num_constant_elements = 0u64;
    for node in &graph.node {
        let inputs = || node.input.iter().filter(|name| !name.is_empty());
        let constant =
            inputs().all(|name| scope.bounds.get(name.as_str()).is_some_and(|bound| bound.constant));
        if let ("Constant", Some(tensor)) = (node.op_type.as_str(), attribute_tensor(node, "value")) {
            scope.constant(&node.output[0], tensor);
            continue;
        }
        if !scope.axes_are_there(node) {
            let message = format!("names an axis that is not there at {} {:?}", node.op_type, node.output[0]);
            return Err(Problem::OutOfRange(message));
        }
        let bound =
            scope.bound(node).filter(|bound| bound.num_elements <= MAX_ELEMENTS).ok_or_else(|| {
                Problem::TooLarge(format!(
                    "could take too much memory at {} {:?}",
                    node.op_type, node.output[0]
                ))
            })?;
        let traits = scope.traits(node).map_err(Problem::OutOfRange)?;
        for name in &node.output {
            if constant {
                num_constant_elements = num_constant_elements.saturating_add(bound.num_elements);
            }
            scope.bounds.insert(name, Bound { constant, ..traits.onto(&bound) });
        }
        if num_constant_elements > MAX_CONSTANT_ELEMENTS {
            return Err(Problem::TooLarge("computes too much from constants alone".to_owned()));
        }
    }
    Ok(())
}

/// What follows for an output beside its size.
struct Traits {
    exact: bool,
    nonempty: bool,
    range: Option<Range>,
}

impl Traits {
    fn onto(&self, bound: &Bound) -> Bound {
        Bound { exact: self.exact, nonempty: self.nonempty, range: self.range, ..bound.clone() }
    }
}

#[derive(Default)]
struct Scope<'a> {
    bounds: BTreeMap<&'a str, Bound>,
    integers: BTreeMap<&'a str, Vec<i64>>,
}

impl<'a> Scope<'a> {
    fn constant(&mut self, name: &'a str, tensor: &TensorProto) {
        let dims = tensor.dims.iter().map(|dim| u64::try_from(*dim).unwrap_or(u64::MAX)).collect();
        let bound = Bound::of(dims);
        let nonempty = bound.num_elements > 0;
        let bound = Bound { constant: true, exact: true, nonempty, range: Range::of_tensor(tensor), ..bound };
        if bound.num_elements <= MAX_FOLLOWED as u64
            && let Some(integers) = integers(tensor)
        {
            self.integers.insert(name, integers);
        }
        self.bounds.insert(name, bound);
    }

    fn input(&self, node: &NodeProto, at: usize) -> Option<&Bound> {
        self.bounds.get(node.input.get(at)?.as_str())
    }

    fn integers(&self, node: &NodeProto, at: usize) -> Option<&[i64]> {
        self.integers.get(node.input.get(at)?.as_str()).map(Vec::as_slice)
    }

    fn traits(&self, node: &NodeProto) -> Result<Traits, String> {
        let inputs: Vec<Option<&Bound>> = (0..node.input.len()).map(|at| self.input(node, at)).collect();
        let keeps =
            !matches!(node.op_type.as_str(), "Slice" | "Split" | "ConstantOfShape" | "Expand" | "Tile");
        Ok(Traits {
            // As many numbers as its input has axes.
            exact: node.op_type == "Shape" && inputs[0].is_some_and(|bound| bound.dims.is_some()),
            nonempty: keeps && inputs.iter().flatten().all(|bound| bound.nonempty),
            range: integers::range(node, &inputs)?,
        })
    }

    /// Axes, which newer operators take as an input and older ones as an attribute.
    fn axes(&self, node: &NodeProto) -> Option<Vec<i64>> {
        self.integers(node, 1).map(<[i64]>::to_vec).or_else(|| attribute_ints(node, "axes"))
    }

    /// `None` when the output cannot be bounded.
    fn bound(&self, node: &NodeProto) -> Option<Bound> {
        match node.op_type.as_str() {
            "Constant" => Some(Bound::unshaped(MAX_FOLLOWED as u64)),
            "ConstantOfShape" => Some(Bound::of(extents(self.integers(node, 0)?)?)),
            "Expand" => Some(broadcast(self.input(node, 0)?, &Bound::of(extents(self.integers(node, 1)?)?))),
            "Tile" => self.tile(node),
            "Shape" => {
                Some(Bound::of(vec![self.input(node, 0)?.dims.as_ref().map_or(8, |dims| dims.len() as u64)]))
            }
            "Slice" | "Split" | "Identity" | "Trilu" | "Cast" => self.input(node, 0).cloned(),
            "Reshape" => self.reshape(node),
            "Flatten" => self.flatten(node),
            "Transpose" => self.transpose(node),
            "Unsqueeze" => self.unsqueeze(node),
            "Squeeze" => self.remove_axes(node),
            "ReduceMean" | "ReduceSum" | "ReduceMax" if attribute_int(node, "keepdims") == Some(0) => {
                self.remove_axes(node)
            }
            "ReduceMean" | "ReduceSum" | "ReduceMax" => self.input(node, 0).cloned(),
            "Gather" => self.gather(node),
            "Concat" => self.concat(node),
            "MatMul" => Some(matmul(self.input(node, 0)?, self.input(node, 1)?)),
            "Gemm" => self.gemm(node),
            // What is left works element by element, on inputs that are broadcast.
            _ => {
                let mut inputs = node.input.iter().filter_map(|name| self.bounds.get(name.as_str()));
                let first = inputs.next()?.clone();
                Some(inputs.fold(first, |sum, input| broadcast(&sum, input)))
            }
        }
    }

    fn tile(&self, node: &NodeProto) -> Option<Bound> {
        let repeats = extents(self.integers(node, 1)?)?;
        let dims = self.input(node, 0)?.dims.as_ref()?;
        let same_rank = dims.len() == repeats.len();
        same_rank.then(|| {
            Bound::of(dims.iter().zip(repeats).map(|(dim, repeat)| dim.saturating_mul(repeat)).collect())
        })
    }

    fn reshape(&self, node: &NodeProto) -> Option<Bound> {
        let input = self.input(node, 0)?;
        let unshaped = Bound::unshaped(input.num_elements);
        let Some(target) = self.integers(node, 1) else { return Some(unshaped) };
        if target.len() > 8 {
            return None;
        }
        let fixed = |(at, extent): (usize, &i64)| match extent {
            0 => input.dims.as_ref()?.get(at).copied(),
            -1 => Some(1),
            extent => u64::try_from(*extent).ok(),
        };
        let Some(mut dims) = target.iter().enumerate().map(fixed).collect::<Option<Vec<u64>>>() else {
            return Some(unshaped);
        };
        if let Some(at) = target.iter().position(|extent| *extent == -1) {
            let others = dims.iter().fold(1u64, |product, dim| product.saturating_mul(*dim)).max(1);
            dims[at] = input.num_elements.div_ceil(others);
        }
        Some(Bound::of(dims))
    }

    fn flatten(&self, node: &NodeProto) -> Option<Bound> {
        let dims = self.input(node, 0)?.dims.as_ref()?;
        let axis = attribute_int(node, "axis").unwrap_or(1);
        let axis = if axis == dims.len() as i64 { dims.len() } else { axis_of(axis, dims.len())? };
        let product = |dims: &[u64]| dims.iter().fold(1u64, |product, dim| product.saturating_mul(*dim));
        Some(Bound::of(vec![product(&dims[..axis]), product(&dims[axis..])]))
    }

    /// Every axis that a node names is there, and named once.
    fn axes_are_there(&self, node: &NodeProto) -> bool {
        let named = match node.op_type.as_str() {
            "Softmax" | "LayerNormalization" | "Split" => {
                Some(vec![attribute_int(node, "axis").unwrap_or(-1)])
            }
            "ReduceMean" | "ReduceSum" | "ReduceMax" | "Squeeze" => self.axes(node),
            "Transpose" => attribute_ints(node, "perm"),
            "Slice" if node.input.get(3).is_some_and(|name| !name.is_empty()) => {
                match self.integers(node, 3) {
                    Some(axes) => Some(axes.to_vec()),
                    None => return false,
                }
            }
            _ => return true,
        };
        let Some(dims) = self.input(node, 0).and_then(|input| input.dims.as_ref()) else { return false };
        let axes: Option<Vec<usize>> =
            named.unwrap_or_default().iter().map(|axis| axis_of(*axis, dims.len())).collect();
        axes.is_some_and(|mut axes| {
            let num_named = axes.len();
            axes.sort_unstable();
            axes.dedup();
            // A permutation that leaves an axis out sends tract in circles.
            let complete = node.op_type != "Transpose" || num_named == 0 || num_named == dims.len();
            complete && axes.len() == num_named
        })
    }

    fn transpose(&self, node: &NodeProto) -> Option<Bound> {
        let input = self.input(node, 0)?;
        let dims = input.dims.as_ref()?;
        let perm = attribute_ints(node, "perm").unwrap_or_else(|| (0..dims.len() as i64).rev().collect());
        let dims: Option<Vec<u64>> =
            perm.iter().map(|axis| dims.get(usize::try_from(*axis).ok()?).copied()).collect();
        Some(Bound { dims, ..input.clone() })
    }

    fn unsqueeze(&self, node: &NodeProto) -> Option<Bound> {
        let input = self.input(node, 0)?;
        let (Some(dims), Some(mut axes)) = (&input.dims, self.axes(node)) else {
            return Some(Bound::unshaped(input.num_elements));
        };
        let rank = dims.len() + axes.len();
        axes.iter_mut().for_each(|axis| *axis = axis.wrapping_add(if *axis < 0 { rank as i64 } else { 0 }));
        axes.sort_unstable();
        if axes.windows(2).any(|pair| pair[0] == pair[1]) {
            return None;
        }
        let mut dims = dims.clone();
        for axis in axes {
            let at = usize::try_from(axis).ok().filter(|at| *at <= dims.len())?;
            dims.insert(at, 1);
        }
        (dims.len() <= 8).then(|| Bound::of(dims))
    }

    fn remove_axes(&self, node: &NodeProto) -> Option<Bound> {
        let input = self.input(node, 0)?;
        let (Some(dims), Some(axes)) = (&input.dims, self.axes(node)) else {
            return Some(Bound::unshaped(input.num_elements));
        };
        let rank = dims.len() as i64;
        let removed = |at: usize| {
            axes.iter().any(|axis| *axis == at as i64 || axis.checked_add(rank) == Some(at as i64))
        };
        let kept = dims.iter().enumerate().filter(|(at, _)| !removed(*at)).map(|(_, dim)| *dim);
        Some(Bound::of(kept.collect()))
    }

    fn gather(&self, node: &NodeProto) -> Option<Bound> {
        let (data, indices) = (self.input(node, 0)?, self.input(node, 1)?);
        let (Some(dims), Some(picked)) = (&data.dims, &indices.dims) else {
            return Some(Bound::unshaped(data.num_elements.saturating_mul(indices.num_elements)));
        };
        let axis = axis_of(attribute_int(node, "axis").unwrap_or(0), dims.len())?;
        Some(Bound::of([&dims[..axis], picked, &dims[axis + 1..]].concat()))
    }

    fn concat(&self, node: &NodeProto) -> Option<Bound> {
        let inputs = || node.input.iter().filter_map(|name| self.bounds.get(name.as_str()));
        let total = inputs().fold(0u64, |sum, input| sum.saturating_add(input.num_elements));
        let Some(all) = inputs().map(|input| input.dims.as_ref()).collect::<Option<Vec<_>>>() else {
            return Some(Bound::unshaped(total));
        };
        let mut dims = (*all.first()?).clone();
        let axis = axis_of(attribute_int(node, "axis")?, dims.len())?;
        for other in &all[1..] {
            if other.len() != dims.len() {
                return None;
            }
            for (at, dim) in dims.iter_mut().enumerate() {
                *dim = if at == axis { dim.saturating_add(other[at]) } else { (*dim).max(other[at]) };
            }
        }
        Some(Bound::of(dims))
    }

    fn gemm(&self, node: &NodeProto) -> Option<Bound> {
        let side = |at: usize, transposed: &str| {
            let input = self.input(node, at)?;
            let mut dims = input.dims.clone()?;
            if attribute_int(node, transposed).unwrap_or(0) != 0 {
                dims.reverse();
            }
            (dims.len() == 2).then(|| Bound::of(dims))
        };
        let product = matmul(&side(0, "transA")?, &side(1, "transB")?);
        Some(self.input(node, 2).map_or_else(|| product.clone(), |bias| broadcast(&product, bias)))
    }
}

fn broadcast(a: &Bound, b: &Bound) -> Bound {
    let (Some(left), Some(right)) = (&a.dims, &b.dims) else {
        return Bound::unshaped(a.num_elements.max(1).saturating_mul(b.num_elements.max(1)));
    };
    let rank = left.len().max(right.len());
    let from_end = |dims: &[u64], at: usize| dims.len().checked_sub(rank - at).map_or(1, |at| dims[at]);
    Bound::of((0..rank).map(|at| from_end(left, at).max(from_end(right, at))).collect())
}

fn matmul(a: &Bound, b: &Bound) -> Bound {
    let (Some([batch_a @ .., m, _]), Some([batch_b @ .., _, n])) = (a.dims.as_deref(), b.dims.as_deref())
    else {
        return Bound::unshaped(a.num_elements.max(1).saturating_mul(b.num_elements.max(1)));
    };
    let batch = broadcast(&Bound::of(batch_a.to_vec()), &Bound::of(batch_b.to_vec()));
    let mut dims = batch.dims.unwrap_or_default();
    dims.extend([*m, *n]);
    Bound::of(dims)
}

fn extents(values: &[i64]) -> Option<Vec<u64>> {
    values.iter().map(|value| u64::try_from(*value).ok()).collect()
}

pub(super) fn axis_of(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add(rank as i64)? } else { axis };
    usize::try_from(axis).ok().filter(|axis| *axis < rank)
}

pub(super) fn attribute_int(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.i)
}

pub(super) fn attribute_ints(node: &NodeProto, name: &str) -> Option<Vec<i64>> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.ints.clone())
}

pub(super) fn attribute_tensor<'a>(node: &'a NodeProto, name: &str) -> Option<&'a TensorProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)?.t.as_ref()
}

/// The values of an integer tensor whose payload has been checked.
pub(super) fn integers(tensor: &TensorProto) -> Option<Vec<i64>> {
    const INT32: i32 = 6;
    const INT64: i32 = 7;
    if tensor.data_type == INT32 {
        if tensor.raw_data.is_empty() {
            return Some(tensor.int32_data.iter().map(|value| i64::from(*value)).collect());
        }
        let (values, _) = tensor.raw_data.as_chunks::<4>();
        return Some(values.iter().map(|bytes| i64::from(i32::from_le_bytes(*bytes))).collect());
    }
    if tensor.data_type != INT64 {
        return None;
    }
    if tensor.raw_data.is_empty() {
        return Some(tensor.int64_data.clone());
    }
    let (values, _) = tensor.raw_data.as_chunks::<8>();
    Some(values.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect())
}
