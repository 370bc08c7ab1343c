//! What an engine remembers from one request to the next.

use sanderling_types::{Code, Error, ItemIndex, Result, Sha256Hash, float_text};

use crate::deadline::StepCosts;
use crate::{ItemTable, Memory, Scorer};

/// The session that was encoded last, with what the encoder made of it; empty to begin with. It holds a person's
/// newest items, and about 2 KiB a block and item of 64 elements. One that comes from another bundle is not used.
#[derive(Debug, Clone, Default)]
pub struct SessionMemory {
    bundle: Option<Sha256Hash>,
    items: Vec<ItemIndex>,
    query: Vec<f32>,
    encoder: Memory,
    pub(crate) costs: StepCosts,
}

impl SessionMemory {
    /// Forgets the session, for a host that answers for many people; how long steps take stays.
    pub fn forget_session(&mut self) {
        *self = Self { costs: self.costs, ..Self::default() };
    }

    /// The query of `items`, which are those of `bundle` in its `table`, at least one.
    pub(crate) fn query(
        &mut self,
        encoder: &dyn Scorer,
        bundle: Sha256Hash,
        items: &[ItemIndex],
        table: &ItemTable,
    ) -> Result<Vec<f32>> {
        // What fails on the way is forgotten.
        let before = std::mem::take(self);
        self.costs = before.costs;
        // A memory of another runtime holds a query and nothing to go on from.
        let goes_on = before.bundle == Some(bundle)
            && items.starts_with(&before.items)
            && before.encoder.blocks.is_empty() == encoder.incremental().is_none();
        if goes_on && items.len() == before.items.len() {
            *self = before;
            return Ok(self.query.clone());
        }
        let query = match encoder.incremental() {
            Some(encoder) => {
                let known = if goes_on { before } else { Self::default() };
                self.encoder = known.encoder;
                encoder.append(&mut self.encoder, &rows(&items[known.items.len()..], table))?
            }
            None => encoder.run(&rows(items, table), &[1, items.len(), table.dim()])?,
        };
        check_output("the encoder", &query, table.dim())?;
        *self = Self {
            bundle: Some(bundle),
            items: items.to_vec(),
            query: query.clone(),
            encoder: std::mem::take(&mut self.encoder),
            costs: self.costs,
        };
        Ok(query)
    }
}

fn rows(items: &[ItemIndex], table: &ItemTable) -> Vec<f32> {
    let mut rows = vec![0.0; items.len() * table.dim()];
    for (item, row) in items.iter().zip(rows.chunks_exact_mut(table.dim())) {
        table.row_into(*item, row);
    }
    rows
}

pub(crate) fn check_output(what: &str, output: &[f32], expected: usize) -> Result<()> {
    if output.len() != expected {
        return Err(Error::new(Code::InferenceFailed, format!("{what} gave another number of values"))
            .expected(expected)
            .found(output.len()));
    }
    match output.iter().find(|value| !value.is_finite()) {
        Some(value) => {
            Err(Error::new(Code::InferenceFailed, format!("{what} gave a value that is not finite"))
                .found(float_text(*value)))
        }
        None => Ok(()),
    }
}
