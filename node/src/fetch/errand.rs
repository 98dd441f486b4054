//! Fetching one thing for somebody inside this node who waits for it: the manifest behind a link, or one of its files while it is read.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use p2pweights_protocol::ids::{BlobHash, SwarmId};
use p2pweights_protocol::link::Link;
use p2pweights_protocol::manifest::Manifest;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::chosen::chosen;
use super::watched::Watched;
use super::{Fetching, introduce, stopped};
use crate::node::{Core, EVENTS};
use crate::report::{Failure, FailureKind, FetchEvent, FetchRequest};
use crate::store::Need;

/// Fetches the manifest behind a link, and keeps its model, by this name if it gives none itself. Gives up when nothing has come for so
/// many seconds.
pub async fn manifest(core: &Arc<Core>, link: &Link, name: &str, patience_s: u64) -> Result<Manifest, Failure> {
    let errand = Errand::new(core, link, patience_s);
    let fetching = errand.begin(core, link)?;
    let watched = Watched::start(&core.driver);
    core.driver.enter(fetching.swarm).await.map_err(stopped)?;
    let bring = async {
        fetching.check_network(link)?;
        let plan = fetching.plan(link, &chosen(&[], &[])?, &watched).await?;
        if plan.manifest.is_some() {
            fetching.keep(&plan, Some(name)).await?;
        }
        let no_model = || Failure::new(FailureKind::Refused, format!("{} is a plain file, no model", link.hash()));
        plan.manifest.ok_or_else(no_model)
    };
    let result = tokio::select! {
        result = bring => result,
        () = core.stop.cancelled() => Err(Failure::new(FailureKind::Interrupted, "the node is shutting down")),
    };
    fetching.end(watched).await?;
    result
}

/// Fetches one blob of the model behind a link, until it is complete and durable or nobody wants it any more.
pub async fn blob(
    core: &Arc<Core>,
    link: &Link,
    blob: BlobHash,
    size: u64,
    patience_s: u64,
    unwanted: CancellationToken,
) -> Result<(), Failure> {
    let errand = Errand::new(core, link, patience_s);
    let fetching = errand.begin(core, link)?;
    let watched = Watched::start(&core.driver);
    core.driver.enter(fetching.swarm).await.map_err(stopped)?;
    let bring = async {
        fetching.check_network(link)?;
        fetching.take_room_for(vec![Need::of(blob, size)]).await?;
        // The manifest is here already; it may name mirrors.
        fetching.use_mirrors(&fetching.plan(link, &chosen(&[], &[])?, &watched).await?).await?;
        fetching.bring_whole(blob, size, &watched).await
    };
    let result = tokio::select! {
        result = bring => result,
        () = unwanted.cancelled() => Err(Failure::new(FailureKind::Interrupted, "nobody reads it any more")),
        () = core.stop.cancelled() => Err(Failure::new(FailureKind::Interrupted, "the node is shutting down")),
    };
    fetching.end(watched).await?;
    result
}

/// What a fetch is told by and tells to, when nobody listens.
struct Errand {
    request: FetchRequest,
    events: mpsc::Sender<FetchEvent>,
}

impl Errand {
    fn new(core: &Core, link: &Link, timeout_s: u64) -> Self {
        let (events, mut told) = mpsc::channel(EVENTS);
        // Ends with the errand, which holds the other end.
        core.tasks.spawn(async move {
            while let Some(event) = told.recv().await {
                debug!(?event, "an errand");
            }
        });
        let request = FetchRequest { timeout_s, ..FetchRequest::of(link.to_string()) };
        Self { request, events }
    }

    fn begin<'a>(&'a self, core: &'a Arc<Core>, link: &Link) -> Result<Fetching<'a>, Failure> {
        let providers = introduce(core, &[], link.providers())?;
        Ok(Fetching {
            core,
            request: &self.request,
            events: &self.events,
            swarm: SwarmId(link.hash()),
            providers,
            mirrors: Vec::new(),
            began: Instant::now(),
            // Whoever waits for it has a deadline.
            room_patience: Duration::from_secs(self.request.timeout_s),
            room: Mutex::default(),
            kept: Mutex::default(),
        })
    }
}
