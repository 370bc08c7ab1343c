//! The HTTP side: one address for reports, one for people's eyes.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use sanderling_types::{
    Code, Error, FORMAT_VERSION, Report, ReportReceipt, ReportStatus, Result, Sha256Hash,
};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::{Config, Problem, Reader, RegisteredBundle, Status, Store, validate};

/// How long a body of at most 4 KiB may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How often expired reports are looked for.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);
/// What browsers may keep the permission for.
const CORS_MAX_AGE: Duration = Duration::from_secs(86_400);

#[derive(Debug)]
struct Shared {
    config: Config,
    store: Store,
    /// Bundles that were asked for, so that a report usually costs no look into the database.
    bundles: RwLock<BTreeMap<Sha256Hash, Arc<RegisteredBundle>>>,
    rejections: Mutex<BTreeMap<Code, u64>>,
}

/// Serves until `shutdown` completes, then finishes open requests (at most the configured grace)
/// and closes the store.
///
/// `POST /v1/reports` answers 201 (stored now) or 200 (stored before) with a
/// [`ReportReceipt`], everything else with a [`Problem`]. `GET /v1/status` answers [`Status`],
/// `GET /healthz` answers 204 while the process serves.
///
/// # Errors
/// [`Code::InvalidArgument`] for an origin that cannot be one, [`Code::Io`] where the listener
/// fails.
pub async fn serve(
    config: Config,
    store: Store,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let grace = config.shutdown_grace;
    let cors = cors(&config.allowed_origins)?;
    let shared = Arc::new(Shared { config, store, bundles: RwLock::default(), rejections: Mutex::default() });
    let router = Router::new()
        .route("/v1/reports", post(post_report))
        .route("/v1/status", get(get_status))
        .route("/healthz", get(|| async { StatusCode::NO_CONTENT }))
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(Report::MAX_BYTES))
        .layer(cors)
        .with_state(Arc::clone(&shared));
    let housekeeping = tokio::spawn(delete_expired_regularly(Arc::clone(&shared)));
    let served = serve_until(router, listener, grace, shutdown).await;
    housekeeping.abort();
    let _ = housekeeping.await;
    served
}

/// Serves until `shutdown` completes, then finishes open requests, for at most `grace`.
///
/// # Errors
/// [`Code::Io`] where the listener fails.
pub async fn serve_until(
    router: Router,
    listener: TcpListener,
    grace: Duration,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<()> {
    let (stopping, mut stopped) = watch::channel(false);
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        shutdown.await;
        stopping.send_replace(true);
    });
    let deadline = async {
        let _ = stopped.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(grace).await;
    };
    let served = tokio::select! {
        served = server.into_future() => served,
        () = deadline => {
            tracing::warn!("open requests did not finish in time");
            Ok(())
        }
    };
    served.map_err(|error| Error::new(Code::Io, "the listener failed").found(&error).source_error(error))
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
    match accept(&shared, request).await {
        Ok(receipt) => {
            let status = match receipt.status {
                ReportStatus::Accepted => StatusCode::CREATED,
                ReportStatus::Duplicate => StatusCode::OK,
            };
            (status, Json(receipt)).into_response()
        }
        Err(error) => shared.refuse(&error),
    }
}

async fn accept(shared: &Arc<Shared>, request: Request) -> Result<ReportReceipt> {
    let body = read_body(request).await?;
    let report = Report::decode(&body)?;
    let bundle = shared.bundle(report.bundle_sha256).await?;
    let now = shared.config.clock.now();
    validate(&report, body.len(), &bundle, &shared.config, now)?;
    let report_id = report.report_id.clone();
    let status = shared.store.submit(report, now).await?;
    Ok(ReportReceipt { report_id, status })
}

async fn read_body(request: Request) -> Result<Bytes> {
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await;
    let body = body.map_err(|_| {
        Error::new(Code::ReportInvalid, "the body did not arrive in time")
            .expected(format!("{BODY_TIMEOUT:?}"))
    })?;
    body.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Error::new(Code::ReportTooLarge, "the body is too large")
                .expected(format!("at most {} bytes", Report::MAX_BYTES))
        } else {
            Error::new(Code::ReportInvalid, "the body broke off")
        }
    })
}

async fn get_status(State(shared): State<Arc<Shared>>) -> Response {
    match shared.read(Reader::status).await {
        Ok(bundles) => {
            let windows = bundles.iter().flat_map(|bundle| &bundle.windows);
            let num_reports = windows.map(|window| window.num_reports).sum();
            let rejections = shared.rejections.lock().unwrap_or_else(PoisonError::into_inner);
            let rejections = rejections.iter().map(|(code, count)| (code.to_string(), *count)).collect();
            Json(Status { format_version: FORMAT_VERSION, num_reports, bundles, rejections }).into_response()
        }
        Err(error) => shared.problem(&error),
    }
}

async fn not_found(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    shared
        .problem(&Error::new(Code::NotFound, "there is nothing at this address").found(request.uri().path()))
}

async fn wrong_method(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let error =
        Error::new(Code::InvalidArgument, "this address does not know the method").found(request.method());
    let mut problem = Problem::new(&error);
    problem.status = StatusCode::METHOD_NOT_ALLOWED.as_u16();
    problem.into_response(shared.config.retry_after_seconds)
}

async fn delete_expired_regularly(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(RETENTION_INTERVAL);
    loop {
        ticks.tick().await;
        let now = shared.config.clock.now();
        match shared.store.delete_expired(now, shared.config.retention_seconds).await {
            Ok(num_deleted) => tracing::info!(num_deleted, "deleted raw reports beyond the retention"),
            Err(error) => tracing::warn!(%error, "expired reports were not deleted; trying again later"),
        }
    }
}

impl Shared {
    async fn bundle(self: &Arc<Self>, hash: Sha256Hash) -> Result<Arc<RegisteredBundle>> {
        if let Some(bundle) = self.bundles.read().unwrap_or_else(PoisonError::into_inner).get(&hash) {
            return Ok(Arc::clone(bundle));
        }
        let bundle = self.read(move |reader| reader.bundle(hash)).await?.ok_or_else(|| {
            Error::new(Code::UnknownBundle, "no bundle with this hash is registered").found(hash)
        })?;
        let bundle = Arc::new(bundle);
        self.bundles.write().unwrap_or_else(PoisonError::into_inner).insert(hash, Arc::clone(&bundle));
        Ok(bundle)
    }

    /// Asks the database on a thread that may wait for it.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        ask: impl FnOnce(&Reader) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(self);
        let answer = tokio::task::spawn_blocking(move || ask(shared.store.reader())).await;
        answer.unwrap_or_else(|_| Err(Error::new(Code::Internal, "reading the database panicked")))
    }

    /// Answers a refused report, and counts it.
    fn refuse(&self, error: &Error) -> Response {
        tracing::debug!(code = %error.code(), "a report was refused");
        let mut rejections = self.rejections.lock().unwrap_or_else(PoisonError::into_inner);
        *rejections.entry(error.code()).or_default() += 1;
        drop(rejections);
        self.problem(error)
    }

    fn problem(&self, error: &Error) -> Response {
        Problem::new(error).into_response(self.config.retry_after_seconds)
    }
}
