//! Rows by their texts.

use std::collections::BinaryHeap;

/// Where the row of a text is found: a table with open addressing (Knuth, The Art of Computer Programming 3, 6.4, Algorithm L) that is half
/// full: eight bytes a row, made in one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowIndex {
    /// 0, or a row plus 1 and in the upper bits the lower ones of the hash of its text, so that most other texts need not be read.
    slots: Vec<u32>,
    /// Whether slots are all rows by ascending text instead: whoever makes texts of one hash must not make everybody else wait.
    is_sorted: bool,
}

/// Of a row plus 1; catalogues have at most 10,000,000 items.
const ROW_BITS: u32 = 24;
const TAG: u32 = u32::MAX << ROW_BITS;
/// Most bytes that are compared to make an index, as a multiple of the text. Other texts of one tag are one in 256.
const MOST_COMPARED: usize = 4;
/// Most slots that are looked at for a text. Of ten million random hashes the longest way had 49.
const MOST_STEPS: usize = 256;

impl RowIndex {
    /// The index of what `bounds` cut out of `text`.
    ///
    /// # Errors
    /// The later row of two with one text.
    ///
    /// # Panics
    /// When a bound is out of range, or there are 2^24 - 1 rows.
    pub fn new(text: &[u8], bounds: &[u32]) -> Result<Self, usize> {
        let num_rows = bounds.len().saturating_sub(1);
        assert!(num_rows < (1 << ROW_BITS) - 1, "a row has 24 bits");
        let mut slots = vec![0u32; 2 * num_rows];
        let mut compared = 0;
        for (row, pair) in (0..).zip(bounds.windows(2)) {
            let (start, end) = (pair[0] as usize, pair[1] as usize);
            let hash = hash(text, start, end);
            let mut is_it = |other| {
                compared += end - start;
                cut(text, bounds, other) == &text[start..end]
            };
            match walk(&slots, hash, &mut is_it) {
                Walk::Free(slot) => slots[slot] = hash << ROW_BITS | (row + 1),
                Walk::Found(_) => return Err(row as usize),
                Walk::TooLong => return Self::sorted(text, bounds),
            }
            if compared / MOST_COMPARED > text.len() {
                return Self::sorted(text, bounds);
            }
        }
        Ok(Self { slots, is_sorted: false })
    }

    fn sorted(text: &[u8], bounds: &[u32]) -> Result<Self, usize> {
        let rows: Vec<(&[u8], u32)> =
            (0..bounds.len() as u32 - 1).map(|row| (cut(text, bounds, row), row)).collect();
        let rows = BinaryHeap::from(rows).into_sorted_vec();
        match rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            Some(pair) => Err(pair[1].1 as usize),
            None => Ok(Self { slots: rows.into_iter().map(|(_, row)| row).collect(), is_sorted: true }),
        }
    }

    /// The row of a text among those that the index was made of.
    ///
    /// # Panics
    /// When a bound is out of range.
    #[must_use]
    pub fn find(&self, wanted: &[u8], text: &[u8], bounds: &[u32]) -> Option<u32> {
        if self.is_sorted {
            let found = self.slots.binary_search_by(|row| cut(text, bounds, *row).cmp(wanted));
            return found.ok().map(|at| self.slots[at]);
        }
        match walk(&self.slots, hash(wanted, 0, wanted.len()), |row| cut(text, bounds, row) == wanted) {
            Walk::Found(row) => Some(row),
            Walk::Free(_) | Walk::TooLong => None,
        }
    }
}

enum Walk {
    /// A slot in which the text may be put.
    Free(usize),
    /// The row of the text.
    Found(u32),
    TooLong,
}

/// From the place of a hash to the row that is the wanted one, or to the first free slot.
#[inline(always)]
fn walk(slots: &[u32], hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Walk {
    // The upper bits are the best of a product.
    let mut slot = ((u64::from(hash) * slots.len() as u64) >> 32) as usize;
    for _ in 0..MOST_STEPS {
        let Some(&held) = slots.get(slot) else { break };
        if held == 0 {
            return Walk::Free(slot);
        }
        let row = (held & !TAG).wrapping_sub(1);
        if (held ^ hash << ROW_BITS) & TAG == 0 && is_it(row) {
            return Walk::Found(row);
        }
        slot = if slot + 1 == slots.len() { 0 } else { slot + 1 };
    }
    Walk::TooLong
}

#[inline(always)]
fn cut<'a>(text: &'a [u8], bounds: &[u32], row: u32) -> &'a [u8] {
    let row = row as usize;
    &text[bounds[row] as usize..bounds[row + 1] as usize]
}

/// Multiplicative hashing (Knuth, as above) of eight bytes at a time, of which the last may be none, twice, so that every bit knows of every byte.
#[inline(always)]
fn hash(text: &[u8], start: usize, end: usize) -> u32 {
    let mut hash = (end - start) as u64;
    let mut at = start;
    loop {
        hash = (hash ^ word(text, at, end)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        hash ^= hash >> 32;
        at += 8;
        if at >= end {
            return (hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32;
        }
    }
}

/// Eight bytes, with zeros behind the end. A loop over single ones would be the longest part of a page's start.
#[inline(always)]
fn word(text: &[u8], start: usize, end: usize) -> u64 {
    let len = end - start;
    match text.get(start..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(eight) if len < 8 => u64::from_le_bytes(*eight) & !(u64::MAX << (8 * len)),
        Some(eight) => u64::from_le_bytes(*eight),
        None => text[start..end].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laid_out(texts: &[String]) -> (Vec<u8>, Vec<u32>) {
        let mut bounds = vec![0u32];
        texts.iter().for_each(|text| bounds.push(bounds[bounds.len() - 1] + text.len() as u32));
        (texts.concat().into_bytes(), bounds)
    }

    /// So many texts that begin at one place of a table of up to 2^12 slots.
    fn of_one_place(count: usize) -> Vec<String> {
        (0..)
            .map(|at| at.to_string())
            .filter(|text| hash(text.as_bytes(), 0, text.len()) >> 20 == 0)
            .take(count)
            .collect()
    }

    #[test]
    fn every_text_is_found_and_no_other() {
        type Name = fn(u32) -> String;
        let names: [Name; 4] = [
            |at| at.to_string(),
            |at| format!("i{}", at * 31 % 65_537),
            |at| format!("sku-{at:08}-de"),
            |at| format!("{:032x}", u128::from(at) * 0x9E37_79B9_7F4A_7C15_F39C_0C11),
        ];
        for name in names {
            for num_texts in [0, 1, 2, 7, 50_000] {
                let texts: Vec<String> = (0..num_texts).map(name).collect();
                let (text, bounds) = laid_out(&texts);
                let index = RowIndex::new(&text, &bounds).expect("no repeats");
                assert!(!index.is_sorted, "{num_texts} like {}", name(1));
                for (row, wanted) in (0..).zip(&texts) {
                    assert_eq!(index.find(wanted.as_bytes(), &text, &bounds), Some(row), "{wanted}");
                }
                for other in ["", "i", "x0"] {
                    assert_eq!(index.find(other.as_bytes(), &text, &bounds), None, "{other}");
                }
            }
        }
    }

    #[test]
    fn texts_of_one_place_are_sorted_and_found() {
        let texts = of_one_place(MOST_STEPS + 1);
        let (text, bounds) = laid_out(&texts);
        let index = RowIndex::new(&text, &bounds).expect("no repeats");
        assert!(index.is_sorted);
        for (row, wanted) in (0..).zip(&texts) {
            assert_eq!(index.find(wanted.as_bytes(), &text, &bounds), Some(row), "{wanted}");
        }
        assert_eq!(index.find(b"x", &text, &bounds), None);
    }

    #[test]
    fn long_texts_of_one_hash_are_sorted_early() {
        // Of one length, one beginning, one place and one tag, found by trying: each is compared with all before it.
        let one = |at: u32| format!("{}{at:08}", "x".repeat(16));
        let hash_of = |text: &str| hash(text.as_bytes(), 0, text.len()) & 0xF800_00FF;
        let wanted = hash_of(&one(0));
        let texts: Vec<String> = (0..).map(one).filter(|text| hash_of(text) == wanted).take(16).collect();
        let (text, bounds) = laid_out(&texts);
        let index = RowIndex::new(&text, &bounds).expect("no repeats");
        assert!(index.is_sorted);
        assert!(
            (0..).zip(&texts).all(|(row, wanted)| index.find(wanted.as_bytes(), &text, &bounds) == Some(row))
        );
    }

    #[test]
    fn a_repeat_is_found_in_tables_of_both_kinds() {
        for count in [200, 900] {
            let mut texts = of_one_place(count);
            texts.push(texts[17].clone());
            let (text, bounds) = laid_out(&texts);
            assert_eq!(RowIndex::new(&text, &bounds), Err(count));
        }
    }

    #[test]
    fn nothing_is_in_an_index_of_nothing() {
        assert_eq!(RowIndex::default().find(b"a", b"", &[]), None);
        assert_eq!(RowIndex::new(b"", &[]).map(|index| index.find(b"", b"", &[])), Ok(None));
    }
}
