//! Where data lies: a path, or an object-store URL whose files are brought here first. And where reports lie.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use object_store::ObjectStoreScheme;
use sanderling_collector::StoreLocation;
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

/// What `--store` names: a file, or the URL of a database.
#[derive(Clone)]
pub(crate) struct StoreArgument(OsString);

impl From<OsString> for StoreArgument {
    fn from(argument: OsString) -> Self {
        Self(argument)
    }
}

impl std::fmt::Debug for StoreArgument {
    /// Without the text, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreArgument").finish_non_exhaustive()
    }
}

impl StoreArgument {
    /// The location, with the password of `PGPASSWORD` where the URL has none. It is read here and not with the arguments, because
    /// clap prints an argument that it refuses, and with it a password.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for a URL that cannot be used.
    pub(crate) fn location(&self) -> Result<StoreLocation> {
        let Some(text) = self.0.to_str() else { return Ok(PathBuf::from(&self.0).into()) };
        let location: StoreLocation = text.parse()?;
        Ok(match std::env::var("PGPASSWORD") {
            Ok(password) => location.or_password(&password),
            Err(_) => location,
        })
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
    #[test]
    fn a_store_is_a_file_or_a_database_and_no_password_is_shown() {
        let argument = |text: &str| StoreArgument::from(OsString::from(text));
        assert_eq!(argument("reports.db").location().unwrap().to_string(), "reports.db");
        let database = argument("postgres://u:secret@db.example/telemetry");
        assert_eq!(database.location().unwrap().to_string(), "postgres://db.example/telemetry");
        assert!(!format!("{database:?}").contains("secret"));
        let error = argument("mysql://u:secret@db.example/telemetry").location().unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
}
