//! Figures for monitoring: what `status` says, in the form that Prometheus and others scrape (OpenMetrics 1.0). Read only, without a token:
//! nothing in it names a peer, a file or a model. The figures are listed in `docs/metrics.md`.

mod exposition;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinError;
use tokio::time::Instant;

use crate::http::{Answers, Manners, Server};
use crate::node::Core;
use crate::report::{Failure, FailureKind};

/// Where the figures are.
const PATH: &str = "/metrics";
/// Scrapers at a time: there is one, or a few.
const CONNECTIONS: usize = 16;
/// How old figures may be. To count what a store has takes some time if that is much, so those who ask at once share an answer.
const FRESH: Duration = Duration::from_secs(1);

/// Listens for scrapers.
pub async fn start(core: &Arc<Core>, address: SocketAddr, deadline: Duration) -> Result<Server, Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let advice = "choose another with --metrics, or `off` for none";
        Failure::new(FailureKind::Network, format!("metrics cannot be served on {address}: {error}; {advice}"))
    })?;
    let figures = Figures { core: Arc::clone(core), last: Arc::default() };
    let manners = Manners { name: "metrics", connections: CONNECTIONS, deadline };
    Server::start(listener, figures, manners).map_err(|error| Failure::internal(&error))
}

/// The figures, and when they were taken last.
struct Figures {
    core: Arc<Core>,
    last: Arc<Mutex<Option<(Instant, String)>>>,
}

impl Answers for Figures {
    async fn answer(&self, request: Request<Incoming>, _own: SocketAddr) -> Response {
        if request.uri().path() != PATH {
            return (StatusCode::NOT_FOUND, format!("the figures are at {PATH}\n")).into_response();
        }
        match *request.method() {
            Method::GET => match self.text().await {
                Ok(text) => ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], text).into_response(),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
            },
            Method::HEAD => ([(header::CONTENT_TYPE, exposition::CONTENT_TYPE)], Body::empty()).into_response(),
            _ => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response(),
        }
    }
}

impl Figures {
    /// Goes on to its end even if the scraper does not wait for it: the next one finds it.
    async fn text(&self) -> Result<String, JoinError> {
        let (core, last) = (Arc::clone(&self.core), Arc::clone(&self.last).lock_owned().await);
        let taking = async move {
            let mut last = last;
            match &*last {
                Some((taken, text)) if taken.elapsed() < FRESH => text.clone(),
                _ => {
                    let text = exposition::text(&core.status(None).await);
                    *last = Some((Instant::now(), text.clone()));
                    text
                }
            }
        };
        self.core.tasks.spawn(taking).await
    }
}
