//! `sanderling serve`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sanderling_cli::serve::serve;
use sanderling_cli::wasm_host::{Pool, PoolLimits};
use sanderling_collector::Connections;
use sanderling_types::{Code, Error, Manifest, Result};
use serde_json::json;

use crate::interrupt::stop_signal;
use crate::output::{Output, Verdict};
use crate::traces::Traces;

/// How long open requests may take after a signal to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Answer requests for recommendations over HTTP with the component that edge hosts run.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  sanderling serve bundles/shop --listen 127.0.0.1:8080\n  \
    curl -d '{\"session\":[{\"item_id\":\"item-12\",\"kind\":\"view\",\"timestamp\":1764000000}],\"limit\":5}' http://127.0.0.1:8080/recommend\n\n\
    Prints the address it listens on, then serves POST /recommend, GET /healthz and GET /metrics.\n\
    Stops on SIGINT or SIGTERM after finishing open requests.")]
pub(crate) struct Serve {
    /// Bundle folder.
    bundle: PathBuf,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// File with a public key; with several, one of them must have signed the bundle.
    #[arg(long, value_name = "FILE")]
    public_key: Vec<PathBuf>,
    /// A bundle with a smaller `rollback_index` was taken back, and is refused.
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    min_rollback_index: u64,
    /// The engine as a wasi:http component.
    #[arg(long, value_name = "FILE", default_value = "build/sanderling-edge.wasm")]
    component: PathBuf,
    /// Instances of the component, of which each holds the bundle; by default one a core.
    #[arg(long)]
    instances: Option<NonZeroUsize>,
    /// Requests that may wait for an instance; more are refused with status 503.
    #[arg(long, default_value_t = 256)]
    waiting: usize,
    /// Most milliseconds of one request in an instance; one that takes longer is answered with status 504.
    #[arg(long, default_value_t = 2000)]
    call_ms: u64,
    /// Most wasm memory of an instance in bytes.
    #[arg(long, default_value_t = 512 << 20)]
    memory_bytes: usize,
}

pub(crate) fn run(args: &Serve, output: &Output) -> Result<Verdict> {
    super::run_async(listen(args, output))?;
    Ok(Verdict::Done)
}

async fn listen(args: &Serve, output: &Output) -> Result<()> {
    let _traces = Traces::start("sanderling-serve")?;
    // From the beginning: the first process of a container has no default action of a signal.
    let mut stop = Box::pin(stop_signal());
    let trust = super::trust(&args.public_key)?;
    let files: BTreeMap<String, Vec<u8>> = sanderling_train::bundle::read(&args.bundle)?
        .iter()
        .map(|(name, bytes)| (name.to_owned(), bytes.to_vec()))
        .collect();
    check_rollback_index(&files, args.min_rollback_index)?;
    let (listener, url) = super::listen_on(args.listen).await?;
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let limits = PoolLimits {
        instances: args.instances.map_or(cores, NonZeroUsize::get),
        waiting: args.waiting,
        call_time: Duration::from_millis(args.call_ms),
        load_time: Duration::from_secs(60),
        memory_bytes: args.memory_bytes,
    };
    let pool = tokio::select! {
        pool = Pool::start(&args.component, &files, &trust.keys, limits) => pool?,
        () = &mut stop => return Ok(()),
    };
    let json = json!({ "url": url, "bundle_hash": pool.bundle_sha256(), "instances": limits.instances });
    output.result(&json, &format!("listening on {url}; bundle {}", pool.bundle_sha256()))?;
    serve(pool, listener, Connections::default(), GRACE, stop).await;
    Ok(())
}

/// What the component cannot know of a bundle that is its first.
fn check_rollback_index(files: &BTreeMap<String, Vec<u8>>, least: u64) -> Result<()> {
    let manifest = files.get(Manifest::FILE_NAME).map(|bytes| Manifest::read(bytes)).transpose()?;
    let found = manifest.and_then(|manifest| manifest.rollback_index).unwrap_or(0);
    if found >= least {
        return Ok(());
    }
    Err(Error::new(Code::BundleRolledBack, "the bundle was taken back")
        .expected(format!("a rollback_index of at least {least}"))
        .found(found))
}
