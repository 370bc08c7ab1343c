//! SHA-256 as a value.

use std::fmt;
use std::num::NonZeroUsize;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::{FromJson, Json, Mismatch};

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256Hash([u8; 32]);

impl Sha256Hash {
    /// A digest that was computed elsewhere.
    #[must_use]
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Hashes `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Hashes the hashes of the pieces of `bytes`, one behind the other: a tree of two levels (Merkle, "A Digital Signature Based on a
    /// Conventional Encryption Function", CRYPTO '87), for hosts that hash many small buffers faster than a large one.
    #[must_use]
    pub fn of_pieces(bytes: &[u8], piece_bytes: NonZeroUsize) -> Self {
        let mut root = Sha256::new();
        bytes.chunks(piece_bytes.get()).for_each(|piece| root.update(Sha256::digest(piece)));
        Self(root.finalize().into())
    }

    /// The digest itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
        }
        Some(Self(out))
    }
}

const HEX_DIGITS: &[u8; 16] = b"0123456789abcdef";

fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Sha256Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In one text: the formatting of single bytes would be more code for a page to compile before its first list.
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[HEX_DIGITS[usize::from(byte >> 4)], HEX_DIGITS[usize::from(byte & 0xF)]]);
        }
        f.write_str(str::from_utf8(&digits).unwrap_or_default())
    }
}

impl fmt::Debug for Sha256Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256Hash({self})")
    }
}

impl Serialize for Sha256Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromJson for Sha256Hash {
    fn from_json(value: Json<'_>) -> Result<Self, Mismatch> {
        let parsed = match &value {
            Json::Text(text) => Self::parse(text),
            _ => None,
        };
        parsed.ok_or_else(|| Mismatch::new("64 lower-case hex digits", &value))
    }
}

/// From a text in any format: trainers keep hashes in checkpoints that are not JSON.
impl<'de> Deserialize<'de> for Sha256Hash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::from_json(Json::Text(text.into())).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{NonZeroUsize, Sha256Hash};

    #[test]
    fn hashes_the_published_vector_and_round_trips() {
        let hash = Sha256Hash::of(b"abc");
        assert_eq!(hash.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(Sha256Hash::parse(&hash.to_string()), Some(hash));
        assert_eq!(Sha256Hash::parse(&hash.to_string().to_uppercase()), None);
    }

    #[test]
    fn pieces_are_hashed_by_themselves_and_then_their_hashes() {
        let two = |text: &[u8]| Sha256Hash::of_pieces(text, NonZeroUsize::new(2).unwrap());
        let root = |pieces: &[&[u8]]| {
            let digests: Vec<[u8; 32]> =
                pieces.iter().map(|piece| *Sha256Hash::of(piece).as_bytes()).collect();
            Sha256Hash::of(digests.as_flattened())
        };
        assert_eq!(two(b"abc"), root(&[b"ab", b"c"]));
        assert_eq!(two(b"abcd"), root(&[b"ab", b"cd"]));
        assert_eq!(two(b"a"), root(&[b"a"]));
        assert_eq!(two(b""), Sha256Hash::of(b""));
    }
}
