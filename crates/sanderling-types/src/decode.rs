//! Strict, bounded decoding of the JSON formats.

use serde::de::DeserializeOwned;

use crate::{Code, Error, FORMAT_VERSION, Result};

#[derive(serde::Deserialize)]
struct Versioned {
    format_version: Option<u32>,
}

/// Decodes one JSON document of this crate's formats.
///
/// The size is checked before anything is parsed, then `format_version`, then the whole shape;
/// unknown fields and trailing bytes are refused by the target type and by the parser.
///
/// # Errors
/// [`Code::LimitExceeded`] over `max_bytes`, [`Code::UnsupportedFormatVersion`] for another
/// version, `invalid` for everything that is not the declared shape.
pub fn decode_json<T: DeserializeOwned>(
    bytes: &[u8],
    max_bytes: usize,
    what: &str,
    invalid: Code,
) -> Result<T> {
    if bytes.len() > max_bytes {
        return Err(Error::new(Code::LimitExceeded, format!("{what} is too large"))
            .expected(format!("at most {max_bytes} bytes"))
            .found(format!("{} bytes", bytes.len())));
    }
    let version: Versioned =
        serde_json::from_slice(bytes).map_err(|error| malformed(what, invalid, error))?;
    if version.format_version != Some(FORMAT_VERSION) {
        let found = version.format_version.map_or("none".to_owned(), |version| version.to_string());
        return Err(Error::new(Code::UnsupportedFormatVersion, format!("{what} has another format version"))
            .expected(FORMAT_VERSION)
            .found(found)
            .hint("use a matching release of the engine, or export the bundle again"));
    }
    serde_json::from_slice(bytes).map_err(|error| malformed(what, invalid, error))
}

fn malformed(what: &str, code: Code, error: serde_json::Error) -> Error {
    Error::new(code, format!("{what} cannot be decoded")).found(&error).source_error(error)
}
