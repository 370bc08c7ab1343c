//! A wasi:http component: HTTP to sanderling-core calls and back.
//!
//! Built for plain `wasm32-unknown-unknown` and turned into a component by `./build.sh wasm`, so it
//! imports nothing but HTTP and clocks: no files, no random source. Time and seed are fields of
//! the request, as everywhere in the engine; the wall clock only stands in for an absent `now`, both clocks make
//! an absent `seed`, another one for every request, and the monotonic one keeps `deadline_ms`.
//!
//! | Request | Body | Answer |
//! |---|---|---|
//! | `PUT /bundle` | a container ([`sanderling_types::pack_files`]) with the bundle's files | `{"bundle_sha256"}` |
//! | `POST /recommend` | [`sanderling_types::Request`] as JSON | [`sanderling_types::Response`] as JSON |
//! | `POST /operations` | JSON array of golden-vector operations | JSON array of their results |
//! | `GET /healthz` | – | `{"status","version","bundle_sha256"}` |
//!
//! `PUT /bundle` may carry the header `sanderling-public-key`, 64 lower-case hex digits; the bundle's
//! signature must then verify with that key. Once such a bundle is loaded, only bundles that verify with
//! the same key replace it, for as long as the instance lives. Every failure is a problem document
//! (`application/problem+json`) with a stable `code`. `POST /recommend` may carry `sanderling-waited-ms`, how long
//! the host let it wait: so much of its `deadline_ms` is over. A host that passes requests on sets it or takes it away.
//!
//! `PUT /bundle` and `POST /operations` are for the host alone: there is no authentication, and whoever
//! sends the first bundle chooses its key. A host that passes on requests from outside must let
//! `POST /recommend` and `GET /healthz` through and nothing else.
//!
//! The bundle lives in the instance, so the host must send all requests to one instance; a host
//! that makes an instance a request gets `503` from `POST /recommend`.
#![deny(missing_docs)]

mod problem;
mod service;
#[cfg(target_arch = "wasm32")]
mod wasi;

pub use service::{HttpRequest, HttpResponse, Method, PUBLIC_KEY_HEADER, Service, WAITED_HEADER};
