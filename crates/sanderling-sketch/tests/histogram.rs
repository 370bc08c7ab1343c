//! Histograms count, merge in any order, and lose nothing.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use proptest::prelude::*;
use sanderling_sketch::Histogram;
use sanderling_types::Code;

fn counts() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(0..1_000_000_u64, 5)
}

fn merged(parts: &[&[u64]]) -> Histogram {
    let mut all = Histogram::new(5);
    for part in parts {
        all.merge(&Histogram::from_counts(part.to_vec())).unwrap();
    }
    all
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_keeps_every_count(a in counts(), b in counts(), c in counts()) {
        let forward = merged(&[&a, &b, &c]);
        prop_assert_eq!(&forward, &merged(&[&c, &a, &b]));
        let mut right = Histogram::from_counts(a.clone());
        right.merge(&merged(&[&b, &c])).unwrap();
        prop_assert_eq!(&forward, &right);
        prop_assert_eq!(forward.total(), a.iter().chain(&b).chain(&c).sum::<u64>());
    }

    #[test]
    fn recording_adds_one_to_one_bin(bins in proptest::collection::vec(0..5_usize, 0..200)) {
        let mut histogram = Histogram::new(5);
        for bin in &bins {
            histogram.record(*bin).unwrap();
        }
        for bin in 0..5 {
            let expected = bins.iter().filter(|recorded| **recorded == bin).count() as u64;
            prop_assert_eq!(histogram.counts()[bin], expected);
        }
    }
}

#[test]
fn refuses_an_unknown_bin_and_another_number_of_bins_without_counting() {
    let mut histogram = Histogram::from_counts(vec![1, 2]);
    assert_eq!(histogram.record(2).unwrap_err().code(), Code::BinOutOfRange);
    assert_eq!(histogram.merge(&Histogram::new(3)).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(histogram.counts(), [1, 2]);
}

#[test]
fn saturates_instead_of_wrapping() {
    let mut histogram = Histogram::from_counts(vec![u64::MAX, 1]);
    histogram.record(0).unwrap();
    histogram.merge(&Histogram::from_counts(vec![5, 1])).unwrap();
    assert_eq!(histogram.counts(), [u64::MAX, 2]);
    assert_eq!(histogram.total(), u64::MAX);
}

#[test]
fn is_encoded_as_the_plain_array() {
    let histogram = Histogram::from_counts(vec![3, 0, 9]);
    let text = serde_json::to_string(&histogram).unwrap();
    assert_eq!(text, "[3,0,9]");
    assert_eq!(serde_json::from_str::<Histogram>(&text).unwrap(), histogram);
}
