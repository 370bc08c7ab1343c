//! `sanderling tune`: its result, its files, and that an interrupted run goes on.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::{RECIPE, Ran, WORLD, run};

fn tune(recipe: &Path, log: &Path, out: &Path) -> Ran {
    run!(
        "tune",
        &WORLD.path("data"),
        "--recipe",
        recipe,
        "--trials",
        "3",
        "--log",
        log,
        "--out",
        out,
        "--json"
    )
}

#[test]
fn tuning_writes_a_recipe_that_trains_and_can_be_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let recipe = path("recipe.toml");
    fs::write(&recipe, RECIPE.replace("max_epochs = 2", "max_epochs = 9")).unwrap();
    let whole = tune(&recipe, &path("whole.jsonl"), &path("whole.toml")).expect(0);
    assert!(
        whole.stderr.contains("validation NDCG@10") && whole.stderr.contains(" left"),
        "{}",
        whole.stderr
    );
    let result = whole.json();
    assert_eq!(result["complete"], true);
    let lines = fs::read_to_string(path("whole.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 1 + result["trials"].as_array().unwrap().len());

    let mut child = Command::new(env!("CARGO_BIN_EXE_sanderling"))
        .arg("tune")
        .arg(WORLD.path("data"))
        .args(["--recipe".as_ref(), recipe.as_os_str(), "--trials".as_ref(), "3".as_ref()])
        .args([
            "--log".as_ref(),
            path("log.jsonl").as_os_str(),
            "--out".as_ref(),
            path("best.toml").as_os_str(),
        ])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let recorded = || fs::read_to_string(path("log.jsonl")).is_ok_and(|log| log.lines().count() > 1);
    while !recorded() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let resumed = tune(&recipe, &path("log.jsonl"), &path("best.toml")).expect(0);
    assert!(resumed.stderr.contains("from the log"), "{}", resumed.stderr);
    for key in ["best", "trials", "complete"] {
        assert_eq!(resumed.json()[key], result[key], "{key}");
    }
    assert_eq!(fs::read(path("best.toml")).unwrap(), fs::read(path("whole.toml")).unwrap());

    let (data, bundle) = (WORLD.path("data"), path("bundle"));
    let trained =
        run!("train", &data, "--recipe", &path("best.toml"), "--out", &bundle, "--json").expect_json(0);
    let best = &result["best"];
    assert_eq!(trained["quantisation"]["ndcg10_packed"], best["ndcg10"], "training repeats the best trial");
    let bytes = |value: &serde_json::Value| value.as_f64().unwrap();
    assert!(
        (bytes(&trained["bundle_bytes"]) / bytes(&best["bundle_bytes"]) - 1.0).abs() < 0.2,
        "about its size"
    );
}

#[test]
fn a_log_of_another_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("log.jsonl"), "not a log\n").unwrap();
    tune(&WORLD.path("recipe.toml"), &path("log.jsonl"), &path("best.toml")).expect_error("invalid_argument");
    tune(&WORLD.path("recipe.toml"), &path("new.jsonl"), &path("nowhere").join("best.toml"))
        .expect_error("io");
    assert!(!path("best.toml").exists() && !path("new.jsonl").exists());
}
