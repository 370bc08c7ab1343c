//! Operations: every one answers as the engine does, and bad ones answer with a code.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use sanderling_core::{Engine, operations};
use serde_json::{Value, json};
use support::{Fixture, NOW, request, session};

fn run(engine: &Engine, op: &Value) -> Value {
    serde_json::from_str(&operations::run(engine, &op.to_string())).unwrap()
}

fn ok(op: &Value) -> Value {
    let answer = run(&Fixture::new().engine(), op);
    answer.get("ok").unwrap_or_else(|| panic!("{op}: {answer}")).clone()
}

fn code(op: &Value) -> String {
    let answer = run(&Fixture::new().engine(), op);
    answer["error"]["code"].as_str().unwrap_or_else(|| panic!("{op}: {answer}")).to_owned()
}

#[test]
fn good_operations_answer() {
    let engine = Fixture::new().engine();
    let answer = ok(&json!({"op": "recommend", "request": request(&["boot"], 2)}));
    let expected = serde_json::to_string(&engine.recommend(&request(&["boot"], 2)).response).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    assert_eq!(answer["response"], expected);
    assert!(answer["observations"].as_array().unwrap().contains(&json!(["fault", 0])));
    let similar = ok(&json!({"op": "similar", "item_id": "boot", "limit": 1}));
    assert_eq!(similar["recommendations"][0]["item_id"], "clog");
    // The item's vector as the table has it.
    let mut boot = [0.0; 4];
    engine.bundle().items().row_into(sanderling_types::ItemIndex(0), &mut boot);
    let query = &ok(&json!({"op": "encode", "item_ids": ["cap", "boot"]}))["query"];
    assert_eq!(serde_json::from_value::<Vec<f32>>(query.clone()).unwrap(), boot);
    let features = ok(&json!({
        "op": "features", "session": session(&["boot"]), "item_ids": ["clog"], "scores": [0.5], "now": NOW,
    }));
    assert_eq!(features["features"].as_array().unwrap().len(), 10);
    let retrieved = ok(&json!({"op": "retrieve", "query": [0, 0, 1, 0], "k": 2, "exclude": ["beret"]}));
    assert_eq!(retrieved["candidates"][0]["item_id"], "cap");
    assert_eq!(retrieved["candidates"][1], json!({"item_id": "boot", "score": 0.0}));
    let scores = ok(&json!({"op": "rank", "features": vec![0.5; 20], "num_candidates": 2}));
    assert_eq!(scores["scores"], json!([0.5, 0.5]));
    let policy = ok(&json!({
        "op": "policy", "session": session(&["boot"]), "rules": {"category_cap": 1},
        "item_ids": ["gift", "boot", "clog", "pump", "cap"], "limit": 10,
    }));
    assert_eq!(policy["item_ids"], json!(["gift", "clog", "cap"]));
    assert_eq!(
        ok(&json!({"op": "sketch", "field": "score.ranker", "values": [-1.5, 0, 0.5, 9]}))["counts"],
        json!([1, 0, 2, 1])
    );
    let labels = json!({"op": "sketch", "field": "fault", "labels": ["none", "too_few_items", "none"]});
    assert_eq!(ok(&labels)["counts"], json!([2, 0, 0, 0, 0, 1, 0, 0, 0]));
    let report = ok(&json!({
        "op": "report", "requests": [request(&["boot"], 2)], "positions": [1, null], "item_ids": ["cap"],
        "window_start": NOW - NOW.rem_euclid(86_400), "seed": vec![3; 32], "report_id": vec![4; 16],
    }));
    let text = report["report"].to_string();
    assert_eq!(ok(&json!({"op": "decode_report", "text": text})), report);
}

#[test]
fn bad_operations_answer_with_a_code() {
    let cases = [
        (json!({"op": "no such operation"}), "invalid_argument"),
        (json!(null), "invalid_argument"),
        (json!([1, 2]), "invalid_argument"),
        (json!({"op": "similar", "item_id": "boot", "limit": 1, "user": "u"}), "invalid_argument"),
        (json!({"op": "similar", "item_id": "boot", "limit": -1}), "invalid_argument"),
        (json!({"op": "similar", "item_id": "unknown", "limit": 1}), "unknown_item"),
        (json!({"op": "encode", "item_ids": []}), "invalid_argument"),
        (json!({"op": "retrieve", "query": [1.0], "k": 1}), "invalid_argument"),
        (json!({"op": "rank", "features": [1.0], "num_candidates": 1}), "invalid_argument"),
        (json!({"op": "sketch", "field": "unknown", "values": [1]}), "unknown_field"),
        (json!({"op": "sketch", "field": "fault", "labels": ["unknown"]}), "bin_out_of_range"),
        (json!({"op": "sketch", "field": "fault", "values": [1.0]}), "bin_out_of_range"),
        (json!({"op": "decode_report", "text": "{"}), "report_invalid"),
    ];
    for (op, expected) in cases {
        assert_eq!(code(&op), expected, "{op}");
    }
}
