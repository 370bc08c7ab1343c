//! Cross-crate and cross-runtime conformance: golden vectors, bad vectors, the whole loop.
