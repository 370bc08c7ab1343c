//! A stream of reports to a collector in a process of its own, which can be killed.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Client, config, open, report};

const FIELD: &str = "interaction.category";
/// Tells a test program that it is the collector, and where its database is.
const DATABASE: &str = "SANDERLING_TEST_DATABASE";
const LISTENING: &str = "listening on ";

/// What a test program does as the collector; call it in a test named `collector_child`.
pub fn serve_if_child() {
    let Ok(location) = std::env::var(DATABASE) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(&location.parse().unwrap());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{LISTENING}{}", listener.local_addr().unwrap());
        // The pipe ends with the test program, so that no child outlives it.
        let orphaned = async {
            let _ = tokio::task::spawn_blocking(|| std::io::stdin().lines().last()).await;
        };
        sanderling_collector::serve(config(), store, listener, orphaned).await.unwrap();
    });
}

/// A running collector process; killed when dropped.
pub struct Process {
    child: Child,
    /// Kept open, so that what the child says at its end is no error.
    _said: Lines<BufReader<ChildStdout>>,
    pub address: SocketAddr,
}

impl Process {
    pub fn start(location: &str) -> Self {
        Self::start_with(location, &[])
    }

    pub fn start_with(location: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_under(&[], location, environment).expect("the child says where it listens")
    }

    /// As the last argument of another program, which has to become the collector or to end with it. `None` where the collector
    /// ended before it listened.
    pub fn start_under(wrapper: &[&str], location: &str, environment: &[(&str, &str)]) -> Option<Self> {
        let program = std::env::current_exe().unwrap();
        let words = wrapper.iter().copied().chain([program.to_str().unwrap()]).collect::<Vec<_>>();
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args(["--exact", "collector_child", "--nocapture"])
            .env(DATABASE, location)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = said.by_ref().map_while(Result::ok).find_map(|line| {
            let at = line.find(LISTENING)?;
            line[at + LISTENING.len()..].parse().ok()
        });
        let Some(address) = address else {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        };
        Some(Self { child, _said: said, address })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks for the graceful end, if it has not ended otherwise, and waits for it.
    pub fn finish(&mut self) -> ExitStatus {
        drop(self.child.stdin.take());
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // On Unix this is SIGKILL: no handler, no destructor, no flush runs in the child.
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Reports on their way: what still has to be sent, and what was acknowledged how.
pub struct Stream {
    pub address: Mutex<SocketAddr>,
    waiting: Mutex<VecDeque<u64>>,
    pub acknowledged: Mutex<BTreeMap<u64, u16>>,
    /// How many answers said to come again later.
    pub num_overloaded: std::sync::atomic::AtomicU64,
    done: AtomicBool,
}

impl Stream {
    pub fn new(num_reports: u64) -> Self {
        Self {
            address: Mutex::new(([127, 0, 0, 1], 9).into()),
            waiting: Mutex::new((0..num_reports).collect()),
            acknowledged: Mutex::default(),
            num_overloaded: 0.into(),
            done: AtomicBool::new(false),
        }
    }

    /// Sends from `num_devices` threads while `meanwhile` runs.
    pub fn flow(&self, num_devices: usize, meanwhile: impl FnOnce()) {
        std::thread::scope(|scope| {
            let devices: Vec<_> = (0..num_devices).map(|_| scope.spawn(|| self.send_all())).collect();
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(meanwhile));
            self.done.store(true, Ordering::SeqCst);
            devices.into_iter().for_each(|device| device.join().unwrap());
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
    }

    pub fn body(number: u64) -> Vec<u8> {
        report(number, FIELD, (number % 4) as u16).encode()
    }

    /// Sends until everything is acknowledged; whatever is not comes back to the queue.
    fn send_all(&self) {
        while !self.done.load(Ordering::SeqCst) {
            let Some(number) = self.waiting.lock().unwrap().pop_front() else {
                std::thread::sleep(Duration::from_millis(2));
                continue;
            };
            let address = *self.address.lock().unwrap();
            let status =
                Client::new(address).try_post(&Self::body(number)).map(|answer| answer.status().as_u16());
            if let Ok(status @ (200 | 201)) = status {
                let before = self.acknowledged.lock().unwrap().insert(number, status);
                assert_eq!(before, None, "report {number} was in the queue twice");
            } else {
                assert!(
                    !matches!(status, Ok(400..=428 | 500)),
                    "report {number} was refused with {status:?}"
                );
                self.num_overloaded.fetch_add(u64::from(matches!(status, Ok(429))), Ordering::SeqCst);
                self.waiting.lock().unwrap().push_back(number);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    fn num_acknowledged(&self) -> u64 {
        self.acknowledged.lock().unwrap().len() as u64
    }

    pub fn wait_until_acknowledged(&self, count: u64) {
        for _ in 0..60_000 {
            if self.num_acknowledged() >= count {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("only {} of {count} reports were acknowledged in two minutes", self.num_acknowledged());
    }
}
