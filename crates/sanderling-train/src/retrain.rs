//! Retraining: a challenger from fresh logs and what devices reported, and the gate it must pass.

use sanderling_core::Engine;
use sanderling_types::{Manifest, Metric, Result, Segments, SharedSession, TelemetryConstants};
use serde::Serialize;

use crate::data::Dataset;
use crate::evaluate::{self, Evaluation};
use crate::metrics;
use crate::recipe::{GateRecipe, LimitsRecipe, Recipe, TelemetryRecipe};
use crate::recommenders;
use crate::reported::Reported;
use crate::split;
use crate::train::{self, Lineage, Step, Trained};

const SECONDS_PER_DAY: f64 = 86_400.0;

/// One condition of the gate with its evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateCheck {
    /// Name of the condition.
    pub name: &'static str,
    /// Whether it holds.
    pub passed: bool,
    /// What was required, for people.
    pub required: String,
    /// What was found, for people.
    pub found: String,
}

/// Champion against challenger on the newest data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    /// Whether the challenger replaces the champion.
    pub promote: bool,
    /// NDCG@10 of the champion on the challenger's test part.
    pub champion_ndcg10: Metric,
    /// NDCG@10 of the challenger on its test part.
    pub challenger_ndcg10: Metric,
    /// Paired difference, challenger minus champion, on the same cases.
    pub difference_ndcg10: Metric,
    /// Every condition.
    pub checks: Vec<GateCheck>,
}

/// What devices told since the champion was trained.
#[derive(Debug, Clone, Default)]
pub struct News {
    /// See [`Lineage::reported`].
    pub reported: Reported,
    /// See [`Lineage::sessions`].
    pub sessions: Vec<SharedSession>,
}

/// Takes over what a site has decided for its champion: name, recommender, telemetry constants, policy
/// defaults, limits and keys of segments. For retraining without a recipe, which must not change any of them silently.
pub fn inherit(recipe: &mut Recipe, champion: &Manifest, segments: &Segments) {
    recipe.segments = segments.keys().into_iter().map(str::to_owned).collect();
    recipe.name.clone_from(&champion.name);
    if let Some((recommender, neighbours)) = recommenders::named(&champion.recommender) {
        (recipe.recommender, recipe.retrieval.neighbours) = (recommender, Some(neighbours));
    }
    recipe.exclude_seen = Some(champion.policy.exclude_seen);
    recipe.category_cap = champion.policy.category_cap;
    recipe.limits =
        LimitsRecipe { max_candidates: champion.limits.max_candidates, max_limit: champion.limits.max_limit };
    recipe.telemetry = TelemetryRecipe {
        epsilon: champion.telemetry.epsilon,
        fields_per_report: champion.telemetry.fields_per_report,
        window_seconds: champion.telemetry.window_seconds,
    };
}

/// Trains a challenger on `dataset` and judges it against `champion` on the newest part of the same
/// data, which neither has seen. `news` is what devices told since.
///
/// # Errors
/// As [`train::train`].
pub fn retrain(
    champion: &Engine,
    dataset: &Dataset,
    recipe: &Recipe,
    news: News,
    watch: &mut dyn FnMut(Step<'_>) -> bool,
) -> Result<(Trained, Gate)> {
    let manifest = champion.bundle().manifest();
    let parent = Some((champion.bundle().hash(), manifest.version));
    let News { reported, sessions } = news;
    let lineage = Lineage { parent, rollback_index: manifest.rollback_index, reported, sessions };
    let challenger = train::train(dataset, recipe, &lineage, None, watch)?;
    let mut split = split::split(dataset, recipe.split)?;
    split.exclude_seen = recipe.exclude_seen.unwrap_or(split.exclude_seen);
    let reigning = evaluate::alone(champion, &split);
    let mut gate = judge(&reigning, manifest.bundle_bytes(), &challenger, &recipe.gate, recipe.seed);
    gate.checks.push(privacy(&manifest.telemetry, &challenger.manifest.telemetry));
    gate.promote = gate.checks.iter().all(|check| check.passed);
    Ok((challenger, gate))
}

/// Whether a device gives away no more than to the champion: a larger budget needs a person's decision.
fn privacy(champion: &TelemetryConstants, challenger: &TelemetryConstants) -> GateCheck {
    let per_day = |constants: &TelemetryConstants| {
        constants.epsilon * SECONDS_PER_DAY / f64::from(constants.window_seconds.max(1))
    };
    let (before, after) = (per_day(champion), per_day(challenger));
    GateCheck {
        name: "privacy",
        passed: challenger.epsilon <= champion.epsilon && after <= before,
        required: format!("epsilon at most {} a window and {before:.3} a day", champion.epsilon),
        found: format!("{} a window and {after:.3} a day", challenger.epsilon),
    }
}

fn judge(
    champion: &Evaluation,
    champion_bytes: u64,
    challenger: &Trained,
    gate: &GateRecipe,
    seed: u64,
) -> Gate {
    let difference = metrics::paired_ndcg10(&challenger.evaluation.results, &champion.results, seed);
    let metric = |evaluation: &Evaluation, name: &str| evaluation.metrics[name];
    let coverage = |evaluation| metric(evaluation, "coverage@10").value;
    let coverage_ratio = coverage(&challenger.evaluation) / coverage(champion).max(f64::MIN_POSITIVE);
    let size_ratio = challenger.manifest.bundle_bytes() as f64 / champion_bytes.max(1) as f64;
    let checks = vec![
        GateCheck {
            name: "gain",
            passed: difference.low > gate.min_gain,
            required: format!("lower end of the paired NDCG@10 difference above {}", gate.min_gain),
            found: format!("{:.4} ({:.4} to {:.4})", difference.value, difference.low, difference.high),
        },
        GateCheck {
            name: "coverage",
            passed: coverage_ratio >= gate.min_coverage_ratio,
            required: format!("coverage@10 at least {} times the champion's", gate.min_coverage_ratio),
            found: format!("{coverage_ratio:.3}"),
        },
        GateCheck {
            name: "size",
            passed: size_ratio <= gate.max_size_ratio,
            required: format!("at most {} times the champion's bytes", gate.max_size_ratio),
            found: format!("{size_ratio:.3}"),
        },
    ];
    Gate {
        promote: checks.iter().all(|check| check.passed),
        champion_ndcg10: metric(champion, "ndcg@10"),
        challenger_ndcg10: metric(&challenger.evaluation, "ndcg@10"),
        difference_ndcg10: difference,
        checks,
    }
}

#[cfg(test)]
mod tests {
    use sanderling_core::Bundle;
    use sanderling_types::{Interaction, Segment, TimeKind};

    use super::*;
    use crate::recommenders::{Recommender, SecondSource};
    use crate::split::SplitKind;

    fn constants(epsilon: f64, window_seconds: u32) -> TelemetryConstants {
        TelemetryConstants { epsilon, window_seconds, ..TelemetryConstants::default() }
    }

    #[test]
    fn a_challenger_that_reveals_more_is_refused() {
        let champion = constants(2.0, 86_400);
        assert!(privacy(&champion, &constants(2.0, 86_400)).passed);
        assert!(privacy(&champion, &constants(1.0, 86_400)).passed);
        assert!(!privacy(&champion, &constants(2.1, 86_400)).passed);
        // The same budget, twice a day.
        assert!(!privacy(&champion, &constants(2.0, 43_200)).passed);
        // A larger one a window, though less often.
        assert!(!privacy(&champion, &constants(3.0, 2 * 86_400)).passed);
    }

    #[test]
    fn the_rollback_index_of_the_champion_goes_on() {
        let walk = |user: usize| {
            (0..5).map(move |at| Interaction {
                user_id: format!("u{user}").as_str().into(),
                item_id: format!("i{}", (user + at) % 12).as_str().into(),
                kind: "view".to_owned(),
                timestamp: at as i64,
                value: None,
                split: None,
            })
        };
        let dataset = Dataset::new((0..60).flat_map(walk), Vec::new(), TimeKind::UnixSeconds).expect("fits");
        let recipe =
            Recipe { recommender: Recommender::Popular, split: SplitKind::LeaveOneOut, ..Recipe::default() };
        let mut files =
            train::train(&dataset, &recipe, &Lineage::default(), None, &mut |_| true).expect("trains").files;
        let mut manifest =
            Manifest::decode(files.get(Manifest::FILE_NAME).expect("is there")).expect("decodes");
        assert_eq!(manifest.rollback_index, None);
        manifest.rollback_index = Some(7);
        files.insert(Manifest::FILE_NAME, manifest.encode());
        let bundle = Bundle::open(files, None).expect("opens");
        let champion = Engine::new(bundle, &sanderling_core::SlimRuntime).expect("loads");
        let (challenger, _) =
            retrain(&champion, &dataset, &recipe, News::default(), &mut |_| true).expect("trains");
        assert_eq!(challenger.manifest.rollback_index, Some(7), "devices would refuse a smaller one");
    }

    #[test]
    fn without_a_recipe_the_champion_s_decisions_stay() {
        let text = include_bytes!("../../../tests/golden/v1/bundle/manifest.json");
        let mut champion = Manifest::decode(text).expect("the golden manifest decodes");
        champion.telemetry = constants(0.5, 7200);
        champion.telemetry.fields_per_report = 2;
        champion.policy.category_cap = Some(3);
        champion.policy.exclude_seen = !champion.policy.exclude_seen;
        champion.limits.max_limit = 17;
        champion.recommender = "sequence+ease".to_owned();
        let mut recipe = Recipe::default();
        let segment = |key: &str| Segment { items: vec![0], key: key.to_owned(), value: "a".to_owned() };
        let segments =
            Segments { segments: vec![segment("country"), segment("device")], ..Segments::default() };
        inherit(&mut recipe, &champion, &segments);
        assert_eq!(recipe.segments, ["country", "device"]);
        assert_eq!(recipe.telemetry_constants(), champion.telemetry);
        assert_eq!(recipe.category_cap, Some(3));
        assert_eq!(recipe.exclude_seen, Some(champion.policy.exclude_seen));
        assert_eq!(recipe.recommender, Recommender::Sequence);
        assert_eq!(recipe.retrieval.neighbours, Some(SecondSource::Ease));
        assert_eq!((recipe.name, recipe.limits.max_limit), (champion.name, 17));
    }
}
