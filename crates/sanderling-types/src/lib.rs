//! Ids, interactions, catalogue, manifest, report, shared session: data and strict, bounded decoding.
//!
//! Every other crate speaks in these types; the names are the vocabulary of `ARCHITECTURE.md`.
//! Nothing here reads a file, a clock or a random source, and nothing here depends on the
//! inference engine, so the collector can share these types without a model.
//!
//! ```
//! use sanderling_types::{Code, Manifest};
//!
//! let error = Manifest::decode(b"{\"format_version\": 99}").unwrap_err();
//! assert_eq!(error.code(), Code::UnsupportedFormatVersion);
//! assert_eq!(error.code().as_str(), "unsupported_format_version");
//! ```
#![deny(missing_docs)]
#![deny(clippy::disallowed_methods)]

mod baseline;
mod catalogue;
mod channel;
mod container;
mod correction;
mod decode;
mod error;
mod feature;
mod hash;
mod id;
mod interaction;
mod json;
mod manifest;
mod order;
mod recommend;
mod report;
mod segments;
mod shared_session;
mod vocabulary;

pub use baseline::{Baseline, BaselineField, FieldKind};
pub use catalogue::Item;
pub use channel::{Canary, Channel, Release};
pub use container::{pack_files, unpack_files};
pub use correction::Correction;
pub use decode::{decode_json, read_json};
pub use error::{Code, Error, Result};
pub use feature::{Feature, FeatureKind, FeatureSpec};
pub use hash::Sha256Hash;
pub use id::{ItemId, ItemIndex, UserId};
pub use interaction::{Interaction, SessionInteraction, SplitPart};
pub use json::{Fields, FromJson, Json, Mismatch, float_text, quoted};
pub use manifest::{
    FileEntry, FileRole, Limits, Manifest, Metric, PackingKind, PackingStep, PolicyDefaults, Pruned,
    Quantisation, RuntimeKind, Shapes, TelemetryConstants, TimeKind, TrainingWindow,
};
pub use order::sorted_positions;
pub use recommend::{
    Boost, Context, Fault, FaultCode, Filter, Pin, Reason, Recommendation, Request, Response, Rules, Source,
};
pub use report::{Observation, Report, ReportReceipt, ReportStatus};
pub use segments::{Segment, Segments};
pub use shared_session::{SharedInteraction, SharedSession, SharedSessionReceipt};
pub use vocabulary::{Vocabulary, VocabularyLayout};

/// Version of every format in this crate; each format page in `docs/formats/` states its promise.
pub const FORMAT_VERSION: u32 = 1;
