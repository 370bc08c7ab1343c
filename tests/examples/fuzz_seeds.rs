//! Writes the seeds of every fuzz target: `cargo run -p sanderling-conformance --example fuzz_seeds -- FOLDER`.
#![allow(clippy::unwrap_used, reason = "a tool for developers fails by panicking")]

use std::path::PathBuf;

use sanderling_conformance::fuzz::TARGETS;
use sanderling_conformance::fuzz_seeds::seeds;

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("the argument is the folder to write to"));
    for (target, _) in TARGETS {
        std::fs::create_dir_all(folder.join(target)).unwrap();
        for (at, seed) in seeds(target).iter().enumerate() {
            std::fs::write(folder.join(target).join(format!("seed-{at}")), seed).unwrap();
        }
    }
}
