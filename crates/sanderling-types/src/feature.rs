//! The feature spec: which numbers the ranker sees, in which order.

use serde::Serialize;

use crate::json::{quoted, to_text};
use crate::order::repeated;
use crate::{Code, Error, FORMAT_VERSION, Result, Sha256Hash, decode_json, json_names, json_object};

/// What a feature measures. The engine computes each kind in exactly one place; the trainer calls
/// the same code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FeatureKind {
    /// Dot product of the query with the item vector; the neighbour score in a bundle without an
    /// encoder.
    RetrievalScore,
    /// Cosine of the item vector with the vector of the last session item, -1 to 1.
    LastItemSimilarity,
    /// Category overlap with the session, each step back weighted by `decay`, 0 to 1.
    CategoryAffinity,
    /// Jaccard overlap of categories with the last session item, 0 to 1.
    LastCategoryMatch,
    /// `ln(1 + count) / ln(1 + max count)` of training interactions, 0 to 1.
    Popularity,
    /// `ln(1 + days since published_at)`; 0 when unknown or in the future.
    AgeDays,
    /// `-|ln price - mean ln price of the session|`; 0 when unknown.
    PriceMatch,
    /// `1 / (1 + steps since the item was last in the session)`; 0 when it was not.
    Recency,
    /// `ln(1 + number of interactions in the session)`; the same for every candidate of a request.
    SessionLength,
    /// Hour of day of `now` in UTC over 24, 0 to 1; the same for every candidate of a request.
    HourOfDay,
    /// `ln` of the candidate's share of the softmax over the retrieval scores of all candidates of the
    /// request, at least -15.
    RetrievalShare,
    /// `ln(0.001 + share)` of the candidate's share of the sum of all candidates' neighbour scores above
    /// 0: the weights that the session's items have for it. `ln 0.001` in a bundle without neighbours.
    NeighbourShare,
}
json_names!(FeatureKind { RetrievalScore = "retrieval_score", LastItemSimilarity = "last_item_similarity", CategoryAffinity = "category_affinity", LastCategoryMatch = "last_category_match", Popularity = "popularity", AgeDays = "age_days", PriceMatch = "price_match", Recency = "recency", SessionLength = "session_length", HourOfDay = "hour_of_day", RetrievalShare = "retrieval_share", NeighbourShare = "neighbour_share" });

/// One named ranker input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Feature {
    /// Unique name, used in telemetry as `feature.<name>`.
    pub name: String,
    /// What it measures.
    pub kind: FeatureKind,
    /// Per-step decay in (0, 1], for kinds that decay; 1 otherwise.
    pub decay: f32,
}
json_object!(Feature { name, kind, decay });

/// The declared ranker inputs, in column order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureSpec {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Columns of the ranker input `[num_candidates, num_features]`.
    pub features: Vec<Feature>,
}
json_object!(FeatureSpec { format_version, features });

impl FeatureSpec {
    /// Largest accepted encoding.
    pub const MAX_BYTES: usize = 64 * 1024;
    /// Most features of the kind `category_affinity`: each has a number for every category in memory while a list is made.
    pub const MAX_AFFINITIES: usize = 32;

    /// The spec that the trainer uses unless a recipe says otherwise: every kind once.
    #[must_use]
    pub fn standard() -> Self {
        use FeatureKind as K;
        let kinds: [(&str, K, f32); 10] = [
            ("retrieval_score", K::RetrievalScore, 1.0),
            ("last_item_similarity", K::LastItemSimilarity, 1.0),
            ("category_affinity", K::CategoryAffinity, 0.8),
            ("last_category_match", K::LastCategoryMatch, 1.0),
            ("popularity", K::Popularity, 1.0),
            ("age_days", K::AgeDays, 1.0),
            ("price_match", K::PriceMatch, 1.0),
            ("recency", K::Recency, 1.0),
            ("session_length", K::SessionLength, 1.0),
            ("hour_of_day", K::HourOfDay, 1.0),
        ];
        let features = kinds
            .into_iter()
            .map(|(name, kind, decay)| Feature { name: name.to_owned(), kind, decay })
            .collect();
        Self { format_version: FORMAT_VERSION, features }
    }

    /// This spec with the score of a second retriever, for a bundle that has neighbours beside an
    /// encoder.
    #[must_use]
    pub fn with_neighbours(mut self) -> Self {
        let kinds = [
            ("retrieval_share", FeatureKind::RetrievalShare),
            ("neighbour_share", FeatureKind::NeighbourShare),
        ];
        self.features.extend(kinds.map(|(name, kind)| Feature { name: name.to_owned(), kind, decay: 1.0 }));
        self
    }

    /// This spec without what item vectors are needed for.
    #[must_use]
    pub fn without_vectors(mut self) -> Self {
        self.features.retain(|feature| feature.kind != FeatureKind::LastItemSimilarity);
        self
    }

    /// Decodes and checks `features.json`.
    ///
    /// # Errors
    /// [`Code::IncompatibleFeatures`] for unknown kinds, duplicate names or a decay out of range.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let spec: Self = decode_json(bytes, Self::MAX_BYTES, "features.json", Code::IncompatibleFeatures)?;
        let names: Vec<&str> = spec.features.iter().map(|feature| feature.name.as_str()).collect();
        if let Some(name) = repeated(&names) {
            return Err(Error::new(
                Code::IncompatibleFeatures,
                format!("feature {} is declared twice", quoted(name)),
            ));
        }
        let in_range = |decay: f32| decay > 0.0 && decay <= 1.0;
        if let Some(feature) = spec.features.iter().find(|feature| !in_range(feature.decay)) {
            let message = format!("feature {} has a decay out of (0, 1]", quoted(&feature.name));
            return Err(Error::new(Code::IncompatibleFeatures, message));
        }
        let affinities = spec.features.iter().filter(|feature| feature.kind == FeatureKind::CategoryAffinity);
        if affinities.count() > Self::MAX_AFFINITIES {
            return Err(Error::new(
                Code::IncompatibleFeatures,
                "features.json declares more than 32 category affinities",
            ));
        }
        if spec.features.is_empty() {
            return Err(Error::new(Code::IncompatibleFeatures, "features.json declares no feature"));
        }
        Ok(spec)
    }

    /// Canonical bytes: the same spec always gives the same bytes.
    ///
    /// # Panics
    /// Never: the spec holds only JSON-encodable values.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_text(self).into_bytes()
    }

    /// Hash of the canonical bytes, stated in the manifest.
    #[must_use]
    pub fn hash(&self) -> Sha256Hash {
        Sha256Hash::of(&self.encode())
    }
}
