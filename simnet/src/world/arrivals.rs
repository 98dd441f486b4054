//! What a happening becomes for the host it happens to.

use std::time::Duration;

use p2pweights_protocol::engine::{FetchOutcome, Input};

use super::{Happening, Parcel, World};
use crate::hostile::{Deed, beat};
use crate::network::{ConnectionId, HostId};

impl World {
    pub(super) fn happen(&mut self, happening: Happening) {
        if self.all_awake_at > self.now()
            && let Some(until) = self.sleeps_through(&happening)
        {
            return self.agenda.at(until, happening);
        }
        match happening {
            Happening::Begin(host) => self.begin(host),
            Happening::Fault(fault) => self.befall(fault.what),
            Happening::Wake(host) => {
                if self.hosts[host.0].wake_at.is_some_and(|at| at <= self.now()) {
                    self.host(host).wake_at = None;
                    self.feed(host, Input::Tick);
                }
            }
            Happening::Fact(host, incarnation, input) => {
                if self.is(host, incarnation) {
                    self.feed(host, *input);
                }
            }
            Happening::Sync(host, incarnation) => self.sync(host, incarnation),
            Happening::Beat(host, incarnation) => self.beat(host, incarnation),
            Happening::Sample => self.sample(),
            Happening::Recorded(host, blob, true) => self.directory.add(*blob, host),
            Happening::Recorded(host, blob, false) => self.directory.remove(*blob, host),
            Happening::LookedUp(host, incarnation, blob) => {
                if self.is(host, incarnation) {
                    let found = self.directory.find(*blob, host, &mut self.random);
                    let providers = found.into_iter().map(|host| self.hosts[host.0].peer).collect();
                    self.feed(host, Input::ProvidersFound { blob: *blob, providers, finished: true });
                }
            }
            Happening::DialArrives { from, to } => self.dial_arrives(from, to),
            Happening::DialFails { from, to } => {
                let peer = self.hosts[to.0].peer;
                self.feed(from, Input::DialFailed { peer });
            }
            Happening::DialAnswered { from, to, connection } => self.dial_answered(from, to, connection),
            Happening::Gone { here, there, connection } => self.gone(here, there, connection),
            Happening::Arrives { from, to, connection, what } => self.arrives(from, to, connection, *what),
            Happening::BlockOut(host, incarnation, id) => self.block_out(host, incarnation, id),
            Happening::BlockSent(host, incarnation, id) => self.block_sent(host, incarnation, id),
            Happening::FirstByte(id) => self.first_byte(id),
            Happening::LastByte(id) => self.last_byte(id),
            Happening::WayFree(way) => self.way_free(way),
            Happening::Stalled(host, incarnation, block) => self.try_again(host, incarnation, *block),
            Happening::Written(host, incarnation, writing) => self.written(host, incarnation, *writing),
            Happening::Resumes(host, incarnation) => self.resume(host, incarnation),
            Happening::SiteDown(site, until) => self.site_down(site, until),
            Happening::SiteUp(site) => self.site_up(site),
            Happening::Noticed(side) => self.noticed(&side),
            Happening::Quick(host) => self.quick(host),
            Happening::Leaves(host) => self.leave(host),
            Happening::LooksAround(host, incarnation) => self.look_around(host, incarnation),
            Happening::Moment => self.moment(),
        }
    }

    pub(super) fn is(&self, host: HostId, incarnation: u64) -> bool {
        self.hosts[host.0].up && self.hosts[host.0].incarnation == incarnation
    }

    fn begin(&mut self, id: HostId) {
        if self.hosts[id.0].gone {
            return;
        }
        let (config, seed, now) = (self.scenario.engine.clone(), self.scenario.seed, self.now());
        self.host(id).report.began_at.get_or_insert(now);
        self.count_copies(id, |count| count.present += 1);
        let commands = self.hosts[id.0].begin(&config, seed, &self.scenario.swarms);
        if let Some(recording) = &mut self.recording {
            recording.began(id, self.hosts[id.0].engine_seed(seed));
        }
        for command in commands {
            self.feed(id, Input::Command(command));
        }
        if self.hosts[id.0].engine.is_none() {
            for (blob, _) in self.scenario.blobs_of(id) {
                self.after(self.scenario.timing.announce, Happening::Recorded(id, Box::new(blob), true));
            }
            let incarnation = self.host(id).incarnation;
            self.after(self.scenario.timing.beat, Happening::Beat(id, incarnation));
        }
        self.settle_in(id);
    }

    pub(super) fn crash(&mut self, id: HostId, away: Option<Duration>) {
        let now = self.now();
        if !self.hosts[id.0].up {
            return;
        }
        self.count_copies(id, |count| count.present -= 1);
        let lost = self.host(id).crash() * p2pweights_protocol::geometry::GROUP_BYTES;
        self.host(id).report.lost_in_crashes += lost;
        self.checker.crashed(id);
        self.transfers.cut(now, id);
        self.disappear(id);
        match away {
            Some(away) => self.after(away, Happening::Begin(id)),
            None => self.goes_for_good(id),
        }
    }

    fn arrives(&mut self, from: HostId, to: HostId, connection: ConnectionId, what: Parcel) {
        if !self.network.is_open(to, from, connection) {
            return;
        }
        let peer = self.hosts[from.0].peer;
        match what {
            Parcel::Message(message) => self.feed(to, Input::Message { peer, message }),
            Parcel::Babble => self.feed(to, Input::Malformed { peer }),
            Parcel::Request { request, blob, size, span } => self.feed(to, Input::Requested { peer, request, blob, size, span }),
            Parcel::Introduction { blob, others: providers } => {
                self.feed(to, Input::ProvidersFound { blob, providers, finished: true });
            }
            Parcel::Broken { request } => self.end_fetch(to, request, FetchOutcome::Lost, 0),
            Parcel::Refusal { request, no_credit } => {
                let outcome = if no_credit { FetchOutcome::NoCredit } else { FetchOutcome::NotHeld };
                self.end_fetch(to, request, outcome, 0);
            }
        }
    }

    fn sync(&mut self, id: HostId, incarnation: u64) {
        if !self.is(id, incarnation) {
            return;
        }
        self.host(id).sync_due = false;
        if self.hosts[id.0].drive.fails(self.now()) {
            return self.sync_failed(id);
        }
        let (now, synced) = (self.now(), self.host(id).store.sync());
        self.count_synced(id, &synced);
        for (blob, span) in &synced {
            self.checker.synced(now, id, *blob, *span);
        }
        for (blob, span) in synced {
            let size = self.sizes.get(&blob).copied().unwrap_or_default();
            self.feed(id, Input::SpanStored { blob, size, span });
        }
    }

    fn beat(&mut self, id: HostId, incarnation: u64) {
        let Some(vice) = self.hosts[id.0].plan.vice.filter(|_| self.is(id, incarnation)) else { return };
        let known: Vec<HostId> = (0..self.hosts.len()).map(HostId).filter(|host| self.hosts[host.0].is_honest()).collect();
        let connected: Vec<HostId> = self.network.neighbours(id).collect();
        for deed in beat(vice, &known, &connected, &self.scenario.blobs_of(id), &mut self.random) {
            self.trace.note(self.agenda.now(), id, &deed);
            match deed {
                Deed::Dial(host) => self.knock(id, host),
                Deed::Say(host, message) => {
                    if message.violation().is_none() {
                        let peer = self.hosts[host.0].peer;
                        self.say(id, peer, message);
                    } else {
                        self.post(id, host, 64, Parcel::Message(message));
                    }
                }
                Deed::Babble(host) => _ = self.post(id, host, 64, Parcel::Babble),
                Deed::Ask(host, request, blob, size, span) => {
                    self.post(id, host, 64, Parcel::Request { request, blob, size, span });
                }
            }
        }
        self.after(self.scenario.timing.beat, Happening::Beat(id, incarnation));
    }
}
