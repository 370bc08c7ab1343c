//! The total order of scores.

use std::cmp::Ordering;

use sanderling_types::ItemIndex;

/// Orders scored items as they are listed: descending score, NaN last, ties by ascending
/// [`ItemIndex`]. Two zeros of different sign tie.
///
/// ```
/// use sanderling_core::by_score;
/// use sanderling_types::ItemIndex;
///
/// let mut scored = [(0.5, ItemIndex(7)), (f32::NAN, ItemIndex(0)), (0.5, ItemIndex(2)), (0.9, ItemIndex(9))];
/// scored.sort_by(|a, b| by_score(*a, *b));
/// assert_eq!(scored.map(|(_, item)| item.0), [9, 2, 7, 0]);
/// ```
#[must_use]
pub fn by_score(a: (f32, ItemIndex), b: (f32, ItemIndex)) -> Ordering {
    score_descending(a.0, b.0).then(a.1.cmp(&b.1))
}

/// Orders scores alone: descending, NaN last.
pub(crate) fn score_descending(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::cmp::Ordering;

    use super::by_score;
    use sanderling_types::ItemIndex;

    fn scored() -> impl Strategy<Value = (f32, ItemIndex)> {
        let score = prop_oneof![
            Just(f32::NAN),
            Just(0.0f32),
            Just(-0.0f32),
            Just(f32::INFINITY),
            Just(f32::NEG_INFINITY),
            -2.0f32..2.0
        ];
        (score, (0u32..4).prop_map(ItemIndex))
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in scored(), b in scored(), c in scored()) {
            prop_assert_eq!(by_score(a, b), by_score(b, a).reverse());
            if by_score(a, b) != Ordering::Greater && by_score(b, c) != Ordering::Greater {
                prop_assert_ne!(by_score(a, c), Ordering::Greater);
            }
            if !a.0.is_nan() && b.0.is_nan() {
                prop_assert_eq!(by_score(a, b), Ordering::Less);
            }
        }
    }
}
