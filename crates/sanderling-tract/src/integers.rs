//! The range of every integer tensor of a graph, in every run.
//!
//! Integers of a model count positions and pick rows. tract computes them unchecked, and a row that
//! is not there ends the process (in wasm: the instance). So a graph whose integers cannot be shown to
//! stay in their tables is refused.

use tract_onnx::pb::{NodeProto, TensorProto};

use super::bounds::{Bound, attribute_int, attribute_ints, attribute_tensor, axis_of, integers};

/// Largest size of an integer that a model computes; both of its integer types hold it.
const LARGEST: i64 = i32::MAX as i64;

/// The least and the largest value of an integer or truth tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    low: i64,
    high: i64,
}

impl Range {
    const UNKNOWN: Self = Self { low: i64::MIN, high: i64::MAX };
    const TRUTH: Self = Self { low: 0, high: 1 };

    const fn new(low: i64, high: i64) -> Self {
        Self { low, high }
    }

    /// The range of a tensor whose payload has been checked; `None` for floats.
    pub(super) fn of_tensor(tensor: &TensorProto) -> Option<Self> {
        const FLOAT: i32 = 1;
        const INT8: i32 = 3;
        const INT16: i32 = 5;
        const BOOL: i32 = 9;
        match tensor.data_type {
            FLOAT => None,
            BOOL => Some(Self::TRUTH),
            INT8 => Some(Self::new(i64::from(i8::MIN), i64::from(i8::MAX))),
            INT16 => Some(Self::new(i64::from(i16::MIN), i64::from(i16::MAX))),
            _ => {
                let values = integers(tensor).unwrap_or_default();
                let (low, high) = (values.iter().min().copied(), values.iter().max().copied());
                Some(Self::new(low.unwrap_or(0), high.unwrap_or(0)))
            }
        }
    }

    fn union(self, other: Self) -> Self {
        Self::new(self.low.min(other.low), self.high.max(other.high))
    }

    /// The range of a result that is monotone in each argument between `corners`; `None` past [`LARGEST`].
    fn of_corners(corners: &[i128]) -> Option<Self> {
        let fits = |value: &i128| i64::try_from(*value).ok().filter(|value| value.abs() <= LARGEST);
        Some(Self::new(fits(corners.iter().min()?)?, fits(corners.iter().max()?)?))
    }

    fn combine(self, other: Self, operation: impl Fn(i128, i128) -> i128) -> Option<Self> {
        let ends = |range: Self| [i128::from(range.low), i128::from(range.high)];
        let corners: Vec<i128> = ends(self)
            .into_iter()
            .flat_map(|a| ends(other).map(|b| (a, b)))
            .map(|(a, b)| operation(a, b))
            .collect();
        Self::of_corners(&corners)
    }
}

/// The range of what `node` computes, `None` for floats.
///
/// # Errors
/// What could go out of its range.
pub(super) fn range(node: &NodeProto, inputs: &[Option<&Bound>]) -> Result<Option<Range>, String> {
    let at = |at: usize| inputs.get(at).copied().flatten().and_then(|bound| bound.range);
    match node.op_type.as_str() {
        "Gather" => check_gather(node, inputs)?,
        "Cast" => return Ok(cast(node, at(0))),
        "Constant" => return Ok(constant(node)),
        "Shape" => return Ok(Some(Range::new(0, largest_extent(inputs)))),
        "ConstantOfShape" => return Ok(attribute_tensor(node, "value").and_then(Range::of_tensor)),
        "Equal" | "Greater" | "Less" => return Ok(Some(Range::TRUTH)),
        "Where" => return Ok(at(1).zip(at(2)).map(|(a, b)| a.union(b))),
        _ => {}
    }
    let present: Vec<Range> = inputs.iter().flatten().filter_map(|bound| bound.range).collect();
    let Some(first) = at(0) else { return Ok(None) };
    let computed = match node.op_type.as_str() {
        "Concat" => Some(present.iter().fold(first, |sum, range| sum.union(*range))),
        "Trilu" => Some(first.union(Range::new(0, 0))),
        "Identity" | "Reshape" | "Flatten" | "Transpose" | "Unsqueeze" | "Squeeze" | "Slice" | "Split"
        | "Expand" | "Tile" | "Gather" | "ReduceMax" => Some(first),
        "Neg" => Range::of_corners(&[-i128::from(first.low), -i128::from(first.high)]),
        "Abs" => first.combine(Range::new(-1, 1), |a, b| a * b).map(|range| Range::new(0, range.high)),
        "ReduceSum" => {
            let most = inputs[0].map_or(u64::MAX, |bound| bound.num_elements);
            Range::new(0, i64::try_from(most).unwrap_or(i64::MAX))
                .combine(first, |count, value| count * value)
        }
        "Clip" => Some(clip(first, at(1), at(2))),
        name => at(1).and_then(|second| binary(name, first, second)),
    };
    let unbounded =
        || format!("computes integers that cannot be bounded at {} {:?}", node.op_type, node.output);
    computed.map(Some).ok_or_else(unbounded)
}

fn binary(name: &str, a: Range, b: Range) -> Option<Range> {
    match name {
        "Add" => a.combine(b, |a, b| a + b),
        "Sub" => a.combine(b, |a, b| a - b),
        "Mul" => a.combine(b, |a, b| a * b),
        "Div" if b.low > 0 || b.high < 0 => a.combine(b, |a, b| a / b),
        "Max" => Some(Range::new(a.low.max(b.low), a.high.max(b.high))),
        "Min" => Some(Range::new(a.low.min(b.low), a.high.min(b.high))),
        _ => None,
    }
}

fn clip(value: Range, low: Option<Range>, high: Option<Range>) -> Range {
    let raised = low.map_or(value, |low| Range::new(value.low.max(low.low), value.high.max(low.high)));
    high.map_or(raised, |high| Range::new(raised.low.min(high.low), raised.high.min(high.high)))
}

fn cast(node: &NodeProto, from: Option<Range>) -> Option<Range> {
    const INT32: i64 = 6;
    const INT64: i64 = 7;
    const BOOL: i64 = 9;
    match attribute_int(node, "to") {
        Some(INT32 | INT64) => Some(from.unwrap_or(Range::UNKNOWN)),
        Some(BOOL) => Some(Range::TRUTH),
        _ => None,
    }
}

/// A constant that is given as numbers; one given as a tensor is known already.
fn constant(node: &NodeProto) -> Option<Range> {
    let whole = attribute_int(node, "value_int").into_iter();
    let values: Vec<i64> = whole.chain(attribute_ints(node, "value_ints").unwrap_or_default()).collect();
    values.iter().map(|value| Range::new(*value, *value)).reduce(Range::union)
}

fn largest_extent(inputs: &[Option<&Bound>]) -> i64 {
    let dims = inputs.first().copied().flatten().and_then(|bound| bound.dims.as_ref());
    dims.map_or(LARGEST, |dims| i64::try_from(dims.iter().copied().max().unwrap_or(0)).unwrap_or(LARGEST))
}

/// Every index is one of a row that is there, whatever the symbolic dimension is.
fn check_gather(node: &NodeProto, inputs: &[Option<&Bound>]) -> Result<(), String> {
    let problem = |text: &str| format!("picks {text} at Gather {:?}", node.output);
    let [Some(data), Some(indices), ..] = inputs else { return Err(problem("from nothing")) };
    let dims = data.dims.as_ref().ok_or_else(|| problem("from a tensor of unknown shape"))?;
    let axis = axis_of(attribute_int(node, "axis").unwrap_or(0), dims.len());
    let axis = axis.ok_or_else(|| problem("along an axis that is not there"))?;
    let extent = match (data.exact, data.nonempty) {
        (true, _) => i64::try_from(dims[axis]).unwrap_or(i64::MAX),
        (false, nonempty) => i64::from(nonempty),
    };
    let range = indices.range.ok_or_else(|| problem("by something else than integers"))?;
    if range.low < -extent || range.high >= extent {
        return Err(problem(&format!("rows {} to {} of at least {extent}", range.low, range.high)));
    }
    Ok(())
}
