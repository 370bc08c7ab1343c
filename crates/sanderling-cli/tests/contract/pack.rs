//! `sanderling pack` with an encoder that PyTorch exported: `docs/bring-your-own-model.py` with
//! `--dim 16 --max-len 20 --blocks 1 --epochs 1` on a synthetic world.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sanderling_train::data::Dataset;
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Ran, WORLD, run};

const DIM: usize = 16;

fn encoder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract/fixtures/pytorch-encoder.onnx")
}

/// What `numpy.save` writes.
fn npy(rows: usize, dim: usize, elements: &[f32]) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    let padded = format!("{header:<117}\n");
    let body = elements.iter().flat_map(|element| element.to_le_bytes()).collect::<Vec<u8>>();
    [b"\x93NUMPY\x01\0".as_slice(), &(padded.len() as u16).to_le_bytes(), padded.as_bytes(), &body].concat()
}

/// Files of a model in a folder of its own; some items of the data have no vector, and one vector has no item.
struct Model {
    dir: TempDir,
    ids: Vec<String>,
}

impl Model {
    fn new(dim: usize) -> Self {
        let interactions = Dataset::read(&WORLD.path("data")).unwrap().interactions;
        let all: BTreeSet<String> =
            interactions.iter().map(|interaction| interaction.item_id.to_owned()).collect();
        let ids: Vec<String> = all.into_iter().skip(3).chain(["nowhere".to_owned()]).collect();
        let model = Self { dir: tempfile::tempdir().unwrap(), ids };
        let elements: Vec<f32> =
            (0..model.ids.len() * dim).map(|at| ((at * 7919 % 1009) as f32 / 1009.0 - 0.5) * 0.1).collect();
        fs::write(model.path("vectors.npy"), npy(model.ids.len(), dim, &elements)).unwrap();
        fs::write(model.path("ids.txt"), model.ids.join("\n") + "\n").unwrap();
        model
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pack(&self, encoder: &Path, more: &[&str]) -> Ran {
        let (data, recipe) = (WORLD.path("data"), WORLD.path("recipe.toml"));
        let (vectors, ids, out) = (self.path("vectors.npy"), self.path("ids.txt"), self.path("bundle"));
        let mut args: Vec<&std::ffi::OsStr> = vec!["pack".as_ref(), "--json".as_ref()];
        for (name, path) in [
            ("--encoder", encoder),
            ("--items", &vectors),
            ("--item-ids", &ids),
            ("--data", &data),
            ("--recipe", &recipe),
            ("--out", &out),
        ] {
            args.extend([name.as_ref(), path.as_os_str()]);
        }
        args.extend(more.iter().map(|arg| std::ffi::OsStr::new(*arg)));
        crate::support::sanderling(&args)
    }
}

#[test]
fn a_pytorch_encoder_becomes_a_measured_bundle() {
    let model = Model::new(DIM);
    let report = model.path("report.html");
    let packed =
        model.pack(&encoder(), &["--seed", "5", "--report", report.to_str().unwrap()]).expect_json(0);
    assert_eq!(packed["recommender"], "external");
    for key in ["baselines", "num_cases", "split"] {
        assert_eq!(packed[key], WORLD.trained[key], "{key}: the same harness as of train");
    }
    let keys =
        |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&packed["metrics"]), keys(&WORLD.trained["metrics"]));
    let quantisation = &packed["quantisation"];
    assert_eq!(quantisation["steps"].as_array().unwrap().len(), 1);
    assert_eq!(quantisation["steps"][0]["kind"], "int9_items");
    let loss = quantisation["ndcg10_f32"].as_f64().unwrap() - quantisation["ndcg10_packed"].as_f64().unwrap();
    assert!(loss.abs() < 0.02, "the engine ranks as the model that came: {quantisation}");
    let left_out = &packed["left_out"];
    assert_eq!(left_out["num_unknown"], 1, "the one that is nowhere in the data: {left_out}");
    assert!((1..=3).contains(&left_out["num_without_vector"].as_u64().unwrap()), "{left_out}");
    assert!(left_out["interaction_share"].as_f64().unwrap() > 0.0, "{left_out}");

    let bundle = model.path("bundle");
    assert_eq!(fs::read(bundle.join("encoder.onnx")).unwrap(), fs::read(encoder()).unwrap(), "as it came");
    let evaluated = run!("evaluate", &bundle, &WORLD.path("data"), "--json").expect_json(0);
    for key in ["metrics", "slices", "calibration", "bundle_hash"] {
        assert_eq!(evaluated[key], packed[key], "{key}");
    }
    assert!(fs::read_to_string(report).unwrap().contains("external"));
    let answer = run!("recommend", &bundle, model.ids[0].as_str(), "--limit", "5", "--json").expect_json(0);
    assert_eq!(answer["recommendations"].as_array().unwrap().len(), 5);
    assert_eq!(answer["faults"], json!([]), "the encoder answers");
}

#[test]
fn a_ranker_is_taken_as_it_came() {
    let model = Model::new(DIM);
    let ranker = WORLD.path("bundle").join("ranker.onnx");
    model.pack(&encoder(), &["--ranker", ranker.to_str().unwrap()]).expect_json(0);
    let bundled = model.path("bundle").join("ranker.onnx");
    assert_eq!(fs::read(bundled).unwrap(), fs::read(ranker).unwrap());
}

#[test]
fn what_the_engine_could_not_run_is_refused_with_what_was_expected() {
    let model = Model::new(DIM);
    let garbage = model.path("garbage.onnx");
    fs::write(&garbage, [0x3a, 0xff, 0xff, 0x01]).unwrap();
    model.pack(&garbage, &[]).expect_error("model_invalid");
    model.pack(&model.path("absent.onnx"), &[]).expect_error("io");
    let ranker = WORLD.path("bundle").join("ranker.onnx");
    let error = model.pack(&ranker, &[]).expect_error("model_invalid");
    assert_eq!(error["expected"], "f32 [1, any, 16]", "a ranker is no encoder");
    let other = Model::new(8).pack(&encoder(), &[]).expect_error("model_invalid");
    assert!(other["expected"].is_string() && other["found"].is_string(), "{other}");
    // As many rows as a ranker gets would make its attention too large.
    let error =
        model.pack(&encoder(), &["--ranker", encoder().to_str().unwrap()]).expect_error("limit_exceeded");
    assert!(error["message"].as_str().unwrap().contains("ranker"), "{error}");
    // The table of positions has 20 rows.
    model.pack(&encoder(), &["--max-session-len", "30"]).expect_error("model_invalid");
    assert!(!model.path("bundle").exists(), "nothing was written");
}

#[test]
fn ids_and_vectors_must_agree() {
    let model = Model::new(DIM);
    let ids = model.ids.join("\n");
    for (text, code) in [
        (model.ids[1..].join("\n"), "invalid_argument"),
        (ids.replacen(&model.ids[0], &model.ids[1], 1), "invalid_argument"),
        (ids.lines().map(|id| format!("other-{id}\n")).collect(), "empty_data"),
    ] {
        fs::write(model.path("ids.txt"), text).unwrap();
        let error = model.pack(&encoder(), &[]).expect_error(code);
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
    }
    let model = Model::new(DIM);
    let rows = model.ids.len();
    let mut elements = vec![0.5f32; rows * DIM];
    elements[2 * DIM] = f32::NAN;
    fs::write(model.path("vectors.npy"), npy(rows, DIM, &elements)).unwrap();
    let error = model.pack(&encoder(), &[]).expect_error("invalid_argument");
    assert!(error["message"].as_str().unwrap().contains(&model.ids[2]), "{error}");
    fs::write(model.path("vectors.npy"), b"PK\x03\x04").unwrap();
    model.pack(&encoder(), &[]).expect_error("invalid_argument");
}
