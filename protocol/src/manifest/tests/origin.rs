//! What a manifest keeps of a model's origin: git ids, ETags, the commit.

use super::*;

/// What an import of a repository adds, with the bytes that must never change either.
#[test]
fn golden_bytes_of_what_an_origin_keeps_in_git() {
    let git_oid = Some("ce013625030ba8dba906f756967f9e9ca394464a".parse().unwrap());
    let hello = Shard::new(path("hello.txt"), 6, BlobHash::of(b"hello\n"), None).unwrap().with_git_oid(git_oid);
    let manifest = Manifest::new(Metadata::default(), vec![hello]).unwrap();
    let text = r#"{
  "!format": "p2pweights-manifest/1",
  "shards": [
    {
      "blake3": "8e4c7c1b99dbfd50e7a95185fead5ee1448fa904a2fdd778eaf5f2dbfd629a99",
      "git_oid": "ce013625030ba8dba906f756967f9e9ca394464a",
      "path": "hello.txt",
      "size": 6
    }
  ]
}
"#;
    assert_eq!(String::from_utf8(manifest.encode()).unwrap(), text);
    assert_eq!(manifest.id().to_string(), "94924b549551881f37e6f04898e9b6f0819d417ad0ab6c5eeb0d651b8969a17f");
    assert_eq!(Manifest::parse(text.as_bytes()), Ok(manifest));
    for bad in ["CE013625030ba8dba906f756967f9e9ca394464a", "ce01", "", &"0".repeat(64)] {
        let text = text.replace("ce013625030ba8dba906f756967f9e9ca394464a", bad);
        assert!(matches!(Manifest::parse(text.as_bytes()), Err(ManifestError::Hash { field: "git_oid", .. })), "{bad:?}");
    }
}

#[test]
fn a_shard_goes_by_its_git_id_or_else_by_its_sha256() {
    let (git_oid, sha256) = (GitOid([1; 20]), Sha256([2; 32]));
    let plain = shard("a", 1, 1);
    let hashed = Shard::new(path("a"), 1, BlobHash([1; 32]), Some(sha256)).unwrap();
    assert_eq!(plain.etag(), None);
    assert_eq!(hashed.etag(), Some(sha256.to_string()));
    assert_eq!(hashed.with_git_oid(Some(git_oid)).etag(), Some(git_oid.to_string()));
}

#[test]
fn a_commit_is_the_origins_or_made_from_the_hash() {
    let of_revision = |revision: &str| {
        let source = Source {
            repo: "https://hub.example/o/m".parse().unwrap(),
            revision: revision.parse().unwrap(),
            extra: Fields::new(),
        };
        Manifest::new(Metadata { source: Some(source), ..Metadata::default() }, vec![shard("a", 1, 1)]).unwrap()
    };
    let commit = "0123456789abcdef0123456789abcdef01234567";
    assert_eq!(of_revision(commit).commit(), commit);
    for other in ["main", &commit.to_uppercase(), &commit[1..], &commit.replace('0', "g")] {
        let manifest = of_revision(other);
        assert_eq!(manifest.commit(), manifest.id().to_string()[..40], "{other}");
    }
    assert_eq!(golden().commit(), GOLDEN_ID[..40]);
}
