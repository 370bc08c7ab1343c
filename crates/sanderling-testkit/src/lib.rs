//! Fixtures, golden-vector checker over a Runtime trait, fault injection; unpublished.
