//! The API's server: routes to the node's own functions, nothing else.

use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::pass::Pass;
use super::{Pong, lines};
use crate::failure::phrase;
use crate::node::{AGENT, Core};
use crate::report::{Failure, FailureKind, FetchRequest, GcRequest, ImportRequest, PublishRequest, VerifyEvent, VerifyRequest};

/// Longest request body: a fetch with a few thousand globs.
const BODY_BYTES: usize = 1024 * 1024;

/// The API of a running node.
pub struct Server {
    address: SocketAddr,
    data_dir: PathBuf,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Context {
    core: Arc<Core>,
    pass: Pass,
}

impl Server {
    /// Listens, and leaves a pass in the data dir.
    pub async fn start(core: Arc<Core>, address: SocketAddr, data_dir: &FilePath) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let advice = "choose another with --api, or port 0 for a free one";
            Failure::new(FailureKind::Network, format!("the API cannot listen on {address}: {error}; {advice}"))
        })?;
        let disk = |error: std::io::Error| {
            Failure::new(FailureKind::Disk, format!("{} cannot be written: {error}", data_dir.join("api.json").display()))
        };
        let address = listener.local_addr().map_err(disk)?;
        let pass = Pass::fresh(address).map_err(disk)?;
        pass.write(data_dir).map_err(disk)?;
        let stop = CancellationToken::new();
        let router = router(Context { core, pass });
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                warn!(error = phrase(&error), "the API failed");
            }
        });
        info!(%address, "API");
        Ok(Self { address, data_dir: data_dir.to_owned(), stop, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests; what is under way has this long to end.
    pub async fn shutdown(mut self, deadline: Duration) {
        Pass::remove(&self.data_dir);
        self.stop.cancel();
        if tokio::time::timeout(deadline, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

fn router(context: Context) -> Router {
    Router::new()
        .route("/v1/ping", get(ping))
        .route("/v1/status", get(status))
        .route("/v1/list", get(list))
        .route("/v1/peers", get(peers))
        .route("/v1/show", get(show))
        .route("/v1/verify", post(verify))
        .route("/v2/verify", post(verify_lines))
        .route("/v1/pin", post(pin))
        .route("/v1/unpin", post(unpin))
        .route("/v1/gc", post(gc))
        .route("/v1/fetch", post(fetch))
        .route("/v1/publish", post(publish))
        .route("/v1/import", post(import))
        .route("/v1/blobs/{hash}", delete(remove))
        .layer(middleware::from_fn_with_state(context.clone(), admit))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(context)
}

async fn admit(State(context): State<Context>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if context.pass.admits(header) {
        return next.run(request).await;
    }
    let message = "requests carry `Authorization: Bearer` with the token in api.json of the data dir";
    (StatusCode::UNAUTHORIZED, Json(Failure::new(FailureKind::Refused, message))).into_response()
}

/// A result as a response: JSON of the value, or of the failure with a status that fits.
fn answer<T: serde::Serialize>(result: Result<T, Failure>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(failure) => {
            let status = match failure.kind {
                FailureKind::Usage => StatusCode::BAD_REQUEST,
                FailureKind::NotFound => StatusCode::NOT_FOUND,
                FailureKind::Refused => StatusCode::CONFLICT,
                FailureKind::Disk => StatusCode::INSUFFICIENT_STORAGE,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, Json(failure)).into_response()
        }
    }
}

#[derive(Deserialize)]
struct Target {
    target: String,
}

#[derive(Deserialize)]
struct MaybeTarget {
    target: Option<String>,
}

async fn ping() -> Json<Pong> {
    Json(Pong { agent: AGENT.to_owned() })
}

async fn status(State(context): State<Context>) -> Response {
    Json(context.core.status(Some(context.pass.address.to_string())).await).into_response()
}

async fn list(State(context): State<Context>) -> Response {
    answer(context.core.list().await)
}

async fn peers(State(context): State<Context>) -> Response {
    answer(context.core.peers().await)
}

async fn show(State(context): State<Context>, Query(Target { target }): Query<Target>) -> Response {
    answer(context.core.show(target).await)
}

async fn verify(State(context): State<Context>, Query(MaybeTarget { target }): Query<MaybeTarget>) -> Response {
    let mut events = context.core.verify(VerifyRequest { target, ..VerifyRequest::default() });
    while let Some(event) = events.recv().await {
        match event {
            VerifyEvent::Done(report) => return answer(Ok(report)),
            VerifyEvent::Failed(failure) => return answer::<()>(Err(failure)),
            VerifyEvent::Progress { .. } | VerifyEvent::Blob(_) | VerifyEvent::Mending { .. } => (),
        }
    }
    answer::<()>(Err(Failure::new(FailureKind::Interrupted, "the node is shutting down")))
}

async fn verify_lines(State(context): State<Context>, Json(request): Json<VerifyRequest>) -> Response {
    lines::body(context.core.verify(request)).into_response()
}

async fn remove(State(context): State<Context>, Path(hash): Path<String>) -> Response {
    answer(context.core.remove(hash).await)
}

async fn pin(State(context): State<Context>, Query(Target { target }): Query<Target>) -> Response {
    answer(context.core.set_pinned(target, true).await)
}

async fn unpin(State(context): State<Context>, Query(Target { target }): Query<Target>) -> Response {
    answer(context.core.set_pinned(target, false).await)
}

async fn gc(State(context): State<Context>, Query(request): Query<GcRequest>) -> Response {
    answer(context.core.gc(request).await)
}

async fn fetch(State(context): State<Context>, Json(request): Json<FetchRequest>) -> Response {
    lines::body(context.core.fetch(request)).into_response()
}

async fn publish(State(context): State<Context>, Json(request): Json<PublishRequest>) -> Response {
    lines::body(context.core.publish(request)).into_response()
}

async fn import(State(context): State<Context>, Json(request): Json<ImportRequest>) -> Response {
    lines::body(context.core.import(request)).into_response()
}
