//! One sort for all: every copy of a generic one is four kilobytes of a page's download.

use std::cmp::Ordering;

/// The positions under `len` in ascending order of `compare`; equal ones keep their order.
#[must_use]
pub fn sorted_positions(len: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..len).collect();
    positions.sort_by(|a, b| compare(*a, *b));
    positions
}

/// The first position under `len`, in ascending order of `compare`, whose next one equals it.
pub(crate) fn first_repeat(len: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Option<usize> {
    let positions = sorted_positions(len, compare);
    positions.windows(2).find(|pair| compare(pair[0], pair[1]).is_eq()).map(|pair| pair[0])
}

/// A name that is there twice.
pub(crate) fn repeated<'a>(names: &[&'a str]) -> Option<&'a str> {
    first_repeat(names.len(), &|a, b| names[a].cmp(names[b])).map(|at| names[at])
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
