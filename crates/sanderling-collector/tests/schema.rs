//! What leaves a device is declared: the committed schema and field list against the real code.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]

mod support;

use std::collections::BTreeSet;

use sanderling_types::{
    FaultCode, FeatureSpec, Observation, Report, Sha256Hash, SharedInteraction, SharedSession,
};
use serde_json::{Value, json};
use support::{padded, unpadded};

fn document(name: &str) -> String {
    let path = format!("{}/../../docs/formats/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A message that leaves a device: what is declared of it, and the code that makes and reads it.
struct Format {
    schema: Value,
    /// One that the real code makes, as the JSON that is sent.
    sent: Value,
    decodes: fn(&Value) -> bool,
    /// The objects of which it consists, as pointers.
    objects: &'static [&'static str],
}

fn report_format() -> Format {
    let mut report = unpadded(0xabc, "interaction.category", 3);
    report.observations.push(Observation { field: "fault".to_owned(), bin: 0 });
    Format {
        schema: serde_json::from_str(&document("report.schema.json")).unwrap(),
        sent: serde_json::from_slice(&padded(report).encode()).unwrap(),
        decodes: |report| Report::decode(&serde_json::to_vec(report).unwrap()).is_ok(),
        objects: &["", "/observations/0"],
    }
}

fn session_format() -> Format {
    let interaction =
        |item: &str, kind: &str| SharedInteraction { item_id: item.into(), kind: kind.to_owned() };
    let interactions = vec![interaction("p-17", "view"), interaction("p-4", "add_to-cart2")];
    let session =
        SharedSession::of_newest("0f".repeat(16), Sha256Hash::of(b"bundle"), support::WINDOW, interactions);
    Format {
        schema: serde_json::from_str(&document("shared-session.schema.json")).unwrap(),
        sent: serde_json::from_slice(&session.unwrap().encode()).unwrap(),
        decodes: |session| SharedSession::decode(&padded_session(session)).is_ok(),
        objects: &["", "/interactions/0"],
    }
}

/// With as much more padding as the length asks for, so that nothing is refused for its length, which no schema declares.
fn padded_session(session: &Value) -> Vec<u8> {
    let mut session = session.clone();
    let len = serde_json::to_vec(&session).unwrap().len();
    if let Some(Value::String(padding)) = session.get_mut("padding") {
        padding.push_str(&" ".repeat(len.next_multiple_of(SharedSession::PADDED_BYTES) - len));
    }
    serde_json::to_vec(&session).unwrap()
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
        "^[a-z0-9_-]{1,32}$" => {
            (1..=32).contains(&text.len())
                && text.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-'))
        }
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

fn characters(value: &Value) -> Option<u64> {
    value.as_str().map(|text| text.chars().count() as u64)
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
            "minLength" => characters(value).is_some_and(|count| count >= rule.as_u64().unwrap()),
            "maxLength" => characters(value).is_some_and(|count| count <= rule.as_u64().unwrap()),
            "multipleOf" => value.as_i64().is_some_and(|number| number % rule.as_i64().unwrap() == 0),
            "minimum" => number() >= rule.as_f64().unwrap(),
            "maximum" => number() <= rule.as_f64().unwrap(),
            "exclusiveMinimum" => number() > rule.as_f64().unwrap(),
            "minItems" => value.as_array().is_some_and(|items| items.len() as u64 >= rule.as_u64().unwrap()),
            "maxItems" => value.as_array().is_some_and(|items| items.len() as u64 <= rule.as_u64().unwrap()),
            "items" => value.as_array().is_some_and(|items| items.iter().all(|item| conforms(item, rule))),
            "required" => {
                rule.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            "properties" => value.as_object().is_some_and(|members| {
                members.iter().all(|(name, member)| rule.get(name).is_none_or(|rule| conforms(member, rule)))
            }),
            "additionalProperties" => {
                assert_eq!(*rule, Value::Bool(false), "every object of the schema is closed");
                value.is_object() && keys(value).is_subset(&keys(&schema["properties"]))
            }
            other => panic!("the schema uses an unknown keyword {other}"),
        }
    })
}

impl Format {
    /// The schema of the object at `pointer`, which is the message or an item of one of its lists.
    fn schema_at(&self, pointer: &str) -> &Value {
        match pointer.split('/').nth(1) {
            None => &self.schema,
            Some(list) => &self.schema["properties"][list]["items"],
        }
    }

    /// The sent message with a change to the object that holds `pointer`.
    fn edited(&self, pointer: &str, edit: impl FnOnce(&mut serde_json::Map<String, Value>, &str)) -> Value {
        let mut message = self.sent.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        edit(message.pointer_mut(parent).unwrap().as_object_mut().unwrap(), name);
        message
    }

    /// Decoder and schema draw the same line, so neither can be looser unnoticed.
    fn judge(&self, message: &Value, accepted: bool, what: &str) {
        assert_eq!(conforms(message, &self.schema), accepted, "the schema about {what}");
        assert_eq!((self.decodes)(message), accepted, "the decoder about {what}");
    }

    fn has_exactly_the_declared_properties(&self) {
        self.judge(&self.sent, true, "what is sent");
        for pointer in self.objects {
            let (value, schema) = (self.sent.pointer(pointer).unwrap(), self.schema_at(pointer));
            assert_eq!(keys(value), keys(&schema["properties"]), "declared and sent properties differ");
            let required: BTreeSet<_> =
                schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            assert_eq!(required, keys(&schema["properties"]), "every property is required");
            assert_eq!(schema["additionalProperties"], false);
            for (name, property) in schema["properties"].as_object().unwrap() {
                for annotation in ["x-unit", "x-sensitivity", "x-reason"] {
                    assert!(property[annotation].is_string(), "{name} declares no {annotation}");
                }
            }
            for name in keys(value) {
                let without =
                    self.edited(&format!("{pointer}/{name}"), |object, name| drop(object.remove(name)));
                self.judge(&without, false, &format!("no {pointer}/{name}"));
            }
            let with_more = self.edited(&format!("{pointer}/user_id"), |object, name| {
                object.insert(name.to_owned(), "u1".into());
            });
            self.judge(&with_more, false, &format!("one property more at {pointer:?}"));
        }
    }

    fn judges_values(&self, accepted: bool, values: &[(&str, Value)]) {
        for (pointer, value) in values {
            let changed =
                self.edited(pointer, |object, name| drop(object.insert(name.to_owned(), value.clone())));
            self.judge(&changed, accepted, &format!("{pointer} of {value}"));
        }
    }
}

#[test]
fn a_real_report_has_exactly_the_declared_properties() {
    report_format().has_exactly_the_declared_properties();
}

#[test]
fn a_real_session_has_exactly_the_declared_properties() {
    session_format().has_exactly_the_declared_properties();
}

#[test]
fn what_the_schema_of_reports_refuses_the_decoder_refuses_too() {
    report_format().judges_values(
        false,
        &[
            ("/observations/0/item_id", "i1".into()),
            ("/format_version", 2.into()),
            ("/report_id", "XYZ".into()),
            ("/bundle_sha256", "00".into()),
            ("/window_start", "yesterday".into()),
            ("/window_seconds", 0.into()),
            ("/epsilon", 0.into()),
            ("/observations", json!([])),
            ("/observations/0/bin", (-1).into()),
            ("/observations/0/bin", 65_536.into()),
            ("/observations/0/field", 3.into()),
            ("/padding", "secret".into()),
        ],
    );
}

#[test]
fn the_schema_and_the_decoder_of_sessions_draw_the_same_line() {
    let format = session_format();
    let times = |count: usize| Value::Array(vec![json!({"item_id": "p-17", "kind": "view"}); count]);
    let day = support::WINDOW;
    format.judges_values(
        true,
        &[
            ("/day", 0.into()),
            ("/day", (day + 86_400).into()),
            ("/interactions", times(1)),
            ("/interactions", times(SharedSession::MAX_INTERACTIONS)),
            ("/interactions/0/item_id", "ü".repeat(SharedInteraction::MAX_ITEM_ID_CHARS).into()),
            ("/interactions/0/kind", "k".repeat(SharedInteraction::MAX_KIND_CHARS).into()),
        ],
    );
    format.judges_values(
        false,
        &[
            ("/interactions/0/timestamp", day.into()),
            ("/format_version", 2.into()),
            ("/session_id", "XYZ".into()),
            ("/session_id", "F".repeat(32).into()),
            ("/bundle_sha256", "00".into()),
            ("/day", "yesterday".into()),
            ("/day", (day + 3_600).into()),
            ("/day", (-86_400).into()),
            ("/day", 0.5.into()),
            ("/interactions", times(0)),
            ("/interactions", times(SharedSession::MAX_INTERACTIONS + 1)),
            ("/interactions", json!(["p-17"])),
            ("/interactions/0/item_id", "".into()),
            ("/interactions/0/item_id", "ü".repeat(SharedInteraction::MAX_ITEM_ID_CHARS + 1).into()),
            ("/interactions/0/item_id", 17.into()),
            ("/interactions/0/kind", "".into()),
            ("/interactions/0/kind", "k".repeat(SharedInteraction::MAX_KIND_CHARS + 1).into()),
            ("/interactions/0/kind", "my own words".into()),
            ("/interactions/0/kind", "View".into()),
            ("/padding", "secret".into()),
            ("/padding", 3.into()),
        ],
    );
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
