//! `sanderling serve`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use sanderling_cli::bundle_source::BundleSource;
use sanderling_cli::serve::{follow, serve};
use sanderling_cli::wasm_host::{Pool, PoolLimits};
use sanderling_collector::Connections;
use sanderling_core::Trust;
use sanderling_types::{Code, Error, Result};
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
    Prints the address it listens on, then serves POST /recommend, GET /healthz and GET /metrics. \
    Another bundle in the folder takes the place of the one before while requests are answered; one that cannot be opened does not.\n\
    Stops on SIGINT or SIGTERM after finishing open requests, and those that are on their way.")]
pub(crate) struct Serve {
    /// Folder of a bundle, or of a channel, whose champion is served.
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
    /// How often to look whether there is another bundle in the folder, which then takes the place of the one before; 0: never.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    check_seconds: u64,
    /// How long to go on after a signal to stop, while GET /healthz answers 503, until balancers have noticed.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    drain_seconds: u64,
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
    let trust = Trust { least_rollback_index: args.min_rollback_index, ..super::trust(&args.public_key)? };
    let source = BundleSource::new(args.bundle.clone());
    let files = source.read()?;
    let (listener, url) = super::listen_on(args.listen).await?;
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let limits = PoolLimits {
        instances: args.instances.map_or(cores, NonZeroUsize::get),
        waiting: args.waiting,
        call_time: Duration::from_millis(args.call_ms),
        load_time: Duration::from_secs(60),
        memory_bytes: args.memory_bytes,
    };
    tracing::info!(component = %args.component.display(), "preparing; the first start with a component compiles it, which takes some seconds");
    let pool = tokio::select! {
        pool = Pool::start(&args.component, &files, trust, limits) => pool?,
        () = &mut stop => return Ok(()),
    };
    let pool = Arc::new(pool);
    let bundle = pool.served();
    tracing::info!(url, bundle_sha256 = bundle.sha256(), "serving");
    let json = json!({ "url": url, "bundle_hash": bundle.sha256(), "instances": limits.instances });
    output.result(&json, &format!("listening on {url}; bundle {}", bundle.sha256()))?;
    let connections = Connections::default();
    let linger = connections.linger.max(Duration::from_secs(args.drain_seconds));
    let connections = Connections { linger, ..connections };
    let every = Duration::from_secs(args.check_seconds);
    let followed = Arc::clone(&pool);
    let following = async {
        if every.is_zero() {
            return std::future::pending().await;
        }
        // A task of its own, so that requests are taken while it works. It ends by a panic alone.
        tokio::spawn(async move { follow(&followed, &source, every).await }).await
    };
    tokio::select! {
        () = serve(pool, listener, connections, GRACE, stop) => Ok(()),
        ended = following => {
            let Err(error) = ended;
            Err(Error::new(Code::Internal, "nothing looks for the next bundle any more").found(&error).source_error(error))
        }
    }
}
