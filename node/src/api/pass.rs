//! `<data-dir>/api.json`: where the API of the node that owns the data dir listens, and the token it wants. Mode 0600.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Bytes of randomness in a token: 128 bits cannot be guessed.
const TOKEN_BYTES: usize = 16;

/// How to reach a node's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Address of the API.
    pub address: SocketAddr,
    /// What each request must carry as `Authorization: Bearer <token>`.
    pub token: String,
}

impl Pass {
    /// A pass with a fresh token.
    pub fn fresh(address: SocketAddr) -> io::Result<Self> {
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self { address, token: hex::encode(bytes) })
    }

    /// Reads the pass of a data dir; `None` if there is none, or none that can be read.
    pub fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path(data_dir)).ok()?).ok()
    }

    /// Writes it, readable by the owner only.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let (target, temporary) = (path(data_dir), data_dir.join("api.json.new"));
        if let Err(error) = fs::remove_file(&temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(self).map_err(io::Error::other)?)?;
        fs::rename(temporary, target)
    }

    /// Takes it away when the API ends.
    pub fn remove(data_dir: &Path) {
        // What stays behind only leads to a refused connection.
        let _ = fs::remove_file(path(data_dir));
    }

    /// Whether a request's `Authorization` header carries the token. Compares all of it, so that time tells nothing.
    pub fn admits(&self, header: Option<&str>) -> bool {
        let Some(given) = header.and_then(|header| header.strip_prefix("Bearer ")) else { return false };
        let differences = given.bytes().zip(self.token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        given.len() == self.token.len() && differences == 0
    }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("api.json")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_pass_is_for_its_owner_only_and_admits_its_token_only() {
        let dir = tempfile::tempdir().expect("temp dir");
        let pass = Pass::fresh(([127, 0, 0, 1], 80).into()).expect("random bytes");
        pass.write(dir.path()).expect("written");
        pass.write(dir.path()).expect("written again");
        assert_eq!(Pass::read(dir.path()), Some(pass.clone()));
        assert_eq!(fs::metadata(path(dir.path())).expect("there").permissions().mode() & 0o777, 0o600);
        assert!(pass.admits(Some(&format!("Bearer {}", pass.token))));
        for wrong in [None, Some(""), Some("Bearer "), Some(&*pass.token), Some(&*format!("Bearer {}0", pass.token))] {
            assert!(!pass.admits(wrong), "{wrong:?}");
        }
    }
}
