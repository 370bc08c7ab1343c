//! `sanderling serve` as a process.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::component;
use super::serve::send;

/// Runs the program to its end and gives the object that it prints.
pub(super) fn sanderling(arguments: &[&str]) -> Value {
    let done = Command::new(env!("CARGO_BIN_EXE_sanderling")).args(arguments).arg("--json").output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// How long a server goes on after it was asked to stop.
const DRAIN_SECONDS: &str = "1";

/// The program as a server.
pub(super) struct Server {
    process: Child,
    pub(super) address: SocketAddr,
    /// The hash of the bundle that it began with.
    pub(super) first_bundle: String,
    log: tempfile::NamedTempFile,
}

impl Server {
    /// One that looks for another bundle every second.
    pub(super) fn start(component: &Path, folder: &Path, more: &[&Path]) -> Self {
        Self::start_looking("1", component, folder, more)
    }

    pub(super) fn start_looking(every: &str, component: &Path, folder: &Path, more: &[&Path]) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_sanderling"))
            .args(["serve", "--listen", "127.0.0.1:0", "--instances", "2", "--json"])
            .args(["--check-seconds", every, "--drain-seconds", DRAIN_SECONDS])
            .arg(folder)
            .arg("--component")
            .arg(component)
            .args(more)
            .stdout(Stdio::piped())
            .stderr(log.reopen().unwrap())
            .env_remove("RUST_LOG")
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let address = ready["url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        Self { process, address, first_bundle: ready["bundle_hash"].as_str().unwrap().to_owned(), log }
    }

    pub(super) fn bundle(&self) -> Value {
        send(self.address, "GET", "/healthz", b"").json()["bundle_sha256"].clone()
    }

    pub(super) fn metrics(&self) -> String {
        send(self.address, "GET", "/metrics", b"").body
    }

    /// The value of a metric without labels.
    pub(super) fn metric(&self, name: &str) -> f64 {
        let metrics = self.metrics();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")).parse().unwrap()
    }

    /// What it has written to standard error.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Stops it, and gives what it says of itself meanwhile.
    pub(super) fn stop_draining(self) -> String {
        terminate(&self.process);
        let mut answer = send(self.address, "GET", "/healthz", b"");
        while answer.status == 200 {
            answer = send(self.address, "GET", "/healthz", b"");
        }
        assert_eq!(answer.status, 503, "{}", answer.body);
        assert_eq!(
            send(self.address, "POST", "/recommend", b"{}").status,
            200,
            "requests are still answered"
        );
        let said = answer.json()["status"].as_str().unwrap().to_owned();
        self.wait();
        said
    }

    pub(super) fn stop(self) {
        terminate(&self.process);
        self.wait();
    }

    fn wait(mut self) {
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn terminate(process: &Child) {
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
}

#[track_caller]
pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_server_that_is_still_starting_hears_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let endless = dir.path().join("endless.wasm");
    std::fs::write(&endless, component("(loop $forever br $forever)")).unwrap();
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/v1/bundle");
    // It listens before it opens the bundle.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_sanderling"))
        .args(["serve", "--listen", &port.to_string(), "--component"])
        .args([&endless, &bundle])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("it listens", || TcpStream::connect(port).is_ok());
    terminate(&process);
    let start = Instant::now();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(30), "opening would have taken sixty");
}
