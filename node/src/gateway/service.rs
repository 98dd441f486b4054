//! Requests to answers: what is asked for, of which model, by whom it may be read. Never looks at a token, so none can be logged or passed on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Bytes, HttpBody};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use p2pweights_protocol::link::Link;
use p2pweights_protocol::manifest::Shard;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::arrivals::Arrivals;
use super::body::{Buffers, FileBytes, body};
use super::catalog::{Catalog, Wait};
use super::config::GatewayConfig;
use super::file::{self, respond};
use super::host::Hosts;
use super::model::Model;
use super::refusal::{REPO_COMMIT, Refusal, ascii};
use super::registry::{self, Blob};
use super::route::{About, FilePath, Route, route};
use crate::http::Answers;
use crate::names::{MAIN, ModelId};
use crate::node::{Core, blocking};

/// Longest body of a request: the paths of the largest manifest would be longer, but nobody asks for all of them so.
const BODY_BYTES: usize = 1024 * 1024;
/// How long it may take to come: as long as a head.
const BODY_TIME: Duration = Duration::from_secs(60);
/// Listings of files that are made at a time: that of the largest model has some megabytes.
const LISTINGS: usize = 4;
/// What all that are on their way may take together, in KiB.
const LISTINGS_KIB: usize = 64 * 1024;
/// How long one waits for its turn, and for room.
const LISTING_TIME: Duration = Duration::from_secs(60);
/// What pages may read of an answer.
const EXPOSED: &str = "X-Repo-Commit, ETag, Content-Range, Content-Length, Accept-Ranges, X-Linked-Size, X-Linked-ETag, X-Error-Code, \
                       X-Error-Message, Location, Content-Disposition";

/// What answers requests.
pub struct Service {
    core: Arc<Core>,
    catalog: Catalog,
    arrivals: Arc<Arrivals>,
    buffers: Arc<Buffers>,
    hosts: Hosts,
    listing: Arc<Semaphore>,
    listings_kib: Arc<Semaphore>,
}

type Answer = Result<Response, Refusal>;

impl Answers for Service {
    async fn answer(&self, request: Request<Incoming>, own: SocketAddr) -> Response {
        let (parts, incoming) = request.into_parts();
        let origin = parts.headers.get(header::ORIGIN).cloned();
        let head = parts.method == Method::HEAD;
        let mut response = match self.admit(&parts) {
            Err(refusal) => refusal.into_response(),
            Ok(()) if parts.method == Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
            Ok(()) => self.dispatch(&parts, incoming, own).await.unwrap_or_else(IntoResponse::into_response),
        };
        if head {
            let body = std::mem::take(response.body_mut());
            // What is told as if for a `GET` has its length, too; a file's answer has its own already.
            if let Some(length @ 1..) = body.size_hint().exact() {
                response.headers_mut().entry(header::CONTENT_LENGTH).or_insert(length.into());
            }
        }
        let admitted = |origin: &HeaderValue| origin.to_str().is_ok_and(|origin| self.hosts.admit_origin(origin));
        if let Some(origin) = origin.filter(admitted) {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::VARY, HeaderValue::from_static("Origin"));
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST, OPTIONS"));
            let asked =
                HeaderValue::from_static("Authorization, Content-Type, Range, If-None-Match, If-Range, X-HF-Download-Counter");
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
        }
        response
    }
}

impl Service {
    /// For the models of this node.
    pub fn new(core: &Arc<Core>, config: &GatewayConfig) -> Self {
        Self {
            core: Arc::clone(core),
            catalog: Catalog::new(Arc::clone(core), config.models.clone()),
            arrivals: Arc::new(Arrivals::new(Arc::clone(core))),
            buffers: Arc::default(),
            hosts: Hosts::new(&config.hosts),
            listing: Arc::new(Semaphore::new(LISTINGS)),
            listings_kib: Arc::new(Semaphore::new(LISTINGS_KIB)),
        }
    }

    /// Whether the caller calls this gateway by a name of its own.
    fn admit(&self, parts: &Parts) -> Result<(), Refusal> {
        let mut named = parts.headers.get_all(header::HOST).iter();
        let host = named.next().and_then(|host| host.to_str().ok());
        // A target that names a host goes before the header (RFC 9112).
        let host = parts.uri.authority().map(|authority| authority.as_str()).or(host);
        if named.next().is_some() || !host.is_some_and(|host| self.hosts.admit(host)) {
            return Err(Refusal::WrongHost);
        }
        Ok(())
    }

    async fn dispatch(&self, parts: &Parts, incoming: Incoming, own: SocketAddr) -> Answer {
        let route = route(parts.uri.path());
        let posted = matches!(route, Route::Model(_, About::Paths(_)));
        let expected = if posted { &[Method::POST][..] } else { &[Method::GET, Method::HEAD] };
        match route {
            Route::Malformed => return Err(Refusal::Malformed("the path is not UTF-8")),
            Route::Nothing => return Err(Refusal::Nothing),
            Route::NoRepository => return Err(Refusal::NoModel),
            _ if !expected.contains(&parts.method) => return Err(Refusal::Method),
            _ => (),
        }
        match route {
            Route::Models => Ok(self.models()),
            Route::Model(id, About::Info(revision)) => {
                let revision = revision.or_else(|| query(parts, "revision")).unwrap_or_else(|| MAIN.to_owned());
                let (model, _) = self.find(&id, &revision).await?;
                self.told(model, move |model| Ok(model.info(id.as_str()))).await
            }
            Route::Model(id, About::Tree(revision, folder)) => {
                let (model, _) = self.find(&id, &revision).await?;
                let (recursive, expand) = (switch(parts, "recursive"), switch(parts, "expand"));
                let tree = move |model: &Model| {
                    let no_entry = || Refusal::NoEntry { path: folder.clone(), commit: model.commit().to_owned() };
                    model.tree(&folder, recursive, expand).ok_or_else(no_entry)
                };
                self.told(model, tree).await
            }
            Route::Model(id, About::Paths(revision)) => {
                let (model, _) = self.find(&id, &revision).await?;
                let Paths { paths, expand } = paths(&parts.headers, incoming).await?;
                self.told(model, move |model| Ok(model.paths(&paths, expand))).await
            }
            Route::Model(id, About::Refs) => self.refs(&id, parts).await,
            Route::Model(id, About::Commits(revision)) => {
                let (model, _) = self.find(&id, &revision).await?;
                self.told(model, |model| Ok(model.commits())).await
            }
            Route::Model(id, About::Discussions) => {
                self.find(&id, MAIN).await?;
                Ok(Json(json!({ "discussions": [], "count": 0, "start": 0 })).into_response())
            }
            Route::Model(id, About::AuthCheck) => {
                self.find(&id, MAIN).await?;
                Ok(Json(json!({})).into_response())
            }
            Route::File(id, path) => self.file(&id, &path, parts).await,
            Route::Registry => Ok(Json(json!({})).into_response()),
            Route::RegistryManifest(id, tag) => self.registry_manifest(&id, &tag, parts).await,
            Route::RegistryBlob(id, digest) => self.registry_blob(&id, &digest, parts, own).await,
            Route::NoRepository | Route::Nothing | Route::Malformed => Err(Refusal::Nothing),
        }
    }

    async fn find(&self, id: &ModelId, revision: &str) -> Result<(Arc<Model>, Link), Refusal> {
        self.catalog.find(id, revision, Wait::Long).await
    }

    /// Tells what a model's listing says. It is made on a blocking thread, and counts until it is sent: slow readers keep no more than that.
    async fn told(&self, model: Arc<Model>, say: impl FnOnce(&Model) -> Result<Value, Refusal> + Send + 'static) -> Answer {
        let turn = timeout(LISTING_TIME, Arc::clone(&self.listing).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Refusal::Crowded) };
        let commit = ascii(model.commit());
        // The turn ends with the work, also if nobody waits for that any more.
        let (text, _turn) = blocking(move || Ok((say(&model).map(|value| value.to_string()), turn))).await?;
        let text = text?;
        let kib = text.len().div_ceil(1024).min(LISTINGS_KIB) as u32;
        let room = timeout(LISTING_TIME, Arc::clone(&self.listings_kib).acquire_many_owned(kib)).await;
        let Ok(Ok(room)) = room else { return Err(Refusal::Crowded) };
        let body = Bytes::from_owner(Listing { text, _room: room });
        Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json")), (REPO_COMMIT, commit)], body).into_response())
    }

    fn models(&self) -> Response {
        let models = self.catalog.ids().into_iter().map(|id| json!({ "id": id, "modelId": id, "private": false, "tags": [] }));
        Json(models.collect::<Value>()).into_response()
    }

    async fn refs(&self, id: &ModelId, parts: &Parts) -> Answer {
        let branches = self.catalog.branches(id).await?.into_iter();
        let branches = branches.map(|(name, commit)| {
            let full = format!("refs/heads/{name}");
            json!({ "name": name, "ref": full, "targetCommit": commit })
        });
        let mut refs = json!({ "branches": branches.collect::<Value>(), "converts": [], "tags": [] });
        if query(parts, "include_prs").is_some() {
            refs["pullRequests"] = json!([]);
        }
        Ok(Json(refs).into_response())
    }

    async fn file(&self, id: &ModelId, FilePath { revision, path, raw }: &FilePath, parts: &Parts) -> Answer {
        let wait = if parts.method == Method::HEAD { Wait::Briefly } else { Wait::Long };
        let (model, link) = self.catalog.find(id, revision, wait).await?;
        let no_entry = || Refusal::NoEntry { path: path.clone(), commit: model.commit().to_owned() };
        let shard = model.file(path).ok_or_else(no_entry)?;
        if revision != model.commit() {
            // A branch may move between a client's questions, a commit does not. Relative, for the client knows us by whatever name.
            let query = parts.uri.query().map_or_else(String::new, |query| format!("?{query}"));
            let location = format!("/{id}/resolve/{}/{raw}{query}", model.commit());
            let location = HeaderValue::from_str(&location).map_err(|_| Refusal::Malformed("the path can stand in no header"))?;
            let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
            response.headers_mut().insert(header::LOCATION, location);
            response.headers_mut().insert(REPO_COMMIT, ascii(model.commit()));
            return Ok(response);
        }
        Ok(self.bytes(&model, link, shard, parts))
    }

    fn bytes(&self, model: &Model, link: Link, shard: &Shard, parts: &Parts) -> Response {
        let etag = shard.etag().unwrap_or_default();
        let about = file::Parts { method: &parts.method, headers: &parts.headers, commit: model.commit(), shard, etag: &etag };
        let file = FileBytes { blob: shard.blake3(), size: shard.size(), link };
        respond(&about, |range| body(&self.core, &self.arrivals, &self.buffers, file, range))
    }

    async fn registry_manifest(&self, id: &ModelId, tag: &str, parts: &Parts) -> Answer {
        let (model, _) = self.find(id, MAIN).await?;
        let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let manifest = registry::manifest(&model, tag, agent).ok_or_else(|| Refusal::NoTag(tag.to_owned()))?;
        Ok(([(header::CONTENT_TYPE, registry::MANIFEST_TYPE)], manifest.to_string()).into_response())
    }

    async fn registry_blob(&self, id: &ModelId, digest: &str, parts: &Parts, own: SocketAddr) -> Answer {
        let (model, link) = self.find(id, MAIN).await?;
        let mut response = match registry::blob(&model, digest).ok_or(Refusal::Nothing)? {
            Blob::Config(config) => ([(header::CONTENT_TYPE, "application/octet-stream")], config).into_response(),
            Blob::File(shard) => self.bytes(&model, link, shard, parts),
        };
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host = host.map_or_else(|| own.to_string(), str::to_owned);
        response.headers_mut().insert(header::LOCATION, registry::location(&host, parts.uri.path()));
        Ok(response)
    }
}

/// A listing on its way; what it takes is free again when it is dropped.
struct Listing {
    text: String,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Listing {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

/// A value of the query.
fn query(parts: &Parts, name: &str) -> Option<String> {
    let query = parts.uri.query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes()).find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

fn switch(parts: &Parts, name: &str) -> bool {
    query(parts, name).is_some_and(|value| is_on(&value))
}

fn is_on(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value == "1"
}

/// What the body of a request for paths says.
struct Paths {
    paths: Vec<String>,
    expand: bool,
}

/// Reads such a body: a form, or JSON.
async fn paths(headers: &HeaderMap, incoming: Incoming) -> Result<Paths, Refusal> {
    let broken = Refusal::Malformed("the body is longer than 1 MiB, broke off, or took too long");
    let Ok(Ok(body)) = timeout(BODY_TIME, Limited::new(incoming, BODY_BYTES).collect()).await else { return Err(broken) };
    let bytes = body.to_bytes();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.contains("json") {
        let mut found = Paths { paths: Vec::new(), expand: false };
        for (name, value) in form_urlencoded::parse(&bytes) {
            match &*name {
                "paths" => found.paths.push(value.into_owned()),
                "expand" => found.expand = is_on(&value),
                _ => (),
            }
        }
        return Ok(found);
    }
    let body: Value = serde_json::from_slice(&bytes).map_err(|_| Refusal::Malformed("the body is not JSON"))?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let paths = match &body["paths"] {
        Value::Array(paths) => paths.iter().filter_map(text).collect(),
        path => text(path).into_iter().collect(),
    };
    Ok(Paths { paths, expand: body["expand"].as_bool().unwrap_or(false) })
}
