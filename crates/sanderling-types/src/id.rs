//! Newtypes that keep outside ids and dense rows apart.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{FromJson, Json, Mismatch};

macro_rules! text_id {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromJson for $name {
            fn from_json(value: Json<'_>) -> Result<Self, Mismatch> {
                String::from_json(value).map(Self)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(ItemId, "What the catalogue calls an item; the outside id.");
text_id!(UserId, "An opaque id of a user in the logs; never leaves a device in a report.");

/// The dense row of an item inside one bundle; meaningless in any other bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ItemIndex(pub u32);

impl ItemIndex {
    /// The row as an index into a slice.
    #[must_use]
    pub fn row(self) -> usize {
        self.0 as usize
    }
}
