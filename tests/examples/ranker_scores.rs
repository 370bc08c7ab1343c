//! Scores of a bundle's `trees.bin` for rows on standard input: `ranker_scores BUNDLE <rows >scores`, both f32,
//! little-endian. For `tests/python/check_onnx.py`, which asks ONNX Runtime the same.
#![allow(clippy::unwrap_used, reason = "whoever runs it sees what is wrong")]

use std::io::{Read, Write};
use std::path::PathBuf;

use sanderling_core::{Bundle, RankerModel};

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).expect("a bundle folder"));
    let bundle = Bundle::open(sanderling_train::bundle::read(&folder).unwrap(), None).unwrap();
    let RankerModel::Trees(trees) = bundle.ranker() else { panic!("the bundle has no trees") };
    let mut bytes = Vec::new();
    std::io::stdin().read_to_end(&mut bytes).unwrap();
    let rows: Vec<f32> = bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let scores: Vec<u8> = trees.scores(&rows).into_iter().flat_map(f32::to_le_bytes).collect();
    std::io::stdout().write_all(&scores).unwrap();
}
