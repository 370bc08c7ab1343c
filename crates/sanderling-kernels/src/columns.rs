//! Columns of a file: little-endian numbers, and texts one behind the other. A page reads them before its first list, in code that
//! its engine has only just compiled, so these are plain loops.

/// The largest number of 32 bits; 0 of none.
#[must_use]
pub fn largest(column: &[[u8; 4]]) -> u32 {
    column.iter().fold(0, |largest, bytes| largest.max(u32::from_le_bytes(*bytes)))
}

/// Floats of 32 bits.
#[must_use]
pub fn f32s(column: &[[u8; 4]]) -> Vec<f32> {
    column.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Signed numbers of 16 bits.
#[must_use]
pub fn i16s(column: &[[u8; 2]]) -> Vec<i16> {
    column.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect()
}

/// The column that [`i16s`] reads.
#[must_use]
pub fn bytes_of_i16s(values: &[i16]) -> Vec<u8> {
    values.iter().map(|value| value.to_le_bytes()).collect::<Vec<_>>().into_flattened()
}

/// Signed numbers of 8 bits.
#[must_use]
pub fn i8s(column: &[u8]) -> Vec<i16> {
    column.iter().map(|byte| i16::from(*byte as i8)).collect()
}

/// The column that [`i8s`] reads.
#[must_use]
pub fn bytes_of_i8s(values: &[i16]) -> Vec<u8> {
    values.iter().map(|value| *value as u8).collect()
}

/// The column that [`f32s`] reads.
#[must_use]
pub fn bytes_of_f32s(values: &[f32]) -> Vec<u8> {
    values.iter().map(|value| value.to_le_bytes()).collect::<Vec<_>>().into_flattened()
}

/// Running sums: where each of so many begins, and where the last one ends. A sum that would not fit stays at the largest number.
#[must_use]
pub fn bounds(lengths: &[[u8; 2]]) -> Vec<u32> {
    let mut bounds = vec![0; lengths.len() + 1];
    let mut end = 0u32;
    for (bound, length) in bounds[1..].iter_mut().zip(lengths) {
        end = end.saturating_add(u32::from(u16::from_le_bytes(*length)));
        *bound = end;
    }
    bounds
}

/// Whether `bounds` cut `text` between characters, and its end is the last of them.
#[must_use]
pub fn cuts_characters_whole(text: &str, bounds: &[u32]) -> bool {
    let ends_there = bounds.last().is_some_and(|end| *end as usize == text.len());
    // All are in range then, since they ascend.
    ends_there && bounds.iter().all(|bound| text.is_char_boundary(*bound as usize))
}

/// The first of the lists that `bounds` cut out of `values` that is not ascending or has a value of at least `limit`.
///
/// # Panics
/// When a bound is out of range.
#[must_use]
pub fn first_bad_list(values: &[[u8; 2]], bounds: &[u32], limit: usize) -> Option<usize> {
    let value = |bytes: &[u8; 2]| usize::from(u16::from_le_bytes(*bytes));
    let all_are_small = values.iter().fold(0, |largest, bytes| value(bytes).max(largest)) < limit;
    // Most catalogues have at most one category for an item.
    let are_short = bounds.windows(2).fold(true, |all, pair| all & (pair[1].wrapping_sub(pair[0]) < 2));
    if all_are_small && are_short {
        return None;
    }
    let is_bad = |pair: &[u32]| {
        let (start, end) = (pair[0] as usize, pair[1] as usize);
        if all_are_small && end.wrapping_sub(start) < 2 {
            return false;
        }
        let list = &values[start..end];
        list.iter().any(|bytes| value(bytes) >= limit)
            || !list.is_sorted_by(|one, next| value(one) < value(next))
    };
    bounds.windows(2).position(is_bad)
}

/// The first of `prices` that is neither a finite number of at least 0 nor `unknown`.
#[must_use]
pub fn first_bad_price(prices: &[[u8; 4]], unknown: f32) -> Option<usize> {
    let is_bad = |bytes: &[u8; 4]| {
        let price = f32::from_le_bytes(*bytes);
        !((price == unknown) | (0.0..f32::INFINITY).contains(&price))
    };
    let any_is_bad = prices.iter().fold(false, |any, price| any | is_bad(price));
    if any_is_bad { prices.iter().position(is_bad) } else { None }
}

/// A float of which only the high half is kept (bfloat16): as wide a range as f32, three digits less.
#[must_use]
#[inline(always)]
pub fn half(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}

/// The bytes of the least such float that is not under `value`, a number of at least 0; infinity for what is larger than all of them.
#[must_use]
pub fn half_not_under(value: f32) -> [u8; 2] {
    (((value.to_bits() + 0xFFFF) >> 16) as u16).to_le_bytes()
}

/// The first of `scales`, floats of which the high half is kept, that is neither 0 nor a normal number over 0 and under `limit`.
#[must_use]
pub fn first_bad_scale(scales: &[[u8; 2]], limit: f32) -> Option<usize> {
    // Bits of floats from 0 ascend as the floats do.
    let (least, most) = (f32::MIN_POSITIVE.to_bits(), limit.to_bits());
    let is_bad = |scale: &[u8; 2]| {
        let bits = half(*scale).to_bits();
        (bits != 0) & (bits.wrapping_sub(least) >= most - least)
    };
    let any_is_bad = scales.iter().fold(false, |any, scale| any | is_bad(scale));
    if any_is_bad { scales.iter().position(is_bad) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_scale_is_found() {
        let bad = |scales: &[f32]| {
            let high_half = |scale: &f32| [scale.to_le_bytes()[2], scale.to_le_bytes()[3]];
            let scales: Vec<[u8; 2]> = scales.iter().map(high_half).collect();
            first_bad_scale(&scales, 1e30)
        };
        assert_eq!(bad(&[0.0, 1.0, f32::MIN_POSITIVE, 9.9e29]), None);
        for wrong in [-0.0, -1.0, 1.01e30, f32::INFINITY, f32::NAN, f32::MIN_POSITIVE / 2.0] {
            assert_eq!(bad(&[1.0, 0.0, wrong, 2.0]), Some(2), "{wrong}");
        }
    }

    #[test]
    fn lists_that_do_not_ascend_or_reach_the_limit_are_found() {
        let bad = |values: &[u16], bounds: &[u32]| {
            let values: Vec<[u8; 2]> = values.iter().map(|value| value.to_le_bytes()).collect();
            first_bad_list(&values, bounds, 5)
        };
        assert_eq!(bad(&[0, 4, 2], &[0, 2, 3, 3]), None);
        assert_eq!(bad(&[0, 4, 2], &[0, 0, 3]), Some(1), "4 before 2");
        assert_eq!(bad(&[1, 1], &[0, 2]), Some(0), "a repeat");
        assert_eq!(bad(&[0, 5], &[0, 1, 2]), Some(1), "the limit");
        assert_eq!(bad(&[], &[0]), None);
        assert_eq!(bad(&[0, 3, 3, 4], &[0, 1, 1, 4]), Some(2), "a repeat behind lists of one and none");
        assert_eq!(first_bad_list(&[], &[0, 0], 0), None, "no list has anything");
    }

    #[test]
    fn a_bad_price_is_found() {
        let bad = |prices: &[f32]| {
            let prices: Vec<[u8; 4]> = prices.iter().map(|price| price.to_le_bytes()).collect();
            first_bad_price(&prices, -1.0)
        };
        assert_eq!(bad(&[0.0, -0.0, -1.0, f32::MAX, 1e-40]), None);
        for wrong in [-2.0, -1e-40, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(bad(&[1.0, wrong, 2.0]), Some(1), "{wrong}");
        }
    }

    #[test]
    fn texts_cut_inside_a_character_are_found() {
        for (bounds, whole) in [
            (vec![0, 2, 5], true),
            (vec![0, 1, 5], false),
            (vec![0, 2], false),
            (vec![0, 2, 6], false),
            (vec![], false),
        ] {
            assert_eq!(cuts_characters_whole("é€", &bounds), whole, "{bounds:?}");
        }
    }
}
