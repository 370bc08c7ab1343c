//! What `GET /v1/status` answers.

use std::collections::BTreeMap;

use sanderling_types::Sha256Hash;
use serde::{Deserialize, Serialize};

/// Counts, without anything about single devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`sanderling_types::FORMAT_VERSION`].
    pub format_version: u32,
    /// Number of reports that were counted, over all bundles and the windows whose counts are shown.
    pub num_reports: u64,
    /// Registered bundles, in the order in which they were registered.
    pub bundles: Vec<BundleStatus>,
    /// Requests with reports or sessions that were refused since this process started, by code.
    pub rejections: BTreeMap<String, u64>,
}

/// One bundle's counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleStatus {
    /// The bundle hash.
    pub bundle_sha256: Sha256Hash,
    /// The bundle's name.
    pub name: String,
    /// The bundle's version.
    pub version: u64,
    /// Sessions that are stored; `None` where an administrator asks and they are fewer than
    /// [`crate::drift::Options::min_answers`].
    pub num_sessions: Option<u64>,
    /// Windows with at least one report, by start.
    pub windows: Vec<WindowStatus>,
}

/// One window's count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowStatus {
    /// Start in Unix seconds.
    pub window_start: i64,
    /// Reports that were counted; `None` where an administrator asks and they are fewer than
    /// [`crate::drift::Options::min_answers`].
    pub num_reports: Option<u64>,
}
