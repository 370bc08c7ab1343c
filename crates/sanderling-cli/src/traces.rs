//! Logs on standard error, and traces to an OpenTelemetry collector where the environment names one.

use std::env;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use sanderling_types::{Code, Error, Result};
use tokio::runtime::Handle;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// The standard's variables for where traces go, the first before the second.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// How long the receiver may take, the standard's default: a client of one's own keeps no other.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Whose spans are sent: not those of the client that sends them.
const TRACED: &str = "sanderling_collector";
/// What the names of our own crates begin with.
const OWN: &str = "sanderling";

/// What is sent as long as this is kept; the rest goes out when it is dropped.
#[must_use]
pub(crate) struct Traces(Option<SdkTracerProvider>);

impl Traces {
    /// Starts logging, of our own crates at `info` unless `RUST_LOG` says otherwise, and traces of `service` where [`ENDPOINTS`] has an address.
    /// Inside a tokio runtime with more than one thread.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] where a variable cannot be used.
    pub(crate) fn start(service: &'static str) -> Result<Self> {
        let logged = match env::var("RUST_LOG") {
            Ok(text) => text
                .parse::<Targets>()
                .map_err(|error| Error::new(Code::InvalidArgument, "RUST_LOG cannot be used").found(error))?,
            Err(_) => Targets::new().with_target(OWN, LevelFilter::INFO).with_default(LevelFilter::WARN),
        };
        let coloured =
            io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let logs =
            tracing_subscriber::fmt::layer().with_ansi(coloured).with_writer(io::stderr).with_filter(logged);
        let provider = ENDPOINTS
            .iter()
            .any(|name| env::var_os(name).is_some_and(|address| !address.is_empty()))
            .then(|| provider(service))
            .transpose()?;
        let spans = provider.as_ref().map(|provider| {
            let traced = Targets::new().with_target(TRACED, LevelFilter::INFO);
            let layer = tracing_opentelemetry::layer().with_location(false).with_threads(false);
            layer.with_tracer(provider.tracer(service)).with_filter(traced)
        });
        // A second start in one process keeps the first.
        let _ = tracing_subscriber::registry().with(spans).with(logs).try_init();
        Ok(Self(provider))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.take().map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn provider(service: &'static str) -> Result<SdkTracerProvider> {
    // An error means that one is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let unusable = |error: &dyn std::fmt::Display| {
        Error::new(Code::InvalidArgument, "traces cannot be sent")
            .found(error)
            .hint(format!("look at {}", ENDPOINTS.join(" and ")))
    };
    let client = reqwest::Client::builder().timeout(TIMEOUT).build().map_err(|error| unusable(&error))?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpJson)
        .with_http_client(Client { client, runtime: Handle::current() })
        .build()
        .map_err(|error| unusable(&error))?;
    let resource = Resource::builder().with_service_name(service).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// The program's HTTP client on its runtime: the exporter's own thread has none.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> std::result::Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let answer = self.runtime.spawn(async move {
            let response = client.execute(request.try_into()?).await?.error_for_status()?;
            let status = response.status();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        });
        let (status, body) = answer.await??;
        Ok(Response::builder().status(status).body(body)?)
    }
}
