//! The item table: one encoding, strict decoding, exact retrieval.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use sanderling_core::{ItemBits, ItemTable, Mask, by_score};
use sanderling_types::{Code, ItemIndex, Source};

fn tables() -> impl Strategy<Value = ItemTable> {
    let bits = prop_oneof![Just(ItemBits::Four), Just(ItemBits::Eight), Just(ItemBits::Nine)];
    (1usize..40, 0usize..30, bits).prop_flat_map(|(dim, len, bits)| {
        let element = prop_oneof![Just(0.0f32), -2.0f32..2.0, Just(1e-30f32)];
        prop::collection::vec(element, dim * len)
            .prop_map(move |rows| ItemTable::quantise(&rows, dim, bits).unwrap())
    })
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(table in tables()) {
        let bytes = table.encode();
        prop_assert_eq!(ItemTable::decode(bytes).unwrap(), table);
    }

    #[test]
    fn a_dequantised_element_is_within_half_a_scale_and_with_nine_bits_within_a_quarter(
        rows in prop::collection::vec(-10.0f32..10.0, 27),
    ) {
        for (bits, error) in [(ItemBits::Eight, 0.501), (ItemBits::Nine, 0.2505)] {
            let table = ItemTable::quantise(&rows, 9, bits).unwrap();
            let mut row = [0.0; 9];
            for (item, original) in rows.chunks_exact(9).enumerate() {
                table.row_into(ItemIndex(item as u32), &mut row);
                // Scales have eight bits of their own.
                let scale = original.iter().fold(0.0f32, |most, x| most.max(x.abs())) / 127.0 * 1.008;
                for (back, original) in row.iter().zip(original) {
                    prop_assert!((back - original).abs() <= scale * error, "{back} {original} {scale}");
                }
            }
        }
    }

    #[test]
    fn scores_do_without_the_ninth_bit(
        rows in prop::collection::vec(-10.0f32..10.0, 24),
        query in prop::collection::vec(-1.0f32..1.0, 8),
    ) {
        let nine = ItemTable::quantise(&rows, 8, ItemBits::Nine).unwrap();
        let mut without = nine.encode();
        without.truncate(without.len() - 3);
        without[6] = 8;
        let eight = ItemTable::decode(without).unwrap();
        for item in (0..3).map(ItemIndex) {
            prop_assert_eq!(nine.dot(&query, item), eight.dot(&query, item));
            prop_assert_eq!(nine.norm(item), eight.norm(item));
        }
    }

    #[test]
    fn top_k_is_the_head_of_all_scores_in_the_total_order(
        table in tables(),
        seed in prop::collection::vec(prop_oneof![Just(0.0f32), -1.0f32..1.0, Just(f32::NAN)], 40),
        k in 0usize..35,
        dropped in prop::collection::vec(0u32..30, 0..10),
    ) {
        let query = &seed[..table.dim()];
        let mut mask = Mask::all(table.len());
        dropped.iter().for_each(|item| mask.drop_item(ItemIndex(*item)));
        let mut expected: Vec<(f32, ItemIndex)> = mask.kept().map(|item| (table.dot(query, item), item)).collect();
        expected.sort_by(|a, b| by_score(*a, *b));
        for (before, (_, item)) in expected.iter().enumerate() {
            prop_assert_eq!(table.num_before(query, *item, &mask), before);
        }
        expected.truncate(k);
        let found = table.top_k(query, k, &mask);
        prop_assert!(found.iter().all(|candidate| candidate.source == Source::Retrieval));
        let found: Vec<_> = found.iter().map(|candidate| (candidate.score.to_bits(), candidate.item)).collect();
        let expected: Vec<_> = expected.iter().map(|(score, item)| (score.to_bits(), *item)).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn cosine_is_symmetric_and_bounded(table in tables()) {
        for a in 0..table.len() as u32 {
            for b in 0..table.len() as u32 {
                let cosine = table.cosine(ItemIndex(a), ItemIndex(b));
                prop_assert!((-1.0..=1.0).contains(&cosine));
                prop_assert_eq!(cosine, table.cosine(ItemIndex(b), ItemIndex(a)));
            }
        }
    }
}

#[test]
fn integers_that_were_chosen_elsewhere_are_checked() {
    let table = |bits, scales: &[f32], rows: &[i8]| ItemTable::from_integers(2, bits, scales, rows);
    let made = table(ItemBits::Four, &[0.5, 0.0], &[7, -7, 0, 1]).unwrap();
    assert_eq!(ItemTable::decode(made.encode()).unwrap(), made);
    assert_eq!(made.first(1), table(ItemBits::Four, &[0.5], &[7, -7]).unwrap());
    assert_eq!(made.first(9), made);
    for (bits, scales, rows, code) in [
        (ItemBits::Four, &[0.5][..], &[8, 0][..], Code::ItemsInvalid),
        (ItemBits::Four, &[0.5], &[-8, 0], Code::ItemsInvalid),
        (ItemBits::Eight, &[0.5], &[-128, 0], Code::ItemsInvalid),
        (ItemBits::Eight, &[f32::NAN], &[1, 0], Code::ItemsInvalid),
        (ItemBits::Eight, &[0.5, 0.5], &[1, 0], Code::InvalidArgument),
    ] {
        assert_eq!(table(bits, scales, rows).unwrap_err().code(), code, "{scales:?} {rows:?}");
    }
}

#[test]
fn the_bytes_are_those_of_the_format_page() {
    let table = ItemTable::quantise(&[1.27, -0.635, 0.0, 0.0], 2, ItemBits::Eight).unwrap();
    let mut expected = b"SNDI\x02\0\x08\0\x02\0\0\0\x02\0\0\0".to_vec();
    // 1.27 / 127 is a little less than 1.28125 * 2^-7.
    expected.extend([0x24, 0x3C, 0, 0]);
    expected.extend([127, -63i8 as u8, 0, 0]);
    assert_eq!(table.encode(), expected);
    // Scale 1: an element of 127.25 and one just over, and one just under, a whole number.
    let table = ItemTable::quantise(&[127.25, 3.1, -3.1], 3, ItemBits::Nine).unwrap();
    let bytes = table.encode();
    assert_eq!(bytes[6..8], [9, 0]);
    assert_eq!(bytes[16..], [0x80, 0x3F, 127, 3, -3i8 as u8, 0b011]);
    let mut row = [0.0; 3];
    table.row_into(ItemIndex(0), &mut row);
    assert_eq!(row, [127.25, 3.25, -3.25]);
    let behind = [&bytes[..21], &[0b1011]].concat();
    assert_eq!(ItemTable::decode(behind).unwrap_err().code(), Code::ItemsInvalid, "a bit of no element");
}

#[test]
fn four_bits_are_packed_two_a_byte_and_checked() {
    let table = ItemTable::quantise(&[0.7, -0.4, 0.1], 3, ItemBits::Four).unwrap();
    let bytes = table.encode();
    assert_eq!(bytes[6..8], [4, 0]);
    assert_eq!(bytes[18..], [0xC7, 0x01], "7, -4 and 1, each in half a byte");
    let mut row = [0.0; 3];
    table.row_into(ItemIndex(0), &mut row);
    assert!(
        row.iter().zip([0.7, -0.4, 0.1]).all(|(back, original)| (back - original).abs() < 0.01),
        "{row:?}"
    );
    for (last, what) in
        [([0x87, 0x01], "-8 in the high half"), ([0xC7, 0x11], "bits behind the last element")]
    {
        let changed = [&bytes[..18], &last].concat();
        assert_eq!(ItemTable::decode(changed).unwrap_err().code(), Code::ItemsInvalid, "{what}");
    }
    let outlier: Vec<f32> =
        (0..32).map(|i| if i == 0 { 3.0 } else { 0.1 * ((i % 5) as f32 - 2.0) }).collect();
    let clipped = ItemTable::quantise(&outlier, 32, ItemBits::Four).unwrap();
    let scale = f32::from_le_bytes([0, 0, clipped.encode()[16], clipped.encode()[17]]);
    assert!(scale <= 3.0 / 7.0 * 1.008, "the scale never exceeds what the largest element asks for");
}

#[test]
fn every_cut_and_every_wrong_header_is_refused() {
    let bytes = ItemTable::quantise(&[1.0, 2.0, 3.0, 4.0], 2, ItemBits::Eight).unwrap().encode();
    for end in 0..bytes.len() {
        assert_eq!(ItemTable::decode(&bytes[..end]).unwrap_err().code(), Code::ItemsInvalid, "cut at {end}");
    }
    for at in 0..16 {
        let mut changed = bytes.clone();
        changed[at] ^= 0x80;
        let code = ItemTable::decode(changed).unwrap_err().code();
        let expected = if (4..6).contains(&at) { Code::UnsupportedFormatVersion } else { Code::ItemsInvalid };
        assert_eq!(code, expected, "byte {at}");
    }
    assert!(ItemTable::decode([bytes.as_slice(), &[0]].concat()).is_err(), "left-over byte");
}

#[test]
fn values_that_the_writer_never_makes_are_refused() {
    let bytes = ItemTable::quantise(&[1.0, 2.0], 2, ItemBits::Eight).unwrap().encode();
    for scale in [f32::NAN, f32::INFINITY, -1.0, -0.0, 1e-40, 1.01e30] {
        let mut changed = bytes.clone();
        changed[16..18].copy_from_slice(&scale.to_le_bytes()[2..]);
        assert_eq!(ItemTable::decode(changed).unwrap_err().code(), Code::ItemsInvalid, "scale {scale}");
    }
    let mut changed = bytes;
    changed[18] = 0x80;
    assert_eq!(ItemTable::decode(changed).unwrap_err().code(), Code::ItemsInvalid, "element -128");
}

#[test]
fn vectors_that_are_not_finite_or_not_whole_are_refused() {
    for (rows, dim) in [(vec![1.0, f32::NAN], 2), (vec![f32::INFINITY], 1), (vec![1.0; 3], 2), (vec![1.0], 0)]
    {
        assert_eq!(
            ItemTable::quantise(&rows, dim, ItemBits::Eight).unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    assert!(ItemTable::quantise(&[1.0; 2000], 2000, ItemBits::Eight).is_err());
    assert!(ItemTable::quantise(&[], 3, ItemBits::Eight).unwrap().is_empty());
}

#[test]
fn similarity_of_hand_made_vectors() {
    let rows = [[1.0, 0.0], [3.0, 3.0], [0.0, 2.0], [-5.0, 0.0], [0.0, 0.0]].concat();
    let table = ItemTable::quantise(&rows, 2, ItemBits::Eight).unwrap();
    let similar = table.most_similar(ItemIndex(0), 5, &Mask::all(5));
    let order: Vec<_> = similar.iter().map(|candidate| candidate.item.0).collect();
    assert_eq!(order, [0, 1, 2, 4, 3]);
    assert_eq!(similar[0].score, 1.0);
    assert!((similar[1].score - 0.5f32.sqrt()).abs() < 1e-6);
    assert_eq!(similar[4].score, -1.0);
    assert!((table.norm(ItemIndex(1)) - 18.0f32.sqrt()).abs() < 0.02);
    assert!(table.most_similar(ItemIndex(9), 5, &Mask::all(5)).is_empty());
}
