//! Metrics as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use sanderling_train::card;
use sanderling_train::metrics::Metrics;
use sanderling_types::Quantisation;

/// Metrics that people look at first, in this order.
const SHOWN: [&str; 5] = ["ndcg@10", "hr@10", "hr@20", "mrr@20", "coverage@10"];

/// One row a recommender, one column a metric, value and 95 % interval in each cell.
pub(crate) fn metrics(candidate: &str, metrics: &Metrics, baselines: &BTreeMap<String, Metrics>) -> String {
    let mut out = format!("{:<12}", "");
    for name in SHOWN {
        let _ = write!(out, "{name:>26}");
    }
    let rows = std::iter::once((candidate, metrics)).chain(baselines.iter().map(|(n, m)| (n.as_str(), m)));
    for (name, metrics) in rows {
        let _ = write!(out, "\n{name:<12}");
        for column in SHOWN {
            let cell = metrics.get(column).map_or_else(String::new, |metric| {
                format!("{:.4} ({:.4}–{:.4})", metric.value, metric.low, metric.high)
            });
            let _ = write!(out, "{cell:>26}");
        }
    }
    out
}

/// What each step of packing cost.
pub(crate) fn packing(quantisation: &Quantisation) -> String {
    let mut out = format!("packing, validation NDCG@10: {:.4} with f32 weights", quantisation.ndcg10_f32);
    for step in &quantisation.steps {
        let (saved, words) = (bytes(step.saved_bytes), card::step_words(step));
        let _ = write!(out, "\n  {:.4}  {words}, {saved} less", step.ndcg10);
    }
    out
}

/// Bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        _ => format!("{:.1} MB", count as f64 / 1e6),
    }
}
