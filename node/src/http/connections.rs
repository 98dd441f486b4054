//! HTTP/1.1 connections with limits, for whoever can reach the address is let in.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Manners;
use super::patience::Patient;
use super::seats::{Seat, Seats, Served};

/// How long a request's head may take, and a connection be idle: clients keep theirs for the next file.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// Largest head of a request, and the largest that may wait to be written beside the portions of a file.
const HEAD_BYTES: usize = 64 * 1024;
/// Most headers of a request: clients send a dozen.
const HEADERS: usize = 100;
/// How long a client may take nothing of what is sent: as long as the patience of those that read slowly by design.
const WRITE_TIME: Duration = Duration::from_secs(60);
/// How long after a failure to accept, such as for want of file descriptors, it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What answers requests.
pub trait Answers: Send + Sync + 'static {
    /// Answers a request that came to this address.
    fn answer(&self, request: Request<Incoming>, own: SocketAddr) -> impl Future<Output = Response<Body>> + Send;
}

/// Serves connections until stopped; then lets those that are served finish, until the deadline has passed.
pub async fn serve(
    listener: TcpListener,
    own: SocketAddr,
    service: Arc<impl Answers>,
    manners: Manners,
    stop: CancellationToken,
) {
    let Manners { name, connections, deadline } = manners;
    let seats = Seats::new(connections);
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => match seats.take() {
                Some(seat) => {
                    tasks.spawn(connection(stream, seat, own, Arc::clone(&service), stop.clone()));
                }
                None => debug!("all connections of {name} are in use; one more was refused"),
            },
            Err(error) => {
                warn!(%error, "{name} could not accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(deadline, all).await.is_err() {
        tasks.shutdown().await;
    }
}

async fn connection(stream: TcpStream, seat: Seat, own: SocketAddr, service: Arc<impl Answers>, stop: CancellationToken) {
    // Small answers go out at once; fails only if the connection is gone already.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(Patient::new(stream, WRITE_TIME));
    let served = |request: Request<Incoming>| {
        let (service, served) = (Arc::clone(&service), seat.serve());
        async move {
            let (parts, inner) = service.answer(request, own).await.into_parts();
            Ok::<_, Infallible>(Response::from_parts(parts, Attended { inner, _served: served }))
        }
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(io, service_fn(served));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = seat.left() => Ok(()),
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a client's connection ended");
    }
}

/// A body whose connection counts as served until it is gone.
struct Attended {
    inner: Body,
    _served: Served,
}

impl HttpBody for Attended {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
