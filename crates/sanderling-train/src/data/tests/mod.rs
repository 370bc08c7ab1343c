//! Promises of the data module, checked through its public functions.

mod dataset;
mod import;
mod real_data;
mod synth;
mod validate;

use std::{fs, io::Write, path::Path};

use sanderling_types::{Code, Error};

/// Writes a file, making its folders.
fn put(folder: &Path, name: &str, content: &[u8]) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(name), content).unwrap();
}

/// Packs bytes as the ending says.
fn pack(ending: &str, bytes: &[u8]) -> Vec<u8> {
    match ending {
        "xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 6);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        "gz" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        _ => zstd::encode_all(bytes, 3).unwrap(),
    }
}

/// Asserts code and text of an error.
fn assert_error<T: std::fmt::Debug>(outcome: Result<T, Error>, code: Code, parts: &[&str]) {
    let error = outcome.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` is not in `{error}`");
    }
}
