//! The portable engine: features, retrieval, ranking, policy, session.
