//! The component behind HTTP answers as the native engine does, and nothing that is sent to it ends it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use sanderling_cli::serve::serve;
use sanderling_cli::wasm_host::{Pool, PoolLimits};
use sanderling_collector::Connections;
use sanderling_core::{Bundle, BundleFiles, Engine, Trust};
use sanderling_tract::FullRuntime;
use sanderling_types::{Code, Response};
use serde_json::Value;
use tokio::sync::oneshot;
use ureq::http::Request;

use super::{component, real_parts, requests};

const LIMITS: PoolLimits = PoolLimits {
    instances: 2,
    waiting: 16,
    call_time: Duration::from_secs(30),
    load_time: Duration::from_secs(60),
    memory_bytes: 256 << 20,
};

/// A server on a free port, on a thread of its own until it is dropped.
struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(limits: PoolLimits) -> Option<(Self, Engine)> {
        let (component, files) = real_parts()?;
        Some(Self::of(limits, component, files))
    }

    fn of(limits: PoolLimits, component: PathBuf, files: BTreeMap<String, Vec<u8>>) -> (Self, Engine) {
        let bundle = Bundle::open(BundleFiles::from(files.clone()), None).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, started) = std::sync::mpsc::channel();
        let run = async move {
            let pool = Pool::start(&component, &files, Trust::default(), limits).await.unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            ready.send(listener.local_addr().unwrap()).unwrap();
            let shutdown = async move { drop(stopped.await) };
            serve(Arc::new(pool), listener, Connections::default(), Duration::from_secs(5), shutdown).await;
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let thread = std::thread::spawn(move || runtime.block_on(run));
        let server = Self { address: started.recv().unwrap(), stop: Some(stop), thread: Some(thread) };
        (server, Engine::new(bundle, &FullRuntime).unwrap())
    }

    fn send(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        send(self.address, method, path, body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(super) struct Answer {
    pub(super) status: u16,
    retry_after: Option<String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

pub(super) fn send(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Answer {
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .new_agent();
    let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    let mut response = match body {
        [] => agent.run(request.body(()).unwrap()).unwrap(),
        body => agent.run(request.body(body).unwrap()).unwrap(),
    };
    let header = response.headers().get("retry-after");
    Answer {
        status: response.status().as_u16(),
        retry_after: header.map(|value| value.to_str().unwrap().to_owned()),
        body: response.body_mut().read_to_string().unwrap(),
    }
}

/// A request whose session takes the component tens of milliseconds to read.
fn long_request() -> Vec<u8> {
    let interaction = r#"{"item_id":"nobody-knows-it","kind":"view","timestamp":1}"#;
    let session = vec![interaction; 15_000].join(",");
    format!(r#"{{"session":[{session}],"limit":5,"now":1}}"#).into_bytes()
}

#[test]
fn a_component_that_never_opens_a_bundle_is_stopped_by_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limits = PoolLimits { load_time: Duration::from_millis(50), ..LIMITS };
    let endless = component("(loop $forever br $forever)");
    let files = [("manifest.json".to_owned(), b"{}".to_vec())].into();
    let error = runtime.block_on(Pool::from_bytes(&endless, &files, Trust::default(), limits)).unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    assert!(error.message().contains("time"), "{error}");
    let none = PoolLimits { instances: 0, ..LIMITS };
    let error = runtime.block_on(Pool::from_bytes(&endless, &files, Trust::default(), none)).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "{error}");
}

#[test]
fn the_server_answers_as_the_native_engine_does() {
    let Some((server, engine)) = Server::start(LIMITS) else { return };
    for request in requests(&engine) {
        let body = serde_json::to_vec(&request).unwrap();
        let answer = server.send("POST", "/recommend", &body);
        assert_eq!(answer.status, 200, "{}", answer.body);
        let found: Response = serde_json::from_str(&answer.body).unwrap();
        let native = engine.recommend(&request).response;
        let ids = |response: &Response| -> Vec<String> {
            response.recommendations.iter().map(|item| item.item_id.to_string()).collect()
        };
        assert_eq!(ids(&found), ids(&native));
    }
    let health = server.send("GET", "/healthz", b"");
    assert_eq!((health.status, health.json()["status"].clone()), (200, "ok".into()));
    assert_eq!(health.json()["bundle_sha256"], engine.bundle().hash().to_string());

    for (method, path, body, status, code) in [
        ("POST", "/recommend", b"{".as_slice(), 400, "invalid_argument"),
        ("POST", "/operations", b"[]", 404, "not_found"),
        ("PUT", "/bundle", b"x", 404, "not_found"),
        ("GET", "/recommend", b"", 405, "invalid_argument"),
        ("POST", "/recommend", &vec![b' '; (1 << 20) + 1], 413, "limit_exceeded"),
    ] {
        let answer = server.send(method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert_eq!(answer.json()["code"], code, "{method} {path}");
    }

    let metrics = server.send("GET", "/metrics", b"").body;
    for line in [
        "sanderling_requests_total{status=\"200\"} 3",
        "sanderling_requests_total{status=\"400\"} 1",
        "sanderling_requests_total{status=\"413\"} 1",
        "sanderling_request_seconds_count 5",
        "sanderling_faults_total{code=\"empty_session\"} 1",
        "sanderling_instances_replaced_total 0",
        "# EOF",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn a_bundle_that_memory_is_too_small_for_is_not_said_to_be_broken() {
    let Some((component, files)) = real_parts() else { return };
    let component = std::fs::read(component).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    // Pages of wasm memory, until it is enough.
    let enough = (16..512).step_by(2).find(|pages| {
        let limits = PoolLimits { memory_bytes: pages << 16, instances: 1, ..LIMITS };
        match runtime.block_on(Pool::from_bytes(&component, &files, Trust::default(), limits)) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.code(), Code::LimitExceeded, "{pages} pages: {error}");
                assert!(error.message().contains("memory"), "{pages} pages: {error}");
                false
            }
        }
    });
    assert!(enough.is_some_and(|pages| pages > 16), "{enough:?}");
}

#[test]
fn an_instance_without_time_is_replaced_and_the_server_goes_on() {
    // Whatever is at work when an epoch ends is stopped.
    let Some((server, _)) = Server::start(PoolLimits { call_time: Duration::ZERO, instances: 1, ..LIMITS })
    else {
        return;
    };
    let long = long_request();
    let late = (0..200).map(|_| server.send("POST", "/recommend", &long)).find(|answer| answer.status == 504);
    let late = late.expect("one of the requests meets the end of an epoch");
    assert_eq!(late.json()["code"], "limit_exceeded", "{}", late.body);
    assert!((0..50).any(|_| server.send("POST", "/recommend", b"{}").status == 200), "it goes on");
    let metrics = server.send("GET", "/metrics", b"").body;
    assert!(!metrics.contains("sanderling_instances_replaced_total 0"), "{metrics}");
}

#[test]
fn a_bundle_that_expires_is_served_on_by_instances_that_take_the_place_of_others() {
    let Some((component, mut files)) = real_parts() else { return };
    let start = SystemTime::now();
    drop(Server::of(LIMITS, component.clone(), files.clone()));
    // Time enough to start once more.
    let expires_at = SystemTime::now() + 2 * start.elapsed().unwrap() + Duration::from_secs(3);
    let seconds = expires_at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let manifest = files.get_mut("manifest.json").unwrap();
    let mut changed: serde_json::Map<String, Value> = serde_json::from_slice(manifest).unwrap();
    changed.insert("expires_at".to_owned(), seconds.into());
    *manifest = serde_json::to_vec(&changed).unwrap();
    let limits = PoolLimits { call_time: Duration::ZERO, instances: 1, ..LIMITS };
    let (server, _) = Server::of(limits, component, files);
    let metrics = server.send("GET", "/metrics", b"").body;
    assert!(
        metrics.contains(&format!("sanderling_bundle_expiry_timestamp_seconds {seconds}\n")),
        "{metrics}"
    );

    while let Ok(left) = expires_at.duration_since(SystemTime::now()) {
        std::thread::sleep(left + Duration::from_secs(1));
    }
    let long = long_request();
    assert!((0..200).any(|_| server.send("POST", "/recommend", &long).status == 504), "an instance is lost");
    let answers: Vec<Answer> = (0..50).map(|_| server.send("POST", "/recommend", b"{}")).collect();
    assert!(answers.iter().any(|answer| answer.status == 200), "{}", answers[0].body);
}

#[test]
fn a_client_that_goes_away_costs_no_instance() {
    use std::io::Write;

    let Some((server, _)) = Server::start(PoolLimits { instances: 1, ..LIMITS }) else { return };
    let long = long_request();
    let count_of = |metrics: &str, what: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(what));
        line.map_or(0, |count| count.trim().parse().unwrap())
    };
    let mut metrics = String::new();
    // A client that goes before its request was read was never there; five are to be.
    for _ in 0..200 {
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        write!(stream, "POST /recommend HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", long.len())
            .unwrap();
        stream.write_all(&long).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        drop(stream);
        assert_eq!(server.send("POST", "/recommend", b"{}").status, 200);
        metrics = server.send("GET", "/metrics", b"").body;
        if count_of(&metrics, "sanderling_requests_total{status=\"499\"}") >= 5 {
            break;
        }
    }
    assert!(metrics.contains("sanderling_instances_replaced_total 0"), "{metrics}");
    let [gone, answered] = ["499", "200"]
        .map(|status| count_of(&metrics, &format!("sanderling_requests_total{{status=\"{status}\"}}")));
    assert!(gone >= 5, "clients went: {metrics}");
    assert_eq!(
        count_of(&metrics, "sanderling_request_seconds_count"),
        gone + answered,
        "every request is timed: {metrics}"
    );
}

#[test]
fn a_body_that_does_not_arrive_is_not_waited_for() {
    use std::io::{Read, Write};

    let Some((server, _)) = Server::start(PoolLimits { instances: 1, ..LIMITS }) else { return };
    let mut stream = std::net::TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(stream, "POST /recommend HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{{")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("invalid_argument"), "{answer}");
}

#[test]
fn nobody_waits_longer_than_a_call_may_take() {
    let limits = PoolLimits { instances: 1, call_time: Duration::from_millis(100), ..LIMITS };
    let Some((server, _)) = Server::start(PoolLimits { waiting: 64, ..limits }) else { return };
    let long = long_request();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let ask = || send(server.address, "POST", "/recommend", &long);
        let clients: Vec<_> = (0..40).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!refused.is_empty(), "nobody had to wait so long");
    for answer in &refused {
        assert_eq!(
            (answer.json()["code"].clone(), answer.json()["expected"].clone()),
            ("overloaded".into(), "within 100ms".into()),
            "{}",
            answer.body
        );
        assert_eq!(answer.retry_after.as_deref(), Some("1"));
    }
    // One that takes longer itself is another failure.
    assert!(answers.iter().all(|answer| [200, 503, 504].contains(&answer.status)));
}

#[test]
fn the_time_that_a_request_waits_is_part_of_its_deadline() {
    let limits = PoolLimits { instances: 1, waiting: 64, ..LIMITS };
    let Some((server, engine)) = Server::start(limits) else { return };
    let item_id = engine.bundle().vocabulary().item_ids().next().unwrap();
    let session = serde_json::json!([{"item_id": item_id, "kind": "view", "timestamp": 1}]);
    // Many times what the list takes.
    let short = serde_json::json!({"session": session, "deadline_ms": 100}).to_string().into_bytes();
    let long = long_request();
    let was_late = std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| (0..5).for_each(|_| drop(server.send("POST", "/recommend", &long))));
        }
        (0..10).any(|_| server.send("POST", "/recommend", &short).body.contains("deadline_exceeded"))
    });
    assert!(was_late, "forty requests of tens of milliseconds were before it");
}

#[test]
fn requests_beyond_the_queue_are_told_to_come_back() {
    let Some((server, _)) = Server::start(PoolLimits { instances: 1, waiting: 0, ..LIMITS }) else { return };
    let address = server.address;
    let ask =
        || -> Vec<Answer> { (0..20).map(|_| send(address, "POST", "/recommend", &long_request())).collect() };
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(!refused.is_empty(), "nobody had to wait");
    for answer in &refused {
        assert_eq!(answer.json()["code"], "overloaded");
        assert_eq!(answer.retry_after.as_deref(), Some("1"));
    }
    assert!(answers.iter().any(|answer| answer.status == 200));
    assert!(answers.iter().all(|answer| [200, 503].contains(&answer.status)));
}
