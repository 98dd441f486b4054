//! What the engine wishes of mirrors goes to who plays them, not to the network.

use p2pweights_protocol::engine::{Event, Output};
use p2pweights_protocol::geometry::Geometry;
use p2pweights_protocol::ids::PeerId;
use p2pweights_protocol::wire::BulkRequest;

use super::{Asked, Driver};
use crate::mirrors::{MirrorNews, proof_window};

impl Driver {
    /// Carries a wish out if it is about a mirror; gives it back otherwise.
    pub(super) fn act_on_mirror(&mut self, output: Output) -> Option<Output> {
        let now = self.clock.now();
        match output {
            Output::Send { peer, message } if self.mirrors.contains(peer) => {
                self.inputs.extend(self.mirrors.hear(peer, &message))
            }
            Output::Fetch { request, provider, blob, size, span, probe } if self.mirrors.contains(provider) => {
                if !probe {
                    self.asked.insert(request, Asked { provider, blob, size, span });
                }
                let request = BulkRequest { request, blob, size, span };
                let holders = self.engine.holders(blob, proof_window(Geometry::of(size), span));
                self.mirrors.fetch(now, provider, request, probe, holders, &self.transfers);
            }
            Output::Cancel { request, provider } if self.mirrors.contains(provider) => self.mirrors.cancel(provider, request),
            Output::Hangup { peer, reason } if self.mirrors.contains(peer) => {
                if let Some(message) = self.mirrors.hung_up(now, peer, reason) {
                    self.warn(message);
                }
                self.inputs.extend(self.mirrors.review(now));
                self.mirrors.fetch_whole(&self.transfers);
            }
            Output::Notify(Event::BlobVerified { blob }) => {
                self.mirrors.complete(blob);
                return Some(Output::Notify(Event::BlobVerified { blob }));
            }
            // Told with the hang-up that follows.
            Output::Notify(Event::Banned { peer, .. }) if self.mirrors.contains(peer) => (),
            output => return Some(output),
        }
        None
    }

    pub(super) fn on_mirror_news(&mut self, mirror: PeerId, news: MirrorNews) {
        let now = self.clock.now();
        match news {
            // Whoever waits for it sees that it lives.
            MirrorNews::Came(blob) => _ = self.watched.change(blob),
            MirrorNews::Whole { blob, size } => {
                // What others had brought of it by then came twice, and counts once.
                let brought = size - self.engine.progress(blob).map_or(0, |progress| progress.verified.min(size));
                self.received.count(mirror, brought);
                if let Some(watched) = self.watched.change(blob) {
                    *watched.sources.entry(mirror).or_default() += brought;
                }
            }
            _ => (),
        }
        let (inputs, warning) = self.mirrors.learn(now, mirror, news);
        self.inputs.extend(inputs);
        self.inputs.extend(self.mirrors.review(now));
        self.mirrors.fetch_whole(&self.transfers);
        if let Some(warning) = warning {
            self.warn(warning);
        }
    }
}
