//! What a device has learned of its user's taste.

use serde::Serialize;

use crate::{FORMAT_VERSION, Sha256Hash, json_object};

/// A per-user correction of the ranker's linear part, as sums over the lists that the user chose from: everything that
/// `sanderling_core::correction` needs to make weights of them. It is personal data of the user, and no report holds any of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Correction {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Hash of the feature spec whose columns the sums are of.
    pub feature_spec_sha256: Sha256Hash,
    /// Lists that it was learned from, at most [`Correction::MAX_UPDATES`].
    pub num_updates: u32,
    /// Of each feature `[num_features, 3]`: the sum of the gradients of the log-likelihood, the sum of their squares, and the largest
    /// difference between an item that was chosen and one that was passed over.
    pub sums: Vec<f32>,
}
json_object!(Correction { format_version, feature_spec_sha256, num_updates, sums });

impl Correction {
    /// After so many lists, older ones fade: the user's taste may have changed.
    pub const MAX_UPDATES: u32 = 200;
    /// Numbers of a feature.
    pub const SUMS: usize = 3;

    /// One that has learned nothing.
    #[must_use]
    pub fn new(feature_spec_sha256: Sha256Hash, num_features: usize) -> Self {
        let sums = vec![0.0; Self::SUMS * num_features];
        Self { format_version: FORMAT_VERSION, feature_spec_sha256, num_updates: 0, sums }
    }

    /// Whether it can be used with a feature spec: of this version and spec, and with finite numbers for each feature.
    #[must_use]
    pub fn fits(&self, feature_spec_sha256: Sha256Hash, num_features: usize) -> bool {
        self.format_version == FORMAT_VERSION
            && self.feature_spec_sha256 == feature_spec_sha256
            && self.num_updates <= Self::MAX_UPDATES
            && self.sums.len() == Self::SUMS * num_features
            && self.sums.iter().all(|sum| sum.is_finite())
    }
}
