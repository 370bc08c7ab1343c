//! The baseline: what the distributions of a bundle's features, scores and outcomes looked like
//! at training time, and the bins in which devices count.

use serde::Serialize;

use crate::json::{quoted, to_text};
use crate::order::repeated;
use crate::{
    Code, Error, Fields, FromJson, Json, Mismatch, Result, decode_json, deserialize_from_json, json_object,
};

/// How a value becomes a bin.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum FieldKind {
    /// Ascending inner edges; value `v` falls into bin `number of edges <= v`, so `edges.len() + 1`
    /// bins. NaN falls into bin 0.
    Numeric {
        /// Strictly ascending, finite.
        edges: Vec<f32>,
    },
    /// One bin a label.
    Categorical {
        /// Distinct names, in bin order.
        labels: Vec<String>,
    },
}

impl FromJson for FieldKind {
    fn from_json(value: Json<'_>) -> std::result::Result<Self, Mismatch> {
        let mut fields = Fields::of(value)?;
        let out = match fields.take_one_of("kind", &["numeric", "categorical"])? {
            0 => FieldKind::Numeric { edges: fields.take("edges")? },
            _ => FieldKind::Categorical { labels: fields.take("labels")? },
        };
        fields.finish().map(|()| out)
    }
}
deserialize_from_json!(FieldKind);

impl FieldKind {
    /// Number of bins.
    #[must_use]
    pub fn num_bins(&self) -> usize {
        match self {
            FieldKind::Numeric { edges } => edges.len() + 1,
            FieldKind::Categorical { labels } => labels.len(),
        }
    }

    /// The bin of a number; `None` for a categorical field.
    #[must_use]
    pub fn bin_of_value(&self, value: f32) -> Option<usize> {
        match self {
            FieldKind::Numeric { edges } => Some(edges.partition_point(|edge| *edge <= value)),
            FieldKind::Categorical { .. } => None,
        }
    }

    /// What a bin holds, for people: its label, or the interval between its edges. Empty for a bin that is not there.
    #[must_use]
    pub fn name_of_bin(&self, bin: usize) -> String {
        match self {
            FieldKind::Categorical { labels } => labels.get(bin).cloned().unwrap_or_default(),
            FieldKind::Numeric { edges } => {
                let edge = |at: usize| edges.get(at).map(|edge| format!("{edge:.3}"));
                match (bin.checked_sub(1).and_then(edge), edge(bin)) {
                    (None, Some(to)) if bin == 0 => format!("under {to}"),
                    (Some(from), Some(to)) => format!("{from} to {to}"),
                    (Some(from), None) => format!("{from} and over"),
                    _ => String::new(),
                }
            }
        }
    }

    /// The bin of a label; `None` for a numeric field or an unknown label.
    #[must_use]
    pub fn bin_of_label(&self, label: &str) -> Option<usize> {
        match self {
            FieldKind::Numeric { .. } => None,
            FieldKind::Categorical { labels } => labels.iter().position(|known| known == label),
        }
    }
}

/// One declared telemetry field: its bins, and its distribution at training time where one exists.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BaselineField {
    /// Unique dotted name: `feature.<name>`, `score.retrieval`, `score.ranker`,
    /// `outcome.position`, `interaction.category`, `fault`.
    pub name: String,
    /// How a value becomes a bin.
    pub bins: FieldKind,
    /// Share of each bin at training time, summing to 1, or `None` where training has no
    /// counterpart (outcomes, faults); such fields are judged against a reference window.
    pub shares: Option<Vec<f64>>,
    /// Number of independent devices (users) behind `shares`; 0 without shares.
    pub num_devices: u64,
}
json_object!(BaselineField { name, bins, shares, num_devices });

/// Every declared field of a bundle's telemetry, in the order that reports refer to by name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Baseline {
    /// [`crate::FORMAT_VERSION`].
    pub format_version: u32,
    /// The fields.
    pub fields: Vec<BaselineField>,
}
json_object!(Baseline { format_version, fields });

impl Baseline {
    /// Largest accepted encoding.
    pub const MAX_BYTES: usize = 1024 * 1024;
    /// Most bins of a field.
    pub const MAX_BINS: usize = 64;

    /// Decodes and checks `baseline.json`.
    ///
    /// # Errors
    /// [`Code::BaselineInvalid`] for duplicate names, unordered edges, shares of another length or
    /// that do not sum to 1.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let baseline: Self = decode_json(bytes, Self::MAX_BYTES, "baseline.json", Code::BaselineInvalid)?;
        let names: Vec<&str> = baseline.fields.iter().map(|field| field.name.as_str()).collect();
        if let Some(name) = repeated(&names) {
            return Err(Error::new(
                Code::BaselineInvalid,
                format!("field {} is declared twice", quoted(name)),
            ));
        }
        baseline.fields.iter().try_for_each(check_field)?;
        Ok(baseline)
    }

    /// Canonical bytes.
    ///
    /// # Panics
    /// Never: a baseline holds only JSON-encodable values.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        to_text(self).into_bytes()
    }

    /// The field of a name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&BaselineField> {
        self.fields.iter().find(|field| field.name == name)
    }
}

fn check_field(field: &BaselineField) -> Result<()> {
    let invalid =
        |what: &str| Err(Error::new(Code::BaselineInvalid, format!("field {}: {what}", quoted(&field.name))));
    let num_bins = field.bins.num_bins();
    if !(2..=Baseline::MAX_BINS).contains(&num_bins) {
        return invalid("the number of bins is not between 2 and 64");
    }
    match &field.bins {
        FieldKind::Numeric { edges } => {
            if edges.iter().any(|edge| !edge.is_finite()) || edges.windows(2).any(|pair| pair[0] >= pair[1]) {
                return invalid("edges are not finite and strictly ascending");
            }
        }
        FieldKind::Categorical { labels } => {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            if repeated(&labels).is_some() {
                return invalid("labels repeat");
            }
        }
    }
    if let Some(shares) = &field.shares {
        let sum: f64 = shares.iter().sum();
        let in_range = shares.iter().all(|share| (0.0..=1.0).contains(share));
        if shares.len() != num_bins || !in_range || (sum - 1.0).abs() > 1e-6 {
            return invalid("shares do not match the bins or do not sum to 1");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::FieldKind;

    #[test]
    fn bins_have_names_for_people() {
        let names =
            |kind: &FieldKind, num: usize| (0..num).map(|bin| kind.name_of_bin(bin)).collect::<Vec<_>>();
        let numeric = FieldKind::Numeric { edges: vec![-1.0, 0.5] };
        assert_eq!(names(&numeric, 4), ["under -1.000", "-1.000 to 0.500", "0.500 and over", ""]);
        let one = FieldKind::Numeric { edges: vec![2.0] };
        assert_eq!(names(&one, 3), ["under 2.000", "2.000 and over", ""]);
        let labels = FieldKind::Categorical { labels: vec!["hats".to_owned(), "other".to_owned()] };
        assert_eq!(names(&labels, 3), ["hats", "other", ""]);
    }
}
