//! The portable engine: features, retrieval, ranking, policy, session.
//!
//! A [`Bundle`] is opened from bytes, an [`Engine`] is made of it with a [`Runtime`] for its models,
//! and `recommend` answers a request:
//!
//! ```no_run
//! use sanderling_core::{Bundle, BundleFiles, Engine, SlimRuntime};
//! use sanderling_types::Request;
//!
//! # fn files() -> BundleFiles { BundleFiles::new() }
//! let bundle = Bundle::open(files(), None)?;
//! let engine = Engine::new(bundle, &SlimRuntime)?;
//! let outcome = engine.recommend(&Request { limit: 10, ..Request::default() });
//! for recommendation in &outcome.response.recommendations {
//!     assert!(recommendation.position >= 1);
//! }
//! # Ok::<(), sanderling_types::Error>(())
//! ```
//!
//! The same input gives the same output: there is no clock, no randomness and no file here. Bytes
//! of a bundle are untrusted; what is wrong with them is an [`sanderling_types::Error`], and what
//! goes wrong while recommending is a fault beside the list. Models are at most 32 MiB, sessions
//! at most 1024 items in the encoder. No features.
#![deny(missing_docs)]
#![deny(clippy::disallowed_methods)]

mod bundle;
mod candidates;
pub mod correction;
mod deadline;
mod engine;
pub mod features;
mod items;
mod mask;
mod memory;
mod neighbours;
mod observe;
pub mod onnx;
pub mod operations;
mod order;
mod packed_vocabulary;
pub mod policy;
mod ranking;
mod reasons;
mod retrieve;
mod scorer;
mod self_test;
mod session;
mod slim;
pub mod telemetry;
mod trees;
mod trust;

pub use bundle::{Bundle, BundleFiles, RankerModel};
pub use engine::{Engine, Outcome};
pub use features::FeatureEncoder;
pub use items::{ItemBits, ItemTable};
pub use mask::Mask;
pub use memory::SessionMemory;
pub use neighbours::{Combination, NeighbourTable, SessionSource};
pub use observe::{OBSERVED_POSITIONS, Observed};
pub use order::by_score;
pub use packed_vocabulary::PackedVocabulary;
pub use ranking::Ranking;
pub use retrieve::Candidate;
pub use scorer::{Incremental, Memory, Runtime, Scorer};
pub use self_test::self_test;
pub use session::{SessionItem, SessionView};
pub use slim::SlimRuntime;
pub use telemetry::{Telemetry, TelemetryState};
pub use trees::{TreeEnsemble, TreeNode};
pub use trust::{KeyId, PublicKey, Signatures, Trust};
