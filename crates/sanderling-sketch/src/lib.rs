//! Mergeable summaries of distributions, their noise, their distances and tests.
