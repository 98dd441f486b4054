//! Power cuts, kills, and disks that fail, at every point of a small life of a store. What a power cut may leave: `image`. What must hold
//! then: `promises`.

pub(in crate::store) mod catalog;
mod faults;
mod image;
mod mutations;
mod promises;
mod scenario;

use std::fs;
use std::path::Path;

use p2pweights_protocol::random::Random;
use tempfile::TempDir;

use self::catalog::MemoryCatalog;
use self::image::{Fate, Platter};
use self::scenario::{Event, Promises, World, settle_time};
use crate::store::disk::stage::Step;

/// In memory where that can be had: tens of thousands of small stores are made.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let in_memory = memory.is_dir().then(|| TempDir::new_in(memory).ok()).flatten();
    in_memory.unwrap_or_else(|| TempDir::new().unwrap())
}

/// A life that was recorded, about to be cut short.
struct Recording {
    _folder: TempDir,
    world: World,
    steps: Vec<Step>,
    index_changes: Vec<usize>,
    /// How the disk is at every so many steps.
    milestones: Vec<Platter>,
}

const MILESTONE: usize = 16;

impl Recording {
    fn new() -> Self {
        let folder = folder();
        let mut world = World::new(&folder.path().join("world"));
        world.play();
        assert!(world.errors.is_empty(), "{:?}", world.errors);
        Self::of(folder, world)
    }

    fn of(folder: TempDir, world: World) -> Self {
        let tape = world.stage.tape().take().unwrap();
        let mut recording =
            Self { _folder: folder, world, steps: tape.steps, index_changes: tape.index_changes, milestones: Vec::new() };
        recording.mark();
        recording
    }

    fn mark(&mut self) {
        self.milestones.clear();
        let mut platter = Platter::default();
        for (number, step) in self.steps.iter().enumerate() {
            if number % MILESTONE == 0 {
                self.milestones.push(platter.clone());
            }
            platter.play(step);
        }
        self.milestones.push(platter);
    }

    /// The disk after so many steps.
    fn platter(&self, steps: usize) -> Platter {
        let milestone = steps / MILESTONE;
        let mut platter = self.milestones[milestone.min(self.milestones.len() - 1)].clone();
        if milestone < self.milestones.len() {
            self.steps[milestone * MILESTONE..steps].iter().for_each(|step| platter.play(step));
        }
        platter
    }

    /// Where the store may be cut: the user's files are there.
    fn first(&self) -> usize {
        let users = |step: &Step| matches!(step, Step::Event { .. });
        self.steps.iter().take_while(|step| !users(step)).count() + 5
    }

    fn promises(&self, steps: usize) -> Promises {
        let mut promises = Promises::default();
        let events = self.world.events.borrow();
        for step in &self.steps[..steps] {
            match step {
                Step::Event { number } => promises.add(&events[*number]),
                Step::ByHand { path, bytes, .. } => promises.add(&Event::Users(path.clone(), bytes.clone())),
                _ => {}
            }
        }
        promises
    }

    /// Cuts after so many steps, and looks what is left.
    fn cut(&self, steps: usize, fate: &Fate, catalog: MemoryCatalog) -> Result<(), String> {
        let image = self.platter(steps).image(fate);
        image.lay_out(&self.world.root);
        for entry in fs::read_dir(self.world.root.join("user")).unwrap() {
            settle_time(&entry.unwrap().path());
        }
        let root = self.world.root.clone();
        let promises = self.promises(steps);
        promises::check(&root, &self.world.cast, &promises, catalog)
    }

    /// Any of the indexes that there may be, or none, or one that cannot be read.
    fn catalog(&self, steps: usize, random: &mut Random) -> MemoryCatalog {
        let leftovers = self.world.stage.catalog().unwrap().leftovers(self.index_changes[steps - 1]);
        match random.below(8) {
            0 => MemoryCatalog::broken(),
            1 => MemoryCatalog::default(),
            2 | 3 => MemoryCatalog::with(leftovers[leftovers.len() - 1].clone()),
            4 => MemoryCatalog::with(leftovers[random.below(leftovers.len() as u64) as usize].clone()),
            // What was made durable, nothing later.
            _ => MemoryCatalog::with(leftovers[0].clone()),
        }
    }

    /// The index as it was, if all of it was durable.
    fn catalog_at_best(&self, steps: usize) -> MemoryCatalog {
        let mut leftovers = self.world.stage.catalog().unwrap().leftovers(self.index_changes[steps - 1]);
        MemoryCatalog::with(leftovers.pop().expect("at least the empty one"))
    }

    /// One crash, drawn by its seed.
    fn sample(&self, seed: u64) -> Result<(), String> {
        let mut random = Random::new(seed);
        let first = self.first();
        let steps = first + random.below((self.steps.len() - first) as u64 + 1) as usize;
        let catalog = self.catalog(steps, &mut random);
        self.cut(steps, &Fate::Drawn(random.any()), catalog).map_err(|broken| {
            let next = self.steps.get(steps).map(|step| format!("{step:.100?}")).unwrap_or_default();
            format!("seed {seed}, cut before step {steps} of {} ({next:.100}): {broken}", self.steps.len())
        })
    }
}

#[test]
fn every_beginning_of_a_life_keeps_all_promises() {
    let recording = Recording::new();
    let mut broken = Vec::new();
    for steps in recording.first()..=recording.steps.len() {
        for (name, fate) in [("killed", Fate::Kept), ("lost all that was not synced", Fate::Lost)] {
            if let Err(error) = recording.cut(steps, &fate, recording.catalog_at_best(steps)) {
                broken
                    .push(format!("{name} before step {steps} ({:.120}): {error}", format!("{:?}", recording.steps.get(steps))));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "{} of {} images: {:#?}",
        broken.len(),
        2 * recording.steps.len(),
        &broken[..broken.len().min(12)]
    );
}

/// Crashes drawn, unless the variable says how many: `.ci/run` wants ten thousand.
const SAMPLES: u64 = 2_000;
const SAMPLES_VARIABLE: &str = "P2PWEIGHTS_CRASH_IMAGES";

#[test]
fn crashes_drawn_by_seed_keep_all_promises() {
    let samples = std::env::var(SAMPLES_VARIABLE).map_or(SAMPLES, |wanted| wanted.parse().expect("a number"));
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64).min(4);
    let began = std::time::Instant::now();
    let broken: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|worker| {
                scope.spawn(move || {
                    let recording = Recording::new();
                    let seeds = (worker..samples).step_by(workers as usize);
                    seeds.filter_map(|seed| recording.sample(seed).err()).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    println!("{samples} crash images in {:.1} s, {} broken", began.elapsed().as_secs_f64(), broken.len());
    assert!(broken.is_empty(), "{} of {samples} images: {:#?}", broken.len(), &broken[..broken.len().min(12)]);
}
