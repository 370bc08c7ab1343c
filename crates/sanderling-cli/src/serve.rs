//! The edge component behind HTTP: what `sanderling serve` runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use sanderling_collector::{Connections, Problem};
use sanderling_types::{Code, Error, FaultCode, Sha256Hash};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;

use crate::bundle_source::BundleSource;
use crate::wasm_host::{Pool, Refreshes};

/// Most bytes of a request's body; the component has the same limit.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// What a client that was refused should wait.
const RETRY_AFTER_SECONDS: u16 = 1;
/// What requests count as whose client went away before the answer.
const CLIENT_CLOSED_REQUEST: u16 = 499;
const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug)]
struct Shared {
    pool: Arc<Pool>,
    requests: Family<Outcome, Counter>,
    faults: Family<Degraded, Counter>,
    seconds: Histogram,
    is_stopping: AtomicBool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    status: u16,
}

/// What degraded a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Degraded {
    code: &'static str,
}

/// What a component of another release may know beside our own codes.
const OTHER_FAULT: &str = "other";

impl Degraded {
    fn by(code: &str) -> Self {
        let known = FaultCode::ALL.iter().map(|(_, name)| *name);
        Self { code: known.into_iter().find(|name| *name == code).unwrap_or(OTHER_FAULT) }
    }
}

/// The part of an answer that is counted.
#[derive(Debug, Default, Deserialize)]
struct Counted {
    #[serde(default)]
    faults: Vec<CountedFault>,
}

#[derive(Debug, Deserialize)]
struct CountedFault {
    code: String,
}

/// Serves until `shutdown` completes, then answers requests that are on their way ([`Connections::linger`]) and finishes open ones, for at most `grace`.
///
/// | Request | Answer |
/// |---|---|
/// | `POST /recommend` | what the component answers: a [`sanderling_types::Response`] or a problem document; 503 with `Retry-After` when too many wait, 504 when one takes too long or too much memory |
/// | `GET /healthz` | `{"status","version","bundle_sha256"}` while the process serves; with status 503 from `shutdown` on |
/// | `GET /metrics` | requests by status, lists by what degraded them, a histogram of their seconds, instances that were replaced, which bundle is served, when it expires, how often the one that was there could not be, in the OpenMetrics text format |
pub async fn serve(
    pool: Arc<Pool>,
    listener: TcpListener,
    connections: Connections,
    grace: Duration,
    shutdown: impl Future<Output = ()>,
) {
    let shared = Arc::new(Shared {
        pool,
        requests: Family::default(),
        faults: Family::default(),
        is_stopping: AtomicBool::new(false),
        // A quarter of a millisecond to about four seconds.
        seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 15)),
    });
    // There from the start, so that rates can be taken of them.
    for (_, code) in FaultCode::ALL {
        drop(shared.faults.get_or_create(&Degraded { code }));
    }
    drop(shared.requests.get_or_create(&Outcome { status: StatusCode::OK.as_u16() }));
    let stopping = Arc::clone(&shared);
    let shutdown = async move {
        shutdown.await;
        stopping.is_stopping.store(true, Ordering::Relaxed);
        tracing::info!("stopping");
    };
    connections.serve(router(shared), listener, grace, shutdown).await;
}

/// Most of the time after which what could not be served is tried again.
const MAX_PAUSE: Duration = Duration::from_secs(300);

/// A bundle that could not be served.
struct Refused {
    /// `None` where there was none.
    sha256: Option<Sha256Hash>,
    failure: String,
    pause: Duration,
    again_at: Instant,
}

/// Looks at `source` again and again, `every` so long, and serves what is there. What cannot be served is logged, and while it stays is tried again
/// after a time that doubles: a copy may be on its way, and opening costs.
pub async fn follow(pool: &Pool, source: &BundleSource, every: Duration) -> Infallible {
    let mut refused: Option<Refused> = None;
    loop {
        tokio::time::sleep(every).await;
        let looked = source.clone();
        let sha256 = tokio::task::spawn_blocking(move || looked.sha256().ok()).await.unwrap_or_default();
        let was_refused = refused.is_some();
        let before = refused.take().filter(|refused| refused.sha256 == sha256);
        if before.as_ref().is_some_and(|before| Instant::now() < before.again_at) {
            refused = before;
            continue;
        }
        match pool.refresh(source).await {
            Ok(true) => tracing::info!(bundle_sha256 = pool.served().sha256(), "another bundle is served"),
            Ok(false) if was_refused => tracing::info!("the bundle that is served is there again"),
            Ok(false) => {}
            Err(error) => {
                let failure = error.to_string();
                if before.as_ref().is_none_or(|before| before.failure != failure) {
                    let offered = sha256.map(tracing::field::display);
                    let served = pool.served();
                    tracing::error!(%error, offered, served = served.sha256(), "the bundle that is there now is not served; the one before is");
                }
                let pause = before.map_or(every, |before| (2 * before.pause).min(MAX_PAUSE.max(every)));
                refused = Some(Refused { sha256, failure, pause, again_at: Instant::now() + pause });
            }
        }
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let nothing_here = async || problem(StatusCode::NOT_FOUND, &nothing());
    Router::new()
        .route("/recommend", post(recommend))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(async || problem(StatusCode::METHOD_NOT_ALLOWED, &wrong_method()))
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(shared)
}

async fn recommend(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let mut timed = Timed { shared: &shared, start: Instant::now(), status: CLIENT_CLOSED_REQUEST };
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await;
    let answer = match body {
        Ok(Ok(body)) => ask(&shared, body).await,
        Ok(Err(rejection)) => problem(rejection.status(), &broken_body(&rejection)),
        Err(_) => problem(StatusCode::REQUEST_TIMEOUT, &late_body()),
    };
    timed.status = answer.status().as_u16();
    answer
}

/// Counts a request when it ends, however it ends.
struct Timed<'a> {
    shared: &'a Shared,
    start: Instant,
    status: u16,
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        self.shared.seconds.observe(self.start.elapsed().as_secs_f64());
        self.shared.requests.get_or_create(&Outcome { status: self.status }).inc();
    }
}

async fn ask(shared: &Shared, body: Bytes) -> Response {
    match shared.pool.recommend(body).await {
        Ok(answer) => {
            let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY);
            if status == StatusCode::OK {
                let counted: Counted = serde_json::from_slice(&answer.body).unwrap_or_default();
                counted.faults.iter().for_each(|fault| {
                    shared.faults.get_or_create(&Degraded::by(&fault.code)).inc();
                });
            }
            let content_type = answer.content_type.map(|value| (header::CONTENT_TYPE, value));
            (status, headers(content_type), answer.body).into_response()
        }
        Err(error) => match error.code() {
            Code::Overloaded => {
                let wait = (header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
                (headers([wait]), problem(StatusCode::SERVICE_UNAVAILABLE, &error)).into_response()
            }
            Code::LimitExceeded => problem(StatusCode::GATEWAY_TIMEOUT, &error),
            _ => problem(StatusCode::INTERNAL_SERVER_ERROR, &error),
        },
    }
}

/// A list is of one person and of this moment.
fn headers(more: impl IntoIterator<Item = (HeaderName, HeaderValue)>) -> header::HeaderMap {
    let no_store = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    more.into_iter().chain([no_store]).collect()
}

async fn health(State(shared): State<Arc<Shared>>) -> Response {
    let (code, status) = match shared.is_stopping.load(Ordering::Relaxed) {
        false => (StatusCode::OK, "ok"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    let bundle_sha256 = shared.pool.served().sha256().to_owned();
    let body =
        json!({ "status": status, "version": env!("CARGO_PKG_VERSION"), "bundle_sha256": bundle_sha256 });
    (code, Json(body)).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let mut registry = Registry::with_prefix("sanderling");
    registry.register("requests", "Answers to POST /recommend by status", shared.requests.clone());
    registry.register("faults", "Lists by what degraded them", shared.faults.clone());
    registry.register("request_seconds", "Seconds from a request to its answer", shared.seconds.clone());
    registry.register(
        "instances_replaced",
        "Instances that trapped or ran out of time or memory",
        ConstCounter::new(shared.pool.num_replaced()),
    );
    let Refreshes { num_failures, last_success } = shared.pool.refreshes();
    registry.register(
        "bundle_refresh_failures",
        "Times that the folder held no bundle, or another one that could not be served",
        ConstCounter::new(num_failures),
    );
    let since_epoch = last_success.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    registry.register(
        "bundle_last_refresh_timestamp_seconds",
        "When the folder was last found to hold what is served, in Unix seconds",
        ConstGauge::new(since_epoch.as_secs_f64()),
    );
    let served = shared.pool.served();
    let labels = [("sha256", served.sha256().to_owned()), ("version", served.version().to_string())];
    registry.register("bundle", "The bundle that is served", Info::new(labels));
    if let Some(expires_at) = served.expires_at() {
        registry.register(
            "bundle_expiry_timestamp_seconds",
            "When the bundle expires, in Unix seconds",
            ConstGauge::new(expires_at),
        );
    }
    let mut out = String::new();
    match text::encode(&mut out, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], out).into_response(),
        Err(_) => {
            let error = Error::new(Code::Internal, "the metrics cannot be written");
            problem(StatusCode::INTERNAL_SERVER_ERROR, &error)
        }
    }
}

fn nothing() -> Error {
    Error::new(Code::NotFound, "there is nothing at this address")
        .expected("POST /recommend, GET /healthz or GET /metrics")
}

fn wrong_method() -> Error {
    Error::new(Code::InvalidArgument, "this address does not answer this method")
        .expected("POST /recommend, GET /healthz or GET /metrics")
}

fn late_body() -> Error {
    Error::new(Code::InvalidArgument, "the body did not arrive in time").expected(format!("{BODY_TIMEOUT:?}"))
}

fn broken_body(rejection: &BytesRejection) -> Error {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Error::new(Code::LimitExceeded, "the request is too large")
            .expected(format!("at most {MAX_REQUEST_BYTES} bytes"))
    } else {
        Error::new(Code::InvalidArgument, "the body broke off").found(rejection.body_text())
    }
}

/// An error as a problem document (RFC 9457).
fn problem(status: StatusCode, error: &Error) -> Response {
    let document = Problem { status: status.as_u16(), ..Problem::new(error) };
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
    (status, headers(content_type), Json(document)).into_response()
}
