//! Names of things: blobs, swarms, peers, requests. Newtypes over bytes and numbers; knows nothing else.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Why a text is not a hash.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseHashError {
    /// Too long or too short.
    #[error("a hash has {digits} hexadecimal digits here, this one has {found}")]
    Length {
        /// How many there must be: 64, or 40 for git's.
        digits: usize,
        /// How many there are.
        found: usize,
    },
    /// A character that is not a lower-case hexadecimal digit.
    #[error("{found:?} at position {position} is not a lower-case hexadecimal digit")]
    Digit {
        /// The offending character.
        found: char,
        /// Its position, counted in characters from 1.
        position: usize,
    },
}

fn parse_hex<const BYTES: usize>(text: &str) -> Result<[u8; BYTES], ParseHashError> {
    let (digits, found) = (2 * BYTES, text.chars().count());
    if found != digits {
        return Err(ParseHashError::Length { digits, found });
    }
    if let Some((index, found)) = text.chars().enumerate().find(|(_, c)| !matches!(c, '0'..='9' | 'a'..='f')) {
        return Err(ParseHashError::Digit { found, position: index + 1 });
    }
    let mut bytes = [0; BYTES];
    hex::decode_to_slice(text, &mut bytes).expect("so many lower-case hexadecimal digits were just checked");
    Ok(bytes)
}

macro_rules! hash_newtype {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; $bytes]);

        /// As byte strings are ordered. The first eight bytes nearly always tell, and are compared as one number: maps of peers and blobs
        /// spend most of their time here.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> Ordering {
                let first = |hash: &Self| u64::from_be_bytes(*hash.0.first_chunk().expect("every hash begins with 8 bytes"));
                first(self).cmp(&first(other)).then_with(|| self.0.cmp(&other.0))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The raw 32 bytes.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// The first ten hexadecimal digits, for logs and progress lines.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..5])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseHashError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hex(text).map(Self)
            }
        }

        // Text in formats that people read (JSON), bytes in compact ones (postcard).
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; $bytes]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

hash_newtype! {
    /// Names a blob: the BLAKE3 hash of its bytes, as `b3sum` prints it. A manifest is a blob too.
    BlobHash, 32
}

hash_newtype! {
    /// SHA-256 of a file's bytes: the object id which Hugging Face's LFS uses.
    Sha256, 32
}

hash_newtype! {
    /// Git's id of a file: the SHA-1 of `blob `, its size in decimal, a zero byte, and its bytes. A name, not a proof: SHA-1 is broken.
    GitOid, 20
}

hash_newtype! {
    /// A peer, as its Ed25519 public key (RFC 8032, 32 bytes). libp2p's `PeerId` of such a key is the same bytes with a prefix.
    PeerId, 32
}

impl BlobHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// A request for one span, unique within one engine for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// The network a peer is in, as far as many identities may hide behind one owner: an IPv4 /24, an IPv6 /48; how it is formed is the
/// driver's affair. Identities are free to mint, networks are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Prefix(pub u64);

/// A swarm: the peers around one manifest, or around one blob fetched alone; named by that hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SwarmId(pub BlobHash);

impl fmt::Display for SwarmId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_reads_back_what_it_prints() {
        let hash = BlobHash::of(b"weights");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.to_string(), blake3::hash(b"weights").to_hex().to_string());
    }

    #[test]
    fn hashes_are_ordered_as_their_bytes() {
        let mut hashes: Vec<BlobHash> = (0u8..200).map(|seed| BlobHash::of(&[seed])).collect();
        let tail = |last| BlobHash(std::array::from_fn(|place| if place == 31 { last } else { 7 }));
        hashes.extend([tail(2), tail(1)]);
        let mut bytes: Vec<[u8; 32]> = hashes.iter().map(|hash| hash.0).collect();
        hashes.sort();
        bytes.sort();
        assert_eq!(hashes.iter().map(|hash| hash.0).collect::<Vec<_>>(), bytes);
    }

    #[test]
    fn a_malformed_hash_names_the_wrong_part() {
        assert_eq!("abc".parse::<BlobHash>(), Err(ParseHashError::Length { digits: 64, found: 3 }));
        let upper = BlobHash([0xab; 32]).to_string().to_uppercase();
        assert_eq!(upper.parse::<BlobHash>(), Err(ParseHashError::Digit { found: 'A', position: 1 }));
        let twisted = format!("{}é", &BlobHash([1; 32]).to_string()[..63]);
        assert_eq!(twisted.parse::<BlobHash>(), Err(ParseHashError::Digit { found: 'é', position: 64 }));
    }

    #[test]
    fn json_shows_text_and_postcard_bytes() {
        let hash = BlobHash([7; 32]);
        assert_eq!(serde_json::to_string(&hash).expect("serialises"), format!("\"{hash}\""));
        assert_eq!(postcard::to_stdvec(&hash).expect("serialises"), [7; 32]);
    }

    #[test]
    fn a_git_id_has_forty_digits() {
        let text = "ce013625030ba8dba906f756967f9e9ca394464a";
        assert_eq!(text.parse::<GitOid>().map(|oid| oid.to_string()).as_deref(), Ok(text));
        assert_eq!(BlobHash([7; 32]).to_string().parse::<GitOid>(), Err(ParseHashError::Length { digits: 40, found: 64 }));
    }
}
