//! Stopping on a signal without losing what was done.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sanderling_types::{Code, Error, Result};

/// Whether the program was asked to stop, by SIGINT (Ctrl-C) or SIGTERM.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on: the first signal is noted for [`Interrupt::is_asked`], a second one ends the
    /// program at once.
    ///
    /// # Errors
    /// [`Code::Internal`] when the system gives no thread or no signals.
    pub(crate) fn listen() -> Result<Self> {
        let asked = Self(Arc::new(AtomicBool::new(false)));
        let noted = asked.clone();
        on_signals(async move |mut signals| {
            signals.next().await;
            noted.0.store(true, Ordering::Relaxed);
            let _ = writeln!(std::io::stderr(), "stopping after this step; once more to stop at once");
            signals.next().await;
            std::process::exit(2);
        })?;
        LISTENING.store(true, Ordering::Relaxed);
        Ok(asked)
    }

    /// Whether the first signal came.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whether [`Interrupt::listen`] was called: it decides from then on what a signal means.
static LISTENING: AtomicBool = AtomicBool::new(false);

/// A signal ends the program and takes `folder` with it, until somebody listens.
///
/// # Errors
/// As [`Interrupt::listen`].
#[expect(clippy::exit, reason = "whatever runs meanwhile knows nothing of signals")]
pub(crate) fn remove_on_signal(folder: PathBuf) -> Result<()> {
    on_signals(async move |mut signals| {
        signals.next().await;
        if !LISTENING.load(Ordering::Relaxed) {
            let _ = std::fs::remove_dir_all(folder);
            let _ = writeln!(std::io::stderr(), "stopped; what was fetched is removed");
            std::process::exit(2);
        }
    })
}

/// Runs `work` on a thread of its own; signals that come after this call reach it.
fn on_signals<F: Future<Output = ()>>(work: impl FnOnce(Signals) -> F + Send + 'static) -> Result<()> {
    let failed = |error| Error::new(Code::Internal, "signals cannot be listened to").source_error(error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (ready, listening) = std::sync::mpsc::channel();
    let wait = async move || match Signals::new() {
        Ok(signals) => {
            let _ = ready.send(Ok(()));
            work(signals).await;
        }
        Err(error) => drop(ready.send(Err(error))),
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(wait()))
        .map_err(failed)?;
    listening.recv().unwrap_or(Ok(())).map_err(failed)
}

/// Completes on SIGINT or SIGTERM from now on.
pub(crate) fn stop_signal() -> impl Future<Output = ()> + Send + 'static {
    let signals = Signals::new();
    async move {
        match signals {
            Ok(mut signals) => signals.next().await,
            // Without a handler the default action of the signal ends the process, which what serves must survive.
            Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?))
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
