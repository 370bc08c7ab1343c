//! JavaScript values to Rust values and back.

use std::collections::BTreeMap;

use js_sys::{Array, Object, Reflect, Uint8Array};
use sanderling_core::{BundleFiles, PublicKey};
use sanderling_types::{Code, Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
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

/// Reads an argument strictly, as the JSON that it stands for: unknown keys and wrong types are
/// errors that say where. Keys whose value is `undefined` are absent.
pub(crate) fn from_js<T: DeserializeOwned>(what: &str, value: &JsValue) -> Result<T, JsValue> {
    let text = js_sys::JSON::stringify(value).ok().and_then(|text| text.as_string());
    let text = text.ok_or_else(|| thrown(&wrong_argument(what, "a value that is not JSON")))?;
    serde_json::from_str(&text).map_err(|error| thrown(&wrong_argument(what, error)))
}

/// `Record<string, Uint8Array>` by file name.
pub(crate) fn files(value: &JsValue) -> Result<BundleFiles, JsValue> {
    let Some(object) = value.dyn_ref::<Object>() else {
        return Err(thrown(&wrong_argument("files", "a value that is not an object")));
    };
    let mut files = BTreeMap::new();
    for entry in Object::entries(object).iter() {
        let entry: Array = entry.unchecked_into();
        let name = entry.get(0).as_string().unwrap_or_default();
        let content = entry.get(1);
        let Some(bytes) = content.dyn_ref::<Uint8Array>() else {
            return Err(thrown(&wrong_argument(
                &format!("files[{name:?}]"),
                "a value that is not a Uint8Array",
            )));
        };
        files.insert(name, bytes.to_vec());
    }
    Ok(files.into())
}

pub(crate) fn public_key(bytes: &[u8]) -> Result<PublicKey, JsValue> {
    fixed("the public key", bytes).map(PublicKey)
}

/// Bytes of a fixed length.
pub(crate) fn fixed<const N: usize>(what: &str, bytes: &[u8]) -> Result<[u8; N], JsValue> {
    bytes.try_into().map_err(|_| {
        let error = Error::new(Code::InvalidArgument, format!("{what} has the wrong length"));
        thrown(&error.expected(format!("{N} bytes")).found(format!("{} bytes", bytes.len())))
    })
}
