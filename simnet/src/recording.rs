//! What engines were told in a world, so that they can be run again without it: what then takes time is theirs alone.

use p2pweights_protocol::engine::{Engine, EngineConfig, Input};
use p2pweights_protocol::time::Instant;

use crate::network::HostId;

/// What the engines of some hosts were told, in order.
#[derive(Debug)]
pub struct Recording {
    config: EngineConfig,
    /// Of every so many hosts.
    every: usize,
    hosts: usize,
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    /// An engine begins, with this seed.
    Began(HostId, u64),
    Told(HostId, Instant, Input),
}

impl Recording {
    /// Nothing yet.
    pub(crate) fn new(config: EngineConfig, every: usize, hosts: usize) -> Self {
        Self { config, every: every.max(1), hosts, steps: Vec::new() }
    }

    /// A host's engine begins.
    pub(crate) fn began(&mut self, host: HostId, seed: u64) {
        if host.0.is_multiple_of(self.every) {
            self.steps.push(Step::Began(host, seed));
        }
    }

    /// A host's engine is told something.
    pub(crate) fn told(&mut self, host: HostId, now: Instant, input: &Input) {
        if host.0.is_multiple_of(self.every) {
            self.steps.push(Step::Told(host, now, input.clone()));
        }
    }

    /// How many facts were told.
    pub fn facts(&self) -> u64 {
        self.steps.iter().filter(|step| matches!(step, Step::Told(..))).count() as u64
    }

    /// Tells engines the same again; returns how many wishes came out.
    pub fn replay(self) -> u64 {
        let mut engines: Vec<Option<Engine>> = Vec::new();
        engines.resize_with(self.hosts.div_ceil(self.every), || None);
        let mut wishes = 0;
        for step in self.steps {
            match step {
                Step::Began(host, seed) => engines[host.0 / self.every] = Some(Engine::new(self.config.clone(), seed)),
                Step::Told(host, now, input) => {
                    let Some(engine) = &mut engines[host.0 / self.every] else { continue };
                    engine.handle(now, input);
                    while engine.poll_output().is_some() {
                        wishes += 1;
                    }
                    std::hint::black_box(engine.next_wakeup());
                }
            }
        }
        wishes
    }
}

#[cfg(test)]
mod tests {
    use crate::{Link, MIB, Scenario, World};

    #[test]
    fn engines_do_the_same_again() {
        let link = Link::mbit(100, 100, 5);
        let scenario = Scenario::new(3).blob(8 * MIB).seeds(1, link).fetchers(3, link);
        let (report, recording) = World::record(scenario.clone(), 1);
        assert_eq!(report, World::run(scenario), "nothing changes by recording it");
        let facts: u64 = report.hosts.iter().map(|host| host.steps).sum();
        assert_eq!(recording.facts(), facts);
        assert_eq!(facts + recording.replay(), report.events);
    }
}
