//! Quality on real data, where `SANDERLING_DATA` says it is.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "says what was not measured")]

use std::path::PathBuf;

use sanderling_train::data::{ImportOptions, import};
use sanderling_train::recipe::Recipe;
use sanderling_train::train::{Lineage, train};

#[test]
fn the_sequence_model_beats_both_baselines_on_ml_100k_by_time() {
    let Some(data) = std::env::var_os("SANDERLING_DATA").map(PathBuf::from) else {
        eprintln!("SANDERLING_DATA is not set: nothing to measure on");
        return;
    };
    let (dataset, _) = import("ml-100k", &data.join("ml-100k"), &ImportOptions::default(), &mut |_| {})
        .expect("ml-100k imports");
    let trained =
        train(&dataset, &Recipe::default(), &Lineage::default(), None, &mut |_| true).expect("trains");
    let ours = trained.evaluation.metrics["ndcg@10"];
    for name in ["popular", "item-knn"] {
        let theirs = trained.evaluation.baselines[name]["ndcg@10"];
        assert!(
            ours.low > theirs.high,
            "NDCG@10 {ours:?} does not clear {name} {theirs:?} with intervals apart"
        );
    }
    let packed = trained.manifest.quantisation;
    assert!(packed.ndcg10_packed > 0.97 * packed.ndcg10_f32, "packing lost too much: {packed:?}");
}
