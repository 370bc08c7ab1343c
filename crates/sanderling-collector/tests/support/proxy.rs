//! Stands between a collector and its database, and cuts the connection at a chosen step.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

/// Where a step is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server never hears of the step.
    BeforeServer,
    /// The server does the step, and the collector never hears of it.
    AfterServer,
}

/// A cut to come.
struct Armed {
    steps_left: u32,
    cut: Cut,
    /// Whether the collector's side stays open until the collector closes it.
    hold: bool,
    fired: mpsc::Sender<()>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<Option<Armed>>>);

pub struct Proxy {
    pub address: SocketAddr,
    shared: Shared,
}

impl Proxy {
    /// Passes connections on to the server at `socket`, for as long as the test program runs.
    pub fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Shared(Arc::default());
        let passing = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                pass(client, &socket, &passing);
            }
        });
        Self { address, shared }
    }

    /// Cuts at step number `step` from now, counted from 1; the result hears when that has happened. With `hold` the collector
    /// is left waiting, to be killed while it does.
    pub fn cut_at(&self, step: u32, cut: Cut, hold: bool) -> mpsc::Receiver<()> {
        let (fired, heard) = mpsc::channel();
        *self.shared.0.lock().unwrap() = Some(Armed { steps_left: step, cut, hold, fired });
        heard
    }

    /// Whether a cut is still to come.
    pub fn disarm(&self) -> bool {
        self.shared.0.lock().unwrap().take().is_some()
    }
}

impl Shared {
    /// The cut of this step, if it is the one.
    fn step(&self) -> Option<Armed> {
        let mut slot = self.0.lock().unwrap();
        let armed = slot.as_mut()?;
        armed.steps_left -= 1;
        if armed.steps_left == 0 { slot.take() } else { None }
    }
}

fn pass(client: TcpStream, socket: &Path, shared: &Shared) {
    let Ok(server) = UnixStream::connect(socket) else { return };
    client.set_nodelay(true).unwrap();
    let cut = Arc::new(Mutex::new(None::<Armed>));
    let is_open = Arc::new(AtomicBool::new(true));
    let (client_back, server_back) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let (cut_back, open_back) = (Arc::clone(&cut), Arc::clone(&is_open));
    let shared = shared.clone();
    std::thread::spawn(move || forward(client, server, &shared, &cut, &is_open));
    std::thread::spawn(move || back(client_back, server_back, &cut_back, &open_back));
}

/// Every piece that a collector sends is a step: it waits for the answer of each.
fn forward(
    mut client: TcpStream,
    mut server: UnixStream,
    shared: &Shared,
    cut: &Mutex<Option<Armed>>,
    is_open: &AtomicBool,
) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(len @ 1..) = client.read(&mut buffer) {
        if let Some(armed) = shared.step() {
            if armed.cut == Cut::BeforeServer {
                let _ = server.shutdown(Shutdown::Both);
                end(&mut client, &armed, is_open);
                return;
            }
            *cut.lock().unwrap() = Some(armed);
        }
        if server.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

fn back(mut client: TcpStream, mut server: UnixStream, cut: &Mutex<Option<Armed>>, is_open: &AtomicBool) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(len @ 1..) = server.read(&mut buffer) {
        if let Some(armed) = cut.lock().unwrap().take() {
            end(&mut client, &armed, is_open);
            let _ = server.shutdown(Shutdown::Both);
            return;
        }
        if client.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    // The other direction may be holding the collector's side.
    if is_open.load(Ordering::SeqCst) {
        let _ = client.shutdown(Shutdown::Both);
    }
}

fn end(client: &mut TcpStream, armed: &Armed, is_open: &AtomicBool) {
    is_open.store(false, Ordering::SeqCst);
    let _ = armed.fired.send(());
    if armed.hold {
        let _ = client.read(&mut [0; 64]);
    }
    let _ = client.shutdown(Shutdown::Both);
}
