//! Which request reaches which call of the engine; knows nothing of WASI.

use sanderling_core::{Bundle, BundleFiles, Engine, PublicKey, SessionMemory, Trust, operations};
use sanderling_tract::FullRuntime;
use sanderling_types::{Code, Error, Request, Result, Sha256Hash, unpack_files};
use serde_json::{Value, json};

use crate::problem::{problem, problem_with_status};

/// Header of `PUT /bundle` that names the key which must have signed the bundle.
pub const PUBLIC_KEY_HEADER: &str = "sanderling-public-key";

/// Header of `POST /recommend` by which a host says how many milliseconds of the request's `deadline_ms` are over.
pub const WAITED_HEADER: &str = "sanderling-waited-ms";

const MAX_BUNDLE_BYTES: usize = 256 << 20;
const MAX_REQUEST_BYTES: usize = 1 << 20;
const MAX_OPERATIONS_BYTES: usize = 64 << 20;

/// The request methods that any address answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// Everything else; never allowed.
    Other,
}

/// One HTTP request, as far as the service looks at it.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// The path without the query.
    pub path: String,
    /// Value of [`PUBLIC_KEY_HEADER`].
    pub public_key: Option<String>,
    /// Value of [`WAITED_HEADER`].
    pub waited_ms: Option<String>,
    /// The host's clock in Unix seconds, for requests that do not bring a time.
    pub now: i64,
    /// For requests that do not bring one: another one each time.
    pub seed: u64,
    /// The host's monotonic clock in milliseconds, for requests with a deadline.
    pub clock_ms: fn() -> f64,
    /// The whole body.
    pub body: Vec<u8>,
}

/// One HTTP response.
#[derive(Debug, Clone)]
pub struct HttpResponse {
    /// Status code.
    pub status: u16,
    /// Value of `content-type`.
    pub content_type: &'static str,
    /// The whole body.
    pub body: Vec<u8>,
}

/// The state of one component instance: at most one open bundle.
#[derive(Default)]
pub struct Service {
    loaded: Option<Loaded>,
}

struct Loaded {
    engine: Engine,
    /// The keys that the bundle was verified with.
    keys: Vec<PublicKey>,
    /// The `rollback_index` that the next bundle must have: that of this one, if a key has signed it.
    rollback_index: u64,
    bundle_sha256: Sha256Hash,
    /// How long steps take; never a session, since each request is somebody else's.
    memory: SessionMemory,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("bundle_sha256", &self.bundle_sha256()).finish()
    }
}

impl Service {
    /// Most bytes of a body that [`Service::handle`] accepts for this address; 0 where none is read.
    #[must_use]
    pub fn max_body_bytes(method: Method, path: &str) -> usize {
        match (method, path) {
            (Method::Put, "/bundle") => MAX_BUNDLE_BYTES,
            (Method::Post, "/recommend") => MAX_REQUEST_BYTES,
            (Method::Post, "/operations") => MAX_OPERATIONS_BYTES,
            _ => 0,
        }
    }

    /// Answers one request. Never fails: errors are problem documents.
    pub fn handle(&mut self, request: &HttpRequest) -> HttpResponse {
        let answer = match (request.method, request.path.as_str()) {
            (Method::Put, "/bundle") => self.put_bundle(request),
            (Method::Get, "/healthz") => Ok(self.health()),
            (Method::Post, "/recommend") => match &mut self.loaded {
                Some(loaded) => recommend(&loaded.engine, &mut loaded.memory, request),
                None => return no_bundle(),
            },
            (Method::Post, "/operations") => match &self.loaded {
                Some(loaded) => run_operations(&loaded.engine, &request.body),
                None => return no_bundle(),
            },
            (_, "/bundle") => return wrong_method("PUT"),
            (_, "/healthz") => return wrong_method("GET"),
            (_, "/recommend" | "/operations") => return wrong_method("POST"),
            (_, path) => Err(Error::new(Code::NotFound, "there is nothing at this address").found(path)),
        };
        match answer {
            Ok(value) => HttpResponse {
                status: 200,
                content_type: "application/json",
                body: value.to_string().into_bytes(),
            },
            Err(error) => problem(&error),
        }
    }

    /// Answers a request whose body was longer than [`Service::max_body_bytes`].
    #[must_use]
    pub fn body_too_large(max_bytes: usize) -> HttpResponse {
        problem(
            &Error::new(Code::LimitExceeded, "the request body is too large")
                .expected(format!("at most {max_bytes} bytes")),
        )
    }

    fn bundle_sha256(&self) -> Option<Sha256Hash> {
        self.loaded.as_ref().map(|loaded| loaded.bundle_sha256)
    }

    fn health(&self) -> Value {
        json!({
            "status": "ok",
            "version": env!("CARGO_PKG_VERSION"),
            "bundle_sha256": self.bundle_sha256(),
        })
    }

    /// Opens a bundle; the one before stays when this one is refused. After a bundle that was
    /// verified with keys, only bundles verified with the same keys are taken, and none that was taken back.
    fn put_bundle(&mut self, request: &HttpRequest) -> Result<Value> {
        let keys = request.public_key.as_deref().map_or(Ok(Vec::new()), public_keys)?;
        let pinned = self.loaded.as_ref().map_or(&[][..], |loaded| &loaded.keys);
        if !pinned.is_empty() && pinned != keys {
            return Err(Error::new(Code::SignatureInvalid, "other keys verified the bundle before this one")
                .expected(format!("the same keys in {PUBLIC_KEY_HEADER}"))
                .hint("start a new instance to change the keys"));
        }
        let files = BundleFiles::from(unpack_files(&request.body, MAX_BUNDLE_BYTES)?);
        let least_rollback_index = self.loaded.as_ref().map_or(0, |loaded| loaded.rollback_index);
        let trust = Trust { keys, now: Some(request.now), least_rollback_index };
        let bundle = Bundle::open(files, Some(&trust))?;
        let bundle_sha256 = bundle.hash();
        // What nobody has signed says nothing of later bundles.
        let signed = !trust.keys.is_empty();
        let rollback_index = bundle.manifest().rollback_index.filter(|_| signed).unwrap_or(0);
        let engine = Engine::new(bundle, &FullRuntime)?;
        let memory = SessionMemory::default();
        self.loaded = Some(Loaded { engine, keys: trust.keys, rollback_index, bundle_sha256, memory });
        Ok(json!({ "bundle_sha256": bundle_sha256 }))
    }
}

/// Keys with commas between them.
fn public_keys(text: &str) -> Result<Vec<PublicKey>> {
    // A key and a SHA-256 digest have the same text form.
    let key = |key: &str| Sha256Hash::parse(key.trim()).map(|bytes| PublicKey(*bytes.as_bytes()));
    text.split(',').map(key).collect::<Option<_>>().ok_or_else(|| {
        Error::new(
            Code::InvalidArgument,
            format!("header {PUBLIC_KEY_HEADER} holds something else than public keys"),
        )
        .expected("64 lower-case hex digits, a comma between two")
        .found(text)
    })
}

fn recommend(engine: &Engine, memory: &mut SessionMemory, request: &HttpRequest) -> Result<Value> {
    let start = (request.clock_ms)();
    check_length(&request.body, MAX_REQUEST_BYTES, "the request")?;
    let waited_ms = request.waited_ms.as_deref().map_or(Ok(0), whole_milliseconds)?;
    let asked = Request::decode(&request.body, request.now, request.seed)?;
    let elapsed_ms = || f64::from(waited_ms) + ((request.clock_ms)() - start);
    let outcome = engine.recommend_timed(&asked, memory, &elapsed_ms);
    memory.forget_session();
    to_value(&outcome.response)
}

fn whole_milliseconds(text: &str) -> Result<u32> {
    text.parse().map_err(|error| {
        Error::new(
            Code::InvalidArgument,
            format!("header {WAITED_HEADER} holds something else than milliseconds"),
        )
        .expected("a whole number of 32 bits")
        .found(text)
        .source_error(error)
    })
}

fn run_operations(engine: &Engine, body: &[u8]) -> Result<Value> {
    let list: Vec<Value> = parse(body, MAX_OPERATIONS_BYTES, "the list of operations")?;
    let answer = |operation: &Value| -> serde_json::Result<Value> {
        serde_json::from_str(&operations::run(engine, &operation.to_string()))
    };
    list.iter().map(answer).collect::<serde_json::Result<Value>>().map_err(|error| {
        Error::new(Code::Internal, "an answer cannot be given").found(&error).source_error(error)
    })
}

fn check_length(body: &[u8], max_bytes: usize, what: &str) -> Result<()> {
    if body.len() <= max_bytes {
        return Ok(());
    }
    Err(Error::new(Code::LimitExceeded, format!("{what} is too large"))
        .expected(format!("at most {max_bytes} bytes"))
        .found(format!("{} bytes", body.len())))
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8], max_bytes: usize, what: &str) -> Result<T> {
    check_length(body, max_bytes, what)?;
    serde_json::from_slice(body).map_err(|error| {
        Error::new(Code::InvalidArgument, format!("{what} cannot be decoded"))
            .found(&error)
            .source_error(error)
    })
}

fn to_value(value: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(value)
        .map_err(|error| Error::new(Code::Internal, "the answer cannot be encoded").source_error(error))
}

fn no_bundle() -> HttpResponse {
    let error =
        Error::new(Code::NotFound, "this instance has no bundle").hint("send it to PUT /bundle first");
    problem_with_status(503, &error)
}

fn wrong_method(allowed: &str) -> HttpResponse {
    let error =
        Error::new(Code::InvalidArgument, "this address does not answer this method").expected(allowed);
    problem_with_status(405, &error)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{HttpRequest, HttpResponse, Method, Service};

    fn request(method: Method, path: &str, body: impl Into<Vec<u8>>) -> HttpRequest {
        HttpRequest {
            method,
            path: path.to_owned(),
            public_key: None,
            waited_ms: None,
            now: 0,
            seed: 0,
            clock_ms: || 0.0,
            body: body.into(),
        }
    }

    fn ask(service: &mut Service, method: Method, path: &str, body: &[u8]) -> (HttpResponse, Value) {
        let response = service.handle(&request(method, path, body));
        let body = serde_json::from_slice(&response.body).unwrap();
        (response, body)
    }

    fn with_golden_bundle() -> Service {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/v1/bundle");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        });
        let container = sanderling_types::pack_files(&files.collect()).unwrap();
        let mut service = Service::default();
        assert_eq!(ask(&mut service, Method::Put, "/bundle", &container).0.status, 200);
        service
    }

    #[test]
    fn an_empty_instance_is_healthy_and_says_that_it_has_no_bundle() {
        let mut service = Service::default();
        let (response, body) = ask(&mut service, Method::Get, "/healthz", b"");
        assert_eq!((response.status, &body["status"]), (200, &Value::from("ok")));
        assert_eq!(body["bundle_sha256"], Value::Null);
        for path in ["/recommend", "/operations"] {
            let (response, body) = ask(&mut service, Method::Post, path, b"[]");
            assert_eq!(response.status, 503, "{path}");
            assert_eq!(response.content_type, "application/problem+json");
            assert_eq!(body["hint"], "send it to PUT /bundle first");
        }
    }

    #[test]
    fn every_refusal_is_a_problem_document_with_a_code() {
        let mut service = Service::default();
        let no_files = b"\0\0\0\0";
        for (method, path, body, status, code) in [
            (Method::Get, "/nothing", b"".as_slice(), 404, "not_found"),
            (Method::Get, "/recommend", b"", 405, "invalid_argument"),
            (Method::Post, "/bundle", b"", 405, "invalid_argument"),
            (Method::Other, "/healthz", b"", 405, "invalid_argument"),
            (Method::Put, "/bundle", b"", 422, "file_truncated"),
            (Method::Put, "/bundle", no_files, 422, "file_missing"),
        ] {
            let (response, problem) = ask(&mut service, method, path, body);
            assert_eq!(response.status, status, "{method:?} {path}");
            assert_eq!(problem["status"], status, "{method:?} {path}");
            assert_eq!(problem["code"], code, "{method:?} {path}");
            assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()));
        }
    }

    #[test]
    fn time_that_a_request_waited_is_part_of_its_deadline() {
        let mut service = with_golden_bundle();
        let engine = &service.loaded.as_ref().unwrap().engine;
        let item_id = engine.bundle().vocabulary().item_ids().next().unwrap().to_owned();
        let session = serde_json::json!([{"item_id": item_id, "kind": "view", "timestamp": 1}]);
        let asked = serde_json::json!({"session": session, "deadline_ms": 50}).to_string();
        let mut answer_after = |waited_ms: Option<&str>| {
            let waited_ms = waited_ms.map(str::to_owned);
            let asked = request(Method::Post, "/recommend", asked.clone());
            let response = service.handle(&HttpRequest { waited_ms, ..asked });
            let body: Value = serde_json::from_slice(&response.body).unwrap();
            let is_late = body.to_string().contains("deadline_exceeded");
            (response.status, is_late, body["code"].clone())
        };
        assert_eq!(answer_after(None), (200, false, Value::Null));
        assert_eq!(answer_after(Some("49")), (200, false, Value::Null));
        assert_eq!(answer_after(Some("50")), (200, true, Value::Null));
        assert_eq!(answer_after(Some("-1")), (400, false, "invalid_argument".into()));
    }

    #[test]
    fn chance_is_the_hosts_where_a_request_brings_none() {
        let mut service = with_golden_bundle();
        let mut listed = |seed: u64, own: Option<u64>| {
            let rules = serde_json::json!({"exploration": 0.5});
            let asked = serde_json::json!({"session": [], "rules": rules, "limit": 10, "seed": own});
            let mut asked = asked.as_object().unwrap().clone();
            let ids = service.loaded.as_ref().unwrap().engine.bundle().vocabulary().item_ids();
            let session: Vec<Value> = ids
                .take(3)
                .map(|id| serde_json::json!({"item_id": id, "kind": "view", "timestamp": 1}))
                .collect();
            asked.insert("session".to_owned(), session.into());
            let body = serde_json::to_vec(&asked).unwrap();
            let response = service.handle(&HttpRequest { seed, ..request(Method::Post, "/recommend", body) });
            let body: Value = serde_json::from_slice(&response.body).unwrap();
            body["recommendations"].to_string()
        };
        let lists: std::collections::BTreeSet<String> = (0..8).map(|seed| listed(seed, None)).collect();
        assert!(lists.len() > 4, "{} lists of 8 seeds", lists.len());
        assert_eq!(listed(1, Some(7)), listed(2, Some(7)), "the request's own seed counts");
    }

    #[test]
    fn a_key_that_is_no_key_is_refused_before_the_bundle_is_read() {
        let public_key = Some("xyz".to_owned());
        let request = HttpRequest { public_key, ..request(Method::Put, "/bundle", b"") };
        let response = Service::default().handle(&request);
        let problem: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!((response.status, &problem["code"]), (400, &Value::from("invalid_argument")));
    }
}
