//! Who this node is: one Ed25519 keypair in the data dir, made once and kept. Knows the file, not the network.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use libp2p::identity::{KeyType, Keypair};
use thiserror::Error;

/// The file in the data dir that holds the keypair, in libp2p's protobuf encoding.
pub const IDENTITY_FILE: &str = "identity.key";
/// Longest file that is looked at: an Ed25519 keypair takes 68 bytes.
const IDENTITY_BYTES: u64 = 1024;

/// Why there is no identity to run with.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The file is there but cannot be read.
    #[error("cannot read the identity {path}: check its owner and permissions")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A new identity cannot be kept.
    #[error("cannot write the identity {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others on this machine can read or replace the key.
    #[error("the identity {path} is open to others (mode {mode:04o}): run `chmod 600` on it, or delete it if it may have leaked")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no keypair, or one of another kind.
    #[error("the identity {path} is no Ed25519 keypair: restore it from a backup, or delete it to become a new peer")]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the keypair of this data dir, or makes one if there is none. The caller owns the data dir: nobody else makes one meanwhile.
pub fn load_or_create(data_dir: &Path) -> Result<Keypair, IdentityError> {
    let path = data_dir.join(IDENTITY_FILE);
    match File::open(&path) {
        Ok(file) => read(&path, file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keypair = Keypair::generate_ed25519();
            write(data_dir, &path, &keypair).map_err(|source| IdentityError::Write { path, source })?;
            Ok(keypair)
        }
        Err(source) => Err(IdentityError::Read { path, source }),
    }
}

fn read(path: &Path, file: File) -> Result<Keypair, IdentityError> {
    let failed = |source| IdentityError::Read { path: path.to_owned(), source };
    let metadata = file.metadata().map_err(failed)?;
    if let Some(mode) = excess_permissions(&metadata) {
        return Err(IdentityError::Permissions { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.take(IDENTITY_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    match Keypair::from_protobuf_encoding(&bytes) {
        Ok(keypair) if keypair.key_type() == KeyType::Ed25519 => Ok(keypair),
        _ => Err(IdentityError::Corrupt { path: path.to_owned() }),
    }
}

/// Written beside its final place and renamed, so a crash leaves either no identity or a whole one.
fn write(data_dir: &Path, path: &Path, keypair: &Keypair) -> io::Result<()> {
    let bytes = keypair.to_protobuf_encoding().map_err(io::Error::other)?;
    create_private_dir(data_dir)?;
    let temporary = data_dir.join(format!("{IDENTITY_FILE}.new"));
    // Left behind by a crash: it was never anybody's identity.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create_private_file(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_dir(data_dir)
}

#[cfg(unix)]
fn excess_permissions(metadata: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    let mode = metadata.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn excess_permissions(_: &fs::Metadata) -> Option<u32> {
    None
}

#[cfg(unix)]
fn create_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create_private_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(unix)]
fn create_private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(unix)]
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(not(unix))]
fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_made_once_and_kept() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let data_dir = dir.path().join("node");
        let first = load_or_create(&data_dir).expect("made");
        let second = load_or_create(&data_dir).expect("read");
        assert_eq!(first.public(), second.public());
        let names: Vec<_> = fs::read_dir(&data_dir).expect("folder").map(|entry| entry.expect("entry").file_name()).collect();
        assert_eq!(names, [IDENTITY_FILE]);
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_private_and_must_stay_so() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a temporary folder");
        load_or_create(dir.path()).expect("made");
        let path = dir.path().join(IDENTITY_FILE);
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o7777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
        let error = load_or_create(dir.path()).expect_err("open to the group");
        assert!(matches!(error, IdentityError::Permissions { mode: 0o640, .. }), "{error}");
    }

    #[test]
    fn a_damaged_file_is_named_and_left_alone() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join(IDENTITY_FILE);
        let mut file = create_private_file(&path).expect("create");
        file.write_all(b"not a key").expect("write");
        let error = load_or_create(dir.path()).expect_err("no key");
        assert!(matches!(error, IdentityError::Corrupt { .. }), "{error}");
        assert!(error.to_string().contains(IDENTITY_FILE));
        assert_eq!(fs::read(&path).expect("read"), b"not a key");
    }
}
