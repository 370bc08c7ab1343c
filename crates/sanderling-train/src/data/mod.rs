//! Interaction logs: reading, writing, importing, checking and generating them.
//!
//! A *data folder* holds `interactions.csv`, perhaps `items.csv`, and `data.json`; its format is
//! described in `docs/formats/interactions.md`. [`Dataset`] is the same thing in memory.
//! [`import()`] turns public layouts into a data folder, [`validate()`] says what is wrong with one,
//! and [`synth()`] generates a world whose truth is known.
#![allow(clippy::disallowed_methods, reason = "the trainer is native: it reads and writes files")]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap fails the test"))]

mod columns;
mod context;
pub mod dataset;
mod ids;
pub mod import;
mod intake;
mod interactions;
mod parquet_table;
mod problem;
mod progress;
mod reader;
mod source;
pub mod synth;
mod table;
mod time;
pub mod validate;

pub use columns::ColumnMap;
pub use context::ContextColumn;
pub use dataset::{DataCounts, DataInfo, Dataset, read_catalogue};
pub use ids::Ids;
pub use import::{ImportOptions, ImportSummary, LAYOUTS, import};
pub use interactions::{Interactions, Row};
pub use progress::{Progress, Stage};
pub use synth::{DeviceDay, SynthConfig, World, synth};
pub use time::TimeUnit;
pub use validate::{Anomaly, AnomalyCode, Severity, Validation, validate};

#[cfg(test)]
mod tests;
