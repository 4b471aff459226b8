//! Connections: who may have one, how long it may take to say something, and how it ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, Sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// What a connection may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    /// Connections at once.
    pub(crate) count: usize,
    /// Time for the head of a request, and for shaking hands.
    pub(crate) head: Duration,
    /// Time in which a client must take something of what is sent.
    pub(crate) stall: Duration,
    /// Time for what is under way when the server stops.
    pub(crate) grace: Duration,
}

/// Bytes of a request's head; hyper's own default is six times that.
const HEAD_BYTES: usize = 64 << 10;

/// Lines of a request's head. OpenAI's clients send some twenty.
const HEAD_LINES: usize = 100;

/// Between two tries where the system has no more sockets.
const BREATH: Duration = Duration::from_millis(50);

/// After the time for what is under way: who is broken off is told so.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a server ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    /// Nothing new is taken.
    Stopping,
    /// What is under way is broken off.
    Over,
}

/// Serves connections until `stop`, then waits for what is under way. Each is by TLS where there is an
/// `acceptor`.
pub(crate) async fn serve(
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    router: Router,
    limits: ConnectionLimits,
    stop: &Notify,
    enter: impl Fn(Phase),
) {
    let mut builder = http1::Builder::new();
    // Without a timer the time limit would do nothing.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES)
        .max_header_size(HEAD_BYTES)
        .max_headers(HEAD_LINES);
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.count));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.notified() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!("as many connections as may are open");
            continue;
        };
        // A token goes out when it is drawn; that it may wait for more is a wish, not a must.
        let _ = stream.set_nodelay(true);
        let stream = Patient { stream, limit: limits.stall, timer: None };
        let service = TowerToHyperService::new(router.clone());
        let (builder, watcher, acceptor) = (builder.clone(), graceful.watcher(), acceptor.clone());
        tokio::spawn(async move {
            let _place = place;
            let ended = match acceptor {
                None => {
                    watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await
                }
                Some(acceptor) => match timeout(limits.head, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        watcher.watch(builder.serve_connection(TokioIo::new(stream), service)).await
                    }
                    Ok(Err(error)) => return tracing::debug!(%error, "hands were not shaken"),
                    Err(_) => return tracing::debug!("hands were not shaken in time"),
                },
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    enter(Phase::Stopping);
    let closed = graceful.shutdown();
    tokio::pin!(closed);
    if timeout(limits.grace, &mut closed).await.is_err() {
        tracing::warn!("what was still under way is ended");
        enter(Phase::Over);
        // Whoever does not listen to that either is cut off.
        let _ = timeout(FAREWELL, closed).await;
    }
}

/// A stream whose writes fail once nothing of them is taken for some time.
struct Patient {
    stream: TcpStream,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.timer = None;
            return result;
        }
        let limit = self.limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
