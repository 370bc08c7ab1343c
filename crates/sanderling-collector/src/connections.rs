//! Connections of clients: how many there are, how long one may be idle, and how they end.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response;
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// How long to wait where the machine has no socket left, so that open requests can give some back.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Limits of the connections of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Most at one time; others wait until one ends.
    pub most: usize,
    /// How long a client may take for the head of a request, and be idle before it.
    pub head_time: Duration,
    /// How long a client may take nothing of an answer.
    pub write_time: Duration,
    /// How long requests are taken when it is asked to stop, for those that are on their way: each is told to be the last of its connection.
    pub linger: Duration,
}

impl Default for Connections {
    /// 4,096; 620 seconds, as load balancers keep idle connections for up to 600 and have to be the ones that close them, or a request
    /// would meet one that closes; 30 seconds; a quarter of a second.
    fn default() -> Self {
        Self {
            most: 4096,
            head_time: Duration::from_secs(620),
            write_time: Duration::from_secs(30),
            linger: Duration::from_millis(250),
        }
    }
}

impl Connections {
    /// Serves HTTP/1.1 until `shutdown` completes and [`Connections::linger`] is over, then finishes open requests, for at most `grace`.
    pub async fn serve(
        self,
        router: Router,
        listener: TcpListener,
        grace: Duration,
        shutdown: impl Future<Output = ()>,
    ) {
        let is_stopping = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&is_stopping);
        let mut shutdown = pin!(async move {
            shutdown.await;
            asked.store(true, Ordering::Relaxed);
            tokio::time::sleep(self.linger).await;
        });
        let router = router.layer(map_response(move |mut response: Response| {
            if is_stopping.load(Ordering::Relaxed) {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            std::future::ready(response)
        }));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.head_time);
        let service = TowerToHyperService::new(router);
        let open = GracefulShutdown::new();
        let slots = Arc::new(Semaphore::new(self.most));
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &slots) => accepted,
                () = &mut shutdown => break,
            };
            let Some((stream, slot)) = accepted else { break };
            let stream = TokioIo::new(Patient { stream, limit: self.write_time, stalled: None });
            let connection = open.watch(http.serve_connection(stream, service.clone()));
            tokio::spawn(async move {
                // A client that goes away or is too slow is nobody's fault.
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection broke off");
                }
                drop(slot);
            });
        }
        drop(listener);
        if tokio::time::timeout(grace, open.shutdown()).await.is_err() {
            tracing::warn!("open requests did not finish in time");
        }
    }
}

/// The next connection, when there is a slot for it; none only after the last slot was closed, which nobody does.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Some((stream, slot)),
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether a connection was gone before it was accepted.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// A stream whose writes fail when the other end takes nothing for so long: hyper waits for it for ever.
struct Patient {
    stream: TcpStream,
    limit: Duration,
    /// When a write that waits has waited long enough.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn unless_stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.unless_stalled(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.unless_stalled(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A socket has no buffer of its own, so these do not wait.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};
    use std::time::Instant;

    use axum::routing::get;
    use tokio::sync::oneshot;

    use super::*;

    const PATIENT: Connections = Connections {
        most: 2,
        head_time: Duration::from_secs(60),
        write_time: Duration::from_secs(60),
        linger: Duration::from_millis(250),
    };
    const SHORT: Duration = Duration::from_millis(300);
    const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const SLOW_REQUEST: &str = "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n";

    /// Runs `clients` against a server, then stops it. How long it took to stop.
    fn with_server(connections: Connections, grace: Duration, clients: impl FnOnce(SocketAddr)) -> Duration {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let slow = || async { tokio::time::sleep(Duration::from_millis(700)).await };
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/slow", get(slow))
            .route("/endless", get(std::future::pending::<()>));
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move { drop(stopped.await) };
        let served = runtime.spawn(connections.serve(router, listener, grace, shutdown));
        clients(address);
        let asked = Instant::now();
        stop.send(()).unwrap();
        runtime.block_on(served).unwrap();
        asked.elapsed()
    }

    fn send(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    /// Everything until the server closes.
    fn rest(mut stream: &TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn idle_clients_and_those_that_never_end_a_head_are_left() {
        with_server(Connections { head_time: SHORT, ..PATIENT }, Duration::from_secs(5), |address| {
            let start = Instant::now();
            assert!(!rest(&send(address, "GET / HT")).contains("here"));
            let idle = rest(&send(address, REQUEST));
            assert!(idle.starts_with("HTTP/1.1 200 OK") && idle.ends_with("here"), "{idle}");
            assert!(start.elapsed() >= 2 * SHORT);
        });
    }

    #[test]
    fn a_client_too_many_waits_until_another_is_gone() {
        with_server(PATIENT, Duration::from_secs(5), |address| {
            let open = [send(address, REQUEST), send(address, REQUEST)];
            let third = send(address, REQUEST);
            third.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            assert!((&third).read(&mut [0]).is_err(), "it is not answered");
            third.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            drop(open);
            let mut answer = [0; 15];
            (&third).read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200 OK");
        });
    }

    #[test]
    fn a_client_that_takes_no_answer_is_left() {
        with_server(
            Connections { most: 1, write_time: SHORT, ..PATIENT },
            Duration::from_secs(5),
            |address| {
                let mut deaf = send(address, REQUEST);
                deaf.set_write_timeout(Some(SHORT)).unwrap();
                // Until the buffers of both ends are full, or it was left.
                let many = REQUEST.repeat(1000);
                while deaf.write_all(many.as_bytes()).is_ok() {}
                assert!(
                    rest(&send(address, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"))
                        .ends_with("here")
                );
            },
        );
    }

    #[test]
    fn open_requests_are_finished_and_idle_connections_are_not_waited_for() {
        let mut clients = Vec::new();
        let took = with_server(PATIENT, Duration::from_secs(20), |address| {
            clients = vec![send(address, SLOW_REQUEST), send(address, REQUEST)];
            std::thread::sleep(Duration::from_millis(100));
        });
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert!(rest(&clients[0]).starts_with("HTTP/1.1 200 OK"));
    }

    #[test]
    fn requests_that_are_on_their_way_are_answered_and_told_to_be_the_last() {
        let mut clients = Vec::new();
        let connections = Connections { most: 64, linger: Duration::from_secs(1), ..PATIENT };
        let took = with_server(connections, Duration::from_secs(20), |address| {
            let idle = send(address, REQUEST);
            std::thread::sleep(Duration::from_millis(100));
            clients = (0..32).map(|_| send(address, REQUEST)).collect();
            // One that was answered before asks once more when it is stopping.
            clients.push(idle);
            let mut last = clients[32].try_clone().unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(300));
                last.write_all(REQUEST.as_bytes()).unwrap();
            });
        });
        assert!(took >= Duration::from_secs(1), "{took:?}");
        for (at, client) in clients.iter().enumerate() {
            let answers = rest(client);
            let expected = if at == 32 { 2 } else { 1 };
            assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), expected, "{at}: {answers}");
        }
    }

    #[test]
    fn requests_that_do_not_finish_in_time_are_given_up() {
        let mut client = None;
        let took = with_server(PATIENT, Duration::from_millis(50), |address| {
            client = Some(send(address, "GET /endless HTTP/1.1\r\nhost: a\r\n\r\n"));
            std::thread::sleep(Duration::from_millis(100));
        });
        assert!(took < Duration::from_secs(10), "{took:?}");
    }
}
