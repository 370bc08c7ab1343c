//! Runs `sanderling-edge.wasm` under wasmtime: the engine as the edge runs it, fenced by fuel and memory.
//!
//! One instance answers all calls. A call that traps (out of fuel, out of memory, a defect) costs
//! that instance only: the next call starts another one and gives it the same bundle.

mod instance;
mod pool;
mod served;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sanderling_core::PublicKey;
use sanderling_types::{Code, Error, Request, Response, Result, pack_files};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use instance::Answer;
use instance::{Budget, Instance, Metering, Prepared};
pub use pool::{Pool, PoolLimits, Refreshes};
pub use served::ServedBundle;

/// What one call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostLimits {
    /// Fuel of one recommendation or operation; about one unit a wasm instruction.
    pub fuel: u64,
    /// Fuel of starting an instance and of opening a bundle.
    pub load_fuel: u64,
    /// Most bytes of linear memory.
    pub memory_bytes: usize,
}

impl Default for HostLimits {
    /// Some seconds of work for a call, a minute for opening a bundle, and 512 MiB.
    fn default() -> Self {
        Self { fuel: 5_000_000_000, load_fuel: 100_000_000_000, memory_bytes: 512 << 20 }
    }
}

/// A host for one component. Its calls block, so they must not be made inside an async runtime.
pub struct WasmHost {
    runtime: tokio::runtime::Runtime,
    prepared: Prepared,
    limits: HostLimits,
    bundle: Option<PackedBundle>,
    instance: Option<Instance>,
}

#[derive(Clone)]
struct PackedBundle {
    container: Bytes,
    public_keys: String,
    /// When the host got it. Instances open it as of then: one that takes the place of another must not find that it has expired since.
    since: SystemTime,
}

impl fmt::Debug for WasmHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmHost").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl WasmHost {
    /// Compiles the component at `path`, which takes seconds.
    ///
    /// # Errors
    /// [`Code::Io`] when the file cannot be read, [`Code::InvalidArgument`] when it is not a
    /// `wasi:http/proxy` component.
    pub fn new(path: &Path, limits: HostLimits) -> Result<Self> {
        Self::from_bytes(&read_component(path)?, limits)
    }

    /// Compiles the component in `component`, which takes seconds.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`] when it is not a `wasi:http/proxy` component.
    pub fn from_bytes(component: &[u8], limits: HostLimits) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| {
            Error::new(Code::Internal, "the event loop of the wasm host cannot start").source_error(error)
        })?;
        let prepared = prepare(component, Metering::Fuel)?;
        Ok(Self { runtime, prepared, limits, bundle: None, instance: None })
    }

    /// Replaces the limits, from the next call on.
    pub fn set_limits(&mut self, limits: HostLimits) {
        self.limits = limits;
    }

    /// Opens a bundle, given its files by name; one of `public_keys`, where there are any, must have signed it.
    /// Returns the bundle hash.
    ///
    /// # Errors
    /// The codes of `Bundle::open`, and those of every call: [`Code::LimitExceeded`] when the fuel
    /// or the memory is used up, [`Code::Internal`] when the component traps. The bundle that was
    /// open before stays open.
    pub fn load_bundle(
        &mut self,
        files: &BTreeMap<String, Vec<u8>>,
        public_keys: &[PublicKey],
    ) -> Result<String> {
        let bundle = PackedBundle::new(files, public_keys)?;
        let hash = self.put_bundle(&bundle)?;
        self.bundle = Some(bundle);
        Ok(hash)
    }

    /// Asks for recommendations.
    ///
    /// # Errors
    /// [`Code::NotFound`] before [`WasmHost::load_bundle`]; [`Code::LimitExceeded`] when the fuel or
    /// the memory is used up; [`Code::Internal`] when the component traps.
    pub fn recommend(&mut self, request: &Request) -> Result<Response> {
        self.post("/recommend", request, self.limits.fuel)
    }

    /// Runs golden-vector operations in order; each brings the fuel of one call. An operation
    /// that fails inside the engine is a result, not an error.
    ///
    /// # Errors
    /// As [`WasmHost::recommend`].
    pub fn run_operations(&mut self, operations: &[Value]) -> Result<Vec<Value>> {
        let fuel = self.limits.fuel.saturating_mul(operations.len().max(1) as u64);
        self.post("/operations", operations, fuel)
    }

    fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &(impl Serialize + ?Sized),
        fuel: u64,
    ) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|error| {
            Error::new(Code::Internal, "the request cannot be encoded").source_error(error)
        })?;
        if self.instance.is_none()
            && let Some(bundle) = self.bundle.clone()
        {
            self.put_bundle(&bundle)?;
        }
        let request = post(path, body.into(), Duration::ZERO)?;
        decode(&self.exchange(async |instance| instance.send(request, Budget::Fuel(fuel)).await)?)
    }

    fn put_bundle(&mut self, bundle: &PackedBundle) -> Result<String> {
        let budget = Budget::Fuel(self.limits.load_fuel);
        bundle_hash(&self.exchange(async |instance| bundle.send_to(instance, budget).await)?)
    }

    /// Sends something to the instance, which is kept only if it did not trap.
    fn exchange(&mut self, send: impl AsyncFnOnce(&mut Instance) -> Result<Answer>) -> Result<Answer> {
        let HostLimits { memory_bytes, load_fuel, .. } = self.limits;
        let mut instance = match self.instance.take() {
            Some(instance) => instance,
            None => {
                let starting = Instance::start(&self.prepared, memory_bytes, Budget::Fuel(load_fuel));
                self.runtime.block_on(starting)?
            }
        };
        instance.set_memory_limit(memory_bytes);
        let answer = self.runtime.block_on(send(&mut instance))?;
        self.instance = Some(instance);
        Ok(answer)
    }
}

/// The component at `path`.
fn read_component(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        Error::new(Code::Io, format!("cannot read {}", path.display()))
            .found(&error)
            .hint("`./build.sh wasm` makes the component")
            .source_error(error)
    })
}

fn prepare(component: &[u8], metering: Metering) -> Result<Prepared> {
    Prepared::new(component, metering).map_err(|error| {
        Error::new(Code::InvalidArgument, "the file is not a wasi:http/proxy component")
            .found(format!("{error:#}"))
    })
}

impl PackedBundle {
    fn new(files: &BTreeMap<String, Vec<u8>>, public_keys: &[PublicKey]) -> Result<Self> {
        let hex = |key: &PublicKey| key.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let public_keys = public_keys.iter().map(hex).collect::<Vec<_>>().join(",");
        Ok(Self { container: pack_files(files)?.into(), public_keys, since: SystemTime::now() })
    }

    /// Sends it to an instance to open it.
    async fn send_to(&self, instance: &mut Instance, budget: Budget) -> Result<Answer> {
        let mut request = http::Request::put(address("/bundle"));
        if !self.public_keys.is_empty() {
            request = request.header("sanderling-public-key", &self.public_keys);
        }
        let request = request.body(self.container.clone()).map_err(malformed)?;
        instance.send_at(self.since, request, budget).await
    }
}

/// The bundle hash in the answer to [`PackedBundle::send_to`].
fn bundle_hash(answer: &Answer) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Opened {
        bundle_sha256: String,
    }
    decode(answer).map(|Opened { bundle_sha256 }| bundle_sha256)
}

/// A request that waited for an instance for so long.
fn post(path: &str, body: Bytes, waited: Duration) -> Result<http::Request<Bytes>> {
    let waited = u32::try_from(waited.as_millis()).unwrap_or(u32::MAX);
    http::Request::post(address(path)).header("sanderling-waited-ms", waited).body(body).map_err(malformed)
}

fn malformed(error: http::Error) -> Error {
    Error::new(Code::Internal, "the request to the component is malformed").source_error(error)
}

fn address(path: &str) -> String {
    format!("http://sanderling{path}")
}

fn decode<T: DeserializeOwned>(answer: &Answer) -> Result<T> {
    let parsed = if answer.status == 200 {
        serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
    } else {
        match serde_json::from_slice::<Problem>(&answer.body) {
            Ok(problem) => return Err(problem.into_error()),
            Err(error) => Err(error.to_string()),
        }
    };
    parsed.map_err(|error| {
        Error::new(
            Code::Internal,
            format!("the component's answer with status {} cannot be decoded", answer.status),
        )
        .found(error)
    })
}

/// The parts of a problem document that make an [`Error`] again.
#[derive(serde::Deserialize)]
struct Problem {
    code: String,
    detail: String,
    expected: Option<String>,
    found: Option<String>,
    hint: Option<String>,
}

impl Problem {
    fn into_error(self) -> Error {
        let code = Code::ALL.iter().find(|code| code.as_str() == self.code).copied();
        let mut error = Error::new(code.unwrap_or(Code::Internal), self.detail);
        if let Some(expected) = self.expected {
            error = error.expected(expected);
        }
        if let Some(found) = self.found {
            error = error.found(found);
        }
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
