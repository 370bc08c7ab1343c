//! Interactions: what a user did with an item.

use serde::{Deserialize, Serialize};

use crate::{ItemId, UserId, json_names, json_object};

/// The part of a fixed split that an interaction belongs to, where the data says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SplitPart {
    /// Used to fit models.
    Train,
    /// Used to choose between models.
    Validation,
    /// Used once, to report.
    Test,
}
json_names!(SplitPart { Train = "train", Validation = "validation", Test = "test" });

/// One user-item act in the logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interaction {
    /// Who acted.
    pub user_id: UserId,
    /// On what.
    pub item_id: ItemId,
    /// What was done, such as `view`, `cart`, `purchase` or `rating`.
    pub kind: String,
    /// Unix seconds, or the position in the sequence where the data has order only
    /// (see [`crate::TimeKind`]).
    pub timestamp: i64,
    /// A weight, rating or quantity, where there is one.
    pub value: Option<f32>,
    /// The part of a fixed split, where the data has one.
    pub split: Option<SplitPart>,
}

/// One interaction of the current user as the engine sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SessionInteraction {
    /// On what.
    pub item_id: ItemId,
    /// What was done.
    pub kind: String,
    /// Unix seconds.
    pub timestamp: i64,
}
json_object!(SessionInteraction { item_id, kind, timestamp });
