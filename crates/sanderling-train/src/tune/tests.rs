//! Tuning on a small world of walks along a ring.

use sanderling_types::{Interaction, ItemId, TimeKind};

use super::*;
use crate::split::SplitKind;

/// 90 walks of 8; the last item of each tests.
fn dataset() -> Dataset {
    changed_dataset(|_| {})
}

/// The same after `change` of every row.
fn changed_dataset(change: impl Fn(&mut Interaction)) -> Dataset {
    let interaction = |user: usize, at: usize| Interaction {
        user_id: format!("u{user}").as_str().into(),
        item_id: format!("i{}", (user * 7 + at * (1 + user % 2)) % 30).as_str().into(),
        kind: "view".to_owned(),
        timestamp: at as i64,
        value: None,
        split: None,
    };
    let rows = (0..90).flat_map(|user| (0..8).map(move |at| interaction(user, at))).map(|mut row| {
        change(&mut row);
        row
    });
    Dataset::new(rows, Vec::new(), TimeKind::UnixSeconds).expect("fits")
}

fn recipe() -> Recipe {
    let model = ModelRecipe { dim: 16, layers: 1, max_epochs: Some(9), ..ModelRecipe::default() };
    Recipe { split: SplitKind::LeaveOneOut, model, ..Recipe::default() }
}

fn run(log: &Path, dataset: &Dataset, watch: &mut dyn FnMut(&Progress<'_>) -> bool) -> Result<Tuned> {
    tune(dataset, &recipe(), 5, log, watch)
}

fn read(log: &Path) -> String {
    fs::read_to_string(log).expect("there is a log")
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let (whole, log) = (dir.path().join("whole.jsonl"), dir.path().join("log.jsonl"));
    let mut left = Vec::new();
    let tuned = run(&whole, &dataset(), &mut |progress| {
        if let Progress::Epoch { epochs_left, .. } = progress {
            left.push(*epochs_left);
        }
        true
    })
    .expect("tunes");
    assert!(tuned.complete && tuned.best.rung == 2 && tuned.best.bundle_bytes.is_some(), "{tuned:?}");
    assert!(left.is_sorted_by(|a, b| a >= b) && left.len() > 20, "{left:?}");
    let expected = read(&whole);
    // Ended by `watch` at many places, each run a little further.
    for stop_after in [0, 1, 3, 4, 8, 9, 20] {
        let mut seen = 0;
        let stopped = run(&log, &dataset(), &mut |_| {
            seen += 1;
            seen <= stop_after
        });
        assert!(stopped.map_or_else(|error| error.code() == Code::Cancelled, |tuned| !tuned.complete));
        assert!(expected.starts_with(&read(&log)), "{}", read(&log));
    }
    // Killed in the middle of a line.
    let cut = read(&log).len() - 9;
    fs::write(&log, &read(&log)[..cut]).expect("writes");
    let mut known = 0;
    let again = run(&log, &dataset(), &mut |progress| {
        known += usize::from(matches!(progress, Progress::Trial { known: true, .. }));
        true
    })
    .expect("goes on");
    assert!(known > 0, "what was recorded is not measured again");
    assert_eq!((read(&log), again.best, again.records), (expected, tuned.best, tuned.records));
    assert!(!log.with_added_extension("states").exists(), "a finished run leaves no state");
}

#[test]
fn a_third_goes_on_and_the_recipe_itself_to_the_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let tuned = run(&dir.path().join("log"), &dataset(), &mut |_| true).expect("tunes");
    let of = |rung: usize| tuned.records.iter().filter(move |record| record.rung == rung);
    assert_eq!(of(0).count(), 5);
    for rung in [1, 2] {
        let trials: BTreeSet<usize> = of(rung).map(|record| record.trial).collect();
        let best = of(rung - 1).max_by(|a, b| a.ndcg10.total_cmp(&b.ndcg10)).expect("records");
        assert!(trials.contains(&best.trial) && trials.contains(&0), "{trials:?} after {best:?}");
    }
    assert_eq!(tuned.records.iter().filter(|record| record.trial == 0).count(), 3);
    assert_eq!(of(0).map(|record| record.epochs).collect::<BTreeSet<_>>(), BTreeSet::from([1]));
    assert!(of(2).all(|record| record.ndcg10 <= tuned.best.ndcg10));
    assert_eq!(tuned.recipe.model, tuned.best.model);
    assert_eq!(Recipe { model: recipe().model, ..tuned.recipe }, recipe(), "nothing but the model is tuned");
}

#[test]
fn what_the_test_part_holds_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, other) = (dir.path().join("log"), dir.path().join("other"));
    let before = run(&log, &dataset(), &mut |_| true).expect("tunes");
    let changed = changed_dataset(|row| {
        if row.timestamp == 7 {
            row.item_id = ItemId::from(if row.user_id.as_str() < "u5" { "i3" } else { "unheard-of" });
        }
    });
    assert_ne!(changed, dataset());
    let after = run(&other, &changed, &mut |_| true).expect("tunes");
    assert_eq!((read(&other), after.recipe), (read(&log), before.recipe));
    // Validation interactions do.
    let changed = changed_dataset(|row| {
        if row.timestamp == 6 {
            row.item_id = ItemId::from("i3");
        }
    });
    let error = run(&log, &changed, &mut |_| true).expect_err("other data");
    assert_eq!(error.code(), Code::InvalidArgument);
}

#[test]
fn a_log_of_another_run_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("log");
    let _ = run(&log, &dataset(), &mut |progress| matches!(progress, Progress::Epoch { .. }));
    let kept = read(&log);
    let seed = Recipe { seed: 2, ..recipe() };
    for error in [
        tune(&dataset(), &seed, 5, &log, &mut |_| true).expect_err("another seed"),
        tune(&dataset(), &recipe(), 6, &log, &mut |_| true).expect_err("another number of trials"),
        tune(&dataset(), &recipe(), 0, &log, &mut |_| true).expect_err("no trial"),
    ] {
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
    }
    assert_eq!(read(&log), kept);
    fs::write(&log, "user_id,item_id\n1,2\n").expect("writes");
    assert_eq!(run(&log, &dataset(), &mut |_| true).expect_err("no log").code(), Code::InvalidArgument);
    assert_eq!(read(&log), "user_id,item_id\n1,2\n");
}

#[test]
fn drawn_trials_fit_the_byte_budget_and_depend_on_the_seed_alone() {
    let split = split::split(&dataset(), SplitKind::LeaveOneOut).expect("divides");
    let tight = Recipe { max_bundle_bytes: Some(60_000), ..recipe() };
    let trials = draw_trials(&tight, &split, 40);
    assert_eq!(trials[0], tight.model);
    let bytes = |model: &ModelRecipe| {
        let shape = Recipe { model: model.clone(), ..tight.clone() }.fit_options(&split).shape;
        least_bytes(&shape, split.vocabulary.len(), split.vocabulary.encoded_len())
    };
    assert!(trials.iter().all(|model| bytes(model) <= 60_000));
    assert!(
        draw_trials(&recipe(), &split, 40).iter().any(|model| bytes(model) > 60_000),
        "there are larger ones"
    );
    assert_eq!(draw_trials(&tight, &split, 40), trials);
    assert_ne!(draw_trials(&Recipe { seed: 2, ..tight.clone() }, &split, 40), trials);
    for model in &trials {
        Recipe { model: model.clone(), ..tight.clone() }.check().expect("every draw is a recipe");
    }
}

#[test]
fn rungs_are_a_ninth_a_third_and_the_whole() {
    let of = |num_trials, epochs| Rung { num_trials, epochs };
    assert_eq!(plan(20, 40), [of(20, 5), of(7, 14), of(3, 40)]);
    assert_eq!(plan(1, 2), [of(1, 1), of(1, 1), of(1, 2)]);
    assert_eq!(planned_epochs(&plan(9, 9)), 9 + 3 * 2 + 6);
}
