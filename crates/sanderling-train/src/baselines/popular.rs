//! `popular`.

use super::Baseline;
use crate::split::Split;

/// Most training interactions first.
#[derive(Debug)]
pub struct Popular {
    counts: Vec<f32>,
}

impl Popular {
    /// Counts the training part.
    #[must_use]
    pub fn fit(split: &Split) -> Self {
        Self { counts: split.vocabulary.popularity.iter().map(|&count| count as f32).collect() }
    }
}

impl Baseline for Popular {
    fn name(&self) -> &'static str {
        "popular"
    }

    fn score(&self, _history: &[u32], scores: &mut [f32]) {
        scores.copy_from_slice(&self.counts);
    }
}
