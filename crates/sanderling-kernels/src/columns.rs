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

/// Multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4) of four bytes at a time, 32 bits.
fn hash(text: &[u8]) -> u32 {
    let (words, rest) = text.as_chunks::<4>();
    let add = |hash: u32, word: u32| (hash ^ word).wrapping_mul(0x9E37_79B1);
    let hash = words.iter().fold(text.len() as u32, |hash, word| add(hash, u32::from_le_bytes(*word)));
    let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
    let hash = add(hash, last);
    // The upper bits know of every byte; the lower ones, by which texts of a bucket are told apart, shall, too.
    hash ^ hash >> 15
}

/// A row, and in its upper bits the lower ones of the hash of its text, so that most other texts of a bucket need not be read.
pub type TaggedRow = u32;
/// Of rows; catalogues have at most 10,000,000 items.
const ROW_BITS: u32 = 24;
const TAG: u32 = u32::MAX << ROW_BITS;

fn tag(hash: u32) -> u32 {
    hash << ROW_BITS
}

/// Rows of texts in buckets of about four by the first bits of their hash, and where the rows of each bucket end. `text` is what
/// `bounds` cut. In a bucket rows ascend, or, where there are many of them, texts do.
///
/// # Errors
/// The later row of two with one text.
///
/// # Panics
/// When a bound is out of range, or there are 2^24 rows.
pub fn rows_by_hash(text: &[u8], bounds: &[u32]) -> Result<(Vec<TaggedRow>, Vec<u32>), usize> {
    let num_rows = bounds.len().saturating_sub(1);
    assert!(num_rows < 1 << ROW_BITS, "a row has 24 bits");
    let num_buckets = 1 << (num_rows.checked_ilog2().unwrap_or(0).clamp(3, 22) - 2);
    let text_of = |row: TaggedRow| cut(text, bounds, row);
    let mut ends = vec![0u32; num_buckets];
    let count = |row: TaggedRow| {
        let hash = hash(text_of(row));
        ends[bucket(hash, num_buckets)] += 1;
        hash
    };
    let hashes: Vec<u32> = (0..num_rows as u32).map(count).collect();
    let mut before = 0;
    for end in &mut ends {
        before += std::mem::replace(end, before);
    }
    let mut rows = vec![0; num_rows];
    for (row, hash) in (0..).zip(&hashes) {
        let end = &mut ends[bucket(*hash, num_buckets)];
        rows[*end as usize] = row | tag(*hash);
        *end += 1;
    }
    let mut start = 0;
    for end in &ends {
        let bucket = &mut rows[start..*end as usize];
        start = *end as usize;
        let repeated = if bucket.len() > LONG {
            let sorted: Vec<(&[u8], TaggedRow)> = bucket.iter().map(|row| (text_of(*row), *row)).collect();
            let sorted = BinaryHeap::from(sorted).into_sorted_vec();
            bucket.iter_mut().zip(&sorted).for_each(|(row, (_, sorted))| *row = *sorted);
            sorted.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[1].1)
        } else {
            repeated_in(bucket, &text_of)
        };
        if let Some(row) = repeated {
            return Err((row & !TAG) as usize);
        }
    }
    Ok((rows, ends))
}

/// A bucket of more rows is sorted by their texts: whoever makes ids of one hash must not make everybody else wait.
const LONG: usize = 32;

/// The row of a text among those of [`rows_by_hash`].
///
/// # Panics
/// When a bound or a row is out of range.
#[must_use]
pub fn row_of(wanted: &[u8], text: &[u8], bounds: &[u32], rows: &[TaggedRow], ends: &[u32]) -> Option<u32> {
    let hash = hash(wanted);
    let bucket = bucket(hash, ends.len());
    let start = bucket.checked_sub(1).map_or(0, |before| ends[before] as usize);
    let rows = &rows[start..ends[bucket] as usize];
    let found = if rows.len() > LONG {
        rows.binary_search_by(|row| cut(text, bounds, *row).cmp(wanted)).ok().map(|at| rows[at])
    } else {
        let is_it = |row: &TaggedRow| row & TAG == tag(hash) && cut(text, bounds, *row) == wanted;
        rows.iter().copied().find(is_it)
    };
    found.map(|row| row & !TAG)
}

fn cut<'a>(text: &'a [u8], bounds: &[u32], row: TaggedRow) -> &'a [u8] {
    let row = (row & !TAG) as usize;
    &text[bounds[row] as usize..bounds[row + 1] as usize]
}

fn repeated_in<'a>(rows: &[TaggedRow], text_of: &impl Fn(TaggedRow) -> &'a [u8]) -> Option<TaggedRow> {
    for (at, row) in rows.iter().enumerate() {
        let is_same = |other: &TaggedRow| (other ^ row) & TAG == 0 && text_of(*other) == text_of(*row);
        if rows[..at].iter().any(is_same) {
            return Some(*row);
        }
    }
    None
}

/// The bucket of a hash, of a power of two, at least 2.
fn bucket(hash: u32, num_buckets: usize) -> usize {
    (hash >> (32 - num_buckets.ilog2())) as usize
}

/// The first of `prices` that is neither a finite number of at least 0 nor `unknown`.
#[must_use]
pub fn first_bad_price(prices: &[f32], unknown: f32) -> Option<usize> {
    prices.iter().position(|price| !(*price == unknown || (*price >= 0.0 && *price < f32::INFINITY)))
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
    fn every_text_is_in_the_bucket_of_its_hash_once() {
        for num_texts in [0, 1, 7, 500] {
            let texts: Vec<String> = (0..num_texts).map(|at| format!("i{}", at * 31 % 65_537)).collect();
            let mut bounds = vec![0u32];
            texts.iter().for_each(|text| bounds.push(bounds[bounds.len() - 1] + text.len() as u32));
            let (rows, ends) = rows_by_hash(texts.concat().as_bytes(), &bounds).expect("no repeats");
            assert_eq!(rows.len(), num_texts);
            let mut start = 0;
            for (at, end) in ends.iter().enumerate() {
                for row in &rows[start..*end as usize] {
                    let text = texts[(row & !TAG) as usize].as_bytes();
                    assert_eq!(bucket(hash(text), ends.len()), at);
                    assert_eq!(
                        row_of(text, texts.concat().as_bytes(), &bounds, &rows, &ends),
                        Some(row & !TAG)
                    );
                }
                start = *end as usize;
            }
            let mut sorted: Vec<u32> = rows.iter().map(|row| row & !TAG).collect();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..num_texts as u32));
        }
    }

    #[test]
    fn a_repeat_is_found_in_short_and_long_buckets() {
        // Of 200 texts there are 32 buckets; these are all of the first.
        let of_first = (0..).map(|at| format!("{at}")).filter(|text| hash(text.as_bytes()) >> 27 == 0);
        let long: Vec<String> = of_first.take(199).collect();
        let short: Vec<String> = (0..199).map(|at| format!("{at}")).collect();
        for mut texts in [long, short] {
            let bounds = |texts: &[String]| {
                let mut bounds = vec![0u32];
                texts.iter().for_each(|text| bounds.push(bounds[bounds.len() - 1] + text.len() as u32));
                bounds
            };
            assert!(rows_by_hash(texts.concat().as_bytes(), &bounds(&texts)).is_ok());
            texts.push(texts[17].clone());
            assert_eq!(rows_by_hash(texts.concat().as_bytes(), &bounds(&texts)), Err(199));
        }
    }

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
