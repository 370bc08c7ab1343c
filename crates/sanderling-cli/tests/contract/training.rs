//! The JSON of `train` and `evaluate`, and that training repeats itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sanderling_types::Sha256Hash;
use serde_json::{Value, json};

use crate::support::{RECIPE, WORLD, run, train};

/// The keys of `metrics`, each with an interval around its value.
#[track_caller]
fn check_metrics(metrics: &Value) -> BTreeSet<String> {
    for (name, metric) in metrics.as_object().unwrap() {
        let metric = metric.as_object().unwrap();
        assert_eq!(
            metric.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            ["high", "low", "value"].into()
        );
        let [low, value, high] = ["low", "value", "high"].map(|key| metric[key].as_f64().unwrap());
        // Printed values are rounded to six digits.
        assert!(low <= value && value <= high, "{name}: {metric:?}");
        // Shares and gains, but for novelty, which is in bits.
        assert!(low >= 0.0 && (high <= 1.0 || name.starts_with("novelty@")), "{name}: {metric:?}");
    }
    metrics.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn train_prints_what_scripts_rely_on() {
    let trained = &WORLD.trained;
    assert_eq!(
        (&trained["recommender"], &trained["split"], &trained["seed"]),
        (&json!("sequence"), &json!("time"), &json!(5))
    );
    let keys = check_metrics(&trained["metrics"]);
    for name in ["coverage", "gini", "hr", "mrr", "ndcg", "novelty", "precision", "recall"] {
        for k in [10, 20] {
            assert!(keys.contains(&format!("{name}@{k}")), "{name}@{k} is not in {keys:?}");
        }
    }
    assert!(trained["metrics"]["hr@10"]["value"].as_f64().unwrap() > 0.0, "something is found: {trained}");
    let baselines = trained["baselines"].as_object().unwrap();
    assert_eq!(
        baselines.keys().collect::<Vec<_>>(),
        ["ease", "item-knn", "popular", "recent", "vmis-knn"],
        "the baselines of docs/evaluation.md"
    );
    for name in baselines.keys() {
        assert_eq!(check_metrics(&baselines[name]), keys, "{name} has the same metrics");
        assert_ne!(baselines[name], trained["metrics"], "{name} is another recommender");
    }
    assert!(
        trained["cpu_seconds"].as_f64().unwrap() > 0.0 && trained["wall_seconds"].as_f64().unwrap() > 0.0
    );
    assert!(trained["peak_rss_bytes"].as_u64().unwrap() > 1 << 20, "{trained}");

    let bundle = WORLD.path("bundle");
    let manifest = fs::read(bundle.join("manifest.json")).unwrap();
    assert_eq!(trained["bundle_hash"], json!(Sha256Hash::of(&manifest)), "the hash is that of the manifest");
    let loaded: u64 = fs::read_dir(&bundle)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !["card.md", "content.bin"].contains(&entry.file_name().to_str().unwrap()))
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert_eq!(trained["bundle_bytes"], loaded, "the bytes are those of the files that a device loads");

    for line in WORLD.progress.lines() {
        let is_progress = line.starts_with("epoch ") || line.starts_with("ranker ") || line.ends_with(" …");
        assert!(is_progress, "not progress: {line:?}");
    }
    assert!(WORLD.progress.contains("epoch 2/2"), "{}", WORLD.progress);
}

#[test]
fn slices_divide_the_cases_three_ways() {
    let slices = WORLD.trained["slices"].as_object().unwrap();
    assert_eq!(slices.keys().collect::<Vec<_>>(), ["history_length", "target", "user"]);
    let whole = &WORLD.trained["metrics"];
    for (name, segments) in slices {
        let segments = segments.as_object().unwrap();
        let known: &[&str] = match name.as_str() {
            "history_length" => &["1-2", "3-5", "6-20", "over-20"],
            "target" => &["head", "tail", "unseen"],
            _ => &["known", "new"],
        };
        let cases = |slice: &Value| slice["num_cases"].as_u64().unwrap();
        let total: u64 = segments.values().map(cases).sum();
        assert_eq!(
            total,
            WORLD.trained["num_cases"].as_u64().unwrap(),
            "every case is in one segment of {name}"
        );
        for metric in ["ndcg@10", "hr@10"] {
            let sum: f64 =
                segments.values().map(|s| cases(s) as f64 * s[metric]["value"].as_f64().unwrap()).sum();
            let mean = whole[metric]["value"].as_f64().unwrap();
            assert!(
                (sum / total as f64 - mean).abs() < 2e-6,
                "the mean of {name} is the whole: {segments:?}"
            );
        }
        for (segment, slice) in segments {
            assert!(known.contains(&segment.as_str()) && cases(slice) > 0, "{name} {segment}: {slice}");
            check_metrics(&json!({ "ndcg@10": slice["ndcg@10"], "hr@10": slice["hr@10"] }));
        }
    }
}

#[test]
fn the_result_says_what_the_page_shows() {
    let trained = &WORLD.trained;
    let calibration = &trained["calibration"];
    let bins = calibration["bins"].as_array().unwrap();
    assert_eq!(bins.len(), 10);
    let shown: u64 = bins.iter().map(|bin| bin["num_recommendations"].as_u64().unwrap()).sum();
    assert_eq!(shown, 10 * calibration["num_cases"].as_u64().unwrap(), "the first ten of every list");
    for bin in bins {
        check_metrics(&json!({ "observed": bin["observed"] }));
    }
    let predicted: Vec<f64> = bins.iter().map(|bin| bin["predicted"].as_f64().unwrap()).collect();
    assert!(predicted.is_sorted() && predicted[0] > 0.0 && predicted[9] <= 1.0, "{predicted:?}");
    let curve = trained["curve"].as_array().unwrap();
    assert_eq!(curve.len() as u64, trained["epochs"].as_u64().unwrap());
    assert!(curve.iter().all(|epoch| epoch["loss"].as_f64().unwrap() > 0.0));
    let weights = trained["feature_weights"].as_array().unwrap();
    assert!(weights.iter().any(|feature| feature["name"] == "retrieval_score"));
    let steps = trained["quantisation"]["steps"].as_array().unwrap();
    let kinds: Vec<&str> = steps.iter().map(|step| step["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["int9_items", "rounded_encoder"], "no budget asks for more");
    let files = trained["file_bytes"].as_object().unwrap();
    let for_devices = files.iter().filter(|(name, _)| !["card.md", "content.bin"].contains(&name.as_str()));
    let sum: u64 = for_devices.map(|(_, bytes)| bytes.as_u64().unwrap()).sum();
    assert_eq!(sum, trained["bundle_bytes"]);
}

#[test]
fn a_byte_budget_is_met_by_packing_tighter() {
    let out = tempfile::tempdir().unwrap();
    let budget = WORLD.trained["bundle_bytes"].as_u64().unwrap() - 1000;
    let bundle = out.path().join("bundle");
    let args = ["--seed", "5", "--max-bundle-bytes", &budget.to_string()];
    let trained = train(WORLD.dir.path(), &args, &bundle).expect_json(0);
    assert!(trained["bundle_bytes"].as_u64().unwrap() <= budget, "{trained}");
    let quantisation = &trained["quantisation"];
    let steps = quantisation["steps"].as_array().unwrap();
    assert!(steps.len() > 2, "{quantisation}");
    assert_eq!(quantisation["ndcg10_packed"], steps.last().unwrap()["ndcg10"]);
    let card = fs::read_to_string(bundle.join("card.md")).unwrap();
    for step in steps {
        assert!(step["saved_bytes"].as_u64().unwrap() > 0, "{step}");
        assert!(card.contains(&format!(
            "| {:.4} | {} |",
            step["ndcg10"].as_f64().unwrap(),
            step["saved_bytes"]
        )));
        assert_eq!(step["pruned"].is_object(), step["kind"] == "prune", "{step}");
    }
    run!("verify", &bundle, "--json").expect_json(0);
}

#[test]
fn the_same_data_recipe_and_seed_give_the_same_bundle_on_any_number_of_threads() {
    let out = tempfile::tempdir().unwrap();
    for threads in [None, Some("1"), Some("2")] {
        let mut more = vec!["--seed", "5"];
        more.extend(threads.into_iter().flat_map(|threads| ["--threads", threads]));
        let again = train(WORLD.dir.path(), &more, &out.path().join("again")).expect_json(0);
        for key in ["bundle_hash", "bundle_bytes", "metrics", "baselines", "slices"] {
            assert_eq!(again[key], WORLD.trained[key], "{key} with {threads:?} threads");
        }
    }
    let other = train(WORLD.dir.path(), &["--seed", "6"], &out.path().join("other")).expect_json(0);
    assert_ne!(other["bundle_hash"], WORLD.trained["bundle_hash"], "the seed matters");
    assert_eq!(other["seed"], 6);
}

#[test]
fn evaluate_repeats_the_metrics_of_training() {
    let evaluated = run!("evaluate", &WORLD.path("bundle"), &WORLD.path("data"), "--json").expect_json(0);
    for key in [
        "recommender",
        "split",
        "seed",
        "num_cases",
        "metrics",
        "baselines",
        "slices",
        "calibration",
        "feature_weights",
        "file_bytes",
        "quantisation",
        "bundle_bytes",
        "bundle_hash",
    ] {
        assert_eq!(evaluated[key], WORLD.trained[key], "{key}");
    }
    for key in ["cpu_seconds", "wall_seconds", "peak_rss_bytes"] {
        assert!(evaluated[key].as_f64().is_some_and(|cost| cost > 0.0), "{key}: {evaluated}");
    }
}

#[test]
fn every_split_trains_and_is_named_in_the_result() {
    let out = tempfile::tempdir().unwrap();
    for split in ["leave-one-out", "next-click"] {
        let bundle = out.path().join(split);
        let trained =
            train(WORLD.dir.path(), &["--split", split, "--max-epochs", "1"], &bundle).expect_json(0);
        assert_eq!(
            (&trained["split"], &trained["seed"]),
            (&json!(split), &json!(1)),
            "the seed's default is 1"
        );
        let evaluated = run!("evaluate", &bundle, &WORLD.path("data"), "--json").expect_json(0);
        for key in ["split", "num_cases", "metrics", "baselines", "slices"] {
            assert_eq!(evaluated[key], trained[key], "{key} of {split}");
        }
    }
}

#[test]
fn a_bundle_over_its_byte_budget_is_an_error_and_is_not_written() {
    let out = tempfile::tempdir().unwrap();
    let recipe = out.path().join("tight.toml");
    fs::write(&recipe, RECIPE.replacen("[model]", "max_bundle_bytes = 1000\n[model]", 1)).unwrap();
    let bundle = out.path().join("bundle");
    run!("train", &WORLD.path("data"), "--recipe", &recipe, "--out", &bundle, "--json")
        .expect_error("budget_exceeded");
    assert!(!bundle.exists());
}

#[test]
fn an_interrupted_training_goes_on_to_the_same_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, checkpoint) = (dir.path().join("recipe.toml"), dir.path().join("state"));
    fs::write(&recipe, RECIPE.replace("max_epochs = 2", "max_epochs = 60\npatience = 60")).unwrap();
    let (data, whole, out) = (WORLD.path("data"), dir.path().join("whole"), dir.path().join("out"));
    let expected = run!("train", &data, "--recipe", &recipe, "--out", &whole, "--json").expect_json(0);

    let mut child = training(&data, &recipe, &checkpoint, &out);
    wait_for(&checkpoint, &mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(checkpoint.exists() && !out.exists(), "killed in the middle");

    let kept = fs::read(&checkpoint).unwrap();
    let resume = |seed: &str| {
        run!(
            "train",
            &data,
            "--recipe",
            &recipe,
            "--seed",
            seed,
            "--resume",
            &checkpoint,
            "--out",
            &out,
            "--json"
        )
    };
    resume("9").expect_error("invalid_argument");
    fs::write(&checkpoint, &kept[..kept.len() / 2]).unwrap();
    resume("1").expect_error("hash_mismatch");
    fs::write(&checkpoint, &kept).unwrap();
    let resumed = resume("1").expect(0);
    assert!(resumed.stderr.contains("going on after epoch"), "{}", resumed.stderr);
    assert_eq!(resumed.json()["bundle_hash"], expected["bundle_hash"]);
    assert!(!checkpoint.exists(), "a bundle needs no checkpoint");
}

fn training(data: &Path, recipe: &Path, checkpoint: &Path, out: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sanderling"))
        .arg("train")
        .arg(data)
        .args(["--recipe".as_ref(), recipe.as_os_str(), "--resume".as_ref(), checkpoint.as_os_str()])
        .args(["--out".as_ref(), out.as_os_str(), "--json".as_ref()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for(checkpoint: &Path, child: &mut Child) {
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(unix)]
#[test]
fn a_signal_stops_training_after_its_epoch_and_tells_the_way_on() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, checkpoint, out) =
        (dir.path().join("recipe.toml"), dir.path().join("state"), dir.path().join("out"));
    fs::write(&recipe, RECIPE.replace("max_epochs = 2", "max_epochs = 1000\npatience = 1000")).unwrap();
    for signal in ["INT", "TERM"] {
        let mut child = training(&WORLD.path("data"), &recipe, &checkpoint, &out);
        wait_for(&checkpoint, &mut child);
        let sent = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{signal}");
        let error = &serde_json::from_slice::<Value>(&ended.stdout).unwrap()["error"];
        assert_eq!(error["code"], "cancelled", "{error}");
        assert!(error["hint"].as_str().unwrap().contains("the same command goes on"), "{error}");
        assert!(String::from_utf8(ended.stderr).unwrap().contains("once more to stop at once"));
        assert!(checkpoint.exists() && !out.exists(), "the last epoch is kept, and nothing half-written");
        fs::remove_file(&checkpoint).unwrap();
    }
}
