//! Operations as text: the one entry of every conformance runner.
//!
//! An operation is a JSON object with `op` and the arguments of that operation; the answer is
//! `{"ok": …}` or `{"error": {code, message, expected, found, hint}}`. Unknown arguments are
//! refused.

use sanderling_sketch::Histogram;
use sanderling_types::{
    Code, Error, ItemId, ItemIndex, Recommendation, Report, Request, Response, Result, Rules,
    SessionInteraction, Source,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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

#[derive(Deserialize)]
struct Name {
    op: Option<String>,
}

fn dispatch(engine: &Engine, operation: &str) -> Result<String> {
    let name: Name = parsed(operation)?;
    match name.op.as_deref() {
        Some("recommend") => done(Ok(recommend(engine, &parsed(operation)?))),
        Some("similar") => done(similar(engine, &parsed(operation)?)),
        Some("encode") => done(encode(engine, &parsed(operation)?)),
        Some("features") => done(features(engine, &parsed(operation)?)),
        Some("retrieve") => done(retrieve(engine, &parsed(operation)?)),
        Some("rank") => done(rank(engine, &parsed(operation)?)),
        Some("policy") => done(apply_policy(engine, &parsed(operation)?)),
        Some("sketch") => done(sketch(engine, &parsed(operation)?)),
        Some("report") => done(report(engine, &parsed(operation)?)),
        Some("decode_report") => done(decode_report(&parsed(operation)?)),
        _ => Err(Error::new(Code::InvalidArgument, "the operation is not known")
            .found(name.op.unwrap_or_else(|| operation.chars().take(80).collect()))),
    }
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

fn parsed<T: DeserializeOwned>(operation: &str) -> Result<T> {
    serde_json::from_str(operation).map_err(|error| {
        Error::new(Code::InvalidArgument, "the operation has wrong arguments")
            .found(&error)
            .source_error(error)
    })
}

fn lookup(engine: &Engine, ids: &[ItemId]) -> Result<Vec<ItemIndex>> {
    let unknown = |id: &ItemId| Error::new(Code::UnknownItem, "the item is not in this bundle").found(id);
    ids.iter().map(|id| engine.bundle().item_index(id).ok_or_else(|| unknown(id))).collect()
}

fn ids(engine: &Engine, items: impl Iterator<Item = ItemIndex>) -> Vec<&str> {
    items.filter_map(|item| engine.bundle().item_id(item)).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`op` is read before the others")]
struct Recommend {
    op: String,
    request: Request,
}

#[derive(Serialize)]
struct Recommended<'a> {
    response: Response,
    observations: Vec<(&'a str, usize)>,
}

fn recommend<'a>(engine: &'a Engine, arguments: &Recommend) -> Recommended<'a> {
    let outcome = engine.recommend(&arguments.request);
    let fields = &engine.bundle().baseline().fields;
    let observations = outcome.observations.iter();
    let named = observations.map(|observed| (fields[observed.field].name.as_str(), observed.bin));
    Recommended { observations: named.collect(), response: outcome.response }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`op` is read before the others")]
struct Similar {
    op: String,
    item_id: ItemId,
    limit: u32,
}

#[derive(Serialize)]
struct Similars {
    recommendations: Vec<Recommendation>,
}

fn similar(engine: &Engine, arguments: &Similar) -> Result<Similars> {
    Ok(Similars { recommendations: engine.similar(&arguments.item_id, arguments.limit)? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`op` is read before the others")]
struct Encode {
    op: String,
    item_ids: Vec<ItemId>,
}

#[derive(Serialize)]
struct Encoded {
    query: Vec<f32>,
}

fn encode(engine: &Engine, arguments: &Encode) -> Result<Encoded> {
    Ok(Encoded { query: engine.encode(&lookup(engine, &arguments.item_ids)?)? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`op` is read before the others")]
struct Features {
    op: String,
    session: Vec<SessionInteraction>,
    item_ids: Vec<ItemId>,
    /// Retrieval scores of `item_ids`.
    scores: Vec<f32>,
    now: i64,
}

#[derive(Serialize)]
struct FeatureRows {
    features: Vec<f32>,
}

fn features(engine: &Engine, arguments: &Features) -> Result<FeatureRows> {
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
    let features = engine.feature_encoder().encode(&session, &candidates, items, arguments.now);
    Ok(FeatureRows { features })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`op` is read before the others")]
struct Retrieve {
    op: String,
    query: Vec<f32>,
    k: u32,
    #[serde(default)]
    exclude: Vec<ItemId>,
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

fn retrieve<'a>(engine: &'a Engine, arguments: &Retrieve) -> Result<Retrieved<'a>> {
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
    let listed = |candidate: &Candidate| Listed {
        item_id: engine.bundle().item_id(candidate.item),
        score: candidate.score,
    };
    Ok(Retrieved { candidates: candidates.iter().map(listed).collect() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`op` is read before the others")]
struct Rank {
    op: String,
    features: Vec<f32>,
    num_candidates: usize,
}

#[derive(Serialize)]
struct Scores {
    scores: Vec<f32>,
}

fn rank(engine: &Engine, arguments: &Rank) -> Result<Scores> {
    Ok(Scores { scores: engine.rank(&arguments.features, arguments.num_candidates)? })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`op` is read before the others")]
struct ApplyPolicy {
    op: String,
    session: Vec<SessionInteraction>,
    rules: Rules,
    /// Items in the order in which the ranker would give them.
    item_ids: Vec<ItemId>,
    limit: u32,
}

#[derive(Serialize)]
struct Kept<'a> {
    item_ids: Vec<&'a str>,
}

fn apply_policy<'a>(engine: &'a Engine, arguments: &ApplyPolicy) -> Result<Kept<'a>> {
    let bundle = engine.bundle();
    let (session, _) = SessionView::resolve(&arguments.session, bundle);
    let mask = policy::mask(bundle, &session, &arguments.rules);
    let mut items = lookup(engine, &arguments.item_ids)?;
    items.retain(|item| mask.keeps(*item));
    let cap = policy::category_cap(&arguments.rules, &bundle.manifest().policy);
    let limit = arguments.limit as usize;
    let kept = policy::cap_categories(bundle.vocabulary(), items.iter().copied(), cap, limit);
    Ok(Kept { item_ids: ids(engine, kept.into_iter()) })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`op` is read before the others")]
struct Sketch {
    op: String,
    field: String,
    #[serde(default)]
    values: Vec<f32>,
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Serialize)]
struct Sketched {
    counts: Vec<u64>,
}

fn sketch(engine: &Engine, arguments: &Sketch) -> Result<Sketched> {
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
    Ok(Sketched { counts: histogram.counts().to_vec() })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`op` is read before the others")]
struct MakeReport {
    op: String,
    requests: Vec<Request>,
    #[serde(default)]
    positions: Vec<Option<u32>>,
    #[serde(default)]
    item_ids: Vec<ItemId>,
    window_start: i64,
    seed: [u8; 32],
    report_id: [u8; 16],
}

#[derive(Serialize)]
struct Reported {
    report: Report,
}

fn report(engine: &Engine, arguments: &MakeReport) -> Result<Reported> {
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
    Ok(Reported { report })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "`op` is read before the others")]
struct DecodeReport {
    op: String,
    text: String,
}

fn decode_report(arguments: &DecodeReport) -> Result<Reported> {
    Ok(Reported { report: Report::decode(arguments.text.as_bytes())? })
}
