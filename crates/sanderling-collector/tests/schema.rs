//! What leaves a device is declared: the committed schema and field list against the real code.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]

mod support;

use std::collections::BTreeSet;

use sanderling_types::{FaultCode, FeatureSpec, Observation, Report};
use serde_json::Value;
use support::{padded, unpadded};

fn document(name: &str) -> String {
    let path = format!("{}/../../docs/formats/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn schema() -> Value {
    serde_json::from_str(&document("report.schema.json")).unwrap()
}

/// A report that the real code makes, as the JSON that is sent.
fn sent() -> Value {
    let mut report = unpadded(0xabc, "interaction.category", 3);
    report.observations.push(Observation { field: "fault".to_owned(), bin: 0 });
    let bytes = padded(report).encode();
    Report::decode(&bytes).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The patterns of the schema; another one fails the test until it is added here.
fn matches(pattern: &str, text: &str) -> bool {
    let hex = |len: usize| text.len() == len && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'));
    match pattern {
        "^[0-9a-f]{32}$" => hex(32),
        "^[0-9a-f]{64}$" => hex(64),
        "^ *$" => text.chars().all(|c| c == ' '),
        other => panic!("the schema uses an unknown pattern {other}"),
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("the schema uses an unknown type {other}"),
    }
}

/// Whether `value` is what `schema` declares; a keyword that this cannot check fails the test.
fn conforms(value: &Value, schema: &Value) -> bool {
    schema.as_object().unwrap().iter().all(|(keyword, rule)| {
        let number = || value.as_f64().unwrap_or(f64::NAN);
        match keyword.as_str() {
            "$schema" | "$id" | "title" | "description" | "x-unit" | "x-sensitivity" | "x-reason" => true,
            "type" => has_type(value, rule.as_str().unwrap()),
            "const" => value == rule,
            "pattern" => value.as_str().is_some_and(|text| matches(rule.as_str().unwrap(), text)),
            "minLength" => value.as_str().is_some_and(|text| text.len() as u64 >= rule.as_u64().unwrap()),
            "minimum" => number() >= rule.as_f64().unwrap(),
            "maximum" => number() <= rule.as_f64().unwrap(),
            "exclusiveMinimum" => number() > rule.as_f64().unwrap(),
            "minItems" => value.as_array().is_some_and(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "items" => value.as_array().is_some_and(|items| items.iter().all(|item| conforms(item, rule))),
            "required" => {
                rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            "properties" => value.as_object().is_some_and(|members| {
                members.iter().all(|(name, member)| rule.get(name).is_none_or(|rule| conforms(member, rule)))
            }),
            "additionalProperties" => {
                assert_eq!(*rule, Value::Bool(false), "every object of the schema is closed");
                keys(value).is_subset(&keys(&schema["properties"]))
            }
            other => panic!("the schema uses an unknown keyword {other}"),
        }
    })
}

#[test]
fn a_real_report_has_exactly_the_declared_properties() {
    let (schema, report) = (schema(), sent());
    assert!(conforms(&report, &schema), "{report:#}");
    let item = &schema["properties"]["observations"]["items"];
    for (value, schema) in [(&report, &schema), (&report["observations"][0], item)] {
        assert_eq!(keys(value), keys(&schema["properties"]), "declared and sent properties differ");
        let required: BTreeSet<_> =
            schema["required"].as_array().unwrap().iter().map(|r| r.as_str().unwrap()).collect();
        assert_eq!(required, keys(&schema["properties"]), "every property is required");
        assert_eq!(schema["additionalProperties"], false);
        for (name, property) in schema["properties"].as_object().unwrap() {
            for annotation in ["x-unit", "x-sensitivity", "x-reason"] {
                assert!(property[annotation].is_string(), "{name} declares no {annotation}");
            }
        }
    }
}

/// Decoder and schema draw the same line, so neither can be looser unnoticed.
#[test]
fn what_the_schema_refuses_the_decoder_refuses_too() {
    let edits: Vec<(&str, Value)> = vec![
        ("/user_id", "u1".into()),
        ("/observations/0/item_id", "i1".into()),
        ("/format_version", 2.into()),
        ("/report_id", "XYZ".into()),
        ("/bundle_sha256", "00".into()),
        ("/window_start", "yesterday".into()),
        ("/window_seconds", 0.into()),
        ("/epsilon", 0.into()),
        ("/observations", Value::Array(vec![])),
        ("/observations/0/bin", (-1).into()),
        ("/observations/0/bin", 65_536.into()),
        ("/observations/0/field", 3.into()),
        ("/padding", "secret".into()),
    ];
    for (pointer, value) in edits {
        let mut report = sent();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        report.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
        assert!(!conforms(&report, &schema()), "the schema accepts another {pointer}");
        assert!(
            Report::decode(&serde_json::to_vec(&report).unwrap()).is_err(),
            "the decoder accepts another {pointer}"
        );
    }
    for name in keys(&sent()) {
        let mut report = sent();
        report.as_object_mut().unwrap().remove(name);
        assert!(!conforms(&report, &schema()), "the schema does without {name}");
        assert!(
            Report::decode(&serde_json::to_vec(&report).unwrap()).is_err(),
            "the decoder does without {name}"
        );
    }
}

#[test]
fn every_telemetry_field_is_described_with_type_unit_sensitivity_and_reason() {
    let text = document("telemetry-fields.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let described: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    let spec = FeatureSpec::standard().with_neighbours();
    let features = spec.features.into_iter().map(|feature| format!("feature.{}", feature.name));
    let fixed = ["score.retrieval", "score.ranker", "interaction.category", "outcome.position", "fault"];
    let declared: BTreeSet<String> = features.chain(fixed.map(str::to_owned)).collect();
    assert_eq!(described, declared);
    for row in &rows {
        assert_eq!(row.len(), 5, "{row:?}");
        assert!(row.iter().all(|cell| !cell.is_empty()), "{row:?}");
        assert!(["numeric", "categorical"].contains(&row[1]), "{row:?}");
    }
    for (_, label) in FaultCode::ALL {
        assert!(text.contains(&format!("`{label}`")), "the label {label} is not described");
    }
}
