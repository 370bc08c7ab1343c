//! Shared sessions in the file.

use std::ops::Range;

use rusqlite::{Connection, Transaction};
use sanderling_types::{Result, Sha256Hash, SharedSession};

use super::storage_error;
use crate::store::session_row::{SessionRow, body_of};

/// Adds a session that is new.
pub(super) fn add(
    tx: &Transaction<'_>,
    id: &[u8],
    bundle_id: i64,
    session: &SharedSession,
    hour: i64,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO sessions (session_id, bundle_id, day, received_at, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((id, bundle_id, session.day, hour, body_of(session)))?;
    Ok(())
}

/// The sessions of some bundles (`None`: of all) and days, in no order.
pub(super) fn read(
    connection: &Connection,
    bundles: Option<&[Sha256Hash]>,
    days: &Range<i64>,
) -> Result<Vec<SessionRow>> {
    let read = || {
        let mut statement = connection.prepare_cached(
            "SELECT session_id, bundle_sha256, day, body FROM sessions JOIN bundles USING (bundle_id)
             WHERE (?1 IS NULL OR bundle_sha256 = ?1) AND day >= ?2 AND day < ?3",
        )?;
        let row = |row: &rusqlite::Row<'_>| {
            Ok(SessionRow {
                session_id: row.get(0)?,
                bundle_sha256: row.get(1)?,
                day: row.get(2)?,
                body: row.get(3)?,
            })
        };
        let wanted: Vec<Option<&[u8; 32]>> = match bundles {
            None => vec![None],
            Some(bundles) => bundles.iter().map(|bundle| Some(bundle.as_bytes())).collect(),
        };
        let mut out = Vec::new();
        for bundle in wanted {
            let rows = statement.query_map((bundle, days.start, days.end), row)?;
            out.extend(rows.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        Ok(out)
    };
    read().map_err(|error: rusqlite::Error| storage_error(&error))
}
