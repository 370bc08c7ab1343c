//! The listener for administrators: counts, verdicts, metrics, erasure, and the dashboard that shows them.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use sanderling_types::{Code, Error, FORMAT_VERSION, Result, Sha256Hash};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::drift::{self, Options};
use crate::release::{self, SeriesWindow};
use crate::server::{Shared, not_found, wrong_method};
use crate::{AdminToken, RegisteredBundle, Status, dashboard, decisions, metrics};

/// Nothing from elsewhere is loaded or sent, and no other page may frame this one.
const CONTENT_POLICY: &str =
    "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";
/// Windows that are judged together unless the request says otherwise.
const NUM_WINDOWS: u32 = 7;

/// Who may look at the counts, and where.
#[derive(Debug)]
pub struct Admin {
    /// Where administrators connect: an address of its own, which devices do not reach.
    pub listener: TcpListener,
    /// What their requests carry.
    pub token: AdminToken,
    /// The append-only JSONL file of decisions about bundles, if there is one.
    pub decisions: Option<PathBuf>,
}

#[derive(Debug)]
struct Desk {
    shared: Arc<Shared>,
    token: AdminToken,
    decisions: Option<PathBuf>,
}

/// Addresses under `/v1` and `/metrics` ask for the token; the dashboard's files do not.
pub(crate) fn router(shared: &Arc<Shared>, token: AdminToken, decisions: Option<PathBuf>) -> Router {
    let desk = Arc::new(Desk { shared: Arc::clone(shared), token, decisions });
    Router::new()
        .route("/v1/status", get(get_status))
        .route("/v1/bundles/{sha256}", get(get_bundle).delete(erase_bundle))
        .route("/v1/drift", get(get_drift))
        .route("/v1/drift/series", get(get_series))
        .route("/v1/decisions", get(get_decisions))
        .route("/metrics", get(get_metrics))
        .route_layer(from_fn_with_state(Arc::clone(&desk), authorise))
        .with_state(desk)
        .merge(dashboard::router())
        .method_not_allowed_fallback(wrong_method)
        .fallback(not_found)
        .layer(from_fn(guard))
        .with_state(Arc::clone(shared))
}

async fn authorise(State(desk): State<Arc<Desk>>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split_once(' '));
    let token =
        given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    if token.is_some_and(|token| desk.token.is(token)) {
        return next.run(request).await;
    }
    let what = if token.is_none() { "no token" } else { "another token" };
    let error = Error::new(Code::InvalidArgument, "the admin token is missing or wrong")
        .expected("authorization: Bearer TOKEN")
        .found(what);
    let mut response = desk.shared.problem_with(&error, StatusCode::UNAUTHORIZED);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Headers that keep other pages and caches away from what is answered.
async fn guard(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn get_status(State(desk): State<Arc<Desk>>) -> Response {
    desk.answer(|desk| {
        let mut bundles = desk.shared.store.reader().status()?;
        let num_reports = release::hide_small_counts(&mut bundles);
        let rejections = desk.shared.metrics.rejections();
        Ok(Status { format_version: FORMAT_VERSION, num_reports, bundles, rejections })
    })
    .await
}

async fn get_bundle(State(desk): State<Arc<Desk>>, Path(sha256): Path<String>) -> Response {
    desk.answer(move |desk| {
        let bundle = desk.bundle(&sha256)?;
        let baseline: Value = serde_json::from_slice(&bundle.baseline().encode())
            .map_err(|error| Error::new(Code::Internal, "a baseline is not JSON").source_error(error))?;
        Ok(json!({
            "format_version": FORMAT_VERSION,
            "bundle_sha256": bundle.hash(),
            "name": bundle.manifest().name,
            "version": bundle.manifest().version,
            "window_seconds": bundle.telemetry().window_seconds,
            "fields": baseline["fields"],
        }))
    })
    .await
}

async fn erase_bundle(State(desk): State<Arc<Desk>>, Path(sha256): Path<String>) -> Response {
    match desk.erase(&sha256).await {
        Ok((hash, num_reports)) => {
            tracing::info!(%hash, num_reports, "erased a bundle");
            Json(json!({ "bundle_sha256": hash, "num_reports": release::shown(num_reports) })).into_response()
        }
        Err(error) => desk.problem(&error),
    }
}

/// Which windows of which bundle.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Judged {
    bundle: String,
    windows: Option<u32>,
    from: Option<i64>,
    to: Option<i64>,
}

impl Judged {
    fn range(&self, desk: &Desk, bundle: &RegisteredBundle) -> Result<Range<i64>> {
        match (self.windows, self.from, self.to) {
            (Some(0), ..) => Err(Error::new(Code::InvalidArgument, "windows is at least 1").found(0)),
            (windows, None, None) => {
                drift::last_windows(desk.shared.store.reader(), bundle, windows.unwrap_or(NUM_WINDOWS))
            }
            (None, from, to) => Ok(from.unwrap_or(0)..to.unwrap_or(i64::MAX)),
            _ => Err(Error::new(Code::InvalidArgument, "windows excludes from and to")),
        }
    }
}

async fn get_drift(State(desk): State<Arc<Desk>>, uri: Uri) -> Response {
    desk.answer(move |desk| {
        let judged: Judged = query(&uri)?;
        let bundle = desk.bundle(&judged.bundle)?;
        let windows = judged.range(desk, &bundle)?;
        let report = drift::judge(desk.shared.store.reader(), &bundle, windows, &Options::default())?;
        release::verdict(&report)
    })
    .await
}

/// Which bundle.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfBundle {
    bundle: String,
}

async fn get_series(State(desk): State<Arc<Desk>>, uri: Uri) -> Response {
    desk.answer(move |desk| {
        let of: OfBundle = query(&uri)?;
        let bundle = desk.bundle(&of.bundle)?;
        let reader = desk.shared.store.reader();
        let status = reader.status()?;
        let known = status.iter().filter(|known| known.bundle_sha256 == bundle.hash());
        let judge = |start: i64| {
            let windows = start..start.saturating_add(1);
            drift::judge(reader, &bundle, windows, &Options::default()).map(SeriesWindow::new)
        };
        let windows = known.flat_map(|known| &known.windows).map(|window| judge(window.window_start));
        let windows = windows.collect::<Result<Vec<_>>>()?;
        let Options { alpha, min_effect, min_answers, .. } = Options::default();
        Ok(json!({
            "format_version": FORMAT_VERSION,
            "bundle_sha256": bundle.hash(),
            "alpha": alpha,
            "min_effect": min_effect,
            "min_answers": min_answers,
            "windows": windows,
        }))
    })
    .await
}

async fn get_decisions(State(desk): State<Arc<Desk>>) -> Response {
    desk.answer(|desk| desk.decisions.as_deref().map_or(Ok(Vec::new()), decisions::read)).await
}

async fn get_metrics(State(desk): State<Arc<Desk>>) -> Response {
    let database_bytes = desk.shared.database_bytes().await;
    match desk.shared.metrics.encode(desk.shared.store.queue_capacity_left(), database_bytes) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => desk.problem(&error),
    }
}

fn query<T: serde::de::DeserializeOwned>(uri: &Uri) -> Result<T> {
    let query = Query::try_from_uri(uri).map(|Query(query)| query);
    query.map_err(|rejection| {
        Error::new(Code::InvalidArgument, "the query cannot be read").found(rejection.body_text())
    })
}

fn parse_hash(text: &str) -> Result<Sha256Hash> {
    Sha256Hash::parse(text).ok_or_else(|| {
        Error::new(Code::InvalidArgument, "that is no bundle hash")
            .expected("64 lower-case hexadecimal digits")
            .found(format!("{text:?}"))
    })
}

impl Desk {
    fn bundle(&self, sha256: &str) -> Result<Arc<RegisteredBundle>> {
        self.shared.find_bundle(parse_hash(sha256)?)
    }

    async fn erase(&self, sha256: &str) -> Result<(Sha256Hash, u64)> {
        let hash = parse_hash(sha256)?;
        let num_reports = self.shared.store.erase_bundle(hash).await?;
        self.shared.forget_bundle(hash);
        Ok((hash, num_reports))
    }

    /// Answers with what `read` finds, which may take its time with the database.
    async fn answer<T: serde::Serialize + Send + 'static>(
        self: Arc<Self>,
        read: impl FnOnce(&Desk) -> Result<T> + Send + 'static,
    ) -> Response {
        let desk = Arc::clone(&self);
        let found = tokio::task::spawn_blocking(move || read(&desk)).await;
        match found.unwrap_or_else(|_| Err(Error::new(Code::Internal, "reading the store panicked"))) {
            Ok(found) => Json(found).into_response(),
            Err(error) => self.problem(&error),
        }
    }

    /// As everywhere, except that a bundle in an address or a query that is not there is 404.
    fn problem(&self, error: &Error) -> Response {
        match error.code() {
            Code::UnknownBundle => self.shared.problem_with(error, StatusCode::NOT_FOUND),
            _ => self.shared.problem(error),
        }
    }
}
