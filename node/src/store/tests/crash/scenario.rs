//! A small life of a store: everything it does to a disk, in a few hundred changes, and what it promised at which point.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use p2pweights_protocol::geometry::GROUP_BYTES;

use super::catalog::MemoryCatalog;
use crate::store::disk::Disk;
use crate::store::disk::stage::Stage;
use crate::store::tests::{Peer, publish, span};
use crate::store::*;

pub(super) type Failure = Box<dyn std::error::Error>;

/// The blobs. Their sizes tell them apart.
pub(super) struct Cast {
    pub(super) big: Peer,
    pub(super) copied: Peer,
    pub(super) referenced: Peer,
    pub(super) edited: Peer,
    pub(super) late_big: Peer,
    pub(super) dropped_big: Peer,
    pub(super) small: [Peer; 5],
    pub(super) small_referenced: Peer,
    pub(super) put: Peer,
}

impl Cast {
    pub(super) fn new() -> Self {
        let large = |less: u64| Peer::with_bytes(17 * GROUP_BYTES - less);
        Self {
            big: Peer::with_groups(18),
            copied: large(1),
            referenced: large(2),
            edited: large(3),
            late_big: large(4),
            dropped_big: large(5),
            small: [500, 3 * GROUP_BYTES - 7, 3 * GROUP_BYTES - 9, 700, 2 * GROUP_BYTES].map(Peer::with_bytes),
            small_referenced: Peer::with_bytes(1000),
            put: Peer::with_bytes(GROUP_BYTES + 5),
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Peer> {
        let large = [&self.big, &self.copied, &self.referenced, &self.edited, &self.late_big, &self.dropped_big];
        large.into_iter().chain(&self.small).chain([&self.small_referenced, &self.put])
    }
}

/// What a test may count on from some step on.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// These groups are held.
    Held(BlobHash, SpanSet),
    /// Nothing is promised of this blob for the time being.
    Doubtful(BlobHash),
    /// It was removed.
    Gone(BlobHash),
    Pinned(BlobHash),
    /// It may be pinned or not.
    Unpinning(BlobHash),
    Unpinned(BlobHash),
    /// This file outside of the store is that blob.
    Exported(PathBuf, BlobHash),
    /// A user's file, from now on.
    Users(PathBuf, Vec<u8>),
}

/// All events up to some point.
#[derive(Debug, Default)]
pub(super) struct Promises {
    pub(super) held: BTreeMap<BlobHash, SpanSet>,
    pub(super) gone: BTreeSet<BlobHash>,
    pub(super) pinned: BTreeMap<BlobHash, bool>,
    pub(super) exported: BTreeMap<PathBuf, BlobHash>,
    pub(super) users: BTreeMap<PathBuf, Vec<u8>>,
}

impl Promises {
    pub(super) fn add(&mut self, event: &Event) {
        match event.clone() {
            Event::Held(hash, held) => {
                self.gone.remove(&hash);
                held.runs().for_each(|run| _ = self.held.entry(hash).or_default().insert(run));
            }
            Event::Doubtful(hash) => {
                self.held.remove(&hash);
                self.gone.remove(&hash);
            }
            Event::Gone(hash) => {
                self.gone.insert(hash);
            }
            Event::Pinned(hash) => _ = self.pinned.insert(hash, true),
            Event::Unpinning(hash) => _ = self.pinned.remove(&hash),
            Event::Unpinned(hash) => _ = self.pinned.insert(hash, false),
            Event::Exported(path, hash) => _ = self.exported.insert(path, hash),
            Event::Users(path, bytes) => _ = self.users.insert(path, bytes),
        }
    }
}

/// A store under test, what lies around it, and what has happened.
pub(super) struct World {
    pub(super) root: PathBuf,
    pub(super) cast: Cast,
    pub(super) stage: Arc<Stage>,
    pub(super) events: RefCell<Vec<Event>>,
    pub(super) errors: Vec<String>,
    store: Option<Store>,
}

/// User's files are all as old as that: a stamp in a record fits them in every image.
pub(super) fn settle_time(path: &Path) {
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

pub(super) fn open(stage: &Arc<Stage>, root: &Path) -> Result<Store, StoreError> {
    let config = StoreConfig { reserve_bytes: 0, ..StoreConfig::default() };
    Store::open_on(Disk::on(Arc::clone(stage)), &root.join("store"), config)
}

/// Sends one span.
pub(super) fn deliver(writer: &BlobWriter, peer: &Peer, wanted: p2pweights_protocol::geometry::Span) -> Result<(), ReceiveError> {
    writer.receive(wanted, &mut &peer.encoded(wanted)[..]).outcome
}

/// Sends a small blob whole.
pub(super) fn deliver_small(store: &Store, peer: &Peer) -> Result<(), ReceiveError> {
    let whole = peer.geometry.whole().unwrap();
    store.receive_small(peer.hash, peer.size(), &mut &peer.encoded(whole)[..]).outcome
}

impl World {
    /// In an empty folder, with the user's files; recorded from here on.
    pub(super) fn new(root: &Path) -> Self {
        let cast = Cast::new();
        fs::create_dir(root).unwrap();
        fs::create_dir(root.join("user")).unwrap();
        let files = [("ref", &cast.referenced), ("edit", &cast.edited), ("copy", &cast.copied), ("note", &cast.small_referenced)];
        let mut events = Vec::new();
        for (name, peer) in files.into_iter().chain([("twin", &cast.small_referenced)]) {
            let path = root.join("user").join(name);
            fs::write(&path, &peer.bytes).unwrap();
            settle_time(&path);
            events.push(Event::Users(Path::new("user").join(name), peer.bytes.clone()));
        }
        let stage = Arc::new(Stage::with_catalog(MemoryCatalog::default()));
        stage.record(root);
        let world = Self { root: root.to_owned(), cast, stage, events: RefCell::default(), errors: Vec::new(), store: None };
        events.into_iter().for_each(|event| world.event(event));
        world
    }

    pub(super) fn event(&self, event: Event) {
        let mut events = self.events.borrow_mut();
        if let Some(tape) = self.stage.tape().as_mut() {
            tape.event(events.len());
        }
        events.push(event);
    }

    fn held_all(&self, peer: &Peer) {
        self.event(Event::Held(peer.hash, peer.geometry.whole().into_iter().collect()));
    }

    /// Does something; whether it fails is for the caller of all this to judge.
    fn try_to(&mut self, what: &str, act: impl FnOnce(&Self, &Store) -> Result<(), Failure>) {
        if self.store.is_none() {
            match open(&self.stage, &self.root) {
                Ok(store) => self.store = Some(store),
                Err(error) => {
                    self.stage.revive();
                    return self.errors.push(format!("open before {what}: {}", phrase(&error)));
                }
            }
        }
        let store = self.store.clone().expect("just opened");
        if let Err(error) = act(self, &store) {
            self.errors.push(format!("{what}: {}", phrase(error.as_ref())));
            drop(store);
            if self.stage.is_dead() {
                self.kill();
            }
        }
    }

    /// The store, if it is open.
    pub(super) fn store(&self) -> Option<Store> {
        self.store.clone()
    }

    /// What holds now.
    pub(super) fn promises(&self) -> Promises {
        let mut promises = Promises::default();
        self.events.borrow().iter().for_each(|event| promises.add(event));
        promises
    }

    /// Closes the store, as a process does that ends.
    pub(super) fn close(&mut self) {
        if let Some(store) = self.store.take()
            && let Err(error) = store.close()
        {
            self.errors.push(format!("close: {}", phrase(&error)));
        }
    }

    /// Ends the store as SIGKILL does.
    pub(super) fn kill(&mut self) {
        let catalog = self.stage.catalog().expect("a world has its own");
        self.stage.die();
        catalog.unmoved_by(|| self.store = None);
        self.stage.revive();
    }

    /// The user changes a file.
    fn edit(&self, name: &str, bytes: &[u8]) {
        let path = self.root.join("user").join(name);
        fs::write(&path, bytes).unwrap();
        settle_time(&path);
        let within = Path::new("user").join(name);
        if let Some(tape) = self.stage.tape().as_mut() {
            tape.by_hand(&within, bytes);
        }
        self.event(Event::Users(within, bytes.to_vec()));
    }

    pub(super) fn play(&mut self) {
        self.life_of_files();
        self.life_of_small_blobs();
        self.close();
        self.after_a_good_end();
        self.kill();
        self.after_a_bad_end();
        self.close();
    }

    fn life_of_files(&mut self) {
        self.try_to("fetch in parts", |world, store| {
            let big = &world.cast.big;
            let writer = store.writer(big.hash, big.size())?;
            deliver(&writer, big, span(0, 5))?;
            writer.sync()?;
            world.event(Event::Held(big.hash, [span(0, 5)].into_iter().collect()));
            deliver(&writer, big, span(9, 12))?;
            deliver(&writer, big, span(5, 7))?;
            Ok(())
        });
        self.try_to("pin", |world, store| {
            for peer in [&world.cast.big, &world.cast.copied] {
                store.add_manifest(pin(peer))?;
                world.event(Event::Pinned(peer.hash));
            }
            Ok(())
        });
        self.try_to("publish where it lies", |world, store| {
            for (name, peer) in [("ref", &world.cast.referenced), ("edit", &world.cast.edited)] {
                publish(store, &world.root.join("user").join(name), PublishMode::Reference)?;
                world.held_all(peer);
            }
            Ok(())
        });
        self.try_to("publish a copy of what is here in part", |world, store| {
            let copied = &world.cast.copied;
            let writer = store.writer(copied.hash, copied.size())?;
            deliver(&writer, copied, span(2, 4))?;
            writer.sync()?;
            drop(writer);
            publish(store, &world.root.join("user/copy"), PublishMode::Copy)?;
            world.held_all(copied);
            Ok(())
        });
        self.try_to("publish small files", |world, store| {
            for name in ["note", "twin"] {
                publish(store, &world.root.join("user").join(name), PublishMode::Reference)?;
                world.held_all(&world.cast.small_referenced);
            }
            Ok(())
        });
        self.try_to("remove what is here in part", |world, store| {
            let gone = &world.cast.dropped_big;
            let writer = store.writer(gone.hash, gone.size())?;
            deliver(&writer, gone, span(0, 3))?;
            drop(writer);
            world.event(Event::Doubtful(gone.hash));
            store.remove(gone.hash)?;
            world.event(Event::Gone(gone.hash));
            Ok(())
        });
        self.try_to("complete", |world, store| {
            let big = &world.cast.big;
            let writer = store.writer(big.hash, big.size())?;
            for gap in writer.verified().gaps(span(0, 18)) {
                deliver(&writer, big, gap)?;
            }
            writer.sync()?;
            world.held_all(big);
            Ok(())
        });
    }

    fn life_of_small_blobs(&mut self) {
        self.try_to("fetch small blobs", |world, store| {
            for peer in &world.cast.small[..3] {
                deliver_small(store, peer)?;
            }
            store.sync_small().error.map_or(Ok(()), Err)?;
            world.cast.small[..3].iter().for_each(|peer| world.held_all(peer));
            deliver_small(store, &world.cast.small[3])?;
            Ok(())
        });
        self.try_to("export", |world, store| {
            let (out, cast) = (world.root.join("out"), &world.cast);
            for (peer, path) in [(&cast.small[1], "model/small"), (&cast.referenced, "model/deep/ref"), (&cast.copied, "copy")] {
                store.export(peer.hash, &out, path, false)?;
                world.event(Event::Exported(Path::new("out").join(path), peer.hash));
            }
            Ok(())
        });
        self.try_to("lose groups", |world, store| {
            let [_, partly, whole, ..] = &world.cast.small;
            for (peer, lost) in [(partly, span(1, 2)), (whole, span(0, 3)), (&world.cast.big, span(4, 6))] {
                world.event(Event::Doubtful(peer.hash));
                store.quarantine(peer.hash, lost)?;
            }
            Ok(())
        });
        self.try_to("fetch again what was lost", |world, store| {
            let [_, partly, whole, ..] = &world.cast.small;
            for peer in [partly, &world.cast.big] {
                let writer = store.writer(peer.hash, peer.size())?;
                for gap in writer.verified().gaps(peer.geometry.whole().ok_or("no groups")?) {
                    deliver(&writer, peer, gap)?;
                }
                writer.sync()?;
                world.held_all(peer);
            }
            // Parts of it, which rot again, and then all of it.
            let writer = store.writer(whole.hash, whole.size())?;
            deliver(&writer, whole, span(0, 1))?;
            writer.sync()?;
            drop(writer);
            store.quarantine(whole.hash, span(0, 3))?;
            deliver_small(store, whole)?;
            store.sync_small().error.map_or(Ok(()), Err)?;
            world.held_all(whole);
            Ok(())
        });
        self.try_to("unpin", |world, store| {
            world.event(Event::Unpinning(world.cast.copied.hash));
            store.remove_manifest(world.cast.copied.hash)?;
            world.event(Event::Unpinned(world.cast.copied.hash));
            Ok(())
        });
    }

    fn after_a_good_end(&mut self) {
        self.try_to("remove after a start", |world, store| {
            let gone = &world.cast.small[0];
            world.event(Event::Doubtful(gone.hash));
            store.remove(gone.hash)?;
            world.event(Event::Gone(gone.hash));
            Ok(())
        });
        self.try_to("put", |world, store| {
            store.put_bytes(&world.cast.put.bytes)?;
            world.held_all(&world.cast.put);
            Ok(())
        });
        self.try_to("fetch what the user changed", |world, store| {
            let edited = &world.cast.edited;
            world.event(Event::Doubtful(edited.hash));
            world.edit("edit", b"not a model any more");
            if store.reader(edited.hash).is_ok() {
                return Err("the change was not seen".into());
            }
            let writer = store.writer(edited.hash, edited.size())?;
            deliver(&writer, edited, span(0, 9))?;
            writer.sync()?;
            world.event(Event::Held(edited.hash, [span(0, 9)].into_iter().collect()));
            deliver(&writer, edited, span(9, 17))?;
            writer.sync()?;
            world.held_all(edited);
            Ok(())
        });
        self.try_to("begin another, and small ones", |world, store| {
            let late = &world.cast.late_big;
            let writer = store.writer(late.hash, late.size())?;
            deliver(&writer, late, span(0, 2))?;
            writer.sync()?;
            world.event(Event::Held(late.hash, [span(0, 2)].into_iter().collect()));
            deliver(&writer, late, span(2, 6))?;
            deliver_small(store, &world.cast.small[4])?;
            // Whoever is killed syncs nothing.
            world.stage.die();
            drop(writer);
            Ok(())
        });
    }

    fn after_a_bad_end(&mut self) {
        self.try_to("start after a kill", |world, store| {
            // Whatever is held now is announced, so it must stay; unless a sync failed before, which the next process cannot know of.
            for status in store.blobs().into_iter().filter(|_| world.errors.is_empty()) {
                world.event(Event::Held(status.hash, status.held));
            }
            Ok(())
        });
        self.try_to("complete after a kill", |world, store| {
            let late = &world.cast.late_big;
            let writer = store.writer(late.hash, late.size())?;
            for gap in writer.verified().gaps(span(0, 17)) {
                deliver(&writer, late, gap)?;
            }
            writer.sync()?;
            world.held_all(late);
            Ok(())
        });
    }
}

fn pin(peer: &Peer) -> PinRecord {
    PinRecord {
        order: 0,
        manifest: peer.hash,
        name: format!("model of {} bytes", peer.size()),
        revision: None,
        shards: vec![peer.hash],
        bytes: peer.size(),
        pinned: true,
        imported: None,
        other: serde_json::Map::new(),
    }
}

/// An error with all its causes.
pub(super) fn phrase(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
