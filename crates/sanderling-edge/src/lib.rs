//! A wasi:http component: HTTP to sanderling-core calls and back.
