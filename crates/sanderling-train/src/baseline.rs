//! The baseline: which telemetry fields a bundle declares, their bins, and how they were distributed
//! on validation users, each day of a user weighing as much as one report.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use sanderling_core::{Engine, OBSERVED_POSITIONS, Outcome};
use sanderling_types::{
    Baseline, BaselineField, FORMAT_VERSION, FaultCode, Feature, FeatureKind, FieldKind, ItemId, Source,
    TimeKind, Vocabulary,
};

use crate::evaluate;
use crate::split::{Case, Split};

/// Recommendations of a list whose features a device counts.
pub const LIST_LIMIT: u32 = OBSERVED_POSITIONS as u32;
/// Bins of a numeric field. Fewer bins lie less: at epsilon 3 a device keeps its true bin of 5 with
/// probability 0.83, of 10 with 0.69.
const NUM_BINS: usize = 5;
/// Named categories; the rest shares one bin.
const MAX_CATEGORIES: usize = 5;
/// Most device windows that the baseline is measured on.
const MAX_WINDOWS: usize = 2000;
/// Named items; the rest shares one bin. Randomised answers of so few labels are as exact as hashed ones would be:
/// direct encoding wins below 3 e^epsilon + 2 labels, 62 at epsilon 3 (Wang et al. 2017, section 5).
const MAX_ITEMS: usize = 30;
/// Bands of the first score of a list, each with its own rate of choices: two bins a band.
const NUM_BANDS: usize = 3;
/// Lengths of the history that a list is made from, those of the slices of an evaluation; two bins each.
const HISTORIES: [&str; 5] = ["0", "1-2", "3-5", "6-20", "over-20"];
/// What devices answer that have nothing to tell: any other bin would look like an answer.
const UNTOLD: &str = "untold";
/// Inner edges of the time that a list takes, in milliseconds.
const LATENCY_EDGES: [f32; 7] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
/// Field of the first category of the last session item.
pub const CATEGORY_FIELD: &str = "interaction.category";
/// Field of the last session item itself.
pub const ITEM_FIELD: &str = "interaction.item";
/// Field of the step from the category of one item to that of the next.
pub const TRANSITION_FIELD: &str = "transition.category";
/// Field of the ranker score of the first item of a list.
const FIRST_SCORE_FIELD: &str = "score.first";
/// The bin of items in none of the named categories, and of items without a bin of their own.
pub const OTHER: &str = "other";
/// The bin of items that the bundle does not know.
pub const UNKNOWN: &str = "unknown";

/// What one device reports on at once: a user and the start of a window.
type Window = (u32, i64);
/// Values of one field by device window.
type ByWindow<T> = BTreeMap<Window, Vec<T>>;

/// What was seen when the engine answered the validation cases.
#[derive(Debug, Default)]
struct Seen {
    numeric: BTreeMap<String, ByWindow<f32>>,
    /// Bins of [`CATEGORY_FIELD`] and [`TRANSITION_FIELD`].
    steps: BTreeMap<&'static str, ByWindow<usize>>,
}

/// Fields whose bins do not depend on data, and numeric fields with a provisional edge: the baseline
/// of a draft bundle that is only run to measure.
#[must_use]
pub fn draft(engine_fields: &[String], vocabulary: &Vocabulary) -> Baseline {
    let numeric = engine_fields.iter().map(|name| BaselineField {
        name: name.clone(),
        bins: FieldKind::Numeric { edges: vec![0.0] },
        shares: None,
        num_devices: 0,
    });
    let fields = numeric.chain(fixed_fields(vocabulary, 0)).collect();
    Baseline { format_version: FORMAT_VERSION, fields }
}

/// Names of the numeric fields of a feature spec: every feature and the three scores.
#[must_use]
pub fn numeric_names(spec: &sanderling_types::FeatureSpec) -> Vec<String> {
    let features = spec.features.iter().map(|feature| format!("feature.{}", feature.name));
    let scores = ["score.retrieval", "score.ranker", FIRST_SCORE_FIELD];
    features.chain(scores.map(str::to_owned)).collect()
}

/// Fields whose bins do not depend on what the engine answers; `num_bands` are the bins of the first score.
fn fixed_fields(vocabulary: &Vocabulary, num_bands: usize) -> Vec<BaselineField> {
    let field =
        |name: &str, bins| BaselineField { name: name.to_owned(), bins, shares: None, num_devices: 0 };
    let categorical = |name: &str, labels| field(name, FieldKind::Categorical { labels });
    let told = |names: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        names.chain([UNTOLD]).map(str::to_owned).collect()
    };
    let or_none = |names: &mut dyn Iterator<Item = &str>| told(&mut std::iter::once("none").chain(names));
    let sources = || Source::ALL.iter().map(|(_, name)| *name);
    let mut faults = FaultCode::ALL.iter().map(|(_, name)| *name);
    let categories = category_labels(vocabulary);
    let transitions = transition_labels(&categories);
    let bands: Vec<String> = (1..=num_bands).map(|band| band.to_string()).collect();
    let latency = FieldKind::Numeric { edges: LATENCY_EDGES.to_vec() };
    let mut fields = vec![
        categorical(CATEGORY_FIELD, categories),
        categorical(TRANSITION_FIELD, transitions),
        categorical(ITEM_FIELD, item_labels(vocabulary)),
        categorical("impression.source", told(&mut sources())),
        categorical("outcome.position", or_none(&mut ["1", "2-3", "4-10", "over_10"].into_iter())),
        categorical("outcome.source", or_none(&mut sources())),
        categorical("outcome.calibration", fate_labels(bands.iter().map(String::as_str))),
        categorical("outcome.history", fate_labels(HISTORIES.into_iter())),
        field("latency", latency),
        categorical("fault", or_none(&mut faults)),
    ];
    // Two steps with one name could not be told apart, and no bands have no rates.
    fields.retain(|field| has_distinct_bins(&field.bins));
    fields
}

/// Two labels a segment, for lists of which nothing and something was chosen, and one for devices that were told of no outcome. No segments have no labels.
fn fate_labels<'a>(segments: impl Iterator<Item = &'a str>) -> Vec<String> {
    let fates = segments.flat_map(|segment| ["ignored", "chosen"].map(|fate| format!("{segment} {fate}")));
    let mut labels: Vec<String> = fates.collect();
    if !labels.is_empty() {
        labels.push(UNTOLD.to_owned());
    }
    labels
}

fn has_distinct_bins(bins: &FieldKind) -> bool {
    let FieldKind::Categorical { labels } = bins else { return true };
    (2..=Baseline::MAX_BINS).contains(&labels.len())
        && labels.iter().collect::<BTreeSet<_>>().len() == labels.len()
}

/// One label for each category of an item with that of the next one, bin `from * categories + to`, and one for lists that were
/// made of a single item.
fn transition_labels(categories: &[String]) -> Vec<String> {
    let steps = categories.iter().flat_map(|from| categories.iter().map(move |to| (from, to)));
    steps.map(|(from, to)| format!("{from} > {to}")).chain(["first".to_owned()]).collect()
}

/// Items by number of training interactions, the largest first, then the rest and what the bundle does not know.
fn item_labels(vocabulary: &Vocabulary) -> Vec<String> {
    let rest = [OTHER, UNKNOWN];
    let mut ranked: Vec<(u32, &ItemId)> =
        vocabulary.popularity.iter().copied().zip(&vocabulary.item_ids).collect();
    ranked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    let ids = ranked.into_iter().map(|(_, id)| id.as_str()).filter(|id| !rest.contains(id));
    ids.take(MAX_ITEMS).chain(rest).map(str::to_owned).collect()
}

/// First categories by number of training interactions, the largest first, and `other`.
fn category_labels(vocabulary: &Vocabulary) -> Vec<String> {
    let mut counts: BTreeMap<u16, u64> = BTreeMap::new();
    for (categories, &count) in vocabulary.item_categories.iter().zip(&vocabulary.popularity) {
        if let Some(&first) = categories.first() {
            *counts.entry(first).or_default() += u64::from(count);
        }
    }
    let mut ranked: Vec<(u64, u16)> = counts.into_iter().map(|(category, count)| (count, category)).collect();
    ranked.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    let names = ranked.iter().map(|(_, category)| vocabulary.categories[usize::from(*category)].clone());
    let mut labels: Vec<String> =
        names.filter(|name| name != OTHER && name != "none").take(MAX_CATEGORIES).collect();
    labels.push(OTHER.to_owned());
    labels.push("none".to_owned());
    labels
}

/// Measures the baseline by answering validation cases with `engine` the way a device does: all cases
/// of a user in one window of `window_seconds` together.
#[must_use]
pub fn measure(engine: &Engine, split: &Split, window_seconds: u32) -> Baseline {
    let seen = observe(engine, split, &device_windows(split, window_seconds));
    let spec = engine.bundle().features();
    // A bundle that only ever lists the fallback has no features and no scores to tell of.
    let measured = numeric_names(spec).into_iter().filter(|name| seen.numeric.contains_key(name));
    let mut fields: Vec<BaselineField> = measured
        .map(|name| numeric_field(&name, seen.numeric.get(&name)))
        .filter(|field| !is_constant(field))
        .collect();
    for field in &mut fields {
        let moves = |f: &&Feature| moves_with_time(f.kind) && field.name == format!("feature.{}", f.name);
        if spec.features.iter().any(|f| moves(&f)) {
            (field.shares, field.num_devices) = (None, 0);
        }
    }
    let first_score = fields.iter().find(|field| field.name == FIRST_SCORE_FIELD);
    let num_bands = first_score.map_or(0, |field| field.bins.num_bins());
    for mut field in fixed_fields(&engine.bundle().vocabulary().unpack(), num_bands) {
        if let Some(bins) = seen.steps.get(field.name.as_str()) {
            field.num_devices = num_users(bins);
            field.shares = Some(shares(bins, field.bins.num_bins()));
        }
        fields.push(field);
    }
    Baseline { format_version: FORMAT_VERSION, fields }
}

/// Features whose distribution moves with the calendar without any drift: items grow older, and
/// histories longer, every day. They are judged against an earlier window, not against training.
const fn moves_with_time(kind: FeatureKind) -> bool {
    matches!(kind, FeatureKind::AgeDays | FeatureKind::SessionLength)
}

/// A field that never left its first bin has nothing to say.
fn is_constant(field: &BaselineField) -> bool {
    field.shares.as_ref().is_some_and(|shares| shares[0] >= 1.0)
}

/// Validation cases by device window; where there are many, evenly spaced windows with all their cases.
fn device_windows(split: &Split, window_seconds: u32) -> BTreeMap<Window, Vec<Case>> {
    let mut windows: BTreeMap<Window, Vec<Case>> = BTreeMap::new();
    for &case in &split.validation {
        let start = match split.time {
            TimeKind::UnixSeconds => split.target(case).timestamp.div_euclid(i64::from(window_seconds)),
            TimeKind::Order => 0,
        };
        windows.entry((case.user, start)).or_default().push(case);
    }
    let (len, kept) = (windows.len(), windows.len().min(MAX_WINDOWS));
    let wanted = |i: usize| (i * kept / len) != ((i + 1) * kept / len);
    windows.into_iter().enumerate().filter(|(i, _)| wanted(*i)).map(|(_, window)| window).collect()
}

fn observe(engine: &Engine, split: &Split, windows: &BTreeMap<Window, Vec<Case>>) -> Seen {
    let names = numeric_names(engine.bundle().features());
    let cases: Vec<(Window, Case)> =
        windows.iter().flat_map(|(window, cases)| cases.iter().map(|case| (*window, *case))).collect();
    let outcomes: Vec<(Window, Outcome, Option<usize>)> = cases
        .par_iter()
        .map(|&(window, case)| {
            let request = evaluate::request(split, case, LIST_LIMIT, split.exclude_seen);
            (window, engine.recommend(&request), category_bin(engine, split, split.target(case).item))
        })
        .collect();
    let baseline = engine.bundle().baseline();
    let mut seen = Seen::default();
    for (window, outcome, target_bin) in outcomes {
        for (at, value) in measured(&outcome, names.len()) {
            seen.numeric.entry(names[at].clone()).or_default().entry(window).or_default().push(value);
        }
        for name in [CATEGORY_FIELD, TRANSITION_FIELD] {
            let field = baseline.fields.iter().position(|field| field.name == name);
            let observed = outcome.observations.iter().filter(|observed| Some(observed.field) == field);
            let chosen = target_bin.filter(|_| name == CATEGORY_FIELD);
            let bins = observed.map(|observed| observed.bin).chain(chosen).collect::<Vec<_>>();
            if !bins.is_empty() {
                seen.steps.entry(name).or_default().entry(window).or_default().extend(bins);
            }
        }
    }
    seen
}

/// The bin that a device counts when the user chooses `item`.
fn category_bin(engine: &Engine, split: &Split, item: u32) -> Option<usize> {
    let bins = &engine.bundle().baseline().field(CATEGORY_FIELD)?.bins;
    let vocabulary = &split.vocabulary;
    let first = vocabulary.item_categories.get(item as usize).and_then(|categories| categories.first());
    let label = first.map_or("none", |&category| vocabulary.categories[usize::from(category)].as_str());
    bins.bin_of_label(label).or_else(|| bins.bin_of_label(OTHER))
}

/// Values of an outcome with the index of their field in [`numeric_names`].
fn measured(outcome: &Outcome, num_names: usize) -> Vec<(usize, f32)> {
    let num_features = num_names - 3;
    let features =
        outcome.features.chunks_exact(num_features).flat_map(|row| row.iter().copied().enumerate());
    let retrieval = outcome.retrieval_scores.iter().map(|&score| (num_features, score));
    // A fallback list has no scores; its ranker scores are zeros that mean nothing.
    let ranked = outcome.response.recommendations.iter().zip(&outcome.retrieval_scores);
    let ranker = ranked.clone().map(|(recommendation, _)| (num_features + 1, recommendation.score));
    let first = ranked.take(1).map(|(recommendation, _)| (num_features + 2, recommendation.score));
    features.chain(retrieval).chain(ranker).chain(first).collect()
}

fn numeric_field(name: &str, values: Option<&ByWindow<f32>>) -> BaselineField {
    let empty = ByWindow::new();
    let values = values.unwrap_or(&empty);
    let num_bins = if name == FIRST_SCORE_FIELD { NUM_BANDS } else { NUM_BINS };
    let bins = FieldKind::Numeric { edges: edges(values, num_bins) };
    let binned: ByWindow<usize> = values
        .iter()
        .map(|(window, values)| {
            (*window, values.iter().map(|&value| bins.bin_of_value(value).unwrap_or(0)).collect())
        })
        .collect();
    let known = !binned.is_empty();
    BaselineField {
        name: name.to_owned(),
        shares: known.then(|| shares(&binned, bins.num_bins())),
        num_devices: num_users(&binned),
        bins,
    }
}

/// Distinct inner quantiles over all values, for `num_bins` bins; one edge above a constant.
fn edges(values: &ByWindow<f32>, num_bins: usize) -> Vec<f32> {
    let mut all: Vec<f32> = values.values().flatten().copied().filter(|value| value.is_finite()).collect();
    all.sort_unstable_by(f32::total_cmp);
    let (Some(&least), Some(&most)) = (all.first(), all.last()) else { return vec![0.0] };
    let mut edges: Vec<f32> = (1..num_bins).map(|i| all[all.len() * i / num_bins]).collect();
    edges.retain(|edge| *edge > least);
    edges.dedup();
    if edges.is_empty() {
        edges.push(if most > least { most } else { least.abs().mul_add(0.5, least + 0.5) });
    }
    edges
}

/// Distinct users: windows of one user resemble each other and are no independent draws.
fn num_users<T>(windows: &ByWindow<T>) -> u64 {
    windows.keys().map(|(user, _)| user).collect::<BTreeSet<_>>().len() as u64
}

/// Mean over windows of each window's own distribution, rounded so that it is the same everywhere.
fn shares(bins: &ByWindow<usize>, num_bins: usize) -> Vec<f64> {
    let mut shares = vec![0.0; num_bins];
    for bins in bins.values() {
        for &bin in bins {
            shares[bin] += 1.0 / bins.len() as f64;
        }
    }
    let total: f64 = shares.iter().sum();
    shares.iter().map(|share| (share / total * 1e9).round() / 1e9).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_distinct_quantiles_and_survive_constants() {
        let values = |values: &[f32]| ByWindow::from([((1, 0), values.to_vec())]);
        let spread: Vec<f32> = (0..500).map(|i| i as f32).collect();
        assert_eq!(edges(&values(&spread), 5), [100.0, 200.0, 300.0, 400.0]);
        assert_eq!(edges(&values(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 2.0]), 5), [1.0]);
        let constant = edges(&values(&[3.0; 5]), 5);
        assert!(constant.len() == 1 && constant[0] > 3.0, "{constant:?}");
    }

    #[test]
    fn several_windows_of_a_user_are_one_device() {
        let values = ByWindow::from([((1, 0), vec![1.0]), ((1, 1), vec![2.0]), ((2, 1), vec![3.0])]);
        assert_eq!(numeric_field("score.ranker", Some(&values)).num_devices, 2);
    }

    #[test]
    fn every_window_weighs_the_same() {
        let bins = ByWindow::from([((1, 0), vec![0; 9]), ((1, 1), vec![1])]);
        assert_eq!(shares(&bins, 2), [0.5, 0.5]);
    }
}
