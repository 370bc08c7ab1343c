//! `encoder.onnx` of a matrix factorisation: the query is the ridge regression of a session on its item
//! vectors, solved by a fixed number of conjugate gradient steps.

use super::builder::{Attribute, Builder, Dim, FLOAT, Value};
use super::constants::Constants;
use crate::ItemTable;

pub(super) const NAME: &str = "sanderling_fold_in";
/// Keeps a quotient finite where the residual is zero already.
pub(crate) const TINY: f32 = 1e-30;
const MAX_STEPS: usize = 64;
const NODES_OF_A_STEP: usize = 20;

/// What the encoder solves: `(I + XᵀX + len · shrink) q = Xᵀ1` for the item vectors `X` `[len, dim]`.
#[derive(Debug, Clone, PartialEq)]
pub struct FoldIn {
    /// Elements of an item vector.
    pub dim: usize,
    /// `[dim, dim]`, symmetric: the part of the penalty that grows with the session.
    pub shrink: Vec<f32>,
    /// Conjugate gradient steps, 1 to 64.
    pub steps: usize,
}

impl FoldIn {
    /// The bytes of the file: conjugate gradients (Hestenes and Stiefel 1952) unrolled, as Takács, Pilászy and
    /// Tikk 2011 use them for alternating least squares.
    #[must_use]
    pub fn to_onnx(&self) -> Vec<u8> {
        let dim = self.dim;
        let mut graph = Builder::new(NAME);
        let items = graph.input("item_vectors", &[Dim::Fixed(1), Dim::Symbol("len"), Dim::Fixed(dim)]);
        let turned = graph.node("Transpose", &[&items], &[Attribute::ints("perm", &[0, 2, 1])]);
        let axis = graph.ints("one", &[1]);
        let sum = graph.node("ReduceSum", &[&items, &axis], &[Attribute::int("keepdims", 1)]);
        let column = graph.ints("column_shape", &[1, dim as i64, 1]);
        let right = graph.node("Reshape", &[&sum, &column], &[]);
        let length = length_of(&mut graph, &items);
        let mut solver = Solver { graph, items, turned, length, problem: self };
        let solution = solver.solve(right);
        let mut graph = solver.graph;
        let flat = graph.ints("query_shape", &[1, dim as i64]);
        graph.finish("Reshape", &[&solution, &flat], "query", &[Dim::Fixed(1), Dim::Fixed(dim)])
    }

    /// A step has 20 nodes; the first and the last have less, by as much as is around them.
    pub(super) fn from_constants(constants: &Constants<'_>) -> Option<Self> {
        let (dims, shrink) = constants.floats("shrink")?;
        let &[dim, same] = dims else { return None };
        let steps = constants.num_nodes() / NODES_OF_A_STEP;
        if !(1..=MAX_STEPS).contains(&steps) || dim > ItemTable::MAX_DIM || dim != same {
            return None;
        }
        Some(Self { dim, shrink, steps })
    }
}

/// The number of items as a float `[1]`.
fn length_of(graph: &mut Builder, items: &str) -> Value {
    let shape = graph.node("Shape", &[items], &[]);
    let one = graph.ints("one", &[1]);
    let length = graph.node("Gather", &[&shape, &one], &[Attribute::int("axis", 0)]);
    graph.node("Cast", &[&length], &[Attribute::int("to", FLOAT)])
}

struct Solver<'a> {
    graph: Builder,
    /// `[1, len, dim]`.
    items: Value,
    /// `[1, dim, len]`.
    turned: Value,
    length: Value,
    problem: &'a FoldIn,
}

impl Solver<'_> {
    /// From zero; every vector is `[1, dim, 1]`.
    fn solve(&mut self, right: Value) -> Value {
        let mut solution: Option<Value> = None;
        let (mut residual, mut direction) = (right.clone(), right);
        let mut squared = self.dot(&residual.clone(), &residual);
        for step in 0..self.problem.steps {
            let image = self.image(&direction);
            let curvature = self.dot(&direction, &image);
            let length = self.quotient(&squared, &curvature);
            let moved = self.graph.node("Mul", &[&direction, &length], &[]);
            solution = Some(match solution {
                Some(solution) => self.graph.node("Add", &[&solution, &moved], &[]),
                None => moved,
            });
            if step + 1 == self.problem.steps {
                break;
            }
            let explained = self.graph.node("Mul", &[&image, &length], &[]);
            residual = self.graph.node("Sub", &[&residual, &explained], &[]);
            let next = self.dot(&residual, &residual);
            let share = self.quotient(&next, &squared);
            let kept = self.graph.node("Mul", &[&direction, &share], &[]);
            direction = self.graph.node("Add", &[&residual, &kept], &[]);
            squared = next;
        }
        solution.unwrap_or(residual)
    }

    /// The matrix of the problem times `x`.
    fn image(&mut self, x: &str) -> Value {
        let dim = self.problem.dim;
        let seen = self.graph.node("MatMul", &[&self.items.clone(), x], &[]);
        let seen = self.graph.node("MatMul", &[&self.turned.clone(), &seen], &[]);
        let shrink = self.graph.floats("shrink", &[dim, dim], &self.problem.shrink);
        let shrunk = self.graph.node("MatMul", &[&shrink, x], &[]);
        let shrunk = self.graph.node("Mul", &[&shrunk, &self.length.clone()], &[]);
        let sum = self.graph.node("Add", &[x, &seen], &[]);
        self.graph.node("Add", &[&sum, &shrunk], &[])
    }

    fn dot(&mut self, a: &str, b: &str) -> Value {
        let products = self.graph.node("Mul", &[a, b], &[]);
        let axis = self.graph.ints("one", &[1]);
        self.graph.node("ReduceSum", &[&products, &axis], &[Attribute::int("keepdims", 1)])
    }

    fn quotient(&mut self, a: &str, b: &str) -> Value {
        let tiny = self.graph.floats("tiny", &[1], &[TINY]);
        let b = self.graph.node("Add", &[b, &tiny], &[]);
        self.graph.node("Div", &[a, &b], &[])
    }
}
