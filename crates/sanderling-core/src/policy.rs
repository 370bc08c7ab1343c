//! The policy: which items may be listed, and how many of one category. Pure and deterministic.

use std::collections::BTreeSet;

use sanderling_types::{Filter, ItemIndex, PolicyDefaults, Rules, Vocabulary};

use crate::{Bundle, Mask, SessionView};

/// The items that a request may list: among the only ones it wants, if it names any, not excluded, not anywhere in the session (if the rules or else the bundle's
/// defaults say so), and matching every condition of the filter. Items that the bundle does not know
/// change nothing.
#[must_use]
pub fn mask(bundle: &Bundle, session: &SessionView, rules: &Rules) -> Mask {
    let mut mask = filter_mask(bundle.vocabulary(), &rules.filter);
    if !rules.only.is_empty() {
        let wanted: BTreeSet<ItemIndex> = rules.only.iter().filter_map(|id| bundle.item_index(id)).collect();
        mask.retain(|item| wanted.contains(&item));
    }
    for item in rules.exclude.iter().filter_map(|id| bundle.item_index(id)) {
        mask.drop_item(item);
    }
    if rules.exclude_seen.unwrap_or(bundle.manifest().policy.exclude_seen) {
        for known in session.seen() {
            mask.drop_item(known.item);
        }
    }
    mask
}

/// The items that match every stated condition of `filter`.
///
/// An item without a price never matches a price condition, and a bound that is not a number
/// matches nothing; a category that the bundle does not know has no items.
#[must_use]
pub fn filter_mask(vocabulary: &Vocabulary, filter: &Filter) -> Mask {
    let mut mask = Mask::all(vocabulary.len());
    if !filter.categories.is_empty() {
        let wanted: Vec<bool> =
            vocabulary.categories.iter().map(|category| filter.categories.contains(category)).collect();
        let is_wanted = |category: &u16| wanted.get(usize::from(*category)).copied().unwrap_or(false);
        mask.retain(|item| vocabulary.item_categories[item.row()].iter().any(is_wanted));
    }
    if filter.min_price.is_some() || filter.max_price.is_some() {
        let in_range = |price: f32| {
            filter.min_price.is_none_or(|min| price >= min) && filter.max_price.is_none_or(|max| price <= max)
        };
        mask.retain(|item| vocabulary.prices.get(item.row()).copied().flatten().is_some_and(in_range));
    }
    mask
}

/// The cap of a request: its own, else the bundle's.
#[must_use]
pub fn category_cap(rules: &Rules, defaults: &PolicyDefaults) -> Option<u32> {
    rules.category_cap.or(defaults.category_cap)
}

/// Walks `ordered` and keeps the first `limit` items whose first category has not been kept `cap`
/// times before; items without a category are never capped. Gives their positions in `ordered`, and them.
#[must_use]
pub fn cap_categories(
    vocabulary: &Vocabulary,
    ordered: impl IntoIterator<Item = ItemIndex>,
    cap: Option<u32>,
    limit: usize,
) -> Vec<(usize, ItemIndex)> {
    let mut num_kept = vec![0u32; if cap.is_some() { vocabulary.categories.len() } else { 0 }];
    let mut kept = Vec::with_capacity(limit.min(vocabulary.len()));
    for (at, item) in ordered.into_iter().enumerate() {
        if kept.len() >= limit {
            break;
        }
        let category = vocabulary.item_categories.get(item.row()).and_then(|categories| categories.first());
        if let (Some(cap), Some(category)) = (cap, category) {
            let num_kept = &mut num_kept[usize::from(*category)];
            if *num_kept >= cap {
                continue;
            }
            *num_kept += 1;
        }
        kept.push((at, item));
    }
    kept
}
