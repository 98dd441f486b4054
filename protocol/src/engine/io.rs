//! The engine's whole contract with its driver: what goes in, what comes out. All of it can be serialised, so a run can be recorded and
//! replayed.
//!
//! A driver calls [`Engine::handle`](super::Engine::handle) with each fact, drains
//! [`Engine::poll_output`](super::Engine::poll_output) to `None`, and sleeps until the next input or
//! [`Engine::next_wakeup`](super::Engine::next_wakeup).

use serde::{Deserialize, Serialize};

use crate::geometry::Span;
use crate::ids::{BlobHash, PeerId, Prefix, RequestId, SwarmId};
use crate::span_set::SpanSet;
use crate::time::Instant;
use crate::wire::Message;

/// How a peer is reached. Cheaper classes are granted first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PeerClass {
    /// On this machine or the local network.
    Lan,
    /// Anywhere else.
    Wan,
    /// Over a link whose bytes are counted or shared by many: nothing is asked for twice over it.
    Metered,
    /// Through somebody else's relay: only if nothing else will do.
    Relay,
    /// No peer but a web server that the node speaks for: holds what it holds whole, grants at once, wants nothing, and is asked for what
    /// peers do not bring.
    Mirror,
}

/// In which order a blob is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Order {
    /// Rarest pieces first: best for the swarm, and so for everybody.
    #[default]
    RarestFirst,
    /// The next bytes first, for a reader that reads while it is fetched; the rest rarest first.
    Stream,
}

/// A blob that a swarm wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// The blob.
    pub blob: BlobHash,
    /// Its size, if known from a manifest or proved. With `None` only the size is found out: a provider's claim is believed once its
    /// last group proves it, [`Event::SizeProved`] says so, and the owner joins again with it.
    pub size: Option<u64>,
    /// What the store holds of it already.
    pub held: SpanSet,
    /// In which order it is wanted.
    #[serde(default)]
    pub order: Order,
}

/// What the node's owner asks of the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Serve what is held of this blob, and announce it.
    Offer {
        /// The blob.
        blob: BlobHash,
        /// Its size in bytes.
        size: u64,
        /// What is held: verified and durable.
        held: SpanSet,
    },
    /// Stop serving this blob, whatever is held of it.
    Withdraw {
        /// The blob.
        blob: BlobHash,
    },
    /// Fetch these blobs from the peers around this hash. Repeating it adds blobs.
    Join {
        /// The swarm; providers of this hash are looked for first.
        swarm: SwarmId,
        /// The blobs wanted, in order.
        wants: Vec<Want>,
        /// Peers to ask besides those that discovery finds.
        providers: Vec<PeerId>,
    },
    /// Give up a swarm: cancel what is in flight. What is held goes on being served.
    Leave {
        /// The swarm.
        swarm: SwarmId,
    },
    /// Ask for nothing new while the store cannot take it.
    Pause {
        /// Whether to stop asking, or to go on.
        paused: bool,
    },
    /// Find out who else holds these blobs, which we hold whole: everybody connected is asked, once. Repeating it asks those who have come
    /// since; [`Engine::copies`](super::Engine::copies) tells what they said.
    Survey {
        /// The blobs.
        blobs: Vec<BlobHash>,
        /// It is known well enough: nobody need tell us more.
        ends: bool,
    },
    /// Somebody reads this blob, wanted or about to be, from these groups on: what lies ahead of them comes first. Replaces what was said
    /// of it before; none: nobody reads it any more.
    Read {
        /// The blob.
        blob: BlobHash,
        /// The next group that each reader needs.
        at: Vec<u64>,
    },
}

/// How a fetch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FetchOutcome {
    /// Every group of the span was verified and written.
    Delivered,
    /// The proof failed: the provider sent bytes that are not the blob's.
    BadBytes,
    /// The provider answered that it does not hold the span.
    NotHeld,
    /// The provider answered that the request had no credit.
    NoCredit,
    /// The stream or connection broke, or stopped in the middle.
    Lost,
    /// Cancelled by us before an answer came.
    Cancelled,
    /// Our own store could not take it.
    StoreFailed,
}

/// How serving a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServeOutcome {
    /// All of it went out.
    Sent,
    /// What we hold did not prove: it was not sent, and must not be offered again.
    Damaged,
    /// The stream broke, or the peer stopped reading.
    Lost,
    /// The peer cancelled it.
    Cancelled,
}

/// Why a peer is hung up on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HangupReason {
    /// Banned, or refused because of an earlier ban.
    Banned,
    /// Too slow or silent; may be tried again after a while.
    Unresponsive,
    /// More peers than [`limits::PEERS`](crate::limits::PEERS).
    Full,
}

/// Why a peer got a strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Misdeed {
    /// Sent bytes that do not prove.
    BadBytes,
    /// Claimed a piece or a size that it does not have.
    FalseClaim,
    /// Let a request's deadline pass without ever having delivered anything: silent, or dripping. A slow link is no misdeed.
    Late,
    /// Broke the wire protocol or one of its limits.
    BadMessage,
    /// Asked without credit, or for what was never offered.
    Unsolicited,
}

/// A fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// A connection to this peer stands.
    PeerConnected {
        /// The peer.
        peer: PeerId,
        /// How it is reached.
        class: PeerClass,
        /// The network that it is in.
        prefix: Prefix,
    },
    /// The last connection to this peer is gone; its requests have ended or will end as lost.
    PeerGone {
        /// The peer.
        peer: PeerId,
    },
    /// A dial that was asked for came to nothing.
    DialFailed {
        /// The peer.
        peer: PeerId,
    },
    /// A control message arrived.
    Message {
        /// From whom.
        peer: PeerId,
        /// What it says.
        message: Message,
    },
    /// Something arrived on one of our protocols that is none of our messages.
    Malformed {
        /// From whom.
        peer: PeerId,
    },
    /// A request arrived on a bulk stream. Answered by exactly one [`Output::Serve`] or [`Output::Refuse`].
    Requested {
        /// By whom.
        peer: PeerId,
        /// The peer's name for it.
        request: RequestId,
        /// The blob.
        blob: BlobHash,
        /// Its size according to the peer.
        size: u64,
        /// The groups wanted.
        span: Span,
    },
    /// An [`Output::Serve`] ended.
    ServeEnded {
        /// For whom.
        peer: PeerId,
        /// The peer's name for it.
        request: RequestId,
        /// How.
        outcome: ServeOutcome,
    },
    /// An [`Output::Fetch`] ended. Reported exactly once for each.
    FetchEnded {
        /// Which.
        request: RequestId,
        /// How.
        outcome: FetchOutcome,
        /// Groups, from the start of the span, that were verified and written, though perhaps not yet synced.
        verified_groups: u64,
    },
    /// These groups are verified and durable: the only thing that moves our have-map.
    SpanStored {
        /// The blob.
        blob: BlobHash,
        /// Its size in bytes.
        size: u64,
        /// The groups.
        span: Span,
    },
    /// These groups turned out to be damaged or were never made durable; they are wanted again if the blob is.
    SpanLost {
        /// The blob.
        blob: BlobHash,
        /// The groups.
        span: Span,
    },
    /// Discovery's answer to [`Output::FindProviders`]; may come several times.
    ProvidersFound {
        /// The hash looked for.
        blob: BlobHash,
        /// Peers that say they hold it.
        providers: Vec<PeerId>,
        /// Whether the look-up is over.
        finished: bool,
    },
    /// An order of the owner's.
    Command(Command),
    /// Time has passed.
    Tick,
}

/// A wish, or something worth knowing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Send a control message.
    Send {
        /// To whom.
        peer: PeerId,
        /// What.
        message: Message,
    },
    /// Ask a provider for a span over the bulk stream, verify and write what comes.
    Fetch {
        /// Our name for it.
        request: RequestId,
        /// Whom to ask.
        provider: PeerId,
        /// The blob.
        blob: BlobHash,
        /// Its size.
        size: u64,
        /// The groups.
        span: Span,
        /// Only prove the size: verify the span (the last group of the size claimed) and write nothing.
        probe: bool,
    },
    /// Stop caring for a fetch. It still ends with a [`Input::FetchEnded`].
    Cancel {
        /// Which.
        request: RequestId,
        /// Whom it was asked of.
        provider: PeerId,
    },
    /// Send a span to a peer over its bulk stream.
    Serve {
        /// To whom.
        peer: PeerId,
        /// The peer's name for it.
        request: RequestId,
        /// The blob.
        blob: BlobHash,
        /// The groups.
        span: Span,
    },
    /// Answer a request with a refusal.
    Refuse {
        /// To whom.
        peer: PeerId,
        /// The peer's name for it.
        request: RequestId,
        /// Whether it was for want of a credit; otherwise the span is not held.
        no_credit: bool,
    },
    /// The peer cancelled this request: skip it if it has not begun.
    StopServing {
        /// Whose.
        peer: PeerId,
        /// The peer's name for it.
        request: RequestId,
    },
    /// Connect to a peer.
    Dial {
        /// Which.
        peer: PeerId,
    },
    /// Close every connection and stream to a peer.
    Hangup {
        /// Which.
        peer: PeerId,
        /// Why.
        reason: HangupReason,
    },
    /// Look for providers of a hash.
    FindProviders {
        /// The hash.
        blob: BlobHash,
    },
    /// Let others find us as a provider of this blob.
    Announce {
        /// The blob.
        blob: BlobHash,
    },
    /// Stop announcing this blob.
    Unannounce {
        /// The blob.
        blob: BlobHash,
    },
    /// Tell a peer where others can be reached who want or hold this blob. It reaches that peer's engine as
    /// [`Input::ProvidersFound`].
    Introduce {
        /// Whom to tell.
        peer: PeerId,
        /// The blob.
        blob: BlobHash,
        /// Of whom.
        others: Vec<PeerId>,
    },
    /// Something happened.
    Notify(Event),
}

/// What happened, for subscribers, logs and checkers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The size of a blob fetched by bare hash is proved.
    SizeProved {
        /// The blob.
        blob: BlobHash,
        /// Its size in bytes.
        size: u64,
    },
    /// Every group of a wanted blob is verified and written.
    BlobVerified {
        /// The blob.
        blob: BlobHash,
    },
    /// Every group of a wanted blob is verified and durable.
    BlobStored {
        /// The blob.
        blob: BlobHash,
    },
    /// A provider holds this blob with another size than the manifest says: one of them is wrong, and nothing proves which.
    SizeDisputed {
        /// The blob.
        blob: BlobHash,
        /// Who says so.
        peer: PeerId,
        /// The size it claims.
        claimed: u64,
    },
    /// A peer misbehaved.
    Struck {
        /// Which.
        peer: PeerId,
        /// What it did.
        misdeed: Misdeed,
        /// The blob it was about, if any.
        blob: Option<BlobHash>,
    },
    /// A peer is banned.
    Banned {
        /// Which.
        peer: PeerId,
        /// Until when.
        until: Instant,
    },
    /// Every piece that we hold of this blob is held by others too, as far as we can see: leaving loses nothing.
    LeaveSafe {
        /// The blob.
        blob: BlobHash,
    },
    /// Something we hold does not prove any more.
    Damaged {
        /// The blob.
        blob: BlobHash,
        /// The groups asked for when it was noticed.
        span: Span,
    },
}
