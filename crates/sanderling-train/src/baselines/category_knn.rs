//! Category nearest neighbours: items whose categories are like those of the history. The only baseline that
//! knows anything of items nobody has touched.

use super::Baseline;
use crate::split::Split;

/// Weight of an interaction against the one after it.
const DECAY: f32 = 0.9;
/// Interactions of a history that are looked at.
const MAX_HISTORY: usize = 50;

/// Cosine of category vectors weighted by inverse document frequency, summed over the history with a decay
/// (content-based filtering; Pazzani & Billsus 2007, section 10.3).
#[derive(Debug)]
pub struct CategoryKnn {
    /// Items of each category.
    items: Vec<Vec<u32>>,
    /// Categories of each item.
    categories: Vec<Vec<u16>>,
    idf: Vec<f32>,
    /// Length of each item's vector.
    lengths: Vec<f32>,
}

impl CategoryKnn {
    /// Reads the categories of the vocabulary.
    #[must_use]
    pub fn fit(split: &Split) -> Self {
        let vocabulary = &split.vocabulary;
        let mut items = vec![Vec::new(); vocabulary.categories.len()];
        for (item, categories) in vocabulary.item_categories.iter().enumerate() {
            categories.iter().for_each(|&category| items[usize::from(category)].push(item as u32));
        }
        let idf: Vec<f32> = items
            .iter()
            .map(|items: &Vec<u32>| (vocabulary.len() as f32 / items.len().max(1) as f32).ln())
            .collect();
        let square = |category: &u16| idf[usize::from(*category)].powi(2);
        let lengths = vocabulary
            .item_categories
            .iter()
            .map(|categories| categories.iter().map(square).sum::<f32>().sqrt().max(1e-6))
            .collect();
        Self { items, categories: vocabulary.item_categories.clone(), idf, lengths }
    }
}

impl Baseline for CategoryKnn {
    fn name(&self) -> &'static str {
        "category-knn"
    }

    fn score(&self, history: &[u32], scores: &mut [f32]) {
        let mut taste = vec![0.0; self.items.len()];
        for (age, &item) in history.iter().rev().take(MAX_HISTORY).enumerate() {
            let weight = DECAY.powi(age as i32) / self.lengths[item as usize];
            for &category in &self.categories[item as usize] {
                taste[usize::from(category)] += weight * self.idf[usize::from(category)];
            }
        }
        for (category, weight) in taste.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            for &item in &self.items[category] {
                scores[item as usize] += weight * self.idf[category] / self.lengths[item as usize];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sanderling_types::TimeKind;

    use crate::baselines::tests::split_of;

    #[test]
    fn likes_what_shares_rare_categories() {
        let mut split = split_of(&[&[0, 1, 2, 3]], 4, TimeKind::Order);
        split.vocabulary.categories = vec!["any".to_owned(), "rare".to_owned()];
        split.vocabulary.item_categories = vec![vec![0, 1], vec![0], vec![0, 1], vec![]];
        let mut scores = vec![0.0; 4];
        CategoryKnn::fit(&split).score(&[0], &mut scores);
        assert!(scores[2] > scores[1], "{scores:?}");
        assert!(scores[1] > 0.0 && scores[3] == 0.0, "no category, no score: {scores:?}");
    }
}
