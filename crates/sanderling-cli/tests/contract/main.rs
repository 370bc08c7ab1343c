//! What scripts rely on: arguments, exit codes and the JSON of the real program, on a small synthetic world.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "modules of one test")]

mod bad_input;
mod channel;
mod compare;
mod import;
mod items;
mod object_store;
mod pack;
mod recommenders;
mod report;
mod support;
mod training;
mod tune;

use std::fs;
use std::path::{Path, PathBuf};

use sanderling_train::data::Dataset;
use serde_json::json;

use support::{WORLD, copy_of_bundle, run, subcommands};

#[test]
fn the_help_of_every_subcommand_has_an_example_of_it() {
    let commands = subcommands();
    for known in [
        "import",
        "validate",
        "synth",
        "train",
        "pack",
        "tune",
        "evaluate",
        "compare",
        "items",
        "recommend",
        "verify",
        "collect",
        "drift",
        "retrain",
        "promote",
        "rollback",
        "status",
    ] {
        assert!(commands.contains(known), "{known} is not in {commands:?}");
    }
    for command in &commands {
        let help = run!(command, "--help").expect(0).stdout;
        let example = help.split_once("Example").map(|(_, example)| example).unwrap_or_default();
        assert!(example.contains(&format!("sanderling {command} ")), "{command} has no example:\n{help}");
    }
}

#[test]
fn wrong_arguments_exit_with_2_and_print_nothing_on_standard_output() {
    let (nowhere, out) = (WORLD.path("nowhere"), WORLD.path("unused"));
    for ran in [
        run!("dance"),
        run!("train", "--out", &out),
        run!("train", &nowhere, "--split", "random", "--out", &out),
        run!("train", &nowhere, "--seed", "-1", "--out", &out),
    ] {
        let ran = ran.expect(2);
        assert!(ran.stdout.is_empty(), "{}", ran.stdout);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
    }
    let ran = run!("import", "--from", "ml-20m", &nowhere, "--out", &out).expect(2);
    assert!(ran.stderr.contains("ml-20m") && ran.stderr.contains("sequences"), "{}", ran.stderr);
    assert!(!out.exists(), "a refused command writes nothing");
}

#[test]
fn missing_inputs_are_named_with_a_code() {
    let (nowhere, out) = (WORLD.path("nowhere"), WORLD.path("unused-missing"));
    for layout in ["csv", "jsonl", "parquet", "movielens", "sequences", "ml-1m"] {
        run!("import", "--from", layout, &nowhere, "--out", &out, "--json").expect_error("not_found");
    }
    run!("validate", &nowhere, "--json").expect_error("not_found");
    run!("train", &nowhere, "--out", &out, "--json").expect_error("not_found");
    run!("evaluate", &WORLD.path("bundle"), &nowhere, "--json").expect_error("not_found");
    run!("train", &WORLD.path("data"), "--recipe", &nowhere, "--out", &out, "--json").expect_error("io");
    for ran in [
        run!("evaluate", &nowhere, &WORLD.path("data"), "--json"),
        run!("inspect", &nowhere, "--json"),
        run!("recommend", &nowhere, "item-1", "--json"),
        run!("verify", &nowhere, "--json"),
    ] {
        let error = ran.expect_json(2)["error"].clone();
        assert!(["io", "not_found", "file_missing"].contains(&error["code"].as_str().unwrap()), "{error}");
        assert!(error["message"].as_str().unwrap().contains("nowhere"), "the path is named: {error}");
    }
    // Without --json the code is in the line for people, and nothing else is printed.
    let ran = run!("validate", &nowhere).expect(2);
    assert!(ran.stdout.is_empty() && ran.stderr.contains("(not_found)"), "{}{}", ran.stdout, ran.stderr);
    let recipe = WORLD.path("bad.toml");
    fs::write(&recipe, "[model]\ndimm = 3\n").unwrap();
    run!("train", &WORLD.path("data"), "--recipe", &recipe, "--out", &out, "--json")
        .expect_error("recipe_invalid");
    assert!(!out.exists(), "a failed command writes nothing");
}

#[test]
fn a_damaged_bundle_is_refused_with_the_code_of_the_damage() {
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage, &str); 6] = [
        ("items.bin", |bytes| *bytes.last_mut().unwrap() ^= 1, "hash_mismatch"),
        ("encoder.onnx", |bytes| bytes[20] ^= 0x80, "hash_mismatch"),
        ("vocabulary.bin", |bytes| bytes.truncate(bytes.len() - 1), "file_truncated"),
        ("manifest.json", |bytes| bytes.truncate(100), "manifest_invalid"),
        (
            "manifest.json",
            |bytes| {
                let text = String::from_utf8(std::mem::take(bytes)).unwrap();
                *bytes = text.replace("\"format_version\":", "\"format_version\":9").into_bytes();
            },
            "unsupported_format_version",
        ),
        // A device that hashes in pieces would refuse it.
        (
            "manifest.json",
            |bytes| {
                let text = String::from_utf8(std::mem::take(bytes)).unwrap();
                let (path, digest) = (r#""path":"items.bin","#, "0".repeat(64));
                *bytes = text.replace(path, &format!(r#"{path}"pieces_sha256":"{digest}","#)).into_bytes();
            },
            "hash_mismatch",
        ),
    ];
    for (file, damage, code) in damages {
        let bundle = copy_of_bundle();
        let path = bundle.path().join(file);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(&path, bytes).unwrap();
        let bundle = bundle.path();
        run!("evaluate", bundle, &WORLD.path("data"), "--json").expect_error(code);
        run!("verify", bundle, "--json").expect_error(code);
        run!("inspect", bundle, "--json").expect_error(code);
        run!("recommend", bundle, "item-1", "--json").expect_error(code);
    }
    let bundle = copy_of_bundle();
    fs::remove_file(bundle.path().join("ranker.onnx")).unwrap();
    run!("verify", bundle.path(), "--json").expect_error("file_missing");
}

#[test]
fn a_signed_bundle_verifies_with_its_key_alone() {
    let bundle = copy_of_bundle();
    let (bundle, keys) = (bundle.path(), tempfile::tempdir().unwrap());
    let (key, other) = (keys.path().join("shop.key"), keys.path().join("other.key"));
    let public = |key: &Path| PathBuf::from(format!("{}.pub", key.display()));
    let made = run!("keygen", "--out", &key, "--json").expect_json(0);
    run!("keygen", "--out", &other).expect(0);
    assert_eq!(fs::read_to_string(public(&key)).unwrap().trim(), made["public_key"]);
    assert_ne!(fs::read(&key).unwrap(), fs::read(&other).unwrap(), "every key is new");
    #[cfg(unix)]
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&key).unwrap().permissions()) & 0o777,
        0o600
    );
    let kept = fs::read(&key).unwrap();
    run!("keygen", "--out", &key, "--json").expect_error("io");
    assert_eq!(fs::read(&key).unwrap(), kept, "a key is never overwritten");

    run!("verify", bundle, "--public-key", &public(&key), "--json").expect_error("signature_missing");
    let signed = run!("sign", bundle, "--key", &key, "--json").expect_json(0);
    assert_eq!(
        (&signed["bundle_hash"], &signed["public_keys"]),
        (&WORLD.trained["bundle_hash"], &json!([made["public_key"]]))
    );
    let verified = run!("verify", bundle, "--public-key", &public(&key), "--json").expect_json(0);
    assert_eq!(
        (&verified["signature_checked"], &verified["bundle_hash"]),
        (&json!(true), &WORLD.trained["bundle_hash"])
    );
    assert_eq!(run!("verify", bundle, "--json").expect_json(0)["signature_checked"], false);
    run!("verify", bundle, "--public-key", &public(&other), "--json").expect_error("signature_invalid");
    run!("verify", bundle, "--public-key", &bundle.join("card.md"), "--json")
        .expect_error("invalid_argument");
    // While keys change, a bundle has signatures of both, and a device may trust both.
    let both = run!("sign", bundle, "--key", &other, "--json").expect_json(0);
    assert_eq!(both["key_ids"].as_array().unwrap().len(), 2, "the signature of the other key stays");
    run!("verify", bundle, "--public-key", &public(&key)).expect(0);
    run!("verify", bundle, "--public-key", &public(&other)).expect(0);
    let mut signature = fs::read(bundle.join("manifest.sig")).unwrap();
    signature[40] ^= 1;
    fs::write(bundle.join("manifest.sig"), signature).unwrap();
    run!("verify", bundle, "--public-key", &public(&key), "--json").expect_error("signature_invalid");
    run!("verify", bundle, "--public-key", &public(&key), "--public-key", &public(&other)).expect(0);
    // What a manifest says of its time is signed with it: signatures of the one before are gone.
    let until =
        run!("sign", bundle, "--key", &key, "--expires-in-days", "1", "--rollback-index", "4", "--json")
            .expect_json(0);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let left = until["expires_at"].as_u64().unwrap() - now;
    assert!((86_000..=86_400).contains(&left), "{until}");
    assert_eq!((&until["rollback_index"], until["key_ids"].as_array().unwrap().len()), (&json!(4), 1));
    assert_ne!(until["bundle_hash"], WORLD.trained["bundle_hash"]);
    run!("verify", bundle, "--public-key", &public(&key)).expect(0);
    run!("verify", bundle, "--public-key", &public(&other), "--json").expect_error("signature_invalid");
    let before =
        run!("sign", bundle, "--key", &key, "--expires-in-days", "0", "--rollback-index", "0", "--json")
            .expect_json(0);
    assert_eq!(
        (&before["bundle_hash"], &before["expires_at"]),
        (&WORLD.trained["bundle_hash"], &json!(null))
    );
}

#[test]
fn recommend_answers_with_positions_and_falls_back_without_a_session() {
    let bundle = WORLD.path("bundle");
    let rows = Dataset::read(&WORLD.path("data")).unwrap().interactions;
    let item = rows.iter().next().unwrap().item_id;
    let answer =
        run!("recommend", &bundle, item, "--limit", "5", "--now", "1767225600", "--json").expect_json(0);
    let list = answer["recommendations"].as_array().unwrap();
    let positions: Vec<u64> = list.iter().map(|one| one["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5], "{answer}");
    let empty = run!("recommend", &bundle, "--limit", "5", "--json").expect_json(0);
    assert!(
        empty["faults"].as_array().unwrap().iter().any(|fault| fault["code"] == "empty_session"),
        "{empty}"
    );
    assert_eq!(empty["recommendations"].as_array().unwrap().len(), 5, "{empty}");
}
