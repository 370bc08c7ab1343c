//! Every released bundle under `models/` is what its folder says, opens and recommends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use sanderling_conformance::here;
use sanderling_core::{Bundle, Engine};
use sanderling_tract::FullRuntime;
use sanderling_types::{ItemIndex, Request, SessionInteraction};

/// A released bundle is downloaded by people who only try something.
const MAX_BUNDLE_BYTES: u64 = 1_000_000;

fn models() -> PathBuf {
    here().join("../models")
}

fn folders(path: &Path) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn every_model_has_its_command_and_is_listed() {
    let readme = fs::read_to_string(models().join("README.md")).unwrap();
    let names = folders(&models());
    assert!(!names.is_empty(), "there is at least one model");
    for model in names {
        let command = model.join("make.sh");
        assert!(command.is_file(), "{} is missing", command.display());
        assert!(
            readme.contains(&format!("`models/{}/make.sh`", name(&model))),
            "README.md lists {}",
            model.display()
        );
    }
}

#[test]
fn every_bundle_opens_and_recommends() {
    for model in folders(&models()) {
        for version in folders(&model) {
            check_bundle(&name(&model), &version);
        }
    }
}

fn check_bundle(model: &str, folder: &Path) {
    let what = folder.display();
    let bundle = Bundle::open(sanderling_train::bundle::read(folder).unwrap(), None).unwrap();
    let manifest = bundle.manifest().clone();
    assert_eq!((manifest.name.as_str(), manifest.version.to_string()), (model, name(folder)), "{what}");
    assert!(manifest.bundle_bytes() <= MAX_BUNDLE_BYTES, "{what} has {} bytes", manifest.bundle_bytes());
    let item_id = bundle.item_id(ItemIndex(0)).unwrap().into();
    let engine = Engine::new(bundle, &FullRuntime).unwrap();
    let now = manifest.training.last_timestamp;
    let session = vec![SessionInteraction { item_id, kind: "view".to_owned(), timestamp: now }];
    let response = engine.recommend(&Request { session, limit: 10, now, ..Request::default() }).response;
    assert_eq!(response.recommendations.len(), 10, "{what}: {:?}", response.faults);
    assert!(response.faults.is_empty(), "{what}: {:?}", response.faults);
}
