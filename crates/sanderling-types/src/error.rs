//! The one error type: a stable code, what happened, the evidence, and what to do.

use std::fmt;

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! codes {
    ($($variant:ident = $text:literal, $doc:literal;)*) => {
        /// Stable machine-readable error codes, the same in Rust, JavaScript, HTTP, CLI and telemetry.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $(#[doc = $doc] $variant,)*
        }

        impl Code {
            /// Every code, in declaration order.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The stable string form.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $text,)* }
            }

            /// One sentence: what is wrong and, when useful, what to do.
            #[must_use]
            pub fn description(self) -> &'static str {
                match self { $(Code::$variant => $doc,)* }
            }
        }
    };
}

codes! {
    ManifestInvalid = "manifest_invalid", "The manifest is not valid JSON of the declared shape.";
    UnsupportedFormatVersion = "unsupported_format_version", "A file was written in a format version that this build does not read.";
    FileMissing = "file_missing", "A file that the manifest names was not supplied.";
    FileTruncated = "file_truncated", "A file's length differs from the manifest's; fetch it again.";
    HashMismatch = "hash_mismatch", "A file's SHA-256 differs from the manifest's; it was changed or damaged.";
    SignatureMissing = "signature_missing", "A public key was given but the bundle carries no signature.";
    SignatureInvalid = "signature_invalid", "No trusted key has signed the manifest, or its signature does not verify.";
    BundleExpired = "bundle_expired", "The bundle's time is over; publish it again.";
    BundleRolledBack = "bundle_rolled_back", "The bundle is older than one that this host has seen, and was taken back.";
    IncompatibleFeatures = "incompatible_features", "The feature spec is not the one this engine computes.";
    ItemsInvalid = "items_invalid", "items.bin is malformed or disagrees with the manifest.";
    NeighboursInvalid = "neighbours_invalid", "neighbours.bin is malformed or disagrees with the manifest.";
    ContentInvalid = "content_invalid", "content.bin is malformed or disagrees with the manifest.";
    VocabularyInvalid = "vocabulary_invalid", "vocabulary.bin is malformed or disagrees with the manifest.";
    SegmentsInvalid = "segments_invalid", "segments.json is malformed or disagrees with the manifest.";
    BaselineInvalid = "baseline_invalid", "baseline.json is malformed or disagrees with the feature spec.";
    ModelInvalid = "model_invalid", "A model is malformed, uses what is not allowed, or has the wrong shapes.";
    ModelNotSlim = "model_not_slim", "A model is not one that the slim runtime runs: it needs the full runtime.";
    LimitExceeded = "limit_exceeded", "An input is larger than the declared limit.";
    InferenceFailed = "inference_failed", "A model failed while running.";
    InvalidArgument = "invalid_argument", "An argument has the wrong type or is out of range.";
    UnknownItem = "unknown_item", "The item is not in this bundle's vocabulary.";
    UnknownLayout = "unknown_layout", "The import layout is not known; see `sanderling import --help`.";
    ColumnMissing = "column_missing", "A required column is missing; map it with --column.";
    DataInvalid = "data_invalid", "A row cannot be read as an interaction or an item.";
    EmptyData = "empty_data", "There is nothing to work on after reading the data.";
    SplitUnsupported = "split_unsupported", "The data does not support the requested split.";
    FeatureLeaks = "feature_leaks", "A feature knows what happened after the case that it is to predict.";
    RecipeInvalid = "recipe_invalid", "The recipe has an unknown key or a value out of range.";
    BudgetExceeded = "budget_exceeded", "The bundle is larger than the recipe's byte budget.";
    TrainingFailed = "training_failed", "Training produced a value that is not finite.";
    ReportInvalid = "report_invalid", "The report is not valid JSON of the declared shape.";
    ReportTooLarge = "report_too_large", "The report is larger than the declared limit.";
    ReportTooEarly = "report_too_early", "The report's window starts in the future, beyond the tolerance.";
    ReportExpired = "report_expired", "The report's window is older than the retention.";
    ReportConflict = "report_conflict", "A report of another window or bundle with this id was already counted.";
    UnknownBundle = "unknown_bundle", "No baseline with this bundle hash is registered.";
    UnknownField = "unknown_field", "The report carries a field that the schema does not declare.";
    BinOutOfRange = "bin_out_of_range", "An observation's bin is outside the field's domain.";
    PrivacyViolation = "privacy_violation", "The report claims other privacy constants than the bundle declares.";
    Overloaded = "overloaded", "The queue is full; retry after the stated time.";
    StorageFull = "storage_full", "The disk is full; nothing was stored.";
    Storage = "storage", "The store failed.";
    NotFound = "not_found", "There is nothing at this address.";
    Io = "io", "Reading or writing a file failed.";
    Cancelled = "cancelled", "The work was stopped on request; nothing half-written was left.";
    Internal = "internal", "A broken promise of our own; please report it.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What went wrong, with a stable [`Code`], the evidence, and where it helps what to do.
///
/// Messages are lower case and carry no full stop. Built in steps:
///
/// ```
/// use sanderling_types::{Code, Error};
/// let error = Error::new(Code::FileTruncated, "items.bin has the wrong length")
///     .expected("4096 bytes")
///     .found("4000 bytes")
///     .hint("fetch the file again");
/// assert_eq!(
///     error.to_string(),
///     "items.bin has the wrong length: expected 4096 bytes, found 4000 bytes (file_truncated); fetch the file again"
/// );
/// ```
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    message: String,
    expected: Option<String>,
    found: Option<String>,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

impl Error {
    /// Makes an error from its code and a message that names the thing that is wrong.
    // Cold, so that what makes errors is kept small and out of the way where callers are optimised for speed.
    #[cold]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            code,
            message: message.into(),
            expected: None,
            found: None,
            hint: None,
            source: None,
        }))
    }

    /// States what was expected.
    #[must_use]
    #[cold]
    pub fn expected(mut self, expected: impl fmt::Display) -> Self {
        self.0.expected = Some(expected.to_string());
        self
    }

    /// States what was found instead.
    #[must_use]
    #[cold]
    pub fn found(mut self, found: impl fmt::Display) -> Self {
        self.0.found = Some(found.to_string());
        self
    }

    /// Says what to do about it.
    #[must_use]
    #[cold]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Keeps the underlying error as the source.
    #[must_use]
    pub fn source_error(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.0.source = Some(Box::new(source));
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The message without evidence and hint.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What was expected, if stated.
    #[must_use]
    pub fn expected_value(&self) -> Option<&str> {
        self.0.expected.as_deref()
    }

    /// What was found, if stated.
    #[must_use]
    pub fn found_value(&self) -> Option<&str> {
        self.0.found.as_deref()
    }

    /// What to do, if known.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match (&self.0.expected, &self.0.found) {
            (Some(expected), Some(found)) => write!(f, ": expected {expected}, found {found}")?,
            (Some(expected), None) => write!(f, ": expected {expected}")?,
            (None, Some(found)) => write!(f, ": found {found}")?,
            (None, None) => {}
        }
        write!(f, " ({})", self.0.code)?;
        if let Some(hint) = &self.0.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source.as_ref() as _)
    }
}

/// The form in which errors cross the JavaScript, HTTP and `--json` boundaries.
impl serde::Serialize for Error {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Error", 5)?;
        out.serialize_field("code", self.0.code.as_str())?;
        out.serialize_field("message", &self.0.message)?;
        out.serialize_field("expected", &self.0.expected)?;
        out.serialize_field("found", &self.0.found)?;
        out.serialize_field("hint", &self.0.hint)?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn codes_are_unique_snake_case() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} appears twice");
            assert!(code.as_str().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            assert!(!code.description().is_empty());
        }
    }
}
