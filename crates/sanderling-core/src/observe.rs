//! From an outcome to bins of the bundle's baseline: what telemetry may count.

use sanderling_types::{Baseline, Fault, FaultCode, FieldKind, ItemId, ItemIndex, Source};

use crate::{Bundle, Outcome, SessionView};

pub(crate) const FIELD_RETRIEVAL_SCORE: &str = "score.retrieval";
pub(crate) const FIELD_RANKER_SCORE: &str = "score.ranker";
pub(crate) const FIELD_FIRST_SCORE: &str = "score.first";
pub(crate) const FIELD_CATEGORY: &str = "interaction.category";
pub(crate) const FIELD_ITEM: &str = "interaction.item";
pub(crate) const FIELD_TRANSITION: &str = "transition.category";
pub(crate) const FIELD_SHOWN_SOURCE: &str = "impression.source";
pub(crate) const FIELD_POSITION: &str = "outcome.position";
pub(crate) const FIELD_CHOSEN_SOURCE: &str = "outcome.source";
pub(crate) const FIELD_CALIBRATION: &str = "outcome.calibration";
pub(crate) const FIELD_HISTORY: &str = "outcome.history";
pub(crate) const FIELD_LATENCY: &str = "latency";
pub(crate) const FIELD_FAULT: &str = "fault";
/// The label for what a field has no label of its own for, where it declares one.
const LABEL_OTHER: &str = "other";
const LABEL_NONE: &str = "none";
/// No outcome was told.
const LABEL_UNTOLD: &str = "untold";
/// An item that the bundle does not know.
const LABEL_UNKNOWN: &str = "unknown";

/// How many items of a list count their features and scores, from the top: the baseline is measured
/// on lists of this length, and lower positions are distributed differently.
pub const OBSERVED_POSITIONS: usize = 10;

/// One value of a declared field, as its bin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// Index of the field in the bundle's [`Baseline::fields`].
    pub field: usize,
    /// Bin of that field.
    pub bin: usize,
}

/// Knows which declared field each value of an outcome belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Observer {
    /// Per feature column its field, where one is declared.
    feature_fields: Vec<Option<usize>>,
    retrieval_score: Option<usize>,
    ranker_score: Option<usize>,
    first_score: Option<usize>,
}

impl Observer {
    pub(crate) fn new(bundle: &Bundle) -> Self {
        let field = |name: &str| field_index(bundle.baseline(), name);
        let features = bundle.features().features.iter();
        Self {
            feature_fields: features.map(|feature| field(&format!("feature.{}", feature.name))).collect(),
            retrieval_score: field(FIELD_RETRIEVAL_SCORE),
            ranker_score: field(FIELD_RANKER_SCORE),
            first_score: field(FIELD_FIRST_SCORE),
        }
    }

    /// Features, scores and sources of the first [`OBSERVED_POSITIONS`] listed items, the last item of the session with its
    /// category and the transition to it, and the faults. A list from the fallback counts its sources and faults alone.
    pub(crate) fn observe(&self, outcome: &Outcome, bundle: &Bundle, session: &SessionView) -> Vec<Observed> {
        let baseline = bundle.baseline();
        let mut out = Vec::new();
        let mut value = |field: Option<usize>, value: f32| {
            let observed = field.and_then(|field| observed_value(baseline, field, value));
            out.extend(observed);
        };
        let faults = &outcome.response.faults;
        // Scores in retrieval order are no ranker's.
        let is_unranked =
            |fault: &Fault| matches!(fault.code, FaultCode::RankerFailed | FaultCode::DeadlineExceeded);
        let ranker_failed = faults.iter().any(is_unranked);
        let own = outcome.response.recommendations.iter().filter(|one| one.source != Source::Pinned);
        // Pins push what is behind them down.
        let num_observed = own.clone().filter(|one| one.position as usize <= OBSERVED_POSITIONS).count();
        let ranked = own.zip(&outcome.retrieval_scores);
        for (at, (recommendation, retrieval_score)) in ranked.take(num_observed).enumerate() {
            value(self.retrieval_score, *retrieval_score);
            if !ranker_failed {
                value(self.ranker_score, recommendation.score);
                value(self.first_score.filter(|_| at == 0), recommendation.score);
            }
        }
        let rows = outcome.features.chunks_exact(self.feature_fields.len().max(1));
        for row in rows.take(num_observed) {
            for (field, element) in self.feature_fields.iter().zip(row) {
                value(*field, *element);
            }
        }
        for recommendation in outcome.response.recommendations.iter().take(OBSERVED_POSITIONS) {
            out.extend(observed_label(baseline, FIELD_SHOWN_SOURCE, recommendation.source.as_str()));
        }
        if let (false, Some(last)) = (outcome.retrieval_scores.is_empty(), session.last()) {
            out.extend(observed_item(bundle, last).into_iter().flatten());
            let before = session.items().iter().rev().nth(1);
            out.extend(observed_transition(bundle, before.map(|before| before.item), last));
        }
        if faults.is_empty() {
            out.extend(observed_label(baseline, FIELD_FAULT, LABEL_NONE));
        }
        out.extend(
            faults.iter().filter_map(|fault| observed_label(baseline, FIELD_FAULT, fault.code.as_str())),
        );
        out
    }
}

pub(crate) fn field_index(baseline: &Baseline, name: &str) -> Option<usize> {
    baseline.fields.iter().position(|field| field.name == name)
}

fn observed_value(baseline: &Baseline, field: usize, value: f32) -> Option<Observed> {
    Some(Observed { field, bin: baseline.fields[field].bins.bin_of_value(value)? })
}

pub(crate) fn observed_label(baseline: &Baseline, name: &str, label: &str) -> Option<Observed> {
    let field = field_index(baseline, name)?;
    let bins = &baseline.fields[field].bins;
    let bin = bins.bin_of_label(label).or_else(|| bins.bin_of_label(LABEL_OTHER))?;
    Some(Observed { field, bin })
}

/// The first category of an item in the field of interactions; an item without one, or with one
/// that has no bin of its own, counts as `other` where that is declared.
fn observed_category(bundle: &Bundle, item: ItemIndex) -> Option<Observed> {
    let vocabulary = bundle.vocabulary();
    let first = vocabulary.categories_of(item).next();
    let label = first.and_then(|category| vocabulary.category(category)).unwrap_or(LABEL_NONE);
    observed_label(bundle.baseline(), FIELD_CATEGORY, label)
}

/// What an interaction with an item counts: the item and its category.
fn observed_item(bundle: &Bundle, item: ItemIndex) -> [Option<Observed>; 2] {
    let Some(id) = bundle.vocabulary().item_id(item) else { return [None; 2] };
    [observed_label(bundle.baseline(), FIELD_ITEM, id), observed_category(bundle, item)]
}

/// What an interaction counts; of an item that the bundle does not know, that it is unknown.
pub(crate) fn observed_interaction(bundle: &Bundle, item_id: &ItemId) -> [Option<Observed>; 2] {
    match bundle.item_index(item_id) {
        Some(item) => observed_item(bundle, item),
        None => [observed_label(bundle.baseline(), FIELD_ITEM, LABEL_UNKNOWN), None],
    }
}

/// The bin of a step from one item to the next: that of the first one's category, by that of the second one's. The last bin
/// where there is no item before.
fn observed_transition(bundle: &Bundle, from: Option<ItemIndex>, to: ItemIndex) -> Option<Observed> {
    let baseline = bundle.baseline();
    let field = field_index(baseline, FIELD_TRANSITION)?;
    let Some(from) = from else {
        return Some(Observed { field, bin: baseline.fields[field].bins.num_bins() - 1 });
    };
    let (from, to) = (observed_category(bundle, from)?, observed_category(bundle, to)?);
    let num_categories = baseline.fields[from.field].bins.num_bins();
    Some(Observed { field, bin: from.bin * num_categories + to.bin })
}

/// What a device answers to a field of which it observed nothing, where the field's last label says so.
pub(crate) fn unobserved(bins: &FieldKind) -> Option<usize> {
    bins.bin_of_label(LABEL_UNTOLD).filter(|bin| bin + 1 == bins.num_bins())
}

/// The bin of a segment of lists, by whether anything of the list was chosen.
pub(crate) fn observed_fate(
    baseline: &Baseline,
    name: &str,
    segment: usize,
    was_chosen: bool,
) -> Option<Observed> {
    Some(Observed { field: field_index(baseline, name)?, bin: 2 * segment + usize::from(was_chosen) })
}

/// The segment of a number of known interactions, those of an evaluation's slices: none, 1 to 2, 3 to 5, 6 to 20, more.
pub(crate) fn history_segment(num_known: usize) -> usize {
    [1, 3, 6, 21].partition_point(|least| *least <= num_known)
}

/// The source of the item that was chosen.
pub(crate) fn observed_choice(baseline: &Baseline, source: Option<Source>) -> Option<Observed> {
    observed_label(baseline, FIELD_CHOSEN_SOURCE, source.map_or(LABEL_NONE, Source::as_str))
}

/// How long a call took, in milliseconds.
pub(crate) fn observed_latency(baseline: &Baseline, milliseconds: f32) -> Option<Observed> {
    observed_value(baseline, field_index(baseline, FIELD_LATENCY)?, milliseconds)
}

/// The bin of an outcome: `None` when nothing was chosen, else the 1-based position.
pub(crate) fn observed_position(baseline: &Baseline, position: Option<u32>) -> Option<Observed> {
    let label = match position {
        None | Some(0) => LABEL_NONE,
        Some(1) => "1",
        Some(2..=3) => "2-3",
        Some(4..=10) => "4-10",
        Some(_) => "over_10",
    };
    observed_label(baseline, FIELD_POSITION, label)
}
