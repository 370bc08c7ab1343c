//! What of a field moved: which bins, and for whom.

use sanderling_sketch::noise::Estimate;
use sanderling_sketch::segments::{Segments, SegmentsTest};
use sanderling_sketch::test::{holm, normal_bound};
use sanderling_types::{Baseline, BaselineField, FieldKind};
use serde::{Deserialize, Serialize};

/// Most bins that are named.
const MAX_MOVES: usize = 3;
/// Probability that any bin of a field or segment is named by chance.
const ALPHA: f64 = 0.05;
/// The label of devices that had nothing to tell; the last one of fields that have it.
const UNTOLD: &str = "untold";
/// The field of interactions, whose labels are the segments of the steps from one to the next.
const CATEGORY: &str = "interaction.category";
const TRANSITION: &str = "transition.category";
/// The field whose segments are lengths of the history.
const HISTORY: &str = "outcome.history";
/// What became of a list: the ends of the two labels of a segment.
const FATES: [&str; 2] = [" ignored", " chosen"];

/// A bin whose share is another now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Move {
    /// Label of the bin, or its interval.
    pub label: String,
    /// The share before.
    pub baseline_share: f64,
    /// The share now.
    pub share: f64,
    /// Standard error of the difference.
    pub standard_error: f64,
}

/// A segment of a field: `band 2` of scores, `history 3-5`, steps `after` a category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentDrift {
    /// Its name.
    pub name: String,
    /// Its share of all segments before.
    pub baseline_share: f64,
    /// The same now.
    pub share: f64,
    /// What moved inside of it, of shares that sum to 1 inside; empty unless it shifted.
    pub moves: Vec<Move>,
    /// How much moved inside of it, on the scale of [`super::FieldDrift::effect`]; absent of a segment that may be empty.
    pub effect: Option<f64>,
    /// Probability of that without drift, after Holm's correction over the segments of the field.
    pub adjusted_p_value: Option<f64>,
    /// Whether the field shifted, and this segment has a part in it.
    pub shifted: bool,
}

/// How the bins of a field are divided.
pub(crate) struct Layout {
    pub(crate) segments: Segments,
    /// Whether the field is judged by what is inside of segments: what training cannot know, of which some devices have nothing to tell.
    pub(crate) judges: bool,
    /// Names of the segments; none where one segment has all that was told.
    names: Vec<String>,
    /// Labels of the bins of a segment.
    inside: Vec<String>,
}

impl Layout {
    /// The division of `field`, if it has one.
    pub(crate) fn of(baseline: &Baseline, field: &BaselineField) -> Option<Self> {
        let FieldKind::Categorical { labels } = &field.bins else { return None };
        if field.name == TRANSITION {
            let categories = baseline.field(CATEGORY).map(|field| &field.bins);
            let Some(FieldKind::Categorical { labels: categories }) = categories else { return None };
            let segments = Segments { num: categories.len(), len: categories.len() };
            let fits = labels.len() == categories.len() * categories.len() + 1;
            let names = categories.iter().map(|category| format!("after {category}")).collect();
            let inside = categories.clone();
            return fits.then_some(Self { segments, judges: false, names, inside });
        }
        let (_, told) = labels.split_last().filter(|(last, told)| *last == UNTOLD && told.len() > 1)?;
        let what = if field.name == HISTORY { "history" } else { "band" };
        let named = |labels: &[String]| segment_of_fates(labels).map(|name| format!("{what} {name}"));
        let names: Option<Vec<String>> = told.chunks(2).map(named).collect();
        let (segments, inside) = match &names {
            Some(names) => {
                (Segments { num: names.len(), len: 2 }, FATES.map(|fate| fate.trim().to_owned()).to_vec())
            }
            None => (Segments { num: 1, len: told.len() }, told.to_vec()),
        };
        Some(Self { segments, judges: true, names: names.unwrap_or_default(), inside })
    }

    /// Bins of devices that had something to tell: the first ones.
    pub(crate) fn num_told(&self) -> usize {
        self.segments.num * self.segments.len
    }

    /// The last bins of named segments: of fates those of choices.
    pub(crate) fn last_of_segments(&self) -> Option<Vec<usize>> {
        let last = |segment: usize| (segment + 1) * self.segments.len - 1;
        (!self.names.is_empty()).then(|| (0..self.segments.num).map(last).collect())
    }

    /// How much the field moved, by what is inside of its segments.
    pub(crate) fn effect(&self, found: &SegmentsTest) -> f64 {
        if self.names.is_empty() { found.effect() } else { found.rate_effect() }
    }

    /// Which bins moved of a field that is one segment.
    pub(crate) fn moves(&self, found: &SegmentsTest) -> Vec<Move> {
        let whole = found.segments.first().filter(|_| self.names.is_empty());
        let inside = whole.and_then(|whole| whole.inside.as_ref());
        inside.map_or_else(Vec::new, |[before, now]| moves(before, now, &|bin| self.inside[bin].clone()))
    }

    /// What each named segment has to do with it.
    pub(crate) fn attribute(&self, found: &SegmentsTest) -> Vec<SegmentDrift> {
        let known = |one: &&sanderling_sketch::segments::SegmentTest| one.test.degrees_of_freedom > 0;
        let p_values: Vec<f64> = found.segments.iter().filter(known).map(|one| one.test.p_value).collect();
        let mut adjusted = holm(&p_values).into_iter();
        let segment = |(name, one): (&String, &sanderling_sketch::segments::SegmentTest)| SegmentDrift {
            name: name.clone(),
            baseline_share: one.shares[0],
            share: one.shares[1],
            moves: one.inside.as_ref().map_or_else(Vec::new, |[before, now]| {
                // Of two bins, one tells the other.
                let mut moves = moves(before, now, &|bin| self.inside[bin].clone());
                moves.retain(|one| self.inside.len() > 2 || self.inside.last() == Some(&one.label));
                moves
            }),
            effect: one.inside.is_some().then(|| one.effect()),
            adjusted_p_value: known(&one).then(|| adjusted.next()).flatten(),
            shifted: false,
        };
        self.names.iter().zip(&found.segments).map(segment).collect()
    }
}

/// The name of the segment that two labels tell the fates of.
fn segment_of_fates(labels: &[String]) -> Option<String> {
    let [ignored, chosen] = labels else { return None };
    let name = ignored.strip_suffix(FATES[0])?;
    (chosen.strip_suffix(FATES[1])? == name).then(|| name.to_owned())
}

/// The bins that moved most, the farthest first, named by `label`.
pub(crate) fn moves(before: &Estimate, now: &Estimate, label: &dyn Fn(usize) -> String) -> Vec<Move> {
    let error = |bin: usize| before.standard_errors[bin].hypot(now.standard_errors[bin]);
    let distance = |bin: usize| (now.shares[bin] - before.shares[bin]).abs();
    // Bonferroni, on both sides: of fifty bins, two or three would be two standard errors away.
    let bound = normal_bound(ALPHA / 2.0 / now.shares.len() as f64);
    let mut bins: Vec<usize> =
        (0..now.shares.len()).filter(|bin| distance(*bin) > bound * error(*bin)).collect();
    bins.sort_by(|a, b| distance(*b).total_cmp(&distance(*a)));
    bins.truncate(MAX_MOVES);
    let one = |bin: usize| Move {
        label: label(bin),
        baseline_share: before.shares[bin],
        share: now.shares[bin],
        standard_error: error(bin),
    };
    bins.into_iter().map(one).collect()
}
