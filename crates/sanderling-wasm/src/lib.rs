//! Converts JavaScript values to sanderling-core calls and back, no decisions.
