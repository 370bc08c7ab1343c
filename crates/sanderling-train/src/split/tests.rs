//! Divisions of small logs, case by case.

use sanderling_types::Interaction;

use super::*;
use crate::metrics::CaseResult;
use crate::slices;

fn dataset(rows: &[(&str, &str, i64, Option<SplitPart>)], time: TimeKind) -> Dataset {
    let interactions = rows.iter().map(|&(user, item, timestamp, split)| Interaction {
        user_id: user.into(),
        item_id: item.into(),
        kind: "view".to_owned(),
        timestamp,
        value: None,
        split,
    });
    Dataset::new(interactions, Vec::new(), time).expect("fits")
}

#[test]
fn a_declared_split_that_goes_back_in_time_is_refused() {
    let train = Some(SplitPart::Train);
    let mut rows = vec![
        ("u", "a", 1, train),
        ("u", "only-in-test", 2, Some(SplitPart::Test)),
        ("u", "b", 3, train),
        ("v", "a", 1, Some(SplitPart::Validation)),
        ("v", "b", 2, Some(SplitPart::Validation)),
    ];
    let error = split(&dataset(&rows, TimeKind::Order), SplitKind::NextClick).expect_err("refuses");
    assert_eq!(error.code(), Code::SplitUnsupported);
    assert!(error.to_string().contains("\"u\""), "{error}");
    rows[1].2 = 4;
    let split = split(&dataset(&rows, TimeKind::Order), SplitKind::NextClick).expect("divides");
    assert!(split.training().flatten().all(|&event| split.row(event).is_some()));
    assert_eq!((split.test.len(), split.validation.len()), (1, 1));
}

#[test]
fn more_categories_than_indices_are_refused() {
    let rows = [("u", "a", 1, None), ("u", "b", 2, None), ("u", "c", 3, None), ("u", "d", 4, None)];
    let mut data = dataset(&rows, TimeKind::Order);
    for count in [Vocabulary::MAX_CATEGORIES, Vocabulary::MAX_CATEGORIES + 1] {
        data.items = vec![Item {
            item_id: "a".into(),
            title: String::new(),
            categories: (0..count).map(|i| format!("c{i}")).collect(),
            price: None,
            published_at: None,
            attributes: BTreeMap::new(),
        }];
        match split(&data, SplitKind::LeaveOneOut) {
            Ok(split) => {
                assert_eq!((split.vocabulary.categories.len(), count), (count, Vocabulary::MAX_CATEGORIES));
            }
            Err(error) => {
                assert_eq!((error.code(), count), (Code::LimitExceeded, Vocabulary::MAX_CATEGORIES + 1));
                assert!(error.to_string().contains("found 65536"), "{error}");
            }
        }
    }
}

#[test]
fn held_out_items_keep_no_interaction_and_are_asked_for() {
    let names: Vec<String> = (0..60).map(|i| format!("i{i}")).collect();
    let rows: Vec<(String, &str, i64)> = (0..90)
        .flat_map(|user| {
            let names = &names;
            let name = move |at: usize| names[(user * 7 + at * at) % 60].as_str();
            (0..6).map(move |at| (format!("u{user}"), name(at), at as i64))
        })
        .collect();
    let rows: Vec<(&str, &str, i64, Option<SplitPart>)> =
        rows.iter().map(|(user, item, at)| (user.as_str(), *item, *at, None)).collect();
    let mut data = dataset(&rows, TimeKind::Order);
    let item = |id: &String| Item {
        item_id: id.as_str().into(),
        title: "a title".to_owned(),
        categories: Vec::new(),
        price: None,
        published_at: None,
        attributes: BTreeMap::new(),
    };
    data.items = names.iter().map(item).collect();
    let split = split(&data, SplitKind::HeldOutItems).expect("divides");
    let untouched = split.num_trained()..split.vocabulary.len();
    assert!((2..20).contains(&untouched.len()), "about a tenth of 60: {untouched:?}");
    assert!(split.training().flatten().all(|event| !untouched.contains(&(event.item as usize))));
    assert!(!split.test.is_empty());
    for &case in &split.test {
        assert!(untouched.contains(&(split.target(case).item as usize)));
        assert!(split.history(case).iter().all(|event| !untouched.contains(&(event.item as usize))));
        assert_eq!(split.train_len[case.user as usize], 0, "the history trains where it stands");
    }
    assert!(split.validation.iter().all(|&case| !untouched.contains(&(split.target(case).item as usize))));
    let trained: usize = split.training().map(<[Event]>::len).sum();
    let kept = rows.iter().filter(|row| {
        let row = split.vocabulary.item_ids.iter().position(|id| id.as_str() == row.1);
        row.is_some_and(|row| !untouched.contains(&row))
    });
    assert_eq!(trained + split.validation.len(), kept.count(), "nothing trains twice");

    // A test case has a sequence of its own, but it is its user's.
    let case = split.test[0];
    let user = data.interactions.users().text(split.users[case.user as usize]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("candidates.csv");
    let candidate = &split.vocabulary.item_ids[untouched.start];
    std::fs::write(&path, format!("user_id,item_id\n{user},{candidate}\n")).expect("written");
    let candidates = Candidates::read(&path, &data, &split).expect("finds the user's case");
    assert_eq!(candidates.of(case), Some([untouched.start as u32].as_slice()));
    let nothing = |case: &Case| CaseResult { user: case.user, rank: None, list: Vec::new() };
    let results: Vec<CaseResult> = split.test.iter().map(nothing).collect();
    let users = slices::slices(&split, &split.test, &results, 0).user;
    assert_eq!(users.keys().copied().collect::<Vec<_>>(), ["known"], "all of them train elsewhere");
}

#[test]
fn of_many_sessions_a_part_of_the_newest_validates() {
    let names: Vec<String> = (0..30_000).map(|i| format!("s{i}")).collect();
    let rows: Vec<(&str, &str, i64, Option<SplitPart>)> = names
        .iter()
        .enumerate()
        .flat_map(|(i, name)| {
            let at = 10 * i as i64;
            [(name.as_str(), "a", at, None), (name.as_str(), "b", at + 1, None)]
        })
        .collect();
    let split = split(&dataset(&rows, TimeKind::Order), SplitKind::NextClick).expect("divides");
    assert_eq!((split.test.len(), split.validation.len()), (3000, MAX_VALIDATION_SESSIONS));
    let times: Vec<i64> = split.validation.iter().map(|&case| split.target(case).timestamp).collect();
    assert!(
        times.iter().all(|time| (243_000..270_000).contains(time)),
        "among the newest tenth before the test"
    );
    let training = split.training().filter(|events| !events.is_empty()).count();
    assert_eq!(training, 30_000 - 3000 - MAX_VALIDATION_SESSIONS, "the others train");
}

#[test]
fn items_of_later_parts_keep_their_ids_but_get_no_row() {
    let rows = [("u", "a", 1, None), ("u", "b", 2, None), ("u", "c", 3, None), ("u", "d", 4, None)];
    let split = split(&dataset(&rows, TimeKind::Order), SplitKind::LeaveOneOut).expect("divides");
    let target = split.target(split.test[0]);
    assert_eq!((split.row(target), split.item_id(target).as_str()), (None, "d"));
    assert_eq!(split.vocabulary.len(), 2);
    let known: Vec<u32> = split.rows(split.history(split.test[0])).collect();
    assert_eq!(known.len(), 2);
}

#[test]
fn the_time_split_never_trains_on_what_is_later() {
    let rows: Vec<(&str, &str, i64, Option<SplitPart>)> = (0..100)
        .map(|i| (["u", "v", "w"][i % 3], ["a", "b", "c", "d", "e"][i * 7 % 5], (i * 37 % 100) as i64, None))
        .collect();
    let split = split(&dataset(&rows, TimeKind::UnixSeconds), SplitKind::Time).expect("divides");
    let (_, last, _, num) = split.training_counts();
    assert_eq!((last, num), (79, 80));
    let times =
        |cases: &[Case]| -> Vec<i64> { cases.iter().map(|&case| split.target(case).timestamp).collect() };
    assert!(times(&split.validation).iter().all(|time| (80..90).contains(time)));
    assert!(times(&split.test).iter().all(|time| (90..100).contains(time)));
}
