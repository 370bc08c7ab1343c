//! What devices reported to have done lately: importance weights of training targets.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::split::Split;

/// Least and largest weight: reports are noised, and some may be forged.
const BOUNDS: (f64, f64) = (0.5, 2.0);

/// A debiased share of answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// The share; noise may take it a little under 0 or over 1.
    pub value: f64,
    /// Its standard error.
    pub standard_error: f64,
}

impl Share {
    /// How many times `trained` the share is, drawn towards 1 by the part of the squared difference that is its variance.
    fn ratio(self, trained: f64) -> f64 {
        if trained <= 0.0 {
            return 1.0;
        }
        let difference = self.value - trained;
        let believed = (1.0 - (self.standard_error / difference).powi(2)).max(0.0);
        if believed.is_finite() { 1.0 + believed * difference / trained } else { 1.0 }
    }
}

/// Shares of interactions, as devices reported them. Empty where nothing is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Reported {
    /// By name of the item's first category.
    pub categories: BTreeMap<String, Share>,
    /// By item id, of items with a bin of their own.
    pub items: BTreeMap<String, Share>,
}

impl Reported {
    /// Weight of every item as a target: how many times as frequent it is by now as in training (importance weighting under
    /// covariate shift, Shimodaira 2000). What is reported of an item itself counts before what is reported of its
    /// category. Empty where nothing is known.
    pub(crate) fn target_weights(&self, split: &Split) -> Vec<f32> {
        if self.categories.is_empty() && self.items.is_empty() {
            return Vec::new();
        }
        let vocabulary = &split.vocabulary;
        let first = |row: usize| {
            vocabulary.item_categories[row].first().map(|&c| &vocabulary.categories[usize::from(c)])
        };
        let total: f64 = vocabulary.popularity.iter().map(|&count| f64::from(count)).sum();
        let trained = |row: usize| f64::from(vocabulary.popularity[row]) / total;
        let mut by_category: BTreeMap<&String, f64> = BTreeMap::new();
        for row in 0..vocabulary.len() {
            if let Some(category) = first(row) {
                *by_category.entry(category).or_default() += trained(row);
            }
        }
        let of_category = |row: usize| {
            first(row).and_then(|name| Some(self.categories.get(name)?.ratio(*by_category.get(name)?)))
        };
        let of_item = |row: usize| {
            let share = self
                .items
                .get(vocabulary.item_ids[row].as_str())
                .filter(|_| vocabulary.popularity[row] > 0)?;
            // One that noise explains says nothing against its category.
            Some(share.ratio(trained(row))).filter(|ratio| *ratio != 1.0)
        };
        (0..vocabulary.len())
            .map(|row| {
                of_item(row).or_else(|| of_category(row)).unwrap_or(1.0).clamp(BOUNDS.0, BOUNDS.1) as f32
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use sanderling_types::{Interaction, Item, TimeKind};

    use super::*;
    use crate::data::Dataset;
    use crate::split::{SplitKind, split};

    /// Three items, the first of which is half of the interactions; two of them are hats.
    fn logs() -> Split {
        let act = |at: i64| Interaction {
            user_id: format!("u{}", at % 10).as_str().into(),
            item_id: ["beret", "cap", "beret", "boot"][at as usize % 4].into(),
            kind: "view".to_owned(),
            timestamp: 1_000 * at,
            value: None,
            split: None,
        };
        let item = |id: &str, category: &str| Item {
            item_id: id.into(),
            title: String::new(),
            categories: vec![category.to_owned()],
            price: None,
            published_at: None,
            attributes: BTreeMap::new(),
        };
        let items = vec![item("beret", "hats"), item("cap", "hats"), item("boot", "shoes")];
        let data = Dataset::new((0..400).map(act), items, TimeKind::UnixSeconds).expect("fits");
        split(&data, SplitKind::Time).expect("divides")
    }

    fn weights(reported: &Reported) -> BTreeMap<String, f32> {
        let split = logs();
        let names = split.vocabulary.item_ids.iter().map(|id| id.as_str().to_owned());
        names.zip(reported.target_weights(&split)).collect()
    }

    fn shares(of: &[(&str, f64, f64)]) -> BTreeMap<String, Share> {
        of.iter()
            .map(|&(name, value, standard_error)| (name.to_owned(), Share { value, standard_error }))
            .collect()
    }

    #[test]
    fn targets_weigh_as_much_as_they_became_more_frequent_within_bounds() {
        let categories = shares(&[("hats", 0.45, 0.0), ("shoes", 0.9, 0.0), ("gloves", 0.1, 0.0)]);
        let found = weights(&Reported { categories, ..Reported::default() });
        assert!((found["cap"] - 0.6).abs() < 1e-6 && found["cap"] == found["beret"], "{found:?}");
        assert_eq!(found["boot"], 2.0, "no report makes anything more than twice as heavy");
        assert!(weights(&Reported::default()).is_empty());
    }

    #[test]
    fn a_category_that_nobody_trained_on_changes_nothing() {
        assert_eq!(Share { value: 0.0, standard_error: 0.1 }.ratio(0.0), 1.0);
        assert_eq!(Share { value: 0.3, standard_error: 0.1 }.ratio(0.0), 1.0);
    }

    #[test]
    fn an_item_counts_before_its_category_as_far_as_noise_does_not_explain_it() {
        let categories = shares(&[("hats", 0.9, 0.0)]);
        let clear = shares(&[("beret", 0.6, 0.01), ("other", 0.4, 0.01)]);
        let found = weights(&Reported { categories: categories.clone(), items: clear });
        assert!((f64::from(found["beret"]) - 1.2).abs() < 0.01, "{found:?}");
        assert!((found["cap"] - 1.2).abs() < 1e-6);
        let noise = shares(&[("beret", 0.55, 0.2)]);
        let found = weights(&Reported { categories, items: noise });
        assert!((found["beret"] - 1.2).abs() < 1e-6, "its category's: {found:?}");
        assert_eq!(found["boot"], 1.0);
    }
}
