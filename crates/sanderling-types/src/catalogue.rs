//! The catalogue: what can be recommended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ItemId;

/// One item of the catalogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The outside id.
    pub item_id: ItemId,
    /// Shown to people; may be empty.
    pub title: String,
    /// Category names, most important first.
    pub categories: Vec<String>,
    /// Price in the shop's currency, where there is one; finite and not negative.
    pub price: Option<f32>,
    /// Unix seconds when the item became available, where known.
    pub published_at: Option<i64>,
    /// Every other declared attribute.
    pub attributes: BTreeMap<String, String>,
}
