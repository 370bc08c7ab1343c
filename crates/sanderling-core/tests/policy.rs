//! The policy never lists what it must remove, and drops nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::needless_pass_by_value, reason = "arguments made in place read better")]

mod support;

use proptest::prelude::*;
use sanderling_core::policy::{boosts, cap_categories, diversify, filter_mask, mask};
use sanderling_core::{Mask, SessionView};
use sanderling_types::{Boost, Filter, ItemId, ItemIndex, Rules};
use support::{Fixture, packed_vocabulary, session, vocabulary};

const IDS: [&str; 6] = ["boot", "clog", "pump", "beret", "cap", "gift"];

fn kept(filter: Filter) -> Vec<u32> {
    filter_mask(&packed_vocabulary(), &filter).kept().map(|item| item.0).collect()
}

#[test]
fn filters_keep_what_matches_every_condition() {
    let categories = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(kept(Filter::default()), [0, 1, 2, 3, 4, 5]);
    assert_eq!(kept(Filter { categories: categories(&["hats"]), ..Filter::default() }), [2, 3, 4]);
    assert_eq!(
        kept(Filter { categories: categories(&["hats", "shoes"]), ..Filter::default() }),
        [0, 1, 2, 3, 4]
    );
    assert_eq!(kept(Filter { categories: categories(&["gloves"]), ..Filter::default() }), [0u32; 0]);
    assert_eq!(kept(Filter { min_price: Some(10.0), ..Filter::default() }), [0, 1, 2, 3]);
    assert_eq!(kept(Filter { max_price: Some(10.0), ..Filter::default() }), [0, 3, 5]);
    assert_eq!(kept(Filter { min_price: Some(f32::NAN), ..Filter::default() }), [0u32; 0]);
    let both = Filter { categories: categories(&["shoes"]), min_price: Some(15.0), max_price: Some(30.0) };
    assert_eq!(kept(both), [1]);
}

#[test]
fn the_cap_counts_first_categories_and_spares_items_without_one() {
    let order = [2, 0, 5, 1, 3, 4].map(ItemIndex);
    let cap = |cap, limit| -> Vec<usize> {
        let kept = cap_categories(&packed_vocabulary(), order, Mask::all(6), cap, limit);
        kept.iter().map(|item| order.iter().position(|other| other == item).unwrap()).collect()
    };
    assert_eq!(cap(None, 10), [0, 1, 2, 3, 4, 5]);
    assert_eq!(cap(None, 2), [0, 1]);
    // The pump's first category is shoes, so the boot and the clog are over a cap of one.
    assert_eq!(cap(Some(1), 10), [0, 2, 4]);
    assert_eq!(cap(Some(2), 4), [0, 1, 2, 4]);
    assert_eq!(cap(Some(0), 10), [2]);
    assert_eq!(cap(Some(1), 0), [0usize; 0]);
}

#[test]
fn boosts_add_up_for_named_items_and_categories() {
    let engine = Fixture::new().engine();
    let boost = |ids: &[&str], categories: &[&str], add: f32| Boost {
        item_ids: ids.iter().map(|id| ItemId::from(*id)).collect(),
        categories: categories.iter().map(|name| (*name).to_owned()).collect(),
        add,
    };
    let added = boosts(
        engine.bundle(),
        &[
            boost(&["boot", "no such item"], &[], 1.0),
            boost(&["beret"], &["hats"], 0.5),
            boost(&["cap"], &[], f32::NAN),
        ],
        &[0, 3, 4, 5].map(ItemIndex),
    );
    assert_eq!(added, [1.0, 0.5, 0.5, 0.0], "an item counts once a boost");
}

#[test]
fn diversity_places_by_marginal_relevance() {
    // Two of a kind lead, one of another kind follows.
    let (ordered, scores) = ([2, 0, 1, 3], [0.9, 0.5, 1.0, 0.0]);
    let is_first_kind = |at: usize| at == 2 || at == 0;
    let alike = |a: usize| -> Vec<f32> {
        (0..4).map(|b| if is_first_kind(a) == is_first_kind(b) { 1.0 } else { 0.0 }).collect()
    };
    let placed = |diversity: f32, limit: usize| {
        diversify(&ordered, &scores, &scores, diversity, limit, alike, |_| true)
    };
    assert_eq!(placed(0.0, 4), ordered);
    assert_eq!(placed(f32::NAN, 4), ordered);
    assert_eq!(placed(0.1, 4), [2, 0, 1, 3], "0.81 - 0.1 against 0.45");
    assert_eq!(placed(0.5, 4), [2, 1, 0, 3], "0.45 - 0.5 against 0.25");
    assert_eq!(placed(0.5, 2), [2, 1]);
    let capped = |diversity: f32| diversify(&ordered, &scores, &scores, diversity, 3, alike, |at| at != 2);
    assert_eq!(capped(0.0), [0, 1, 3]);
    assert_eq!(capped(0.1), [0, 1, 3], "what is left out repels nothing");
    assert_eq!(placed(1.0, 4), [2, 1, 0, 3]);
    assert_eq!(placed(7.0, 4), placed(1.0, 4));
    assert_eq!(placed(0.5, 0), [0usize; 0]);
    let endless = [f32::INFINITY, 1.0, f32::INFINITY, f32::NAN];
    assert_eq!(
        diversify(&[0, 2, 1, 3], &endless, &endless, 0.4, 4, alike, |_| true),
        [0, 2, 1, 3],
        "0.6 - 0.4 against 0 - 0"
    );
    // Buried as deep as one likes, the first leaves the others apart.
    for buried in [-1.0, -1e6, f32::NEG_INFINITY] {
        let boosted = [0.9, 0.5, buried, 0.0];
        let placed = diversify(&[0, 1, 3, 2], &boosted, &scores, 0.2, 4, alike, |_| true);
        assert_eq!(placed, [0, 1, 3, 2], "{buried}: 0.72, then 0.4 against 0 - 0.2");
    }
    for lifted in [2.0, 1e6, f32::INFINITY] {
        let boosted = [0.9, 0.5, 1.0, lifted];
        let placed = diversify(&[3, 2, 0, 1], &boosted, &scores, 0.2, 4, alike, |_| true);
        assert_eq!(placed, [3, 2, 0, 1], "{lifted}: 0.8, then 0.72 - 0.2 against 0.4 - 0.2");
    }
    assert_eq!(diversify(&[], &[], &[], 0.5, 3, alike, |_| true), [0usize; 0]);
    assert_eq!(
        diversify(&[1, 0], &[1.0, 1.0], &[1.0, 1.0], 0.5, 2, alike, |_| true),
        [1, 0],
        "equal scores are equally relevant"
    );
}

#[test]
fn a_list_follows_boosts_and_diversity() {
    let engine = Fixture::new().engine();
    let ids = |rules: Rules| -> Vec<String> {
        let request = sanderling_types::Request { rules, ..support::request(&["boot"], 4) };
        let listed = engine.recommend(&request).response.recommendations;
        listed.iter().map(|listed| listed.item_id.as_str().to_owned()).collect()
    };
    let plain = ids(Rules::default());
    let last = plain.last().unwrap().clone();
    let boost = Boost { item_ids: vec![last.as_str().into()], add: 1000.0, ..Boost::default() };
    assert_eq!(ids(Rules { boosts: vec![boost.clone()], ..Rules::default() })[0], last);
    let capped = ids(Rules { boosts: vec![boost], category_cap: Some(1), ..Rules::default() });
    assert_eq!(capped[0], last);
    assert!(capped.len() <= plain.len());
    let varied = ids(Rules { diversity: Some(1.0), ..Rules::default() });
    assert_eq!(varied[0], plain[0], "the first place is the most relevant");
    assert_eq!(
        ids(Rules { diversity: Some(0.0), boosts: vec![Boost::default()], ..Rules::default() }),
        plain
    );
}

proptest! {
    #[test]
    fn an_item_is_kept_exactly_when_no_rule_removes_it(
        seen in prop::collection::vec(0usize..6, 0..8),
        excluded in prop::collection::vec(0usize..6, 0..4),
        exclude_seen in prop::option::of(any::<bool>()),
        min_price in prop::option::of(0.0f32..50.0),
        hats_only in any::<bool>(),
        only in prop::collection::vec(0usize..6, 0..3),
    ) {
        let bundle = Fixture::new().bundle();
        let seen: Vec<&str> = seen.iter().map(|item| IDS[*item]).collect();
        let (view, num_unknown) = SessionView::resolve(&session(&seen), &bundle);
        prop_assert_eq!(num_unknown, 0);
        let mut exclude: Vec<ItemId> = excluded.iter().map(|item| ItemId::from(IDS[*item])).collect();
        exclude.push(ItemId::from("unknown"));
        let categories = if hats_only { vec!["hats".to_owned()] } else { vec![] };
        let filter = Filter { categories, min_price, max_price: None };
        let only: Vec<ItemId> = only.iter().map(|item| ItemId::from(IDS[*item])).collect();
        let rules = Rules { exclude, only: only.clone(), exclude_seen, filter, ..Rules::default() };
        let mask = mask(&bundle, &view, &rules);
        let vocabulary = vocabulary();
        for (row, id) in IDS.iter().enumerate() {
            // Also what is older than the three items that the encoder reads.
            let is_seen = seen.iter().any(|seen| seen == id) && exclude_seen.unwrap_or(true);
            let too_cheap = min_price.is_some_and(|min| vocabulary.prices[row].is_none_or(|price| price < min));
            let no_hat = hats_only && !vocabulary.item_categories[row].contains(&1);
            let unwanted = !only.is_empty() && !only.iter().any(|wanted| wanted.as_str() == *id);
            let removed = unwanted || is_seen || excluded.contains(&row) || too_cheap || no_hat;
            prop_assert_eq!(mask.keeps(ItemIndex(row as u32)), !removed, "{}", id);
        }
    }
}
