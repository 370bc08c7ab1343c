//! Counts that the README of every folder of `SANDERLING_DATA` states; skipped without that folder.

use std::path::PathBuf;

use crate::data::{Dataset, ImportOptions, ImportSummary, Severity, import, validate};

/// Imports a folder, writes it, reads it back and validates it.
fn summary(layout: &str) -> Option<ImportSummary> {
    let source = PathBuf::from(std::env::var_os("SANDERLING_DATA")?).join(layout);
    let (dataset, summary) = import(layout, &source, &ImportOptions::default(), &mut |_| {}).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("data");
    dataset.write_from(&folder, layout, &mut |_| {}).unwrap();
    assert!(Dataset::read(&folder).unwrap() == dataset, "{layout} does not come back");
    const NOW: i64 = 1_767_225_600;
    let found = validate(&folder, NOW, &mut |_| {}).unwrap();
    let serious: Vec<_> =
        found.anomalies.iter().filter(|anomaly| anomaly.severity != Severity::Info).collect();
    assert!(serious.is_empty(), "{layout}: {serious:?}");
    Some(summary)
}

/// layout, users, items, interactions, catalogue
const COUNTS: [(&str, u64, u64, u64, u64); 6] = [
    ("ml-100k", 943, 1_682, 100_000, 1_682),
    ("ml-1m", 6_040, 3_416, 999_608, 3_416),
    // 290 of the 3,706 ids never occur in the training pairs, 11 of those occur in the test pairs.
    ("ml-1m-ncf100", 6_040, 3_706 - 290 + 11, 993_582 + 6_040, 3_706 - 290 + 11),
    ("ml-latest-small", 671, 9_066, 100_004, 9_125),
    ("amazon-beauty", 22_363, 12_101, 198_502, 12_101),
    ("diginetica", 186_670 + 15_963, 43_097, 906_140 + 76_821, 0),
];

#[test]
fn every_folder_has_the_counts_of_its_readme() {
    for (layout, users, items, interactions, catalogue) in COUNTS {
        let Some(found) = summary(layout) else { return };
        assert_eq!(found.num_users, users, "{layout} users");
        assert_eq!(found.num_interactions, interactions, "{layout} interactions");
        assert_eq!(found.num_items, items, "{layout} items");
        assert_eq!(found.num_catalogue_items, catalogue, "{layout} catalogue");
    }
}
