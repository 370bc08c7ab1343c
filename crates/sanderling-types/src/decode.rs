//! Strict, bounded decoding of the JSON formats.

use serde::de::DeserializeOwned;

use crate::{Code, Error, FORMAT_VERSION, Result};

/// A JSON document that states the version of its format.
pub trait Versioned {
    /// The version that it states.
    fn format_version(&self) -> u32;
}

/// Decodes one JSON document of this crate's formats.
///
/// The size is checked before anything is parsed; another `format_version` is told before another
/// shape; unknown fields and trailing bytes are refused by the target type and by the parser.
///
/// # Errors
/// [`Code::LimitExceeded`] over `max_bytes`, [`Code::UnsupportedFormatVersion`] for another
/// version, `invalid` for everything that is not the declared shape.
pub fn decode_json<T: DeserializeOwned + Versioned>(
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
    // A list of the values in order would pass for the object, too.
    let is_list = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    if is_list {
        return Err(Error::new(invalid, format!("{what} cannot be decoded"))
            .expected("an object")
            .found("a list"));
    }
    let decoded = serde_json::from_slice::<T>(bytes);
    let stated = match &decoded {
        Ok(decoded) => Some(decoded.format_version()),
        Err(_) => stated_version(bytes, what, invalid)?,
    };
    if stated != Some(FORMAT_VERSION) {
        let found = stated.map_or("none".to_owned(), |version| version.to_string());
        return Err(Error::new(Code::UnsupportedFormatVersion, format!("{what} has another format version"))
            .expected(FORMAT_VERSION)
            .found(found)
            .hint("use a matching release of the engine, or export the bundle again"));
    }
    decoded.map_err(|error| malformed(what, invalid, error))
}

/// The version of a document of any shape.
fn stated_version(bytes: &[u8], what: &str, invalid: Code) -> Result<Option<u32>> {
    #[derive(serde::Deserialize)]
    struct Stated {
        format_version: Option<u32>,
    }
    let stated: Stated = serde_json::from_slice(bytes).map_err(|error| malformed(what, invalid, error))?;
    Ok(stated.format_version)
}

fn malformed(what: &str, code: Code, error: serde_json::Error) -> Error {
    Error::new(code, format!("{what} cannot be decoded")).found(&error).source_error(error)
}
