//! What a power cut may leave of a disk.
//!
//! The model, in the spirit of ALICE (Pillai et al., OSDI 2014) and CrashMonkey (Mohan et al., OSDI 2018). It promises no more than POSIX
//! does, and is harsher than ext4 without `auto_da_alloc`, xfs or btrfs:
//!
//! - A file's bytes are durable when the file was synced, or its file system. What was written later survives in any subset of 512-byte
//!   sectors; of a sector, any version since the last sync. The length may be any that the file had since. A sector that was written but
//!   did not survive holds zeros or, where the file had none before, whatever lay there.
//! - A name (made, linked, renamed, removed) is durable when its folder was synced. Until then it may mean anything that it meant since the
//!   last sync of the folder, each name by itself: the order of changes in a folder is not kept. Syncing a file does not make its name
//!   durable, syncing a folder does not make the folder's own name durable, and what lies in a folder that lost its name is gone.
//! - A rename is never half undone to nothing: the old name goes only if the new one came. Both may be left.
//! - After a failed sync, what that file was given since the last good one is lost, whatever later syncs say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use p2pweights_protocol::random::Random;

use crate::store::disk::stage::{FileId, Node, Step};

const SECTOR: usize = 512;

#[derive(Debug, Default, Clone)]
struct FileState {
    durable: Vec<u8>,
    later: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug, Default, Clone)]
struct NameState {
    durable: Option<Node>,
    later: Vec<Meaning>,
}

#[derive(Debug, Clone)]
struct Meaning {
    node: Option<Node>,
    number: u64,
    /// A name that this one was renamed to, and the number of what that came to mean.
    moved_to: Option<(PathBuf, u64)>,
}

/// A disk, played up to some step.
#[derive(Debug, Default, Clone)]
pub(super) struct Platter {
    files: BTreeMap<FileId, FileState>,
    names: BTreeMap<PathBuf, NameState>,
    changes: u64,
}

/// What becomes of that which was not synced.
pub(super) enum Fate {
    /// All of it survives: the process was killed, not the machine.
    Kept,
    /// None of it.
    Lost,
    /// Some, by this seed.
    Drawn(u64),
}

/// Files and folders by their paths below the root.
#[derive(Debug)]
pub(super) struct Image {
    names: BTreeMap<PathBuf, Node>,
    contents: BTreeMap<FileId, Vec<u8>>,
}

impl FileState {
    fn current(&self) -> Vec<u8> {
        self.later.iter().fold(self.durable.clone(), |mut bytes, change| {
            match change {
                Change::Write { offset, bytes: new } => {
                    bytes.resize(bytes.len().max(offset + new.len()), 0);
                    bytes[*offset..offset + new.len()].copy_from_slice(new);
                }
                Change::SetLen(len) => bytes.resize(*len, 0),
            }
            bytes
        })
    }

    /// Any version of each sector, and any length.
    fn drawn(&self, keep_percent: u64, random: &mut Random) -> Vec<u8> {
        let mut lengths = vec![self.durable.len()];
        let mut sectors: BTreeMap<usize, Vec<(usize, &[u8])>> = BTreeMap::new();
        for change in &self.later {
            let before = lengths[lengths.len() - 1];
            match change {
                Change::SetLen(len) => lengths.push(*len),
                Change::Write { offset, bytes } => {
                    lengths.push(before.max(offset + bytes.len()));
                    let mut at = *offset;
                    while at < offset + bytes.len() {
                        let end = ((at / SECTOR + 1) * SECTOR).min(offset + bytes.len());
                        sectors.entry(at / SECTOR).or_default().push((at, &bytes[at - offset..end - offset]));
                        at = end;
                    }
                }
            }
        }
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let mut contents = self.durable.clone();
        contents.resize(longest, 0);
        for (sector, versions) in sectors {
            let kept = match random.below(100) < keep_percent {
                true => versions.len(),
                false => random.below(versions.len() as u64) as usize,
            };
            for (at, bytes) in &versions[..kept] {
                contents[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            let start = sector * SECTOR;
            if kept == 0 && start >= self.durable.len() && random.below(4) == 0 {
                let end = (start + SECTOR).min(longest);
                contents[start..end].iter_mut().for_each(|byte| *byte = random.any() as u8);
            }
        }
        let length = match random.below(100) < keep_percent {
            true => lengths[lengths.len() - 1],
            false => lengths[random.below(lengths.len() as u64) as usize],
        };
        contents.truncate(length);
        contents
    }
}

impl Platter {
    pub(super) fn play(&mut self, step: &Step) {
        self.changes += 1;
        let number = self.changes;
        match step {
            Step::Write { file, offset, bytes } => {
                self.file(*file).later.push(Change::Write { offset: *offset as usize, bytes: bytes.clone() });
            }
            Step::SetLen { file, bytes } => self.file(*file).later.push(Change::SetLen(*bytes as usize)),
            Step::SyncFile { file } => self.sync_file(*file),
            Step::Dropped { file } => self.file(*file).later.clear(),
            Step::Name { path, node } => self.name(path).later.push(Meaning { node: Some(*node), number, moved_to: None }),
            Step::Unname { path } => self.name(path).later.push(Meaning { node: None, number, moved_to: None }),
            Step::Rename { from, to } => {
                let node = self.name(from).latest();
                self.name(to).later.push(Meaning { node, number, moved_to: None });
                self.name(from).later.push(Meaning { node: None, number, moved_to: Some((to.clone(), number)) });
            }
            Step::SyncFolder { path } => {
                let within: Vec<PathBuf> =
                    self.names.keys().filter(|name| name.parent() == Some(path.as_path())).cloned().collect();
                within.iter().for_each(|name| self.settle(name, u64::MAX));
            }
            Step::SyncAll => {
                let (files, names): (Vec<_>, Vec<_>) =
                    (self.files.keys().copied().collect(), self.names.keys().cloned().collect());
                files.into_iter().for_each(|file| self.sync_file(file));
                names.iter().for_each(|name| self.settle(name, u64::MAX));
            }
            Step::ByHand { path, file, bytes } => {
                self.file(*file).durable = bytes.clone();
                *self.name(path) = NameState { durable: Some(Node::File(*file)), later: Vec::new() };
            }
            Step::Event { .. } => {}
        }
    }

    fn file(&mut self, file: FileId) -> &mut FileState {
        self.files.entry(file).or_default()
    }

    fn name(&mut self, path: &Path) -> &mut NameState {
        self.names.entry(path.to_owned()).or_default()
    }

    fn sync_file(&mut self, file: FileId) {
        let file = self.file(file);
        file.durable = file.current();
        file.later.clear();
    }

    /// Makes what a name means durable, up to the meaning with this number.
    fn settle(&mut self, path: &Path, number: u64) {
        let name = self.name(path);
        let settled = name.later.iter().take_while(|meaning| meaning.number <= number).count();
        let meanings: Vec<Meaning> = name.later.drain(..settled).collect();
        if let Some(last) = meanings.last() {
            name.durable = last.node;
        }
        for (target, number) in meanings.into_iter().filter_map(|meaning| meaning.moved_to) {
            self.settle(&target, number);
        }
    }

    /// What may be left.
    pub(super) fn image(&self, fate: &Fate) -> Image {
        // Some crashes spare most of it, some nearly nothing, and names fare otherwise than bytes.
        let mut random = Random::new(if let Fate::Drawn(seed) = fate { *seed } else { 0 });
        let mut percent = || [0, 20, 50, 80, 95, 100][random.below(6) as usize];
        let (keep_bytes, keep_names) = (percent(), percent());
        let mut chosen: BTreeMap<&Path, usize> = BTreeMap::new();
        for (path, name) in &self.names {
            let count = name.later.len();
            let kept = match fate {
                Fate::Kept => count,
                Fate::Lost => 0,
                Fate::Drawn(_) if random.below(100) < keep_names => count,
                Fate::Drawn(_) => random.below(count as u64 + 1) as usize,
            };
            chosen.insert(path, kept);
        }
        // An old name goes only if the new one came.
        loop {
            let lags = chosen.iter().find_map(|(path, kept)| {
                let (target, number) = self.names[*path].later[..*kept].last()?.moved_to.as_ref()?;
                let needed = self.names[target].later.iter().position(|meaning| meaning.number == *number)? + 1;
                let (target, _) = self.names.get_key_value(target)?;
                (chosen[target.as_path()] < needed).then_some((target.as_path(), needed))
            });
            let Some((target, needed)) = lags else { break };
            chosen.insert(target, needed);
        }
        let mut names: BTreeMap<PathBuf, Node> = BTreeMap::new();
        // Folders come before what is in them.
        for (path, kept) in &chosen {
            let name = &self.names[*path];
            let node = name.later[..*kept].last().map_or(name.durable, |meaning| meaning.node);
            let parent = path.parent().expect("below the root");
            let reachable = parent.as_os_str().is_empty() || names.get(parent) == Some(&Node::Folder);
            if let Some(node) = node.filter(|_| reachable) {
                names.insert(path.to_path_buf(), node);
            }
        }
        let files: BTreeSet<FileId> =
            names.values().filter_map(|node| if let Node::File(file) = node { Some(*file) } else { None }).collect();
        let none = FileState::default();
        let contents = files.into_iter().map(|file| {
            let state = self.files.get(&file).unwrap_or(&none);
            let bytes = match fate {
                Fate::Kept => state.current(),
                Fate::Lost => state.durable.clone(),
                Fate::Drawn(_) if state.later.is_empty() => state.durable.clone(),
                Fate::Drawn(_) => state.drawn(keep_bytes, &mut random),
            };
            (file, bytes)
        });
        Image { contents: contents.collect(), names }
    }
}

impl NameState {
    fn latest(&self) -> Option<Node> {
        self.later.last().map_or(self.durable, |meaning| meaning.node)
    }
}

impl Image {
    /// Puts it down at a root, in place of what is there.
    pub(super) fn lay_out(&self, root: &Path) {
        fs::remove_dir_all(root).unwrap();
        fs::create_dir(root).unwrap();
        let mut first_names: BTreeMap<FileId, PathBuf> = BTreeMap::new();
        for (name, node) in &self.names {
            let path = root.join(name);
            match node {
                Node::Folder => fs::create_dir(&path).unwrap(),
                Node::File(file) => match first_names.get(file) {
                    Some(first) => fs::hard_link(first, &path).unwrap(),
                    None => {
                        fs::write(&path, &self.contents[file]).unwrap();
                        first_names.insert(*file, path);
                    }
                },
            }
        }
    }
}
