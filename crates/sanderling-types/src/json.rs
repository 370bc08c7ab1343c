//! JSON as a tree, and strict reading of trees.
//!
//! A derived reader of every type for every parser made a third of the engine's code in a page, so types are read from one
//! tree: [`json_object`](crate::json_object) and [`json_names`](crate::json_names) write the few calls that a type needs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::order::repeated;
use crate::{Code, Error};

/// One JSON value. Borrows the text that has no escapes.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number from 0.
    Unsigned(u64),
    /// A whole number below 0.
    Negative(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    Text(Cow<'a, str>),
    /// An array.
    List(Vec<Json<'a>>),
    /// An object: its keys in their order, with those that repeat.
    Object(Vec<(Cow<'a, str>, Json<'a>)>),
}

impl<'a> Json<'a> {
    /// Parses one document, with nothing behind it.
    ///
    /// # Errors
    /// What is no JSON, and lists in more than 127 lists.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The value of a key of an object; `None` where there is none.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Json<'a>> {
        match self {
            Json::Object(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The position of a text in `names`.
    ///
    /// # Errors
    /// A value of another kind, or another text.
    pub fn one_of(&self, names: &[&str]) -> Result<usize, Mismatch> {
        let found = match self {
            Json::Text(text) => names.iter().position(|name| name == text),
            _ => None,
        };
        found.ok_or_else(|| {
            let mut expected = String::new();
            for name in names {
                expected.push_str(if expected.is_empty() { "" } else { " | " });
                expected.push_str(name);
            }
            Mismatch::new(expected, self)
        })
    }

    /// What the value is, in a few words.
    #[must_use]
    pub fn describe(&self) -> String {
        /// Longer texts are cut.
        const LONGEST: usize = 80;
        match self {
            Json::Null => "null".to_owned(),
            Json::Bool(value) => value.to_string(),
            Json::Unsigned(value) => value.to_string(),
            Json::Negative(value) => value.to_string(),
            Json::Float(_) => "a number with a fraction or an exponent".to_owned(),
            Json::Text(text) => quoted(&text.chars().take(LONGEST).collect::<String>()),
            Json::List(_) => "a list".to_owned(),
            Json::Object(_) => "an object".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json<'de>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_none<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Json<'de>, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(u64::try_from(value).map_or(Json::Negative(value), Json::Unsigned))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Json::Float(value))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json<'de>, A::Error> {
        let mut out = Vec::new();
        while let Some(value) = list.next_element()? {
            out.push(value);
        }
        Ok(Json::List(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Json<'de>, A::Error> {
        let mut out = Vec::new();
        while let Some(key) = object.next_key()? {
            // Other formats have keys that are no text.
            let key = match key {
                Json::Text(key) => key,
                other => Cow::Owned(other.describe()),
            };
            out.push((key, object.next_value()?));
        }
        Ok(Json::Object(out))
    }
}

/// The shortest text that reads back as `value`. The formatting of the standard library would be ten kilobytes of a page's download.
#[must_use]
pub fn float_text(value: f32) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        value if value.is_infinite() => if value > 0.0 { "inf" } else { "-inf" }.to_owned(),
        value => to_text(&value),
    }
}

/// `text` in quotation marks, as JSON has it. The escapes of `{:?}` would be two kilobytes of a page's download.
#[must_use]
pub fn quoted(text: &str) -> String {
    to_text(text)
}

/// JSON of a value that always has one: strings as keys, no maps of other things.
///
/// # Panics
/// For other values.
pub(crate) fn to_text<T: serde::Serialize + ?Sized>(value: &T) -> String {
    // Without the error, whose formatting nobody would ever see.
    serde_json::to_string(value).unwrap_or_else(|_| panic!("a value that JSON cannot hold"))
}

/// A value that is not what a type is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    /// Keys and positions from the inside out, such as `max_limit` or `[3]`.
    path: Vec<Cow<'static, str>>,
    expected: Cow<'static, str>,
    found: String,
}

impl Mismatch {
    /// `value` where `expected` should be.
    #[must_use]
    pub fn new(expected: impl Into<Cow<'static, str>>, value: &Json<'_>) -> Self {
        Self::found(expected, value.describe())
    }

    fn found(expected: impl Into<Cow<'static, str>>, found: impl Into<String>) -> Self {
        Self(Box::new(Parts { path: Vec::new(), expected: expected.into(), found: found.into() }))
    }

    fn under(mut self, step: impl Into<Cow<'static, str>>) -> Self {
        self.0.path.push(step.into());
        self
    }

    fn at(self, position: usize) -> Self {
        self.under(format!("[{position}]"))
    }

    /// Where it is, such as `files.items.bytes`; empty for the document.
    #[must_use]
    pub fn path(&self) -> String {
        let mut out = String::new();
        for step in self.0.path.iter().rev() {
            if !out.is_empty() && !step.starts_with('[') {
                out.push('.');
            }
            out.push_str(step);
        }
        out
    }

    /// The typed error of `what`.
    #[must_use]
    pub fn into_error(self, code: Code, what: &str) -> Error {
        let place = match self.path() {
            path if path.is_empty() => String::new(),
            path => format!(" at {path}"),
        };
        Error::new(code, format!("{what} cannot be decoded"))
            .expected(&self.0.expected)
            .found(self.0.found.clone() + &place)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path();
        if !path.is_empty() {
            write!(out, "{path}: ")?;
        }
        write!(out, "expected {}, found {}", self.0.expected, self.0.found)
    }
}

impl std::error::Error for Mismatch {}

/// A type that is read from JSON, strictly: no conversions, no unknown keys.
pub trait FromJson: Sized {
    /// Reads a value.
    ///
    /// # Errors
    /// A value of another kind, one out of range, a missing key, a key that is not known or is there twice.
    fn from_json(value: Json<'_>) -> Result<Self, Mismatch>;

    /// What an absent key stands for; `None` where the key must be there.
    fn absent() -> Option<Self> {
        None
    }
}

/// The keys of an object that have not been read.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Fields<'a> {
    /// Those of an object.
    ///
    /// # Errors
    /// A value of another kind.
    pub fn of(value: Json<'a>) -> Result<Self, Mismatch> {
        match value {
            Json::Object(entries) => Ok(Self(entries)),
            other => Err(Mismatch::new("an object", &other)),
        }
    }

    fn find(&mut self, name: &str) -> Option<Json<'a>> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// A missing key, or what its value is refused for.
    pub fn take<T: FromJson>(&mut self, name: &'static str) -> Result<T, Mismatch> {
        match self.find(name) {
            Some(value) => T::from_json(value).map_err(|wrong| wrong.under(name)),
            None => T::absent().ok_or_else(|| Mismatch::found("a value", "nothing").under(name)),
        }
    }

    /// Reads a key whose value is one of `names`; gives its position.
    ///
    /// # Errors
    /// A missing key, or another value.
    pub fn take_one_of(&mut self, name: &'static str, names: &[&str]) -> Result<usize, Mismatch> {
        self.find(name).unwrap_or(Json::Null).one_of(names).map_err(|wrong| wrong.under(name))
    }

    /// Reads a key that may be absent or `null`, which is the same.
    ///
    /// # Errors
    /// What its value is refused for.
    pub fn take_or<T: FromJson>(&mut self, name: &'static str, default: T) -> Result<T, Mismatch> {
        Ok(self.take::<Option<T>>(name)?.unwrap_or(default))
    }

    /// No key may be left.
    ///
    /// # Errors
    /// The first one that is.
    pub fn finish(self) -> Result<(), Mismatch> {
        match self.0.first() {
            Some((key, _)) => {
                Err(Mismatch::found("known keys, each once", format!("the key {}", quoted(key))))
            }
            None => Ok(()),
        }
    }
}

fn whole(value: &Json<'_>, least: i64, most: u64) -> Result<i128, Mismatch> {
    let number = match value {
        Json::Unsigned(number) => Some(i128::from(*number)),
        Json::Negative(number) => Some(i128::from(*number)),
        _ => None,
    };
    number
        .filter(|number| (i128::from(least)..=i128::from(most)).contains(number))
        .ok_or_else(|| Mismatch::new(format!("a whole number from {least} to {most}"), value))
}

macro_rules! whole_numbers {
    ($($type:ty),*) => {
        $(impl FromJson for $type {
            fn from_json(value: Json<'_>) -> Result<Self, Mismatch> {
                // In range, as it was checked to be.
                Ok(whole(&value, <$type>::MIN as i64, <$type>::MAX as u64)? as $type)
            }
        })*
    };
}

whole_numbers!(u8, u16, u32, u64, usize, i64);

impl FromJson for bool {
    fn from_json(value: Json<'_>) -> Result<Self, Mismatch> {
        match value {
            Json::Bool(value) => Ok(value),
            other => Err(Mismatch::new("true or false", &other)),
        }
    }
}

impl FromJson for f64 {
    fn from_json(value: Json<'_>) -> Result<Self, Mismatch> {
        match value {
            Json::Unsigned(number) => Ok(number as f64),
            Json::Negative(number) => Ok(number as f64),
            Json::Float(number) => Ok(number),
            other => Err(Mismatch::new("a number", &other)),
        }
    }
}

/// A number beyond the largest f32 is infinite.
impl FromJson for f32 {
    fn from_json(value: Json<'_>) -> Result<Self, Mismatch> {
        f64::from_json(value).map(|number| number as f32)
    }
}

impl FromJson for String {
    fn from_json(value: Json<'_>) -> Result<Self, Mismatch> {
        match value {
            Json::Text(text) => Ok(text.into_owned()),
            other => Err(Mismatch::new("a text", &other)),
        }
    }
}

impl<T: FromJson> FromJson for Option<T> {
    fn from_json(value: Json<'_>) -> Result<Self, Mismatch> {
        match value {
            Json::Null => Ok(None),
            value => T::from_json(value).map(Some),
        }
    }

    fn absent() -> Option<Self> {
        Some(None)
    }
}

fn list(value: Json<'_>) -> Result<Vec<Json<'_>>, Mismatch> {
    match value {
        Json::List(values) => Ok(values),
        other => Err(Mismatch::new("a list", &other)),
    }
}

impl<T: FromJson> FromJson for Vec<T> {
    fn from_json(value: Json<'_>) -> Result<Self, Mismatch> {
        let values = list(value)?;
        let mut out = Vec::with_capacity(values.len());
        for value in values {
            out.push(T::from_json(value).map_err(|wrong| wrong.at(out.len()))?);
        }
        Ok(out)
    }
}

impl<T: FromJson, const N: usize> FromJson for [T; N] {
    fn from_json(value: Json<'_>) -> Result<Self, Mismatch> {
        let values = Vec::from_json(value)?;
        let found = values.len();
        values.try_into().map_err(|_| Mismatch::found(format!("a list of {N}"), format!("a list of {found}")))
    }
}

impl<K: FromJson + Ord, V: FromJson> FromJson for BTreeMap<K, V> {
    fn from_json(value: Json<'_>) -> Result<Self, Mismatch> {
        let mut out = Self::new();
        let fields = Fields::of(value)?;
        let names: Vec<&str> = fields.0.iter().map(|(name, _)| name.as_ref()).collect();
        if let Some(name) = repeated(&names) {
            return Err(Mismatch::found("keys that differ", format!("the key {} twice", quoted(name))));
        }
        for (name, value) in fields.0 {
            let key = K::from_json(Json::Text(name.clone()))?;
            let value = V::from_json(value).map_err(|wrong| wrong.under(name.into_owned()))?;
            out.insert(key, value);
        }
        Ok(out)
    }
}

/// Reads a struct from an object with exactly its fields as keys; keys of `Option`s may be absent. With `or default` each key may be
/// absent or `null`, and stands for that field of the default then.
#[macro_export]
macro_rules! json_object {
    ($type:ident { $($field:ident),* $(,)? }) => {
        impl $crate::FromJson for $type {
            fn from_json(value: $crate::Json<'_>) -> Result<Self, $crate::Mismatch> {
                let mut fields = $crate::Fields::of(value)?;
                let out = Self { $($field: fields.take(stringify!($field))?),* };
                fields.finish().map(|()| out)
            }
        }
        $crate::deserialize_from_json!($type);
    };
    ($type:ident { $($field:ident),* $(,)? } or default) => {
        impl $crate::FromJson for $type {
            fn from_json(value: $crate::Json<'_>) -> Result<Self, $crate::Mismatch> {
                let mut fields = $crate::Fields::of(value)?;
                let default = Self::default();
                let out = Self { $($field: fields.take_or(stringify!($field), default.$field)?),* };
                fields.finish().map(|()| out)
            }
        }
        $crate::deserialize_from_json!($type);
    };
}

/// Reads and writes an enum without values as the names of its variants. With `or default` an absent key stands for the default.
#[macro_export]
macro_rules! json_names {
    ($type:ident { $($variant:ident = $name:literal),* $(,)? } or default) => {
        $crate::json_names!(@ $type { $($variant = $name),* } { Some(Self::default()) });
    };
    ($type:ident { $($variant:ident = $name:literal),* $(,)? }) => {
        $crate::json_names!(@ $type { $($variant = $name),* } { None });
    };
    (@ $type:ident { $($variant:ident = $name:literal),* } $absent:block) => {
        impl $type {
            /// Every variant with its name.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $name)),*];

            /// The name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),*
                }
            }
        }

        impl $crate::FromJson for $type {
            fn from_json(value: $crate::Json<'_>) -> Result<Self, $crate::Mismatch> {
                let names = [$($name),*];
                Ok(Self::ALL[value.one_of(&names)?].0)
            }

            fn absent() -> Option<Self> $absent
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }
        $crate::deserialize_from_json!($type);
    };
}

/// Lets serde read a type as [`FromJson`](crate::FromJson) does, from formats that say what their values are, as JSON and TOML do.
#[doc(hidden)]
#[macro_export]
macro_rules! deserialize_from_json {
    ($type:ty) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let value = <$crate::Json<'_> as serde::Deserialize>::deserialize(from)?;
                $crate::FromJson::from_json(value).map_err(serde::de::Error::custom)
            }
        }
    };
}

#[cfg(test)]
#[expect(unreachable_pub, reason = "macros write for crates")]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Colour {
        Red,
        Blue,
    }
    json_names!(Colour { Red = "red", Blue = "blue" });

    #[derive(Debug, PartialEq)]
    struct Point {
        x: f32,
        name: Option<String>,
        colours: Vec<Colour>,
    }
    json_object!(Point { x, name, colours });

    fn read(text: &str) -> Result<Point, String> {
        let tree = Json::parse(text.as_bytes()).map_err(|error| error.to_string())?;
        Point::from_json(tree).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn objects_are_read_strictly_and_errors_say_where() {
        let point = Point { x: 1.0, name: None, colours: vec![Colour::Red, Colour::Blue] };
        assert_eq!(read(r#"{"colours":["red","blue"],"x":1}"#).unwrap(), point);
        assert!(read(r#"{"colours":[],"x":1e999999999,"name":"a\n"}"#).unwrap_err().contains("range"));
        for (text, expected) in [
            (r#"[1,null,[]]"#, "expected an object, found a list"),
            (r#"{"x":1}"#, "colours: expected a value, found nothing"),
            (r#"{"x":"1","colours":[]}"#, r#"x: expected a number, found "1""#),
            (r#"{"x":1,"colours":["red","green"]}"#, r#"colours[1]: expected red | blue, found "green""#),
            (r#"{"x":1,"colours":[],"y":2}"#, r#"expected known keys, each once, found the key "y""#),
            (r#"{"x":1,"colours":[],"x":2}"#, r#"expected known keys, each once, found the key "x""#),
        ] {
            assert_eq!(read(text).unwrap_err(), expected, "{text}");
        }
    }

    #[test]
    fn floats_have_their_shortest_text() {
        assert_eq!([0.1, -2.5, f32::INFINITY].map(float_text), ["0.1", "-2.5", "inf"]);
    }

    #[test]
    fn whole_numbers_are_in_range_and_keys_are_there_once() {
        let value = |text: &'static str| Json::parse(text.as_bytes()).unwrap();
        assert_eq!(u8::from_json(value("255")), Ok(255));
        assert_eq!(i64::from_json(value("-9223372036854775808")), Ok(i64::MIN));
        assert_eq!(u64::from_json(value("18446744073709551615")), Ok(u64::MAX));
        for (wrong, text) in [
            (u8::from_json(value("256")).map(u64::from), "expected a whole number from 0 to 255, found 256"),
            (u8::from_json(value("-1")).map(u64::from), "expected a whole number from 0 to 255, found -1"),
            (u64::from_json(value("1.0")), "a number with a fraction or an exponent"),
            (u64::from_json(value("18446744073709551616")), "a number with a fraction or an exponent"),
        ] {
            assert!(wrong.clone().unwrap_err().to_string().contains(text), "{wrong:?}");
        }
        type Map = BTreeMap<String, u8>;
        assert!(Map::from_json(value(r#"{"a":1,"b":2}"#)).is_ok());
        assert_eq!(Map::from_json(value(r#"{"a":1,"b":-2}"#)).unwrap_err().path(), "b");
        assert!(Map::from_json(value(r#"{"a":1,"a":2}"#)).is_err());
        assert!(<[u8; 2]>::from_json(value("[1,2]")).is_ok() && <[u8; 2]>::from_json(value("[1]")).is_err());
    }
}
