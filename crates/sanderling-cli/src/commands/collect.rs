//! `sanderling collect`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sanderling_collector::{Config, RegisteredBundle, Store, StoreOptions, serve};
use sanderling_types::Result;
use serde_json::json;

use crate::interrupt::stop_signal;
use crate::location::StoreArgument;
use crate::output::{Output, Verdict};

/// Receive reports over HTTP and store them durably until stopped.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling collect --store reports.db --bundle bundles/shop \\\n    \
    --listen 127.0.0.1:8787 --allow-origin https://shop.example\n  \
    sanderling collect --store postgres://collector@db.example/telemetry --bundle bundles/shop\n\n\
    Prints the address it listens on, then serves POST /v1/reports, GET /v1/status and GET /healthz.\n\
    Stops on SIGINT or SIGTERM after finishing open requests.")]
pub(crate) struct Collect {
    /// Database file, made when it does not exist; or the postgres:// URL of a database, which several collectors may
    /// share. A password that is not in the URL is taken from PGPASSWORD.
    #[arg(long, value_name = "FILE_OR_URL")]
    store: StoreArgument,
    /// Bundle folders whose reports are accepted.
    #[arg(long, value_name = "BUNDLE")]
    bundle: Vec<PathBuf>,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// Origins whose pages may send reports; `*` for any.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Days after which raw reports are deleted; merged counts stay.
    #[arg(long, default_value_t = 90)]
    retention_days: u32,
}

pub(crate) fn run(args: &Collect, output: &Output) -> Result<Verdict> {
    let store = Store::open(&args.store.location()?, &StoreOptions::default())?;
    for folder in &args.bundle {
        store.register(&RegisteredBundle::read(folder)?)?;
    }
    super::run_async(listen(args, store, output))?;
    Ok(Verdict::Done)
}

async fn listen(args: &Collect, store: Store, output: &Output) -> Result<()> {
    let (listener, url) = super::listen_on(args.listen).await?;
    output.result(&json!({ "url": url }), &format!("listening on {url}"))?;
    let config = Config {
        allowed_origins: args.allow_origin.clone(),
        retention_seconds: args.retention_days.saturating_mul(86_400),
        shutdown_grace: Duration::from_secs(10),
        ..Config::default()
    };
    serve(config, store, listener, stop_signal()).await
}
