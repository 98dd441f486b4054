//! What an engine's wishes become: the mirror image of a node's driver.

use p2pweights_protocol::engine::{Command, Event, FetchOutcome, Input, Output, ServeOutcome};
use p2pweights_protocol::geometry::{Geometry, Span};
use p2pweights_protocol::ids::{BlobHash, PeerId, RequestId, SwarmId};
use p2pweights_protocol::wire::{BULK_REQUEST_BYTES, BULK_RESPONSE_BYTES, Message};

use super::{Happening, Parcel, World};
use crate::check::Rule;
use crate::frame_length::frame_length;
use crate::host::Fetching;
use crate::hostile::{Serving, serving};
use crate::network::HostId;
use crate::scenario::wire_bytes;
use crate::transfers::Block;

impl World {
    pub(super) fn act(&mut self, here: HostId, output: Output) {
        match output {
            Output::Send { peer, message } => self.say(here, peer, message),
            Output::Fetch { request, provider, blob, size, span, probe } => {
                self.fetch(here, request, provider, (blob, size, span), probe);
            }
            Output::Cancel { request, .. } => self.cancel(here, request),
            Output::Serve { peer, request, blob, span } => self.serve(here, peer, request, blob, span),
            Output::Refuse { peer, request, no_credit } => {
                let Some(there) = self.names.get(&peer).copied() else { return };
                self.refuse(here, there, request, no_credit);
            }
            Output::StopServing { peer, request } => self.stop_serving(here, peer, request),
            Output::Dial { peer } => self.dial(here, peer),
            Output::Hangup { peer, .. } => self.hang_up(here, peer),
            Output::FindProviders { blob } => {
                let incarnation = self.host(here).incarnation;
                self.after(self.scenario.timing.lookup, Happening::LookedUp(here, incarnation, Box::new(blob)));
            }
            Output::Announce { blob } => {
                self.after(self.scenario.timing.announce, Happening::Recorded(here, Box::new(blob), true))
            }
            Output::Unannounce { blob } => {
                self.after(self.scenario.timing.announce, Happening::Recorded(here, Box::new(blob), false))
            }
            Output::Introduce { peer, blob, others } => {
                let Some(there) = self.names.get(&peer).copied() else { return };
                self.post(here, there, 8 + 64 * others.len() as u64, Parcel::Introduction { blob, others });
            }
            Output::Notify(event) => self.note(here, event),
        }
    }

    /// A fact that arises within a host, told to its engine in a moment.
    pub(super) fn tell(&mut self, here: HostId, input: Input) {
        let incarnation = self.host(here).incarnation;
        self.agenda.now_too(Happening::Fact(here, incarnation, Box::new(input)));
    }

    pub(super) fn say(&mut self, here: HostId, peer: PeerId, message: Message) {
        let Some(there) = self.names.get(&peer).copied() else { return };
        if self.hosts[here.0].plan.vice.is_some_and(|vice| vice.withholds(&message)) {
            return;
        }
        let bytes = frame_length(&message);
        if let Message::Have { .. } = message {
            let report = &mut self.host(here).report;
            report.largest_have_bytes = report.largest_have_bytes.max(bytes);
        }
        self.traffic.count(&message, bytes);
        self.post(here, there, bytes, Parcel::Message(message));
    }

    /// Something small sets out over the connection that this end believes in; `false` if there is none.
    pub(super) fn post(&mut self, here: HostId, there: HostId, bytes: u64, what: Parcel) -> bool {
        if self.network.view(here, there).is_none() {
            return false;
        }
        let mut travel = self.host(here).uplink.control(bytes) + self.latency(here, there);
        travel += self.control_across(here, there, bytes) + self.resent(here, there);
        if let Some(until) = self.cut(here, there) {
            travel += until - self.now();
        }
        let Some((connection, at)) = self.network.send(here, there, self.agenda.now(), travel) else { return false };
        self.agenda.at(at, Happening::Arrives { from: here, to: there, connection, what: Box::new(what) });
        true
    }

    fn fetch(
        &mut self,
        here: HostId,
        request: RequestId,
        provider: PeerId,
        (blob, size, span): (BlobHash, u64, Span),
        probe: bool,
    ) {
        let there = self.names.get(&provider).copied();
        let connected = there.and_then(|there| self.network.view(here, there).map(|connection| (there, connection)));
        let Some((there, connection)) = connected else {
            return self.tell(here, Input::FetchEnded { request, outcome: FetchOutcome::Lost, verified_groups: 0 });
        };
        self.host(here).fetching.insert(request, Fetching { provider: there, connection, blob, span, probe });
        self.traffic.requests += 1;
        self.traffic.bytes += BULK_REQUEST_BYTES as u64;
        self.post(here, there, BULK_REQUEST_BYTES as u64, Parcel::Request { request, blob, size, span });
    }

    /// The receiving end stops reading: what has come so far is kept.
    fn cancel(&mut self, here: HostId, request: RequestId) {
        let groups = self.groups_here(here, request);
        self.end_fetch(here, request, FetchOutcome::Cancelled, groups);
    }

    pub(super) fn serve(&mut self, here: HostId, peer: PeerId, request: RequestId, blob: BlobHash, span: Span) {
        let Some(there) = self.names.get(&peer).copied() else { return };
        let ended = |outcome| Input::ServeEnded { peer, request, outcome };
        let Some(connection) = self.network.view(here, there) else { return self.tell(here, ended(ServeOutcome::Lost)) };
        if let Some(rotten) = self.hosts[here.0].drive.rotten(blob, span) {
            return self.found_rot(here, there, request, blob, rotten);
        }
        let host = &mut self.hosts[here.0];
        let how = serving(host.plan.vice, host.served, &mut self.random);
        host.served += 1;
        let good_groups = match how {
            Serving::Refused { no_credit } => {
                self.refuse(here, there, request, no_credit);
                return self.tell(here, ended(ServeOutcome::Sent));
            }
            Serving::Never => return self.tell(here, ended(ServeOutcome::Sent)),
            Serving::Bad => self.random.below(span.groups()),
            Serving::Honest | Serving::Slow(_) => span.groups(),
        };
        let size = self.sizes.get(&blob).copied().unwrap_or_default();
        let payload = match how {
            // Whoever reads it stops at the first group that does not prove.
            Serving::Bad => (good_groups + 1) * p2pweights_protocol::geometry::GROUP_BYTES,
            _ => Geometry::of(size).bytes_in(span),
        };
        let bytes_per_s = if let Serving::Slow(rate) = how { Some(rate) } else { None };
        let wire = self.with_loss(here, there, wire_bytes(payload) + BULK_RESPONSE_BYTES as u64);
        let path = self.routes.path(here, there).unwrap_or_default();
        let block = Block { connection, from: here, to: there, request, span, payload, wire, good_groups, bytes_per_s, path };
        self.host(here).serving.insert((there, request), connection);
        self.host(here).uplink.enqueue(block);
        self.start_uplink(here);
    }

    fn refuse(&mut self, here: HostId, there: HostId, request: RequestId, no_credit: bool) {
        self.traffic.refusals += 1;
        self.traffic.bytes += BULK_RESPONSE_BYTES as u64;
        self.post(here, there, BULK_RESPONSE_BYTES as u64, Parcel::Refusal { request, no_credit });
    }

    fn stop_serving(&mut self, here: HostId, peer: PeerId, request: RequestId) {
        let Some(there) = self.names.get(&peer).copied() else { return };
        let waiting = self.host(here).uplink.take(|block| (block.to, block.request) == (there, request));
        for block in waiting {
            self.end_serve(here, block.to, block.request, ServeOutcome::Cancelled);
        }
    }

    fn note(&mut self, here: HostId, event: Event) {
        let now = self.agenda.now();
        match event {
            Event::SizeProved { blob, size } => {
                if self.sizes.get(&blob) != Some(&size) {
                    self.checker.blame(now, here, Rule::I1, format!("took {size} for the size of {blob:?}"));
                }
                self.host(here).sizes_known.insert(blob);
                let want = self.hosts[here.0].want(blob, size);
                let swarms = &self.scenario.swarms;
                let mut theirs = self.hosts[here.0].plan.swarms.iter().map(|swarm| &swarms[*swarm]);
                let swarm = theirs.find(|swarm| swarm.iter().any(|(other, _)| *other == blob));
                if let Some((name, _)) = swarm.and_then(|swarm| swarm.first()) {
                    let command = Command::Join { swarm: SwarmId(*name), wants: vec![want], providers: Vec::new() };
                    self.tell(here, Input::Command(command));
                }
            }
            Event::BlobStored { blob } => {
                let size = self.sizes.get(&blob).copied().unwrap_or_default();
                let (complete, mut blobs) =
                    (self.hosts[here.0].store.is_complete(blob, size), self.scenario.blobs_of(here).into_iter());
                if !complete {
                    self.checker.blame(now, here, Rule::I14, format!("says that {blob:?} is stored, which it is not"));
                }
                let host = &self.hosts[here.0];
                if host.report.finished_at.is_none() && blobs.all(|(blob, size)| host.store.is_complete(blob, size)) {
                    self.finished(here);
                }
            }
            Event::Struck { peer, misdeed, .. } => {
                if let Some(whom) = self.names.get(&peer).copied() {
                    *self.host(here).report.struck.entry((whom, misdeed)).or_default() += 1;
                }
            }
            Event::Banned { peer, .. } => {
                if let Some(whom) = self.names.get(&peer).copied() {
                    self.host(here).report.banned.entry(whom).or_insert(now);
                }
            }
            Event::SizeDisputed { .. } => self.host(here).report.sizes_disputed += 1,
            Event::LeaveSafe { blob } => self.safe_to_leave(here, blob),
            Event::Damaged { .. } | Event::BlobVerified { .. } => (),
        }
    }
}
