//! Full-catalogue ranking metrics with bootstrap intervals.
//!
//! Every case has one relevant item. With `r` its 1-based rank: `hr@k` is 1 when `r <= k`;
//! `ndcg@k` is `1 / log2(r + 1)` when `r <= k`; `mrr@k` is `1 / r` when `r <= k`. `precision@k` is
//! the session literature's P@k, the share of cases whose item is among the first `k`; for one
//! relevant item it and `recall@k`, the share of relevant items that are among them, equal `hr@k`.
//!
//! Three look at what is listed, right or not (Castells, Hurley and Vargas 2015, "Novelty and diversity
//! in recommender systems"). `coverage@k` is the share of the catalogue that appears in any first-`k`
//! list. `novelty@k` is the mean self-information of the first `k` items in bits, `-log2` of the item's
//! share of training interactions; 0 and more. `gini@k` is the Gini index over the catalogue of how
//! often an item is in a first-`k` list: 0 when all are equally often, 1 when one item is in all.
//!
//! Intervals are 95 % percentile intervals of a bootstrap over users (or sessions), because cases of
//! one user are not independent.

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
/// Resamples of what is counted over the whole catalogue, each of which reads every list again.
const CATALOGUE_RESAMPLES: usize = 200;

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

/// Six digits, as every metric is stated.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// Mean NDCG@10 of `results`; 0 of none.
#[must_use]
pub fn mean_ndcg10(results: &[CaseResult]) -> f64 {
    results.iter().map(|result| gain_at_10(result.rank)).sum::<f64>() / results.len().max(1) as f64
}

/// All metrics of `results`, whose lists hold rows of `popularity` `[num_items]`: training interactions
/// of every item. Empty results give zeros.
#[must_use]
pub fn metrics(results: &[CaseResult], popularity: &[u32], seed: u64) -> Metrics {
    let total: f64 = popularity.iter().map(|&count| f64::from(count)).sum();
    let bits = |&count: &u32| (total.max(1.0) / f64::from(count.max(1))).log2();
    let bits: Vec<f64> = popularity.iter().map(bits).collect();
    let columns: Vec<Column> = KS
        .iter()
        .flat_map(|&k| {
            let novelty = results.iter().map(|result| mean_bits(&result.list, k, &bits)).collect();
            [
                gain_column("hr", k, results, |_| 1.0),
                gain_column("precision", k, results, |_| 1.0),
                gain_column("recall", k, results, |_| 1.0),
                gain_column("ndcg", k, results, |rank| 1.0 / f64::from(rank + 1).log2()),
                gain_column("mrr", k, results, |rank| 1.0 / f64::from(rank)),
                (format!("novelty@{k}"), novelty),
            ]
        })
        .collect();
    let users = by_user(results.iter());
    let mut out = bootstrap_means(&users, &columns, seed);
    for k in KS {
        out.extend(over_catalogue(results, &users, k, popularity.len(), seed));
    }
    out
}

/// NDCG@10 and HR@10 of a part of the results, as in [`metrics`].
#[must_use]
pub fn ndcg10_and_hr10(results: &[&CaseResult], seed: u64) -> (Metric, Metric) {
    let columns = [
        gain_column("ndcg", 10, results.iter().copied(), |rank| gain_at_10(Some(rank))),
        gain_column("hr", 10, results.iter().copied(), |_| 1.0),
    ];
    let mut metrics = bootstrap_means(&by_user(results.iter().copied()), &columns, seed);
    let mut take = |(name, _): &Column| {
        // Unwrap safety: every column comes back under its name.
        metrics.remove(name).expect("a metric a column")
    };
    (take(&columns[0]), take(&columns[1]))
}

/// A metric's name with its value in every case.
type Column = (String, Vec<f64>);

/// `gain` of the rank where that is at most `k`, else 0.
fn gain_column<'a>(
    name: &str,
    k: usize,
    results: impl IntoIterator<Item = &'a CaseResult>,
    gain: impl Fn(u32) -> f64,
) -> Column {
    let value = |result: &CaseResult| result.rank.filter(|rank| *rank as usize <= k).map_or(0.0, &gain);
    (format!("{name}@{k}"), results.into_iter().map(value).collect())
}

/// Mean of `bits` over the first `k` items; an empty list tells nothing new.
fn mean_bits(list: &[u32], k: usize, bits: &[f64]) -> f64 {
    let shown = &list[..list.len().min(k)];
    shown.iter().map(|&item| bits[item as usize]).sum::<f64>() / shown.len().max(1) as f64
}

/// Places of each user's cases in `results`, users in ascending order.
fn by_user<'a>(results: impl Iterator<Item = &'a CaseResult>) -> Vec<Vec<usize>> {
    let mut users: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (i, result) in results.enumerate() {
        users.entry(result.user).or_default().push(i);
    }
    users.into_values().collect()
}

fn bootstrap_means(users: &[Vec<usize>], gains: &[Column], seed: u64) -> Metrics {
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

/// `coverage@k` and `gini@k`: what is counted over all lists together.
fn over_catalogue(
    results: &[CaseResult],
    users: &[Vec<usize>],
    k: usize,
    num_items: usize,
    seed: u64,
) -> [(String, Metric); 2] {
    let measure = |picked: &mut dyn Iterator<Item = usize>| {
        let mut shown = vec![0u32; num_items];
        for case in picked.flat_map(|user| &users[user]) {
            results[*case].list.iter().take(k).for_each(|&item| shown[item as usize] += 1);
        }
        shown.sort_unstable();
        let covered = shown.iter().filter(|count| **count > 0).count();
        (covered as f64 / num_items.max(1) as f64, gini(&shown))
    };
    let (coverage, concentration) = measure(&mut (0..users.len()));
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (coverages, concentrations) = (0..CATALOGUE_RESAMPLES)
        .map(|_| measure(&mut (0..users.len()).map(|_| below(&mut rng, users.len()))))
        .unzip();
    // A resample can only see fewer distinct users, so it covers less and is more concentrated: the
    // interval is widened to the value.
    let widened = |value, samples| {
        let Metric { low, high, value } = interval(value, samples);
        Metric { low: low.min(value), high: high.max(value), value }
    };
    [
        (format!("coverage@{k}"), widened(coverage, coverages)),
        (format!("gini@{k}"), widened(concentration, concentrations)),
    ]
}

/// Gini index of ascending counts, 0 to 1: `sum((2 i - n - 1) x_i) / ((n - 1) sum(x_i))`; 0 when nothing
/// is counted or there is one item only.
fn gini(ascending: &[u32]) -> f64 {
    let n = ascending.len() as f64;
    let total: f64 = ascending.iter().map(|&count| f64::from(count)).sum();
    let weighted: f64 =
        (1u32..).zip(ascending).map(|(i, &x)| (2.0 * f64::from(i) - n - 1.0) * f64::from(x)).sum();
    if total > 0.0 && n > 1.0 { weighted / ((n - 1.0) * total) } else { 0.0 }
}

/// 95 % percentile interval of bootstrap samples.
pub(crate) fn interval(value: f64, mut samples: Vec<f64>) -> Metric {
    samples.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| {
        let last = samples.len().saturating_sub(1);
        samples.get((q * last as f64).round() as usize).copied().unwrap_or(value)
    };
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
    bootstrap_means(&by_user(a.iter()), &named, seed).remove("difference").expect("one column")
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
        let metrics = metrics(&results, &[1; 10], 0);
        let value = |name: &str| metrics[name].value;
        assert_eq!(value("hr@10"), 0.5);
        assert_eq!(value("hr@20"), 0.75);
        assert_eq!((value("precision@20"), value("recall@20")), (0.75, 0.75));
        assert_eq!(value("ndcg@10"), (1.0 + 0.5) / 4.0);
        assert_eq!(value("mrr@20"), ((1.0 + 1.0 / 3.0 + 1.0 / 11.0) / 4.0 * 1e6_f64).round() / 1e6);
        assert_eq!(value("coverage@10"), 0.3);
    }

    #[test]
    fn novelty_is_the_self_information_of_what_is_listed() {
        // Shares of training: 1/2, 1/4, 1/8, 1/8, which are 1, 2, 3 and 3 bits.
        let popularity = [8, 4, 2, 2];
        let novelty = |lists: &[&[u32]]| {
            let results: Vec<CaseResult> =
                (0..).zip(lists).map(|(user, list)| result(user, None, list)).collect();
            metrics(&results, &popularity, 0)["novelty@10"]
        };
        assert_eq!(novelty(&[&[0]]).value, 1.0);
        assert_eq!(
            novelty(&[&[0], &[2, 3], &[1, 3]]).value,
            ((1.0 + 3.0 + 2.5) / 3.0 * 1e6_f64).round() / 1e6
        );
        let spread = novelty(&[&[0], &[2], &[0], &[2]]);
        assert!(spread.low < spread.value && spread.value < spread.high, "{spread:?}");
        assert_eq!(novelty(&[]).value, 0.0);
    }

    #[test]
    fn gini_goes_from_equal_shares_to_one_item_for_all() {
        let gini = |lists: &[&[u32]]| {
            let results: Vec<CaseResult> =
                (0..).zip(lists).map(|(user, list)| result(user, None, list)).collect();
            metrics(&results, &[1; 4], 0)["gini@10"]
        };
        assert_eq!(gini(&[&[0, 1], &[2, 3]]).value, 0.0);
        assert_eq!(gini(&[&[3], &[3], &[3]]).value, 1.0);
        // Counts 0, 1, 1, 2: (-3*0 - 1*1 + 1*1 + 3*2) / (3 * 4).
        let some = gini(&[&[0, 1], &[2, 0]]);
        assert_eq!(some.value, 0.5);
        assert!(some.low <= 0.5 && 0.5 <= some.high, "{some:?}");
        assert_eq!(gini(&[]).value, 0.0);
    }

    #[test]
    fn intervals_cover_the_mean_and_shrink_with_users() {
        let draw = |n: u32| -> Vec<CaseResult> {
            (0..n).map(|u| result(u, (u % 4 == 0).then_some(1), &[])).collect()
        };
        let width = |n: u32| {
            let metric = metrics(&draw(n), &[1], 7)["hr@10"];
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
        let metric = metrics(&clustered, &[1], 7)["hr@10"];
        assert!(metric.high - metric.low > 0.4, "ten users say little: {metric:?}");
    }
}
