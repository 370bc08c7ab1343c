//! What `train --recommender auto` tried, what each cost, and what was taken.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use sanderling_train::recommenders::{Choice, Contender};
use sanderling_train::train::Step;
use serde::Serialize;

use super::table;
use crate::usage::Usage;

/// CPU seconds between the start of fitting a recommender and the end of measuring it. A second source of
/// candidates costs what it adds to the sequence model and to its own table.
#[derive(Debug)]
pub(crate) struct CostMeter {
    start: Instant,
    begun: f64,
    cpu_seconds: BTreeMap<String, f64>,
}

impl CostMeter {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, begun: 0.0, cpu_seconds: BTreeMap::new() }
    }

    /// Looks at the clock where a recommender begins or ends.
    pub(crate) fn note(&mut self, step: Step<'_>) {
        match step {
            Step::Fitting(_) => self.begun = Usage::since(self.start).cpu_seconds,
            Step::Measured(contender) => {
                let now = Usage::since(self.start).cpu_seconds;
                self.cpu_seconds.insert(contender.name.clone(), now - self.begun);
            }
            _ => {}
        }
    }
}

/// [`Choice`] with what every contender cost.
#[derive(Debug, Serialize)]
pub(crate) struct ChoiceResult {
    contenders: Vec<ContenderResult>,
    chosen: String,
    reason: String,
}

#[derive(Debug, Serialize)]
struct ContenderResult {
    #[serde(flatten)]
    contender: Contender,
    /// Of fitting, packing and measuring it.
    cpu_seconds: f64,
}

impl ChoiceResult {
    pub(crate) fn new(choice: &Choice, costs: &CostMeter) -> Self {
        let with_cost = |contender: &Contender| ContenderResult {
            contender: contender.clone(),
            cpu_seconds: costs.cpu_seconds.get(&contender.name).copied().unwrap_or(0.0),
        };
        Self {
            contenders: choice.contenders.iter().map(with_cost).collect(),
            chosen: choice.chosen.clone(),
            reason: choice.reason.clone(),
        }
    }

    /// One row a contender, and the reason below.
    pub(crate) fn text(&self) -> String {
        let mut out =
            format!("{:<20}{:>26}{:>12}{:>8}  settings", "tried", "validation NDCG@10", "bytes", "CPU s");
        for ContenderResult { contender, cpu_seconds } in &self.contenders {
            let metric = contender.validation_ndcg10;
            let _ = write!(
                out,
                "\n{:<20}{:>26}{:>12}{cpu_seconds:>8.1}  {}{}",
                contender.name,
                format!("{:.4} ({:.4}–{:.4})", metric.value, metric.low, metric.high),
                table::bytes(contender.bundle_bytes),
                contender.settings,
                if contender.fits_budget { "" } else { "; over the budget" },
            );
        }
        let _ = write!(out, "\n{} was taken: {}", self.chosen, self.reason);
        out
    }
}
