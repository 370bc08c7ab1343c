//! Operations as text: the one entry of every conformance runner.
//!
//! An operation is a JSON object with `op` and the arguments of that operation; the answer is
//! `{"ok": …}` or `{"error": {code, message, expected, found, hint}}`. Unknown arguments are
//! refused.

use sanderling_sketch::Histogram;
use sanderling_types::{
    Code, Error, Fields, FromJson, ItemId, ItemIndex, Mismatch, Recommendation, Report, Request, Response,
    Result, SessionInteraction, Source, read_json,
};
use serde::Serialize;

use crate::candidates::neighbour_scores;
use crate::{Candidate, Engine, Mask, SessionView, Telemetry, policy};

/// Runs one operation.
///
/// | `op` | arguments | `ok` |
/// |---|---|---|
/// | `recommend` | `request` | `response` and `observations` as `[field, bin]` |
/// | `similar` | `item_id`, `limit` | `recommendations` |
/// | `encode` | `item_ids` | `query` |
/// | `features` | `session`, `item_ids`, `scores`, `now` | `features`, row-major; neighbour scores follow from the session |
/// | `retrieve` | `query`, `k`, `exclude` | `candidates` of `item_id`, `score` |
/// | `rank` | `features`, `num_candidates` | `scores` |
/// | `policy` | `session`, `rules`, `item_ids`, `limit` | `item_ids` |
/// | `sketch` | `field`, `values` or `labels` | `counts` |
/// | `report` | `requests`, `positions`, `item_ids`, `window_start`, `seed`, `report_id` | `report` |
/// | `decode_report` | `text` | `report` |
#[must_use]
pub fn run(engine: &Engine, operation: &str) -> String {
    dispatch(engine, operation).unwrap_or_else(|error| to_text(&Refused { error }))
}

#[derive(Serialize)]
struct Done<T> {
    ok: T,
}

#[derive(Serialize)]
struct Refused {
    error: Error,
}

fn dispatch(engine: &Engine, operation: &str) -> Result<String> {
    let arguments = read_json(operation.as_bytes(), Code::InvalidArgument, WHAT, Fields::of)?;
    let mut arguments = Arguments(arguments);
    let name: Option<String> = arguments.take("op")?;
    match name.as_deref() {
        Some("recommend") => done(recommend(engine, arguments)),
        Some("similar") => done(similar(engine, arguments)),
        Some("encode") => done(encode(engine, arguments)),
        Some("features") => done(features(engine, arguments)),
        Some("retrieve") => done(retrieve(engine, arguments)),
        Some("rank") => done(rank(engine, arguments)),
        Some("policy") => done(apply_policy(engine, arguments)),
        Some("sketch") => done(sketch(engine, arguments)),
        Some("report") => done(report(engine, arguments)),
        Some("decode_report") => done(decode_report(arguments)),
        _ => Err(Error::new(Code::InvalidArgument, "the operation is not known")
            .found(name.unwrap_or_else(|| operation.chars().take(80).collect()))),
    }
}

const WHAT: &str = "the operation";

/// What an operation is asked with.
struct Arguments<'a>(Fields<'a>);

impl Arguments<'_> {
    fn take<T: FromJson>(&mut self, name: &'static str) -> Result<T> {
        self.0.take(name).map_err(refused)
    }

    fn take_list<T: FromJson>(&mut self, name: &'static str) -> Result<Vec<T>> {
        self.0.take_or(name, Vec::new()).map_err(refused)
    }

    fn finish(self) -> Result<()> {
        self.0.finish().map_err(refused)
    }
}

fn refused(wrong: Mismatch) -> Error {
    wrong.into_error(Code::InvalidArgument, WHAT)
}

fn done(answer: Result<impl Serialize>) -> Result<String> {
    Ok(to_text(&Done { ok: answer? }))
}

/// # Panics
/// Never: answers hold only JSON-encodable values.
fn to_text(value: &impl Serialize) -> String {
    // Unwrap safety: strings and numbers always encode; what is not finite becomes null.
    serde_json::to_string(value).expect("an answer encodes")
}

fn lookup(engine: &Engine, ids: &[ItemId]) -> Result<Vec<ItemIndex>> {
    let unknown = |id: &ItemId| Error::new(Code::UnknownItem, "the item is not in this bundle").found(id);
    ids.iter().map(|id| engine.bundle().item_index(id).ok_or_else(|| unknown(id))).collect()
}

fn ids(engine: &Engine, items: impl Iterator<Item = ItemIndex>) -> Vec<&str> {
    items.filter_map(|item| engine.bundle().item_id(item)).collect()
}

#[derive(Serialize)]
struct Recommended<'a> {
    response: Response,
    observations: Vec<(&'a str, usize)>,
}

fn recommend<'a>(engine: &'a Engine, mut arguments: Arguments<'_>) -> Result<Recommended<'a>> {
    let request = arguments.take("request")?;
    arguments.finish()?;
    let outcome = engine.recommend(&request);
    let fields = &engine.bundle().baseline().fields;
    let observations = outcome.observations.iter();
    let named = observations.map(|observed| (fields[observed.field].name.as_str(), observed.bin));
    Ok(Recommended { observations: named.collect(), response: outcome.response })
}

#[derive(Serialize)]
struct Similars {
    recommendations: Vec<Recommendation>,
}

fn similar(engine: &Engine, mut arguments: Arguments<'_>) -> Result<Similars> {
    let (item_id, limit) = (arguments.take("item_id")?, arguments.take("limit")?);
    arguments.finish()?;
    Ok(Similars { recommendations: engine.similar(&item_id, limit)? })
}

#[derive(Serialize)]
struct Encoded {
    query: Vec<f32>,
}

fn encode(engine: &Engine, mut arguments: Arguments<'_>) -> Result<Encoded> {
    let item_ids: Vec<ItemId> = arguments.take("item_ids")?;
    arguments.finish()?;
    Ok(Encoded { query: engine.encode(&lookup(engine, &item_ids)?)? })
}

#[derive(Serialize)]
struct FeatureRows {
    features: Vec<f32>,
}

/// `scores` are retrieval scores of `item_ids`.
fn features(engine: &Engine, mut arguments: Arguments<'_>) -> Result<FeatureRows> {
    let session: Vec<SessionInteraction> = arguments.take("session")?;
    let item_ids: Vec<ItemId> = arguments.take("item_ids")?;
    let scores: Vec<f32> = arguments.take("scores")?;
    let now = arguments.take("now")?;
    arguments.finish()?;
    let items = lookup(engine, &item_ids)?;
    if items.len() != scores.len() {
        return Err(Error::new(Code::InvalidArgument, "scores do not match item_ids")
            .expected(items.len())
            .found(scores.len()));
    }
    let (session, _) = SessionView::resolve(&session, engine.bundle());
    let near = neighbour_scores(engine.bundle(), &session);
    let neighbour_score = |item: ItemIndex| near.as_ref().map_or(0.0, |scores| scores[item.row()]);
    let candidates: Vec<Candidate> = items
        .into_iter()
        .zip(&scores)
        .map(|(item, score)| Candidate {
            item,
            score: *score,
            neighbour_score: neighbour_score(item),
            source: Source::Retrieval,
        })
        .collect();
    let items = engine.bundle().items();
    let features = engine.feature_encoder().encode(&session, &candidates, items, now);
    Ok(FeatureRows { features })
}

#[derive(Serialize)]
struct Retrieved<'a> {
    candidates: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    item_id: Option<&'a str>,
    score: f32,
}

fn retrieve<'a>(engine: &'a Engine, mut arguments: Arguments<'_>) -> Result<Retrieved<'a>> {
    let query: Vec<f32> = arguments.take("query")?;
    let k: usize = arguments.take("k")?;
    let exclude: Vec<ItemId> = arguments.take_list("exclude")?;
    arguments.finish()?;
    let dim = engine.bundle().manifest().shapes.dim as usize;
    if query.len() != dim {
        return Err(Error::new(Code::InvalidArgument, "the query has the wrong length")
            .expected(dim)
            .found(query.len()));
    }
    let mut mask = Mask::all(engine.bundle().vocabulary().len());
    for item in lookup(engine, &exclude)? {
        mask.drop_item(item);
    }
    let candidates = engine.retrieve(&query, k, &mask);
    let listed = |candidate: &Candidate| Listed {
        item_id: engine.bundle().item_id(candidate.item),
        score: candidate.score,
    };
    Ok(Retrieved { candidates: candidates.iter().map(listed).collect() })
}

#[derive(Serialize)]
struct Scores {
    scores: Vec<f32>,
}

fn rank(engine: &Engine, mut arguments: Arguments<'_>) -> Result<Scores> {
    let features: Vec<f32> = arguments.take("features")?;
    let num_candidates = arguments.take("num_candidates")?;
    arguments.finish()?;
    Ok(Scores { scores: engine.rank(&features, num_candidates)? })
}

#[derive(Serialize)]
struct Kept<'a> {
    item_ids: Vec<&'a str>,
}

/// `item_ids` are in the order in which the ranker would give them.
fn apply_policy<'a>(engine: &'a Engine, mut arguments: Arguments<'_>) -> Result<Kept<'a>> {
    let session: Vec<SessionInteraction> = arguments.take("session")?;
    let rules = arguments.take("rules")?;
    let item_ids: Vec<ItemId> = arguments.take("item_ids")?;
    let limit: usize = arguments.take("limit")?;
    arguments.finish()?;
    let bundle = engine.bundle();
    let (session, _) = SessionView::resolve(&session, bundle);
    let mask = policy::mask(bundle, &session, &rules);
    let items = lookup(engine, &item_ids)?;
    let cap = policy::category_cap(&rules, &bundle.manifest().policy);
    let kept = policy::cap_categories(bundle.vocabulary(), items, mask, cap, limit);
    Ok(Kept { item_ids: ids(engine, kept.into_iter()) })
}

#[derive(Serialize)]
struct Sketched {
    counts: Vec<u64>,
}

fn sketch(engine: &Engine, mut arguments: Arguments<'_>) -> Result<Sketched> {
    let name: String = arguments.take("field")?;
    let (values, labels): (Vec<f32>, Vec<String>) =
        (arguments.take_list("values")?, arguments.take_list("labels")?);
    arguments.finish()?;
    let field = engine.bundle().baseline().field(&name);
    let field = field
        .ok_or_else(|| Error::new(Code::UnknownField, "the baseline declares no such field").found(&name))?;
    let mut histogram = Histogram::new(field.bins.num_bins());
    let bins = values.iter().map(|value| field.bins.bin_of_value(*value));
    let bins = bins.chain(labels.iter().map(|label| field.bins.bin_of_label(label)));
    for bin in bins {
        let out_of_range = || Error::new(Code::BinOutOfRange, "the field has no bin for a value");
        histogram.record(bin.ok_or_else(out_of_range)?)?;
    }
    Ok(Sketched { counts: histogram.counts().to_vec() })
}

#[derive(Serialize)]
struct Reported {
    report: Report,
}

fn report(engine: &Engine, mut arguments: Arguments<'_>) -> Result<Reported> {
    let requests: Vec<Request> = arguments.take("requests")?;
    let positions: Vec<Option<u32>> = arguments.take_list("positions")?;
    let item_ids: Vec<ItemId> = arguments.take_list("item_ids")?;
    let window_start = arguments.take("window_start")?;
    let (seed, report_id) = (arguments.take("seed")?, arguments.take("report_id")?);
    arguments.finish()?;
    let bundle = engine.bundle();
    let mut telemetry = Telemetry::new(bundle.baseline(), &bundle.manifest().telemetry, bundle.hash());
    for request in &requests {
        telemetry.record(&engine.recommend(request));
    }
    for position in &positions {
        telemetry.record_outcome(*position);
    }
    for item_id in &item_ids {
        telemetry.record_interaction(bundle, item_id);
    }
    let report = telemetry.build_report(window_start, seed, report_id)?;
    Ok(Reported { report })
}

fn decode_report(mut arguments: Arguments<'_>) -> Result<Reported> {
    let text: String = arguments.take("text")?;
    arguments.finish()?;
    Ok(Reported { report: Report::decode(text.as_bytes())? })
}
