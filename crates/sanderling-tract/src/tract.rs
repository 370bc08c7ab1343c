use sanderling_types::{Code, Error, FileRole, Limits, Result, RuntimeKind, Shapes};
use tract_onnx::prelude::*;

use sanderling_core::{Runtime, Scorer};

use crate::{check, wire};

/// Largest first dimension that a model is run with.
const MAX_ROWS: usize = Limits::MAX_CANDIDATES as usize;
/// Longest session that an encoder is run with.
const MAX_LEN: usize = Limits::MAX_SESSION_LEN as usize;

/// Every model by tract. The encoder keeps its `len` and the ranker its `num_candidates` symbolic: one optimised
/// plan runs every length. Plans made for single lengths differ from it in the last bit, so a cache of them
/// would let results depend on what was asked before.
#[derive(Debug, Clone, Copy, Default)]
pub struct TractRuntime;

impl Runtime for TractRuntime {
    fn scorer(
        &self,
        onnx: &[u8],
        role: FileRole,
        shapes: &Shapes,
        _stated: RuntimeKind,
    ) -> Result<Box<dyn Scorer>> {
        let contract = Contract::of(role, shapes)?;
        // A defect of the parser must not take the host down with it.
        let loaded = std::panic::catch_unwind(|| load(onnx, &contract))
            .unwrap_or_else(|_| Err(contract.invalid("broke the parser")));
        Ok(Box::new(TractScorer { plan: loaded?, contract }))
    }
}

/// What goes in and out of a model, `0` standing for the symbolic dimension.
#[derive(Debug, Clone)]
struct Contract {
    what: &'static str,
    input: Vec<usize>,
    output: Vec<usize>,
    max_rows: usize,
}

impl Contract {
    fn of(role: FileRole, shapes: &Shapes) -> Result<Self> {
        let (dim, num_features) = (shapes.dim as usize, shapes.num_features as usize);
        match role {
            FileRole::Encoder => Ok(Self {
                what: "encoder.onnx",
                input: vec![1, 0, dim],
                output: vec![1, dim],
                max_rows: MAX_LEN,
            }),
            FileRole::Ranker => Ok(Self {
                what: "ranker.onnx",
                input: vec![0, num_features],
                output: vec![0, 1],
                max_rows: MAX_ROWS,
            }),
            _ => Err(Error::new(Code::InvalidArgument, "only an encoder or a ranker is a model")
                .found(role.file_name())),
        }
    }

    fn invalid(&self, what: &str) -> Error {
        Error::new(Code::ModelInvalid, format!("{} {what}", self.what))
    }

    /// Refuses a model whose input or output is not f32 of the declared shape with one symbol.
    fn check_fact(&self, end: &str, fact: &TypedFact, declared: &[usize]) -> Result<()> {
        let same = |(found, declared): (&TDim, &usize)| match declared {
            0 => matches!(found, TDim::Sym(_)),
            declared => found.to_i64().ok() == i64::try_from(*declared).ok(),
        };
        let dims = fact.shape.dims();
        let matches = dims.len() == declared.len() && dims.iter().zip(declared).all(same);
        if matches && fact.datum_type == f32::datum_type() {
            return Ok(());
        }
        Err(self
            .invalid(&format!("has another {end}"))
            .expected(shape_text(declared))
            .found(format!("{fact:?}")))
    }

    /// The value of the symbolic dimension if `shape` is an input shape of this contract.
    fn rows(&self, shape: &[usize]) -> Option<usize> {
        let same = |(found, declared): (&usize, &usize)| *declared == 0 || found == declared;
        let matches = shape.len() == self.input.len() && shape.iter().zip(&self.input).all(same);
        let symbolic = self.input.iter().position(|dim| *dim == 0)?;
        matches.then(|| shape[symbolic])
    }
}

fn shape_text(declared: &[usize]) -> String {
    let dims: Vec<String> =
        declared.iter().map(|dim| if *dim == 0 { "any".to_owned() } else { dim.to_string() }).collect();
    format!("f32 [{}]", dims.join(", "))
}

#[derive(Debug)]
struct TractScorer {
    plan: Arc<TypedRunnableModel>,
    contract: Contract,
}

impl Scorer for TractScorer {
    fn run(&self, input: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
        let contract = &self.contract;
        let rows = contract.rows(shape).filter(|rows| (1..=contract.max_rows).contains(rows));
        let num_elements = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        let Some(rows) = rows.filter(|_| num_elements == Some(input.len())) else {
            return Err(Error::new(
                Code::InvalidArgument,
                format!("{} got an input of another shape", contract.what),
            )
            .expected(format!("{} with at most {} rows", shape_text(&contract.input), contract.max_rows))
            .found(format!("{shape:?} with {} elements", input.len())));
        };
        let failed = |error: TractError| {
            Error::new(Code::InferenceFailed, format!("{} failed", contract.what)).found(chain(&error))
        };
        let input = Tensor::from_shape(shape, input).map_err(failed)?;
        let run = std::panic::AssertUnwindSafe(|| self.plan.run(tvec!(input.into())));
        let outputs =
            std::panic::catch_unwind(run).unwrap_or_else(|_| Err(TractError::msg("the runtime broke")));
        let outputs = outputs.map_err(failed)?;
        let expected: Vec<usize> =
            contract.output.iter().map(|dim| if *dim == 0 { rows } else { *dim }).collect();
        let found = outputs.first().map(|output| output.shape().to_vec());
        if found.as_ref() != Some(&expected) {
            return Err(Error::new(Code::InferenceFailed, format!("{} gave another shape", contract.what))
                .expected(format!("{expected:?}"))
                .found(format!("{found:?}")));
        }
        let view = outputs[0].to_plain_array_view::<f32>().map_err(failed)?;
        Ok(view.iter().copied().collect())
    }
}

/// Loads untrusted bytes: our own checks first, tract after them.
fn load(onnx: &[u8], contract: &Contract) -> Result<Arc<TypedRunnableModel>> {
    wire::check_wire(onnx, contract.what)?;
    let failed = |error: TractError| contract.invalid("cannot be loaded").found(chain(&error));
    let framework = tract_onnx::onnx().with_ignore_value_info(true);
    let proto = framework.proto_model_for_read(&mut &*onnx).map_err(failed)?;
    let largest = |dim: &usize| if *dim == 0 { contract.max_rows as u64 } else { *dim as u64 };
    let largest_input: Vec<u64> = contract.input.iter().map(largest).collect();
    check::check_model(&proto, contract.what, &largest_input)?;
    let model = framework.model_for_proto_model(&proto).map_err(failed)?;
    let model = model.into_typed().and_then(TypedModel::into_decluttered).map_err(failed)?;
    contract.check_fact("input", model.input_fact(0).map_err(failed)?, &contract.input)?;
    contract.check_fact("output", model.output_fact(0).map_err(failed)?, &contract.output)?;
    model.into_optimized().and_then(IntoRunnable::into_runnable).map_err(failed)
}

/// The outermost message and the innermost cause, without a backtrace.
fn chain(error: &TractError) -> String {
    let mut text = error.to_string();
    if let Some(cause) = error.chain().skip(1).last() {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text.chars().take(300).collect()
}
