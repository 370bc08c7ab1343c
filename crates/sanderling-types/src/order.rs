//! One sort for all: every copy of a generic one is four kilobytes of a page's download.

use std::cmp::Ordering;

/// The positions under `len` in ascending order of `compare`; equal ones keep their order.
#[must_use]
pub fn sorted_positions(len: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..len).collect();
    positions.sort_by(|a, b| compare(*a, *b));
    positions
}

/// A name that is there twice.
pub(crate) fn repeated<'a>(names: &[&'a str]) -> Option<&'a str> {
    let positions = sorted_positions(names.len(), &|a, b| names[a].cmp(names[b]));
    positions.windows(2).find(|pair| names[pair[0]] == names[pair[1]]).map(|pair| names[pair[0]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_sorted_and_equal_ones_keep_their_order() {
        let values = [3, 1, 2, 1];
        assert_eq!(sorted_positions(4, &|a, b| values[a].cmp(&values[b])), [1, 3, 2, 0]);
        assert_eq!(repeated(&["b", "a", "c"]), None);
        assert_eq!(repeated(&["b", "a", "c", "a"]), Some("a"));
    }
}
