//! Outside ids, kept once each, and the dense numbers that stand for them in memory.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

/// Different texts, numbered from 0 in the order in which they first appeared.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    /// All texts, one behind the other: a `String` each would cost more than most ids are long.
    text: String,
    /// Where each text ends.
    ends: Vec<usize>,
    numbers: HashTable<u32>,
    hasher: RandomState,
}

impl Ids {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text of a number below [`Ids::len`].
    #[must_use]
    pub fn text(&self, number: u32) -> &str {
        text_at(&self.text, &self.ends, number)
    }

    /// Every text in the order of its number.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len() as u32).map(|number| self.text(number))
    }

    /// The number of a text.
    #[must_use]
    pub fn number(&self, text: &str) -> Option<u32> {
        let is_it = |&number: &u32| self.text(number) == text;
        self.numbers.find(self.hasher.hash_one(text), is_it).copied()
    }

    /// The number of a text, which is a new one if need be; `None` where `max_len` others are there.
    pub(crate) fn intern(&mut self, text: &str, max_len: u32) -> Option<u32> {
        let Self { text: all, ends, numbers, hasher } = self;
        let hash = hasher.hash_one(text);
        if let Some(&number) = numbers.find(hash, |&number| text_at(all, ends, number) == text) {
            return Some(number);
        }
        let number = u32::try_from(ends.len()).ok().filter(|number| *number < max_len)?;
        all.push_str(text);
        ends.push(all.len());
        numbers.insert_unique(hash, number, |&number| hasher.hash_one(text_at(all, ends, number)));
        Some(number)
    }
}

fn text_at<'a>(all: &'a str, ends: &[usize], number: u32) -> &'a str {
    let at = number as usize;
    let start = if at == 0 { 0 } else { ends[at - 1] };
    &all[start..ends[at]]
}

#[cfg(test)]
mod tests {
    use super::Ids;

    #[test]
    fn every_text_has_one_number_and_comes_back() {
        let mut ids = Ids::default();
        let texts: Vec<String> = (0..10_000).map(|at| format!("ü{}", at * 7 % 5_000)).collect();
        let numbers: Vec<u32> = texts.iter().map(|text| ids.intern(text, 5_001).unwrap()).collect();
        assert_eq!((ids.len(), numbers[0], numbers[1], numbers[5_000]), (5_000, 0, 1, 0));
        assert!(texts.iter().zip(&numbers).all(|(text, &number)| ids.text(number) == text));
        assert!(texts.iter().zip(&numbers).all(|(text, &number)| ids.number(text) == Some(number)));
        assert_eq!((ids.number(""), ids.intern("", 5_001), ids.number("")), (None, Some(5_000), Some(5_000)));
        assert_eq!((ids.intern("one more", 5_001), ids.len()), (None, 5_001));
        assert!(ids.iter().eq((0..5_001).map(|number| ids.text(number))));
    }
}
