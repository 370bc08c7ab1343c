//! Which lists are made of a log, and what they do to a bundle.

use std::fmt::Write;

use sanderling_core::{Bundle, BundleFiles, Engine};
use sanderling_tract::FullRuntime;
use sanderling_types::{FileRole, Manifest, Request, SharedInteraction, SharedSession};

use super::*;
use crate::data::{ColumnMap, Dataset};
use crate::recipe::Recipe;
use crate::recommenders::Recommender;
use crate::split::{self, SplitKind};
use crate::train::{Lineage, Trained, train};

const KEYS: [&str; 2] = ["country", "device"];

/// Twelve items for `num_users` of a country, of which six are its own, `first` to `first + 5`, and one more that most choose last.
fn country(table: &mut String, country: &str, num_users: usize, first: usize) {
    for user in 0..num_users {
        let own = (0..6).map(|at| first + (at + user) % 6);
        let common = (0..6).map(|at| 100 + (at * 5 + user) % 30);
        for (time, item) in own.chain(common).enumerate() {
            let device = if (user / 6).is_multiple_of(2) { "phone" } else { "desktop" };
            let at = 1_700_000_000 + time * 1000;
            writeln!(table, "{country}{user},i{item},{at},{country},{device}").unwrap();
        }
    }
}

/// Users of two large countries, of one with too few users, and of no known one.
fn log() -> String {
    let mut table = "user_id,item_id,timestamp,country,device\n".to_owned();
    country(&mut table, "se", 90, 0);
    country(&mut table, "no", 60, 10);
    country(&mut table, "is", MIN_USERS - 1, 20);
    country(&mut table, "", 60, 30);
    table
}

fn dataset(table: &str, keys: &[&str]) -> Result<Dataset> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("interactions.csv");
    std::fs::write(&path, table).unwrap();
    let context = keys.iter().map(|key| (*key).to_owned()).collect();
    Dataset::read_mapped(&path, &ColumnMap { context, ..ColumnMap::default() }, &mut |_| {})
}

fn keys(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn counted(table: &str, names: &[&str]) -> (Segments, Split) {
    let data = dataset(table, names).unwrap();
    let split = split::split(&data, SplitKind::LeaveOneOut).unwrap();
    (segments(&data.interactions, &split, &keys(names)).unwrap(), split)
}

fn recipe(names: &[&str]) -> Recipe {
    Recipe {
        recommender: Recommender::Popular,
        split: SplitKind::LeaveOneOut,
        segments: keys(names),
        ..Recipe::default()
    }
}

fn trained(recipe: &Recipe) -> Trained {
    trained_on(&log(), recipe)
}

fn trained_on(table: &str, recipe: &Recipe) -> Trained {
    train(&dataset(table, &KEYS).unwrap(), recipe, &Lineage::default(), None, &mut |_| true).unwrap()
}

fn engine(files: BundleFiles) -> Engine {
    Engine::new(Bundle::open(files, None).unwrap(), &FullRuntime).unwrap()
}

#[test]
fn a_country_s_list_begins_with_what_its_users_choose_and_a_small_one_has_none() {
    let (found, split) = counted(&log(), &KEYS);
    let values: Vec<(&str, &str)> =
        found.segments.iter().map(|one| (one.key.as_str(), one.value.as_str())).collect();
    assert_eq!(values, [("country", "se"), ("country", "no")], "not too few users, no value, no difference");
    for (segment, first) in found.segments.iter().zip([0, 10]) {
        let own: Vec<String> = (first..first + 6).map(|item| format!("i{item}")).collect();
        let listed = segment.items.iter().map(|&row| split.vocabulary.item_ids[row as usize].as_str());
        let mut begin: Vec<&str> = listed.take(6).collect();
        begin.sort_unstable();
        assert_eq!(begin, own);
        assert!(segment.items.len() <= MAX_ITEMS);
    }
}

#[test]
fn enough_users_alone_or_interactions_alone_are_not_enough() {
    let mut few = log();
    for user in 0..MIN_USERS {
        writeln!(few, "few{user},i40,1,fi,phone\nfew{user},i41,2,fi,phone\nfew{user},i42,3,fi,phone")
            .unwrap();
    }
    for at in 0..2 * MIN_INTERACTIONS {
        writeln!(few, "lone{},i{},{at},dk,phone", at % 3, 50 + at % 7).unwrap();
    }
    assert_eq!(counted(&few, &["country"]).0.segments.len(), 2);
}

#[test]
fn what_a_few_users_of_a_segment_chose_is_not_told() {
    let mut table = log();
    // As often as they like: a user counts once.
    for at in 0..100 * (MIN_ITEM_USERS as usize - 1) {
        writeln!(table, "se{},secret,{},se,phone", at % (MIN_ITEM_USERS as usize - 1), 1_600_000_000 + at)
            .unwrap();
    }
    let (found, split) = counted(&table, &["country"]);
    let secret = split.vocabulary.item_ids.iter().position(|id| id.as_str() == "secret").unwrap() as u32;
    let place = |items: &[u32]| items.iter().position(|row| *row == secret);
    let (of_se, of_no) = (place(&found.segments[0].items), place(&found.segments[1].items));
    // In the end of both lists, where it is for its share of everybody's choices.
    assert!(of_se.is_none_or(|at| at > 30) && of_no.is_none_or(|at| at > 30), "{of_se:?} {of_no:?}");
}

#[test]
fn only_the_training_part_counts_and_shared_sessions_do_not() {
    let (before, _) = counted(&log(), &["country"]);
    let mut later = log();
    for user in 0..90 {
        // Two more that validate and test, so what did so before trains; the answers are of another world.
        writeln!(later, "se{user},i100,1800000000,se,phone\nse{user},i101,1800000001,se,phone").unwrap();
    }
    let (_, split) = counted(&later, &["country"]);
    let data = dataset(&later, &["country"]).unwrap();
    let (found, row) = (segments(&data.interactions, &split, &keys(&["country"])).unwrap(), |id: &str| {
        split.vocabulary.item_ids.iter().position(|known| known.as_str() == id).unwrap() as u32
    });
    let first = |all: &Segments| all.segments[0].items[..6].to_vec();
    assert!(!first(&found).contains(&row("i100")) && !first(&found).contains(&row("i101")));
    assert_eq!(before.segments.len(), found.segments.len());

    let mut shared = split::split(&data, SplitKind::LeaveOneOut).unwrap();
    let session = |number: u32| SharedSession {
        format_version: 1,
        session_id: format!("{number:032x}"),
        bundle_sha256: sanderling_types::Sha256Hash::of(b"a bundle"),
        day: 1_000 * 86_400,
        interactions: ["i10", "i11", "i12"]
            .map(|id| SharedInteraction { item_id: id.into(), kind: "view".to_owned() })
            .to_vec(),
        padding: String::new(),
    };
    let sessions: Vec<SharedSession> = (0..100).map(session).collect();
    assert!(shared.append_sessions(&sessions).used > 0);
    assert_eq!(segments(&data.interactions, &shared, &keys(&["country"])).unwrap(), found);
}

#[test]
fn a_missing_column_is_named_with_those_that_are_there() {
    let error = dataset(&log(), &["town"]).unwrap_err();
    assert_eq!(error.code(), Code::ColumnMissing);
    assert!(error.to_string().contains("town"), "{error}");
    assert_eq!(error.found_value(), Some("user_id, item_id, timestamp, country, device"));
    let data = dataset(&log(), &["country"]).unwrap();
    let error = train(&data, &recipe(&KEYS), &Lineage::default(), None, &mut |_| true).unwrap_err();
    assert_eq!((error.code(), error.found_value()), (Code::ColumnMissing, Some("country")));
}

#[test]
fn context_comes_back_from_a_data_folder() {
    let data = dataset(&log(), &KEYS).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("data");
    data.write(&folder).unwrap();
    let columns = ColumnMap { context: keys(&KEYS), ..ColumnMap::default() };
    assert_eq!(Dataset::read_mapped(&folder, &columns, &mut |_| {}).unwrap(), data);
    assert_ne!(Dataset::read(&folder).unwrap(), data, "what is not declared is not read");
    let columns = ColumnMap { context: keys(&["item_id"]), ..ColumnMap::default() };
    let odd = Dataset::read_mapped(&folder, &columns, &mut |_| {}).unwrap();
    assert_eq!(odd.write(&folder.join("odd")).unwrap_err().code(), Code::InvalidArgument);
}

#[test]
fn rows_keep_their_context_when_they_are_sorted() {
    let table = "user_id,item_id,timestamp,country\nb,x,5,no\na,y,3, se \nb,z,1,\na,x,1,no\n";
    let data = dataset(table, &["country"]).unwrap().interactions;
    let context = &data.context()[0];
    let rows: Vec<(&str, &str, &str)> =
        data.iter().enumerate().map(|(at, row)| (row.user_id, row.item_id, context.value(at))).collect();
    assert_eq!(rows, [("b", "z", ""), ("b", "x", "no"), ("a", "x", "no"), ("a", "y", "se")]);
}

#[test]
fn a_bundle_serves_new_users_the_list_of_their_country() {
    let files = trained(&recipe(&KEYS)).files;
    let engine = engine(files.clone());
    let list = |country: &str| -> Vec<String> {
        let context = [("country".to_owned(), country.to_owned())].into();
        let outcome = engine.recommend(&Request { context, limit: 6, ..Request::default() });
        outcome.response.recommendations.iter().map(|one| one.item_id.as_str().to_owned()).collect()
    };
    let is_own = |id: &String, first: usize| (first..first + 6).any(|item| *id == format!("i{item}"));
    assert!(list("se").iter().all(|id| is_own(id, 0)), "{:?}", list("se"));
    assert!(list("no").iter().all(|id| is_own(id, 10)), "{:?}", list("no"));
    assert_eq!(list("is"), list("elsewhere"));
    assert_eq!(trained(&recipe(&KEYS)).files, files, "the same data, recipe and seed");
}

#[test]
fn without_keys_and_without_lists_a_bundle_has_no_file_of_them() {
    let manifest = |names: &[&str]| trained(&recipe(names)).manifest;
    let plain = manifest(&[]);
    assert!(!plain.files.contains_key(&FileRole::Segments));
    assert_eq!(plain.training.recipe_sha256, Recipe { segments: Vec::new(), ..recipe(&[]) }.hash());
    assert!(!serde_json::to_string(&recipe(&[])).unwrap().contains("segments"), "old hashes stay");
    let silent = manifest(&["device"]);
    assert!(!silent.files.contains_key(&FileRole::Segments), "phones and desktops choose the same");
    let with = manifest(&["country"]);
    let file = &with.files[&FileRole::Segments];
    assert!(with.bundle_bytes() >= plain.bundle_bytes() + file.bytes, "devices load it");
}

#[test]
fn a_byte_budget_prunes_lists_with_the_catalogue() {
    let mut table = log();
    for at in 0..400 {
        writeln!(table, "rare{},an-item-of-one-user-{at},{at},,phone", at / 4).unwrap();
    }
    let whole = trained_on(&table, &recipe(&["country"]));
    let budget = whole.manifest.bundle_bytes() - 3000;
    let small = trained_on(&table, &Recipe { max_bundle_bytes: Some(budget), ..recipe(&["country"]) });
    assert!(small.manifest.bundle_bytes() <= budget);
    let num_items = small.manifest.shapes.num_items;
    assert!(num_items < whole.manifest.shapes.num_items);
    let bundle = Bundle::open(small.files.clone(), None).unwrap();
    let rows = || bundle.segments().segments.iter().flat_map(|segment| &segment.items);
    assert!(rows().all(|row| *row < num_items) && rows().count() > 0);
    let manifest = small.files.get(Manifest::FILE_NAME).unwrap();
    assert_eq!(Manifest::decode(manifest).unwrap().shapes.num_items, num_items);
}
