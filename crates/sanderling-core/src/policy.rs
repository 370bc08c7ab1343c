//! The policy: which items may be listed, and how many of one category. Pure and deterministic.

use sanderling_types::{Boost, Filter, ItemIndex, PolicyDefaults, Rules, sorted_positions};

use crate::{Bundle, Mask, PackedVocabulary, SessionView};

/// The items that a request may list: among the only ones it wants, if it names any, not excluded, not anywhere in the session (if the rules or else the bundle's
/// defaults say so), and matching every condition of the filter. Items that the bundle does not know
/// change nothing.
#[must_use]
pub fn mask(bundle: &Bundle, session: &SessionView, rules: &Rules) -> Mask {
    let mut mask = filter_mask(bundle.vocabulary(), &rules.filter);
    if !rules.only.is_empty() {
        let only = rules.only.iter().filter_map(|id| bundle.item_index(id));
        let wanted = Mask::of(bundle.vocabulary().len(), only);
        mask.retain(|item| wanted.keeps(item));
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
pub fn filter_mask(vocabulary: &PackedVocabulary, filter: &Filter) -> Mask {
    let mut mask = Mask::all(vocabulary.len());
    if !filter.categories.is_empty() {
        let wanted: Vec<bool> =
            vocabulary.categories().map(|name| filter.categories.iter().any(|want| want == name)).collect();
        let is_wanted = |category: u16| wanted.get(usize::from(category)).copied().unwrap_or(false);
        mask.retain(|item| vocabulary.categories_of(item).any(is_wanted));
    }
    if filter.min_price.is_some() || filter.max_price.is_some() {
        let in_range = |price: f32| {
            filter.min_price.is_none_or(|min| price >= min) && filter.max_price.is_none_or(|max| price <= max)
        };
        mask.retain(|item| vocabulary.price(item).is_some_and(in_range));
    }
    mask
}

/// The cap of a request: its own, else the bundle's.
#[must_use]
pub fn category_cap(rules: &Rules, defaults: &PolicyDefaults) -> Option<u32> {
    rules.category_cap.or(defaults.category_cap)
}

/// Counts the first categories of what is listed; items without a category are never capped.
#[derive(Debug, Clone)]
pub struct CategoryCap<'a> {
    vocabulary: &'a PackedVocabulary,
    cap: Option<u32>,
    num_listed: Vec<u32>,
}

impl<'a> CategoryCap<'a> {
    /// Nothing is listed yet; without a cap everything may be.
    #[must_use]
    pub fn new(vocabulary: &'a PackedVocabulary, cap: Option<u32>) -> Self {
        Self { vocabulary, cap, num_listed: vec![0; vocabulary.num_categories()] }
    }

    /// Whether an item may be listed, which counts it.
    pub fn admits(&mut self, item: ItemIndex) -> bool {
        let admitted = self.would_admit(item);
        if let (true, Some(category)) = (admitted, self.category(item)) {
            self.num_listed[category] += 1;
        }
        admitted
    }

    /// Whether an item might be listed now.
    #[must_use]
    pub fn would_admit(&self, item: ItemIndex) -> bool {
        let (Some(cap), Some(category)) = (self.cap, self.category(item)) else { return true };
        self.num_listed[category] < cap
    }

    fn category(&self, item: ItemIndex) -> Option<usize> {
        self.vocabulary.categories_of(item).next().map(usize::from)
    }
}

/// Walks `ordered` and keeps the first `limit` items that `mask` keeps and [`CategoryCap`] admits, each once.
#[must_use]
pub fn cap_categories(
    vocabulary: &PackedVocabulary,
    ordered: impl IntoIterator<Item = ItemIndex>,
    mut mask: Mask,
    cap: Option<u32>,
    limit: usize,
) -> Vec<ItemIndex> {
    let mut cap = CategoryCap::new(vocabulary, cap);
    let mut kept = Vec::new();
    for item in ordered {
        if kept.len() == limit {
            break;
        }
        if mask.keeps(item) && cap.admits(item) {
            mask.drop_item(item);
            kept.push(item);
        }
    }
    kept
}

/// What `boosts` add to the score of each of `items`.
#[must_use]
pub fn boosts(bundle: &Bundle, boosts: &[Boost], items: &[ItemIndex]) -> Vec<f32> {
    let mut added = vec![0.0; items.len()];
    let names_any = |boost: &&Boost| !boost.item_ids.is_empty() || !boost.categories.is_empty();
    for boost in boosts.iter().filter(names_any).filter(|boost| !boost.add.is_nan()) {
        let vocabulary = bundle.vocabulary();
        let ids = boost.item_ids.iter();
        let named = Mask::of(vocabulary.len(), ids.filter_map(|id| bundle.item_index(id)));
        let wanted: Vec<bool> =
            vocabulary.categories().map(|name| boost.categories.iter().any(|want| want == name)).collect();
        let in_category =
            |item: &ItemIndex| vocabulary.categories_of(*item).any(|category| wanted[usize::from(category)]);
        for (added, item) in added.iter_mut().zip(items) {
            if named.keeps(*item) || in_category(item) {
                *added += boost.add;
            }
        }
    }
    added
}

/// One place of a list with exploration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Explored {
    /// Whether chance chose what stands there.
    pub by_chance: bool,
    /// The chance that this place had of getting what stands there, given the places before it.
    pub propensity: f32,
}

/// Gives places of a list to random candidates (epsilon-greedy, Sutton and Barto 2018, section 2.2, for each place): with the
/// chance `exploration`, what stands there is replaced by one of the `num_candidates` that is not listed and that `cap`
/// admits, each with the same chance. Gives what became of each place; the same seed makes the same choices.
pub fn explore(
    listed: &mut [usize],
    num_candidates: usize,
    exploration: f32,
    seed: u64,
    items: &[ItemIndex],
    cap: &mut CategoryCap<'_>,
) -> Vec<Explored> {
    let exploration = exploration.min(1.0);
    let mut free: Vec<usize> = (0..num_candidates).filter(|at| !listed.contains(at)).collect();
    let mut draws = SplitMix(seed);
    let explore_place = |place: &mut usize| {
        let open: Vec<usize> = free.iter().copied().filter(|at| cap.would_admit(items[*at])).collect();
        if open.is_empty() {
            return Explored { by_chance: false, propensity: 1.0 };
        }
        if draws.unit() >= f64::from(exploration) {
            return Explored { by_chance: false, propensity: 1.0 - exploration };
        }
        let chosen = open[(draws.unit() * open.len() as f64) as usize];
        cap.admits(items[chosen]);
        free.retain(|at| *at != chosen);
        *place = chosen;
        Explored { by_chance: true, propensity: exploration / open.len() as f32 }
    };
    listed.iter_mut().map(explore_place).collect()
}

/// SplitMix64 (Steele, Lea and Flood 2014, figure 17): enough for choices that nobody must guess.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The pins of a request that are listed, by place (from 0): known items that are not excluded by name, each once.
#[must_use]
pub fn pins(bundle: &Bundle, rules: &Rules) -> Vec<(usize, ItemIndex)> {
    let mut free = Mask::all(bundle.vocabulary().len());
    rules.exclude.iter().filter_map(|id| bundle.item_index(id)).for_each(|item| free.drop_item(item));
    let known = rules.pins.iter().filter_map(|pin| {
        let item = bundle.item_index(&pin.item_id)?;
        Some(((pin.position as usize).saturating_sub(1), item))
    });
    let mut pins: Vec<(usize, ItemIndex)> = Vec::new();
    for (place, item) in known {
        if free.keeps(item) {
            free.drop_item(item);
            pins.push((place, item));
        }
    }
    let order = sorted_positions(pins.len(), &|a, b| pins[a].0.cmp(&pins[b].0));
    order.into_iter().map(|at| pins[at]).collect()
}

/// A list of at most `limit` in which each of `pinned`, in the order of their places, stands at its place, or as near
/// behind it as there is room; `listed` fills the others in its order. A place behind the end is the last one.
pub fn place<T>(listed: Vec<T>, pinned: Vec<(usize, T)>, limit: usize) -> Vec<T> {
    let len = limit.min(listed.len() + pinned.len());
    let num_pinned = pinned.len().min(len);
    let mut out = Vec::with_capacity(len);
    let mut listed = listed.into_iter();
    let mut pinned = pinned.into_iter().take(num_pinned).peekable();
    while out.len() < len {
        // Pins that are left take the last places.
        let must = out.len() + pinned.len() >= len;
        let next = match pinned.next_if(|(place, _)| must || *place <= out.len()) {
            Some((_, item)) => Some(item),
            None => listed.next(),
        };
        out.extend(next);
    }
    out
}

/// Most and least relevance of what is boosted, in ranges of scores.
const BEYOND: f32 = 1000.0;

/// Fills at most `limit` places by maximal marginal relevance (Carbonell and Goldstein 1998): each place goes to
/// the candidate with the most `(1 - diversity) · relevance - diversity · similarity`, of equals to the earlier one, if
/// it is admitted; else it is left out. Relevance is the score between the least (0) and the most (1) of all `unboosted`, so that boosts
/// move what they are for and leave the others apart; a boosted item may lie beyond, by no more than a thousand times that. Similarity
/// is the largest of `similarities`, numbers up to 1 of a position with each of `scores`, to the items that are placed
/// already. `ordered` has positions of `scores`, best first; gives positions of `scores`.
#[must_use]
pub fn diversify(
    ordered: &[usize],
    scores: &[f32],
    unboosted: &[f32],
    diversity: f32,
    limit: usize,
    similarities: impl Fn(usize) -> Vec<f32>,
    mut admits: impl FnMut(usize) -> bool,
) -> Vec<usize> {
    let diversity = if diversity.is_nan() { 0.0 } else { diversity.clamp(0.0, 1.0) };
    if diversity == 0.0 {
        return ordered.iter().copied().filter(|at| admits(*at)).take(limit).collect();
    }
    // Halved, so that the range is finite whatever the scores are.
    let half = |score: f32| score.clamp(f32::MIN, f32::MAX) / 2.0;
    let halves = || ordered.iter().map(|at| half(unboosted[*at])).filter(|score| !score.is_nan());
    let (least, most) = (halves().fold(f32::INFINITY, f32::min), halves().fold(f32::NEG_INFINITY, f32::max));
    let relevance = |at: usize| {
        let score = half(scores[at]);
        let share = (score - least) / (most - least);
        match (score.is_nan(), share.is_nan()) {
            (true, _) => 0.0,
            // All are the same.
            (_, true) => 1.0,
            _ => share.clamp(-BEYOND, BEYOND),
        }
    };
    let unplaced = |at: &usize| {
        let relevance = (1.0 - diversity) * relevance(*at);
        Unplaced { at: *at, relevance, nearest: f32::NEG_INFINITY, worth: relevance }
    };
    let mut free: Vec<Unplaced> = ordered.iter().map(unplaced).collect();
    let mut placed: Vec<usize> = Vec::with_capacity(limit.min(ordered.len()));
    while placed.len() < limit && !free.is_empty() {
        let mut best = (0, free[0].worth);
        for (at, one) in free.iter().enumerate() {
            if one.worth > best.1 {
                best = (at, one.worth);
            }
        }
        let chosen = free.remove(best.0).at;
        if !admits(chosen) {
            continue;
        }
        let similarities = similarities(chosen);
        for one in &mut free {
            // Not by `max`, which wasm calls a function for.
            let similarity = similarities[one.at];
            if similarity > one.nearest {
                one.nearest = similarity;
            }
            one.worth = one.relevance - diversity * one.nearest;
        }
        placed.push(chosen);
    }
    placed
}

/// A candidate that [`diversify`] may still choose.
struct Unplaced {
    at: usize,
    /// Its part of the worth.
    relevance: f32,
    /// The largest similarity to what is placed.
    nearest: f32,
    worth: f32,
}
