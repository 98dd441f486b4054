//! Control messages: who holds what, and who may ask for how much. Payload never travels here.

use serde::{Deserialize, Serialize};

use crate::geometry::{Geometry, Piece};
use crate::have_map::HaveMap;
use crate::ids::{BlobHash, PeerId, RequestId};
use crate::limits;

/// A run of pieces: the first one and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceRun {
    /// First piece.
    pub first: Piece,
    /// Number of pieces.
    pub count: u32,
}

/// The pieces a provider says it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HavePieces {
    /// Every piece.
    All,
    /// One bit a piece, as [`HaveMap::to_bytes`] writes it.
    Map(Vec<u8>),
}

impl HavePieces {
    /// The form in which this map travels.
    pub fn of(map: &HaveMap) -> Self {
        if map.is_full() { Self::All } else { Self::Map(map.to_bytes()) }
    }

    /// Whether the last piece of a blob of this size is among them: what proves a size.
    pub fn has_last(&self, geometry: Geometry) -> bool {
        geometry.pieces().checked_sub(1).is_some_and(|last| match self {
            Self::All => true,
            Self::Map(bytes) => bytes.get((last / 8) as usize).is_some_and(|byte| byte >> (last % 8) & 1 == 1),
        })
    }

    /// The map for a blob of this size; `None` when the bytes do not fit it.
    pub fn to_map(&self, geometry: Geometry) -> Option<HaveMap> {
        match self {
            Self::All => Some(HaveMap::full(geometry.pieces())),
            Self::Map(bytes) => HaveMap::from_bytes(geometry.pieces(), bytes),
        }
    }
}

/// A peer, and where it was last known to be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The peer.
    pub peer: PeerId,
    /// One to [`limits::ADDRESSES_PER_CONTACT`] binary multiaddrs without the peer's id, each at most [`limits::ADDRESS_BYTES`]. Opaque
    /// here: only who dials knows what they mean.
    pub addresses: Vec<Vec<u8>>,
}

/// One control message. The order of the variants is the wire format: add at the end, never reorder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The first message on a control stream.
    Hello {
        /// Program and version, for people to read; at most [`limits::AGENT_BYTES`].
        agent: String,
    },
    /// The sender wants these blobs: say what you hold of them, now and whenever it changes.
    Interest {
        /// At most [`limits::BLOBS_PER_MESSAGE`].
        blobs: Vec<BlobHash>,
    },
    /// The sender no longer wants these blobs.
    NoInterest {
        /// At most [`limits::BLOBS_PER_MESSAGE`].
        blobs: Vec<BlobHash>,
    },
    /// All that the sender holds of one blob; replaces what it said before.
    Have {
        /// The blob.
        blob: BlobHash,
        /// Its size in bytes: a claim, until its last group has been proved.
        size: u64,
        /// The pieces held.
        pieces: HavePieces,
    },
    /// More pieces of a blob, after a [`Message::Have`].
    HaveMore {
        /// The blob.
        blob: BlobHash,
        /// At most [`limits::RUNS_PER_MESSAGE`].
        runs: Vec<PieceRun>,
    },
    /// The sender holds nothing of these blobs, or no longer.
    HaveNot {
        /// At most [`limits::BLOBS_PER_MESSAGE`].
        blobs: Vec<BlobHash>,
    },
    /// How much more the sender could have in flight: what a provider ranks its grants by.
    Load {
        /// Credits held and requests in flight, over all providers.
        held: u16,
        /// Requests it would like in flight; 0: nothing that you hold is of use to me now.
        limit: u16,
    },
    /// Leave to ask for so many blocks, of any blob held.
    Grant {
        /// How many blocks.
        credits: u16,
        /// The longest block in bytes, within [`limits::BLOCK_MIN_BYTES`] and [`limits::BLOCK_MAX_BYTES`].
        block_bytes: u32,
        /// The piece that these credits are for; others are not to be asked for with them ([`Message::Decline`]).
        hint: Option<(BlobHash, Piece)>,
    },
    /// Credits handed back: there is nothing to ask for.
    Return {
        /// How many.
        credits: u16,
    },
    /// The answer to this request is no longer needed; skip it if it has not begun.
    Cancel {
        /// A request of the sender's.
        request: RequestId,
    },
    /// One credit handed back: the piece that it was given for ([`Message::Grant`]) is not needed. Others may be.
    Decline {
        /// The blob of the hint.
        blob: BlobHash,
        /// The piece of the hint.
        piece: Piece,
    },
    /// Others want or hold this blob, too, and are reached there. Whoever dials takes it out and keeps the addresses; the engine hears of
    /// the peers as providers found.
    Peers {
        /// The blob.
        blob: BlobHash,
        /// One to [`limits::CONTACTS_PER_MESSAGE`].
        contacts: Vec<Contact>,
    },
}

impl Message {
    /// What is wrong with a message that decoded but breaks a limit; `None` if nothing is.
    pub fn violation(&self) -> Option<&'static str> {
        let too_many = |blobs: &[BlobHash]| blobs.is_empty() || blobs.len() > limits::BLOBS_PER_MESSAGE;
        match self {
            Self::Hello { agent } if agent.len() > limits::AGENT_BYTES => Some("agent text too long"),
            Self::Interest { blobs } | Self::NoInterest { blobs } | Self::HaveNot { blobs } if too_many(blobs) => {
                Some("number of blobs out of bounds")
            }
            Self::Have { size, .. } if *size > limits::BLOB_BYTES => Some("blob size out of bounds"),
            Self::HaveMore { runs, .. } if runs.is_empty() || runs.len() > limits::RUNS_PER_MESSAGE => {
                Some("number of runs out of bounds")
            }
            Self::Grant { credits, .. } | Self::Return { credits } if *credits == 0 || *credits > limits::CREDITS_PER_PEER => {
                Some("number of credits out of bounds")
            }
            Self::Grant { block_bytes, .. } if !(limits::BLOCK_MIN_BYTES..=limits::BLOCK_MAX_BYTES).contains(block_bytes) => {
                Some("block size out of bounds")
            }
            Self::Peers { contacts, .. } => contacts_violation(contacts),
            _ => None,
        }
    }
}

fn contacts_violation(contacts: &[Contact]) -> Option<&'static str> {
    let within = |number: usize, most: usize| (1..=most).contains(&number);
    if !within(contacts.len(), limits::CONTACTS_PER_MESSAGE) {
        return Some("number of contacts out of bounds");
    }
    if !contacts.iter().all(|contact| within(contact.addresses.len(), limits::ADDRESSES_PER_CONTACT)) {
        return Some("number of addresses out of bounds");
    }
    let mut addresses = contacts.iter().flat_map(|contact| &contact.addresses);
    addresses.any(|address| !within(address.len(), limits::ADDRESS_BYTES)).then_some("length of an address out of bounds")
}
