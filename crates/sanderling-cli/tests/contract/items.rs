//! `items add` and evaluation among given items.

use std::fs;

use serde_json::json;

use crate::support::{RECIPE, WORLD, run};

/// A table of items: one like a trained item, one that the bundle knows, one that shares nothing.
fn write_items(path: &std::path::Path) {
    let catalogue = fs::read_to_string(WORLD.path("data/items.csv")).unwrap();
    let mut rows = csv::Reader::from_reader(catalogue.as_bytes());
    let header = rows.headers().unwrap().clone();
    let known = rows.records().next().unwrap().unwrap();
    let mut out = csv::Writer::from_path(path).unwrap();
    out.write_record(&header).unwrap();
    out.write_record(&known).unwrap();
    let like = known.iter().enumerate().map(|(i, field)| if i == 0 { "brand-new" } else { field });
    out.write_record(like).unwrap();
    out.write_record(header.iter().map(|name| match name {
        "item_id" => "alien",
        "title" => "qwertzuiop",
        _ => "",
    }))
    .unwrap();
    out.flush().unwrap();
}

#[test]
fn an_item_without_interactions_is_added_and_recommended() {
    let items = WORLD.path("new-items.csv");
    write_items(&items);
    let (bundle, next) = (WORLD.path("bundle"), WORLD.path("bundle-with-items"));
    let added = run!("items", "add", &bundle, &items, "--out", &next, "--json").expect_json(0);
    assert_eq!(added["added"], json!(["brand-new"]));
    assert_eq!(added["known"].as_array().unwrap().len(), 1);
    assert_eq!(added["unplaced"], json!(["alien"]));
    let manifest = |dir: &std::path::Path| -> serde_json::Value {
        serde_json::from_slice(&fs::read(dir.join("manifest.json")).unwrap()).unwrap()
    };
    let (old, new) = (manifest(&bundle), manifest(&next));
    assert_eq!(new["shapes"]["num_items"].as_u64(), old["shapes"]["num_items"].as_u64().map(|n| n + 1));
    assert_eq!(new["version"].as_u64(), old["version"].as_u64().map(|version| version + 1));
    assert_eq!(new["parent"], WORLD.trained["bundle_hash"]);
    // The known item stands in the session; the new one has the same attributes.
    let known = added["known"][0].as_str().unwrap();
    let answer = run!("recommend", &next, known, "--limit", "100", "--json").expect_json(0);
    let listed = answer["recommendations"].as_array().unwrap();
    assert!(listed.iter().any(|item| item["item_id"] == "brand-new"), "{answer}");

    let again =
        run!("items", "add", &next, &items, "--out", &WORLD.path("nothing-new"), "--json").expect_json(1);
    assert_eq!(again["added"], json!([]));
    assert!(!WORLD.path("nothing-new").exists());
}

#[test]
fn a_bundle_without_attributes_takes_no_items() {
    let recipe = WORLD.path("no-content.toml");
    fs::write(&recipe, format!("{RECIPE}content = false\n")).unwrap();
    let bundle = WORLD.path("no-content");
    run!("train", &WORLD.path("data"), "--recipe", &recipe, "--out", &bundle).expect(0);
    let items = WORLD.path("new-items-2.csv");
    write_items(&items);
    run!("items", "add", &bundle, &items, "--out", &WORLD.path("never"), "--json")
        .expect_error("invalid_argument");
    assert!(!WORLD.path("never").exists());
}

#[test]
fn answers_are_looked_for_among_given_items() {
    let (bundle, data) = (WORLD.path("bundle"), WORLD.path("data"));
    let all = run!("evaluate", &bundle, &data, "--json").expect_json(0);
    assert_eq!(all["among"], "the whole catalogue");
    // No candidate but the answer itself: everybody finds it.
    let users = fs::read_to_string(data.join("interactions.csv")).unwrap();
    let mut rows = csv::Reader::from_reader(users.as_bytes());
    let user_ids: std::collections::BTreeSet<String> =
        rows.records().map(|row| row.unwrap()[0].to_owned()).collect();
    let item = &all_items(&data)[0];
    let lines: String = user_ids.iter().map(|user| format!("{user},{item}\n")).collect();
    let file = WORLD.path("candidates.csv");
    fs::write(&file, format!("user_id,item_id\n{lines}")).unwrap();
    let few = run!("evaluate", &bundle, &data, "--among", &file, "--json").expect_json(0);
    assert_eq!(few["num_cases"], all["num_cases"]);
    let hr = |result: &serde_json::Value| result["metrics"]["hr@10"]["value"].as_f64().unwrap();
    assert!(hr(&few) > 0.9 && hr(&few) > hr(&all), "{few}");
    let popular = few["baselines"]["popular"]["hr@10"]["value"].as_f64().unwrap();
    assert!(popular > 0.9, "{few}");

    fs::write(&file, "user_id,item_id\nnobody,nothing\n").unwrap();
    run!("evaluate", &bundle, &data, "--among", &file, "--json").expect_error("empty_data");
    fs::write(&file, "who,what\na,b\n").unwrap();
    run!("evaluate", &bundle, &data, "--among", &file, "--json").expect_error("data_invalid");
}

fn all_items(data: &std::path::Path) -> Vec<String> {
    let text = fs::read_to_string(data.join("items.csv")).unwrap();
    csv::Reader::from_reader(text.as_bytes()).records().map(|row| row.unwrap()[0].to_owned()).collect()
}
