//! What a digest takes in of facts, wishes and scripted deeds: all of it, as numbers of 64 bits. Every field is named here, so that one
//! added to the contract must find its place in the digest before anything compiles.
//!
//! Names of blobs and peers are hashes: their first eight bytes stand for them.

use p2pweights_protocol::engine::{
    Command, Event, FetchOutcome, HangupReason, Input, Misdeed, Order, Output, ServeOutcome, Want,
};
use p2pweights_protocol::geometry::{Piece, Span};
use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId};
use p2pweights_protocol::span_set::SpanSet;
use p2pweights_protocol::wire::{HavePieces, Message, PieceRun};

use crate::hostile::Deed;

/// An odd number without a pattern: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// A rolling digest of numbers. Each step is a bijection of what was before, so a difference stays.
#[derive(Debug, Clone, Copy, Default)]
pub struct Folding(u64);

/// What can be taken into a digest.
pub trait Fold {
    /// Takes all of it in.
    fn fold(&self, into: &mut Folding);
}

impl Folding {
    /// Takes a number in.
    #[inline]
    pub fn number(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(23) ^ number).wrapping_mul(FACTOR);
    }

    /// One number for all that was taken in.
    pub fn digest(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(FACTOR);
        mixed ^ (mixed >> 29)
    }

    #[inline]
    fn name(&mut self, name: &[u8; 32]) {
        let first: [u8; 8] = name[..8].try_into().expect("eight of 32 bytes");
        self.number(u64::from_le_bytes(first));
    }

    #[inline]
    fn peer(&mut self, peer: &PeerId) {
        self.name(&peer.0);
    }

    #[inline]
    fn blob(&mut self, blob: &BlobHash) {
        self.name(&blob.0);
    }

    #[inline]
    fn request(&mut self, peer: &PeerId, request: &RequestId) {
        self.peer(peer);
        self.number(request.0);
    }

    #[inline]
    fn span(&mut self, span: &Span) {
        self.number(span.start());
        self.number(span.end());
    }

    fn peers(&mut self, peers: &[PeerId]) {
        self.number(peers.len() as u64);
        peers.iter().for_each(|peer| self.peer(peer));
    }

    fn blobs(&mut self, blobs: &[BlobHash]) {
        self.number(blobs.len() as u64);
        blobs.iter().for_each(|blob| self.blob(blob));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.number(u64::from_le_bytes(word));
        }
    }

    fn spans(&mut self, set: &SpanSet) {
        self.number(set.groups());
        set.runs().for_each(|run| self.span(&run));
    }

    fn want(&mut self, want: &Want) {
        let Want { blob, size, held, order } = want;
        self.blob(blob);
        self.option(size.as_ref(), |into, size| into.number(*size));
        self.spans(held);
        self.number(match order {
            Order::RarestFirst => 0,
            Order::Stream => 1,
        });
    }

    #[inline]
    fn option<T>(&mut self, option: Option<&T>, fold: impl Fn(&mut Self, &T)) {
        self.number(option.is_some().into());
        if let Some(value) = option {
            fold(self, value);
        }
    }
}

impl Fold for Message {
    #[inline]
    fn fold(&self, into: &mut Folding) {
        match self {
            Self::Hello { agent } => {
                into.number(0);
                into.bytes(agent.as_bytes());
            }
            Self::Interest { blobs } => {
                into.number(1);
                into.blobs(blobs);
            }
            Self::NoInterest { blobs } => {
                into.number(2);
                into.blobs(blobs);
            }
            Self::Have { blob, size, pieces } => {
                into.number(3);
                into.blob(blob);
                into.number(*size);
                match pieces {
                    HavePieces::All => into.number(u64::MAX),
                    HavePieces::Map(bytes) => into.bytes(bytes),
                }
            }
            Self::HaveMore { blob, runs } => {
                into.number(4 | (runs.len() as u64) << 8);
                into.blob(blob);
                for PieceRun { first, count } in runs {
                    into.number(u64::from(first.0) << 32 | u64::from(*count));
                }
            }
            Self::HaveNot { blobs } => {
                into.number(5);
                into.blobs(blobs);
            }
            Self::Load { held, limit } => into.number(6 | u64::from(*held) << 8 | u64::from(*limit) << 24),
            Self::Grant { credits, block_bytes, hint } => {
                into.number(7 | u64::from(*credits) << 8 | u64::from(*block_bytes) << 24);
                into.option(hint.as_ref(), |into, (blob, Piece(piece))| {
                    into.blob(blob);
                    into.number(u64::from(*piece));
                });
            }
            Self::Return { credits } => into.number(8 | u64::from(*credits) << 8),
            Self::Cancel { request } => {
                into.number(9);
                into.number(request.0);
            }
            Self::Decline { blob, piece } => {
                into.number(10 | u64::from(piece.0) << 8);
                into.blob(blob);
            }
            Self::Peers { blob, contacts } => {
                into.number(11 | (contacts.len() as u64) << 8);
                into.blob(blob);
                for contact in contacts {
                    into.peer(&contact.peer);
                    into.number(contact.addresses.len() as u64);
                    contact.addresses.iter().for_each(|address| into.bytes(address));
                }
            }
        }
    }
}

impl Fold for Input {
    #[inline]
    fn fold(&self, into: &mut Folding) {
        match self {
            Self::PeerConnected { peer, class, prefix } => {
                into.number(20 | (*class as u64) << 8);
                into.peer(peer);
                into.number(prefix.0);
            }
            Self::PeerGone { peer } => {
                into.number(21);
                into.peer(peer);
            }
            Self::DialFailed { peer } => {
                into.number(22);
                into.peer(peer);
            }
            Self::Message { peer, message } => {
                into.number(23);
                into.peer(peer);
                message.fold(into);
            }
            Self::Malformed { peer } => {
                into.number(24);
                into.peer(peer);
            }
            Self::Requested { peer, request, blob, size, span } => {
                into.number(25);
                into.request(peer, request);
                into.blob(blob);
                into.number(*size);
                into.span(span);
            }
            Self::ServeEnded { peer, request, outcome } => {
                into.number(26 | serve_outcome(*outcome) << 8);
                into.request(peer, request);
            }
            Self::FetchEnded { request, outcome, verified_groups } => {
                into.number(27 | fetch_outcome(*outcome) << 8);
                into.number(request.0);
                into.number(*verified_groups);
            }
            Self::SpanStored { blob, size, span } => {
                into.number(28);
                into.blob(blob);
                into.number(*size);
                into.span(span);
            }
            Self::SpanLost { blob, span } => {
                into.number(29);
                into.blob(blob);
                into.span(span);
            }
            Self::ProvidersFound { blob, providers, finished } => {
                into.number(30 | u64::from(*finished) << 8);
                into.blob(blob);
                into.peers(providers);
            }
            Self::Command(command) => command.fold(into),
            Self::Tick => into.number(31),
        }
    }
}

impl Fold for Command {
    fn fold(&self, into: &mut Folding) {
        match self {
            Self::Offer { blob, size, held } => {
                into.number(40);
                into.blob(blob);
                into.number(*size);
                into.spans(held);
            }
            Self::Withdraw { blob } => {
                into.number(41);
                into.blob(blob);
            }
            Self::Join { swarm, wants, providers } => {
                into.number(42 | (wants.len() as u64) << 8);
                into.blob(&swarm.0);
                wants.iter().for_each(|want| into.want(want));
                into.peers(providers);
            }
            Self::Leave { swarm } => {
                into.number(43);
                into.blob(&swarm.0);
            }
            Self::Pause { paused } => into.number(44 | u64::from(*paused) << 8),
            Self::Survey { blobs, ends } => {
                into.number(45 | u64::from(*ends) << 8 | (blobs.len() as u64) << 9);
                blobs.iter().for_each(|blob| into.blob(blob));
            }
            Self::Read { blob, at } => {
                into.number(46 | (at.len() as u64) << 8);
                into.blob(blob);
                at.iter().for_each(|group| into.number(*group));
            }
        }
    }
}

impl Fold for Output {
    #[inline]
    fn fold(&self, into: &mut Folding) {
        match self {
            Self::Send { peer, message } => {
                into.number(60);
                into.peer(peer);
                message.fold(into);
            }
            Self::Fetch { request, provider, blob, size, span, probe } => {
                into.number(61 | u64::from(*probe) << 8);
                into.request(provider, request);
                into.blob(blob);
                into.number(*size);
                into.span(span);
            }
            Self::Cancel { request, provider } => {
                into.number(62);
                into.request(provider, request);
            }
            Self::Serve { peer, request, blob, span } => {
                into.number(63);
                into.request(peer, request);
                into.blob(blob);
                into.span(span);
            }
            Self::Refuse { peer, request, no_credit } => {
                into.number(64 | u64::from(*no_credit) << 8);
                into.request(peer, request);
            }
            Self::StopServing { peer, request } => {
                into.number(65);
                into.request(peer, request);
            }
            Self::Dial { peer } => {
                into.number(66);
                into.peer(peer);
            }
            Self::Hangup { peer, reason } => {
                into.number(67 | hangup_reason(*reason) << 8);
                into.peer(peer);
            }
            Self::FindProviders { blob } => {
                into.number(68);
                into.blob(blob);
            }
            Self::Announce { blob } => {
                into.number(69);
                into.blob(blob);
            }
            Self::Unannounce { blob } => {
                into.number(70);
                into.blob(blob);
            }
            Self::Introduce { peer, blob, others } => {
                into.number(71);
                into.peer(peer);
                into.blob(blob);
                into.peers(others);
            }
            Self::Notify(event) => event.fold(into),
        }
    }
}

impl Fold for Event {
    fn fold(&self, into: &mut Folding) {
        match self {
            Self::SizeProved { blob, size } => {
                into.number(80);
                into.blob(blob);
                into.number(*size);
            }
            Self::BlobVerified { blob } => {
                into.number(81);
                into.blob(blob);
            }
            Self::BlobStored { blob } => {
                into.number(82);
                into.blob(blob);
            }
            Self::SizeDisputed { blob, peer, claimed } => {
                into.number(83);
                into.blob(blob);
                into.peer(peer);
                into.number(*claimed);
            }
            Self::Struck { peer, misdeed: what, blob } => {
                into.number(84 | misdeed(*what) << 8);
                into.peer(peer);
                into.option(blob.as_ref(), Folding::blob);
            }
            Self::Banned { peer, until } => {
                into.number(85);
                into.peer(peer);
                into.number(until.0);
            }
            Self::LeaveSafe { blob } => {
                into.number(86);
                into.blob(blob);
            }
            Self::Damaged { blob, span } => {
                into.number(87);
                into.blob(blob);
                into.span(span);
            }
        }
    }
}

impl Fold for Deed {
    fn fold(&self, into: &mut Folding) {
        match self {
            Self::Dial(host) => into.number(100 | (host.0 as u64) << 8),
            Self::Say(host, message) => {
                into.number(101 | (host.0 as u64) << 8);
                message.fold(into);
            }
            Self::Babble(host) => into.number(102 | (host.0 as u64) << 8),
            Self::Ask(host, request, blob, size, span) => {
                into.number(103 | (host.0 as u64) << 8);
                into.number(request.0);
                into.blob(blob);
                into.number(*size);
                into.span(span);
            }
        }
    }
}

fn fetch_outcome(outcome: FetchOutcome) -> u64 {
    match outcome {
        FetchOutcome::Delivered => 0,
        FetchOutcome::BadBytes => 1,
        FetchOutcome::NotHeld => 2,
        FetchOutcome::NoCredit => 3,
        FetchOutcome::Lost => 4,
        FetchOutcome::Cancelled => 5,
        FetchOutcome::StoreFailed => 6,
    }
}

fn serve_outcome(outcome: ServeOutcome) -> u64 {
    match outcome {
        ServeOutcome::Sent => 0,
        ServeOutcome::Damaged => 1,
        ServeOutcome::Lost => 2,
        ServeOutcome::Cancelled => 3,
    }
}

fn hangup_reason(reason: HangupReason) -> u64 {
    match reason {
        HangupReason::Banned => 0,
        HangupReason::Unresponsive => 1,
        HangupReason::Full => 2,
    }
}

fn misdeed(misdeed: Misdeed) -> u64 {
    match misdeed {
        Misdeed::BadBytes => 0,
        Misdeed::FalseClaim => 1,
        Misdeed::Late => 2,
        Misdeed::BadMessage => 3,
        Misdeed::Unsolicited => 4,
    }
}
