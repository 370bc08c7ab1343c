//! `train --recommender`: every recommender becomes a bundle that the engine runs, and `auto` says why it
//! takes which.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{RECIPE, WORLD, run, train};

const ALONE: [&str; 6] = ["popular", "recent", "item-knn", "vmis-knn", "ease", "ials"];

fn files(bundle: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(bundle).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn every_recommender_becomes_a_bundle_that_the_engine_runs() {
    let out = tempfile::tempdir().unwrap();
    for name in ALONE {
        let bundle = out.path().join(name);
        let trained =
            train(WORLD.dir.path(), &["--recommender", name, "--seed", "5"], &bundle).expect_json(0);
        assert_eq!((&trained["recommender"], &trained["choice"]), (&json!(name), &Value::Null));
        let files = files(&bundle);
        let has = |file: &str| files.contains(file);
        assert_eq!(has("neighbours.bin"), ["item-knn", "vmis-knn", "ease"].contains(&name), "{files:?}");
        assert_eq!((has("encoder.onnx"), has("items.bin")), (name == "ials", name == "ials"), "{files:?}");
        assert!(trained["metrics"]["hr@20"]["value"].as_f64().unwrap() > 0.0, "{name}: {trained}");
        let evaluated = run!("evaluate", &bundle, &WORLD.path("data"), "--json").expect_json(0);
        assert_eq!(evaluated["metrics"], trained["metrics"], "{name}");
        run!("verify", &bundle, "--json").expect_json(0);
        let page = out.path().join("page.html");
        run!("evaluate", &bundle, &WORLD.path("data"), "--report", &page, "--json").expect_json(0);
    }
}

#[test]
fn auto_takes_the_best_within_the_budget_and_says_why() {
    let out = tempfile::tempdir().unwrap();
    let bundle = out.path().join("auto");
    let auto = ["--recommender", "auto", "--seed", "5"];
    let trained = train(WORLD.dir.path(), &auto, &bundle).expect_json(0);
    let contenders = trained["choice"]["contenders"].as_array().unwrap();
    let names: Vec<&str> = contenders.iter().map(|contender| contender["name"].as_str().unwrap()).collect();
    assert_eq!(names[..7], [&ALONE[..], &["sequence"]].concat());
    assert!(names[7..].iter().all(|name| name.starts_with("sequence+")) && names.len() == 8, "{names:?}");
    let chosen = &trained["choice"]["chosen"];
    assert_eq!(chosen, &trained["recommender"]);
    let value = |contender: &Value| contender["validation_ndcg10"]["value"].as_f64().unwrap();
    let best = contenders.iter().map(value).fold(0.0, f64::max);
    let taken = contenders.iter().find(|contender| contender["name"] == *chosen).unwrap();
    let left_out = trained["choice"]["reason"].as_str().unwrap().contains("standard error");
    assert!(value(taken) == best || left_out && *chosen == json!("sequence"), "{trained}");
    let card = fs::read_to_string(bundle.join("card.md")).unwrap();
    assert!(card.contains(trained["choice"]["reason"].as_str().unwrap()), "{card}");
    assert!(names.iter().all(|name| card.contains(&format!("| {name} |"))), "{card}");
    let estimated = taken["bundle_bytes"].as_u64().unwrap();
    assert!(trained["bundle_bytes"].as_u64().unwrap() <= estimated, "an estimate is on the safe side");
    let again = train(WORLD.dir.path(), &[&auto[..], &["--threads", "1"]].concat(), &bundle).expect_json(0);
    assert_eq!(again["bundle_hash"], trained["bundle_hash"], "on one thread");

    let bytes = |name: &str| {
        let contender = contenders.iter().find(|contender| contender["name"] == name).unwrap();
        contender["bundle_bytes"].as_u64().unwrap()
    };
    let budget = bytes("popular").to_string();
    let tight = train(WORLD.dir.path(), &[&auto[..], &["--max-bundle-bytes", &budget]].concat(), &bundle);
    let tight = tight.expect_json(0);
    assert!(tight["bundle_bytes"].as_u64().unwrap() <= bytes("popular"), "{tight}");
    let packed = tight["quantisation"]["steps"].as_array().unwrap();
    let for_budget = packed.iter().any(|step| step["kind"] == "prune" || step["kind"] == "int4_items");
    assert!(for_budget || ["popular", "recent"].contains(&tight["recommender"].as_str().unwrap()), "{tight}");
    let none = [&auto[..], &["--max-bundle-bytes", "1000"]].concat();
    train(WORLD.dir.path(), &none, &out.path().join("none")).expect_error("budget_exceeded");
}

#[test]
fn a_sequence_model_may_carry_neighbours() {
    let out = tempfile::tempdir().unwrap();
    let recipe = out.path().join("both.toml");
    fs::write(&recipe, format!("{RECIPE}[retrieval]\nneighbours = \"vmis-knn\"\nmax_neighbours = 20\n"))
        .unwrap();
    let bundle = out.path().join("both");
    let trained =
        run!("train", &WORLD.path("data"), "--recipe", &recipe, "--out", &bundle, "--json").expect_json(0);
    assert_eq!(trained["recommender"], "sequence+vmis-knn");
    assert!(files(&bundle).is_superset(&["encoder.onnx", "neighbours.bin"].map(str::to_owned).into()));
    let features = fs::read_to_string(bundle.join("features.json")).unwrap();
    assert!(features.contains("neighbour_share"), "{features}");
    run!("verify", &bundle, "--json").expect_json(0);
    let retrained = run!(
        "retrain",
        &WORLD.path("data"),
        "--champion",
        &bundle,
        "--max-epochs",
        "1",
        "--out",
        &out.path().join("next"),
        "--json"
    );
    assert_eq!(retrained.json()["recommender"], "sequence+vmis-knn", "retraining keeps the recommender");
}
