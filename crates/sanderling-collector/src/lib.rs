//! Receives reports durably, merges windows, judges drift, serves the dashboard.
