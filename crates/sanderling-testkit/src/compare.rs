//! Comparing answers under a named tolerance.

use serde_json::Value;

use crate::Tolerance;

/// Where `found` first differs from `expected`, or `None`. Errors are compared by code alone: their
/// messages are for people.
#[must_use]
pub fn difference(expected: &Value, found: &Value, tolerance: Tolerance) -> Option<String> {
    if let Some(expected) = expected.get("error") {
        let code = |error: Option<&Value>| error.and_then(|error| error.get("code")).cloned();
        let (expected, found) = (code(Some(expected)), code(found.get("error")));
        return (expected != found).then(|| format!("error code: expected {expected:?}, found {found:?}"));
    }
    walk("", expected, found, tolerance)
}

fn walk(path: &str, expected: &Value, found: &Value, tolerance: Tolerance) -> Option<String> {
    match (expected, found) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64()?, b.as_f64()?);
            let apart = (a - b).abs() > tolerance.bound(a);
            apart.then(|| format!("{path}: expected {a}, found {b}"))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| walk(&format!("{path}[{i}]"), a, b, tolerance))
        }
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => a.iter().find_map(|(key, a)| {
            let path = format!("{path}.{key}");
            b.get(key).map_or_else(|| Some(format!("{path} is missing")), |b| walk(&path, a, b, tolerance))
        }),
        (a, b) if a == b => None,
        (a, b) => Some(format!("{path}: expected {}, found {}", short(a), short(b))),
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_the_place_of_a_difference() {
        let expected = json!({"ok": {"scores": [1.0, 2.0], "id": "a"}});
        let near = json!({"ok": {"scores": [1.0, 2.000_01], "id": "a"}});
        assert_eq!(difference(&expected, &near, Tolerance::Scores), None);
        let text = difference(&expected, &near, Tolerance::Exact).expect("differs");
        assert!(text.contains(".ok.scores[1]"), "{text}");
        let other = json!({"ok": {"scores": [1.0, 2.0], "id": "b"}});
        assert!(difference(&expected, &other, Tolerance::Scores).is_some());
        let failed = json!({"error": {"code": "io", "message": "x"}});
        assert!(
            difference(&failed, &json!({"error": {"code": "io", "message": "y"}}), Tolerance::Exact)
                .is_none()
        );
        assert!(difference(&failed, &expected, Tolerance::Exact).is_some());
        assert!(difference(&expected, &failed, Tolerance::Exact).is_some());
    }
}
