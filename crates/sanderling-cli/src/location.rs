//! Where data lies: a path, or an object-store URL whose files are brought here first.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use object_store::ObjectStoreScheme;
use sanderling_types::{Code, Error, Result};
use tempfile::TempDir;
use url::Url;

use crate::{download, interrupt};

/// What a DATA argument names: a file or folder, an object, or all that lies directly below a prefix.
#[derive(Debug, Clone)]
pub(crate) struct DataLocation(PathBuf);

/// Addresses that [`DataLocation`] understands.
const ADDRESSES: &str = "s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH or https://HOST/FILE";

impl From<OsString> for DataLocation {
    fn from(argument: OsString) -> Self {
        Self(argument.into())
    }
}

/// A path that can be read, and what keeps it there.
#[derive(Debug)]
pub(crate) struct LocalData {
    path: PathBuf,
    _staging: Option<TempDir>,
}

impl DataLocation {
    /// Brings what a URL names into a temporary folder (in `TMPDIR`), which lasts as long as the result; a path is
    /// taken as it is.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for an address that cannot be used; as [`download::download`] and
    /// [`interrupt::remove_on_signal`].
    pub(crate) fn fetch(&self) -> Result<LocalData> {
        let Some(url) = self.url()? else {
            return Ok(LocalData { path: self.0.clone(), _staging: None });
        };
        let failed = |error| Error::new(Code::Io, "no temporary folder can be made").source_error(error);
        let staging = tempfile::Builder::new().prefix("sanderling-").tempdir().map_err(failed)?;
        interrupt::remove_on_signal(staging.path().to_owned())?;
        let path = download::download(&url, staging.path())?;
        Ok(LocalData { path, _staging: Some(staging) })
    }

    /// The address of an object store, if it is one that can be used.
    fn url(&self) -> Result<Option<Url>> {
        let Some(text) = self.0.to_str().filter(|text| text.contains("://")) else { return Ok(None) };
        let refused = |found: &dyn Display| {
            Error::new(Code::InvalidArgument, "the address of the data cannot be used")
                .expected(ADDRESSES)
                .found(found)
        };
        let url = Url::parse(text).map_err(|error| refused(&error))?;
        let known = ObjectStoreScheme::parse(&url).map_err(|_| refused(&format!("{}://", url.scheme())))?.0;
        if matches!(known, ObjectStoreScheme::Local | ObjectStoreScheme::Memory) {
            return Err(refused(&format!("{}://", url.scheme())));
        }
        // These would be dropped on the way to the store, which then says that something else is missing.
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused(&"an address with `?` or `#`")
                .hint("fetch what a signed address names with another program, and give the file"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refused(&"an address with a name or a password").hint(download::CREDENTIALS_HINT));
        }
        Ok(Some(url))
    }
}

impl AsRef<Path> for LocalData {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Result<Option<Url>> {
        DataLocation::from(OsString::from(text)).url()
    }

    #[test]
    fn paths_stay_paths_and_addresses_are_checked() {
        assert!(url("data/shop").unwrap().is_none());
        for good in ["s3://logs/2026", "gs://logs/a.csv", "az://logs/x/", "https://example.org/events.csv.gz"]
        {
            assert!(url(good).unwrap().is_some(), "{good}");
        }
        let addresses = ["ftp://example.org/a", "file:///data", "memory:///a", "https://u:p@example.org/a"];
        for bad in addresses.into_iter().chain(["https://example.org/a?signature=1", "s3://logs/a#b"]) {
            let error = url(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{bad}");
            assert!(!error.to_string().contains("signature=1"), "no secret is printed again");
        }
    }
}
