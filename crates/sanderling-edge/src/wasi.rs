//! The component's export: one `wasi:http/incoming-handler` call to one [`Service`] call.

use std::alloc::{Layout, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read, Write};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method as WasiMethod, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use crate::{HttpRequest, HttpResponse, Method, PUBLIC_KEY_HEADER, Service, WAITED_HEADER};

struct Component;

wasip2::http::proxy::export!(Component);

thread_local! {
    // A component instance is single-threaded and lives as long as its host keeps it.
    static SERVICE: RefCell<Service> = RefCell::default();
}

impl Guest for Component {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let response = match read_request(&request) {
            Ok(request) => SERVICE.with_borrow_mut(|service| service.handle(&request)),
            Err(refusal) => refusal,
        };
        drop(request);
        write_response(out, &response);
    }
}

fn read_request(request: &IncomingRequest) -> Result<HttpRequest, HttpResponse> {
    let method = match request.method() {
        WasiMethod::Get => Method::Get,
        WasiMethod::Post => Method::Post,
        WasiMethod::Put => Method::Put,
        _ => Method::Other,
    };
    let target = request.path_with_query().unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default().to_owned();
    let headers = request.headers();
    let first = |name| headers.get(name).first().map(|value| String::from_utf8_lossy(value).into_owned());
    let (public_key, waited_ms) = (first(PUBLIC_KEY_HEADER), first(WAITED_HEADER));
    let max_bytes = Service::max_body_bytes(method, &path);
    let body = read_body(request, max_bytes)?;
    let now = i64::try_from(wasip2::clocks::wall_clock::now().seconds).unwrap_or(i64::MAX);
    Ok(HttpRequest { method, path, public_key, waited_ms, now, seed: seed(), clock_ms, body })
}

/// Reads the body, or a refusal when it is longer than `max_bytes`. A body that breaks off comes
/// back short, which the decoders refuse.
fn read_body(request: &IncomingRequest, max_bytes: usize) -> Result<Vec<u8>, HttpResponse> {
    let mut bytes = Vec::new();
    if let Ok(body) = request.consume()
        && let Ok(stream) = body.stream()
        && let Err(error) = stream.take(max_bytes as u64 + 1).read_to_end(&mut bytes)
        && error.kind() == ErrorKind::OutOfMemory
    {
        // As wherever else there is no memory: the host knows that it refused some, and says so.
        handle_alloc_error(Layout::for_value(bytes.as_slice()));
    }
    if bytes.len() <= max_bytes { Ok(bytes) } else { Err(Service::body_too_large(max_bytes)) }
}

/// Sends the response. A client that went away cannot be told anything, so what fails here ends
/// the call and nothing else.
fn write_response(out: ResponseOutparam, response: &HttpResponse) {
    let content_type = [response.content_type.as_bytes().to_vec()];
    let headers = Fields::new();
    let _ = headers.set("content-type", &content_type);
    let message = OutgoingResponse::new(headers);
    let _ = message.set_status_code(response.status);
    let body = message.body();
    ResponseOutparam::set(out, Ok(message));
    let Ok(body) = body else { return };
    if let Ok(mut stream) = body.write() {
        let _ = stream.write_all(&response.body).and_then(|()| Write::flush(&mut stream));
    }
    let _ = OutgoingBody::finish(body, None);
}

/// The engine has no random source: seeds are arguments. Parts of it link `getrandom` without a
/// path of ours that calls it; a call would be a broken promise and is refused.
///
/// # Safety
/// Never reads or writes through `_dest`.
#[unsafe(no_mangle)]
unsafe extern "Rust" fn __getrandom_v03_custom(_dest: *mut u8, _len: usize) -> Result<(), getrandom::Error> {
    Err(getrandom::Error::UNSUPPORTED)
}

/// Of the clocks and a count: chances have to be even and no secret, so no random source is needed.
fn seed() -> u64 {
    thread_local! {
        static NUM_SEEDS: Cell<u64> = const { Cell::new(0) };
    }
    let wall = wasip2::clocks::wall_clock::now();
    let mut hasher = DefaultHasher::new();
    (wall.seconds, wall.nanoseconds, wasip2::clocks::monotonic_clock::now()).hash(&mut hasher);
    NUM_SEEDS.replace(NUM_SEEDS.get().wrapping_add(1)).hash(&mut hasher);
    hasher.finish()
}

fn clock_ms() -> f64 {
    wasip2::clocks::monotonic_clock::now() as f64 / 1e6
}
