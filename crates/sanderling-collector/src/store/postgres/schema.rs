//! The tables on the server, their version, and who makes them.

use ::postgres::{Client, Config, GenericClient, IsolationLevel};
use sanderling_types::{Code, Error};

use super::connection::{Failure, connect};

/// Version of the tables below.
const SCHEMA_VERSION: i32 = 2;
/// The version before, which gets what is new in this one when a collector opens it.
const PREVIOUS_VERSION: i32 = 1;
/// The advisory lock that is held while tables are made ("SNDC").
const CREATION_LOCK: i64 = 0x534E_4443;

/// The tables of [`PREVIOUS_VERSION`]: the same as in SQLite, in a schema of their own. Rows of `windows` and `cells` are changed in place again and again,
/// for which their pages have room.
const TABLES: &str = "
-- Bundles whose reports are accepted. expired_before: every report of an earlier window was
-- deleted, so that none may be counted again, whatever the clock says.
CREATE TABLE sanderling.bundles (
    bundle_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bundle_sha256 bytea NOT NULL UNIQUE,
    manifest bytea NOT NULL,
    baseline bytea NOT NULL,
    expired_before bigint NOT NULL DEFAULT -9223372036854775808
);
-- One row a counted report: enough to recognise it, nothing of what it answered.
CREATE TABLE sanderling.reports (
    report_id bytea PRIMARY KEY,
    bundle_id bigint NOT NULL REFERENCES sanderling.bundles,
    window_start bigint NOT NULL,
    received_at bigint NOT NULL
);
CREATE INDEX reports_by_window ON sanderling.reports (bundle_id, window_start);
CREATE TABLE sanderling.windows (
    bundle_id bigint NOT NULL REFERENCES sanderling.bundles,
    window_start bigint NOT NULL,
    num_reports bigint NOT NULL,
    PRIMARY KEY (bundle_id, window_start)
) WITH (fillfactor = 50);
-- Merged answers: how often a bin was reported.
CREATE TABLE sanderling.cells (
    bundle_id bigint NOT NULL REFERENCES sanderling.bundles,
    window_start bigint NOT NULL,
    field text NOT NULL,
    bin integer NOT NULL,
    num_answers bigint NOT NULL,
    PRIMARY KEY (bundle_id, window_start, field, bin)
) WITH (fillfactor = 50);
CREATE TABLE sanderling.schema_version (version integer NOT NULL);
";

/// What this version adds. A new database is made by the same steps, so that it and one that was moved on are the same.
const SESSIONS: &str = "
-- Every session of an earlier day was deleted: as expired_before, for windows may be longer than days.
ALTER TABLE sanderling.bundles ADD COLUMN sessions_expired_before bigint NOT NULL DEFAULT -9223372036854775808;
-- One row a shared session, whole: body holds its interactions as JSON.
CREATE TABLE sanderling.sessions (
    session_id bytea PRIMARY KEY,
    bundle_id bigint NOT NULL REFERENCES sanderling.bundles,
    day bigint NOT NULL,
    received_at bigint NOT NULL,
    body bytea NOT NULL
);
CREATE INDEX sessions_by_day ON sanderling.sessions (bundle_id, day);
";

/// Connects, and makes the tables, or those of them that the previous version did not have; a role that may not make any needs
/// them to be there.
pub(super) fn open_for_writing(config: &Config) -> Result<Client, Failure> {
    let mut client = connect(config)?;
    if !has_tables(&mut client)? {
        make_tables(&mut client)?;
    } else if version(&mut client)? == PREVIOUS_VERSION {
        move_on(&mut client)?;
    }
    check_version(&mut client)?;
    Ok(client)
}

/// Connects to a database that has the tables.
pub(super) fn open(config: &Config) -> Result<Client, Failure> {
    let mut client = connect(config)?;
    if !has_tables(&mut client)? {
        return Err(Error::new(Code::Storage, "the database is not a collector's")
            .found("no table sanderling.schema_version")
            .into());
    }
    check_version(&mut client)?;
    Ok(client)
}

/// Asks a table of the catalogue: `to_regclass` would answer from a cache, which in a transaction that waited is out of date.
fn has_tables(client: &mut impl GenericClient) -> Result<bool, ::postgres::Error> {
    let question = "SELECT EXISTS (SELECT FROM pg_catalog.pg_tables
        WHERE schemaname = 'sanderling' AND tablename = 'schema_version')";
    Ok(client.query_one(question, &[])?.get(0))
}

/// Makes the tables unless another collector was faster; others that start now wait for the lock.
fn make_tables(client: &mut Client) -> Result<(), ::postgres::Error> {
    let mut tx = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start()?;
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&CREATION_LOCK])?;
    if !has_tables(&mut tx)? {
        // An administrator may have made the schema for a role that may not.
        let question = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'sanderling')";
        let has_schema: bool = tx.query_one(question, &[])?.get(0);
        if !has_schema {
            tx.batch_execute("CREATE SCHEMA sanderling")?;
        }
        tx.batch_execute(TABLES)?;
        tx.batch_execute(SESSIONS)?;
        tx.execute("INSERT INTO sanderling.schema_version VALUES ($1)", &[&SCHEMA_VERSION])?;
    }
    tx.commit()
}

/// Adds what a database of the previous version lacks, unless another collector was faster; nothing that is there changes.
fn move_on(client: &mut Client) -> Result<(), ::postgres::Error> {
    let mut tx = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted).start()?;
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&CREATION_LOCK])?;
    if version(&mut tx)? == PREVIOUS_VERSION {
        tx.batch_execute(SESSIONS)?;
        tx.execute("UPDATE sanderling.schema_version SET version = $1", &[&SCHEMA_VERSION])?;
    }
    tx.commit()
}

fn version(client: &mut impl GenericClient) -> Result<i32, ::postgres::Error> {
    client.query_one("SELECT max(version) FROM sanderling.schema_version", &[])?.try_get(0)
}

fn check_version(client: &mut Client) -> Result<(), Failure> {
    let version = version(client)?;
    if version == SCHEMA_VERSION {
        return Ok(());
    }
    let error = Error::new(Code::UnsupportedFormatVersion, "the tables have another version")
        .expected(SCHEMA_VERSION)
        .found(version);
    Err(match version {
        PREVIOUS_VERSION => error.hint("start a collector of this version with them once"),
        _ => error,
    }
    .into())
}
