//! Uniform draws from a seeded generator.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::Rng;

/// Uniform below `n`, which is at least 1 and fits 32 bits (Lemire's multiply-shift; the bias is
/// below `n / 2^32`).
pub(crate) fn below(rng: &mut ChaCha20Rng, n: usize) -> usize {
    ((u64::from(rng.next_u32()) * n as u64) >> 32) as usize
}
