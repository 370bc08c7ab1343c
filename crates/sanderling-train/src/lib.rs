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

pub mod additions;
pub mod baseline;
pub mod baselines;
pub mod bundle;
pub mod calibration;
pub mod candidates;
pub mod card;
mod catalogue;
pub mod checkpoint;
pub mod compare;
pub mod content;
pub mod data;
pub mod details;
mod draw;
pub mod evaluate;
pub mod external;
mod folder;
pub mod importance;
pub mod metrics;
mod pack;
pub mod rankers;
pub mod recipe;
pub mod recommenders;
pub mod reported;
pub mod retrain;
pub mod segments;
pub mod sequence;
pub mod slices;
pub mod split;
pub mod train;
pub mod tune;
