//! Receives reports durably, merges windows, judges drift, serves the dashboard.
//!
//! A device posts one [`sanderling_types::Report`] a window. [`serve`] checks it against the
//! registered bundle, hands it to the one writer of the [`Store`], and acknowledges it after the
//! transaction that holds it was committed: what was acknowledged survives a kill, and a report
//! that arrives twice is counted once. [`drift::judge`] compares the merged windows with the
//! bundle's baseline.
//!
//! ```no_run
//! use sanderling_collector::{Config, RegisteredBundle, Store, StoreLocation, StoreOptions, drift, serve};
//!
//! # async fn run() -> sanderling_types::Result<()> {
//! let bundle = RegisteredBundle::read("bundle".as_ref())?;
//! let location: StoreLocation = "reports.db".parse()?; // or postgres://…
//! let store = Store::open(&location, &StoreOptions::default())?;
//! store.register(&bundle)?;
//! let verdict = drift::judge(store.reader(), &bundle, 0..i64::MAX, &drift::Options::default())?;
//! println!("drifted: {}", verdict.drifted);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8787").await.expect("a free port");
//! serve(Config::default(), store, listener, async { tokio::signal::ctrl_c().await.unwrap_or(()) }).await
//! # }
//! ```
//!
//! [`serve_with_admin`] adds a listener of its own for people: counts, verdicts, metrics, erasure and the dashboard, behind
//! an [`AdminToken`], with every number of fewer than [`drift::Options::min_answers`] left out.
//!
//! Where [`Config::accept_sessions`] is set, devices whose users chose so also post one [`sanderling_types::SharedSession`] a session,
//! with the same promises; [`Reader::shared_sessions`] gives them to a trainer.
//!
//! What it does not do: without that setting it never sees a session or an item id; it never sees a model, it keeps and logs no
//! network address, and it reads no argument and no environment variable. No features.
#![deny(missing_docs)]

mod admin;
mod bundle;
mod clock;
mod config;
mod connections;
mod dashboard;
mod decisions;
pub mod drift;
mod metrics;
pub mod online;
mod problem;
mod release;
mod server;
mod status;
mod store;
mod token;
mod validate;

pub use admin::Admin;
pub use bundle::RegisteredBundle;
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::Config;
pub use connections::Connections;
pub use problem::{Problem, http_status};
pub use server::{serve, serve_with_admin};
pub use status::{BundleStatus, Status, WindowStatus};
pub use store::{Merged, Reader, Store, StoreLocation, StoreOptions, register_bundle};
pub use token::AdminToken;
pub use validate::{validate, validate_session};
