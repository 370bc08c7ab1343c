//! What goes into the engine's verb `recommend` and what comes out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{ItemId, SessionInteraction};

/// Request-time facts beside the session, such as `device_class` or `page`.
pub type Context = BTreeMap<String, String>;

/// Keeps only items that match every stated condition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// Keep items in at least one of these categories; empty keeps all.
    pub categories: Vec<String>,
    /// Keep items at or above this price; items without a price are dropped.
    pub min_price: Option<f32>,
    /// Keep items at or below this price; items without a price are dropped.
    pub max_price: Option<f32>,
}

/// The site's rules for one request; what is not stated comes from the manifest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// Items that must not appear.
    pub exclude: Vec<ItemId>,
    /// Whether items of the session are left out.
    pub exclude_seen: Option<bool>,
    /// Conditions that every item must meet.
    pub filter: Filter,
    /// Most items that share a first category.
    pub category_cap: Option<u32>,
}

/// One request for recommendations. Time and seed are arguments: the engine has neither.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Request {
    /// The user's interactions, oldest first.
    pub session: Vec<SessionInteraction>,
    /// Request-time facts.
    pub context: Context,
    /// The site's rules.
    pub rules: Rules,
    /// How many recommendations are wanted; at most `limits.max_limit`.
    pub limit: u32,
    /// Unix seconds.
    pub now: i64,
    /// Seed of every random choice.
    pub seed: u64,
}

/// Which part of the engine proposed an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// The scan of the item table with the encoder's query.
    Retrieval,
    /// The popularity list that is served without a usable session or model.
    Fallback,
}

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
    /// Shares a category with the session.
    Category {
        /// Name of the category.
        category: String,
    },
    /// Many others chose it.
    Popular,
}

/// One item of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// Which item.
    pub item_id: ItemId,
    /// 1-based place in the list.
    pub position: u32,
    /// Raw ranker score, not a probability; 0 for fallbacks.
    pub score: f32,
    /// Which part of the engine proposed it.
    pub source: Source,
    /// Why it is here, strongest first.
    pub reasons: Vec<Reason>,
}

/// A degraded step that did not stop the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
}

impl FaultCode {
    /// Every code with its stable string form, in the bin order of the telemetry field `fault`
    /// (which has `none` before them).
    pub const ALL: &'static [(FaultCode, &'static str)] = &[
        (FaultCode::EmptySession, "empty_session"),
        (FaultCode::UnknownItems, "unknown_items"),
        (FaultCode::EncoderFailed, "encoder_failed"),
        (FaultCode::RankerFailed, "ranker_failed"),
        (FaultCode::TooFewItems, "too_few_items"),
        (FaultCode::LimitLowered, "limit_lowered"),
    ];

    /// The stable string form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(code, _)| *code == self).map_or("unknown", |(_, text)| text)
    }
}

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
