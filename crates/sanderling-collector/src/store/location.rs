//! Where a store is: a file, or a database on a server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ::postgres::Config;
use ::postgres::config::Host;
use sanderling_types::{Code, Error};

/// Where the reports of a collector are kept: the path of a SQLite database, or the `postgres://` URL of a PostgreSQL
/// database, which several collectors may share.
///
/// ```
/// use sanderling_collector::StoreLocation;
///
/// let file: StoreLocation = "reports.db".parse()?;
/// let server: StoreLocation = "postgres://collector:secret@db.example/telemetry?sslmode=require".parse()?;
/// assert_eq!(file.to_string(), "reports.db");
/// assert_eq!(server.to_string(), "postgres://db.example/telemetry", "no secret is printed");
/// # Ok::<(), sanderling_types::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct StoreLocation(pub(super) Place);

#[derive(Debug, Clone)]
pub(super) enum Place {
    File(PathBuf),
    Postgres(Box<Config>),
}

impl StoreLocation {
    /// The same location; where it is a server and its URL has no password, with this one.
    #[must_use]
    pub fn or_password(mut self, password: &str) -> Self {
        if let Place::Postgres(config) = &mut self.0
            && config.get_password().is_none()
        {
            config.password(password);
        }
        self
    }
}

impl From<PathBuf> for StoreLocation {
    fn from(path: PathBuf) -> Self {
        Self(Place::File(path))
    }
}

impl From<&Path> for StoreLocation {
    fn from(path: &Path) -> Self {
        path.to_owned().into()
    }
}

impl FromStr for StoreLocation {
    type Err = Error;

    /// Takes what begins like `postgres://` or `postgresql://` for a URL, and what has no scheme for a path.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] for another scheme, and for a URL that cannot be used.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text.split_once("://") {
            None if text.is_empty() => Err(refused("the location of the store is empty")),
            None => Ok(PathBuf::from(text).into()),
            Some(("postgres" | "postgresql", _)) => server(text),
            Some((scheme, _)) => {
                Err(refused("the store cannot be there").found(format!("an address with {scheme}://")))
            }
        }
    }
}

/// Whatever is wrong with a URL, its text is not repeated: a password may be in any part of it.
fn server(text: &str) -> Result<StoreLocation, Error> {
    let config = Config::from_str(text).map_err(|_| {
        refused("the URL of the store cannot be used").hint(
            "characters like @ and / of a password are written as %40 and %2F; sslmode is disable, prefer or require",
        )
    })?;
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(refused("the URL of the store names no host")
            .hint("the folder of a socket is a host too: postgres:///DATABASE?host=/run/postgresql"));
    }
    Ok(StoreLocation(Place::Postgres(Box::new(config))))
}

fn refused(message: &str) -> Error {
    Error::new(Code::InvalidArgument, message)
        .expected("the path of a file, or postgres://USER:PASSWORD@HOST:PORT/DATABASE")
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => path.display().fmt(f),
            Place::Postgres(config) => {
                f.write_str("postgres://")?;
                for (at, host) in config.get_hosts().iter().enumerate() {
                    let comma = if at == 0 { "" } else { "," };
                    match host {
                        Host::Tcp(name) => write!(f, "{comma}{name}")?,
                        #[cfg(unix)]
                        Host::Unix(folder) => write!(f, "{comma}{}", folder.display())?,
                    }
                }
                write!(f, "/{}", config.get_dbname().unwrap_or_default())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<StoreLocation, Error> {
        text.parse()
    }

    #[test]
    fn paths_stay_paths_and_urls_are_checked() {
        for path in ["reports.db", "/var/lib/sanderling/reports.db", "C:\\reports.db", "postgres", "a:b"] {
            assert!(
                matches!(parse(path).unwrap().0, Place::File(found) if found == Path::new(path)),
                "{path}"
            );
        }
        for url in
            ["postgres://db/x", "postgresql://u:p@db:5433/x?connect_timeout=3", "postgres:///x?host=/run/pg"]
        {
            assert!(matches!(parse(url).unwrap().0, Place::Postgres(_)), "{url}");
        }
        for bad in
            ["", "mysql://db/x", "http://db/x", "postgres:///x", "postgres://u:secret@db/x?sslmode=secret"]
        {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{bad}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn no_password_is_shown_and_one_from_elsewhere_fills_the_gap() {
        let with = parse("postgres://u:secret@db,other/x").unwrap();
        assert_eq!(with.to_string(), "postgres://db,other/x");
        assert!(!format!("{with:?}").contains("secret"));
        let password = |location: StoreLocation| match location.0 {
            Place::Postgres(config) => config.get_password().map(<[u8]>::to_vec),
            Place::File(_) => None,
        };
        assert_eq!(password(with.or_password("other")), Some(b"secret".to_vec()));
        assert_eq!(
            password(parse("postgres://u@db/x").unwrap().or_password("other")),
            Some(b"other".to_vec())
        );
        assert_eq!(password(parse("reports.db").unwrap().or_password("other")), None);
    }
}
