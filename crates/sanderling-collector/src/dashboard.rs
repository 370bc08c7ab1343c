//! The files of the dashboard, which are part of the program.

use axum::Router;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

macro_rules! file {
    ($path:literal, $kind:expr) => {
        (concat!("/", $path), $kind, include_str!(concat!("../../../www/dashboard/", $path)))
    };
}

/// Address, content type and content. They hold no data, so they need no token.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("../../../www/dashboard/index.html")),
    file!("app.js", SCRIPT),
    file!("api.js", SCRIPT),
    file!("charts.js", SCRIPT),
    file!("dom.js", SCRIPT),
    file!("format.js", SCRIPT),
    file!("styles.css", STYLE),
    file!("icon.svg", "image/svg+xml"),
    file!("vendor/uPlot.iife.min.js", SCRIPT),
    file!("vendor/uPlot.min.css", STYLE),
];

pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, (path, kind, content)| {
        router.route(path, get(|| async { answer(kind, content) }))
    })
}

fn answer(kind: &'static str, content: &'static str) -> Response {
    // A new program brings new files at the same addresses.
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], content).into_response()
}
