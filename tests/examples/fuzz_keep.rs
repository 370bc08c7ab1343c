//! `fuzz_keep FOLDER FILE.zst`: packs a corpus that libFuzzer has minimised (`-merge=1`) into the file that the replay reads,
//! `tests/fuzz/kept/TARGET.zst`: each input behind its length, four bytes little-endian, all of it compressed.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "whoever runs it sees what is wrong")]

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, file] = &arguments[..] else { panic!("FOLDER FILE.zst") };
    let mut inputs: Vec<Vec<u8>> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    inputs.sort();
    let packed: Vec<u8> = inputs
        .iter()
        .flat_map(|input| {
            u32::try_from(input.len()).unwrap().to_le_bytes().into_iter().chain(input.iter().copied())
        })
        .collect();
    std::fs::write(file, zstd::encode_all(&packed[..], 19).unwrap()).unwrap();
}
