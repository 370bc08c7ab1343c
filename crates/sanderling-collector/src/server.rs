//! The HTTP side: one listener for reports, and where configured one for administrators.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use sanderling_types::{
    Code, Error, Report, ReportReceipt, ReportStatus, Result, Sha256Hash, SharedSession, SharedSessionReceipt,
};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::{Instrument, Span, field};

use crate::admin::{self, Admin};
use crate::metrics::{Message, Metrics};
use crate::{Config, Connections, Problem, RegisteredBundle, Store, validate, validate_session};

/// How long a body of at most 8 KiB may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often expired reports and sessions are looked for.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);
/// What browsers may keep the permission for.
const CORS_MAX_AGE: Duration = Duration::from_secs(86_400);
/// How long the writer may take to say that it can write.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// What every request needs, on either listener.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    /// Bundles that were asked for, so that a report usually costs no look into the database.
    bundles: RwLock<BTreeMap<Sha256Hash, Arc<RegisteredBundle>>>,
    /// For [`Shared::database_bytes`].
    sizing: Arc<Semaphore>,
}

/// Serves devices until `shutdown` completes, then finishes open requests (at most the configured grace)
/// and closes the store. There are no administrators: see [`serve_with_admin`].
///
/// `POST /v1/reports` answers 201 (stored now) or 200 (stored before) with a [`ReportReceipt`], everything else with
/// a [`Problem`]. `POST /v1/sessions` answers in the same way with a [`SharedSessionReceipt`], where
/// [`Config::accept_sessions`] is set; else there is nothing at this address. `GET /healthz` answers 204 while the process
/// serves, `GET /readyz` 204 while reports can be stored.
///
/// # Errors
/// [`Code::InvalidArgument`] for an origin that cannot be one.
pub async fn serve(
    config: Config,
    store: Store,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    serve_with_admin(config, store, listener, None, shutdown).await
}

/// As [`serve`], with a second listener for administrators, whose requests carry a token.
///
/// # Errors
/// Those of [`serve`].
pub async fn serve_with_admin(
    config: Config,
    store: Store,
    listener: TcpListener,
    admin: Option<Admin>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let grace = config.shutdown_grace;
    let cors = cors(&config.allowed_origins)?;
    let shared = Arc::new(Shared {
        config,
        store,
        metrics: Metrics::default(),
        bundles: RwLock::default(),
        sizing: Arc::new(Semaphore::new(1)),
    });
    let (stopping, mut stopped) = watch::channel(false);
    let shutdown = async move {
        shutdown.await;
        stopping.send_replace(true);
    };
    let housekeeping = tokio::spawn(delete_expired_regularly(Arc::clone(&shared)));
    let connections = Connections::default();
    let reports = connections.serve(public_router(&shared, cors), listener, grace, shutdown);
    match admin {
        None => reports.await,
        Some(admin) => {
            let router = admin::router(&shared, admin.token, admin.decisions);
            // Ends with the other listener, however that ends.
            let stopped = async move {
                let _ = stopped.wait_for(|stopping| *stopping).await;
            };
            let people = connections.serve(router, admin.listener, grace, stopped);
            tokio::join!(reports, people);
        }
    }
    housekeeping.abort();
    let _ = housekeeping.await;
    Ok(())
}

fn public_router(shared: &Arc<Shared>, cors: CorsLayer) -> Router {
    // Without the operator's word there is no way in, whatever the method.
    let sessions = if shared.config.accept_sessions {
        post(post_session).layer(DefaultBodyLimit::max(SharedSession::MAX_BYTES))
    } else {
        any(no_sessions)
    };
    Router::new()
        .route("/v1/reports", post(post_report).layer(DefaultBodyLimit::max(Report::MAX_BYTES)))
        .route("/v1/sessions", sessions)
        .route("/healthz", get(|| async { StatusCode::NO_CONTENT }))
        .route("/readyz", get(get_readiness))
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .layer(cors)
        .with_state(Arc::clone(shared))
}

fn cors(allowed_origins: &[String]) -> Result<CorsLayer> {
    let layer = CorsLayer::new()
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([header::CONTENT_TYPE])
        .expose_headers([header::RETRY_AFTER])
        .max_age(CORS_MAX_AGE);
    if allowed_origins.iter().any(|origin| origin == "*") {
        return Ok(layer.allow_origin(AllowOrigin::any()));
    }
    let origins = allowed_origins.iter().map(|origin| {
        let is_origin = origin.contains("://") && !origin.ends_with('/');
        HeaderValue::from_str(origin).ok().filter(|_| is_origin).ok_or_else(|| {
            Error::new(Code::InvalidArgument, "an allowed origin is not an origin")
                .expected("scheme and host, such as https://shop.example, or *")
                .found(format!("{origin:?}"))
        })
    });
    Ok(layer.allow_origin(AllowOrigin::list(origins.collect::<Result<Vec<_>>>()?)))
}

async fn post_report(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let span = server_span("POST /v1/reports", "/v1/reports");
    let receipt = accept_report(&shared, request).instrument(span.clone()).await;
    span.in_scope(|| shared.answer(Message::Report, receipt.map(|receipt| (receipt.status, receipt))))
}

async fn post_session(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let span = server_span("POST /v1/sessions", "/v1/sessions");
    let receipt = accept_session(&shared, request).instrument(span.clone()).await;
    span.in_scope(|| shared.answer(Message::Session, receipt.map(|receipt| (receipt.status, receipt))))
}

/// What is traced of a request. Nothing of who sent it: neither its address nor its `traceparent`, which would tie messages of a
/// device together.
fn server_span(name: &'static str, route: &'static str) -> Span {
    tracing::info_span!(
        "request",
        otel.name = name,
        otel.kind = "server",
        http.request.method = "POST",
        http.route = route,
        http.response.status_code = field::Empty,
        error.type = field::Empty,
    )
}

async fn accept_report(shared: &Arc<Shared>, request: Request) -> Result<ReportReceipt> {
    let body = read_body(request, Report::MAX_BYTES).await?;
    let received = Instant::now();
    let report = Report::decode(&body)?;
    let bundle = shared.bundle(report.bundle_sha256).await?;
    let now = shared.config.clock.now();
    validate(&report, body.len(), &bundle, &shared.config, now)?;
    let (report_id, hash) = (report.report_id.clone(), report.bundle_sha256);
    let status = shared.stored(hash, shared.store.submit(report, now).await)?;
    shared.metrics.acknowledged(Message::Report, status, received.elapsed());
    Ok(ReportReceipt { report_id, status })
}

async fn accept_session(shared: &Arc<Shared>, request: Request) -> Result<SharedSessionReceipt> {
    let body = read_body(request, SharedSession::MAX_BYTES).await?;
    let received = Instant::now();
    let session = SharedSession::decode(&body)?;
    shared.bundle(session.bundle_sha256).await?;
    let now = shared.config.clock.now();
    validate_session(&session, &shared.config, now)?;
    let (session_id, hash) = (session.session_id.clone(), session.bundle_sha256);
    let status = shared.stored(hash, shared.store.submit_session(session, now).await)?;
    shared.metrics.acknowledged(Message::Session, status, received.elapsed());
    Ok(SharedSessionReceipt { session_id, status })
}

async fn read_body(request: Request, max_bytes: usize) -> Result<Bytes> {
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await;
    let body = body.map_err(|_| {
        Error::new(Code::ReportInvalid, "the body did not arrive in time")
            .expected(format!("{BODY_TIMEOUT:?}"))
    })?;
    body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Error::new(Code::ReportTooLarge, "the body is too large")
                .expected(format!("at most {max_bytes} bytes"))
        } else {
            Error::new(Code::ReportInvalid, "the body broke off")
        }
    })
}

/// A problem has no hint, so what was expected says what to do.
async fn no_sessions(State(shared): State<Arc<Shared>>) -> Response {
    shared.problem(
        &Error::new(Code::NotFound, "this collector does not accept shared sessions")
            .expected("a collector whose operator switched that on"),
    )
}

async fn get_readiness(State(shared): State<Arc<Shared>>) -> Response {
    let probed = tokio::time::timeout(PROBE_TIMEOUT, shared.store.probe()).await;
    let probed = probed.unwrap_or_else(|_| {
        Err(Error::new(Code::Overloaded, "the writer did not answer in time")
            .expected(format!("{PROBE_TIMEOUT:?}")))
    });
    match probed {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => shared.problem_with(&error, StatusCode::SERVICE_UNAVAILABLE),
    }
}

pub(crate) async fn not_found(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared
        .problem(&Error::new(Code::NotFound, "there is nothing at this address").found(request.uri().path()))
}

pub(crate) async fn wrong_method(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let error =
        Error::new(Code::InvalidArgument, "this address does not know the method").found(request.method());
    shared.problem_with(&error, StatusCode::METHOD_NOT_ALLOWED)
}

async fn delete_expired_regularly(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(RETENTION_INTERVAL);
    loop {
        ticks.tick().await;
        let now = shared.config.clock.now();
        match shared.store.delete_expired(now, shared.config.retention_seconds).await {
            Ok(num_deleted) => {
                tracing::info!(num_deleted, "deleted raw reports and sessions beyond the retention");
            }
            Err(error) => {
                tracing::warn!(%error, "expired reports and sessions were not deleted; trying again later");
            }
        }
    }
}

impl Shared {
    /// The bundle of a hash; the database is asked on a thread that may wait for it.
    async fn bundle(self: &Arc<Self>, hash: Sha256Hash) -> Result<Arc<RegisteredBundle>> {
        match self.remembered(hash) {
            Some(bundle) => Ok(bundle),
            None => self.read(move |shared| shared.find_bundle(hash)).await,
        }
    }

    /// As [`Shared::bundle`], for a thread that may wait.
    pub(crate) fn find_bundle(&self, hash: Sha256Hash) -> Result<Arc<RegisteredBundle>> {
        if let Some(bundle) = self.remembered(hash) {
            return Ok(bundle);
        }
        let bundle = self.store.reader().bundle(hash)?.ok_or_else(|| {
            Error::new(Code::UnknownBundle, "no bundle with this hash is registered").found(hash)
        })?;
        let bundle = Arc::new(bundle);
        self.bundles.write().unwrap_or_else(PoisonError::into_inner).insert(hash, Arc::clone(&bundle));
        Ok(bundle)
    }

    fn remembered(&self, hash: Sha256Hash) -> Option<Arc<RegisteredBundle>> {
        self.bundles.read().unwrap_or_else(PoisonError::into_inner).get(&hash).map(Arc::clone)
    }

    /// Forgets a bundle that was erased.
    pub(crate) fn forget_bundle(&self, hash: Sha256Hash) {
        self.bundles.write().unwrap_or_else(PoisonError::into_inner).remove(&hash);
    }

    /// Size of the database; `None` where that is not known in time.
    pub(crate) async fn database_bytes(self: &Arc<Self>) -> Option<u64> {
        // One at a time, so that a database that does not answer costs one thread.
        let permit = Arc::clone(&self.sizing).try_acquire_owned().ok()?;
        let reading = self.read(move |shared| {
            let _permit = permit;
            shared.store.database_bytes()
        });
        tokio::time::timeout(PROBE_TIMEOUT, reading).await.ok()?.ok()
    }

    /// Asks the database on a thread that may wait for it.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || ask(&shared)).await;
        answer.unwrap_or_else(|_| Err(Error::new(Code::Internal, "reading the database panicked")))
    }

    /// What became of a report or session of a bundle that was known a moment ago.
    fn stored(&self, bundle: Sha256Hash, submitted: Result<ReportStatus>) -> Result<ReportStatus> {
        if submitted.as_ref().is_err_and(|error| error.code() == Code::UnknownBundle) {
            // It was erased at another collector.
            self.forget_bundle(bundle);
        }
        submitted
    }

    /// Answers with a receipt, or with why there is none, which is counted.
    fn answer<T: serde::Serialize>(&self, message: Message, receipt: Result<(ReportStatus, T)>) -> Response {
        let response = self.respond(message, receipt);
        Span::current().record("http.response.status_code", response.status().as_u16());
        response
    }

    fn respond<T: serde::Serialize>(&self, message: Message, receipt: Result<(ReportStatus, T)>) -> Response {
        match receipt {
            Ok((ReportStatus::Accepted, receipt)) => (StatusCode::CREATED, Json(receipt)).into_response(),
            Ok((ReportStatus::Duplicate, receipt)) => (StatusCode::OK, Json(receipt)).into_response(),
            Err(error) => {
                Span::current().record("error.type", error.code().as_str());
                tracing::debug!(code = %error.code(), ?message, "a message was refused");
                self.metrics.refused(message, error.code());
                self.problem(&error)
            }
        }
    }

    pub(crate) fn problem(&self, error: &Error) -> Response {
        Problem::new(error).into_response(self.config.retry_after_seconds)
    }

    /// As [`Shared::problem`], with another status than the code's.
    pub(crate) fn problem_with(&self, error: &Error, status: StatusCode) -> Response {
        Problem { status: status.as_u16(), ..Problem::new(error) }
            .into_response(self.config.retry_after_seconds)
    }
}
