//! Two bundles on the same cases: is the second one better?

use sanderling_core::Engine;
use sanderling_types::Metric;

use crate::evaluate::{self, Evaluation};
use crate::metrics;
use crate::split::Split;

/// What two bundles are worth on the same test cases.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The first bundle, without baselines.
    pub a: Evaluation,
    /// The second bundle, without baselines.
    pub b: Evaluation,
    /// Paired difference in NDCG@10, the second minus the first, with a 95 % bootstrap interval over
    /// users.
    pub difference_ndcg10: Metric,
    /// Whether the lower end of the difference is above 0.
    pub better: bool,
}

/// Answers the test cases of `split` with both bundles, each under its own policy: what is compared is
/// what ships. The bootstrap has the seed of `b`.
#[must_use]
pub fn compare(a: &Engine, b: &Engine, mut split: Split) -> Comparison {
    let mut measure = |engine: &Engine| {
        split.exclude_seen = engine.bundle().manifest().policy.exclude_seen;
        evaluate::alone(engine, &split)
    };
    let seed = b.bundle().manifest().training.seed;
    let (a, b) = (measure(a), measure(b));
    let difference_ndcg10 = metrics::paired_ndcg10(&b.results, &a.results, seed);
    Comparison { a, b, difference_ndcg10, better: difference_ndcg10.low > 0.0 }
}
