//! `sanderling collect`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use sanderling_collector::{
    Admin, AdminToken, Config, RegisteredBundle, Store, StoreOptions, serve_with_admin,
};
use sanderling_types::{Code, Error, Result};
use serde_json::json;

use crate::interrupt::stop_signal;
use crate::location::StoreArgument;
use crate::output::{Output, Verdict};
use crate::traces::Traces;

/// Receive reports over HTTP and store them durably until stopped.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling collect --store reports.db --bundle bundles/shop \\\n    \
    --listen 127.0.0.1:8787 --allow-origin https://shop.example\n  \
    sanderling collect --store postgres://collector@db.example/telemetry --bundle bundles/shop\n  \
    openssl rand -hex 32 > admin.token\n  \
    sanderling collect --store reports.db --bundle bundles/shop \\\n    \
    --admin-listen 127.0.0.1:8788 --admin-token-file admin.token\n\n\
    Prints the address it listens on, then serves POST /v1/reports, GET /healthz and GET /readyz;\n\
    with --accept-sessions POST /v1/sessions too.\n\
    With --admin-listen it prints a second address, where people with the token find the dashboard (/),\n\
    GET /v1/status, /v1/drift, /v1/drift/series, /v1/decisions and /metrics, and\n\
    DELETE /v1/bundles/SHA256.\n\
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
    /// Take sessions that users chose to share, too: they are not noised (see docs/formats/shared-session.md).
    #[arg(long)]
    accept_sessions: bool,
    /// Days after which raw reports and shared sessions are deleted; merged counts stay.
    #[arg(long, default_value_t = 90)]
    retention_days: u32,
    /// Address for administrators, which devices must not reach; none without it. Port 0 takes a free one.
    #[arg(long, value_name = "ADDR", requires = "admin_token_file")]
    admin_listen: Option<SocketAddr>,
    /// File with the token that administrators' requests carry, at least 16 characters.
    #[arg(long, value_name = "FILE", requires = "admin_listen")]
    admin_token_file: Option<PathBuf>,
    /// Append-only JSONL file of decisions about bundles, for administrators to see.
    #[arg(long, value_name = "FILE", requires = "admin_listen")]
    decisions: Option<PathBuf>,
}

pub(crate) fn run(args: &Collect, output: &Output) -> Result<Verdict> {
    let admin = args.admin_listen.zip(args.admin_token_file.as_deref());
    let admin = admin.map(|(address, file)| read_token(file).map(|token| (address, token))).transpose()?;
    let store = Store::open(&args.store.location()?, &StoreOptions::default())?;
    for folder in &args.bundle {
        store.register(&RegisteredBundle::read(folder)?)?;
    }
    super::run_async(listen(args, admin, store, output))?;
    Ok(Verdict::Done)
}

fn read_token(path: &Path) -> Result<AdminToken> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Error::new(Code::Io, format!("{} cannot be read", path.display())).found(&error).source_error(error)
    })?;
    AdminToken::new(&text)
}

async fn listen(
    args: &Collect,
    admin: Option<(SocketAddr, AdminToken)>,
    store: Store,
    output: &Output,
) -> Result<()> {
    let _traces = Traces::start("sanderling-collector")?;
    let stop = stop_signal();
    let (listener, url) = super::listen_on(args.listen).await?;
    let admin = match admin {
        None => {
            output.result(&json!({ "url": url }), &format!("listening on {url}"))?;
            None
        }
        Some((address, token)) => {
            let (listener, admin_url) = super::listen_on(address).await?;
            let text = format!("listening on {url}\nfor administrators: {admin_url}");
            output.result(&json!({ "url": url, "admin_url": admin_url }), &text)?;
            Some(Admin { listener, token, decisions: args.decisions.clone() })
        }
    };
    let config = Config {
        allowed_origins: args.allow_origin.clone(),
        accept_sessions: args.accept_sessions,
        retention_seconds: args.retention_days.saturating_mul(86_400),
        shutdown_grace: Duration::from_secs(10),
        ..Config::default()
    };
    serve_with_admin(config, store, listener, admin, stop).await
}
