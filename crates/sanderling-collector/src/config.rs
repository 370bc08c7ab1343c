//! How the collector serves.

use std::sync::Arc;
use std::time::Duration;

use crate::{Clock, SystemClock};

/// Settings of [`crate::serve`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Origins whose pages may send reports, such as `https://shop.example`; `*` for any. Empty:
    /// no page of another origin (devices that are not browsers are not affected).
    pub allowed_origins: Vec<String>,
    /// Whether devices may share sessions ([`sanderling_types::SharedSession`]), which are not noised.
    pub accept_sessions: bool,
    /// Raw reports and sessions are deleted, and later ones refused, this long after their window or day has closed;
    /// merged counts stay.
    pub retention_seconds: u32,
    /// How far in the future a report's window or a session's day may start: what clocks of devices may be off by.
    pub early_tolerance_seconds: u32,
    /// What an overloaded answer tells the device to wait.
    pub retry_after_seconds: u32,
    /// How long open requests may take to finish once the shutdown was asked for.
    pub shutdown_grace: Duration,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for Config {
    /// No other origin, no sessions, 90 days of retention, 5 minutes of tolerance, the system's clock.
    fn default() -> Self {
        Self {
            allowed_origins: Vec::new(),
            accept_sessions: false,
            retention_seconds: 90 * 86_400,
            early_tolerance_seconds: 300,
            retry_after_seconds: 5,
            shutdown_grace: Duration::from_secs(10),
            clock: Arc::new(SystemClock),
        }
    }
}
