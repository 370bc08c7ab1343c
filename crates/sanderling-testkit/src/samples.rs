//! Operations that exercise a bundle: written into golden files, and run by `sanderling verify`.

use sanderling_types::{Baseline, FieldKind, Manifest, Vocabulary};
use serde_json::{Value, json};

use crate::{Expectation, Tolerance};

/// Time of every sample request, Unix seconds.
const NOW: i64 = 1_780_000_000;

/// Good and bad operations for a bundle: features, retrieval, ranking, policy, sketches, reports.
#[must_use]
pub fn samples(manifest: &Manifest, vocabulary: &Vocabulary, baseline: &Baseline) -> Vec<Expectation> {
    let world = World { vocabulary, dim: manifest.shapes.dim as usize };
    let mut out = Vec::new();
    let mut add = |name: &str, tolerance, operation: Value| {
        out.push(Expectation { name: name.to_owned(), operation, tolerance });
    };
    for (name, request) in world.requests() {
        add(&format!("recommend/{name}"), Tolerance::Scores, json!({"op": "recommend", "request": request}));
    }
    add("similar/first", Tolerance::Scores, json!({"op": "similar", "item_id": world.id(0), "limit": 5}));
    add(
        "similar/bad_unknown",
        Tolerance::Exact,
        json!({"op": "similar", "item_id": "no such item", "limit": 5}),
    );
    for len in [1, 3, 20] {
        let ids: Vec<&str> = (0..len).map(|i| world.id(i * 7 + 1)).collect();
        add(&format!("encode/{len}"), Tolerance::Scores, json!({"op": "encode", "item_ids": ids}));
    }
    add("encode/bad_empty", Tolerance::Exact, json!({"op": "encode", "item_ids": []}));
    add("features/all", Tolerance::Exact, world.features());
    let query: Vec<f64> = (0..world.dim).map(|i| ((i * 37 % 64) as f64 - 31.0) / 32.0).collect();
    add("retrieve/ten", Tolerance::Scores, json!({"op": "retrieve", "query": query, "k": 10}));
    let exclude = [world.id(0), world.id(1)];
    add(
        "retrieve/exclude",
        Tolerance::Scores,
        json!({"op": "retrieve", "query": query, "k": 10, "exclude": exclude}),
    );
    add("retrieve/bad_length", Tolerance::Exact, json!({"op": "retrieve", "query": [1.0], "k": 10}));
    let columns = manifest.shapes.num_features as usize;
    let matrix: Vec<f64> = (0..columns * 4).map(|i| (i % 7) as f64 / 8.0).collect();
    add("rank/four", Tolerance::Scores, json!({"op": "rank", "features": matrix, "num_candidates": 4}));
    add("rank/bad_shape", Tolerance::Exact, json!({"op": "rank", "features": [1.0], "num_candidates": 4}));
    let listed: Vec<&str> = (0..12).map(|i| world.id(i)).collect();
    let rules = json!({"exclude": [world.id(2)], "category_cap": 2});
    add(
        "policy/cap",
        Tolerance::Exact,
        json!({"op": "policy", "session": world.session(2), "rules": rules, "item_ids": listed, "limit": 8}),
    );
    for field in &baseline.fields {
        let name = format!("sketch/{}", field.name);
        add(&name, Tolerance::Exact, sketch(&field.name, &field.bins));
    }
    add(
        "sketch/bad_field",
        Tolerance::Exact,
        json!({"op": "sketch", "field": "no such field", "values": [1.0]}),
    );
    for seed in 0..6 {
        add(&format!("report/{seed}"), Tolerance::Exact, world.report(manifest, seed));
    }
    for (name, text) in bad_reports() {
        add(
            &format!("decode_report/bad_{name}"),
            Tolerance::Exact,
            json!({"op": "decode_report", "text": text}),
        );
    }
    add("bad_operation", Tolerance::Exact, json!({"op": "no such operation"}));
    out
}

/// Bundles that must be refused: `load` of a copy with one byte flipped, cut short, or of another
/// format version, for every file.
#[must_use]
pub fn tampering(manifest: &Manifest) -> Vec<Expectation> {
    let mut out = vec![load("load/good", &json!(null))];
    for file in manifest.files.values() {
        for at in [0, file.bytes / 2, file.bytes - 1] {
            let name = format!("load/bad_flip/{}/{at}", file.path);
            out.push(load(&name, &json!({"file": file.path, "flip_byte": at})));
        }
        for len in [0, file.bytes / 2, file.bytes - 1] {
            let name = format!("load/bad_truncate/{}/{len}", file.path);
            out.push(load(&name, &json!({"file": file.path, "truncate_to": len})));
        }
    }
    let manifest_name = Manifest::FILE_NAME;
    let len = manifest.encode().len() as u64;
    out.push(load("load/bad_manifest_flip", &json!({"file": manifest_name, "flip_byte": len / 2})));
    out.push(load("load/bad_manifest_truncate", &json!({"file": manifest_name, "truncate_to": len / 2})));
    out.push(load("load/bad_version", &json!({"file": manifest_name, "replace_format_version": 99})));
    out
}

fn load(name: &str, mutate: &Value) -> Expectation {
    let operation =
        if mutate.is_null() { json!({"op": "load"}) } else { json!({"op": "load", "mutate": mutate}) };
    Expectation { name: name.to_owned(), operation, tolerance: Tolerance::Exact }
}

struct World<'a> {
    vocabulary: &'a Vocabulary,
    dim: usize,
}

impl World<'_> {
    /// An item, wrapping around the catalogue.
    fn id(&self, at: usize) -> &str {
        self.vocabulary.item_ids[at % self.vocabulary.len()].as_str()
    }

    fn session(&self, len: usize) -> Vec<Value> {
        let at = |i: usize| NOW - 600 * (len - i) as i64;
        (0..len).map(|i| json!({"item_id": self.id(i * 5 + 3), "kind": "view", "timestamp": at(i)})).collect()
    }

    fn request(&self, len: usize, rules: &Value, limit: u32) -> Value {
        json!({"session": self.session(len), "rules": rules, "limit": limit, "now": NOW, "seed": 7})
    }

    fn requests(&self) -> Vec<(&'static str, Value)> {
        let category = self.vocabulary.categories.first().cloned().unwrap_or_default();
        let mut unknown = self.request(2, &json!({}), 5);
        unknown["session"][1]["item_id"] = json!("no such item");
        vec![
            ("one_item", self.request(1, &json!({}), 10)),
            ("five_items", self.request(5, &json!({}), 10)),
            ("long_session", self.request(60, &json!({}), 10)),
            ("empty_session", self.request(0, &json!({}), 10)),
            ("unknown_item", unknown),
            ("exclude", self.request(3, &json!({"exclude": [self.id(0), self.id(1)]}), 10)),
            ("repeats_allowed", self.request(3, &json!({"exclude_seen": false}), 10)),
            ("category_filter", self.request(3, &json!({"filter": {"categories": [category]}}), 10)),
            ("price_filter", self.request(3, &json!({"filter": {"max_price": 30.0}}), 10)),
            ("category_cap", self.request(3, &json!({"category_cap": 1}), 10)),
            ("diversity", self.request(3, &json!({"diversity": 0.4}), 10)),
            ("exploration", self.request(3, &json!({"exploration": 0.5}), 10)),
            ("pins", self.request(3, &json!({"pins": [{"item_id": self.id(9), "position": 2}]}), 10)),
            ("boosts", self.request(3, &json!({"boosts": [{"item_ids": [self.id(5)], "add": 100}]}), 10)),
            ("zero_limit", self.request(3, &json!({}), 0)),
            ("huge_limit", self.request(3, &json!({}), 100_000)),
        ]
    }

    fn features(&self) -> Value {
        let ids: Vec<&str> = (0..8).map(|i| self.id(i * 3)).collect();
        let scores: Vec<f64> = (0..8).map(|i| f64::from(i) / 4.0 - 1.0).collect();
        json!({"op": "features", "session": self.session(4), "item_ids": ids, "scores": scores, "now": NOW})
    }

    fn report(&self, manifest: &Manifest, seed: usize) -> Value {
        let window = i64::from(manifest.telemetry.window_seconds);
        let requests: Vec<Value> = (1..4).map(|len| self.request(len, &json!({}), 10)).collect();
        json!({
            "op": "report",
            "requests": requests,
            "positions": [2, null],
            "item_ids": [self.id(4)],
            "window_start": NOW - NOW.rem_euclid(window),
            "seed": vec![seed as u8 * 31 + 1; 32],
            "report_id": vec![seed as u8; 16],
        })
    }
}

fn sketch(field: &str, bins: &FieldKind) -> Value {
    match bins {
        FieldKind::Numeric { edges } => {
            let around = edges.iter().flat_map(|&edge| [edge - 0.25, edge, edge + 0.25]);
            let values: Vec<f32> = around.collect();
            json!({"op": "sketch", "field": field, "values": values})
        }
        FieldKind::Categorical { labels } => json!({"op": "sketch", "field": field, "labels": labels}),
    }
}

fn bad_reports() -> Vec<(&'static str, String)> {
    let good = json!({
        "format_version": 1, "report_id": "00112233445566778899aabbccddeeff", "bundle_sha256": "0".repeat(64),
        "window_start": 86_400, "window_seconds": 86_400, "epsilon": 1.0,
        "observations": [{"field": "fault", "bin": 0}], "padding": "",
    });
    let with = |key: &str, value: Value| {
        let mut report = good.clone();
        report[key] = value;
        report.to_string()
    };
    vec![
        ("not_json", "{".to_owned()),
        ("trailing_bytes", format!("{good}x")),
        ("undeclared_field", with("user_id", json!("u1"))),
        ("version", with("format_version", json!(2))),
        ("report_id", with("report_id", json!("XYZ"))),
        ("window", with("window_start", json!(5))),
        ("epsilon", with("epsilon", json!(-1.0))),
        ("no_observations", with("observations", json!([]))),
        ("padding", with("padding", json!("hidden"))),
        ("too_large", with("padding", json!(" ".repeat(5000)))),
    ]
}
