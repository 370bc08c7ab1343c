//! How far the reading, checking or writing of data has come.

/// Rows between two reports.
pub(crate) const EVERY_ROWS: usize = 1 << 16;

/// What takes long with many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Rows are read; counted in bytes of the source.
    Reading,
    /// Rows are grouped by user; counted in rows.
    Sorting,
    /// Rows are compared with each other; counted in users.
    Checking,
    /// Rows are written; counted in rows.
    Writing,
}

/// How far one stage has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Interactions so far.
    pub interactions: u64,
    /// How much is done, in the unit of the stage.
    pub done: u64,
    /// How much there is to do.
    pub total: u64,
}
