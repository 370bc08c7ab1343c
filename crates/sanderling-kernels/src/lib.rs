//! The loops where the engine's time goes, compiled for speed where the rest is compiled for size.
//!
//! Plain numbers in and out. Every function gives the same bits on every platform: no table, no fused
//! multiplication, sums in a fixed order; `pulp` picks the widest vectors of a native machine, in wasm they have 128
//! bits. All matrices are row-major. Nothing is checked beyond what slices check.
#![deny(missing_docs)]
#![deny(clippy::disallowed_methods)]

mod attention;
mod coarse;
pub mod columns;
#[cfg(all(target_feature = "simd128", feature = "quads"))]
mod digits;
mod linear;
mod math;
mod rounded;
mod row_index;
mod scan;
mod simd;
mod top;
mod trees;

pub use attention::{Attention, normalise};
pub use coarse::Outline;
pub use linear::Linear;
pub use math::{activate, add_scaled, dot, exp};
pub use rounded::{RoundedLinear, RoundedRows, WeightBits};
pub use row_index::RowIndex;
pub use scan::{Packing, Query, add_halves, cosine, cosines, dequantise, has_least, integer_dot};
pub use top::Top;
pub use trees::{TreeNode, add_leaves};

/// The largest whole number that queries and rows are rounded to: 14 bits with the sign.
pub(crate) const LARGEST: i32 = 8191;

/// What is added to a number before it is split into digits.
#[cfg(all(target_feature = "simd128", feature = "quads"))]
pub(crate) const DIGITS_OFFSET: i32 = LARGEST + 1;
