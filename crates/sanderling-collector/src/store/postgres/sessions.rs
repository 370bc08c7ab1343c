//! Shared sessions on the server.

use std::collections::BTreeMap;
use std::ops::Range;

use ::postgres::{Client, Row, Statement, Transaction};
use sanderling_types::{Sha256Hash, SharedSession};

use super::connection::Failure;
use crate::store::session_row::{SessionRow, body_of};

const KNOWN: &str = "SELECT session_id, bundle_id, day FROM sanderling.sessions WHERE session_id = ANY($1)";
const ADD: &str = "
    INSERT INTO sanderling.sessions (session_id, bundle_id, day, received_at, body)
    SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[])
    ON CONFLICT (session_id) DO NOTHING";

pub(super) struct Statements {
    pub(super) known: Statement,
    add: Statement,
}

impl Statements {
    pub(super) fn prepare(client: &mut Client) -> Result<Self, Failure> {
        Ok(Self { known: client.prepare(KNOWN)?, add: client.prepare(ADD)? })
    }
}

/// The sessions that a batch adds, by id: the order in which every collector writes them.
#[derive(Default)]
pub(super) struct Additions(BTreeMap<Vec<u8>, Added>);

struct Added {
    bundle_id: i64,
    day: i64,
    hour: i64,
    body: Vec<u8>,
}

impl Additions {
    pub(super) fn add(&mut self, id: Vec<u8>, bundle_id: i64, session: &SharedSession, hour: i64) {
        self.0.insert(id, Added { bundle_id, day: session.day, hour, body: body_of(session) });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn write(&self, tx: &mut Transaction<'_>, statements: &Statements) -> Result<(), Failure> {
        let ids: Vec<&[u8]> = self.0.keys().map(|id| &id[..]).collect();
        let column = |of: fn(&Added) -> i64| -> Vec<i64> { self.0.values().map(of).collect() };
        let bodies: Vec<&[u8]> = self.0.values().map(|added| &added.body[..]).collect();
        let [bundle_ids, days, hours] =
            [column(|added| added.bundle_id), column(|added| added.day), column(|added| added.hour)];
        let num_added = tx.execute(&statements.add, &[&ids, &bundle_ids, &days, &hours, &bodies])?;
        if num_added == ids.len() as u64 { Ok(()) } else { Err(Failure::Raced) }
    }
}

/// The sessions of some bundles (`None`: of all) and days, in no order.
pub(super) fn read(
    tx: &mut Transaction<'_>,
    bundles: Option<&[Sha256Hash]>,
    days: &Range<i64>,
) -> Result<Vec<SessionRow>, Failure> {
    let hashes: Option<Vec<&[u8]>> =
        bundles.map(|bundles| bundles.iter().map(|bundle| &bundle.as_bytes()[..]).collect());
    let rows = tx.query(
        "SELECT session_id, bundle_sha256, day, body
         FROM sanderling.sessions JOIN sanderling.bundles USING (bundle_id)
         WHERE ($1::bytea[] IS NULL OR bundle_sha256 = ANY($1)) AND day >= $2 AND day < $3",
        &[&hashes, &days.start, &days.end],
    )?;
    let row = |row: &Row| {
        Ok(SessionRow {
            session_id: row.try_get(0)?,
            bundle_sha256: row.try_get(1)?,
            day: row.try_get(2)?,
            body: row.try_get(3)?,
        })
    };
    rows.iter().map(row).collect()
}
