//! Errors as JavaScript sees them.

use sanderling_types::{Code, Error};
use wasm_bindgen::JsValue;

use crate::convert::set;

/// An `Error` object with the stable code and the evidence as properties.
pub(crate) fn thrown(error: &Error) -> JsValue {
    let out = js_sys::Error::new(error.message());
    out.set_name("SanderlingError");
    let text = |text: Option<&str>| text.map_or(JsValue::UNDEFINED, JsValue::from_str);
    set(&out, "code", &JsValue::from_str(error.code().as_str()));
    set(&out, "expected", &text(error.expected_value()));
    set(&out, "found", &text(error.found_value()));
    set(&out, "hint", &text(error.hint_text()));
    out.into()
}

/// The error of an argument that cannot be converted.
pub(crate) fn wrong_argument(what: &str, found: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidArgument, format!("{what} cannot be read")).found(found)
}
