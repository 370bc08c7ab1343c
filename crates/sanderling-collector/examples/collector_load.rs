//! Sends reports to a collector of its own as fast as it takes them, then at half of the floor. Prints JSON; `./build.sh bench telemetry` makes
//! docs/telemetry.md of it.
//!
//! `collector_load FOLDER|URL [REPORTS]`: the database is made in FOLDER, or is the one at the URL; with REPORTS that many are sent after the measurement, and the memory of
//! the collector is noted ten times.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program of the benchmark"
)]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sanderling_collector::serve;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CONNECTIONS: u64 = 128;
/// Reports a second that two cores take; latency is measured at half of that.
const FLOOR: f64 = 5_000.0;
const ROUND: Duration = Duration::from_secs(15);

/// The collector, in a process of its own.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(location: &str) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut child =
            Command::new(program).args(["--serve", location]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }

    /// MiB of memory that the process holds.
    fn memory(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok()).unwrap_or(f64::NAN)
            / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn serve_at(location: &str) {
    let store = support::open(&location.parse().unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    serve(support::config(), store, listener, std::future::pending()).await.unwrap();
}

/// A kept-alive connection that sends one report after the other.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 4096] }
    }

    /// Sends the report with this number, and waits for the receipt.
    async fn send(&mut self, number: u64) {
        let body = support::report(number, "interaction.category", (number % 4) as u16).encode();
        let mut request = format!(
            "POST /v1/reports HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend(body);
        self.stream.write_all(&request).await.unwrap();
        let mut len = 0;
        loop {
            len += self.stream.read(&mut self.buffer[len..]).await.unwrap();
            let text = String::from_utf8_lossy(&self.buffer[..len]);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                assert!(head.starts_with("HTTP/1.1 201"), "{text}");
                return;
            }
        }
    }
}

/// Sends `count` reports, or what a round has time for, `per_second` of them or as fast as they are taken; milliseconds of each, from
/// when it was due.
async fn send(
    address: SocketAddr,
    next: &Arc<AtomicU64>,
    count: u64,
    per_second: Option<f64>,
) -> (f64, Vec<f64>) {
    let (start, sent) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (next, sent) = (Arc::clone(next), Arc::clone(&sent));
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await;
                let mut times = Vec::new();
                loop {
                    let at = sent.fetch_add(1, Ordering::Relaxed);
                    let due = per_second.map(|rate| start + Duration::from_secs_f64(at as f64 / rate));
                    if at >= count || count == u64::MAX && due.unwrap_or_else(Instant::now) > start + ROUND {
                        return times;
                    }
                    if let Some(due) = due {
                        tokio::time::sleep_until(due.into()).await;
                    }
                    let from = due.unwrap_or_else(Instant::now);
                    connection.send(next.fetch_add(1, Ordering::Relaxed)).await;
                    times.push(from.elapsed().as_secs_f64() * 1e3);
                }
            })
        })
        .collect();
    let mut times = Vec::new();
    for worker in workers {
        times.extend(worker.await.unwrap());
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    times.sort_by(f64::total_cmp);
    (rate, times)
}

fn quantile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}

async fn measure(place: &str, reports: u64) {
    let is_url = place.contains("://");
    let location = if is_url { place.to_owned() } else { format!("{place}/reports.db") };
    let server = Server::start(&location);
    let next = Arc::new(AtomicU64::new(0));
    let (_, warm) = send(server.address, &next, 2_000, None).await;
    assert_eq!(warm.len(), 2_000);
    let (rate, times) = send(server.address, &next, u64::MAX, None).await;
    eprintln!("{rate:.0} reports a second, as fast as they are taken");
    let (half_rate, half) = send(server.address, &next, u64::MAX, Some(FLOOR / 2.0)).await;
    eprintln!("{half_rate:.0} a second: p99 {:.1} ms", quantile(&half, 0.99));
    let mut memory = vec![(next.load(Ordering::Relaxed), server.memory())];
    for _ in 0..if reports == 0 { 0 } else { 10 } {
        send(server.address, &next, reports / 10, None).await;
        memory.push((next.load(Ordering::Relaxed), server.memory()));
        eprintln!("{:?}", memory.last());
    }
    let stored = support::num_stored(&location.parse().unwrap());
    assert_eq!(stored, next.load(Ordering::Relaxed), "every acknowledged report is stored once");
    let [p50, p99] = [0.5, 0.99].map(|share| quantile(&times, share));
    let [half_p50, half_p99] = [0.5, 0.99].map(|share| quantile(&half, share));
    let out = json!({ "connections": CONNECTIONS, "reports_per_second": rate, "p50_ms": p50, "p99_ms": p99,
        "half": { "reports_per_second": half_rate, "p50_ms": half_p50, "p99_ms": half_p99 }, "stored": stored, "memory_mib": memory });
    println!("{out:#}");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match &arguments[..] {
        [flag, location] if flag == "--serve" => runtime.block_on(serve_at(location)),
        [place] => runtime.block_on(measure(place, 0)),
        [place, reports] => runtime.block_on(measure(place, reports.parse().unwrap())),
        _ => panic!("collector_load FOLDER|URL [REPORTS]"),
    }
}
