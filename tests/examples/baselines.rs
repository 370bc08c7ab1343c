//! Fits baselines on a data folder, without training a model, and prints their test metrics:
//! `cargo run -p sanderling-conformance --example baselines -- FOLDER SPLIT NAME...`.
//!
//! `vmis-knn-updated` is `vmis-knn` to which the validation sessions of a `next-click` split were
//! appended, which makes it comparable with publications that train on them too.
#![allow(clippy::unwrap_used, reason = "a tool for developers fails by panicking")]
#![allow(clippy::print_stdout, reason = "prints its result")]

use std::path::Path;
use std::time::Instant;

use sanderling_train::baselines::{self, Baseline, Ease, ItemKnn, Popular, Recent, VmisKnn};
use sanderling_train::data::Dataset;
use sanderling_train::metrics::metrics;
use sanderling_train::split::{self, Split, SplitKind};

fn fit(name: &str, split: &Split) -> Box<dyn Baseline> {
    match name {
        "popular" => Box::new(Popular::fit(split)),
        "recent" => Box::new(Recent::fit(split)),
        "item-knn" => Box::new(ItemKnn::fit(split)),
        "vmis-knn" => Box::new(VmisKnn::fit(split)),
        "vmis-knn-updated" => Box::new(updated(split)),
        "ease" => Box::new(Ease::fit(split)),
        other => panic!("{other} is no baseline"),
    }
}

fn updated(split: &Split) -> VmisKnn {
    let mut knn = VmisKnn::fit(split);
    let mut users: Vec<u32> = split.validation.iter().map(|case| case.user).collect();
    users.dedup();
    for user in users {
        knn.append(&split.rows(&split.sequences[user as usize]).collect::<Vec<u32>>());
    }
    knn
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, kind, names @ ..] = arguments.as_slice() else { panic!("FOLDER SPLIT NAME...") };
    let kind = [SplitKind::Time, SplitKind::LeaveOneOut, SplitKind::NextClick]
        .into_iter()
        .find(|known| known.as_str() == kind)
        .expect("time, leave-one-out or next-click");
    let split = split::split(&Dataset::read(Path::new(folder)).unwrap(), kind).unwrap();
    for name in names {
        let start = Instant::now();
        let baseline = fit(name, &split);
        let fitted = start.elapsed().as_secs_f32();
        let results = baselines::answer(&*baseline, &split, &split.test);
        let answered = start.elapsed().as_secs_f32() - fitted;
        let metrics = metrics(&results, &split.vocabulary.popularity, 1);
        let value = |name: &str| metrics[name].value;
        let gain = metrics["ndcg@10"];
        println!(
            "{name}: ndcg@10 {:.4} ({:.4} to {:.4}), hr@10 {:.4}, hr@20 {:.4}, mrr@20 {:.4}; \
             fitted in {fitted:.2} s, answered in {answered:.2} s",
            gain.value,
            gain.low,
            gain.high,
            value("hr@10"),
            value("hr@20"),
            value("mrr@20"),
        );
    }
}
