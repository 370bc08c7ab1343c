//! The secret of administrators.

use std::fmt;

use sanderling_types::{Code, Error, Result, Sha256Hash};
use subtle::ConstantTimeEq as _;

/// Fewest characters of a token; with that many nobody guesses it over a network.
const MIN_LEN: usize = 16;

/// What a request to the admin listener has to carry as `Authorization: Bearer …`. Only its hash is kept.
#[derive(Clone)]
pub struct AdminToken(Sha256Hash);

impl AdminToken {
    /// The token of a text; white space around it does not count.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] under 16 characters, or with a character that cannot be in a header.
    pub fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.len() < MIN_LEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            // The text itself is a secret, so it is not evidence.
            return Err(Error::new(Code::InvalidArgument, "the admin token cannot be used")
                .expected(format!("at least {MIN_LEN} visible ASCII characters"))
                .found(format!("{} bytes", text.len()))
                .hint("make one with: openssl rand -hex 32"));
        }
        Ok(Self(Sha256Hash::of(text.as_bytes())))
    }

    /// Whether `text` is this token, in a time that says nothing of how much of it is right.
    pub(crate) fn is(&self, text: &str) -> bool {
        Sha256Hash::of(text.as_bytes()).as_bytes()[..].ct_eq(&self.0.as_bytes()[..]).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::AdminToken;

    #[test]
    fn only_the_same_text_is_the_token() {
        let token = AdminToken::new(" 0123456789abcdef\n").unwrap();
        assert!(token.is("0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdeF", "0123456789abcdef0"] {
            assert!(!token.is(other), "{other:?}");
        }
        assert_eq!(format!("{token:?}"), "AdminToken(…)");
    }

    #[test]
    fn short_and_unsendable_tokens_are_refused_without_being_shown() {
        for text in ["", "0123456789abcde", "0123456789 abcdef", "0123456789abcdéf"] {
            let error = AdminToken::new(text).unwrap_err().to_string();
            assert!(error.contains("at least 16"), "{error}");
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }
}
