//! Mergeable summaries of distributions, their noise, their distances and tests.
//!
//! A device counts values in [`Histogram`]s and sends single bins through a [`noise::Channel`]
//! (k-ary randomised response, local differential privacy). The collector adds what arrives into
//! histograms again, takes the noise out of the shares ([`noise::Channel::debias`]), measures how
//! far they are from the baseline ([`mod@distance`]) and whether chance explains it
//! ([`mod@test`], and for ordered bins [`mod@trend`]).
//!
//! ```
//! use sanderling_sketch::{Histogram, noise, test};
//!
//! let channel = noise::Channel::new(2.0, 3)?;
//! let mut rng = noise::rng_from_seed([7; 32]);
//! let mut received = Histogram::new(3);
//! for device in 0..3_000 {
//!     let value = device % 3;
//!     received.record(channel.randomise(value, &mut rng))?;
//! }
//! let third = 1.0 / 3.0;
//! let result = test::noised_counts_against_shares(received.counts(), &[third; 3], 10_000, &channel)?;
//! assert!(result.p_value > 0.01);
//! # Ok::<(), sanderling_types::Error>(())
//! ```
//!
//! What this crate does not do: it knows no clock, no file, no network and no random source
//! (seeds are arguments), and it decides nothing; thresholds belong to the caller. No features.
#![deny(missing_docs)]
#![deny(clippy::disallowed_methods)]

pub mod distance;
mod histogram;
pub mod noise;
pub mod segments;
pub mod test;
pub mod trend;

pub use histogram::Histogram;
