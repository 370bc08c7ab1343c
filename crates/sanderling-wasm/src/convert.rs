//! JavaScript values to Rust values and back.

use js_sys::Reflect;
use sanderling_core::PublicKey;
use sanderling_types::{Code, Error, FromJson, Result, read_json};
use serde::Serialize;
use wasm_bindgen::JsValue;

use crate::error::{thrown, wrong_argument};

/// Sets a property of an object that this crate made, which cannot fail.
pub(crate) fn set(target: &JsValue, name: &str, value: &JsValue) {
    let _ = Reflect::set(target, &JsValue::from_str(name), value);
}

/// Plain objects, plain arrays and plain numbers, as `JSON.parse` would give them.
pub(crate) fn to_js<T: Serialize>(value: &T) -> Result<JsValue, JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::json_compatible();
    value.serialize(&serializer).map_err(|error| {
        thrown(&Error::new(Code::Internal, "a result cannot be given to JavaScript").found(error))
    })
}

/// The JSON that an argument stands for. Keys whose value is `undefined` are absent.
pub(crate) fn json_text(what: &str, value: &JsValue) -> Result<String, JsValue> {
    let text = js_sys::JSON::stringify(value).ok().and_then(|text| text.as_string());
    text.map(well_formed).ok_or_else(|| thrown(&wrong_argument(what, "a value that is not JSON")))
}

/// Reads an argument strictly, as its JSON: unknown keys and wrong types are errors that say where.
pub(crate) fn from_js<T: FromJson>(what: &str, value: &JsValue) -> Result<T, JsValue> {
    let text = json_text(what, value)?;
    read_json(text.as_bytes(), Code::InvalidArgument, what, T::from_json).map_err(|error| thrown(&error))
}

/// `JSON.stringify` writes half a surrogate pair as an escape and a whole pair as itself. No text of
/// Rust holds half a pair, so each becomes U+FFFD, as everywhere on the web.
fn well_formed(text: String) -> String {
    // Bytes, because the searching and cutting of texts would be four kilobytes of a page's download.
    let is_half = |escape: &[u8]| matches!(escape, [b'\\', b'u', b'd', b'8'..=b'9' | b'a'..=b'f', _, _, ..]);
    let bytes = text.as_bytes();
    if !bytes.windows(6).any(is_half) {
        return text;
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, ..] = rest {
        // A backslash is never the last character of JSON, and what follows one is ASCII.
        let (kept, len) = match first {
            b'\\' if is_half(rest) => ("\u{FFFD}".as_bytes(), 6),
            b'\\' => (&rest[..2], 2),
            _ => (&rest[..1], 1),
        };
        out.extend_from_slice(kept);
        rest = &rest[len..];
    }
    String::from_utf8(out).unwrap_or_default()
}

/// A whole number, as `bigint` or as `number`.
pub(crate) fn integer(what: &str, value: &JsValue) -> Result<i64, JsValue> {
    const SAFE: f64 = 9_007_199_254_740_991.0;
    let number = || value.as_f64().filter(|number| number.fract() == 0.0 && number.abs() <= SAFE);
    let whole = i64::try_from(value.clone()).ok().or_else(|| number().map(|number| number as i64));
    whole.ok_or_else(|| thrown(&wrong_argument(what, "a value that is not a whole number")))
}

/// Public keys that are one behind the other.
pub(crate) fn public_keys(bytes: &[u8]) -> Result<Vec<PublicKey>, JsValue> {
    bytes.chunks(32).map(|key| fixed("a public key", key).map(PublicKey)).collect()
}

/// Bytes of a fixed length.
pub(crate) fn fixed<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N], JsValue> {
    bytes.try_into().map_err(|_| {
        let error = Error::new(Code::InvalidArgument, format!("{what} has the wrong length"));
        thrown(&error.expected(format!("{N} bytes")).found(format!("{} bytes", bytes.len())))
    })
}

#[cfg(test)]
mod tests {
    use super::well_formed;

    #[test]
    fn halves_of_pairs_are_replaced_and_nothing_else() {
        for (text, expected) in [
            (r#""\ud800 \udfff\n""#, "\"\u{FFFD} \u{FFFD}\\n\""),
            (r#""\\ud800""#, r#""\\ud800""#),
            (r#"{"a":"\u0000 \ude00é😀"}"#, "{\"a\":\"\\u0000 \u{FFFD}é😀\"}"),
        ] {
            assert_eq!(well_formed(text.to_owned()), expected);
        }
    }
}
