//! What a command cost: CPU time, wall time and peak memory of this process.

use std::time::Instant;

use serde::Serialize;

/// Costs so far.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) wall_seconds: f64,
    pub(crate) peak_rss_bytes: u64,
}

impl Usage {
    /// Costs of the process; wall time counts from `start`.
    #[cfg(unix)]
    pub(crate) fn since(start: Instant) -> Self {
        use nix::sys::resource::{UsageWho, getrusage};
        let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 * 1e-6;
        // `ru_maxrss` is in bytes on macOS and in KiB elsewhere.
        let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
        let (cpu_seconds, peak_rss_bytes) = getrusage(UsageWho::RUSAGE_SELF).map_or((0.0, 0), |usage| {
            let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
            (cpu, u64::try_from(usage.max_rss()).unwrap_or(0) * unit)
        });
        Self { cpu_seconds, wall_seconds: start.elapsed().as_secs_f64(), peak_rss_bytes }
    }

    /// Wall time only: this platform has no `getrusage`.
    #[cfg(not(unix))]
    pub(crate) fn since(start: Instant) -> Self {
        Self { cpu_seconds: 0.0, wall_seconds: start.elapsed().as_secs_f64(), peak_rss_bytes: 0 }
    }
}
