//! Operations as data: the one entry of every conformance runner.
//!
//! An operation is an object with `op` and the arguments of that operation; the answer is
//! `{"ok": …}` or `{"error": {code, message, expected, found, hint}}`. Unknown arguments are
//! refused.

use sanderling_sketch::Histogram;
use sanderling_types::{
    Code, Error, ItemId, ItemIndex, Report, Request, Result, Rules, SessionInteraction, Source,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

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
pub fn run(engine: &Engine, op: &Value) -> Value {
    match dispatch(engine, op) {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "error": error }),
    }
}

fn dispatch(engine: &Engine, op: &Value) -> Result<Value> {
    let name = op.get("op").and_then(Value::as_str);
    match name {
        Some("recommend") => Ok(recommend(engine, &arguments(op)?)),
        Some("similar") => similar(engine, &arguments(op)?),
        Some("encode") => encode(engine, &arguments(op)?),
        Some("features") => features(engine, &arguments(op)?),
        Some("retrieve") => retrieve(engine, &arguments(op)?),
        Some("rank") => rank(engine, &arguments(op)?),
        Some("policy") => apply_policy(engine, &arguments(op)?),
        Some("sketch") => sketch(engine, &arguments(op)?),
        Some("report") => report(engine, &arguments(op)?),
        Some("decode_report") => decode_report(&arguments(op)?),
        _ => Err(Error::new(Code::InvalidArgument, "the operation is not known")
            .found(name.map_or_else(|| op.to_string().chars().take(80).collect(), str::to_owned))),
    }
}

fn arguments<T: DeserializeOwned>(op: &Value) -> Result<T> {
    let mut arguments = op.clone();
    if let Some(arguments) = arguments.as_object_mut() {
        arguments.remove("op");
    }
    serde_json::from_value(arguments).map_err(|error| {
        Error::new(Code::InvalidArgument, "the operation has wrong arguments")
            .found(&error)
            .source_error(error)
    })
}

fn lookup(engine: &Engine, ids: &[ItemId]) -> Result<Vec<ItemIndex>> {
    let unknown = |id: &ItemId| Error::new(Code::UnknownItem, "the item is not in this bundle").found(id);
    ids.iter().map(|id| engine.bundle().item_index(id).ok_or_else(|| unknown(id))).collect()
}

fn ids(engine: &Engine, items: impl Iterator<Item = ItemIndex>) -> Vec<&ItemId> {
    items.filter_map(|item| engine.bundle().item_id(item)).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recommend {
    request: Request,
}

fn recommend(engine: &Engine, arguments: &Recommend) -> Value {
    let outcome = engine.recommend(&arguments.request);
    let fields = &engine.bundle().baseline().fields;
    let observations: Vec<_> = outcome
        .observations
        .iter()
        .map(|observed| json!([fields[observed.field].name, observed.bin]))
        .collect();
    json!({ "response": outcome.response, "observations": observations })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Similar {
    item_id: ItemId,
    limit: u32,
}

fn similar(engine: &Engine, arguments: &Similar) -> Result<Value> {
    Ok(json!({ "recommendations": engine.similar(&arguments.item_id, arguments.limit)? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Encode {
    item_ids: Vec<ItemId>,
}

fn encode(engine: &Engine, arguments: &Encode) -> Result<Value> {
    Ok(json!({ "query": engine.encode(&lookup(engine, &arguments.item_ids)?)? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Features {
    session: Vec<SessionInteraction>,
    item_ids: Vec<ItemId>,
    /// Retrieval scores of `item_ids`.
    scores: Vec<f32>,
    now: i64,
}

fn features(engine: &Engine, arguments: &Features) -> Result<Value> {
    let items = lookup(engine, &arguments.item_ids)?;
    if items.len() != arguments.scores.len() {
        return Err(Error::new(Code::InvalidArgument, "scores do not match item_ids")
            .expected(items.len())
            .found(arguments.scores.len()));
    }
    let (session, _) = SessionView::resolve(&arguments.session, engine.bundle());
    let near = neighbour_scores(engine.bundle(), &session);
    let neighbour_score = |item: ItemIndex| near.as_ref().map_or(0.0, |scores| scores[item.row()]);
    let candidates: Vec<Candidate> = items
        .into_iter()
        .zip(&arguments.scores)
        .map(|(item, score)| Candidate {
            item,
            score: *score,
            neighbour_score: neighbour_score(item),
            source: Source::Retrieval,
        })
        .collect();
    let items = engine.bundle().items();
    Ok(json!({ "features": engine.feature_encoder().encode(&session, &candidates, items, arguments.now) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Retrieve {
    query: Vec<f32>,
    k: u32,
    #[serde(default)]
    exclude: Vec<ItemId>,
}

fn retrieve(engine: &Engine, arguments: &Retrieve) -> Result<Value> {
    let dim = engine.bundle().manifest().shapes.dim as usize;
    if arguments.query.len() != dim {
        return Err(Error::new(Code::InvalidArgument, "the query has the wrong length")
            .expected(dim)
            .found(arguments.query.len()));
    }
    let mut mask = Mask::all(engine.bundle().vocabulary().len());
    for item in lookup(engine, &arguments.exclude)? {
        mask.drop_item(item);
    }
    let candidates = engine.retrieve(&arguments.query, arguments.k as usize, &mask);
    let listed: Vec<_> = candidates
        .iter()
        .map(|candidate| json!({ "item_id": engine.bundle().item_id(candidate.item), "score": candidate.score }))
        .collect();
    Ok(json!({ "candidates": listed }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rank {
    features: Vec<f32>,
    num_candidates: usize,
}

fn rank(engine: &Engine, arguments: &Rank) -> Result<Value> {
    Ok(json!({ "scores": engine.rank(&arguments.features, arguments.num_candidates)? }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyPolicy {
    session: Vec<SessionInteraction>,
    rules: Rules,
    /// Items in the order in which the ranker would give them.
    item_ids: Vec<ItemId>,
    limit: u32,
}

fn apply_policy(engine: &Engine, arguments: &ApplyPolicy) -> Result<Value> {
    let bundle = engine.bundle();
    let (session, _) = SessionView::resolve(&arguments.session, bundle);
    let mask = policy::mask(bundle, &session, &arguments.rules);
    let mut items = lookup(engine, &arguments.item_ids)?;
    items.retain(|item| mask.keeps(*item));
    let cap = policy::category_cap(&arguments.rules, &bundle.manifest().policy);
    let limit = arguments.limit as usize;
    let kept = policy::cap_categories(bundle.vocabulary(), items.iter().copied(), cap, limit);
    Ok(json!({ "item_ids": ids(engine, kept.into_iter().map(|at| items[at])) }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sketch {
    field: String,
    #[serde(default)]
    values: Vec<f32>,
    #[serde(default)]
    labels: Vec<String>,
}

fn sketch(engine: &Engine, arguments: &Sketch) -> Result<Value> {
    let field = engine.bundle().baseline().field(&arguments.field);
    let field = field.ok_or_else(|| {
        Error::new(Code::UnknownField, "the baseline declares no such field").found(&arguments.field)
    })?;
    let mut histogram = Histogram::new(field.bins.num_bins());
    let bins = arguments.values.iter().map(|value| field.bins.bin_of_value(*value));
    let bins = bins.chain(arguments.labels.iter().map(|label| field.bins.bin_of_label(label)));
    for bin in bins {
        let out_of_range = || Error::new(Code::BinOutOfRange, "the field has no bin for a value");
        histogram.record(bin.ok_or_else(out_of_range)?)?;
    }
    Ok(json!({ "counts": histogram.counts() }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MakeReport {
    requests: Vec<Request>,
    #[serde(default)]
    positions: Vec<Option<u32>>,
    #[serde(default)]
    item_ids: Vec<ItemId>,
    window_start: i64,
    seed: [u8; 32],
    report_id: [u8; 16],
}

fn report(engine: &Engine, arguments: &MakeReport) -> Result<Value> {
    let bundle = engine.bundle();
    let mut telemetry = Telemetry::new(bundle.baseline(), &bundle.manifest().telemetry, bundle.hash());
    for request in &arguments.requests {
        telemetry.record(&engine.recommend(request));
    }
    for position in &arguments.positions {
        telemetry.record_outcome(*position);
    }
    for item in lookup(engine, &arguments.item_ids)? {
        telemetry.record_interaction(&bundle.category_names(item));
    }
    let report = telemetry.build_report(arguments.window_start, arguments.seed, arguments.report_id)?;
    Ok(json!({ "report": report }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DecodeReport {
    text: String,
}

fn decode_report(arguments: &DecodeReport) -> Result<Value> {
    Ok(json!({ "report": Report::decode(arguments.text.as_bytes())? }))
}
