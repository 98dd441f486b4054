//! A finished run as it is kept: what happened, what was asked for, in JSON that later versions can read. It knows neither how it is drawn
//! nor where it lies.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The form in which records are written. A reader refuses all others.
pub const SCHEMA: u32 = 1;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or not a record.
    #[error("this is no record of a run")]
    Form(#[from] serde_json::Error),
    /// Written by another version.
    #[error("the record has schema {0}, and this program reads schema {SCHEMA}: run the scenario again")]
    Schema(u32),
}

/// Something that was asked of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// Of what: `last`, `p99`, `copies over the link`.
    pub name: String,
    /// What was asked, in words: `≤ 1.03 × bound`.
    pub target: String,
    /// What came out, in the same words: `1.012 × bound`.
    pub result: String,
    /// Whether that is good enough.
    pub passed: bool,
    /// The target, where it is a completion time as a multiple of the bound, in thousandths: plots draw a line there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_permille: Option<u64>,
    /// The result as a number, in whatever unit, larger being worse: of several seeds the worst is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub badness: Option<u64>,
}

/// A kind of hosts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct GroupRecord {
    /// What the scenario calls it.
    pub name: String,
    /// How many it has.
    pub hosts: u64,
    /// How many of them fetch.
    pub fetchers: u64,
    /// When fetchers had finished, in seconds since each began, in ascending order. Those that never did are missing.
    pub finished_s: Vec<f64>,
    /// The same as multiples of the least time that each needs by itself, in ascending order.
    pub slowdowns: Vec<f64>,
    /// Payload bytes they sent.
    pub sent_bytes: u64,
    /// Payload bytes they received.
    pub received_bytes: u64,
}

/// A link that a site's hosts share.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LinkRecord {
    /// The site's name.
    pub name: String,
    /// Payload bytes in.
    pub bytes_in: u64,
    /// Payload bytes out.
    pub bytes_out: u64,
    /// Of those that came in, bytes that the site had already.
    pub bytes_again: u64,
    /// How long it was down, in seconds.
    pub down_s: f64,
}

/// The world at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct MomentRecord {
    /// When, in seconds.
    pub at_s: f64,
    /// How much of the uplinks was used since the moment before, in thousandths.
    pub uplinks_permille: u64,
    /// Copies of the rarest piece.
    pub rarest: u32,
    /// Copies of a piece on average, in thousandths.
    pub mean_permille: u64,
    /// Copies of the commonest piece.
    pub commonest: u32,
    /// Hosts that were there.
    pub present: u32,
    /// Fetchers that had finished.
    pub finished: u32,
}

/// Another way to spread the same bytes in the same world.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Baseline {
    /// What it is a model of.
    pub label: String,
    /// How many fetchers there were.
    pub fetchers: u64,
    /// When they had finished, in seconds, in ascending order. Those that never did are missing.
    pub finished_s: Vec<f64>,
}

impl Baseline {
    /// A baseline by its fetchers' completion times; `None`: never.
    pub fn new(label: &str, times: &[Option<Duration>]) -> Self {
        let mut finished_s: Vec<f64> = times.iter().flatten().copied().map(seconds).collect();
        finished_s.sort_by(f64::total_cmp);
        Self { label: label.into(), fetchers: times.len() as u64, finished_s }
    }
}

/// A finished run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of the engine that ran.
    pub engine: String,
    /// The scenario's name.
    pub name: String,
    /// Its row in the table of targets, if it is there.
    pub row: Option<u32>,
    /// What it is about.
    pub about: String,
    /// The seed.
    pub seed: u64,
    /// Whether it ran at full size, and not in its short form.
    pub full: bool,
    /// The command that does it again.
    pub command: String,
    /// One number for all that happened, in hexadecimal.
    pub digest: String,
    /// What was asked of it.
    pub expectations: Vec<Expectation>,
    /// The time that no protocol can beat, in seconds.
    pub bound_s: f64,
    /// When it ended, in seconds.
    pub ended_s: f64,
    /// Fetchers began at different times: each is measured against its own bound, from its own beginning.
    pub staggered: bool,
    /// How many hosts there were.
    pub hosts: u64,
    /// How many of them fetched.
    pub fetchers: u64,
    /// One copy, in bytes.
    pub copy_bytes: u64,
    /// Kinds of hosts.
    pub groups: Vec<GroupRecord>,
    /// Shared links.
    pub links: Vec<LinkRecord>,
    /// From beginning to end.
    pub moments: Vec<MomentRecord>,
    /// Payload bytes sent by everybody.
    pub sent_bytes: u64,
    /// Payload bytes that arrived and proved.
    pub received_bytes: u64,
    /// Of those, bytes that were there already.
    pub duplicate_bytes: u64,
    /// Payload bytes that arrived for nothing.
    pub wasted_bytes: u64,
    /// Bytes verified once, lost, and verified again.
    pub refetched_bytes: u64,
    /// Bytes that went through the relay.
    pub relayed_bytes: u64,
    /// Messages by kind.
    pub traffic: BTreeMap<String, u64>,
    /// Bytes of all messages.
    pub traffic_bytes: u64,
    /// Blocks that were asked for.
    pub transfers: u64,
    /// Samples at which an uplink idled though there was work for it, in thousandths.
    pub idle_permille: u64,
    /// Things that happened.
    pub events: u64,
    /// Rules that were broken.
    pub violations: Vec<String>,
    /// Pieces that nobody held at the end.
    pub gone_pieces: u64,
    /// Groups kept though they are wrong.
    pub bad_groups_kept: u64,
    /// It was stopped because too much happened.
    pub ran_out_of_events: bool,
    /// Other ways to do it.
    pub baselines: Vec<Baseline>,
}

impl RunRecord {
    /// The record as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record has only strings for keys") + "\n"
    }

    /// A record from JSON.
    pub fn from_json(text: &str) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let version: Version = serde_json::from_str(text)?;
        if version.schema != SCHEMA {
            return Err(RecordError::Schema(version.schema));
        }
        Ok(serde_json::from_str(text)?)
    }

    /// With another way to do it.
    pub fn with_baseline(mut self, label: &str, times: &[Option<Duration>]) -> Self {
        self.baselines.push(Baseline::new(label, times));
        self
    }

    /// Whether all that was asked came out, and no rule was broken.
    pub fn passed(&self) -> bool {
        self.expectations.iter().all(|expectation| expectation.passed) && self.is_sound()
    }

    /// Whether no rule was broken, and the run came to its end.
    pub fn is_sound(&self) -> bool {
        self.violations.is_empty() && self.bad_groups_kept == 0 && !self.ran_out_of_events
    }

    /// Completion times as multiples of the bound, in ascending order, of those who finished.
    pub fn ratios(&self) -> Vec<f64> {
        let mut ratios: Vec<f64> = if self.staggered {
            self.groups.iter().flat_map(|group| &group.slowdowns).copied().collect()
        } else {
            self.groups.iter().flat_map(|group| &group.finished_s).map(|at| at / self.unit_s()).collect()
        };
        ratios.sort_by(f64::total_cmp);
        ratios
    }

    /// A baseline's completion times as multiples of the bound.
    pub fn baseline_ratios(&self, baseline: &Baseline) -> Vec<f64> {
        baseline.finished_s.iter().map(|at| at / self.unit_s()).collect()
    }

    /// How many fetchers finished.
    pub fn finished(&self) -> u64 {
        self.groups.iter().map(|group| group.finished_s.len() as u64).sum()
    }

    /// The last completion time as a multiple of the bound; `None` if somebody never finished, or nobody fetched.
    pub fn last_ratio(&self) -> Option<f64> {
        if self.fetchers == 0 || self.finished() < self.fetchers {
            return None;
        }
        let last = |times: fn(&GroupRecord) -> &Vec<f64>| {
            self.groups.iter().filter_map(|group| times(group).last()).copied().reduce(f64::max)
        };
        if self.staggered { last(|group| &group.slowdowns) } else { last(|group| &group.finished_s).map(|at| at / self.unit_s()) }
    }

    /// Payload bytes that arrived twice or for nothing, as a share of all that arrived.
    pub fn waste(&self) -> f64 {
        let arrived = (self.received_bytes + self.wasted_bytes).max(1) as f64;
        (self.duplicate_bytes + self.wasted_bytes) as f64 / arrived
    }

    /// Bytes as a number of copies.
    pub fn copies(&self, bytes: u64) -> f64 {
        bytes as f64 / self.copy_bytes.max(1) as f64
    }

    /// The bound, or a second where there is none.
    pub fn unit_s(&self) -> f64 {
        if self.bound_s > 0.0 { self.bound_s } else { 1.0 }
    }
}

/// The time at which a share of so many fetchers had finished, from the times in ascending order of those who did.
pub fn share(finished: &[f64], fetchers: u64, share: f64) -> Option<f64> {
    let rank = (fetchers as f64 * share).ceil().max(1.0) as usize;
    finished.get(rank - 1).copied()
}

/// A duration in seconds, to the microsecond: so many decimals come back from JSON as they were.
pub fn seconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_those_who_never_finish() {
        assert_eq!(share(&[1.0, 2.0, 3.0], 4, 0.5), Some(2.0));
        assert_eq!(share(&[1.0, 2.0, 3.0], 4, 0.75), Some(3.0));
        assert_eq!(share(&[1.0, 2.0, 3.0], 4, 1.0), None);
        assert_eq!(share(&[], 0, 1.0), None);
    }

    #[test]
    fn a_baseline_is_in_order() {
        let times = [Some(Duration::from_millis(2500)), None, Some(Duration::from_secs(1))];
        assert_eq!(Baseline::new("x", &times).finished_s, [1.0, 2.5]);
    }

    #[test]
    fn other_schemas_are_refused() {
        let read = RunRecord::from_json(r#"{"schema": 2, "something": "else"}"#);
        assert!(read.unwrap_err().to_string().contains("schema 2"));
        assert!(matches!(RunRecord::from_json("{}"), Err(RecordError::Form(_))));
    }
}
