//! The shared session: what a device sends of a session whose user chose to share it.

use serde::{Deserialize, Serialize};

use crate::json::to_text;
use crate::{
    Code, Error, FORMAT_VERSION, ItemId, ReportStatus, Result, SessionInteraction, Sha256Hash, decode_json,
    json_object,
};

/// One interaction as it is shared: on what, and what was done. Not when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedInteraction {
    /// On what.
    pub item_id: ItemId,
    /// What was done.
    pub kind: String,
}
json_object!(SharedInteraction { item_id, kind });

impl From<&SessionInteraction> for SharedInteraction {
    fn from(interaction: &SessionInteraction) -> Self {
        Self { item_id: interaction.item_id.clone(), kind: interaction.kind.clone() }
    }
}

impl SharedInteraction {
    /// Longest item id, in characters: no shorter than what a page accepts.
    pub const MAX_ITEM_ID_CHARS: usize = 512;
    /// Longest kind.
    pub const MAX_KIND_CHARS: usize = 32;

    fn has_item_id(&self) -> bool {
        let id = self.item_id.as_str();
        !id.is_empty() && id.chars().count() <= Self::MAX_ITEM_ID_CHARS
    }

    /// A kind is a word of the shop, not a text: nobody's words leave by it.
    fn has_kind(&self) -> bool {
        let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        (1..=Self::MAX_KIND_CHARS).contains(&self.kind.len()) && self.kind.bytes().all(is_plain)
    }
}

/// What a user who chose so shares of one session, as training data: its items in their order. It is not noised, so it is
/// bounded and coarse instead: no user, no device, no times but the day, no values, nothing that ties it to another session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SharedSession {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// 32 hex digits drawn for this session alone, so that it is counted once.
    pub session_id: String,
    /// The bundle that the device had.
    pub bundle_sha256: Sha256Hash,
    /// Start of the UTC day in which the session ended, in Unix seconds: see [`SharedSession::day_of`].
    pub day: i64,
    /// The newest interactions, oldest first.
    pub interactions: Vec<SharedInteraction>,
    /// Spaces that leave little of the session's length to see.
    pub padding: String,
}
json_object!(SharedSession { format_version, session_id, bundle_sha256, day, interactions, padding });

impl SharedSession {
    /// Largest accepted encoding.
    pub const MAX_BYTES: usize = 8192;
    /// Every encoding is a multiple of this long.
    pub const PADDED_BYTES: usize = 1024;
    /// Most interactions.
    pub const MAX_INTERACTIONS: usize = 50;
    /// Length of a day.
    pub const DAY_SECONDS: u32 = 86_400;

    /// Start of the UTC day of a time in Unix seconds.
    #[must_use]
    pub fn day_of(time: i64) -> i64 {
        time.saturating_sub(time.rem_euclid(i64::from(Self::DAY_SECONDS)))
    }

    /// The newest of `interactions` (oldest first) that fit into the format's bounds, padded. Those whose item id or kind the
    /// format does not hold are left out.
    ///
    /// # Errors
    /// [`Code::ReportInvalid`] where none is left, and for an id or a day that is none.
    pub fn of_newest(
        session_id: String,
        bundle_sha256: Sha256Hash,
        day: i64,
        mut interactions: Vec<SharedInteraction>,
    ) -> Result<Self> {
        interactions.retain(|interaction| interaction.has_item_id() && interaction.has_kind());
        let mut session = Self {
            format_version: FORMAT_VERSION,
            session_id,
            bundle_sha256,
            day,
            interactions: Vec::new(),
            padding: String::new(),
        };
        let mut left = Self::MAX_BYTES.saturating_sub(session.encode().len());
        let mut first = interactions.len();
        while first > 0 && interactions.len() - first < Self::MAX_INTERACTIONS {
            // With the comma, which the last one does not have.
            let len = to_text(&interactions[first - 1]).len() + 1;
            let Some(rest) = left.checked_sub(len) else { break };
            (left, first) = (rest, first - 1);
        }
        session.interactions = interactions.split_off(first);
        session.check()?;
        session.pad()?;
        Ok(session)
    }

    /// Decodes one session and checks everything that needs no knowledge of the bundle.
    ///
    /// # Errors
    /// [`Code::ReportTooLarge`], [`Code::UnsupportedFormatVersion`] or [`Code::ReportInvalid`].
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(too_large(bytes.len()));
        }
        let session: Self = decode_json(bytes, Self::MAX_BYTES, "session", Code::ReportInvalid)?;
        session.check()?;
        if !bytes.len().is_multiple_of(Self::PADDED_BYTES) {
            return Err(Error::new(Code::ReportInvalid, "the session is not padded")
                .expected(format!("a multiple of {} bytes", Self::PADDED_BYTES))
                .found(format!("{} bytes", bytes.len())));
        }
        Ok(session)
    }

    /// Bytes as sent.
    ///
    /// # Panics
    /// Never: a session holds only JSON-encodable values.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_text(self).into_bytes()
    }

    /// Fills `padding` so that the length of the encoding is the next multiple of [`Self::PADDED_BYTES`].
    ///
    /// # Errors
    /// [`Code::ReportTooLarge`] when the session is longer than [`Self::MAX_BYTES`] without any padding.
    pub fn pad(&mut self) -> Result<()> {
        self.padding.clear();
        let len = self.encode().len();
        if len > Self::MAX_BYTES {
            return Err(too_large(len));
        }
        self.padding = " ".repeat(len.next_multiple_of(Self::PADDED_BYTES) - len);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let invalid = |what: &str| Err(Error::new(Code::ReportInvalid, format!("the session's {what}")));
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if self.session_id.len() != 32 || !self.session_id.chars().all(hex) {
            return invalid("session_id is not 32 lower-case hex digits");
        }
        if self.day < 0 || self.day != Self::day_of(self.day) {
            return invalid("day is not the start of a day");
        }
        if !(1..=Self::MAX_INTERACTIONS).contains(&self.interactions.len()) {
            return invalid("interactions are none or too many");
        }
        if !self.interactions.iter().all(SharedInteraction::has_item_id) {
            return invalid("interactions have an item_id that is empty or too long");
        }
        if !self.interactions.iter().all(SharedInteraction::has_kind) {
            return invalid("interactions have a kind that is not a short plain word");
        }
        if self.padding.bytes().any(|byte| byte != b' ') {
            return invalid("padding holds something other than spaces");
        }
        debug_assert_eq!(self.format_version, FORMAT_VERSION);
        Ok(())
    }
}

fn too_large(len: usize) -> Error {
    Error::new(Code::ReportTooLarge, "the session is too large")
        .expected(format!("at most {} bytes", SharedSession::MAX_BYTES))
        .found(format!("{len} bytes"))
}

/// The collector's answer to an acknowledged session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedSessionReceipt {
    /// The id of the session.
    pub session_id: String,
    /// What was done.
    pub status: ReportStatus,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 20_000 * 86_400;

    fn interaction(item_id: &str, kind: &str) -> SharedInteraction {
        SharedInteraction { item_id: item_id.into(), kind: kind.to_owned() }
    }

    fn session(interactions: Vec<SharedInteraction>) -> Result<SharedSession> {
        SharedSession::of_newest("0f".repeat(16), Sha256Hash::of(b"bundle"), DAY, interactions)
    }

    #[test]
    fn the_newest_that_fit_are_kept_in_their_order() {
        let many: Vec<_> = (0..70).map(|number| interaction(&format!("item-{number}"), "view")).collect();
        assert_eq!(session(many.clone()).unwrap().interactions, many[20..]);
        let long: Vec<_> =
            (0..70).map(|number| interaction(&format!("{number:0500}"), "add-to-cart")).collect();
        let kept = session(long.clone()).unwrap();
        assert_eq!(kept.interactions, long[70 - kept.interactions.len()..]);
        assert_eq!(kept.encode().len(), SharedSession::MAX_BYTES);
        assert!(kept.padding.len() < 550, "one more would not have fitted");
        // An id that takes six bytes a character still fits.
        let longest = interaction(&"\u{1}".repeat(SharedInteraction::MAX_ITEM_ID_CHARS), "view");
        assert_eq!(session(vec![longest.clone()]).unwrap().interactions, [longest]);
    }

    #[test]
    fn what_the_format_does_not_hold_is_left_out() {
        let good = [interaction("a", "view"), interaction("b", "cart_2-x")];
        let bad = ["", "View", "my own words", "é", &"v".repeat(33)].map(|kind| interaction("c", kind));
        let bad_ids = ["", &"i".repeat(513)].map(|id| interaction(id, "view"));
        let [first, second] = good.clone();
        let mixed = [&[first][..], &bad, &bad_ids, &[second]].concat();
        assert_eq!(session(mixed).unwrap().interactions, good);
        for none in [Vec::new(), bad.to_vec(), bad_ids.to_vec()] {
            assert_eq!(session(none).unwrap_err().code(), Code::ReportInvalid);
        }
    }

    #[test]
    fn nothing_finer_than_a_day_is_there() {
        assert_eq!([DAY, DAY + 86_399, DAY + 86_400].map(SharedSession::day_of), [DAY, DAY, DAY + 86_400]);
        assert_eq!(SharedSession::day_of(-1), -86_400);
        for day in [DAY + 1, -86_400, i64::MIN, i64::MAX] {
            let hash = Sha256Hash::of(b"bundle");
            let made = SharedSession::of_newest("0f".repeat(16), hash, day, vec![interaction("a", "view")]);
            assert_eq!(made.unwrap_err().code(), Code::ReportInvalid, "{day}");
        }
        let timed =
            SessionInteraction { item_id: "a".into(), kind: "view".to_owned(), timestamp: DAY + 12_345 };
        let text = String::from_utf8(session(vec![(&timed).into()]).unwrap().encode()).unwrap();
        assert!(!text.contains("timestamp") && !text.contains("12345"), "{text}");
    }

    fn interactions() -> impl Strategy<Value = Vec<SharedInteraction>> {
        let item_id = prop_oneof![any::<String>(), "[a-z0-9]{1,12}", ".{500,520}"];
        let kind = prop_oneof!["[a-z0-9_-]{1,32}", any::<String>()];
        let one = (item_id, kind).prop_map(|(item_id, kind)| interaction(&item_id, &kind));
        proptest::collection::vec(one, 0..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_is_made_is_bounded_padded_and_read_back(interactions in interactions()) {
            let holds = |one: &SharedInteraction| one.has_item_id() && one.has_kind();
            match session(interactions.clone()) {
                Ok(made) => {
                    let bytes = made.encode();
                    prop_assert!(bytes.len() <= SharedSession::MAX_BYTES);
                    prop_assert_eq!(bytes.len() % SharedSession::PADDED_BYTES, 0);
                    prop_assert!(made.padding.len() < SharedSession::PADDED_BYTES);
                    prop_assert_eq!(&SharedSession::decode(&bytes).unwrap(), &made);
                    // Made again of what was kept, it is the same: nothing is lost on the way to a trainer.
                    prop_assert_eq!(&session(made.interactions.clone()).unwrap(), &made);
                }
                Err(error) => {
                    prop_assert_eq!(error.code(), Code::ReportInvalid);
                    prop_assert!(!interactions.iter().any(holds));
                }
            }
        }

        #[test]
        fn a_changed_session_is_refused_or_read_as_it_is(
            interactions in interactions(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
        ) {
            let Ok(made) = session(interactions) else { return Ok(()) };
            let mut bytes = made.encode();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = byte }
            match SharedSession::decode(&bytes) {
                Ok(mut read) => {
                    prop_assert!(!cut, "a session that was cut is refused");
                    // Its own encoding may be shorter: a text that needed an escape may need none any more.
                    read.pad().unwrap();
                    prop_assert_eq!(SharedSession::decode(&read.encode()).unwrap(), read);
                }
                Err(error) => prop_assert!(
                    [Code::ReportInvalid, Code::UnsupportedFormatVersion].contains(&error.code()), "{}", error
                ),
            }
        }
    }
}
