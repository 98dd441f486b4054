//! What was done to a disk, in its order, as a crash sees it: files by number, names by path, and what was asked to be durable when.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::{DiskFile, Verb};
use crate::store::tests::crash::catalog::MemoryCatalog;

/// A file, whatever its name.
pub(in crate::store) type FileId = u64;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Node {
    File(FileId),
    Folder,
}

/// One change. Paths are relative to the root of what is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) enum Step {
    Write {
        file: FileId,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        file: FileId,
        bytes: u64,
    },
    SyncFile {
        file: FileId,
    },
    /// A sync failed: what was written since the last good one may be gone, although later ones succeed.
    Dropped {
        file: FileId,
    },
    Name {
        path: PathBuf,
        node: Node,
    },
    Unname {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    SyncFolder {
        path: PathBuf,
    },
    SyncAll,
    /// Not the store's doing: a user's file has other contents now, durably.
    ByHand {
        path: PathBuf,
        file: FileId,
        bytes: Vec<u8>,
    },
    /// Not the store's doing: the scenario's event with this number.
    Event {
        number: usize,
    },
}

/// The steps, and the names as a running system sees them.
#[derive(Debug)]
pub(in crate::store) struct Tape {
    root: PathBuf,
    names: BTreeMap<PathBuf, Node>,
    files: FileId,
    catalog: MemoryCatalog,
    pub(in crate::store) steps: Vec<Step>,
    /// Changes of the index up to each step.
    pub(in crate::store) index_changes: Vec<usize>,
}

/// What a path meant before a verb.
pub(super) enum Before {
    Nothing,
    Had(Option<Node>),
}

impl Tape {
    /// Of an existing folder; what is in it is durable.
    pub(super) fn of(root: &Path, catalog: MemoryCatalog) -> Self {
        let mut tape = Self {
            root: root.to_owned(),
            names: BTreeMap::new(),
            files: 0,
            catalog,
            steps: Vec::new(),
            index_changes: Vec::new(),
        };
        for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
            let entry = entry.unwrap();
            let path = entry.path().strip_prefix(root).unwrap().to_owned();
            let node = if entry.file_type().is_dir() { Node::Folder } else { tape.next_file() };
            tape.push(Step::Name { path: path.clone(), node });
            tape.names.insert(path, node);
            if let Node::File(file) = node {
                tape.push(Step::Write { file, offset: 0, bytes: fs::read(entry.path()).unwrap() });
            }
        }
        tape.push(Step::SyncAll);
        tape
    }

    fn push(&mut self, step: Step) {
        self.steps.push(step);
        self.index_changes.push(self.catalog.changes());
    }

    /// Something that a test counts on from here on.
    pub(in crate::store) fn event(&mut self, number: usize) {
        self.push(Step::Event { number });
    }

    /// A user's file has other contents now, durably.
    pub(in crate::store) fn by_hand(&mut self, path: &Path, bytes: &[u8]) {
        let node = self.next_file();
        self.names.insert(path.to_owned(), node);
        self.push(Step::ByHand { path: path.to_owned(), file: self.files, bytes: bytes.to_vec() });
    }

    fn next_file(&mut self) -> Node {
        self.files += 1;
        Node::File(self.files)
    }

    /// The path below the root; `None` for what is not recorded: other places, and sled's.
    fn within(&self, path: &Path) -> Option<PathBuf> {
        let path = path.strip_prefix(&self.root).ok()?;
        let of_sled = |name: &std::ffi::OsStr| name == "index" || name.to_string_lossy().starts_with("index.damaged");
        (!path.iter().any(of_sled)).then(|| path.to_owned())
    }

    pub(super) fn id_of(&self, path: &Path) -> FileId {
        match self.within(path).and_then(|path| self.names.get(&path).copied()) {
            Some(Node::File(file)) => file,
            _ => 0,
        }
    }

    pub(super) fn look(&self, verb: &Verb<'_>) -> Before {
        match verb {
            Verb::Open { path } | Verb::MakeFolder { path } => {
                Before::Had(self.within(path).and_then(|path| self.names.get(&path).copied()))
            }
            _ => Before::Nothing,
        }
    }

    pub(super) fn written(&mut self, file: &DiskFile, bytes: &[u8], offset: u64) {
        if file.id() != 0 && !bytes.is_empty() {
            self.push(Step::Write { file: file.id(), offset, bytes: bytes.to_vec() });
        }
    }

    pub(super) fn failed(&mut self, verb: &Verb<'_>) {
        let files: Vec<FileId> = match verb {
            Verb::Sync { file } => vec![file.id()],
            Verb::SyncPath { path } => vec![self.id_of(path)],
            Verb::SyncFileSystem => (1..=self.files).collect(),
            _ => Vec::new(),
        };
        files.into_iter().filter(|&file| file != 0).for_each(|file| self.push(Step::Dropped { file }));
    }

    pub(super) fn done(&mut self, verb: &Verb<'_>, before: Before) {
        match verb {
            Verb::Create { path } => self.create(path),
            Verb::Open { path } if matches!(before, Before::Had(None)) => self.create(path),
            Verb::Open { .. } => {}
            Verb::Write { file, bytes, offset } => self.written(file, bytes, *offset),
            Verb::SetLen { file, bytes } => self.push(Step::SetLen { file: file.id(), bytes: *bytes }),
            Verb::Sync { file } => self.push(Step::SyncFile { file: file.id() }),
            Verb::SyncPath { path } => {
                let file = self.id_of(path);
                self.push(Step::SyncFile { file });
            }
            Verb::Copy { to } => {
                self.create(to);
                let file = self.id_of(to);
                self.push(Step::Write { file, offset: 0, bytes: fs::read(to).unwrap() });
            }
            Verb::Link { from, to } => {
                let node = self.within(from).and_then(|from| self.names.get(&from).copied());
                if let (Some(node), Some(path)) = (node, self.within(to)) {
                    self.name(path, node);
                }
            }
            Verb::Rename { from, to } => {
                if let (Some(from), Some(to)) = (self.within(from), self.within(to)) {
                    let node = self.names.get(&from).copied();
                    if node.is_some() && node == self.names.get(&to).copied() {
                        // Two names of one file: both stay.
                        return;
                    }
                    self.names.remove(&from);
                    node.map(|node| self.names.insert(to.clone(), node));
                    self.push(Step::Rename { from, to });
                }
            }
            Verb::Remove { path } | Verb::RemoveFolder { path } => {
                if let Some(path) = self.within(path) {
                    self.names.remove(&path);
                    self.push(Step::Unname { path });
                }
            }
            Verb::MakeFolder { path } => {
                if let (Before::Had(None), Some(path)) = (before, self.within(path)) {
                    self.name(path, Node::Folder);
                }
            }
            Verb::SyncFolder { path } => {
                if let Some(path) = self.within(path) {
                    self.push(Step::SyncFolder { path });
                }
            }
            Verb::SyncFileSystem => self.push(Step::SyncAll),
        }
    }

    fn create(&mut self, path: &Path) {
        if let Some(path) = self.within(path) {
            let node = self.next_file();
            self.name(path, node);
        }
    }

    fn name(&mut self, path: PathBuf, node: Node) {
        self.names.insert(path.clone(), node);
        self.push(Step::Name { path, node });
    }
}
