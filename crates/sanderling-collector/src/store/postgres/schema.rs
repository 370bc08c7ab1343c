//! The tables on the server, their version, and who makes them.

use ::postgres::{Client, Config, GenericClient, IsolationLevel};
use sanderling_types::{Code, Error};

use super::connection::{Failure, connect};

/// Version of the tables below.
const SCHEMA_VERSION: i32 = 1;
/// The advisory lock that is held while tables are made ("SNDC").
const CREATION_LOCK: i64 = 0x534E_4443;

/// The same tables as in SQLite, in a schema of their own. Rows of `windows` and `cells` are changed in place again and again,
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

/// Connects, and makes the tables where there are none; a role that may not make any needs them to be there.
pub(super) fn open_for_writing(config: &Config) -> Result<Client, Failure> {
    let mut client = connect(config)?;
    if !has_tables(&mut client)? {
        make_tables(&mut client)?;
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
        tx.execute("INSERT INTO sanderling.schema_version VALUES ($1)", &[&SCHEMA_VERSION])?;
    }
    tx.commit()
}

fn check_version(client: &mut Client) -> Result<(), Failure> {
    let version: i32 =
        client.query_one("SELECT max(version) FROM sanderling.schema_version", &[])?.try_get(0)?;
    if version != SCHEMA_VERSION {
        return Err(Error::new(Code::UnsupportedFormatVersion, "the tables have another version")
            .expected(SCHEMA_VERSION)
            .found(version)
            .into());
    }
    Ok(())
}
