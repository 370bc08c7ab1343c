//! Columns of a file: little-endian numbers, and texts one behind the other. A page reads them before its first list, in code that
//! its engine has only just compiled, so these are plain loops.

use std::collections::BinaryHeap;

/// Numbers of 16 bits.
#[must_use]
pub fn u16s(column: &[[u8; 2]]) -> Vec<u16> {
    column.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect()
}

/// Numbers of 32 bits.
#[must_use]
pub fn u32s(column: &[[u8; 4]]) -> Vec<u32> {
    column.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
}

/// Floats of 32 bits.
#[must_use]
pub fn f32s(column: &[[u8; 4]]) -> Vec<f32> {
    column.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Signed numbers of 64 bits.
#[must_use]
pub fn i64s(column: &[[u8; 8]]) -> Vec<i64> {
    column.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

/// Numbers of 8 bits.
#[must_use]
pub fn i8s(column: &[u8]) -> Vec<i8> {
    column.iter().map(|byte| *byte as i8).collect()
}

/// The column that [`i8s`] reads.
#[must_use]
pub fn bytes_of_i8s(values: &[i8]) -> Vec<u8> {
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
    let mut end = 0u32;
    let mut bounds = Vec::with_capacity(lengths.len() + 1);
    bounds.push(0);
    bounds.extend(lengths.iter().map(|length| {
        end = end.saturating_add(u32::from(u16::from_le_bytes(*length)));
        end
    }));
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
pub fn first_bad_list(values: &[u16], bounds: &[u32], limit: usize) -> Option<usize> {
    let is_bad = |pair: &[u32]| {
        let list = &values[pair[0] as usize..pair[1] as usize];
        let mut least = 0;
        list.iter().any(|value| {
            let value = usize::from(*value);
            let bad = value < least || value >= limit;
            least = value + 1;
            bad
        })
    };
    bounds.windows(2).position(is_bad)
}

/// FNV-1a (Fowler, Noll and Vo), 32 bits.
#[must_use]
pub fn hash(text: &[u8]) -> u32 {
    text.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Of the texts that `bounds` cut out of `text` the hash in the high half and the row in the low half, ascending; and where the keys of
/// each bucket of [`bucket`] end.
///
/// # Panics
/// When a bound is out of range.
#[must_use]
pub fn rows_by_hash(text: &[u8], bounds: &[u32]) -> (Vec<u64>, Vec<u32>) {
    let hash_of = |pair: &[u32]| u64::from(hash(&text[pair[0] as usize..pair[1] as usize]));
    let keys: Vec<u64> = bounds.windows(2).zip(0u64..).map(|(pair, row)| hash_of(pair) << 32 | row).collect();
    sorted(&keys)
}

/// The bucket of a hash, of a power of two, at least 2.
#[must_use]
pub fn bucket(hash: u32, num_buckets: usize) -> usize {
    (hash >> (32 - num_buckets.ilog2())) as usize
}

/// Sorted by buckets of their first bits (Knuth 1998, section 5.2.1, multiple list insertion): less than half the time of a radix sort
/// in code that was only just compiled.
fn sorted(keys: &[u64]) -> (Vec<u64>, Vec<u32>) {
    /// Buckets of more than these are sorted in a time that their order does not change.
    const LONGEST: usize = 64;
    // About four keys a bucket.
    let bits = keys.len().checked_ilog2().unwrap_or(0).clamp(3, 22) - 2;
    let mut ends = vec![0u32; 1 << bits];
    let bucket = |key: u64| bucket((key >> 32) as u32, 1 << bits);
    for key in keys {
        ends[bucket(*key)] += 1;
    }
    let mut before = 0;
    for end in &mut ends {
        before += std::mem::replace(end, before);
    }
    let mut sorted = vec![0; keys.len()];
    for key in keys {
        let end = &mut ends[bucket(*key)];
        sorted[*end as usize] = *key;
        *end += 1;
    }
    let mut start = 0;
    for end in &ends {
        let bucket = &mut sorted[start..*end as usize];
        start = *end as usize;
        if bucket.len() > LONGEST {
            bucket.copy_from_slice(&BinaryHeap::from(bucket.to_vec()).into_sorted_vec());
        } else {
            insertion_sort(bucket);
        }
    }
    (sorted, ends)
}

fn insertion_sort(keys: &mut [u64]) {
    for at in 1..keys.len() {
        let key = keys[at];
        let mut place = at;
        while place > 0 && keys[place - 1] > key {
            keys[place] = keys[place - 1];
            place -= 1;
        }
        keys[place] = key;
    }
}

/// The first of `scales`, f32 in little-endian bytes, that is neither 0 nor a normal number over 0 and under `limit`.
#[must_use]
pub fn first_bad_scale(scales: &[[u8; 4]], limit: f32) -> Option<usize> {
    // Bits of floats from 0 ascend as the floats do.
    let (least, most) = (f32::MIN_POSITIVE.to_bits(), limit.to_bits());
    let is_bad = |scale: &[u8; 4]| {
        let bits = u32::from_le_bytes(*scale);
        (bits != 0) & (bits.wrapping_sub(least) >= most - least)
    };
    let any_is_bad = scales.iter().fold(false, |any, scale| any | is_bad(scale));
    if any_is_bad { scales.iter().position(is_bad) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_whatever_they_are() {
        let mut state = 1u64;
        let mut keys: Vec<u64> = (0..5000u64)
            .map(|row| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let many_are_equal = if row % 3 == 0 { !(0xFFFF << 40) } else { u64::MAX };
                (state >> 32 << 32 | row) & many_are_equal
            })
            .collect();
        for shift in [0, 20, 32] {
            let mut keys: Vec<u64> = keys.iter().map(|key| key >> shift).collect();
            let (found, ends) = sorted(&keys);
            keys.sort_unstable();
            assert_eq!(found, keys);
            let place = |key: &u64| found.partition_point(|other| other < key);
            let in_bucket = |key: &u64| place(key) < ends[bucket((key >> 32) as u32, ends.len())] as usize;
            assert!(keys.iter().all(in_bucket));
        }
        keys.truncate(1);
        assert_eq!(sorted(&keys).0, keys);
        assert!(sorted(&[]).0.is_empty());
    }

    #[test]
    fn a_bad_scale_is_found() {
        let bad = |scales: &[f32]| {
            let scales: Vec<[u8; 4]> = scales.iter().map(|scale| scale.to_le_bytes()).collect();
            first_bad_scale(&scales, 1e30)
        };
        assert_eq!(bad(&[0.0, 1.0, f32::MIN_POSITIVE, 9.9e29]), None);
        for wrong in [-0.0, -1.0, 1e30, f32::INFINITY, f32::NAN, f32::MIN_POSITIVE / 2.0] {
            assert_eq!(bad(&[1.0, 0.0, wrong, 2.0]), Some(2), "{wrong}");
        }
    }

    #[test]
    fn lists_that_do_not_ascend_or_reach_the_limit_are_found() {
        let bad = |values: &[u16], bounds: &[u32]| first_bad_list(values, bounds, 5);
        assert_eq!(bad(&[0, 4, 2], &[0, 2, 3, 3]), None);
        assert_eq!(bad(&[0, 4, 2], &[0, 0, 3]), Some(1), "4 before 2");
        assert_eq!(bad(&[1, 1], &[0, 2]), Some(0), "a repeat");
        assert_eq!(bad(&[0, 5], &[0, 1, 2]), Some(1), "the limit");
        assert_eq!(bad(&[], &[0]), None);
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
