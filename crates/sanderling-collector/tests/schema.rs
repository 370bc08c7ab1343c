//! What leaves a device is declared: the committed schema and field list against the real code.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "the collector is native")]

mod support;

use std::collections::BTreeSet;

use sanderling_types::{
    Baseline, FeatureSpec, FieldKind, Observation, Report, Sha256Hash, SharedInteraction, SharedSession,
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

/// `telemetry-fields.json`: what devices may answer.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    fields: Vec<DeclaredField>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DeclaredField {
    name: String,
    r#type: String,
    unit: String,
    sensitivity: String,
    reason: String,
    /// Those that every bundle has.
    labels: Option<Vec<String>>,
}

fn declared() -> Vec<DeclaredField> {
    serde_json::from_str::<Declared>(&document("telemetry-fields.json")).unwrap().fields
}

#[test]
fn every_telemetry_field_is_declared_with_type_unit_sensitivity_and_reason() {
    let declared = declared();
    for field in &declared {
        let texts = [&field.name, &field.unit, &field.sensitivity, &field.reason];
        assert!(texts.iter().all(|text| !text.is_empty() && !text.contains('|')), "{}", field.name);
        assert!(["numeric", "categorical"].contains(&field.r#type.as_str()), "{}", field.name);
    }
    let named = |wanted: &str| declared.iter().find(|field| field.name == wanted).unwrap();
    for feature in FeatureSpec::standard().with_neighbours().features {
        named(&format!("feature.{}", feature.name));
    }
    // What the trainer writes into a bundle, field by field.
    let bundle = format!("{}/../../tests/golden/v1/bundle/baseline.json", env!("CARGO_MANIFEST_DIR"));
    let baseline = Baseline::decode(&std::fs::read(bundle).unwrap()).unwrap();
    let made: BTreeSet<&str> = baseline.fields.iter().map(|field| field.name.as_str()).collect();
    let missing = declared.iter().filter(|field| !made.contains(field.name.as_str()));
    // A bundle of this kind has no use for them.
    let unused = missing.filter(|field| !field.name.starts_with("feature."));
    assert_eq!(unused.map(|field| field.name.as_str()).collect::<Vec<_>>(), Vec::<&str>::new());
    for field in &baseline.fields {
        let FieldKind::Categorical { labels } = &field.bins else {
            assert_eq!(named(&field.name).r#type, "numeric", "{}", field.name);
            continue;
        };
        assert_eq!(named(&field.name).r#type, "categorical", "{}", field.name);
        assert!(named(&field.name).labels.iter().all(|fixed| fixed == labels), "{}", field.name);
    }
}

/// The table of the page and the type of the npm package are made from the declaration.
#[test]
fn the_page_and_the_type_are_those_of_the_declaration() {
    let declared = declared();
    let row = |f: &DeclaredField| {
        format!("| `{}` | {} | {} | {} | {} |\n", f.name, f.r#type, f.unit, f.sensitivity, f.reason)
    };
    let (start, end) = ("|---|---|---|---|---|\n", "<!-- The end of the table. -->");
    let page = document("telemetry-fields.md");
    let (before, rest) = page.split_once(start).unwrap();
    let after = rest.split_once(end).unwrap().1;
    let table: String = declared.iter().map(row).collect();
    agrees("docs/formats/telemetry-fields.md", &format!("{before}{start}{table}{end}{after}"));

    let is_fixed = |field: &&DeclaredField| !field.name.starts_with("feature.");
    let names: String =
        declared.iter().filter(is_fixed).map(|field| format!("  | '{}'\n", field.name)).collect();
    let text = format!(
        "// Made from docs/formats/telemetry-fields.json, which says how to make it again.\n\n\
         /** Every field that a report can answer. */\nexport type TelemetryFieldName =\n  | `feature.${{string}}`\n{};\n",
        names.trim_end()
    );
    agrees("www/pkg/src/telemetry-fields.ts", &text);
}

/// Whether a committed file is what it is made to be; with `SANDERLING_WRITE` it becomes that.
fn agrees(path: &str, made: &str) {
    let file = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("SANDERLING_WRITE").is_some() {
        std::fs::write(&file, made).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(&file).unwrap_or_default(),
        made,
        "{path} is not what it is made from"
    );
}
