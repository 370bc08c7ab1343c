//! Full-catalogue ranking metrics with bootstrap intervals.
//!
//! Every case has one relevant item. With `r` its 1-based rank: `hr@k` is 1 when `r <= k`;
//! `ndcg@k` is `1 / log2(r + 1)` when `r <= k`; `mrr@k` is `1 / r` when `r <= k`. `precision@k` is
//! the session literature's P@k, the share of cases whose item is among the first `k`, which for one
//! relevant item equals `hr@k`. `coverage@k` is the share of the catalogue that appears in any
//! first-`k` list. Intervals are 95 % percentile intervals of a bootstrap over users (or sessions),
//! because cases of one user are not independent.

use std::collections::BTreeMap;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use sanderling_types::Metric;

use crate::draw::below;

/// List length that the metrics need.
pub const LIST_LEN: usize = 20;
/// Cut-offs.
const KS: [usize; 2] = [10, 20];
const RESAMPLES: usize = 1000;
const COVERAGE_RESAMPLES: usize = 200;

/// What a recommender answered to one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// Which user or session the case belongs to.
    pub user: u32,
    /// 1-based rank of the relevant item, when it is among the first [`LIST_LEN`].
    pub rank: Option<u32>,
    /// The first [`LIST_LEN`] vocabulary rows.
    pub list: Vec<u32>,
}

/// Named metrics of one recommender.
pub type Metrics = BTreeMap<String, Metric>;

/// NDCG@10 of one case: the objective that models are chosen by.
#[must_use]
pub fn gain_at_10(rank: Option<u32>) -> f64 {
    rank.filter(|rank| *rank <= 10).map_or(0.0, |rank| 1.0 / f64::from(rank + 1).log2())
}

/// All metrics of `results` over a catalogue of `num_items`; empty results give zeros.
#[must_use]
pub fn metrics(results: &[CaseResult], num_items: usize, seed: u64) -> Metrics {
    let gains: Vec<(String, Vec<f64>)> = KS
        .iter()
        .flat_map(|&k| {
            let within = move |rank: Option<u32>| rank.filter(|rank| *rank as usize <= k);
            let column = |gain: &dyn Fn(u32) -> f64| {
                results.iter().map(|result| within(result.rank).map_or(0.0, gain)).collect()
            };
            [
                (format!("hr@{k}"), column(&|_| 1.0)),
                (format!("precision@{k}"), column(&|_| 1.0)),
                (format!("ndcg@{k}"), column(&|rank| 1.0 / f64::from(rank + 1).log2())),
                (format!("mrr@{k}"), column(&|rank| 1.0 / f64::from(rank))),
            ]
        })
        .collect();
    let mut out = bootstrap_means(results, &gains, seed);
    for k in KS {
        out.insert(format!("coverage@{k}"), coverage(results, k, num_items, seed));
    }
    out
}

/// Cases of each user, users in order of first appearance.
fn by_user(results: &[CaseResult]) -> Vec<Vec<usize>> {
    let mut users: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (i, result) in results.iter().enumerate() {
        users.entry(result.user).or_default().push(i);
    }
    users.into_values().collect()
}

fn bootstrap_means(results: &[CaseResult], gains: &[(String, Vec<f64>)], seed: u64) -> Metrics {
    let users = by_user(results);
    // Per user: number of cases and the sum of every gain.
    let sums: Vec<(f64, Vec<f64>)> = users
        .iter()
        .map(|cases| {
            let of = |column: &Vec<f64>| cases.iter().map(|&case| column[case]).sum();
            (cases.len() as f64, gains.iter().map(|(_, column)| of(column)).collect())
        })
        .collect();
    let mean = |picked: &mut dyn Iterator<Item = usize>| {
        let mut count = 0.0;
        let mut total = vec![0.0; gains.len()];
        for user in picked {
            let (cases, gains) = &sums[user];
            count += cases;
            total.iter_mut().zip(gains).for_each(|(total, gain)| *total += gain);
        }
        total.iter_mut().for_each(|total| *total /= f64::max(count, 1.0));
        total
    };
    let value = mean(&mut (0..users.len()));
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let mut samples = vec![Vec::with_capacity(RESAMPLES); gains.len()];
    for _ in 0..RESAMPLES {
        let resampled = mean(&mut (0..users.len()).map(|_| below(&mut rng, users.len())));
        samples.iter_mut().zip(resampled).for_each(|(samples, value)| samples.push(value));
    }
    gains
        .iter()
        .zip(value)
        .zip(samples)
        .map(|(((name, _), value), samples)| (name.clone(), interval(value, samples)))
        .collect()
}

fn coverage(results: &[CaseResult], k: usize, num_items: usize, seed: u64) -> Metric {
    let users = by_user(results);
    let share = |picked: &mut dyn Iterator<Item = usize>| {
        let mut shown = vec![false; num_items];
        for user in picked {
            for &case in &users[user] {
                results[case].list.iter().take(k).for_each(|&item| shown[item as usize] = true);
            }
        }
        shown.iter().filter(|shown| **shown).count() as f64 / num_items.max(1) as f64
    };
    let value = share(&mut (0..users.len()));
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let samples = (0..COVERAGE_RESAMPLES)
        .map(|_| share(&mut (0..users.len()).map(|_| below(&mut rng, users.len()))))
        .collect();
    let sampled = interval(value, samples);
    // A resample can only see fewer distinct users, so its coverage is biased downwards.
    let Metric { low, high, value } = sampled;
    Metric { low: low.min(value), high: high.max(value), value }
}

fn interval(value: f64, mut samples: Vec<f64>) -> Metric {
    samples.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| {
        let last = samples.len().saturating_sub(1);
        samples.get((q * last as f64).round() as usize).copied().unwrap_or(value)
    };
    let round = |v: f64| (v * 1e6).round() / 1e6;
    Metric { low: round(at(0.025)), high: round(at(0.975)), value: round(value) }
}

/// Bootstrap over users of the mean difference in NDCG@10, `a - b`, over the same cases: the paired
/// comparison of two recommenders.
///
/// # Panics
/// When the two lists do not answer the same cases in the same order.
#[must_use]
pub fn paired_ndcg10(a: &[CaseResult], b: &[CaseResult], seed: u64) -> Metric {
    assert_eq!(a.len(), b.len(), "paired results answer the same cases");
    let differences =
        a.iter().zip(b).map(|(a, b)| gain_at_10(a.rank) - gain_at_10(b.rank)).collect::<Vec<f64>>();
    let named = [("difference".to_owned(), differences)];
    // Unwrap safety: the map holds exactly the one name that went in.
    bootstrap_means(a, &named, seed).remove("difference").expect("one column")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(user: u32, rank: Option<u32>, list: &[u32]) -> CaseResult {
        CaseResult { user, rank, list: list.to_vec() }
    }

    #[test]
    fn values_follow_the_definitions() {
        let results = [
            result(1, Some(1), &[0, 1]),
            result(1, Some(3), &[2]),
            result(2, Some(11), &[0]),
            result(3, None, &[]),
        ];
        let metrics = metrics(&results, 10, 0);
        let value = |name: &str| metrics[name].value;
        assert_eq!(value("hr@10"), 0.5);
        assert_eq!(value("hr@20"), 0.75);
        assert_eq!(value("precision@20"), 0.75);
        assert_eq!(value("ndcg@10"), (1.0 + 0.5) / 4.0);
        assert_eq!(value("mrr@20"), ((1.0 + 1.0 / 3.0 + 1.0 / 11.0) / 4.0 * 1e6_f64).round() / 1e6);
        assert_eq!(value("coverage@10"), 0.3);
    }

    #[test]
    fn intervals_cover_the_mean_and_shrink_with_users() {
        let draw = |n: u32| -> Vec<CaseResult> {
            (0..n).map(|u| result(u, (u % 4 == 0).then_some(1), &[])).collect()
        };
        let width = |n: u32| {
            let metric = metrics(&draw(n), 1, 7)["hr@10"];
            assert!(metric.low < 0.25 && 0.25 < metric.high, "{metric:?}");
            metric.high - metric.low
        };
        let (small, large) = (width(100), width(10_000));
        // 1.96 * 2 * sqrt(0.25 * 0.75 / n)
        assert!((small - 0.170).abs() < 0.03, "{small}");
        assert!((large - 0.017).abs() < 0.003, "{large}");
    }

    #[test]
    fn cases_of_one_user_are_resampled_together() {
        let clustered: Vec<CaseResult> =
            (0..1000).map(|i| result(i / 100, (i / 100 % 2 == 0).then_some(1), &[])).collect();
        let metric = metrics(&clustered, 1, 7)["hr@10"];
        assert!(metric.high - metric.low > 0.4, "ten users say little: {metric:?}");
    }
}
