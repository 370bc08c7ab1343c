use std::path::Path;

use sanderling_types::{Code, TimeKind};

use super::{assert_error, put};
use crate::data::{AnomalyCode as Kind, Severity, SynthConfig, Validation, synth, validate};

const NOW: i64 = 1_800_000_000;
const HEAD: &str = "user_id,item_id,kind,timestamp,value,split\n";
/// Three users and three items, sorted, nothing wrong.
const SOUND: &str =
    "u,a,view,1700000001,1,\nu,b,view,1700000002,2,\nv,b,view,1700000003,,\nw,c,buy,1700000004,,\n";

fn check(folder: &Path, rows: &str) -> Validation {
    put(folder, "interactions.csv", format!("{HEAD}{rows}").as_bytes());
    validate(folder, NOW, &mut |_| {}).unwrap()
}

#[test]
fn sound_data_has_no_anomalies() {
    let dir = tempfile::tempdir().unwrap();
    let found = check(dir.path(), SOUND);
    assert_eq!(found.anomalies, []);
    assert!(!found.has_errors());
    assert_eq!((found.num_rows, found.num_interactions, found.num_users, found.num_items), (4, 4, 3, 3));
    assert_eq!((found.first_timestamp, found.last_timestamp), (Some(1_700_000_001), Some(1_700_000_004)));
    assert_eq!((found.kinds["view"], found.kinds["buy"], found.splits["none"]), (3, 1, 4));
    assert_eq!(found.time, Some(TimeKind::UnixSeconds));
}

#[test]
fn every_anomaly_of_a_row_is_found_on_its_line() {
    let dir = tempfile::tempdir().unwrap();
    for (rows, code, lines, detail) in [
        ("u,a,view,17000,00,1,\n", Kind::UnreadableRow, vec![6], "6 fields"),
        ("\n\n,a,view,1700000005,,\nu,,view,1700000005,,\n", Kind::EmptyId, vec![8, 9], "user id"),
        ("u,a,view,later,,\n", Kind::InvalidTimestamp, vec![6], "`later`"),
        ("x,a,view,0,,\ny,a,view,-5,,\n", Kind::TimestampNotPositive, vec![6, 7], "timestamp 0"),
        ("u,a,view,1800000001,,\n", Kind::FutureTimestamp, vec![6], "1 seconds after now"),
        ("u,a,view,1700000005000,,\n", Kind::MixedTimestampUnits, vec![6], "milliseconds on line 6"),
        ("u,a,view,1700000005,NaN,\n", Kind::NonFiniteValue, vec![6], "`NaN`"),
        ("u,a,view,1700000005,,hold\n", Kind::InvalidSplit, vec![6], "`hold`"),
        (
            "u,b,view,1700000002,,\nw,c,buy,1700000004,9,\n",
            Kind::DuplicateInteraction,
            vec![6, 7],
            "item `b`",
        ),
        ("v,a,view,1700000002,,\n", Kind::UnsortedTimestamps, vec![6], "user `v`"),
    ] {
        let found = check(dir.path(), &format!("{SOUND}{rows}"));
        let anomaly =
            found.anomaly(code).unwrap_or_else(|| panic!("{code:?} is not in {:?}", found.anomalies));
        assert_eq!((&anomaly.lines, anomaly.count), (&lines, lines.len() as u64), "{code:?}");
        assert!(anomaly.detail.contains(detail), "{}", anomaly.detail);
        assert_eq!((anomaly.file.as_str(), anomaly.severity), ("interactions.csv", code.severity()));
        assert_eq!(found.has_errors(), code.severity() == Severity::Error, "{code:?}");
        assert_eq!(found.anomalies.len(), 1, "{code:?}: {:?}", found.anomalies);
        assert!(!anomaly.suggested_fix.is_empty());
    }
    let many: String = (0..9).map(|_| "u,,view,1,,\n").collect();
    let anomaly = check(dir.path(), &format!("{SOUND}{many}")).anomalies.remove(0);
    assert_eq!((anomaly.count, anomaly.lines), (9, vec![6, 7, 8, 9, 10]));
}

#[test]
fn the_catalogue_is_checked_alone_and_against_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let items = "item_id,title,categories,price,published_at\na,A,x,1,\nb,B,x,-2,\nb,B2,x,2,\nd,D,x,nan,soon\n,E,,,\n";
    put(dir.path(), "items.csv", items.as_bytes());
    let found = check(dir.path(), SOUND);
    let lines = |code: Kind| found.anomaly(code).map(|anomaly| (anomaly.file.clone(), anomaly.lines.clone()));
    let in_items = |lines: &[u64]| Some(("items.csv".to_owned(), lines.to_vec()));
    assert_eq!(lines(Kind::BadPrice), in_items(&[3, 5]));
    assert_eq!(lines(Kind::DuplicateItem), in_items(&[4]));
    assert_eq!(lines(Kind::EmptyId), in_items(&[6]));
    assert_eq!(lines(Kind::UntouchedItem), in_items(&[5]));
    assert_eq!(lines(Kind::UnknownItem), Some(("interactions.csv".to_owned(), vec![5])));
    assert_eq!((found.anomalies.len(), found.num_catalogue_items), (5, 3));
    assert!(found.anomalies.is_sorted_by_key(|anomaly| anomaly.severity));
}

#[test]
fn more_categories_than_a_bundle_can_name_are_found() {
    let dir = tempfile::tempdir().unwrap();
    for count in [65_535, 65_537] {
        let names: Vec<String> = (0..count).map(|i| format!("c{i}")).collect();
        let (first, rest) = names.split_at(65_000);
        let items = format!("item_id,categories\na,{}\nb,{}\nc,c0\n", first.join("|"), rest.join("|"));
        put(dir.path(), "items.csv", items.as_bytes());
        let found = check(dir.path(), SOUND);
        let anomaly =
            found.anomaly(Kind::TooManyCategories).map(|anomaly| (anomaly.count, anomaly.lines.clone()));
        assert_eq!(anomaly, (count == 65_537).then(|| (2, vec![3, 3])));
    }
}

#[test]
fn robots_stand_out_and_busy_people_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let people: String = (0..40)
        .map(|user| {
            format!(
                "p{user},a,view,{},,\np{user},b,view,{},,\n",
                1_700_000_000 + user,
                1_700_009_000 + user * user
            )
        })
        .collect();
    let regular: String =
        (0..60).map(|at| format!("clock,i{at},view,{},,\n", 1_700_000_000 + at * 30)).collect();
    let hungry: String =
        (0..900).map(|at| format!("crawler,i{at},view,{},,\n", 1_700_000_000 + at * at * 7)).collect();
    // A person who rates a hundred items on two pages, in the same two seconds.
    let rater: String =
        (0..100).map(|at| format!("rater,i{at},rating,{},,\n", 1_700_000_000 + at / 50)).collect();
    let found = check(dir.path(), &format!("{people}{regular}{rater}{hungry}"));
    assert_eq!(found.anomalies.len(), 1, "{:?}", found.anomalies);
    let robots = found.anomaly(Kind::Robot).unwrap();
    assert_eq!((robots.count, &robots.lines), (2, &vec![82, 242]));
    assert!(robots.detail.contains("`clock`: 59 of 59 pauses last 30 seconds"), "{}", robots.detail);
}

#[test]
fn data_that_says_nothing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let codes = |found: &Validation| found.anomalies.iter().map(|anomaly| anomaly.code).collect::<Vec<_>>();
    let found = check(dir.path(), "u,a,view,1700000000,5,\nu,a,buy,1700000000,5,\n");
    assert_eq!(
        codes(&found),
        [Kind::SingleItem, Kind::SingleUser, Kind::ConstantTimestamps, Kind::ConstantValues]
    );
    let found = check(dir.path(), "");
    assert_eq!((codes(&found), found.has_errors()), (vec![Kind::EmptyData], true));
    put(dir.path(), "interactions.csv", b"user_id,thing\nu,a\n");
    let found = validate(dir.path(), NOW, &mut |_| {}).unwrap();
    assert_eq!((codes(&found), found.has_errors()), (vec![Kind::MissingColumn], true));
    assert!(found.anomalies[0].detail.contains("item_id"), "{}", found.anomalies[0].detail);
    put(dir.path(), "interactions.csv", b"user_id,item_id\nu,a\nv,b\nv,b\n");
    let found = validate(dir.path(), NOW, &mut |_| {}).unwrap();
    assert_eq!((codes(&found), found.time), (vec![Kind::NoTimestamps], Some(TimeKind::Order)));
    put(dir.path(), "interactions.csv", b"");
    assert_eq!(codes(&validate(dir.path(), NOW, &mut |_| {}).unwrap()), [Kind::EmptyData]);
    assert_error(validate(&dir.path().join("nowhere"), NOW, &mut |_| {}), Code::NotFound, &["nowhere"]);
}

#[test]
fn the_synthetic_world_is_sound_and_edits_show() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("world");
    synth(&SynthConfig { num_users: 500, days: 20, ..SynthConfig::default() }).write(&folder).unwrap();
    let found = validate(&folder, NOW, &mut |_| {}).unwrap();
    let serious = found.anomalies.iter().filter(|anomaly| anomaly.severity != Severity::Info).count();
    assert_eq!(serious, 0, "{:?}", found.anomalies);
    let mut text = std::fs::read_to_string(folder.join("interactions.csv")).unwrap();
    text.push_str("stranger,p99999,view,1767225600,,\n");
    put(&folder, "interactions.csv", text.as_bytes());
    let found = validate(&folder, NOW, &mut |_| {}).unwrap();
    assert_eq!(found.anomaly(Kind::UnknownItem).map(|anomaly| anomaly.count), Some(1));
    assert_eq!(found.anomaly(Kind::CountMismatch).map(|anomaly| anomaly.file.as_str()), Some("data.json"));
    let json = serde_json::to_value(&found).unwrap();
    assert!(
        json["anomalies"].as_array().unwrap().iter().any(|anomaly| anomaly["code"] == "unknown_item"),
        "{json}"
    );
    assert_eq!(json["anomalies"][0]["severity"], "warning");
}
