//! What a cache knows of the hub that its files came from, for the manifest: so that the same commit, imported from the hub or from any
//! cache of it, is the same model under the same hash.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use p2pweights_protocol::ids::{BlobHash, GitOid};
use p2pweights_protocol::manifest::{Fields, Metadata, ShardPath, Source, Text};
use sha1::Digest;

use super::File as Published;
use super::hf_cache::Snapshot;
use super::ollama::Model;
use crate::card::{CARD, CARD_BYTES, Card};
use crate::failure::phrase;
use crate::report::{Failure, FailureKind};
use crate::store::{self, FileId, Store};

/// Bytes read at a time.
const READ_BYTES: usize = 256 * 1024;

/// Where files came from that another program keeps.
pub(super) enum Origin<'a> {
    /// A repository of a hub.
    Hub {
        /// The hub's address.
        hub: &'a str,
        /// What the cache of its client has of it.
        cached: &'a Snapshot,
    },
    /// A registry of Ollama's.
    Ollama(&'a Model),
}

impl Origin<'_> {
    fn id(&self, path: &Path) -> Option<FileId> {
        match self {
            Self::Hub { cached, .. } => cached.id(path),
            Self::Ollama(model) => model.id(path),
        }
    }

    /// Looks whether every file is what the cache calls it; gives the git ids of those that have one. If one is not, nothing that was read
    /// just now stays published.
    pub(super) fn check(
        &self,
        store: &Store,
        files: &[Published],
        published: &[store::Published],
    ) -> Result<Vec<Option<GitOid>>, Failure> {
        let each = files.iter().zip(published).map(|(file, published)| self.check_one(file, published));
        let checked: Result<Vec<_>, Failure> = each.collect();
        if checked.is_err() {
            let models = store.manifests().into_iter().flat_map(|record| record.shards);
            let needed: BTreeSet<BlobHash> = models.chain(store.wanted().into_iter().map(|record| record.hash)).collect();
            for published in published.iter().filter(|published| published.read && !needed.contains(&published.hash)) {
                store.remove(published.hash)?;
            }
        }
        checked
    }

    fn check_one(&self, file: &Published, published: &store::Published) -> Result<Option<GitOid>, Failure> {
        let (expected, found) = match (self.id(&file.path), published.sha256) {
            (Some(FileId::Git(oid)), _) => {
                let disk = |error: io::Error| {
                    Failure::new(FailureKind::Disk, format!("{} cannot be read: {error}", file.path.display()))
                };
                let found = git_oid(&file.path, published.size).map_err(disk)?;
                if found == oid {
                    return Ok(Some(oid));
                }
                (FileId::Git(oid), FileId::Git(found))
            }
            (Some(FileId::Sha256(expected)), Some(found)) if found != expected => {
                (FileId::Sha256(expected), FileId::Sha256(found))
            }
            _ => return Ok(None),
        };
        let message = format!("{}: its content is {found}, the cache calls it {expected}; fetch it again", file.shown);
        Err(Failure::new(FailureKind::Refused, message))
    }

    /// Adds what is known of the model.
    pub(super) fn describe(&self, metadata: &mut Metadata, files: &[Published], paths: &[ShardPath]) -> Result<(), Failure> {
        let text = |text: &str| {
            Text::parse(text).map_err(|error| Failure::new(FailureKind::Usage, format!("{text:?}: {}", phrase(&error))))
        };
        let (hub, Snapshot { name, revision, branch, .. }) = match self {
            Self::Hub { hub, cached } => (hub, cached),
            Self::Ollama(model) => {
                metadata.revision = Some(text(&model.tag)?);
                return Ok(());
            }
        };
        metadata.source = Some(Source { repo: text(&format!("{hub}/{name}"))?, revision: text(revision)?, extra: Fields::new() });
        metadata.revision = Some(text(branch.as_deref().unwrap_or(revision))?);
        let card = files.iter().find(|file| file.shown == CARD && file.bytes <= CARD_BYTES);
        let card = card.and_then(|file| std::fs::read(&file.path).ok()).unwrap_or_default();
        let card = Card::of_text(&String::from_utf8_lossy(&card));
        metadata.license = metadata.license.take().or_else(|| card.license());
        metadata.base_model = card.base_model(paths);
        Ok(())
    }
}

/// Git's id of a file.
fn git_oid(path: &Path, size: u64) -> io::Result<GitOid> {
    let mut hasher = sha1::Sha1::new_with_prefix(format!("blob {size}\0"));
    let (mut file, mut buffer) = (File::open(path)?, vec![0; READ_BYTES]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(GitOid(hasher.finalize().into())),
            count => hasher.update(&buffer[..count]),
        }
    }
}
