//! Data at object-store URLs: a store that speaks enough of S3, with the faults that stores have.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::{StreamExt, stream};

use crate::support::{Ran, WORLD, sanderling_with};

/// What goes wrong once, or always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// The first request for an object is answered with 503.
    BusyOnce,
    /// The first answer with an object ends in the middle.
    CutOnce,
    /// Every answer is 403.
    Denied,
}

type Objects = BTreeMap<String, Bytes>;

#[derive(Clone)]
struct Store {
    objects: Arc<Objects>,
    fault: Arc<Mutex<Fault>>,
    cut_ranges: Arc<Mutex<Vec<String>>>,
}

/// A store on a port of its own, for as long as the test runs.
struct Server {
    address: String,
    store: Store,
}

impl Server {
    fn with(objects: Objects, fault: Fault) -> Self {
        let store = Store {
            objects: Arc::new(objects),
            fault: Arc::new(Mutex::new(fault)),
            cut_ranges: Arc::default(),
        };
        let routes = Router::new()
            .route("/{bucket}", get(list))
            .route("/{bucket}/{*key}", get(object))
            .with_state(store.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, routes).await.unwrap();
            });
        });
        Self { address, store }
    }

    fn run(&self, args: &[&str]) -> Ran {
        let settings = [
            ("AWS_ENDPOINT", self.address.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", "reader"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("TMPDIR", TEMPORARY.with(|folder| folder.path().to_str().unwrap().to_owned()).leak()),
        ];
        let ran = sanderling_with(&settings, args);
        TEMPORARY.with(|folder| {
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing that was fetched stays");
        });
        ran
    }
}

thread_local! {
    static TEMPORARY: tempfile::TempDir = tempfile::tempdir().unwrap();
}

async fn list(State(store): State<Store>, Query(query): Query<HashMap<String, String>>) -> Response {
    if *store.fault.lock().unwrap() == Fault::Denied {
        return denied();
    }
    let prefix = query.get("prefix").cloned().unwrap_or_default();
    let direct = |key: &&String| key.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/'));
    let contents: String = store
        .objects
        .keys()
        .filter(direct)
        .map(|key| {
            let size = store.objects[key].len();
            format!(
                "<Contents><Key>{key}</Key><LastModified>2026-11-01T00:00:00.000Z</LastModified>\
                 <ETag>\"{key}\"</ETag><Size>{size}</Size></Contents>"
            )
        })
        .collect();
    format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>").into_response()
}

async fn object(
    State(store): State<Store>,
    Path((_, key)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let mut fault = store.fault.lock().unwrap();
    let cut = *fault == Fault::CutOnce && method == Method::GET;
    match *fault {
        Fault::Denied => return denied(),
        Fault::BusyOnce => {
            *fault = Fault::None;
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        Fault::CutOnce if cut => *fault = Fault::None,
        _ => {}
    }
    let Some(bytes) = store.objects.get(&key).cloned() else { return StatusCode::NOT_FOUND.into_response() };
    let (total, mut from) = (bytes.len(), 0);
    let mut status = StatusCode::OK;
    if let Some(range) = headers.get(header::RANGE) {
        let range = range.to_str().unwrap().to_owned();
        from = range.trim_start_matches("bytes=").split('-').next().unwrap().parse().unwrap();
        store.cut_ranges.lock().unwrap().push(range);
        status = StatusCode::PARTIAL_CONTENT;
    }
    let headers = [
        (header::ETAG, format!("\"{key}\"")),
        (header::LAST_MODIFIED, "Sun, 01 Nov 2026 00:00:00 GMT".to_owned()),
        (header::CONTENT_LENGTH, (total - from).to_string()),
        (header::CONTENT_RANGE, format!("bytes {from}-{}/{total}", total - 1)),
    ];
    if !cut {
        return (status, headers, bytes.slice(from..)).into_response();
    }
    let half = bytes.slice(..total / 2);
    let broken =
        stream::iter([Ok(half), Err(std::io::Error::other("the line went dead"))]).then(async |part| {
            if part.is_err() {
                // The first half is on its way by then.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            part
        });
    (status, headers, Body::from_stream(broken)).into_response()
}

fn denied() -> Response {
    (StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code></Error>").into_response()
}

/// The world's tables as objects, beside what must not be fetched.
fn world(prefix: &str) -> Objects {
    let mut objects = Objects::new();
    for name in ["interactions.csv", "items.csv", "data.json"] {
        let bytes = fs::read(WORLD.path("data").join(name)).unwrap();
        objects.insert(format!("{prefix}{name}"), Bytes::from(bytes));
    }
    objects.insert(format!("{prefix}_SUCCESS"), Bytes::from_static(b"not a table"));
    objects.insert(format!("{prefix}older/interactions.csv"), Bytes::from_static(b"user_id\n"));
    objects
}

fn import(server: &Server, url: &str) -> (tempfile::TempDir, Ran) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("data");
    let ran = server.run(&["import", "--from", "csv", url, "--out", out.to_str().unwrap(), "--json"]);
    assert_eq!(out.exists(), ran.code == Some(0), "{}", ran.stderr);
    (dir, ran)
}

#[test]
fn a_folder_of_objects_reads_like_the_folder_it_was() {
    let server = Server::with(world("logs/2026/"), Fault::None);
    let local =
        server.run(&["validate", WORLD.path("data").to_str().unwrap(), "--now", "1900000000", "--json"]);
    let local = local.expect_json(0);
    for url in ["s3://shop/logs/2026/", "s3://shop/logs/2026"] {
        let there = server.run(&["validate", url, "--now", "1900000000", "--json"]).expect_json(0);
        for key in ["num_interactions", "num_users", "num_items", "num_catalogue_items", "first_timestamp"] {
            assert_eq!(there[key], local[key], "{key} of {url}");
        }
    }
    let (dir, ran) = import(&server, "s3://shop/logs/2026");
    assert_eq!(ran.expect_json(0)["num_interactions"], local["num_interactions"]);
    let written = fs::read(dir.path().join("data/interactions.csv")).unwrap();
    assert!(written.len() > 1000, "{}", written.len());
}

#[test]
fn one_object_is_one_table_whatever_lies_beside_it() {
    let server = Server::with(world(""), Fault::None);
    let (_dir, ran) = import(&server, "s3://shop/interactions.csv");
    assert_eq!(ran.expect_json(0)["num_catalogue_items"], 0);
    // The same file over plain HTTP.
    let (_dir, ran) = import(&server, &format!("{}/shop/interactions.csv", server.address));
    ran.expect(0);
}

#[test]
fn a_busy_store_is_asked_again_and_a_cut_download_goes_on_where_it_ended() {
    let server = Server::with(world(""), Fault::BusyOnce);
    import(&server, "s3://shop/interactions.csv").1.expect(0);
    let server = Server::with(world(""), Fault::CutOnce);
    let (cut, ran) = import(&server, "s3://shop/interactions.csv");
    ran.expect(0);
    let ranges = server.store.cut_ranges.lock().unwrap().clone();
    assert!(ranges.iter().any(|range| !range.starts_with("bytes=0-")), "{ranges:?}");
    let (whole, _) = import(&Server::with(world(""), Fault::None), "s3://shop/interactions.csv");
    let rows = |dir: &tempfile::TempDir| fs::read(dir.path().join("data/interactions.csv")).unwrap();
    assert_eq!(rows(&cut), rows(&whole));
}

#[test]
fn what_a_store_refuses_or_lacks_has_a_code_and_leaves_nothing() {
    let server = Server::with(world("logs/"), Fault::None);
    for url in ["s3://shop/nowhere", "s3://shop/logs/interactions", "s3://shop/nowhere/"] {
        let error = import(&server, url).1.expect_error("not_found");
        assert!(error["message"].as_str().unwrap().contains(url), "{error}");
    }
    let denied = Server::with(world("logs/"), Fault::Denied);
    let error = import(&denied, "s3://shop/logs/").1.expect_error("io");
    assert!(error["message"].as_str().unwrap().contains("refuses"), "{error}");
    assert!(error["hint"].as_str().unwrap().contains("AWS_"), "{error}");
    for url in ["ftp://shop/logs", "s3://shop/logs?signature=1", "https://name:word@example.org/a"] {
        import(&server, url).1.expect_error("invalid_argument");
    }
}
