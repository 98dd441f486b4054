//! Where a fetch puts what it brings, and what lies there already.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::manifest::ShardPath;

use super::{Fetching, Plan};
use crate::node::blocking;
use crate::report::{Failure, FailureKind};
use crate::store::{PublishMode, locked};

impl Fetching<'_> {
    /// The folder below which everything goes.
    pub(super) fn output(&self, plan: &Plan) -> Option<PathBuf> {
        let output = self.request.output.clone()?;
        if self.request.hf_cache || !self.request.own_folder || plan.manifest.is_none() {
            return Some(output);
        }
        // A name comes from a stranger: only its last part, and only if it is one plain component.
        let last = plan.name.as_deref().and_then(|name| name.rsplit('/').next());
        let folder = last.and_then(|last| ShardPath::parse(last).ok()).map(|path| path.as_str().to_owned());
        Some(output.join(folder.unwrap_or_else(|| plan.hash.short())))
    }

    /// Other content under a final name is refused before anything is fetched; a file that lies there already as it should need not be
    /// fetched at all, and is served from there.
    pub(super) async fn check_destination(&self, plan: &Plan, output: &Path) -> Result<(), Failure> {
        let (files, output, force, cached) = (plan.files.clone(), output.to_owned(), self.request.force, plan.cache.is_some());
        let store = self.core.store.clone();
        let (adopted, kept) = blocking(move || {
            let (mut adopted, mut kept) = (Vec::new(), BTreeSet::new());
            for file in files {
                let path = output.join(&file.place);
                let Ok(mut metadata) = std::fs::symlink_metadata(&path) else { continue };
                // A client's cache may hold a link into another part of it.
                let linked = cached && metadata.is_symlink();
                if linked && let Ok(target) = std::fs::metadata(&path) {
                    metadata = target;
                }
                let same = metadata.is_file() && metadata.len() == file.bytes && hash_of(&path) == Some(file.blob);
                let held = store.blob(file.blob).is_some_and(|status| status.complete);
                if same && !held && file.bytes > 0 {
                    store.publish_file(&path, PublishMode::Reference, &mut |_| ControlFlow::Continue(()))?;
                    adopted.push(file.blob);
                }
                if same && linked {
                    kept.insert(file.place);
                }
                if !same && !force {
                    let message = format!(
                        "{} exists with other content; move it away, choose another folder with -o, or replace it with --force",
                        path.display()
                    );
                    return Err(Failure::new(FailureKind::Refused, message));
                }
            }
            Ok((adopted, kept))
        })
        .await?;
        *locked(&self.kept) = kept;
        self.core.offer(adopted).await
    }
}

fn hash_of(path: &Path) -> Option<BlobHash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path).ok()?).ok()?;
    Some(BlobHash(*hasher.finalize().as_bytes()))
}
