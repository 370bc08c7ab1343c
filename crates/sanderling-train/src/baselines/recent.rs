//! `recent`.

use sanderling_types::TimeKind;

use super::Baseline;
use crate::split::Split;

/// Half-life as a share of the time from the first to the last training interaction.
const HALF_LIFE_SHARE: f64 = 0.1;

/// Popularity that fades: a training interaction counts `0.5^(age / half-life)`, where age is the
/// time to the last training interaction and the half-life a tenth of the training span. Without
/// timestamps, time is the place in the log, one sequence after the other, so that what a log lists
/// last counts as newest.
#[derive(Debug)]
pub struct Recent {
    weights: Vec<f32>,
}

impl Recent {
    /// Adds up the training part. Where everything happened at once this is [`super::Popular`].
    #[must_use]
    pub fn fit(split: &Split) -> Self {
        Self::with_half_life(split, HALF_LIFE_SHARE)
    }

    /// The same with another half-life, as a share of the training span.
    pub(crate) fn with_half_life(split: &Split, share: f64) -> Self {
        let log: Vec<(u32, f64)> = split
            .training()
            .flatten()
            .enumerate()
            .map(|(place, event)| match split.time {
                TimeKind::UnixSeconds => (event.item, event.timestamp as f64),
                TimeKind::Order => (event.item, place as f64),
            })
            .collect();
        let first = log.iter().map(|&(_, time)| time).fold(f64::INFINITY, f64::min);
        let last = log.iter().map(|&(_, time)| time).fold(f64::NEG_INFINITY, f64::max);
        // At least one unit, so that a log of one moment does not divide by zero.
        let half_life = ((last - first) * share).max(1.0);
        let mut weights = vec![0.0f64; split.vocabulary.len()];
        for (item, time) in log {
            weights[item as usize] += ((time - last) / half_life).exp2();
        }
        Self { weights: weights.into_iter().map(|weight| weight as f32).collect() }
    }
}

impl Baseline for Recent {
    fn name(&self) -> &'static str {
        "recent"
    }

    fn score(&self, _history: &[u32], scores: &mut [f32]) {
        scores.copy_from_slice(&self.weights);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::tests::{split_at, split_of};

    #[test]
    fn what_is_a_half_life_older_counts_half() {
        // Item 0 three times at the start, item 1 once at the end, item 2 a half-life before it.
        let split = split_at(&[&[(0, 0), (0, 0), (0, 0)], &[(2, 90), (1, 100)]], 3, TimeKind::UnixSeconds);
        let recent = Recent::fit(&split);
        assert_eq!(recent.weights, [3.0 / 1024.0, 1.0, 0.5]);
        let mut scores = [0.0; 3];
        recent.score(&[2], &mut scores);
        assert_eq!(scores, recent.weights[..]);
    }

    #[test]
    fn without_timestamps_the_place_in_the_log_is_the_time() {
        let recent = Recent::fit(&split_of(&[&[0; 15], &[0, 0, 0, 0, 0, 1]], 2, TimeKind::Order));
        // Twenty places from first to last make a half-life of two.
        let expected: f32 = (1..=20).map(|age| (-0.5 * age as f32).exp2()).sum();
        assert!((recent.weights[0] - expected).abs() < 1e-6 && recent.weights[1] == 1.0);
    }

    #[test]
    fn one_moment_is_popularity() {
        let split = split_at(&[&[(0, 7), (1, 7)], &[(1, 7)]], 2, TimeKind::UnixSeconds);
        assert_eq!(Recent::fit(&split).weights, [1.0, 2.0]);
    }
}
