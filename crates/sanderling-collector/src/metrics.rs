//! What happened since this process started, as counts for a monitoring system.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use sanderling_types::{Code, Error, ReportStatus, Result};

/// What [`Metrics::encode`] writes.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug)]
pub(crate) struct Metrics {
    reports: Answers,
    sessions: Answers,
    /// Refused reports and sessions together, for the status.
    rejections: Mutex<BTreeMap<Code, u64>>,
    commit_seconds: Histogram,
}

/// How one kind of message was answered.
#[derive(Debug, Default)]
struct Answers {
    accepted: Counter,
    duplicate: Counter,
    rejected: Family<Refusal, Counter>,
}

/// What a message brought.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Message {
    Report,
    Session,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refusal {
    code: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            reports: Answers::default(),
            sessions: Answers::default(),
            rejections: Mutex::default(),
            // 0.5 ms to 8 s: a commit is a disk sync, and a lock is waited for 5 s.
            commit_seconds: Histogram::new(exponential_buckets(0.000_5, 2.0, 15)),
        }
    }
}

impl Answers {
    /// As `plural` and how they were answered.
    fn register(&self, registry: &mut Registry, plural: &str, title: &str, stored: &str) {
        let mut add = |name: &str, help: String, counter: Counter| {
            registry.register(format!("{plural}_{name}"), help, counter);
        };
        add("accepted", format!("{title} {stored}"), self.accepted.clone());
        add("duplicate", format!("{title} that had been {stored} before"), self.duplicate.clone());
        registry.register(
            format!("{plural}_rejected"),
            format!("{title} refused, by code"),
            self.rejected.clone(),
        );
    }
}

impl Metrics {
    fn answers(&self, message: Message) -> &Answers {
        match message {
            Message::Report => &self.reports,
            Message::Session => &self.sessions,
        }
    }

    /// Counts a receipt, `since_body` after the message had arrived completely.
    pub(crate) fn acknowledged(&self, message: Message, status: ReportStatus, since_body: Duration) {
        let answers = self.answers(message);
        match status {
            ReportStatus::Accepted => &answers.accepted,
            ReportStatus::Duplicate => &answers.duplicate,
        }
        .inc();
        if let Message::Report = message {
            self.commit_seconds.observe(since_body.as_secs_f64());
        }
    }

    /// Counts a refused request.
    pub(crate) fn refused(&self, message: Message, code: Code) {
        self.answers(message).rejected.get_or_create(&Refusal { code: code.as_str() }).inc();
        *self.rejections.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    /// Refused requests by code.
    pub(crate) fn rejections(&self) -> BTreeMap<String, u64> {
        let rejections = self.rejections.lock().unwrap_or_else(PoisonError::into_inner);
        rejections.iter().map(|(code, count)| (code.to_string(), *count)).collect()
    }

    /// The text exposition of the counts and of the store's gauges.
    ///
    /// # Errors
    /// [`Code::Internal`].
    pub(crate) fn encode(&self, queue_capacity_left: u64, database_bytes: Option<u64>) -> Result<String> {
        let mut registry = Registry::with_prefix("sanderling");
        self.reports.register(&mut registry, "reports", "Reports", "counted");
        self.sessions.register(&mut registry, "sessions", "Shared sessions", "stored");
        let help = "Seconds from a report's last byte to the commit that holds it";
        registry.register_with_unit("report_commit", help, Unit::Seconds, self.commit_seconds.clone());
        let left = ConstGauge::new(i64::try_from(queue_capacity_left).unwrap_or(i64::MAX));
        registry.register(
            "queue_capacity_left",
            "Reports and sessions that may still wait for the writer",
            left,
        );
        if let Some(bytes) = database_bytes {
            let bytes = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
            let help = "Size on disk of the database file with its log, or of the tables on the server";
            registry.register_with_unit("database", help, Unit::Bytes, bytes);
        }
        let mut out = String::new();
        text::encode(&mut out, &registry).map_err(|error| {
            Error::new(Code::Internal, "the metrics cannot be written").source_error(error)
        })?;
        Ok(out)
    }
}
