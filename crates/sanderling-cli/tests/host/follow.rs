//! A server goes on with the next bundle, of a folder or of a channel, without a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::process::{Server, sanderling, wait_until};
use super::real_parts;
use super::serve::send;

const FAILURES: &str = "sanderling_bundle_refresh_failures_total";

/// A folder with a key, two releases of a bundle that the key has signed, of which the first was taken back by the second, and one of somebody else.
struct Site(tempfile::TempDir);

impl Site {
    /// `None` where the component is not to be tested.
    fn new() -> Option<(PathBuf, Self)> {
        let (component, files) = real_parts()?;
        let site = Self(tempfile::tempdir().unwrap());
        for key in ["key", "foreign-key"] {
            sanderling(&["keygen", "--out", &site.text(key)]);
        }
        for (release, key, index) in
            [("first", "key", "1"), ("second", "key", "2"), ("foreign", "foreign-key", "3")]
        {
            let folder = site.path(release);
            fs::create_dir(&folder).unwrap();
            files.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).unwrap());
            let (folder, key) = (site.text(release), site.text(key));
            sanderling(&["sign", &folder, "--key", &key, "--rollback-index", index]);
        }
        Some((component, site))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn promote(&self, release: &str) {
        sanderling(&["promote", &self.text(release), "--channel", &self.text("live")]);
    }
}

#[test]
fn a_server_goes_on_with_the_champion_of_its_channel_and_loses_no_request() {
    let Some((component, site)) = Site::new() else { return };
    site.promote("first");
    let server =
        Server::start(&component, &site.path("live"), &[Path::new("--public-key"), &site.path("key.pub")]);
    let still = Server::start_looking("0", &component, &site.path("live"), &[]);
    let first = server.first_bundle.clone();

    let is_over = AtomicBool::new(false);
    let num_asked = std::thread::scope(|scope| {
        let ask = || {
            let mut num_asked = 0;
            while !is_over.load(Ordering::Relaxed) {
                let answer = send(server.address, "POST", "/recommend", b"{}");
                assert_eq!(answer.status, 200, "{}", answer.body);
                num_asked += 1;
            }
            num_asked
        };
        let clients = [scope.spawn(ask), scope.spawn(ask)];
        site.promote("second");
        wait_until("the second is served", || server.bundle() != *first);
        is_over.store(true, Ordering::Relaxed);
        clients.map(|client| client.join().unwrap())
    });
    assert!(num_asked.iter().all(|asked| *asked > 0), "{num_asked:?}");
    let second = server.bundle();
    let metrics = server.metrics();
    let info = format!("sanderling_bundle_info{{sha256=\"{}\"", second.as_str().unwrap());
    assert!(metrics.contains(&info), "{metrics}");
    assert_eq!(server.metric(FAILURES), 0.0);

    // The first was taken back, and somebody else has signed the other one.
    for (num_refused, release) in ["first", "foreign"].into_iter().enumerate() {
        site.promote(release);
        wait_until("it is refused", || server.metric(FAILURES) > 3.0 * num_refused as f64);
        wait_until("it is tried again", || server.metric(FAILURES) >= 3.0 * (num_refused + 1) as f64);
        assert_eq!(server.bundle(), second);
        assert_eq!(send(server.address, "POST", "/recommend", b"{}").status, 200);
    }
    let log = server.log();
    assert_eq!(log.matches("is not served").count(), 2, "each refusal once: {log}");
    for code in ["bundle_rolled_back", "signature_invalid"] {
        assert!(log.contains(code), "{log}");
    }
    assert_eq!(still.bundle(), *first, "one that does not look");
    still.stop();
    server.stop();
}

#[test]
fn a_copy_without_its_signature_leaves_that_of_the_channel_there() {
    let Some((component, site)) = Site::new() else { return };
    site.promote("first");
    fs::remove_file(site.path("first").join("manifest.sig")).unwrap();
    site.promote("first");
    let server =
        Server::start(&component, &site.path("live"), &[Path::new("--public-key"), &site.path("key.pub")]);
    assert!(server.log().contains("serving"), "{}", server.log());
    // A balancer finds out before the server goes.
    assert_eq!(server.stop_draining(), "stopping");
}

#[test]
fn a_secret_key_is_no_public_one_and_a_channel_says_what_it_served_when() {
    let Some((component, site)) = Site::new() else { return };
    site.promote("first");
    let refused = Command::new(env!("CARGO_BIN_EXE_sanderling"))
        .args(["serve", &site.text("live"), "--public-key", &site.text("key"), "--component"])
        .arg(&component)
        .output()
        .unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{error}");
    assert!(error.contains("is a secret key") && error.contains("key.pub"), "{error}");
    let status = Command::new(env!("CARGO_BIN_EXE_sanderling"))
        .args(["status", "--channel", &site.text("live")])
        .output()
        .unwrap();
    let text = String::from_utf8(status.stdout).unwrap();
    assert!(text.contains("Z  champion: by hand; champion version"), "{text}");
}

#[test]
fn half_a_bundle_is_not_served_and_the_whole_one_is() {
    let Some((component, site)) = Site::new() else { return };
    fs::rename(site.path("first"), site.path("bundle")).unwrap();
    let server = Server::start(&component, &site.path("bundle"), &[]);
    let first = server.first_bundle.clone();
    // The manifest comes before what it names.
    let copy = |name: &str| fs::copy(site.path("second").join(name), site.path("bundle").join(name)).unwrap();
    let vocabulary = site.path("bundle").join("vocabulary.bin");
    fs::write(&vocabulary, "{").unwrap();
    copy("manifest.json");
    copy("manifest.sig");
    wait_until("the half is refused", || server.metric(FAILURES) > 0.0);
    assert_eq!(server.bundle(), *first);
    copy("vocabulary.bin");
    wait_until("the whole is served", || server.bundle() != *first);
    server.stop();
}

#[test]
fn a_channel_that_names_another_bundle_than_its_folder_has_is_refused() {
    let Some((component, site)) = Site::new() else { return };
    site.promote("first");
    let live = site.path("live");
    let mut channel: Value = serde_json::from_slice(&fs::read(live.join("channel.json")).unwrap()).unwrap();
    channel["champion"]["bundle_sha256"] = "0".repeat(64).into();
    fs::write(live.join("channel.json"), channel.to_string()).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_sanderling"))
        .args(["serve", "--listen", "127.0.0.1:0", "--json", "--component"])
        .args([&component, &live])
        .output()
        .unwrap();
    let error: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((done.status.code(), &error["error"]["code"]), (Some(2), &Value::from("hash_mismatch")));
}
