//! Data pipeline, models, losses, metrics, quantisation, ONNX writer, bundle writer.
//!
//! ```text
//! Dataset ─ split ─> Split ─ sequence::fit ─> Weights ─ onnx, ItemTable ─> draft bundle
//!                      │                                                       │ engine
//!                      └──── rankers::choice, baseline::measure, evaluate <────┘
//! ```
//! [`train::train`] runs the whole chain; every metric comes from the packed bundle run by
//! `sanderling-core`, never from the trainer's own weights.
#![deny(missing_docs)]

pub mod baseline;
pub mod baselines;
pub mod bundle;
pub mod card;
pub mod checkpoint;
pub mod compare;
pub mod data;
mod draw;
pub mod evaluate;
mod folder;
pub mod importance;
pub mod metrics;
pub mod onnx;
pub mod rankers;
pub mod recipe;
pub mod retrain;
pub mod sequence;
pub mod slices;
pub mod split;
pub mod train;
