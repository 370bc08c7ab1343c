//! `compare`: its exit codes and JSON.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{RECIPE, WORLD, run, train};

#[test]
fn a_bundle_is_not_better_than_itself() {
    let (bundle, data) = (WORLD.path("bundle"), WORLD.path("data"));
    let compared = run!("compare", &bundle, &bundle, &data, "--json").expect_json(1);
    assert_eq!(compared["better"], false);
    assert_eq!(compared["difference_ndcg10"], json!({ "value": 0.0, "low": 0.0, "high": 0.0 }));
    assert_eq!(
        (&compared["split"], &compared["num_cases"]),
        (&json!("time"), &WORLD.trained["num_cases"]),
        "the split that both were trained on"
    );
    for side in ["a", "b"] {
        for key in ["recommender", "seed", "metrics", "slices", "bundle_bytes", "bundle_hash"] {
            assert_eq!(compared[side][key], WORLD.trained[key], "{side}: {key} is that of evaluate");
        }
        assert_eq!((&compared[side]["name"], &compared[side]["version"]), (&json!("contract"), &json!(1)));
    }
    for key in ["cpu_seconds", "wall_seconds", "peak_rss_bytes"] {
        assert!(compared[key].as_f64().is_some_and(|cost| cost > 0.0), "{key}: {compared}");
    }
    let text = run!("compare", &bundle, &bundle, &data).expect(1).stdout;
    assert!(text.contains("ndcg@10") && text.trim_end().ends_with("B is not better"), "{text}");
}

#[test]
fn the_better_bundle_wins_on_one_side_only() {
    // The same item ids in another world: what the stranger learned does not hold here. The common
    // world would have too few test cases.
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let trained = |world: &TempDir, users, seed| {
        let [data, bundle] = ["data", "bundle"].map(|name| world.path().join(name));
        run!("synth", "--users", users, "--items", "60", "--days", "20", "--seed", seed, "--out", &data)
            .expect(0);
        fs::write(world.path().join("recipe.toml"), RECIPE).unwrap();
        train(world.path(), &["--max-epochs", "10"], &bundle).expect(0);
        bundle
    };
    let (stranger, local) = (trained(&elsewhere, "80", "4"), trained(&here, "400", "3"));
    let data = here.path().join("data");
    let compare = |a, b, code| run!("compare", a, b, &data, "--json").expect_json(code);
    let (won, lost) = (compare(&stranger, &local, 0), compare(&local, &stranger, 1));
    assert_eq!((&won["better"], &lost["better"]), (&json!(true), &json!(false)));
    let end = |compared: &Value, key: &str| compared["difference_ndcg10"][key].as_f64().unwrap();
    assert!(end(&won, "low") > 0.0, "{won}");
    assert_eq!(end(&won, "value"), -end(&lost, "value"));
    let ndcg = |side: &str| won[side]["metrics"]["ndcg@10"]["value"].as_f64().unwrap();
    // Printed values are rounded to six digits.
    assert!((end(&won, "value") - (ndcg("b") - ndcg("a"))).abs() < 2e-6, "{won}");
}

#[test]
fn bundles_of_different_splits_need_a_named_one() {
    let out = tempfile::tempdir().unwrap();
    let (other, data) = (out.path().join("other"), WORLD.path("data"));
    train(WORLD.dir.path(), &["--split", "leave-one-out", "--max-epochs", "1"], &other).expect(0);
    let bundle = WORLD.path("bundle");
    run!("compare", &bundle, &other, &data, "--json").expect_error("split_unsupported");
    let compared = run!("compare", &bundle, &other, &data, "--split", "leave-one-out", "--json");
    assert!(matches!(compared.code, Some(0 | 1)), "{}", compared.stderr);
    assert_eq!(compared.json()["split"], "leave-one-out");
}

#[test]
fn what_is_missing_is_an_error_not_a_verdict() {
    let (bundle, data, nowhere) = (WORLD.path("bundle"), WORLD.path("data"), WORLD.path("nowhere"));
    run!("compare", &bundle, &bundle, &nowhere, "--json").expect_error("not_found");
    for [a, b] in [[&bundle, &nowhere], [&nowhere, &bundle]] {
        let error = run!("compare", a, b, &data, "--json").expect_json(2)["error"].clone();
        assert!(error["message"].as_str().unwrap().contains("nowhere"), "the path is named: {error}");
    }
}
