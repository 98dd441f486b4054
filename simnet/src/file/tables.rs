//! A scenario file as serde reads and writes it: its tables and their keys. What they mean for a world is in `build`; `docs/simnet.md`
//! lists every key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::either::Either;
use crate::expect::Expectation;
use crate::hostile::Vice;
use crate::units::{Factor, Frequency, Rate, Share, Size, Time};

/// A whole file, in one of its forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are described once, in docs/simnet.md")]
pub struct ScenarioFile {
    pub name: String,
    pub row: Option<u32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    #[serde(default = "one")]
    pub seed: u64,
    #[serde(default = "one")]
    pub seeds: u64,
    pub until: Option<Time>,
    pub linger: Option<Time>,
    pub check_every: Option<u64>,
    pub max_events: Option<u64>,
    pub punch: Option<Share>,
    pub relay: Option<RelayTable>,
    #[serde(default, skip_serializing_if = "TimingTable::is_empty")]
    pub timing: TimingTable,
    #[serde(default, skip_serializing_if = "EngineTable::is_empty")]
    pub engine: EngineTable,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub expect: BTreeMap<String, Either<Expectation, BTreeMap<String, Expectation>>>,
    #[serde(default)]
    pub blob: Vec<BlobTable>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub site: Vec<SiteTable>,
    #[serde(default)]
    pub group: Vec<GroupTable>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fault: Vec<FaultTable>,
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// `[timing]`: how long things take, where it differs from [`Timing`](crate::Timing)'s defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields of `Timing`")]
pub struct TimingTable {
    pub sync_delay: Option<Time>,
    pub lookup: Option<Time>,
    pub announce: Option<Time>,
    pub crash_notice: Option<Time>,
    pub dial_timeout: Option<Time>,
    pub beat: Option<Time>,
}

impl TimingTable {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `[engine]`: the engines' settings, where they differ from their defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields of `EngineConfig`")]
pub struct EngineTable {
    pub first_credits: Option<u16>,
    pub first_in_flight: Option<Size>,
    pub news_delay: Option<Time>,
    pub rescue_interval: Option<Time>,
    pub lookup_interval: Option<Time>,
    pub back_off: Option<Time>,
    pub ban: Option<Time>,
}

impl EngineTable {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `relay`: the link that blocks share between hosts that can't punch a hole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are described once, in docs/simnet.md")]
pub struct RelayTable {
    pub up: Rate,
    pub down: Rate,
    pub delay: Time,
}

/// `[[blob]]`: a swarm around one blob, or around several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are described once, in docs/simnet.md")]
pub struct BlobTable {
    pub size: Option<Size>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Size>,
}

/// `[[site]]`: a place whose hosts share a link, or several alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are described once, in docs/simnet.md")]
pub struct SiteTable {
    pub name: String,
    pub count: Option<usize>,
    pub up: Rate,
    pub down: Rate,
    pub delay: Time,
    pub loss: Option<Share>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lan: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metered: bool,
    pub outages: Option<Either<Vec<(Time, Time)>, OutagesTable>>,
    pub quota: Option<Size>,
}

/// Outages that come again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are described once, in docs/simnet.md")]
pub struct OutagesTable {
    pub every: Time,
    pub lasts: Time,
    pub from: Option<Time>,
}

/// `[[group]]`: hosts of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are described once, in docs/simnet.md")]
pub struct GroupTable {
    pub name: String,
    pub count: Option<usize>,
    pub up: Rate,
    pub down: Rate,
    pub delay: Time,
    pub loss: Option<Share>,
    pub nat: Option<NatWord>,
    pub site: Option<String>,
    pub prefix: Option<PrefixWord>,
    pub disk: Option<DiskTable>,
    pub holds: Option<Holds>,
    pub fetches: Option<bool>,
    pub order: Option<OrderWord>,
    pub vice: Option<ViceWord>,
    pub starts: Option<Either<Time, StartsTable>>,
    pub stay: Option<Either<StayWord, StayTable>>,
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub knows_sizes: bool,
    pub swarms: Option<Vec<usize>>,
}

/// Who can connect to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "those of `Nat`")]
pub enum NatWord {
    Open,
    Cone,
}

/// Which network a group's addresses are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrefixWord {
    /// Each host in its own.
    Own,
    /// All of the group in one.
    Shared,
}

/// In which order a group fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "those of `Order`")]
pub enum OrderWord {
    Rarest,
    Stream,
}

/// What is wrong with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ViceWord(#[serde(with = "ViceWords")] pub Vice);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Vice", rename_all = "kebab-case")]
enum ViceWords {
    Liar,
    FalseClaimer,
    SizeLiar,
    Mute,
    Drip,
    Refuser,
    Hoarder,
    Flooder,
    Poisoner,
    Leech,
    Sybil,
}

/// What a group holds: `all`, `nothing`, or a drawing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Holds(pub crate::scenario::Holding);

/// Text that says nothing about what is held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} says nothing about what is held; write \"all\", \"nothing\", or a drawing like \"##..\"")]
pub struct HoldsError(String);

impl TryFrom<String> for Holds {
    type Error = HoldsError;

    fn try_from(text: String) -> Result<Self, HoldsError> {
        use crate::scenario::Holding;
        match text.as_str() {
            "all" => Ok(Self(Holding::All)),
            "nothing" => Ok(Self(Holding::Nothing)),
            "" => Err(HoldsError(text)),
            drawing if drawing.bytes().all(|byte| matches!(byte, b'#' | b'.')) => Ok(Self(Holding::Drawn(text))),
            _ => Err(HoldsError(text)),
        }
    }
}

impl From<Holds> for String {
    fn from(holds: Holds) -> Self {
        use crate::scenario::Holding;
        match holds.0 {
            Holding::All => "all".into(),
            Holding::Nothing => "nothing".into(),
            Holding::Drawn(drawing) => drawing,
        }
    }
}

/// A disk that is not as fast and large as one could wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are described once, in docs/simnet.md")]
pub struct DiskTable {
    pub write: Option<Rate>,
    pub capacity: Option<Size>,
}

/// Hosts that come one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are described once, in docs/simnet.md")]
pub struct StartsTable {
    pub poisson: Option<Frequency>,
    pub uniform: Option<Time>,
    pub from: Option<Time>,
    pub until: Option<Time>,
}

/// How long hosts stay, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "those of `Stay`")]
pub enum StayWord {
    Forever,
    LeaveSafe,
}

/// How long hosts stay: one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are described once, in docs/simnet.md")]
pub struct StayTable {
    pub sent: Option<Factor>,
    pub extra_pieces: Option<u64>,
    pub after: Option<Time>,
}

/// `[[fault]]`: something that befalls hosts or a site, once or again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are described once, in docs/simnet.md")]
pub struct FaultTable {
    pub kind: FaultWord,
    pub at: Option<Time>,
    pub every: Option<Time>,
    pub times: Option<u64>,
    pub within: Option<Time>,
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Time>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_way: bool,
    pub left: Option<Share>,
    pub rotten: Option<u64>,
    pub site: Option<String>,
    pub who: Option<Either<String, WhoTable>>,
}

/// What can befall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "those of `Trouble`")]
pub enum FaultWord {
    Crash,
    Sleep,
    Partition,
    SiteDown,
    Slow,
    DiskFull,
    DiskFails,
    Rot,
}

/// Some hosts of a group, or of all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the keys are described once, in docs/simnet.md")]
pub struct WhoTable {
    pub group: Option<String>,
    pub share: Option<Share>,
    pub count: Option<usize>,
    pub hosts: Option<Vec<usize>>,
}
