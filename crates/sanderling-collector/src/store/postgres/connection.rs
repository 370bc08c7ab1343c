//! Connections to a server, and what their errors mean.

use std::time::Duration;

use ::postgres::config::{Host, SslMode};
use ::postgres::error::SqlState;
use ::postgres::{Client, Config, NoTls};
use sanderling_types::{Code, Error};

use super::tls::Tls;
use crate::store::queue::repeat;

/// How long a host may take to answer a connection, and to acknowledge what was sent to it.
const NETWORK_TIMEOUT: Duration = Duration::from_secs(10);
/// Silence after which the network is asked whether the server is still there; without a setting in the URL.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// What a role or a server may have set otherwise: a commit that was answered is on the disk, another's lock is not waited for
/// longer than a device waits, and a collector that was stopped in the middle does not hold up the others.
const SETTINGS: &str = "
    SET synchronous_commit = on;
    SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '10s';
";

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refused, or the connection broke.
    Database(::postgres::Error),
    /// Another collector stored one of the reports or sessions at the same moment.
    Raced,
    /// The server could not be reached a moment ago, and it is not yet time to try again.
    Away,
    /// What the database holds is not what it should.
    Other(Error),
}

impl From<::postgres::Error> for Failure {
    fn from(error: ::postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Database(error) => f.write_str(&describe(error)),
            Self::Raced => f.write_str("another collector stored the same at the same moment"),
            Self::Away => f.write_str("the server cannot be reached"),
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl Failure {
    /// Whether the connection is of no use any more: it broke, the server stops, or it has become a copy of another one.
    pub(super) fn is_lost(&self) -> bool {
        let Self::Database(error) = self else { return false };
        let Some(state) = error.code() else { return true };
        ["08", "57P"].iter().any(|class| state.code().starts_with(class))
            || *state == SqlState::READ_ONLY_SQL_TRANSACTION
            || *state == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
    }

    /// Whether the server's disk is full.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Database(error) if error.code() == Some(&SqlState::DISK_FULL))
    }

    /// Whether the same may well succeed at once, with a new connection if this one is lost.
    pub(super) fn is_passing(&self) -> bool {
        let conflicts = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        match self {
            Self::Raced => true,
            Self::Database(error) => {
                error.code().is_some_and(|state| conflicts.contains(state)) || self.is_lost()
            }
            Self::Away | Self::Other(_) => false,
        }
    }

    /// The error for whoever asked. What is about this moment has a code of its own, as with SQLite; a device learns no more
    /// of the server than the class of its error.
    pub(super) fn error(&self) -> Error {
        match self {
            Self::Other(error) => Error::new(error.code(), error.message()),
            Self::Database(error) if error.code() == Some(&SqlState::DISK_FULL) => {
                Error::new(Code::StorageFull, "the database cannot grow; nothing was stored")
                    .hint("free some space on the server")
            }
            Self::Database(error) if !self.is_passing() && !is_busy(error) => {
                let state = error.code().map_or("no code", SqlState::code);
                Error::new(Code::Storage, "the database failed").found(format!("SQLSTATE {state}"))
            }
            Self::Database(_) | Self::Raced | Self::Away => {
                Error::new(Code::Overloaded, "the database cannot be reached, or others hold it")
                    .hint("send the same again later")
            }
        }
    }

    /// The error for whoever wanted to open the database, with everything that the server says.
    pub(super) fn on_opening(&self) -> Error {
        match self {
            Self::Other(error) => repeat(error),
            Self::Database(error) if error.code() == Some(&SqlState::DISK_FULL) => self.error(),
            _ => Error::new(Code::Storage, "the database cannot be opened").found(self),
        }
    }
}

/// Whether someone holds a lock for too long, or the server has no time, connection or memory left.
fn is_busy(error: &::postgres::Error) -> bool {
    let times = [SqlState::LOCK_NOT_AVAILABLE, SqlState::QUERY_CANCELED];
    error.code().is_some_and(|state| times.contains(state) || state.code().starts_with("53"))
}

/// The server's words; the library's own are "db error".
fn describe(error: &::postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// A connection on which a commit that was answered is durable.
pub(super) fn connect(config: &Config) -> Result<Client, Failure> {
    let config = with_timeouts(config);
    let is_host = |host: &Host| matches!(host, Host::Tcp(_));
    let may_encrypt = config.get_ssl_mode() != SslMode::Disable && config.get_hosts().iter().any(is_host);
    let mut client = if may_encrypt { config.connect(Tls::new()?) } else { config.connect(NoTls) }?;
    client.batch_execute(SETTINGS)?;
    Ok(client)
}

/// Without limits of its own a connection whose server has vanished would be waited on for hours.
fn with_timeouts(config: &Config) -> Config {
    let mut out = config.clone();
    if config.get_connect_timeout().is_none() {
        out.connect_timeout(NETWORK_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        out.tcp_user_timeout(NETWORK_TIMEOUT);
    }
    if config.get_keepalives_idle() > Duration::from_secs(3600) {
        out.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_IDLE / 4).keepalives_retries(4);
    }
    if config.get_application_name().is_none() {
        out.application_name("sanderling");
    }
    out
}

/// Does `work` on a thread of its own, and waits: the client runs a runtime, which must not start where one runs already.
pub(super) fn off_runtime<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let answer = std::thread::scope(|scope| scope.spawn(work).join());
    answer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
