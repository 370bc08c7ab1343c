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

/// The known interactions of a user, oldest first: the most recent ones for the encoder and the
/// features, and all of them for the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionView {
    known: Vec<SessionItem>,
    /// Where the most recent ones begin in `known`.
    recent_from: usize,
}

impl SessionView {
    /// Takes the last `max_len` of `items`, which are oldest first, as the recent ones; all of them
    /// count as seen.
    #[must_use]
    pub fn new(items: &[SessionItem], max_len: usize) -> Self {
        Self { known: items.to_vec(), recent_from: items.len().saturating_sub(max_len) }
    }

    /// Resolves interactions, oldest first, against a bundle; interactions with items that the
    /// bundle does not know are left out. The last `max_session_len` of the rest are the recent
    /// ones. Also gives the number of interactions that were left out as unknown.
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

    /// The recent items, at most `max_session_len`, oldest first: what the encoder and the
    /// features read.
    #[must_use]
    pub fn items(&self) -> &[SessionItem] {
        &self.known[self.recent_from..]
    }

    /// Every known item, however old, oldest first: what counts as seen.
    #[must_use]
    pub fn seen(&self) -> &[SessionItem] {
        &self.known
    }

    /// The most recent item.
    #[must_use]
    pub fn last(&self) -> Option<ItemIndex> {
        self.items().last().map(|last| last.item)
    }

    /// Number of recent items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items().len()
    }

    /// Whether there is no recent item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items().is_empty()
    }

    /// The recent items without their timestamps, oldest first.
    #[must_use]
    pub fn item_indices(&self) -> Vec<ItemIndex> {
        self.items().iter().map(|known| known.item).collect()
    }
}
