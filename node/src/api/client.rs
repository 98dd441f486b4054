//! The API's client: what the command line uses when a node owns the data dir.

use std::path::Path;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Pong;
use super::lines;
use super::pass::Pass;
use crate::node::EVENTS;
use crate::report::{
    Failure, FailureKind, FetchEvent, FetchRequest, GcReport, GcRequest, ImportEvent, ImportRequest, ListEntry, PeerReport,
    PinReport, PublishEvent, PublishRequest, RemoveReport, ShowReport, StatusReport, VerifyEvent, VerifyRequest,
};

/// How long a connection to this machine may take.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an ordinary answer may take; re-reading a large store is not one.
const ANSWER: Duration = Duration::from_secs(30);
/// How long re-reading may take: a week for the largest.
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);

/// Speaks to the node that owns a data dir.
#[derive(Debug, Clone)]
pub struct Client(Pass);

impl Client {
    /// The node of this data dir, if one runs and answers.
    pub async fn find(data_dir: &Path) -> Option<Self> {
        let client = Self(Pass::read(data_dir)?);
        // A node of before there was a ping has its state to tell.
        let answers = client.ask::<Pong>(Method::GET, "/v1/ping", ANSWER).await.is_ok() || client.status().await.is_ok();
        answers.then_some(client)
    }

    /// The state of the node.
    pub async fn status(&self) -> Result<StatusReport, Failure> {
        self.ask(Method::GET, "/v1/status", ANSWER).await
    }

    /// What the store holds.
    pub async fn list(&self) -> Result<Vec<ListEntry>, Failure> {
        self.ask(Method::GET, "/v1/list", ANSWER).await
    }

    /// The peers connected.
    pub async fn peers(&self) -> Result<Vec<PeerReport>, Failure> {
        self.ask(Method::GET, "/v1/peers", ANSWER).await
    }

    /// A model or blob in full.
    pub async fn show(&self, target: &str) -> Result<ShowReport, Failure> {
        self.ask(Method::GET, &with_target("/v1/show", target), ANSWER).await
    }

    /// Re-reads what is held. Dropping the receiver ends it.
    pub async fn verify(&self, request: &VerifyRequest) -> Result<mpsc::Receiver<VerifyEvent>, Failure> {
        self.stream("/v2/verify", request, |message| VerifyEvent::Failed(Failure::new(FailureKind::Internal, message))).await
    }

    /// Removes a model or blob.
    pub async fn remove(&self, target: &str) -> Result<RemoveReport, Failure> {
        let hash = p2pweights_protocol::link::Link::parse_target(target)?.hash();
        self.ask(Method::DELETE, &format!("/v1/blobs/{hash}"), LONG).await
    }

    /// Pins a model or blob, or takes that back.
    pub async fn set_pinned(&self, target: &str, pinned: bool) -> Result<PinReport, Failure> {
        let path = if pinned { "/v1/pin" } else { "/v1/unpin" };
        self.ask(Method::POST, &with_target(path, target), ANSWER).await
    }

    /// Clears away and evicts.
    pub async fn gc(&self, request: &GcRequest) -> Result<GcReport, Failure> {
        let path = format!("/v1/gc?dry_run={}&older_than_s={}", request.dry_run, request.older_than_s);
        self.ask(Method::POST, &path, LONG).await
    }

    /// Fetches. Dropping the receiver cancels it.
    pub async fn fetch(&self, request: &FetchRequest) -> Result<mpsc::Receiver<FetchEvent>, Failure> {
        self.stream("/v1/fetch", request, |message| FetchEvent::Failed(Failure::new(FailureKind::Internal, message))).await
    }

    /// Publishes. Dropping the receiver cancels it.
    pub async fn publish(&self, request: &PublishRequest) -> Result<mpsc::Receiver<PublishEvent>, Failure> {
        self.stream("/v1/publish", request, |message| PublishEvent::Failed(Failure::new(FailureKind::Internal, message))).await
    }

    /// Imports. Dropping the receiver cancels it.
    pub async fn import(&self, request: &ImportRequest) -> Result<mpsc::Receiver<ImportEvent>, Failure> {
        self.stream("/v1/import", request, |message| ImportEvent::Failed(Failure::new(FailureKind::Internal, message))).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, patience: Duration) -> Result<T, Failure> {
        let exchange = async {
            let response = self.send(method, path, Body::empty()).await?;
            let good = response.status() == StatusCode::OK;
            let bytes = Limited::new(response.into_body(), lines::LINE_BYTES).collect().await;
            let bytes: Bytes = bytes.map_err(|error| broken(error.to_string()))?.to_bytes();
            if good {
                return serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()));
            }
            Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| broken(String::from_utf8_lossy(&bytes).into_owned())))
        };
        timeout(patience, exchange).await.map_err(|_| broken("no answer in time".to_owned()))?
    }

    async fn stream<T: DeserializeOwned + Send + 'static>(
        &self,
        path: &str,
        request: &impl Serialize,
        failed: impl Fn(String) -> T + Send + Sync + 'static,
    ) -> Result<mpsc::Receiver<T>, Failure> {
        let body = serde_json::to_vec(request).expect("requests have only text keys");
        let response = timeout(ANSWER, self.send(Method::POST, path, Body::from(body))).await;
        let response = response.map_err(|_| broken("no answer in time".to_owned()))??;
        if response.status() != StatusCode::OK {
            let bytes = Limited::new(response.into_body(), lines::LINE_BYTES).collect().await;
            let bytes = bytes.map_err(|error| broken(error.to_string()))?.to_bytes();
            return Err(serde_json::from_slice(&bytes).unwrap_or_else(|_| broken(String::from_utf8_lossy(&bytes).into_owned())));
        }
        let (events, receiver) = mpsc::channel(EVENTS);
        tokio::spawn(lines::read(response.into_body(), events, failed));
        Ok(receiver)
    }

    async fn send(&self, method: Method, path: &str, body: Body) -> Result<axum::http::Response<Incoming>, Failure> {
        let connect = timeout(CONNECT, TcpStream::connect(self.0.address)).await;
        let stream = connect.map_err(|_| broken("no connection in time".to_owned()))?.map_err(|e| broken(e.to_string()))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broken(error.to_string()))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.0.address.to_string())
            .header(header::AUTHORIZATION, format!("Bearer {}", self.0.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| broken(error.to_string()))?;
        sender.send_request(request).await.map_err(|error| broken(error.to_string()))
    }
}

fn with_target(path: &str, target: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("target", target).finish();
    format!("{path}?{query}")
}

fn broken(message: String) -> Failure {
    Failure::new(FailureKind::Internal, format!("the running node's API: {message}"))
}
