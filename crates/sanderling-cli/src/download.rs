//! Objects of a store as files: listed, then streamed to disk, so that memory stays small.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{
    ClientOptions, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme, RetryConfig,
};
use sanderling_types::{Code, Error, Result};
use url::Url;

use crate::progress::DownloadProgress;

pub(crate) const CREDENTIALS_HINT: &str =
    "credentials come from the environment: AWS_…, GOOGLE_… or AZURE_… as the store's own tools read them";

/// Longest silence of a server before a request is made again.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A whole file may take this long; only silence is cut short.
const FILE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
const RETRIES: usize = 4;
const RETRY_TIME: Duration = Duration::from_secs(120);

/// Writes the object that `url` names, or every object directly below it, into `folder`; the path of the file, or of
/// the folder with the files. Requests that fail in passing are made again, from where they stopped.
///
/// # Errors
/// [`Code::NotFound`] when there is no such object and nothing below it, [`Code::Io`] when the store refuses, cannot be
/// reached or sends too little, or the disk is full; [`Code::InvalidArgument`] for settings that cannot be used.
pub(crate) fn download(url: &Url, folder: &Path) -> Result<PathBuf> {
    let internal = |error| Error::new(Code::Internal, "no runtime can be started").source_error(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(internal)?;
    let (store, at) = open(url)?;
    runtime.block_on(bring(store.as_ref(), url, &at, folder))
}

/// A store with the settings that its own tools read from the environment.
macro_rules! store {
    ($builder:ty, $url:expr, $http:expr, $settings:literal) => {{
        let client = ClientOptions::new()
            .with_allow_http($http)
            .with_timeout(FILE_TIMEOUT)
            .with_read_timeout(READ_TIMEOUT);
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() };
        let mut builder = <$builder>::new().with_url($url).with_client_options(client).with_retry(retry);
        for (name, value) in settings($settings) {
            if let Ok(key) = name.parse() {
                builder = builder.with_config(key, value);
            }
        }
        Box::new(builder.build().map_err(unusable)?)
    }};
}

/// Variables of the environment whose names begin with `prefix`, by their names in small letters.
fn settings(prefix: &str) -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(move |(name, _)| name.starts_with(prefix))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
}

fn open(url: &Url) -> Result<(Box<dyn ObjectStore>, ObjectPath)> {
    // An error means that one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (scheme, at) = ObjectStoreScheme::parse(url).map_err(|error| unusable(error.into()))?;
    let store: Box<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::AmazonS3 => store!(AmazonS3Builder, url.as_str(), false, "AWS_"),
        ObjectStoreScheme::GoogleCloudStorage => {
            store!(GoogleCloudStorageBuilder, url.as_str(), false, "GOOGLE_")
        }
        ObjectStoreScheme::MicrosoftAzure => store!(MicrosoftAzureBuilder, url.as_str(), false, "AZURE_"),
        _ => store!(HttpBuilder, &url[..url::Position::BeforePath], url.scheme() == "http", "HTTP_STORE_"),
    };
    Ok((store, at))
}

fn unusable(error: object_store::Error) -> Error {
    Error::new(Code::InvalidArgument, "the object store cannot be used with these settings")
        .found(&error)
        .hint(CREDENTIALS_HINT)
        .source_error(error)
}

async fn bring(store: &dyn ObjectStore, url: &Url, at: &ObjectPath, folder: &Path) -> Result<PathBuf> {
    let (objects, is_folder) = objects(store, url, at).await?;
    let mut progress = DownloadProgress::new(objects.iter().map(|object| object.size).sum());
    let mut path = folder.to_owned();
    for object in &objects {
        let name = object.location.filename().unwrap_or("data");
        path = folder.join(name);
        write(store, url, object, &path, &mut progress).await?;
    }
    Ok(if is_folder { folder.to_owned() } else { path })
}

/// The object itself, or else those directly below it without hidden ones, and whether the latter.
async fn objects(store: &dyn ObjectStore, url: &Url, at: &ObjectPath) -> Result<(Vec<ObjectMeta>, bool)> {
    let named_as_folder = url.path().ends_with('/') || at.is_root();
    let single = if named_as_folder { None } else { Some(store.head(at).await) };
    match single {
        Some(Ok(object)) => return Ok((vec![object], false)),
        Some(Err(object_store::Error::NotFound { .. })) | None => {}
        Some(Err(error)) => return Err(store_error(url, &error)),
    }
    if matches!(url.scheme(), "http" | "https") && !named_as_folder {
        return Err(nothing_at(url));
    }
    let listed = store.list_with_delimiter(Some(at)).await.map_err(|error| store_error(url, &error))?;
    let is_data = |object: &ObjectMeta| {
        object.size > 0 && object.location.filename().is_some_and(|name| !name.starts_with(['.', '_']))
    };
    let objects: Vec<ObjectMeta> = listed.objects.into_iter().filter(is_data).collect();
    if objects.is_empty() { Err(nothing_at(url)) } else { Ok((objects, true)) }
}

fn nothing_at(url: &Url) -> Error {
    Error::new(Code::NotFound, format!("there is no data at {url}"))
        .expected("an object of this name, or objects directly below it")
        .found("neither")
}

async fn write(
    store: &dyn ObjectStore,
    url: &Url,
    object: &ObjectMeta,
    path: &Path,
    progress: &mut DownloadProgress,
) -> Result<()> {
    let disk_error = |error: std::io::Error| {
        Error::new(Code::Io, format!("cannot write {}", path.display()))
            .found(&error)
            .hint("TMPDIR names the folder that downloads are kept in while they are read")
            .source_error(error)
    };
    // What was listed is what is read, also when somebody writes the object meanwhile.
    // A weak tag never matches (RFC 9110, section 13.1.1).
    let tag = object.e_tag.clone().filter(|tag| !tag.starts_with("W/"));
    let options = GetOptions { if_match: tag, ..GetOptions::default() };
    let answer = store.get_opts(&object.location, options).await.map_err(|error| store_error(url, &error))?;
    let mut chunks = answer.into_stream();
    let mut file = File::create(path).map_err(disk_error)?;
    let mut written = 0;
    while let Some(chunk) = chunks.try_next().await.map_err(|error| store_error(url, &error))? {
        file.write_all(&chunk).map_err(disk_error)?;
        written += chunk.len() as u64;
        progress.advance(chunk.len() as u64);
    }
    if written == object.size {
        return Ok(());
    }
    Err(Error::new(Code::Io, format!("{} came incomplete from the store", object.location))
        .expected(format!("{} bytes", object.size))
        .found(format!("{written} bytes")))
}

fn store_error(url: &Url, error: &object_store::Error) -> Error {
    use object_store::Error as Store;
    let cause = root_cause(error);
    // Where nothing else is set, the store's client asks the machine's metadata service for credentials.
    let has_none = error.to_string().contains("169.254.169.254");
    let is_refused = matches!(error, Store::PermissionDenied { .. } | Store::Unauthenticated { .. })
        // Lists are refused with an error of no kind.
        || ["status code: 401", "status code: 403"].iter().any(|status| cause.contains(status));
    let (what, hint) = match error {
        Store::NotFound { .. } => return nothing_at(url),
        _ if has_none => ("there are no credentials for", CREDENTIALS_HINT),
        _ if is_refused => ("the store refuses access to", CREDENTIALS_HINT),
        Store::Precondition { .. } => ("somebody changed, while it was read,", "try again"),
        _ => ("the store failed to give", "check the address, or try again later"),
    };
    Error::new(Code::Io, format!("{what} {url}")).found(cause).hint(hint)
}

/// The innermost cause in one line: stores wrap theirs several times and quote whole documents.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}
