//! What goes into the engine's verb `recommend` and what comes out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Code, Correction, FromJson, ItemId, Json, Result, SessionInteraction, json_names, json_object, read_json,
};

/// Request-time facts beside the session, such as `device_class` or `page`.
pub type Context = BTreeMap<String, String>;

/// Keeps only items that match every stated condition.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Filter {
    /// Keep items in at least one of these categories; empty keeps all.
    pub categories: Vec<String>,
    /// Keep items at or above this price; items without a price are dropped.
    pub min_price: Option<f32>,
    /// Keep items at or below this price; items without a price are dropped.
    pub max_price: Option<f32>,
}
json_object!(Filter { categories, min_price, max_price } or default);

/// The site's rules for one request; what is not stated comes from the manifest.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rules {
    /// Items that must not appear.
    pub exclude: Vec<ItemId>,
    /// The only items that may appear; empty allows all.
    pub only: Vec<ItemId>,
    /// Whether items of the session are left out.
    pub exclude_seen: Option<bool>,
    /// Conditions that every item must meet.
    pub filter: Filter,
    /// Most items that share a first category, beside pins, which count for none.
    pub category_cap: Option<u32>,
    /// What is added to ranker scores before the list is made.
    pub boosts: Vec<Boost>,
    /// How much a list avoids items that resemble those before them, 0 (not at all) to 1; what is outside counts as
    /// the nearer end. See `sanderling_core::policy::diversify`.
    pub diversity: Option<f32>,
    /// Items that stand at a place of their own, whatever the models say.
    pub pins: Vec<Pin>,
    /// The chance of each place, 0 (none) to 1, to go to a random candidate, so that the site learns of items that the
    /// models do not list; what is outside counts as the nearer end. See `sanderling_core::policy::explore`.
    pub exploration: Option<f32>,
}
json_object!(Rules { exclude, only, exclude_seen, filter, category_cap, boosts, diversity, pins, exploration } or default);

/// An item at a place of its own. It is listed even if it was seen or no condition lets it through, but not if it is
/// excluded by name or the bundle does not know it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pin {
    /// The item.
    pub item_id: ItemId,
    /// 1-based place; 0 counts as 1. One behind the end of the list is its last place, and of two pins at one place the
    /// second comes after the first.
    pub position: u32,
}
json_object!(Pin { item_id, position });

/// An addition to the ranker scores of some items: those that are named, and those in one of the categories.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Boost {
    /// Items by id; those that the bundle does not know change nothing.
    pub item_ids: Vec<ItemId>,
    /// Categories by name.
    pub categories: Vec<String>,
    /// In units of the ranker's score, below 0 to list later. Not a number counts as 0.
    pub add: f32,
}
json_object!(Boost { item_ids, categories, add } or default);

/// One request for recommendations. Time and seed are arguments: the engine has neither.
///
/// In JSON every key may be absent or `null`, which is the same.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Request {
    /// The user's interactions, oldest first.
    pub session: Vec<SessionInteraction>,
    /// Request-time facts. A fallback list begins with what users of the request's segment choose: that of the first key of the
    /// bundle's `segments.json` whose value here has a list. What the bundle has no list for changes nothing.
    pub context: Context,
    /// The site's rules.
    pub rules: Rules,
    /// How many recommendations are wanted; at most `limits.max_limit`. By default
    /// [`Request::DEFAULT_LIMIT`].
    pub limit: u32,
    /// Unix seconds. A host with a clock puts the present time where it is absent, see
    /// [`Request::decode`].
    pub now: i64,
    /// Seed of every random choice.
    pub seed: u64,
    /// How long the answer may take, in milliseconds of the host's clock: a step that would end later is left out, with a
    /// fault. Without it everything is done, however long it takes.
    pub deadline_ms: Option<f32>,
    /// What was learned of the user, for hosts that keep it. One of another feature spec, or with numbers that are not finite,
    /// changes nothing.
    pub correction: Option<Correction>,
}
json_object!(Request { session, context, rules, limit, now, seed, deadline_ms, correction } or default);

impl Default for Request {
    fn default() -> Self {
        Self {
            session: Vec::new(),
            context: Context::default(),
            rules: Rules::default(),
            limit: Self::DEFAULT_LIMIT,
            now: 0,
            seed: 0,
            deadline_ms: None,
            correction: None,
        }
    }
}

impl Request {
    /// Recommendations of a request that does not say how many.
    pub const DEFAULT_LIMIT: u32 = 10;

    /// Decodes a request; `now` (Unix seconds, of the host's clock) and `seed` stand for an absent or `null` one. A host gives each request
    /// another seed: with one for all, exploration explores the same places for everybody.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for unknown keys and wrong types.
    pub fn decode(request: &[u8], now: i64, seed: u64) -> Result<Self> {
        let read = |tree: Json<'_>| {
            let has = |key| tree.get(key).is_some_and(|value| *value != Json::Null);
            let (has_now, has_seed) = (has("now"), has("seed"));
            let mut request = Self::from_json(tree)?;
            if !has_now {
                request.now = now;
            }
            if !has_seed {
                request.seed = seed;
            }
            Ok(request)
        };
        read_json(request, Code::InvalidArgument, "the request", read)
    }
}

/// Which part of the engine proposed an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Source {
    /// The scan of the item table with the encoder's query.
    Retrieval,
    /// The weights from the session's items to their neighbours.
    Neighbours,
    /// The popularity list that is served without a usable session or model, and what fills a list
    /// when neighbours are too few.
    Fallback,
    /// The request's rules.
    Pinned,
    /// Chance, among the candidates.
    Exploration,
}
json_names!(Source { Retrieval = "retrieval", Neighbours = "neighbours", Fallback = "fallback", Pinned = "pinned", Exploration = "exploration" });

/// Why an item is in the list, in a form that a page can show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[non_exhaustive]
pub enum Reason {
    /// Close to an item of the session: "because you viewed …".
    SimilarTo {
        /// The item of the session.
        item_id: ItemId,
        /// Cosine of the two item vectors, -1 to 1.
        similarity: f32,
    },
    /// Often chosen together with an item of the session: "because you viewed …".
    ChosenWith {
        /// The item of the session whose weight adds most to the neighbour score.
        item_id: ItemId,
        /// What it adds, above 0, in units of the neighbour score.
        weight: f32,
    },
    /// Shares a category with the session.
    Category {
        /// Name of the category.
        category: String,
    },
    /// Many others chose it.
    Popular,
    /// The site put it there.
    Pinned,
}

/// One item of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Which item.
    pub item_id: ItemId,
    /// 1-based place in the list.
    pub position: u32,
    /// Raw ranker score, not a probability, without boosts and the user's correction; 0 for fallbacks and pinned items.
    pub score: f32,
    /// Which part of the engine proposed it.
    pub source: Source,
    /// Why it is here, strongest first.
    pub reasons: Vec<Reason>,
    /// The chance that its place had of getting it, given those before it; only in lists with exploration, where logs need it
    /// to judge a model by what another one listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propensity: Option<f32>,
}

/// A degraded step that did not stop the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FaultCode {
    /// The session is empty; the fallback list was served.
    EmptySession,
    /// Items of the session are not in this bundle and were left out.
    UnknownItems,
    /// The encoder failed or gave a value that is not finite; the fallback list was served.
    EncoderFailed,
    /// The ranker failed or gave a value that is not finite; retrieval order was served.
    RankerFailed,
    /// Fewer items than asked for remained after the policy.
    TooFewItems,
    /// `limit` was larger than the bundle's limit and was lowered.
    LimitLowered,
    /// A step would have ended after `deadline_ms` and was left out.
    DeadlineExceeded,
}
json_names!(FaultCode { EmptySession = "empty_session", UnknownItems = "unknown_items", EncoderFailed = "encoder_failed", RankerFailed = "ranker_failed", TooFewItems = "too_few_items", LimitLowered = "limit_lowered", DeadlineExceeded = "deadline_exceeded" });

/// One degraded step with its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What was degraded.
    pub code: FaultCode,
    /// The evidence, for people.
    pub detail: String,
}

/// The answer to a [`Request`]. `recommend` always gives one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// The list, by position.
    pub recommendations: Vec<Recommendation>,
    /// Degraded steps, in the order in which they happened.
    pub faults: Vec<Fault>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_request_leaves_out_is_the_same_on_every_host() {
        let read = |value: serde_json::Value| Request::decode(value.to_string().as_bytes(), 77, 5);
        let plain = Request { now: 77, seed: 5, ..Request::default() };
        assert_eq!(plain.limit, 10);
        assert_eq!(read(json!({})).unwrap(), plain);
        let nulls = json!({ "context": null, "rules": null, "limit": null, "now": null });
        assert_eq!(read(nulls).unwrap(), plain);
        assert_eq!(read(json!({ "now": 5, "limit": 0 })).unwrap(), Request { now: 5, limit: 0, ..plain });
        let bounds = json!({ "rules": { "filter": { "min_price": -1e308, "max_price": 1e308 } } });
        let filter = read(bounds).unwrap().rules.filter;
        assert_eq!((filter.min_price, filter.max_price), (Some(f32::NEG_INFINITY), Some(f32::INFINITY)));
        for wrong in [
            json!({ "limits": 3 }),
            json!({ "rules": { "cap": 1 } }),
            json!({ "limit": -1 }),
            json!([]),
            json!([[]]),
        ] {
            assert_eq!(read(wrong.clone()).unwrap_err().code(), Code::InvalidArgument, "{wrong}");
        }
    }
}
