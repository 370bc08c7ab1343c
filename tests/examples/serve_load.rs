//! `./build.sh bench serve`: `serve_load PROGRAM COMPONENT BUNDLE`. Starts `sanderling serve` on a bundle and asks it over HTTP, in
//! turns with the same engine called natively in a loop, both by as many threads as there are cores. Results are compared
//! before anything is timed. Prints a table; exits 1 when a floor is missed.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "whoever runs it sees what is wrong")]
#![allow(clippy::print_stdout, reason = "its output is its purpose")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use sanderling_core::{Bundle, Engine, SessionMemory};
use sanderling_tract::FullRuntime;
use sanderling_types::{Request, Response, SessionInteraction};
use serde_json::{Value, json};

const SESSIONS: usize = 64;
const SESSION_LEN: usize = 50;
const LIMIT: u32 = 20;
const ROUNDS: usize = 8;
const ROUND: Duration = Duration::from_secs(2);
/// Least share of the native throughput, and most times the median that the 99th percentile may be.
const MIN_SHARE: f64 = 0.5;
const MAX_SPREAD: f64 = 5.0;

struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn start(program: &str, component: &str, bundle: &str) -> Self {
        let mut child = Command::new(program)
            .args(["serve", bundle, "--component", component, "--listen", "127.0.0.1:0", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        Self { child, url: format!("{}/recommend", ready["url"].as_str().unwrap()) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn requests(engine: &Engine) -> Vec<Request> {
    let ids: Vec<&str> = engine.bundle().vocabulary().item_ids().collect();
    let mut state = 7u64;
    let mut interaction = || -> SessionInteraction {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = ids[(state >> 33) as usize % ids.len()];
        serde_json::from_value(json!({ "item_id": id, "kind": "view", "timestamp": 1_700_000_000 })).unwrap()
    };
    let mut session = || (0..SESSION_LEN).map(|_| interaction()).collect();
    (0..SESSIONS)
        .map(|_| Request { session: session(), limit: LIMIT, now: 1_700_000_100, ..Request::default() })
        .collect()
}

fn ask(agent: &ureq::Agent, url: &str, body: &[u8]) -> String {
    let mut response = agent.post(url).content_type("application/json").send(body).unwrap();
    response.body_mut().read_to_string().unwrap()
}

/// Calls that `threads` threads finish in a round, and how long each took in milliseconds.
fn round<W: FnMut(usize)>(threads: usize, worker: impl Fn() -> W + Sync) -> (f64, Vec<f64>) {
    let start = Instant::now();
    let work = |first: usize| {
        let mut call = worker();
        let mut times = Vec::new();
        while start.elapsed() < ROUND {
            let before = Instant::now();
            call(first + times.len());
            times.push(before.elapsed().as_secs_f64() * 1e3);
        }
        times
    };
    let work = &work;
    let times: Vec<f64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|at| scope.spawn(move || work(at * 17))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    (times.len() as f64 / start.elapsed().as_secs_f64(), times)
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

fn row(what: &str, throughputs: Vec<f64>, mut times: Vec<f64>) -> (f64, f64, f64) {
    times.sort_by(f64::total_cmp);
    let [p50, p95, p99] = [0.5, 0.95, 0.99].map(|share| quantile(&times, share));
    let throughput = median(throughputs);
    println!("| {what} | {throughput:.0} | {p50:.3} | {p95:.3} | {p99:.3} |");
    (throughput, p50, p99)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [program, component, bundle] = &arguments[..] else { panic!("PROGRAM COMPONENT BUNDLE") };
    let files = sanderling_train::bundle::read(Path::new(bundle)).unwrap();
    let engine = Engine::new(Bundle::open(files, None).unwrap(), &FullRuntime).unwrap();
    let server = Server::start(program, component, bundle);
    let requests = requests(&engine);
    let bodies: Vec<Vec<u8>> = requests.iter().map(|request| serde_json::to_vec(request).unwrap()).collect();
    let agent = ureq::Agent::new_with_defaults();
    for (request, body) in requests.iter().zip(&bodies) {
        let native = engine.recommend(request).response;
        let served: Response = serde_json::from_str(&ask(&agent, &server.url, body)).unwrap();
        let ids = |response: &Response| -> Vec<String> {
            response.recommendations.iter().map(|one| one.item_id.to_string()).collect()
        };
        assert_eq!(ids(&served), ids(&native), "they do the same work");
    }
    let threads = std::thread::available_parallelism().unwrap().get();
    let in_a_loop = || {
        let mut memory = SessionMemory::default();
        let (engine, requests) = (&engine, &requests);
        move |at: usize| {
            let _ = engine.recommend_timed(&requests[at % SESSIONS], &mut memory, &|| 0.0);
            memory.forget_session();
        }
    };
    let over_http = || {
        let agent = ureq::Agent::new_with_defaults();
        let (url, bodies) = (&server.url, &bodies);
        move |at: usize| drop(ask(&agent, url, &bodies[at % SESSIONS]))
    };
    let (mut native, mut served) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for _ in 0..ROUNDS {
        let (throughput, times) = round(threads, in_a_loop);
        native.0.push(throughput);
        native.1.extend(times);
        let (throughput, times) = round(threads, over_http);
        served.0.push(throughput);
        served.1.extend(times);
    }
    let num_items = engine.bundle().vocabulary().len();
    println!(
        "{num_items} items, sessions of {SESSION_LEN}, {LIMIT} listed, {threads} threads each, medians of {ROUNDS} rounds\n"
    );
    println!("| what | calls a second | p50, ms | p95 | p99 |\n|---|---:|---:|---:|---:|");
    let (native, ..) = row("the engine natively, in a loop", native.0, native.1);
    let (served, p50, p99) = row("`sanderling serve`, over HTTP", served.0, served.1);
    let (share, spread) = (served / native, p99 / p50);
    let verdict = |held: bool| if held { "holds" } else { "MISSED" };
    println!("\n| what | | floor | |\n|---|---:|---:|---|");
    let held = share >= MIN_SHARE;
    println!("| share of the native throughput | {share:.2} | {MIN_SHARE} | {} |", verdict(held));
    let steady = spread <= MAX_SPREAD;
    println!("| p99 over p50 | {spread:.1} | at most {MAX_SPREAD} | {} |", verdict(steady));
    if held && steady { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
