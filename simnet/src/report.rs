//! What is known of a world when it has ended: when who finished, what was sent, and what went wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use p2pweights_protocol::engine::Misdeed;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::time::Instant;
use p2pweights_protocol::wire::Message;

use crate::check::Violation;
use crate::network::HostId;

/// Control messages by kind, and requests and refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each counts the messages of its name")]
pub struct Traffic {
    pub hello: u64,
    pub interest: u64,
    pub no_interest: u64,
    pub have: u64,
    pub have_more: u64,
    pub have_not: u64,
    pub load: u64,
    pub grant: u64,
    pub returned: u64,
    pub cancel: u64,
    pub decline: u64,
    pub peers: u64,
    pub requests: u64,
    pub refusals: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Traffic {
    /// Counts a control message.
    pub fn count(&mut self, message: &Message, bytes: u64) {
        let counter = match message {
            Message::Hello { .. } => &mut self.hello,
            Message::Interest { .. } => &mut self.interest,
            Message::NoInterest { .. } => &mut self.no_interest,
            Message::Have { .. } => &mut self.have,
            Message::HaveMore { .. } => &mut self.have_more,
            Message::HaveNot { .. } => &mut self.have_not,
            Message::Load { .. } => &mut self.load,
            Message::Grant { .. } => &mut self.grant,
            Message::Return { .. } => &mut self.returned,
            Message::Cancel { .. } => &mut self.cancel,
            Message::Decline { .. } => &mut self.decline,
            Message::Peers { .. } => &mut self.peers,
        };
        *counter += 1;
        self.bytes += bytes;
    }

    /// Control messages of every kind; requests and refusals, which travel with the payload, left out.
    pub fn messages(&self) -> u64 {
        self.hello
            + self.interest
            + self.no_interest
            + self.have
            + self.have_more
            + self.have_not
            + self.load
            + self.grant
            + self.returned
            + self.cancel
            + self.decline
            + self.peers
    }
}

/// One host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostReport {
    /// When it held all it wanted, durably.
    pub finished_at: Option<Instant>,
    /// Payload bytes that left it.
    pub sent: u64,
    /// Payload bytes that arrived and proved.
    pub received: u64,
    /// Of those, bytes that were there already.
    pub duplicate: u64,
    /// Payload bytes that arrived for nothing: they did not prove, or belonged to a request given up.
    pub wasted: u64,
    /// Bytes written but not synced when it crashed.
    pub lost_in_crashes: u64,
    /// Payload bytes received from each host.
    pub received_from: BTreeMap<HostId, u64>,
    /// Steps of its engine.
    pub steps: u64,
    /// Of those, steps that were nothing but a wake-up.
    pub wakeups: u64,
    /// How many times it struck each host, and for what.
    pub struck: BTreeMap<(HostId, Misdeed), u32>,
    /// When it first banned each host.
    pub banned: BTreeMap<HostId, Instant>,
    /// Pieces that it still lacks and that no connected peer holds, at the end.
    pub unavailable: u32,
    /// The time its uplink was busy.
    pub uplink_busy: Duration,
    /// Samples at which a connected peer lacked something that it holds.
    pub samples_useful: u64,
    /// Of those, samples at which it sent nothing, though the peer had room and had asked nobody else for it.
    pub samples_idle: u64,
    /// Times it was found disputing a size.
    pub sizes_disputed: u32,
    /// Its kind, by its place in [`Report::groups`].
    pub group: usize,
    /// When it began.
    pub began_at: Option<Instant>,
    /// When it left for good.
    pub left_at: Option<Instant>,
    /// The least time that it needs by itself, whatever the others do: all it wants over its own downlink, or as the whole swarm can.
    pub bound: Duration,
    /// When it held the first bytes of what it wants, so that a reader could begin.
    pub first_bytes_at: Option<Instant>,
    /// Bytes that it had verified once, lost, and verified again.
    pub refetched: u64,
    /// Bytes that came to it through the relay.
    pub relayed: u64,
    /// Largest have-map that it sent, in bytes on the wire.
    pub largest_have_bytes: u64,
    /// Most that its engine held in memory at a sample, estimated from its parts; 0 if it was not measured.
    pub engine_bytes: u64,
}

/// A site's shared link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SiteReport {
    /// The site's name.
    pub name: String,
    /// Payload bytes that came in over the link.
    pub bytes_in: u64,
    /// Payload bytes that went out.
    pub bytes_out: u64,
    /// Of those that came in, bytes of groups that a host of the site had verified or was being sent already.
    pub bytes_again: u64,
    /// The time that the link was down until the last host of the site had finished.
    pub down_time: Duration,
}

/// The world as a whole at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// When.
    pub at: Instant,
    /// Payload bytes sent so far by everybody.
    pub sent: u64,
    /// Time that uplinks spent sending since the last moment, of all they could have, in thousandths.
    pub uplinks_busy_permille: u64,
    /// Copies of the rarest piece among the hosts that are there.
    pub rarest: u32,
    /// Copies of a piece on average, in thousandths.
    pub mean_permille: u64,
    /// Copies of the commonest piece.
    pub commonest: u32,
    /// Hosts that are there.
    pub present: u32,
    /// Fetchers that have finished.
    pub finished: u32,
}

/// A world that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// When it ended.
    pub ended_at: Instant,
    /// The time that no protocol can beat, for worlds without faults.
    pub bound: Duration,
    /// The hosts that were to finish.
    pub fetchers: Vec<HostId>,
    /// What kinds of hosts there are, by name.
    pub groups: Vec<String>,
    /// Every host.
    pub hosts: Vec<HostReport>,
    /// Every site's shared link.
    pub sites: Vec<SiteReport>,
    /// The world from beginning to end, at equal steps: at most a few hundred.
    pub moments: Vec<Moment>,
    /// Sum of the sizes of all that a fetcher wants, if they differ of the one that wants most: one copy.
    pub copy_bytes: u64,
    /// Pieces that nobody present holds at the end though somebody wants them, by blob and piece.
    pub gone_pieces: Vec<(BlobHash, u32)>,
    /// Groups that were kept though they are not what they should be; must be none.
    pub bad_groups_kept: u64,
    /// What was said.
    pub traffic: Traffic,
    /// Rules that were broken.
    pub violations: Vec<Violation>,
    /// How much happened in each second of virtual time.
    pub events_per_second: Vec<u64>,
    /// How much happened.
    pub events: u64,
    /// Stopped because too much happened.
    pub ran_out_of_events: bool,
    /// One number for all that happened: equal for equal seeds.
    pub digest: u64,
    /// The last lines of what happened, if they were asked for.
    pub lines: Vec<String>,
}

impl Report {
    /// Whether every fetcher has finished.
    pub fn all_finished(&self) -> bool {
        self.fetchers.iter().all(|host| self.hosts[host.0].finished_at.is_some())
    }

    /// When the last fetcher finished; `None` if one did not.
    pub fn last_finish(&self) -> Option<Duration> {
        let times: Option<Vec<Instant>> = self.fetchers.iter().map(|host| self.hosts[host.0].finished_at).collect();
        times?.into_iter().max().map(|at| at - Instant::START)
    }

    /// The last finish against the bound, in thousandths.
    pub fn ratio_permille(&self) -> Option<u64> {
        let last = self.last_finish()?.as_nanos() * 1000;
        u64::try_from(last / self.bound.as_nanos().max(1)).ok()
    }

    /// Payload bytes sent by everybody.
    pub fn sent(&self) -> u64 {
        self.hosts.iter().map(|host| host.sent).sum()
    }

    /// Payload bytes that arrived twice or for nothing, of all that arrived, in 1/100,000.
    pub fn waste_per_100k(&self) -> u64 {
        let wasted: u64 = self.hosts.iter().map(|host| host.duplicate + host.wasted).sum();
        wasted * 100_000 / self.hosts.iter().map(|host| host.received + host.wasted).sum::<u64>().max(1)
    }

    /// Control messages for each MiB of payload sent, in thousandths.
    pub fn messages_per_mib_permille(&self) -> u64 {
        self.traffic.messages() * 1000 * crate::MIB / self.sent().max(1)
    }

    /// Samples at which an uplink idled though there was work for it, of all samples at which there was, in thousandths.
    pub fn idle_permille(&self) -> u64 {
        let (idle, useful) =
            self.hosts.iter().fold((0, 0), |(idle, useful), host| (idle + host.samples_idle, useful + host.samples_useful));
        idle * 1000 / useful.max(1)
    }

    /// The figures that matter, in one line.
    pub fn summary(&self) -> String {
        let thousandths = |permille: u64| format!("{}.{:03}", permille / 1000, permille % 1000);
        let last = self.last_finish().map_or("never".into(), |last| format!("{last:.3?}"));
        let ratio = self.ratio_permille().map_or("-".into(), thousandths);
        let sent: Vec<u64> = self.hosts.iter().map(|host| host.sent / crate::MIB).take(6).collect();
        format!(
            "last {last} = {ratio} x bound, MiB sent {sent:?} of {}, waste {}/100,000, idle {}, messages/MiB {}, events {}, {:?}",
            self.sent() / crate::MIB,
            self.waste_per_100k(),
            thousandths(self.idle_permille()),
            thousandths(self.messages_per_mib_permille()),
            self.events,
            self.traffic,
        )
    }

    /// The most that happened in one second, from a second on.
    pub fn busiest_second_after(&self, second: usize) -> u64 {
        self.events_per_second.iter().skip(second).copied().max().unwrap_or(0)
    }
}
