//! A disk that fails, is full, or belongs to a process that is killed, at each change of a small life of a store.

use super::image::Fate;
use super::promises;
use super::scenario::{Event, World, open};
use super::{Recording, folder};
use crate::store::Location;
use crate::store::disk::stage::Trouble;
use crate::store::tests::Peer;

/// What happens to the disk at some change.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    /// It fails or is full, once or to the end of the life.
    Trouble(Trouble, bool),
    /// The process is killed, and the next one begins.
    Kill,
}

/// How many changes a life makes on a disk that is well.
fn changes() -> u64 {
    let folder = folder();
    let mut world = World::new(&folder.path().join("world"));
    world.play();
    world.stage.verbs()
}

/// Lives with a mishap at that change, then goes on to the end on a disk that is well, and loses power.
fn live_with(mishap: Mishap, change: u64) -> Result<(), String> {
    let folder = folder();
    let mut world = World::new(&folder.path().join("world"));
    match mishap {
        Mishap::Trouble(trouble, lasting) => world.stage.fail(change, trouble, lasting),
        Mishap::Kill => world.stage.die_at(change),
    }
    world.play();
    // Others may be what came of the first.
    if let Some(error) = world.errors.first() {
        let plain = ["is full", "Input/output error", "a sync of"].iter().any(|words| error.contains(words));
        if !plain {
            return Err(format!("an error that does not say what is wrong: {error}"));
        }
    }
    world.stage.mend();
    if world.stage.is_dead() {
        world.kill();
    }
    let promises = world.promises();
    // The store that was there, if its process lives, and the next one.
    if let Some(store) = world.store() {
        promises::check_blobs(&store, &world.cast, &promises).map_err(|broken| format!("going on: {broken}"))?;
    }
    world.close();
    let store = open(&world.stage, &world.root).map_err(|error| format!("opening again: {error}"))?;
    promises::check_blobs(&store, &world.cast, &promises).map_err(|broken| format!("after a start: {broken}"))?;
    promises::check_outside(&world.root, &world.cast, &promises)?;
    promises::complete(&store, &world.cast)?;
    // A record whose sync failed was not promised: the publish failed.
    let stored = |peer: &&Peer| store.blob(peer.hash).is_some_and(|status| status.location == Location::Stored);
    for peer in world.cast.all().filter(stored) {
        world.event(Event::Held(peer.hash, peer.geometry.whole().into_iter().collect()));
    }
    drop(store);
    let lasting = matches!(mishap, Mishap::Trouble(Trouble::Broken, true));
    if lasting || world.errors.iter().any(|error| error.starts_with("open before")) {
        // A sync failed, nothing of that could be written down, and the next start could not tell: docs/store.md.
        return Ok(());
    }
    // What a dead process had written must not be taken for durable.
    let recording = Recording::of(folder, world);
    let steps = recording.steps.len();
    let catalog = recording.catalog_at_best(steps);
    recording.cut(steps, &Fate::Lost, catalog).map_err(|broken| format!("power cut at the end: {broken}"))
}

fn live_with_each(mishap: Mishap) {
    let broken: Vec<String> = (1..=changes())
        .filter_map(|change| live_with(mishap, change).err().map(|broken| format!("{mishap:?} at change {change}: {broken}")))
        .collect();
    assert!(broken.is_empty(), "{} lives: {:#?}", broken.len(), &broken[..broken.len().min(8)]);
}

#[test]
fn a_disk_that_is_full_at_any_change_loses_nothing() {
    live_with_each(Mishap::Trouble(Trouble::Full, false));
    live_with_each(Mishap::Trouble(Trouble::Full, true));
}

#[test]
fn a_disk_that_fails_at_any_change_loses_nothing() {
    live_with_each(Mishap::Trouble(Trouble::Broken, false));
    live_with_each(Mishap::Trouble(Trouble::Broken, true));
}

#[test]
fn a_kill_at_any_change_and_a_power_cut_later_lose_nothing() {
    live_with_each(Mishap::Kill);
}
