//! Data that cannot be used, or hardly: a stable code or a clean result, and never half a folder.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{RECIPE, Ran, WORLD, run};

const HEAD: &str = "user_id,item_id,kind,timestamp,value\n";
const NOW: &str = "1800000000";

/// A folder with one log and a recipe that trains in no time.
struct Log(tempfile::TempDir);

impl Log {
    fn new(rows: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("log.csv"), format!("{HEAD}{rows}")).unwrap();
        fs::write(dir.path().join("recipe.toml"), RECIPE).unwrap();
        Self(dir)
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("log.csv")
    }

    fn import(&self) -> Ran {
        let out = self.0.path().join("data");
        run!("import", "--from", "csv", &self.path(), "--out", &out, "--json")
    }

    /// The codes of what `validate` finds, with its exit code.
    fn anomalies(&self, code: i32) -> Vec<Value> {
        let found = run!("validate", &self.path(), "--now", NOW, "--json").expect_json(code);
        found["anomalies"].as_array().unwrap().iter().map(|anomaly| anomaly["code"].clone()).collect()
    }

    /// Trains `recommender`; nothing but a whole bundle may be there afterwards.
    fn train(&self, recommender: &str, split: &str) -> Ran {
        let (recipe, out) = (self.0.path().join("recipe.toml"), self.0.path().join("bundle"));
        let ran = run!(
            "train",
            &self.path(),
            "--recipe",
            &recipe,
            "--recommender",
            recommender,
            "--split",
            split,
            "--out",
            &out,
            "--json"
        );
        assert_eq!(out.exists(), ran.code == Some(0), "{}", ran.stderr);
        if out.exists() {
            run!("verify", &out, "--json").expect(0);
            fs::remove_dir_all(&out).unwrap();
        }
        assert_nothing_unfinished(self.0.path());
        ran
    }

    /// Every recommender ends with `code`, or with a bundle where that is `None`.
    fn train_all(&self, split: &str, code: Option<&str>) {
        for recommender in ["popular", "recent", "item-knn", "vmis-knn", "ease", "ials", "sequence", "auto"] {
            let ran = self.train(recommender, split);
            match code {
                Some(code) => drop(ran.expect_error(code)),
                None => drop(ran.expect_json(0)),
            }
        }
    }
}

/// What is written beside its place and not renamed stays under a hidden name.
#[track_caller]
fn assert_nothing_unfinished(folder: &Path) {
    let hidden = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let hidden: Vec<_> = hidden.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

/// `count` rows; user, item and time by the number of the row.
fn rows(count: i64, row: impl Fn(i64) -> (i64, i64, i64)) -> String {
    (0..count).fold(String::new(), |mut text, at| {
        let (user, item, time) = row(at);
        writeln!(text, "u{user},i{item},view,{time},").unwrap();
        text
    })
}

#[test]
fn a_log_without_rows_is_empty_data_everywhere() {
    let log = Log::new("");
    log.import().expect_error("empty_data");
    assert!(!log.0.path().join("data").exists());
    assert_eq!(log.anomalies(1), ["empty_data"]);
    log.train_all("time", Some("empty_data"));
    fs::write(log.path(), "").unwrap();
    log.import().expect_error("empty_data");
    assert_eq!(log.anomalies(1), ["empty_data"]);
    log.train("popular", "time").expect_error("empty_data");
}

#[test]
fn one_user_trains_or_says_why_not() {
    let log = Log::new(&rows(60, |at| (0, at * 7 % 12, 1_700_000_000 + at * at * 3600)));
    log.import().expect_json(0);
    assert_eq!(log.anomalies(0), ["single_user"]);
    log.train_all("time", None);
    log.train_all("leave-one-out", None);
    // Two interactions leave nothing to measure with.
    Log::new(&rows(2, |at| (0, at, 1_700_000_000 + at))).train_all("leave-one-out", Some("empty_data"));
}

#[test]
fn one_item_cannot_be_learned_from() {
    let log = Log::new(&rows(60, |at| (at % 20, 0, 1_700_000_000 + at * at)));
    log.import().expect_json(0);
    assert_eq!(log.anomalies(1), ["single_item"]);
    for split in ["time", "leave-one-out", "held-out-items", "next-click"] {
        log.train_all(split, Some("empty_data"));
    }
}

#[test]
fn a_log_of_the_same_row_says_so() {
    let log = Log::new(&rows(50, |_| (0, 0, 1_700_000_000)));
    log.import().expect_json(0);
    assert_eq!(
        log.anomalies(1),
        ["single_item", "duplicate_interaction", "single_user", "constant_timestamps"]
    );
    log.train_all("time", Some("empty_data"));
    // Whole sessions that repeat, and nothing else.
    let log = Log::new(&rows(300, |at| (at % 30, at % 30 % 3, 1_700_000_000 + at % 30 * 60)));
    assert_eq!(log.anomalies(0), ["duplicate_interaction"]);
    log.train_all("leave-one-out", None);
}

#[test]
fn values_that_are_no_numbers_are_named_with_their_line() {
    for bad in ["NaN", "inf", "-inf", "1e999", "three"] {
        let log =
            Log::new(&format!("u,a,view,1700000000,1\nv,b,view,1700000001,{bad}\nv,b,view,1700000002,\n"));
        let error = log.import().expect_error("data_invalid");
        assert!(error["message"].as_str().unwrap().contains("line 3"), "{error}");
        assert!(error["found"].as_str().unwrap().contains(bad), "{error}");
        assert!(!log.0.path().join("data").exists());
        assert_eq!(log.anomalies(1), ["non_finite_value"]);
        log.train("popular", "time").expect_error("data_invalid");
    }
}

#[test]
fn rows_out_of_order_are_sorted_and_future_ones_found() {
    let sound = rows(400, |at| (at % 20, at * 7 % 13, 1_700_000_000 + at * 600));
    let sorted = Log::new(&sound);
    // The newest rows first, and users in the same order as before.
    let lines: Vec<&str> = sound.lines().collect();
    let newest_first: Vec<String> = lines.chunks(20).rev().map(|visits| visits.join("\n") + "\n").collect();
    let unsorted = Log::new(&newest_first.concat());
    assert_eq!(unsorted.anomalies(0), ["unsorted_timestamps"]);
    let hash = |log: &Log| log.train("popular", "time").expect_json(0)["bundle_hash"].clone();
    assert_eq!(hash(&sorted), hash(&unsorted), "rows are sorted when they are read");
    let future = Log::new(&format!("{sound}u1,i1,view,9999999999,\nu2,i2,view,{},\n", i64::MAX));
    // Read by magnitude, the second is in nanoseconds.
    assert_eq!(future.anomalies(1), ["future_timestamp", "mixed_timestamp_units"]);
    future.import().expect_json(0);
    future.train_all("time", None);
    let early = Log::new(&format!("u1,i1,view,-5,\nu2,i2,view,{},\n{sound}", i64::MIN));
    assert_eq!(early.anomalies(1)[0], "timestamp_not_positive");
    early.train("popular", "time").expect_json(0);
}

#[test]
fn a_column_of_kinds_that_are_none_is_refused() {
    let text: String = (0..70_000).map(|at| format!("u,i,k{at},{at},\n")).collect();
    let error = Log::new(&text).import().expect_error("limit_exceeded");
    assert_eq!(error["expected"], json!("at most 65536"));
}

/// Runs the program where no file may grow beyond `blocks` of 512 or 1,024 bytes, as on a disk that is full.
#[cfg(unix)]
fn with_full_disk(blocks: u32, args: &[&std::ffi::OsStr]) -> Ran {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let output = std::process::Command::new("sh")
        .args(["-c".as_ref(), script.as_ref(), std::ffi::OsStr::new(env!("CARGO_BIN_EXE_sanderling"))])
        .args(args)
        .output()
        .unwrap();
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_nothing_behind_and_what_was_there_as_it_was() {
    use crate::support::WORLD;

    let dir = tempfile::tempdir().unwrap();
    let (data, bundle, state) =
        (dir.path().join("data"), dir.path().join("bundle"), dir.path().join("state"));
    let (source, recipe) = (WORLD.path("data/interactions.csv"), WORLD.path("recipe.toml"));
    let import = ["import", "--from", "csv"].map(std::ffi::OsStr::new);
    let import =
        [&import[..], &[source.as_ref(), "--out".as_ref(), data.as_ref(), "--json".as_ref()]].concat();
    let synth =
        ["synth", "--users", "80", "--device-days", "0:60", "--json", "--out"].map(std::ffi::OsStr::new);
    let synth = [&synth[..], &[data.as_ref()]].concat();
    let train =
        ["train".as_ref(), source.as_os_str(), "--recipe".as_ref(), recipe.as_ref(), "--json".as_ref()];
    let train = [&train[..], &["--out".as_ref(), bundle.as_ref()]].concat();
    let resumable = [&train[..], &["--resume".as_ref(), state.as_ref()]].concat();
    for args in [&import, &synth, &train, &resumable] {
        // Up to the size of the largest file, each file is once the one that does not fit.
        let mut blocks = 0;
        while with_full_disk(blocks, args).code != Some(0) {
            with_full_disk(blocks, args).expect_error("io");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{args:?} with {blocks} blocks");
            blocks = (blocks * 2).max(1);
        }
        assert!(blocks > 1, "{args:?}");
        for folder in [&data, &bundle] {
            let _ = fs::remove_dir_all(folder);
        }
    }
    // What is there stays when its successor does not fit.
    super::support::sanderling(&train).expect(0);
    let before = fs::read(bundle.join("manifest.json")).unwrap();
    let again = [&train[..], &["--seed".as_ref(), "8".as_ref()]].concat();
    with_full_disk(1, &again).expect_error("io");
    assert_eq!(fs::read(bundle.join("manifest.json")).unwrap(), before);
    run!("verify", &bundle, "--json").expect(0);
    assert_nothing_unfinished(dir.path());
}

#[test]
fn a_bundle_that_was_taken_back_is_not_served() {
    let bundle = WORLD.path("bundle");
    let serve = |least: &str| {
        run!(
            "serve",
            &bundle,
            "--min-rollback-index",
            least,
            "--component",
            "nowhere.wasm",
            "--listen",
            "127.0.0.1:0",
            "--json"
        )
    };
    let error = serve("1").expect_error("bundle_rolled_back");
    assert_eq!(
        (&error["expected"], &error["found"]),
        (&json!("a rollback_index of at least 1"), &json!("0"))
    );
    // That is no reason: the component is looked for.
    serve("0").expect_error("io");
}
