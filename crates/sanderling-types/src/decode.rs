//! Strict, bounded decoding of the JSON formats.

use crate::{Code, Error, FORMAT_VERSION, FromJson, Json, Mismatch, Result};

/// Decodes one JSON document of this crate's formats.
///
/// The size is checked before anything is parsed; another `format_version` is told before another
/// shape; unknown keys and trailing bytes are refused.
///
/// # Errors
/// [`Code::LimitExceeded`] over `max_bytes`, [`Code::UnsupportedFormatVersion`] for another
/// version, `invalid` for everything that is not the declared shape.
pub fn decode_json<T: FromJson>(bytes: &[u8], max_bytes: usize, what: &str, invalid: Code) -> Result<T> {
    let tree = bounded(bytes, max_bytes, what, invalid)?;
    T::from_json(tree).map_err(|wrong| wrong.into_error(invalid, what))
}

/// What does not depend on the type, which is there once.
fn bounded<'a>(bytes: &'a [u8], max_bytes: usize, what: &str, invalid: Code) -> Result<Json<'a>> {
    if bytes.len() > max_bytes {
        return Err(Error::new(Code::LimitExceeded, format!("{what} is too large"))
            .expected(format!("at most {max_bytes} bytes"))
            .found(format!("{} bytes", bytes.len())));
    }
    let tree = parse(bytes, invalid, what)?;
    if let Json::Object(_) = tree {
        check_version(tree.get("format_version"), what)?;
    }
    Ok(tree)
}

/// Reads one JSON document.
///
/// # Errors
/// `invalid` for what is no JSON and for what `T` is not read from.
pub fn read_json<'a, T>(
    bytes: &'a [u8],
    invalid: Code,
    what: &str,
    read: impl FnOnce(Json<'a>) -> std::result::Result<T, Mismatch>,
) -> Result<T> {
    read(parse(bytes, invalid, what)?).map_err(|wrong| wrong.into_error(invalid, what))
}

fn parse<'a>(bytes: &'a [u8], invalid: Code, what: &str) -> Result<Json<'a>> {
    // Without the parser's error as a source, whose other texts would be two kilobytes of a page's download.
    Json::parse(bytes).map_err(|error| Error::new(invalid, format!("{what} cannot be decoded")).found(error))
}

fn check_version(stated: Option<&Json<'_>>, what: &str) -> Result<()> {
    if stated == Some(&Json::Unsigned(FORMAT_VERSION.into())) {
        return Ok(());
    }
    let found = stated.map_or("none".to_owned(), Json::describe);
    Err(Error::new(Code::UnsupportedFormatVersion, format!("{what} has another format version"))
        .expected(FORMAT_VERSION)
        .found(found)
        .hint("use a matching release of the engine, or export the bundle again"))
}
