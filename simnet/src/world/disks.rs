//! What comes to a disk and what becomes of it: slow, full and failing disks, and rot.

use std::time::Duration;

use p2pweights_protocol::engine::{Command, FetchOutcome, Input, ServeOutcome};
use p2pweights_protocol::geometry::{GROUP_BYTES, Geometry, Span};
use p2pweights_protocol::ids::{BlobHash, RequestId};

use super::{Happening, Parcel, World};
use crate::network::HostId;

/// How long fetching pauses after the store failed, before it is tried again: the node's number.
const STORE_RETRY: Duration = Duration::from_secs(10);

/// Groups that are being written, for a request that has ended but for that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writing {
    pub request: RequestId,
    pub outcome: FetchOutcome,
    pub blob: BlobHash,
    pub span: Span,
}

impl World {
    /// Groups have come and proved. Their request has ended when they are written.
    pub(super) fn write(&mut self, here: HostId, writing: Writing) {
        let now = self.now();
        let host = &mut self.hosts[here.0];
        if host.drive.is_plain(now) {
            return self.put_down(here, writing);
        }
        let (at, incarnation) = (host.drive.write(now, writing.span.groups() * GROUP_BYTES), host.incarnation);
        if at == now {
            return self.written(here, incarnation, writing);
        }
        self.agenda.at(at, Happening::Written(here, incarnation, Box::new(writing)));
    }

    /// A disk that is slow or may fail has come to it.
    pub(super) fn written(&mut self, here: HostId, incarnation: u64, writing: Writing) {
        if !self.is(here, incarnation) {
            return;
        }
        let (now, host) = (self.agenda.now(), &self.hosts[here.0]);
        let used = if host.drive.is_limited() { host.store.groups() * GROUP_BYTES } else { 0 };
        let missing = if host.drive.is_limited() { self.missing_bytes(here, &writing) } else { 0 };
        if !self.hosts[here.0].drive.refuses(now, used, missing) {
            return self.put_down(here, writing);
        }
        self.pause(here);
        let Writing { request, span, .. } = writing;
        let (bytes, report) = (span.groups() * GROUP_BYTES, &mut self.hosts[here.0].report);
        (report.received, report.wasted) = (report.received.saturating_sub(bytes), report.wasted + bytes);
        self.tell(here, Input::FetchEnded { request, outcome: FetchOutcome::StoreFailed, verified_groups: 0 });
    }

    fn missing_bytes(&self, here: HostId, writing: &Writing) -> u64 {
        let store = &self.hosts[here.0].store;
        (writing.span.start()..writing.span.end()).filter(|group| !store.has_written(writing.blob, *group)).count() as u64
            * GROUP_BYTES
    }

    fn put_down(&mut self, here: HostId, Writing { request, outcome, blob, span }: Writing) {
        let now = self.agenda.now();
        let host = &mut self.hosts[here.0];
        let new = host.store.write(blob, span);
        host.report.duplicate += (span.groups() - new) * GROUP_BYTES;
        if let Some(lost) = host.lost.get_mut(&blob) {
            host.report.refetched += lost.remove(span) * GROUP_BYTES;
        }
        if new > 0 && !host.sync_due {
            host.sync_due = true;
            let incarnation = host.incarnation;
            self.after(self.scenario.timing.sync_delay, Happening::Sync(here, incarnation));
        }
        if span.start() == 0 && self.hosts[here.0].report.first_bytes_at.is_none() && self.reads_first(here) == Some(blob) {
            self.host(here).report.first_bytes_at = Some(now);
        }
        self.tell(here, Input::FetchEnded { request, outcome, verified_groups: span.groups() });
    }

    /// The blob that a reader of what this host fetches would begin with.
    pub(super) fn reads_first(&self, here: HostId) -> Option<BlobHash> {
        let plan = &self.hosts[here.0].plan;
        let swarm = plan.swarms.first().filter(|_| plan.fetches)?;
        self.scenario.swarms[*swarm].first().map(|(blob, _)| *blob)
    }

    /// The store cannot take more: the owner has the engine ask for nothing for a while.
    fn pause(&mut self, here: HostId) {
        let (now, incarnation) = (self.now(), self.hosts[here.0].incarnation);
        let was_paused = self.host(here).paused_until.replace(now + STORE_RETRY).is_some();
        if !was_paused {
            self.after(STORE_RETRY, Happening::Resumes(here, incarnation));
        }
        self.tell(here, Input::Command(Command::Pause { paused: true }));
    }

    /// The store is tried again.
    pub(super) fn resume(&mut self, here: HostId, incarnation: u64) {
        let Some(until) = self.hosts[here.0].paused_until.filter(|_| self.is(here, incarnation)) else { return };
        if until > self.now() {
            return self.agenda.at(until, Happening::Resumes(here, incarnation));
        }
        self.host(here).paused_until = None;
        self.feed(here, Input::Command(Command::Pause { paused: false }));
    }

    /// A sync has failed: nothing since the last one may be relied on.
    pub(super) fn sync_failed(&mut self, here: HostId) {
        let lost = self.host(here).store.pending();
        self.host(here).store.crash();
        self.pause(here);
        for (blob, span) in lost {
            self.host(here).lose(blob, span);
            self.feed(here, Input::SpanLost { blob, span });
        }
    }

    /// What became durable counts as copies.
    pub(super) fn count_synced(&mut self, here: HostId, synced: &[(BlobHash, Span)]) {
        let host = &self.hosts[here.0];
        if !host.gives() {
            return;
        }
        let mut last = None;
        for (blob, span) in synced {
            let (held, geometry) = (host.store.durable(*blob), Geometry::of(self.sizes.get(blob).copied().unwrap_or_default()));
            // Two runs may end up in one piece, which counts once.
            let first = match last {
                Some((other, piece)) if other == *blob && piece == geometry.piece_of(span.start()) => {
                    geometry.piece_span(piece).map_or(span.end(), Span::end)
                }
                _ => span.start(),
            };
            last = Some((*blob, geometry.piece_of(span.end() - 1)));
            let Some(fresh) = Span::new(first, span.end()) else { continue };
            self.copies
                .touched(*blob, held, fresh, |count| (count.present, count.lasting) = (count.present + 1, count.lasting + 1));
        }
    }

    /// Groups of a host rot, unnoticed.
    pub(super) fn rot(&mut self, here: HostId, groups: u64) {
        for _ in 0..groups {
            let blobs: Vec<(BlobHash, u64)> = self.scenario.blobs_of(here);
            let held: u64 = blobs.iter().map(|(blob, _)| self.hosts[here.0].store.durable(*blob).groups()).sum();
            if held == 0 {
                return;
            }
            let mut place = self.random.below(held);
            let host = &mut self.hosts[here.0];
            let runs = blobs.iter().flat_map(|(blob, _)| host.store.durable(*blob).runs().map(move |run| (*blob, run)));
            for (blob, run) in runs {
                if place < run.groups() {
                    host.drive.rot(blob, run.start() + place);
                    break;
                }
                place -= run.groups();
            }
        }
    }

    /// Rot is found while a span is read: it is not sent, and what has rotted is not held any more.
    pub(super) fn found_rot(&mut self, here: HostId, there: HostId, request: RequestId, blob: BlobHash, span: Span) {
        let host = &mut self.hosts[here.0];
        if host.gives() {
            let less = |count: &mut crate::copies::Count| (count.present, count.lasting) = (count.present - 1, count.lasting - 1);
            self.copies.touched(blob, host.store.durable(blob), span, less);
        }
        host.drive.forget_rot(blob, span);
        host.store.lose(blob, span);
        host.lose(blob, span);
        self.tell(here, Input::SpanLost { blob, span });
        let peer = self.hosts[there.0].peer;
        self.tell(here, Input::ServeEnded { peer, request, outcome: ServeOutcome::Damaged });
        self.post(here, there, 64, Parcel::Broken { request });
    }
}
