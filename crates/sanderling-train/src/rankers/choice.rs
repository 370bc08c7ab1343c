//! Which ranker a bundle gets: each kind is fitted without a part of the users and measured on them, and
//! the simplest one that is not clearly worse than the best stays.

use sanderling_types::{FeatureSpec, Metric};
use serde::Serialize;

use super::lists::{CandidateList, user_numbers};
use super::options::RankerRecipe;
use super::{Ranker, RankerKind, Rounds, gbdt, linear, mlp};
use crate::metrics::{self, CaseResult};

/// Parts of the users; each is measured with rankers of the others.
const FOLDS: u32 = 3;
/// Of the users that are not measured, one in so many decides when a fit ends.
const STOPPING: u32 = 4;
/// Fewer lists that hold their item say nothing.
const MIN_LISTS: usize = 30;

/// What one kind reaches on the lists of users that it was not fitted on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The kind.
    pub kind: RankerKind,
    /// Mean over all lists, with a 95 % bootstrap interval over users.
    pub ndcg10: Metric,
    /// Paired difference to retrieval order on the same lists.
    pub gain_ndcg10: Metric,
    /// Passes of a network or trees of an ensemble; the median over the parts.
    pub rounds: usize,
}

/// What was decided, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RankerReport {
    /// What the bundle runs.
    pub kind: RankerKind,
    /// Why, for people.
    pub reason: String,
    /// Validation lists that were used.
    pub num_lists: usize,
    /// Those that hold the item that came next.
    pub num_with_item: usize,
    /// Every kind that was measured, simplest first.
    pub measured: Vec<Measured>,
}

impl RankerReport {
    /// Of a ranker that was given: its answers to validation cases beside those in retrieval order.
    pub(crate) fn external(answers: &[CaseResult], retrieval: &[CaseResult], seed: u64) -> Self {
        let measured = Measured {
            kind: RankerKind::External,
            ndcg10: metrics::ndcg10_and_hr10(&answers.iter().collect::<Vec<_>>(), seed).0,
            gain_ndcg10: metrics::paired_ndcg10(answers, retrieval, seed),
            rounds: 0,
        };
        Self {
            kind: RankerKind::External,
            reason: "it was given".to_owned(),
            num_lists: answers.len(),
            num_with_item: answers.iter().filter(|answer| answer.rank.is_some()).count(),
            measured: vec![measured],
        }
    }

    /// NDCG@10 that the ranker adds to retrieval order on users that it was not fitted on.
    #[must_use]
    pub fn gain_ndcg10(&self) -> f64 {
        let own = self.measured.iter().find(|measured| measured.kind == self.kind);
        own.map_or(0.0, |measured| measured.gain_ndcg10.value)
    }
}

struct Candidate {
    measured: Measured,
    results: Vec<CaseResult>,
}

struct Chooser<'a> {
    lists: &'a [CandidateList],
    spec: &'a FeatureSpec,
    recipe: &'a RankerRecipe,
    seed: u64,
}

/// Fits, measures and decides as `recipe` says; the ranker is then fitted again on all lists. Of `auto`,
/// a ranker of more than `max_bytes` is left out.
#[must_use]
pub fn choose(
    lists: &[CandidateList],
    spec: &FeatureSpec,
    recipe: &RankerRecipe,
    max_bytes: Option<u64>,
    seed: u64,
) -> (Ranker, RankerReport) {
    let chooser = Chooser { lists, spec, recipe, seed };
    let num_with_item = lists.iter().filter(|list| list.relevant.is_some()).count();
    let mut report = RankerReport {
        kind: RankerKind::None,
        reason: "the recipe wants retrieval order".to_owned(),
        num_lists: lists.len(),
        num_with_item,
        measured: Vec::new(),
    };
    let wanted = recipe.kind.kind();
    if wanted == Some(RankerKind::None) {
        return (Ranker::retrieval_order(spec), report);
    }
    if num_with_item < MIN_LISTS {
        report.reason = format!(
            "{num_with_item} lists hold the item that came next, {MIN_LISTS} are needed to learn from"
        );
        return (Ranker::retrieval_order(spec), report);
    }
    let measures =
        |kind: &RankerKind| *kind == RankerKind::None || wanted.is_none_or(|wanted| wanted == *kind);
    let mut open: Vec<Candidate> =
        RankerKind::ALL.into_iter().filter(measures).map(|kind| chooser.measure(kind)).collect();
    let retrieval = open[0].results.clone();
    for candidate in &mut open {
        candidate.measured.gain_ndcg10 = metrics::paired_ndcg10(&candidate.results, &retrieval, seed);
    }
    report.measured = open.iter().map(|candidate| candidate.measured.clone()).collect();
    let mut left_out = String::new();
    loop {
        let (kind, reason) = match wanted {
            Some(kind) => (kind, "the recipe wants it".to_owned()),
            None => decide(&open, seed),
        };
        let rounds =
            open.iter().find(|open| open.measured.kind == kind).map_or(0, |open| open.measured.rounds);
        let ranker = chooser.fit(kind, &lists.iter().collect::<Vec<_>>(), Rounds::Exactly(rounds)).0;
        let bytes = ranker.files().device_bytes();
        let too_large = max_bytes.is_some_and(|most| bytes > most) && kind != RankerKind::None;
        if wanted.is_some() || !too_large {
            (report.kind, report.reason) = (kind, reason + &left_out);
            return (ranker, report);
        }
        left_out += &format!("; {} needs {bytes} bytes, which the budget does not leave", kind.as_str());
        open.retain(|candidate| candidate.measured.kind != kind);
    }
}

/// The simplest candidate whose difference to the best has an interval that reaches 0. Candidates are in
/// order of simplicity.
fn decide(candidates: &[Candidate], seed: u64) -> (RankerKind, String) {
    let value = |candidate: &Candidate| candidate.measured.ndcg10.value;
    // Unwrap safety: retrieval order is never left out.
    let best = candidates
        .iter()
        .max_by(|a, b| value(a).total_cmp(&value(b)).then(b.measured.kind.cmp(&a.measured.kind)))
        .expect("at least one candidate");
    for candidate in candidates {
        let kind = candidate.measured.kind;
        if kind == best.measured.kind {
            let rivals: Vec<&str> = candidates
                .iter()
                .filter(|other| other.measured.kind < kind)
                .map(|other| other.measured.kind.as_str())
                .collect();
            let reason = if rivals.is_empty() {
                "nothing is better".to_owned()
            } else {
                format!("the best, and clearly better than {}", rivals.join(", "))
            };
            return (kind, reason);
        }
        let behind = metrics::paired_ndcg10(&best.results, &candidate.results, seed);
        if behind.low <= 0.0 {
            let reason = format!(
                "simplest; {} is not clearly better, by {:.4} ({:.4} to {:.4})",
                best.measured.kind.as_str(),
                behind.value,
                behind.low,
                behind.high
            );
            return (kind, reason);
        }
    }
    (best.measured.kind, "the best".to_owned())
}

impl Chooser<'_> {
    fn measure(&self, kind: RankerKind) -> Candidate {
        let mut results: Vec<Option<CaseResult>> = vec![None; self.lists.len()];
        let numbers = user_numbers(self.lists.iter().map(|list| list.user));
        let mut rounds = Vec::new();
        for fold in 0..FOLDS {
            let mut parts: [Vec<&CandidateList>; 2] = [Vec::new(), Vec::new()];
            for (list, number) in
                self.lists.iter().zip(&numbers).filter(|(_, number)| *number % FOLDS != fold)
            {
                parts[usize::from((number / FOLDS).is_multiple_of(STOPPING))].push(list);
            }
            let [learnt, stopping] = &mut parts;
            if kind <= RankerKind::Linear {
                learnt.append(stopping);
            }
            let (ranker, best) = self.fit(kind, learnt, Rounds::BestOn(stopping));
            rounds.push(best);
            for ((list, number), result) in self.lists.iter().zip(&numbers).zip(&mut results) {
                if number % FOLDS == fold {
                    *result = Some(list.result(&ranker.scores(&list.features)));
                }
            }
        }
        rounds.sort_unstable();
        let results: Vec<CaseResult> = results.into_iter().flatten().collect();
        let (ndcg10, _) = metrics::ndcg10_and_hr10(&results.iter().collect::<Vec<_>>(), self.seed);
        let zero = Metric { low: 0.0, high: 0.0, value: 0.0 };
        let measured = Measured { kind, ndcg10, gain_ndcg10: zero, rounds: rounds[rounds.len() / 2] };
        Candidate { measured, results }
    }

    /// A ranker of `kind` and its rounds; retrieval order where there is nothing to learn from.
    fn fit(&self, kind: RankerKind, lists: &[&CandidateList], rounds: Rounds<'_>) -> (Ranker, usize) {
        let (n, recipe) = (self.spec.features.len(), self.recipe);
        let fitted = match kind {
            RankerKind::None | RankerKind::External => None,
            RankerKind::Linear => {
                linear::fit(lists, n, recipe.linear.ridge).map(|weights| (Ranker::Linear(weights), 0))
            }
            RankerKind::Mlp => mlp::fit(lists, n, rounds, &recipe.mlp, &recipe.linear, self.seed)
                .map(|(mlp, epochs)| (Ranker::Mlp(mlp), epochs)),
            RankerKind::Gbdt => {
                let (trees, num_trees) = gbdt::fit(lists, n, rounds, &recipe.gbdt, self.seed);
                Some((Ranker::Gbdt(trees), num_trees))
            }
        };
        fitted.unwrap_or_else(|| (Ranker::retrieval_order(self.spec), 0))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::super::options::WantedRanker;
    use super::*;

    /// Lists of three features whose right item is decided by feature 1, as far as `signal` goes beyond
    /// the noise, while feature 0 (retrieval) is noise and feature 2 a constant.
    pub(crate) fn lists(num_lists: u32, signal: f32) -> Vec<CandidateList> {
        let list = |user: u32| {
            let mut rng = ChaCha20Rng::seed_from_u64(u64::from(user));
            let mut noise = || rng.next_u32() as f32 / u32::MAX as f32;
            let relevant = user % 20;
            let right = |i: u32| if i == relevant { signal } else { 0.0 };
            let features =
                (0..20u32).flat_map(|i| [noise(), noise() * (1.0 - signal) + right(i), 5.0]).collect();
            CandidateList { user, features, relevant: Some(relevant as usize) }
        };
        (0..num_lists).map(list).collect()
    }

    fn spec() -> FeatureSpec {
        let mut spec = FeatureSpec::standard();
        spec.features.truncate(3);
        spec
    }

    fn recipe(kind: WantedRanker) -> RankerRecipe {
        let mut recipe = RankerRecipe { kind, ..RankerRecipe::default() };
        recipe.mlp.max_epochs = 3;
        (recipe.gbdt.max_trees, recipe.gbdt.min_leaf_candidates) = (10, 10);
        recipe
    }

    fn chosen(lists: &[CandidateList], kind: WantedRanker, max_bytes: Option<u64>) -> (Ranker, RankerReport) {
        choose(lists, &spec(), &recipe(kind), max_bytes, 1)
    }

    #[test]
    fn the_simplest_ranker_that_keeps_up_with_the_best_is_chosen() {
        let (ranker, report) = chosen(&lists(200, 0.9), WantedRanker::Auto, None);
        assert_eq!(report.kind, RankerKind::Linear, "{report:?}");
        assert!(matches!(ranker, Ranker::Linear(_)));
        assert!(report.gain_ndcg10() > 0.3 && report.measured.len() == 4, "{report:?}");
        assert_eq!((report.num_lists, report.num_with_item), (200, 200));
    }

    #[test]
    fn users_of_one_remainder_are_divided_too() {
        let mut lists = lists(200, 0.9);
        lists.iter_mut().for_each(|list| list.user *= 12);
        let (_, report) = chosen(&lists, WantedRanker::Auto, None);
        assert_eq!(report.kind, RankerKind::Linear, "{report:?}");
    }

    #[test]
    fn retrieval_order_stays_without_evidence() {
        let noise = chosen(&lists(200, 0.0), WantedRanker::Auto, None);
        assert_eq!(
            (noise.0, noise.1.kind),
            (Ranker::retrieval_order(&spec()), RankerKind::None),
            "{:?}",
            noise.1
        );
        let few = chosen(&lists(20, 1.0), WantedRanker::Auto, None);
        assert_eq!((few.0, few.1.kind), (Ranker::retrieval_order(&spec()), RankerKind::None));
        assert!(few.1.reason.contains("20 lists"), "{}", few.1.reason);
    }

    #[test]
    fn what_the_recipe_wants_is_fitted_whatever_it_gains() {
        for (wanted, kind) in [
            (WantedRanker::Linear, RankerKind::Linear),
            (WantedRanker::Mlp, RankerKind::Mlp),
            (WantedRanker::Gbdt, RankerKind::Gbdt),
        ] {
            let (ranker, report) = chosen(&lists(100, 0.0), wanted, Some(1));
            let kinds: Vec<RankerKind> = report.measured.iter().map(|measured| measured.kind).collect();
            assert_eq!((report.kind, kinds), (kind, vec![RankerKind::None, kind]));
            assert_eq!(ranker.files().trees.is_some(), kind == RankerKind::Gbdt);
        }
    }

    #[test]
    fn a_ranker_over_the_budget_is_left_out() {
        let (_, report) = chosen(&lists(200, 0.9), WantedRanker::Auto, Some(10));
        assert_eq!(report.kind, RankerKind::None);
        assert!(report.reason.contains("linear needs"), "{}", report.reason);
    }
}
