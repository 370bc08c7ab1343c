//! The session as the engine sees it: known items only, oldest first.

use sanderling_types::{ItemIndex, SessionInteraction};

use crate::Bundle;

/// One known item of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionItem {
    /// Which item.
    pub item: ItemIndex,
    /// Unix seconds, or the position in the sequence where the data has order only.
    pub timestamp: i64,
}

/// The most recent known interactions of a user, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionView {
    items: Vec<SessionItem>,
}

impl SessionView {
    /// Keeps the last `max_len` of `items`, which are oldest first.
    #[must_use]
    pub fn new(items: &[SessionItem], max_len: usize) -> Self {
        Self { items: items[items.len().saturating_sub(max_len)..].to_vec() }
    }

    /// Resolves interactions, oldest first, against a bundle; interactions with items that the
    /// bundle does not know are left out, and so is everything older than the bundle's
    /// `max_session_len`. Also gives the number of interactions that were left out as unknown.
    #[must_use]
    pub fn resolve(session: &[SessionInteraction], bundle: &Bundle) -> (Self, usize) {
        let known: Vec<SessionItem> = session
            .iter()
            .filter_map(|interaction| {
                let item = bundle.item_index(&interaction.item_id)?;
                Some(SessionItem { item, timestamp: interaction.timestamp })
            })
            .collect();
        let num_unknown = session.len() - known.len();
        (Self::new(&known, bundle.manifest().limits.max_session_len as usize), num_unknown)
    }

    /// The items, oldest first.
    #[must_use]
    pub fn items(&self) -> &[SessionItem] {
        &self.items
    }

    /// The most recent item.
    #[must_use]
    pub fn last(&self) -> Option<ItemIndex> {
        self.items.last().map(|last| last.item)
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no known item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items without their timestamps, oldest first.
    #[must_use]
    pub fn item_indices(&self) -> Vec<ItemIndex> {
        self.items.iter().map(|known| known.item).collect()
    }
}
