//! What the tests share: a bundle, reports, and a collector on a port of its own.
#![allow(dead_code, unused_imports, unused_macros, unreachable_pub, reason = "every test file uses its part")]
#![allow(clippy::print_stdout, reason = "a skipped test says so, and a child says where it listens")]

#[cfg(unix)]
pub mod cluster;
pub mod database;
pub mod fleet;
#[cfg(unix)]
pub mod proxy;
pub mod traffic;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sanderling_collector::{
    Admin, AdminToken, Config, ManualClock, Reader, RegisteredBundle, Status, Store, StoreLocation,
    StoreOptions, serve_with_admin,
};
use sanderling_types::{
    Baseline, BaselineField, FORMAT_VERSION, FieldKind, FileEntry, FileRole, Limits, Manifest, Observation,
    PolicyDefaults, Quantisation, Report, Result, RuntimeKind, Sha256Hash, Shapes, TelemetryConstants,
    TimeKind, TrainingWindow,
};
use tokio::sync::oneshot;

pub(crate) use database::for_every_database;
pub use database::{Database, Kind};

/// Start of the window that tests report.
pub const WINDOW: i64 = 20_000 * 86_400;
/// The tests' time: an hour after that window has closed.
pub const NOW: i64 = WINDOW + 86_400 + 3_600;
/// Shares of the field `interaction.category`.
pub const SHARES: [f64; 4] = [0.4, 0.3, 0.2, 0.1];

pub fn baseline() -> Baseline {
    let labels =
        |labels: &[&str]| FieldKind::Categorical { labels: labels.iter().map(ToString::to_string).collect() };
    let fields = vec![
        BaselineField {
            name: "interaction.category".to_owned(),
            bins: labels(&["books", "games", "music", "other"]),
            shares: Some(SHARES.to_vec()),
            num_devices: 5_000,
        },
        BaselineField {
            name: "score.ranker".to_owned(),
            bins: FieldKind::Numeric { edges: vec![-1.0, 0.0, 1.0] },
            shares: Some(vec![0.25; 4]),
            num_devices: 5_000,
        },
        BaselineField {
            name: "outcome.position".to_owned(),
            bins: labels(&["none", "1", "2-3", "4-10", "over_10"]),
            shares: None,
            num_devices: 0,
        },
    ];
    Baseline { format_version: FORMAT_VERSION, fields }
}

pub fn manifest(version: u64, telemetry: TelemetryConstants, baseline: &[u8]) -> Manifest {
    let entry = |role: FileRole, bytes: &[u8]| FileEntry::of(role.file_name(), bytes);
    let content = |role: FileRole| if role == FileRole::Baseline { baseline } else { b"not read" };
    let roles = FileRole::REQUIRED.iter().chain(&[FileRole::Encoder, FileRole::Items]);
    let files = roles.map(|role| (*role, entry(*role, content(*role))));
    Manifest {
        expires_at: None,
        rollback_index: None,
        feature_spec_sha256: Sha256Hash::of(b"spec"),
        files: files.collect(),
        format_version: FORMAT_VERSION,
        limits: Limits { max_candidates: 100, max_limit: 50, max_session_len: 50 },
        metrics: BTreeMap::new(),
        name: "shop".to_owned(),
        parent: None,
        policy: PolicyDefaults { category_cap: None, exclude_seen: true },
        quantisation: Quantisation {
            encoder_bits: 32,
            item_bits: 8,
            ndcg10_f32: 0.2,
            ndcg10_packed: 0.2,
            steps: Vec::new(),
        },
        runtime: RuntimeKind::Slim,
        recommender: "sequence".to_owned(),
        shapes: Shapes { dim: 8, num_features: 4, num_items: 10 },
        telemetry,
        training: TrainingWindow {
            last_timestamp: WINDOW - 1,
            num_interactions: 1,
            num_users: 1,
            recipe_sha256: Sha256Hash::of(b"recipe"),
            seed: 1,
            split: "time".to_owned(),
            start_timestamp: 0,
            time: TimeKind::UnixSeconds,
        },
        version,
    }
}

pub fn bundle_of(version: u64, telemetry: TelemetryConstants) -> RegisteredBundle {
    let baseline = baseline().encode();
    RegisteredBundle::decode(&manifest(version, telemetry, &baseline).encode(), &baseline).unwrap()
}

pub fn bundle() -> RegisteredBundle {
    bundle_of(1, TelemetryConstants::default())
}

/// Report number `number` of the first field, not yet padded.
pub fn unpadded(number: u64, field: &str, bin: u16) -> Report {
    let constants = TelemetryConstants::default();
    Report {
        format_version: FORMAT_VERSION,
        report_id: format!("{number:032x}"),
        bundle_sha256: bundle().hash(),
        window_start: WINDOW,
        window_seconds: constants.window_seconds,
        epsilon: constants.epsilon,
        observations: vec![Observation { field: field.to_owned(), bin }],
        padding: String::new(),
    }
}

pub fn report(number: u64, field: &str, bin: u16) -> Report {
    padded(unpadded(number, field, bin))
}

pub fn padded(mut report: Report) -> Report {
    report.pad_to(TelemetryConstants::default().report_bytes).unwrap();
    report
}

pub fn config() -> Config {
    Config { clock: Arc::new(ManualClock::new(NOW)), ..Config::default() }
}

pub fn open(location: &StoreLocation) -> Store {
    let store = Store::open(location, &StoreOptions::default()).unwrap();
    store.register(&bundle()).unwrap();
    store
}

/// Does what a test does in a runtime.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test)
}

/// Tries until `condition` holds; fails after half a minute.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What administrators of the tests' collectors show.
pub const TOKEN: &str = "a-token-of-the-tests";

/// A collector that serves in a thread of its own until it is dropped.
pub struct Collector {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Collector {
    pub fn start(store: Store, config: Config) -> Self {
        Self::start_with(store, config, None)
    }

    /// With a journal of decisions.
    pub fn start_with(store: Store, config: Config, decisions: Option<&Path>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let bind = || runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let (listener, for_admin) = (bind(), bind());
        let (address, admin_address) = (listener.local_addr().unwrap(), for_admin.local_addr().unwrap());
        let token = AdminToken::new(TOKEN).unwrap();
        let admin = Admin { listener: for_admin, token, decisions: decisions.map(Path::to_owned) };
        let (shutdown, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime.block_on(serve_with_admin(config, store, listener, Some(admin), async {
                let _ = stopped.await;
            }))
        });
        Self { address, admin: admin_address, shutdown: Some(shutdown), thread: Some(thread) }
    }

    /// Over a database, with the test bundle registered.
    pub fn at(database: &Database) -> Self {
        Self::start(open(&database.location()), config())
    }

    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// An administrator with the right token.
    pub fn administrator(&self) -> Client {
        Client::new(self.admin)
    }

    /// What administrators are shown.
    pub fn status(&self) -> Status {
        serde_json::from_value(self.administrator().get("/v1/status").1).unwrap()
    }

    /// Asks for the graceful end and waits for it.
    pub fn stop(mut self) -> Result<()> {
        self.join()
    }

    fn join(&mut self) -> Result<()> {
        drop(self.shutdown.take());
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.join().unwrap();
    }
}

/// A device.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    address: SocketAddr,
}

pub type Answer = Result<ureq::http::Response<ureq::Body>, ureq::Error>;

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Self { agent, address }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn agent(&self) -> &ureq::Agent {
        &self.agent
    }

    pub fn try_post(&self, body: &[u8]) -> Answer {
        self.agent.post(self.url("/v1/reports")).content_type("text/plain").send(body)
    }

    /// Status and body of a sent report.
    pub fn post(&self, body: &[u8]) -> (u16, serde_json::Value) {
        let mut response = self.try_post(body).unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.body_mut().read_to_string().unwrap()).unwrap())
    }

    pub fn send(&self, report: &Report) -> (u16, serde_json::Value) {
        self.post(&report.encode())
    }

    /// Status and body of what the right token gets; text that is not JSON as a string.
    pub fn get(&self, path: &str) -> (u16, serde_json::Value) {
        let request = self.agent.get(self.url(path)).header("authorization", format!("Bearer {TOKEN}"));
        Self::read(request.call())
    }

    /// As [`Client::get`], for a deletion.
    pub fn delete(&self, path: &str) -> (u16, serde_json::Value) {
        let request = self.agent.delete(self.url(path)).header("authorization", format!("Bearer {TOKEN}"));
        Self::read(request.call())
    }

    fn read(answer: Answer) -> (u16, serde_json::Value) {
        let mut response = answer.unwrap();
        let body = response.body_mut().read_to_string().unwrap();
        let value = serde_json::from_str(&body).unwrap_or(serde_json::Value::String(body));
        (response.status().as_u16(), value)
    }
}

/// Reports in the database, counted without hiding anything.
pub fn num_stored(location: &StoreLocation) -> u64 {
    let status = Reader::open(location).unwrap().status().unwrap();
    let windows = status.iter().flat_map(|bundle| &bundle.windows);
    windows.map(|window| window.num_reports.unwrap()).sum()
}
