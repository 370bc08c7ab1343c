//! A shared session as it is stored: what does not vary is columns, the interactions are one body.

use sanderling_types::{
    Code, Error, FromJson as _, Result, Sha256Hash, SharedInteraction, SharedSession, read_json,
};

/// One row of the table of sessions, as either database gives it.
pub(super) struct SessionRow {
    pub(super) session_id: Vec<u8>,
    pub(super) bundle_sha256: Vec<u8>,
    pub(super) day: i64,
    pub(super) body: Vec<u8>,
}

/// What is kept of a session beside its columns: neither its padding nor anything twice.
pub(super) fn body_of(session: &SharedSession) -> Vec<u8> {
    serde_json::to_vec(&session.interactions).unwrap_or_else(|_| unreachable!("texts always have a JSON"))
}

impl SessionRow {
    /// The session, padded as it is sent.
    ///
    /// # Errors
    /// [`Code::Storage`] for a row that no collector wrote.
    pub(super) fn session(&self) -> Result<SharedSession> {
        let damaged = |what: &str| Error::new(Code::Storage, format!("a stored session has {what}"));
        let digest = self.bundle_sha256[..].try_into().map_err(|_| damaged("no bundle hash"))?;
        let id = self.session_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let interactions =
            read_json(&self.body, Code::Storage, "a stored session", Vec::<SharedInteraction>::from_json)?;
        SharedSession::of_newest(id, Sha256Hash::from_digest(digest), self.day, interactions)
            .map_err(|error| damaged("parts that none has").found(error))
    }
}
