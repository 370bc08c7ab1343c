//! A PostgreSQL database, which any number of collectors write to.
//!
//! What two collectors may both write is written in one order (bundles, reports by id, sessions by id, windows, cells), so that none waits for
//! another that waits for it; where that still happens, or both have the same report or session at the same moment, the batch is done again.

mod connection;
mod reader;
mod schema;
mod sessions;
mod tls;
mod writer;

use ::postgres::Config;
use sanderling_types::Result;

use crate::RegisteredBundle;
use connection::off_runtime;
pub(super) use reader::Reader;
pub(super) use writer::Writer;

pub(super) fn register(config: &Config, bundle: &RegisteredBundle) -> Result<()> {
    let (manifest, baseline) = (bundle.manifest().encode(), bundle.baseline().encode());
    off_runtime(|| {
        let mut client = schema::open_for_writing(config)?;
        client.execute(
            "INSERT INTO sanderling.bundles (bundle_sha256, manifest, baseline) VALUES ($1, $2, $3)
             ON CONFLICT (bundle_sha256) DO NOTHING",
            &[&&bundle.hash().as_bytes()[..], &manifest, &baseline],
        )?;
        Ok(())
    })
    .map_err(|failure: connection::Failure| failure.on_opening())
}
