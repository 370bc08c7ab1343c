//! One file a group of commands: arguments, library call, printed result.

pub(crate) mod advance;
pub(crate) mod bundle;
pub(crate) mod channel;
pub(crate) mod choice;
pub(crate) mod collect;
pub(crate) mod compare;
pub(crate) mod data;
pub(crate) mod drift;
pub(crate) mod evaluate;
pub(crate) mod golden;
pub(crate) mod items;
pub(crate) mod pack;
pub(crate) mod privacy;
pub(crate) mod recipe;
pub(crate) mod recommend;
pub(crate) mod retrain;
pub(crate) mod serve;
pub(crate) mod table;
pub(crate) mod train;
pub(crate) mod tune;
pub(crate) mod verify;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use sanderling_core::{Bundle, Engine, PublicKey, Trust, operations};
use sanderling_tract::FullRuntime;
use sanderling_types::{Code, Error, Report, Result};
use serde_json::Value;
use tokio::net::TcpListener;

/// Opens a bundle folder and loads its models. What devices leave to whoever lets a bundle through is checked, too: that the manifest is
/// canonical, that reports fit, and that the models are what the manifest says.
pub(crate) fn load_engine(dir: &Path, trust: Option<&Trust>) -> Result<Engine> {
    let bundle = Bundle::open(sanderling_train::bundle::read(dir)?, trust)?;
    Report::check_longest(bundle.baseline(), &bundle.manifest().telemetry)?;
    Engine::new(bundle, &FullRuntime)
}

/// What the public keys of some files ask of a bundle now.
pub(crate) fn trust(public_keys: &[std::path::PathBuf]) -> Result<Trust> {
    let keys: Result<Vec<PublicKey>> = public_keys.iter().map(|path| bundle::read_public_key(path)).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Ok(Trust { now: now.ok().map(|now| now.as_secs() as i64), ..Trust::in_keys(keys?) })
}

/// How long is waited for what blocks a thread when the work is over, as a folder of a server that is away.
const BLOCKED: Duration = Duration::from_secs(5);

/// Runs `work` on an event loop of its own.
pub(crate) fn run_async<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::Internal, "the event loop cannot start").source_error(error))?;
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(BLOCKED);
    result
}

/// Listens on an address; also gives its URL, with the port that a port 0 became.
pub(crate) async fn listen_on(address: SocketAddr) -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Error::new(Code::Io, format!("cannot listen on {address}"))
            .found(&error)
            .hint("another program may use the port; choose another with --listen")
            .source_error(error)
    })?;
    let address = listener
        .local_addr()
        .map_err(|error| Error::new(Code::Io, "the listening address is not known").source_error(error))?;
    Ok((listener, format!("http://{address}")))
}

/// Runs a conformance operation.
///
/// # Panics
/// Never: an answer is JSON.
pub(crate) fn run_operation(engine: &Engine, operation: &Value) -> Value {
    serde_json::from_str(&operations::run(engine, &operation.to_string())).expect("an answer is JSON")
}
