//! The neighbour table: one encoding, strict decoding, scores worked out by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use sanderling_core::{Combination, NeighbourTable};
use sanderling_types::{Code, ItemIndex};

const WHOLE: Combination = Combination { max_sources: 10, decay: 0.5 };

fn rows() -> impl Strategy<Value = Vec<Vec<(u32, f32)>>> {
    (1u32..400).prop_flat_map(|len| {
        let weight = prop_oneof![Just(0.0f32), -2.0f32..2.0, Just(1e-30f32), Just(1e-44f32)];
        let row = prop::collection::btree_map(0..len, weight, 0..12);
        prop::collection::vec(row.prop_map(|row| row.into_iter().collect()), len as usize)
    })
}

fn table() -> NeighbourTable {
    let rows = [vec![(2, -1.0), (1, 2.0)], vec![(0, 0.5)], vec![], vec![(2, 4.0), (1, 1.0)]];
    NeighbourTable::quantise(&rows, WHOLE).unwrap()
}

fn code(bytes: &[u8]) -> Code {
    NeighbourTable::decode(bytes).unwrap_err().code()
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(rows in rows(), max_sources in 1u16..=1024, decay in 0.01f32..=1.0) {
        let table = NeighbourTable::quantise(&rows, Combination { max_sources, decay }).unwrap();
        prop_assert_eq!(NeighbourTable::decode(&table.encode()).unwrap(), table);
    }

    #[test]
    fn the_first_rows_keep_the_weights_that_they_have_for_one_another(rows in rows(), kept in 0usize..500) {
        let table = NeighbourTable::quantise(&rows, WHOLE).unwrap();
        let first = table.first(kept);
        prop_assert_eq!(NeighbourTable::decode(&first.encode()).unwrap(), first.clone());
        prop_assert_eq!(first.len(), rows.len().min(kept));
        for source in (0..first.len() as u32).map(ItemIndex) {
            let inside: Vec<_> = table.row(source).filter(|(item, _)| item.row() < kept).collect();
            prop_assert_eq!(first.row(source).collect::<Vec<_>>(), inside);
        }
    }

    #[test]
    fn a_weight_is_within_half_a_scale(rows in rows()) {
        let table = NeighbourTable::quantise(&rows, WHOLE).unwrap();
        for (source, row) in rows.iter().enumerate() {
            let scale = row.iter().fold(0.0f32, |most, (_, weight)| most.max(weight.abs())) / 127.0;
            for (item, weight) in row {
                let stored = table.weight(ItemIndex(source as u32), ItemIndex(*item));
                prop_assert!((stored - weight).abs() <= 0.501 * scale + f32::MIN_POSITIVE * 127.0);
            }
        }
    }

    #[test]
    fn scores_are_the_sums_of_single_weights(rows in rows(), session in prop::collection::vec(0u32..400, 0..20)) {
        let table = NeighbourTable::quantise(&rows, WHOLE).unwrap();
        let session = session.into_iter().filter(|item| (*item as usize) < rows.len()).map(ItemIndex);
        let sources = WHOLE.sources(session);
        let mut scores = vec![0.0; table.len()];
        table.add_scores(&sources, &mut scores);
        for item in (0..table.len() as u32).map(ItemIndex) {
            let single = sources.iter().fold(0.0, |sum, (source, factor)| sum + table.weight(*source, item) * factor);
            prop_assert_eq!(scores[item.row()], single);
            let most = sources.iter().map(|(source, factor)| table.weight(*source, item) * factor).fold(0.0, f32::max);
            prop_assert_eq!(table.strongest(&sources, item).map_or(0.0, |(_, added)| added), most);
        }
    }
}

#[test]
fn the_bytes_are_those_of_the_format_page() {
    let mut rows = vec![Vec::new(); 300];
    rows[1] = vec![(299, 1.27), (0, -0.635), (1, 0.001)];
    let table = NeighbourTable::quantise(&rows, Combination { max_sources: 20, decay: 0.75 }).unwrap();
    let mut expected = b"SNDN\x01\0\x14\0".to_vec();
    expected.extend(0.75f32.to_le_bytes());
    expected.extend([300u32, 2].iter().flat_map(|number| number.to_le_bytes()));
    expected.extend((0..300).flat_map(|row| if row == 1 { 1.27f32 / 127.0 } else { 0.0 }.to_le_bytes()));
    expected.extend((0..300u32).flat_map(|row| u16::from(row == 1).wrapping_mul(2).to_le_bytes()));
    // Weights, then 0 and 298 more than the least that could follow it, 1: 298 is 42 + 2 * 128.
    expected.extend([-64i8 as u8, 127, 0, 42 | 0x80, 2]);
    assert_eq!(table.encode(), expected);
}

#[test]
fn every_cut_and_every_wrong_header_is_refused() {
    let bytes = table().encode();
    for end in 0..bytes.len() {
        assert_eq!(code(&bytes[..end]), Code::NeighboursInvalid, "cut at {end}");
    }
    assert_eq!(code(&[bytes.as_slice(), &[0]].concat()), Code::NeighboursInvalid, "left-over byte");
    for at in 0..20 {
        let mut changed = bytes.clone();
        changed[at] ^= 0x80;
        let expected =
            if (4..6).contains(&at) { Code::UnsupportedFormatVersion } else { Code::NeighboursInvalid };
        // What is left is another number of sources and another decay, each in its range.
        assert!([6, 8, 9, 10].contains(&at) || code(&changed) == expected, "byte {at}");
    }
    let with = |at: usize, piece: &[u8]| [&bytes[..at], piece, &bytes[at + piece.len()..]].concat();
    for (piece, what) in [(0u16, "no source"), (1025, "too many sources")] {
        assert_eq!(code(&with(6, &piece.to_le_bytes())), Code::NeighboursInvalid, "{what}");
    }
    for decay in [0.0f32, -0.5, 1.5, f32::NAN, 1e-40] {
        assert_eq!(code(&with(8, &decay.to_le_bytes())), Code::NeighboursInvalid, "decay {decay}");
    }
    for number in [u32::MAX, 1 << 31] {
        assert_eq!(code(&with(12, &number.to_le_bytes())), Code::NeighboursInvalid, "{number} items");
        assert_eq!(code(&with(16, &number.to_le_bytes())), Code::NeighboursInvalid, "{number} weights");
    }
}

#[test]
fn values_that_the_writer_never_makes_are_refused() {
    let bytes = table().encode();
    // 20: scales of 4 rows; 36: counts 2, 1, 0, 2; 44: 5 weights; 49: gaps 1 0, 0, 1 0.
    assert_eq!(bytes[49..], [1, 0, 0, 1, 0]);
    let with = |at: usize, piece: &[u8]| [&bytes[..at], piece, &bytes[at + piece.len()..]].concat();
    for scale in [f32::NAN, f32::INFINITY, -1.0, 0.0, 1e-40, 1e30] {
        assert_eq!(code(&with(20, &scale.to_le_bytes())), Code::NeighboursInvalid, "scale {scale}");
    }
    assert_eq!(code(&with(28, &1.0f32.to_le_bytes())), Code::NeighboursInvalid, "a scale without weights");
    assert_eq!(code(&with(28, &(-0.0f32).to_le_bytes())), Code::NeighboursInvalid, "-0 for a scale");
    assert_eq!(code(&with(36, &[3, 0])), Code::NeighboursInvalid, "counts that do not add up");
    assert_eq!(code(&with(44, &[0])), Code::NeighboursInvalid, "weight 0");
    assert_eq!(code(&with(44, &[0x80])), Code::NeighboursInvalid, "weight -128");
    assert_eq!(code(&with(50, &[3])), Code::NeighboursInvalid, "an item out of range");
    let longer = [&bytes[..49], &[0x81, 0x00], &bytes[50..]].concat();
    assert_eq!(code(&longer), Code::NeighboursInvalid, "a number that is not in its shortest form");
    let endless = [&bytes[..49], &[0xFF; 5], &bytes[50..]].concat();
    assert_eq!(code(&endless), Code::NeighboursInvalid, "a number of more than 32 bits");
}

#[test]
fn rows_that_cannot_be_stored_are_refused() {
    let refused = |rows: &[Vec<(u32, f32)>], combination| {
        NeighbourTable::quantise(rows, combination).unwrap_err().code() == Code::InvalidArgument
    };
    assert!(refused(&[vec![(1, 1.0)]], WHOLE), "an item that is not there");
    assert!(refused(&[vec![(0, 1.0), (0, 2.0)]], WHOLE), "an item twice");
    assert!(refused(&[vec![(0, f32::NAN)]], WHOLE), "not a number");
    assert!(refused(&[], Combination { max_sources: 0, decay: 1.0 }), "nobody speaks");
    assert!(refused(&[], Combination { max_sources: 1, decay: 0.0 }), "no decay");
    let mut wide = vec![Vec::new(); 1 << 16];
    wide[0] = (0..1 << 16).map(|item| (item, 1.0)).collect();
    assert!(refused(&wide, WHOLE), "too many weights of a row");
    assert!(NeighbourTable::quantise(&[], WHOLE).unwrap().is_empty());
}

#[test]
fn the_newest_distinct_items_speak_and_each_step_back_counts_less() {
    let table = table();
    let newest_first = [3, 0, 3, 1, 0].map(ItemIndex);
    let sources = WHOLE.sources(newest_first);
    assert_eq!(sources, [(ItemIndex(3), 1.0), (ItemIndex(0), 0.5), (ItemIndex(1), 0.25)]);
    let mut scores = [0.0; 4];
    table.add_scores(&sources, &mut scores);
    let close = |a: f32, b: f32| (a - b).abs() < 0.02;
    assert!(close(scores[0], 0.5 * 0.25) && close(scores[1], 1.0 + 2.0 * 0.5), "{scores:?}");
    assert!(close(scores[2], 4.0 - 0.5) && scores[3] == 0.0, "{scores:?}");
    // Item 1: item 3 adds 1 and item 0 half of 2; the newer of equals is the reason.
    assert_eq!(table.strongest(&sources, ItemIndex(2)).unwrap().0, ItemIndex(3));
    assert_eq!(table.strongest(&sources, ItemIndex(3)), None);
    assert_eq!(table.strongest(&sources[1..2], ItemIndex(2)), None, "what speaks against is no reason");
    let one = Combination { max_sources: 1, decay: 1.0 };
    assert_eq!(one.sources(newest_first), [(ItemIndex(3), 1.0)]);
    assert_eq!((table.weight(ItemIndex(9), ItemIndex(0)), table.row(ItemIndex(9)).count()), (0.0, 0));
}
