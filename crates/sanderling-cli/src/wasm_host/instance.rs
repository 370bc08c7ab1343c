//! One running component: its store, its memory fence, and one HTTP exchange at a time.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use sanderling_types::{Code, Error, Result};
use tokio::task::JoinHandle;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, ResourceLimiter, Store, Trap};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{
    Error as HttpError, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::HostLimits;

/// A compiled and linked component, ready to be started any number of times.
pub(super) struct Prepared(ProxyPre<State>);

impl Prepared {
    pub(super) fn new(component: &[u8]) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config.consume_fuel(true);
        // Results must not depend on the machine.
        config.cranelift_nan_canonicalization(true);
        let engine = Engine::new(&config)?;
        let component = Component::from_binary(&engine, component)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi_http::p2::add_to_linker_async(&mut linker)?;
        ProxyPre::new(linker.instantiate_pre(&component)?).map(Self)
    }
}

/// Everything that the host keeps for one instance. Its WASI context grants nothing: no
/// environment, no folder, no socket, and requests of its own are refused.
struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: NoOutgoing,
    table: ResourceTable,
    memory: MemoryFence,
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
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// A started component. After an error it must be dropped: a trapped instance cannot go on.
pub(super) struct Instance {
    store: Store<State>,
    proxy: Proxy,
}

impl Instance {
    pub(super) async fn start(prepared: &Prepared, limits: &HostLimits) -> Result<Self> {
        let state = State {
            wasi: WasiCtx::builder().build(),
            http: WasiHttpCtx::new(),
            outgoing: NoOutgoing,
            table: ResourceTable::new(),
            memory: MemoryFence { max_bytes: limits.memory_bytes, refused_bytes: None },
        };
        let mut store = Store::new(prepared.0.engine(), state);
        store.limiter(|state| &mut state.memory);
        let started = match store.set_fuel(limits.load_fuel) {
            Ok(()) => prepared.0.instantiate_async(&mut store).await,
            Err(error) => Err(error),
        };
        match started {
            Ok(proxy) => Ok(Self { store, proxy }),
            Err(error) => Err(classify(&store, limits.load_fuel, &error)),
        }
    }

    pub(super) fn set_memory_limit(&mut self, max_bytes: usize) {
        self.store.data_mut().memory = MemoryFence { max_bytes, refused_bytes: None };
    }

    /// Sends one request with `fuel` to spend and waits for the whole answer.
    pub(super) async fn send(&mut self, request: http::Request<Bytes>, fuel: u64) -> Result<Answer> {
        match self.exchange(request, fuel).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(Error::new(Code::Internal, "the component returned without an answer")),
            Err(error) => Err(classify(&self.store, fuel, &error)),
        }
    }

    async fn exchange(
        &mut self,
        request: http::Request<Bytes>,
        fuel: u64,
    ) -> wasmtime::Result<Option<Answer>> {
        self.store.set_fuel(fuel)?;
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
    Ok(Answer { status: head.status.as_u16(), body: body.collect().await?.to_bytes() })
}

/// Says why a call ended early.
fn classify(store: &Store<State>, fuel: u64, error: &wasmtime::Error) -> Error {
    let memory = &store.data().memory;
    if let Some(bytes) = memory.refused_bytes {
        return Error::new(Code::LimitExceeded, "the component asked for more memory than it may have")
            .expected(format!("at most {} bytes", memory.max_bytes))
            .found(format!("{bytes} bytes"));
    }
    if error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel) {
        return Error::new(Code::LimitExceeded, "the component used up the fuel of one call")
            .expected(format!("at most {fuel} units"));
    }
    Error::new(Code::Internal, "the component stopped").found(format!("{error:#}"))
}
