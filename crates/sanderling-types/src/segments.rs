//! What the fallback lists of segments begin with, see `docs/formats/segments.md`.

use serde::Serialize;

use crate::json::to_text;
use crate::order::first_repeat;
use crate::{Code, Context, Error, Result, decode_json, json_object};

/// The users of one value of a context key, such as those of one country, and what they choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Rows of items, without repeats, in the order in which they are listed.
    pub items: Vec<u32>,
    /// The key of [`Request::context`](crate::Request::context).
    pub key: String,
    /// The value of that key.
    pub value: String,
}
json_object!(Segment { items, key, value });

/// The content of `segments.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Segments {
    /// [`crate::FORMAT_VERSION`].
    pub format_version: u32,
    /// Segments in the order in which a request's context is compared with them.
    pub segments: Vec<Segment>,
}
json_object!(Segments { format_version, segments });

impl Default for Segments {
    fn default() -> Self {
        Self { format_version: crate::FORMAT_VERSION, segments: Vec::new() }
    }
}

impl Segments {
    /// Largest accepted encoding.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// Decodes and checks `segments.json` of a bundle of `num_items` items.
    ///
    /// # Errors
    /// [`Code::LimitExceeded`], [`Code::UnsupportedFormatVersion`]; [`Code::SegmentsInvalid`] for a segment that is there
    /// twice, or one without items, with an item twice or with one out of range.
    pub fn decode(bytes: &[u8], num_items: usize) -> Result<Self> {
        let out: Self = decode_json(bytes, Self::MAX_BYTES, "segments.json", Code::SegmentsInvalid)?;
        let all = &out.segments;
        let name = |at: usize| (&all[at].key, &all[at].value);
        let repeated = first_repeat(all.len(), &|a, b| name(a).cmp(&name(b)));
        let is_sound = |segment: &Segment| {
            let items = &segment.items;
            !items.is_empty()
                && items.iter().all(|item| (*item as usize) < num_items)
                && first_repeat(items.len(), &|a, b| items[a].cmp(&items[b])).is_none()
        };
        match repeated.or_else(|| all.iter().position(|segment| !is_sound(segment))) {
            Some(at) => {
                let message = "segments.json repeats itself or lists what is not there";
                Err(Error::new(Code::SegmentsInvalid, message).found(format!("segments[{at}]")))
            }
            None => Ok(out),
        }
    }

    /// Canonical bytes.
    ///
    /// # Panics
    /// Never: segments hold only JSON-encodable values.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_text(self).into_bytes()
    }

    /// Items of the first segment that a request with `context` is of; none for one of no segment.
    #[must_use]
    pub fn of(&self, context: &Context) -> &[u32] {
        let is_of = |segment: &&Segment| context.get(&segment.key) == Some(&segment.value);
        self.segments.iter().find(is_of).map_or(&[], |segment| &segment.items)
    }

    /// The same with other rows; without the items that have none, and the segments that have no other.
    #[must_use]
    pub fn moved(&self, row: impl Fn(u32) -> Option<u32>) -> Self {
        let moved = self.segments.iter().map(|segment| Segment {
            items: segment.items.iter().filter_map(|item| row(*item)).collect(),
            ..segment.clone()
        });
        Self { segments: moved.filter(|segment| !segment.items.is_empty()).collect(), ..self.clone() }
    }

    /// Different keys, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.segments.iter().map(|segment| segment.key.as_str()).collect();
        // Segments of one key follow each other.
        keys.dedup();
        keys
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn segments(all: &[(&str, &str, &[u32])]) -> Segments {
        let segment = |(key, value, items): &(&str, &str, &[u32])| Segment {
            items: items.to_vec(),
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        Segments { segments: all.iter().map(segment).collect(), ..Segments::default() }
    }

    fn sample() -> Segments {
        segments(&[("country", "se", &[4, 2]), ("country", "no", &[1]), ("device", "se", &[3, 0])])
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for all in [sample(), Segments::default()] {
            assert_eq!(Segments::decode(&all.encode(), 5).unwrap(), all);
        }
    }

    #[test]
    fn the_first_segment_of_the_context_counts() {
        let of = |context: &[(&str, &str)]| {
            let context = context.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            sample().of(&context.collect()).to_vec()
        };
        assert_eq!(of(&[("device", "se"), ("country", "se")]), [4, 2]);
        assert_eq!(of(&[("device", "se"), ("country", "dk")]), [3, 0], "a value without a list says nothing");
        assert_eq!(of(&[("device", "no"), ("town", "se")]), [0; 0]);
        assert_eq!(sample().keys(), ["country", "device"]);
    }

    #[test]
    fn rows_move_and_what_is_left_out_leaves_no_empty_segment() {
        let first = |num_items: u32| sample().moved(move |item| (item < num_items).then_some(item));
        assert_eq!(
            first(3),
            segments(&[("country", "se", &[2]), ("country", "no", &[1]), ("device", "se", &[0])])
        );
        assert_eq!(first(1), segments(&[("device", "se", &[0])]));
        let turned = sample().moved(|item| 4_u32.checked_sub(item));
        assert_eq!(turned.segments[0].items, [0, 2]);
    }

    #[test]
    fn segments_that_cannot_be_listed_are_refused() {
        let code = |bytes: &[u8]| Segments::decode(bytes, 5).unwrap_err().code();
        for (at, wrong) in [
            (0, segments(&[("country", "se", &[])])),
            (1, segments(&[("country", "no", &[1]), ("country", "se", &[5])])),
            (0, segments(&[("country", "se", &[u32::MAX])])),
            (1, segments(&[("country", "no", &[1]), ("country", "se", &[1, 0, 1])])),
            (0, segments(&[("country", "se", &[1]), ("device", "se", &[1]), ("country", "se", &[2])])),
        ] {
            let error = Segments::decode(&wrong.encode(), 5).unwrap_err();
            assert_eq!(error.code(), Code::SegmentsInvalid, "{wrong:?}");
            assert_eq!(error.found_value(), Some(format!("segments[{at}]").as_str()), "{wrong:?}");
        }
        for wrong in [
            r#"{"format_version":1}"#,
            r#"{"format_version":1,"segments":{}}"#,
            r#"{"format_version":1,"segments":[],"more":1}"#,
            r#"{"format_version":1,"segments":[{"items":[-1],"key":"a","value":"b"}]}"#,
            r#"{"format_version":1,"segments":[{"items":[1],"key":"a","value":null}]}"#,
            "[]",
            "",
        ] {
            assert_eq!(code(wrong.as_bytes()), Code::SegmentsInvalid, "{wrong}");
        }
        let later = Segments { format_version: 2, ..sample() };
        assert_eq!(code(&later.encode()), Code::UnsupportedFormatVersion);
        assert_eq!(code(&vec![b' '; Segments::MAX_BYTES + 1]), Code::LimitExceeded);
    }
}
