//! The sidecar: what makes any web server that serves a published folder a mirror with proofs. The manifest under its hash, and the
//! outboard of each file that has one of its own, in a folder that is never part of a model.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use p2pweights_protocol::ids::BlobHash;
use p2pweights_protocol::manifest::Manifest;

use crate::mirrors::SIDECAR;
use crate::report::{Failure, FailureKind};
use crate::store::Store;

/// Writes the sidecar of a model into its folder; files that are there already are not written again: their names say what they hold.
pub(super) fn write(store: &Store, folder: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let sidecar = folder.join(SIDECAR);
    let failed = |error: io::Error| {
        Failure::new(FailureKind::Disk, format!("the sidecar {} cannot be written: {error}", sidecar.display()))
    };
    fs::create_dir_all(&sidecar).map_err(failed)?;
    let blobs: std::collections::BTreeSet<BlobHash> = manifest.shards().iter().map(|shard| shard.blake3()).collect();
    for blob in blobs {
        let path = sidecar.join(format!("{blob}.outboard"));
        if let Some(mut outboard) = store.outboard(blob)?
            && fs::metadata(&path).ok().map(|there| there.len()) != Some(outboard.metadata().map_err(failed)?.len())
        {
            place(&path, |file| io::copy(&mut outboard, file).map(drop)).map_err(failed)?;
        }
    }
    // Last: whoever finds it finds all.
    place(&sidecar.join(format!("{}.json", manifest.id())), |file| file.write_all(&manifest.encode())).map_err(failed)
}

/// Gives a file its name when it is whole: it may be served at any moment.
fn place(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part)?;
    fill(&mut file)?;
    file.sync_all()?;
    fs::rename(&part, path)
}
