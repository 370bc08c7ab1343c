//! One running component: its store, its fences, and one HTTP exchange at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use sanderling_types::{Code, Error, Result};
use tokio::task::JoinHandle;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Cache, CacheConfig, Config, Engine, ResourceLimiter, Store, Trap, UpdateDeadline};
use wasmtime_wasi::{HostWallClock, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// How often a call that is metered by time is looked at; others get their turn then.
const TICK: Duration = Duration::from_millis(10);

/// What stops a call that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metering {
    /// Counted instructions: the same call stops at the same place everywhere.
    Fuel,
    /// Time, which costs less to keep.
    Time,
}

/// What one call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Budget {
    Fuel(u64),
    Time(Duration),
}

/// A compiled and linked component, ready to be started any number of times.
pub(super) struct Prepared(ProxyPre<State>);

impl Prepared {
    pub(super) fn new(component: &[u8], metering: Metering) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        match metering {
            Metering::Fuel => {
                config.consume_fuel(true);
                // Results must not depend on the machine.
                config.cranelift_nan_canonicalization(true);
            }
            Metering::Time => {
                config.epoch_interruption(true);
                // Where nothing can be kept, the component is compiled at every start.
                config.cache(Cache::new(CacheConfig::new()).ok());
            }
        }
        let engine = Engine::new(&config)?;
        if metering == Metering::Time {
            tick(&engine)?;
        }
        let component = Component::from_binary(&engine, component)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi_http::p2::add_to_linker_async(&mut linker)?;
        ProxyPre::new(linker.instantiate_pre(&component)?).map(Self)
    }
}

/// Counts epochs for as long as the engine is used.
fn tick(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    let count = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("epochs".to_owned()).spawn(count).map(drop)
}

/// Everything that the host keeps for one instance. Its WASI context grants nothing: no
/// environment, no folder, no socket, and requests of its own are refused.
struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: NoOutgoing,
    table: ResourceTable,
    memory: MemoryFence,
    /// Epochs that a call metered by time has left.
    ticks_left: u64,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}

/// The time of day that the component is told: the host's, but where it is stopped.
#[derive(Clone, Default)]
struct Clock(Arc<Mutex<Option<SystemTime>>>);

impl Clock {
    fn stopped_at(&self) -> MutexGuard<'_, Option<SystemTime>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        let now = self.stopped_at().unwrap_or_else(SystemTime::now);
        now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

/// Refuses every request that the component itself would make.
struct NoOutgoing;

type BodyDone = Box<dyn Future<Output = Result<(), HttpError>> + Send>;
type Sent = Result<(http::Response<WasiBody>, BodyDone), HttpError>;

impl WasiHttpHooks for NoOutgoing {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _done: BodyDone,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        Box::new(std::future::ready(Err(HttpError::HttpRequestDenied)))
    }
}

/// Refuses memory over the limit and remembers that it did: the guest only sees a failed
/// allocation and traps without saying why.
struct MemoryFence {
    max_bytes: usize,
    refused_bytes: Option<usize>,
}

impl ResourceLimiter for MemoryFence {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let allowed = desired <= self.max_bytes;
        if !allowed {
            self.refused_bytes = Some(desired);
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        const MAX_TABLE_ELEMENTS: usize = 1 << 20;
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}

/// A finished HTTP response.
#[derive(Debug)]
pub struct Answer {
    /// Its status code.
    pub status: u16,
    /// Its media type.
    pub content_type: Option<http::HeaderValue>,
    /// Its whole body.
    pub body: Bytes,
}

/// A call metered by time that had none left.
#[derive(Debug)]
struct OutOfTime;

impl std::fmt::Display for OutOfTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the call had no time left")
    }
}

impl std::error::Error for OutOfTime {}

/// A started component. After an error it must be dropped: a trapped instance cannot go on.
pub(super) struct Instance {
    store: Store<State>,
    proxy: Proxy,
    clock: Clock,
}

impl Instance {
    /// Starts the component with at most `memory_bytes` and `budget` to spend.
    pub(super) async fn start(prepared: &Prepared, memory_bytes: usize, budget: Budget) -> Result<Self> {
        let clock = Clock::default();
        let state = State {
            wasi: WasiCtx::builder().wall_clock(clock.clone()).build(),
            http: WasiHttpCtx::new(),
            outgoing: NoOutgoing,
            table: ResourceTable::new(),
            memory: MemoryFence { max_bytes: memory_bytes, refused_bytes: None },
            ticks_left: 0,
        };
        let mut store = Store::new(prepared.0.engine(), state);
        store.limiter(|state| &mut state.memory);
        let started = match allow(&mut store, budget) {
            Ok(()) => within(budget, prepared.0.instantiate_async(&mut store)).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(proxy) => Ok(Self { store, proxy, clock }),
            Err(error) => Err(classify(&store, budget, &error)),
        }
    }

    pub(super) fn set_memory_limit(&mut self, max_bytes: usize) {
        self.store.data_mut().memory = MemoryFence { max_bytes, refused_bytes: None };
    }

    /// As [`Instance::send`], while the component's clock stands at `time`.
    pub(super) async fn send_at(
        &mut self,
        time: SystemTime,
        request: http::Request<Bytes>,
        budget: Budget,
    ) -> Result<Answer> {
        *self.clock.stopped_at() = Some(time);
        let answer = self.send(request, budget).await;
        *self.clock.stopped_at() = None;
        answer
    }

    /// Sends one request with `budget` to spend and waits for the whole answer.
    pub(super) async fn send(&mut self, request: http::Request<Bytes>, budget: Budget) -> Result<Answer> {
        match within(budget, self.exchange(request, budget)).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Error::new(Code::Internal, "the component returned without an answer")),
            Err(error) => Err(classify(&self.store, budget, &error)),
        }
    }

    async fn exchange(
        &mut self,
        request: http::Request<Bytes>,
        budget: Budget,
    ) -> wasmtime::Result<Option<Answer>> {
        allow(&mut self.store, budget)?;
        let slot = AnswerSlot::default();
        let mut view = self.store.data_mut().http();
        let request = view.new_incoming_request(Scheme::Http, request.map(Full::new))?;
        let out = view.new_response_outparam_from_callback(slot.receiver())?;
        self.proxy.wasi_http_incoming_handler().call_handle(&mut self.store, request, out).await?;
        match slot.take() {
            Some(collecting) => collecting.await?.map(Some),
            None => Ok(None),
        }
    }
}

type Collecting = JoinHandle<wasmtime::Result<Answer>>;

/// Where the guest's answer arrives. The body is collected by a task of its own while the guest
/// is still writing it: the guest waits whenever nobody reads.
#[derive(Clone, Default)]
struct AnswerSlot(Arc<Mutex<Option<Collecting>>>);

impl AnswerSlot {
    fn receiver(
        &self,
    ) -> impl FnOnce(Result<http::Response<HyperOutgoingBody>, ErrorCode>) + Send + Sync + 'static {
        let slot = self.clone();
        move |answer| {
            *slot.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tokio::spawn(collect(answer)));
        }
    }

    fn take(&self) -> Option<Collecting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

async fn collect(answer: Result<http::Response<HyperOutgoingBody>, ErrorCode>) -> wasmtime::Result<Answer> {
    let (head, body) = answer?.into_parts();
    Ok(Answer {
        status: head.status.as_u16(),
        content_type: head.headers.get(http::header::CONTENT_TYPE).cloned(),
        body: body.collect().await?.to_bytes(),
    })
}

/// Ends a call metered by time also where it waits instead of working. What it worked on must not be used again.
async fn within<T>(budget: Budget, call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    match budget {
        Budget::Fuel(_) => call.await,
        Budget::Time(time) => match tokio::time::timeout(time + TICK, call).await {
            Ok(result) => result,
            Err(_) => Err(OutOfTime.into()),
        },
    }
}

/// Gives the next call what it may use.
fn allow(store: &mut Store<State>, budget: Budget) -> wasmtime::Result<()> {
    match budget {
        Budget::Fuel(fuel) => store.set_fuel(fuel),
        Budget::Time(time) => {
            store.data_mut().ticks_left = time.as_millis().div_ceil(TICK.as_millis()) as u64;
            store.set_epoch_deadline(1);
            store.epoch_deadline_callback(|mut store| {
                let left = &mut store.data_mut().ticks_left;
                *left = left.checked_sub(1).ok_or(OutOfTime)?;
                Ok(UpdateDeadline::Yield(1))
            });
            Ok(())
        }
    }
}

/// Says why a call ended early.
fn classify(store: &Store<State>, budget: Budget, error: &wasmtime::Error) -> Error {
    let memory = &store.data().memory;
    if let Some(bytes) = memory.refused_bytes {
        return Error::new(Code::LimitExceeded, "the component asked for more memory than it may have")
            .expected(format!("at most {} bytes", memory.max_bytes))
            .found(format!("{bytes} bytes"));
    }
    match budget {
        Budget::Fuel(fuel) if error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel) => {
            return Error::new(Code::LimitExceeded, "the component used up the fuel of one call")
                .expected(format!("at most {fuel} units"));
        }
        Budget::Time(time) if error.downcast_ref::<OutOfTime>().is_some() => {
            return Error::new(Code::LimitExceeded, "the component used up the time of one call")
                .expected(format!("at most {time:?}"));
        }
        _ => {}
    }
    // What happened inside is for whoever runs this.
    tracing::error!(error = format!("{error:#}"), "the component stopped");
    Error::new(Code::Internal, "the component stopped").found(error.root_cause())
}
