//! JavaScript values to Rust values and back.

use js_sys::{Array, Object, Reflect, Uint8Array};
use sanderling_core::{BundleFiles, PublicKey, Trust};
use sanderling_types::{Code, Error, FromJson, Result, Sha256Hash, quoted, read_json};
use serde::Serialize;
use wasm_bindgen::{JsCast, JsValue};

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

/// Files of a bundle by name, and by name what [`BundleFiles::set_digest`] takes; none for `undefined`.
pub(crate) fn files(files: &JsValue, digests: &JsValue) -> Result<BundleFiles, JsValue> {
    let mut out = BundleFiles::new();
    each_bytes("files", files, &mut |name, bytes| {
        out.insert(name, bytes);
        Ok(())
    })?;
    if !digests.is_undefined() {
        each_bytes("digests", digests, &mut |name, digest| {
            out.set_digest(&name, Sha256Hash::from_digest(fixed("a digest", &digest)?));
            Ok(())
        })?;
    }
    Ok(out)
}

/// What takes a name and its bytes.
type TakeBytes<'a> = dyn FnMut(String, Vec<u8>) -> Result<(), JsValue> + 'a;

/// Gives each of a `Record<string, Uint8Array>` to `take`.
fn each_bytes(what: &str, value: &JsValue, take: &mut TakeBytes<'_>) -> Result<(), JsValue> {
    let Some(object) = value.dyn_ref::<Object>() else {
        return Err(thrown(&wrong_argument(what, "a value that is not an object")));
    };
    let entries = Object::entries(object);
    for at in 0..entries.length() {
        let entry: Array = entries.get(at).unchecked_into();
        let name = entry.get(0).as_string().unwrap_or_default();
        let Ok(bytes) = entry.get(1).dyn_into::<Uint8Array>() else {
            let place = format!("{what}[{}]", quoted(&name));
            return Err(thrown(&wrong_argument(&place, "a value that is not a Uint8Array")));
        };
        take(name, bytes.to_vec())?;
    }
    Ok(())
}

/// What a bundle must be; `None` for `undefined`.
pub(crate) fn trust(value: &JsValue) -> Result<Option<Trust>, JsValue> {
    if value.is_undefined() {
        return Ok(None);
    }
    let get = |name: &str| Reflect::get(value, &JsValue::from_str(name)).unwrap_or_default();
    let number = |name: &str| integer(name, &get(name));
    let Ok(list) = get("keys").dyn_into::<Array>() else {
        return Err(thrown(&wrong_argument("keys", "a value that is not a list")));
    };
    let mut keys = Vec::new();
    for at in 0..list.length() {
        let bytes = list.get(at).dyn_into::<Uint8Array>().map(|bytes| bytes.to_vec()).unwrap_or_default();
        keys.push(PublicKey(fixed("a public key", &bytes)?));
    }
    // Numbers below 0 are as little as 0.
    let least_rollback_index = u64::try_from(number("leastRollbackIndex")?).unwrap_or(0);
    Ok(Some(Trust { keys, now: Some(number("now")?), least_rollback_index }))
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
