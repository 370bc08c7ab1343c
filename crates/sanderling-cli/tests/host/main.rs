//! The wasm host keeps its promises: limits hold, a stopped call does not stop the host, and the
//! component gives the native engine's results.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "modules of one test")]

mod follow;
mod process;
mod serve;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sanderling_cli::wasm_host::{HostLimits, WasmHost};
use sanderling_core::{Bundle, BundleFiles, Engine};
use sanderling_tract::FullRuntime;
use sanderling_types::{Code, Request, SessionInteraction};

/// A component whose handler runs `code`.
fn component(code: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
          (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))))
          (alias export $types "incoming-request" (type $request))
          (alias export $types "response-outparam" (type $out))
          (core module $module
            (memory 1)
            (func (export "handle") (param i32 i32) {code}))
          (core instance $main (instantiate $module))
          (func $handle (param "request" (own $request)) (param "response-out" (own $out))
            (canon lift (core func $main "handle")))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
    );
    wat::parse_str(text).unwrap()
}

fn host(code: &str) -> WasmHost {
    let limits = HostLimits { fuel: 1_000_000, load_fuel: 1_000_000, memory_bytes: 4 << 20 };
    WasmHost::from_bytes(&component(code), limits).unwrap()
}

#[test]
fn an_endless_call_is_stopped_and_the_host_goes_on() {
    let mut host = host("(loop $forever br $forever)");
    for _ in 0..2 {
        let error = host.recommend(&Request::default()).unwrap_err();
        assert_eq!(error.code(), Code::LimitExceeded, "{error}");
        assert!(error.message().contains("fuel"), "{error}");
    }
}

#[test]
fn memory_over_the_limit_is_refused_and_named() {
    let mut host = host("(if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then unreachable))");
    let error = host.recommend(&Request::default()).unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    assert_eq!(error.found_value(), Some("6619136 bytes"), "{error}");
}

#[test]
fn a_component_that_traps_or_does_not_answer_is_an_internal_error() {
    for code in ["unreachable", ""] {
        let error = host(code).recommend(&Request::default()).unwrap_err();
        assert_eq!(error.code(), Code::Internal, "{code:?}: {error}");
    }
}

#[test]
fn what_is_not_a_component_is_refused() {
    let error = WasmHost::from_bytes(b"\0asm\x01\0\0\0", HostLimits::default()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let error = WasmHost::new(Path::new("no/such/file.wasm"), HostLimits::default()).unwrap_err();
    assert_eq!(error.code(), Code::Io);
}

/// The component and a bundle, or `None` where the caller did not ask for the wasmtime runtime:
/// `./build.sh test` does, plain `cargo test` does not.
fn real_parts() -> Option<(PathBuf, BTreeMap<String, Vec<u8>>)> {
    let runtimes = std::env::var("SANDERLING_RUNTIMES").unwrap_or_default();
    if !runtimes.split(',').any(|name| name == "wasmtime") {
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let from_env =
        |name, default: &str| std::env::var_os(name).map_or_else(|| root.join(default), PathBuf::from);
    let component = from_env("SANDERLING_COMPONENT", "build/sanderling-edge.wasm");
    let folder = from_env("SANDERLING_TEST_BUNDLE", "tests/golden/v1/bundle");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    });
    Some((component, files.collect()))
}

fn requests(engine: &Engine) -> Vec<Request> {
    let ids: Vec<_> = engine.bundle().vocabulary().item_ids().take(6).collect();
    let session = |len: usize| -> Vec<SessionInteraction> {
        ids.iter()
            .take(len)
            .map(|id| {
                serde_json::from_value(serde_json::json!({"item_id": id, "kind": "view", "timestamp": 1}))
                    .unwrap()
            })
            .collect()
    };
    [0, 1, 5].map(|len| Request { session: session(len), limit: 10, now: 100, ..Request::default() }).into()
}

#[test]
fn the_component_recommends_as_the_native_engine_and_survives_its_limits() {
    let Some((component, files)) = real_parts() else { return };
    let engine =
        Engine::new(Bundle::open(BundleFiles::from(files.clone()), None).unwrap(), &FullRuntime).unwrap();
    let limits = HostLimits::default();
    let mut host = WasmHost::new(&component, HostLimits { memory_bytes: 1 << 20, ..limits }).unwrap();

    assert_eq!(host.load_bundle(&files, &[]).unwrap_err().code(), Code::LimitExceeded, "1 MiB of memory");
    host.set_limits(limits);
    assert_eq!(host.recommend(&Request::default()).unwrap_err().code(), Code::NotFound, "no bundle yet");
    let hash = host.load_bundle(&files, &[]).unwrap();
    assert_eq!(hash, engine.bundle().hash().to_string());

    host.set_limits(HostLimits { fuel: 1000, ..limits });
    let error = host.recommend(&requests(&engine)[1]).unwrap_err();
    assert_eq!(error.code(), Code::LimitExceeded, "{error}");
    host.set_limits(limits);

    for request in requests(&engine) {
        let native = engine.recommend(&request).response;
        let wasm = host.recommend(&request).unwrap();
        let ids = |response: &sanderling_types::Response| -> Vec<String> {
            response.recommendations.iter().map(|item| item.item_id.to_string()).collect()
        };
        assert!(!native.recommendations.is_empty());
        assert_eq!(ids(&wasm), ids(&native), "session of {}", request.session.len());
        for (a, b) in wasm.recommendations.iter().zip(&native.recommendations) {
            assert!((a.score - b.score).abs() <= 1e-4 * b.score.abs().max(1.0), "{a:?} against {b:?}");
        }
    }

    let mut damaged = files.clone();
    damaged.get_mut("items.bin").unwrap()[20] ^= 1;
    assert_eq!(host.load_bundle(&damaged, &[]).unwrap_err().code(), Code::HashMismatch);
    assert!(host.recommend(&requests(&engine)[1]).is_ok(), "the bundle before stays open");

    let results = host.run_operations(&[serde_json::json!({"op": "no_such"})]).unwrap();
    assert!(results[0].get("error").is_some(), "{results:?}");
}
