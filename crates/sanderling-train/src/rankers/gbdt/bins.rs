//! Features as quantile bins: what a split can tell apart.

use rayon::prelude::*;

use crate::rankers::lists::CandidateList;

/// Bins of a column in memory; the last one is [`MISSING`].
pub(super) const NUM_BINS: usize = 256;
/// The bin of a value that is not a number.
pub(super) const MISSING: usize = 255;

/// Every candidate's bin in every feature.
#[derive(Debug)]
pub(super) struct Bins {
    /// Inner edges of each feature, ascending and finite: bin `b` holds values above edge `b - 1` and at
    /// most edge `b`, so an edge is a threshold.
    pub(super) edges: Vec<Vec<f32>>,
    /// `[num_features]` columns of `[num_candidates]`, list after list.
    pub(super) columns: Vec<Vec<u8>>,
}

impl Bins {
    /// At most `max_bins` (2 to 255) bins a feature.
    pub(super) fn new(lists: &[&CandidateList], num_features: usize, max_bins: usize) -> Self {
        let (edges, columns) = (0..num_features)
            .into_par_iter()
            .map(|feature| {
                let column = |list: &&CandidateList| {
                    list.features.iter().skip(feature).step_by(num_features).copied().collect::<Vec<f32>>()
                };
                let values: Vec<f32> = lists.iter().flat_map(column).collect();
                let edges = edges(&values, max_bins);
                let bin = |&value: &f32| {
                    if value.is_nan() {
                        MISSING as u8
                    } else {
                        edges.partition_point(|edge| *edge < value) as u8
                    }
                };
                let column = values.iter().map(bin).collect();
                (edges, column)
            })
            .unzip();
        Self { edges, columns }
    }
}

/// Edges between distinct values: all of them where there are few, else so that every bin holds about
/// as many candidates.
fn edges(values: &[f32], max_bins: usize) -> Vec<f32> {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let total = sorted.len();
    let groups: Vec<&[f32]> = sorted.chunk_by(|a, b| a == b).collect();
    let all = groups.len() <= max_bins;
    let mut edges = Vec::new();
    let (mut below, mut full) = (0, 0);
    for pair in groups.windows(2) {
        below += pair[0].len();
        if all || below * max_bins >= total * (full + 1) {
            edges.push(between(pair[0][0], pair[1][0]));
            full = below * max_bins / total;
        }
    }
    edges
}

/// The middle of two values, `low` or above and under `high`.
fn between(low: f32, high: f32) -> f32 {
    let middle = (f64::midpoint(f64::from(low), f64::from(high))) as f32;
    if middle < high { middle } else { low }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_have_a_bin_each_and_edges_lie_between() {
        assert_eq!(edges(&[3.0, 1.0, 1.0, 2.0], 4), [1.5, 2.5]);
        assert_eq!(edges(&[f32::NAN, f32::INFINITY, 1.0], 4), [] as [f32; 0]);
        let next = f32::from_bits(1.0f32.to_bits() + 1);
        assert_eq!(edges(&[1.0, next], 4), [1.0], "at most the edge is left of it");
        assert_eq!(edges(&[-f32::MAX, f32::MAX], 4), [0.0]);
        assert_eq!(edges(&[-0.0, 0.0], 4), [] as [f32; 0], "two zeros are one value");
    }

    #[test]
    fn many_values_are_divided_evenly() {
        let values: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let found = edges(&values, 4);
        assert_eq!(found, [249.5, 499.5, 749.5]);
        // Half of the values are equal: they take a bin, the rest shares the others.
        let skewed: Vec<f32> = (0..1000).map(|i| if i < 500 { 0.0 } else { i as f32 }).collect();
        assert_eq!(edges(&skewed, 4), [250.0, 749.5]);
    }

    #[test]
    fn every_value_falls_into_the_bin_of_its_threshold() {
        let values = [0.5, f32::NAN, -1.0, f32::INFINITY, 2.0, f32::NEG_INFINITY];
        let list = CandidateList { user: 0, features: values.to_vec(), relevant: Some(0) };
        let bins = Bins::new(&[&list], 1, 255);
        assert_eq!(bins.edges[0], [-0.25, 1.25]);
        assert_eq!(bins.columns[0], [1, 255, 0, 2, 2, 0]);
    }
}
