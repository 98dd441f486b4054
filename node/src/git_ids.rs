//! Names that git gives to content, and what Git LFS keeps in git in a large file's place. Hubs and their clients know files by these.

use p2pweights_protocol::ids::{GitOid, Sha256};
use sha1::{Digest, Sha1};

/// Git's id of an object of this kind (`blob`, `tree`): the SHA-1 of kind, length and content.
pub fn git_id(kind: &str, content: &[u8]) -> GitOid {
    let header = format!("{kind} {}\0", content.len());
    GitOid(Sha1::new_with_prefix(header).chain_update(content).finalize().into())
}

/// The pointer to a large file: <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>.
pub fn lfs_pointer(sha256: Sha256, size: u64) -> String {
    format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_git() {
        assert_eq!(git_id("blob", b"").to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(git_id("blob", b"hello\n").to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(git_id("tree", b"").to_string(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    }
}
