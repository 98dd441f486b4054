//! The manifest as a whole: golden bytes, hostile cases each refused for its own reason, and round trips.

mod origin;

use proptest::prelude::*;

use super::*;
use crate::ids::{GitOid, Sha256};

/// Bytes that must never change: published hashes depend on them.
const GOLDEN: &str = r#"{
  "!format": "p2pweights-manifest/1",
  "base_model": {
    "name": "Org/Base",
    "relation": "finetune"
  },
  "gated": true,
  "license": "Apache-2.0",
  "license_file": "LICENSE",
  "mirrors": [
    "https://mirror.example/tiny"
  ],
  "name": "Org/Tiny",
  "openness": [
    "model_card",
    "weights"
  ],
  "revision": "v1",
  "shards": [
    {
      "blake3": "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
      "path": "LICENSE",
      "size": 0
    },
    {
      "blake3": "3edc5c4a5df8c79ef4f8dbdc373cd21ca041ccf39fe5693250d004092094dc4a",
      "path": "weights/ü.bin",
      "sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
      "size": 7
    }
  ],
  "source": {
    "repo": "https://huggingface.co/Org/Tiny",
    "revision": "0123abcd"
  },
  "z-new": {
    "a\n\"\\\u0001é/": [
      null,
      false,
      -3,
      "x",
      [],
      {}
    ]
  }
}
"#;
const GOLDEN_ID: &str = "6b06361aa2e8a4c48538737b21d1fccf41668b7197b83dc37c5a007300789e4e";

/// A shard object as text, without the braces around the manifest.
fn shard_text(path: &str, size: &str, hash: u8) -> String {
    let hash = BlobHash([hash; 32]);
    format!(
        "    {{\n      \"blake3\": \"{hash}\",\n      \"path\": {},\n      \"size\": {size}\n    }}",
        serde_json::Value::from(path)
    )
}

/// A manifest as text, with `fields` before the shards.
fn manifest_text(fields: &str, shards: &[String]) -> String {
    format!("{{\n  \"!format\": \"p2pweights-manifest/1\",\n{fields}  \"shards\": [\n{}\n  ]\n}}\n", shards.join(",\n"))
}

fn of_paths(paths: &[&str]) -> Result<Manifest, ManifestError> {
    let shards: Vec<String> = paths.iter().map(|path| shard_text(path, "1", 1)).collect();
    Manifest::parse(manifest_text("", &shards).as_bytes())
}

fn with_fields(fields: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(manifest_text(fields, &[shard_text("a", "1", 1)]).as_bytes())
}

fn path(text: &str) -> ShardPath {
    text.parse().unwrap()
}

fn shard(text: &str, size: u64, hash: u8) -> Shard {
    Shard::new(path(text), size, BlobHash([hash; 32]), None).unwrap()
}

fn golden() -> Manifest {
    let odd = [Value::Null, Value::Bool(false), Value::Integer(Integer::new(-3).unwrap()), Value::Text("x".to_owned())];
    let list = odd.into_iter().chain([Value::List(Vec::new()), Value::Object(Fields::new())]).collect();
    let inner = Fields::from_iter([("a\n\"\\\u{1}é/".to_owned(), Value::List(list))]);
    let metadata = Metadata {
        name: Some("Org/Tiny".parse().unwrap()),
        revision: Some("v1".parse().unwrap()),
        license: Some("Apache-2.0".parse().unwrap()),
        license_file: Some(path("LICENSE")),
        gated: true,
        source: Some(Source {
            repo: "https://huggingface.co/Org/Tiny".parse().unwrap(),
            revision: "0123abcd".parse().unwrap(),
            extra: Fields::new(),
        }),
        base_model: Some(BaseModel {
            name: "Org/Base".parse().unwrap(),
            relation: "finetune".parse().unwrap(),
            extra: Fields::new(),
        }),
        openness: ["weights", "model_card"].into_iter().map(|term| term.parse().unwrap()).collect(),
        mirrors: vec!["https://mirror.example/tiny/".parse().unwrap()],
        extra: Fields::from_iter([("z-new".to_owned(), Value::Object(inner))]),
    };
    let sha256 = "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c".parse().unwrap();
    let weights = Shard::new(path("weights/ü.bin"), 7, BlobHash::of(b"weights"), Some(sha256)).unwrap();
    let empty = Shard::new(path("LICENSE"), 0, BlobHash::of(b""), None).unwrap();
    Manifest::new(metadata, vec![weights, empty]).unwrap()
}

#[test]
fn golden_bytes_and_hash() {
    let manifest = golden();
    assert_eq!(String::from_utf8(manifest.encode()).unwrap(), GOLDEN);
    assert_eq!(manifest.id().to_string(), GOLDEN_ID);
    assert_eq!(manifest.id(), BlobHash::of(GOLDEN.as_bytes()));
    assert_eq!(Manifest::parse(GOLDEN.as_bytes()), Ok(manifest));
}

#[test]
fn the_document_shows_the_golden_manifest() {
    let document = include_str!("../../../docs/manifest.md");
    assert!(document.contains(&format!("```json\n{GOLDEN}```")));
    assert!(document.contains(GOLDEN_ID));
}

#[test]
fn a_manifest_answers_for_its_shards() {
    let manifest = golden();
    assert_eq!(manifest.total_bytes(), 7);
    assert_eq!(manifest.shard(&path("weights/ü.bin")).map(Shard::size), Some(7));
    assert_eq!(manifest.shard(&path("weights")), None);
    assert_eq!(manifest.metadata().license_file, Some(path("LICENSE")));
}

#[test]
fn a_blob_tells_by_its_first_bytes() {
    assert!(Manifest::looks_like(GOLDEN.as_bytes()));
    assert!(Manifest::looks_like(&GOLDEN.as_bytes()[..64]));
    assert!(Manifest::looks_like(b"{\n  \"!format\": \"p2pweights-manifest/99\""));
    for other in ["", "{}", "{\"!format\":\"p2pweights-manifest/1\"}", "{\n  \"architectures\": [", "\u{feff}{"] {
        assert!(!Manifest::looks_like(other.as_bytes()), "{other:?}");
    }
}

#[test]
fn dangerous_paths_are_refused() {
    for (text, problem) in [
        ("../x", PathProblem::DotDot),
        ("/x", PathProblem::Absolute),
        ("C:/x", PathProblem::Drive),
        ("a\\b", PathProblem::Backslash),
        ("sub/NUL.bin", PathProblem::Reserved),
        ("a\u{0}", PathProblem::Control('\0')),
    ] {
        let error = of_paths(&[text]).unwrap_err();
        assert_eq!(error, ManifestError::Path(PathError { path: text.to_owned(), problem }));
    }
    let license = "  \"license_file\": \"../../etc/passwd\",\n";
    assert!(matches!(with_fields(license), Err(ManifestError::Path(PathError { problem: PathProblem::DotDot, .. }))));
}

#[test]
fn paths_that_collide_are_refused() {
    assert_eq!(of_paths(&["a", "a"]), Err(ManifestError::DuplicatePath(path("a"))));
    assert_eq!(of_paths(&["README", "readme"]), Err(ManifestError::CaseFoldTwins { a: path("README"), b: path("readme") }));
    assert_eq!(of_paths(&["A/x", "a/y"]), Err(ManifestError::CaseFoldTwins { a: path("A/x"), b: path("a/y") }));
    for (file, within) in [("a", "a/b"), ("A", "a/b")] {
        let expected = ManifestError::FileIsAlsoFolder { file: path(file), within: path(within) };
        assert_eq!(of_paths(&[file, within]), Err(expected));
    }
    assert!(of_paths(&["a", "a-b", "a.b/c", "b"]).is_ok());
}

#[test]
fn sizes_that_overflow_are_refused() {
    let parse = |shards: &[String]| Manifest::parse(manifest_text("", shards).as_bytes());
    for size in ["9007199254740993", "18446744073709551615", "18446744073709551616", "340282366920938463463374607431768211456"] {
        assert_eq!(parse(&[shard_text("a", size, 1)]), Err(ManifestError::NumberTooLarge { line: 7 }), "{size}");
    }
    let above = limits::BLOB_BYTES + 1;
    assert_eq!(
        parse(&[shard_text("a", &above.to_string(), 1)]),
        Err(ManifestError::ShardTooLarge { path: path("a"), size: above })
    );
    let full = limits::MANIFEST_TOTAL_BYTES / limits::BLOB_BYTES;
    let largest = limits::BLOB_BYTES.to_string();
    let shards: Vec<String> = (0..=full).map(|index| shard_text(&format!("{index:04}"), &largest, 1)).collect();
    assert_eq!(parse(&shards), Err(ManifestError::SizeOverflow));
    assert_eq!(parse(&shards[1..]).map(|manifest| manifest.total_bytes()), Ok(limits::MANIFEST_TOTAL_BYTES));
    assert!(matches!(parse(&[shard_text("a", "-1", 1)]), Err(ManifestError::WrongType { field: "size", .. })));
}

#[test]
fn a_million_files_are_refused_at_once() {
    let text = manifest_text("", &vec![shard_text("a", "1", 1); 1_000_000]);
    assert_eq!(Manifest::parse(text.as_bytes()), Err(ManifestError::TooLarge { bytes: text.len() as u64 }));
    let shards: Vec<String> = (0..=limits::MANIFEST_FILES).map(|index| shard_text(&format!("{index:06}"), "1", 1)).collect();
    assert_eq!(Manifest::parse(manifest_text("", &shards).as_bytes()), Err(ManifestError::TooManyShards));
    // What follows the last allowed shard is not even looked at.
    let open_end = manifest_text("", &shards).replace("\n  ]\n}\n", &",?".repeat(1000));
    assert_eq!(Manifest::parse(open_end.as_bytes()), Err(ManifestError::TooManyShards));
    assert!(Manifest::parse(manifest_text("", &shards[1..]).as_bytes()).is_ok());
    assert_eq!(Manifest::new(Metadata::default(), vec![shard("a", 1, 1); 1_000_000]), Err(ManifestError::TooManyShards));
    let dense = manifest_text(&format!("  \"extra\": [{}0],\n", "0,".repeat(VALUES)), &[shard_text("a", "1", 1)]);
    assert_eq!(Manifest::parse(dense.as_bytes()), Err(ManifestError::TooManyValues));
}

#[test]
fn blobs_that_contradict_themselves_are_refused() {
    let new = |shards| Manifest::new(Metadata::default(), shards);
    let hash = BlobHash([1; 32]);
    assert_eq!(new(vec![shard("a", 1, 1), shard("b", 2, 1)]), Err(ManifestError::TwoSizes { hash, a: 1, b: 2 }));
    let with_sha256 = |text, byte| Shard::new(path(text), 1, hash, Some(Sha256([byte; 32]))).unwrap();
    assert_eq!(
        new(vec![with_sha256("a", 1), shard("b", 1, 1), with_sha256("c", 2)]),
        Err(ManifestError::TwoHashes { hash, field: "sha256" })
    );
    assert!(new(vec![with_sha256("a", 1), shard("b", 1, 1), with_sha256("c", 1)]).is_ok());
    let with_git_oid = |text, byte| shard(text, 1, 1).with_git_oid(Some(GitOid([byte; 20])));
    let two = Err(ManifestError::TwoHashes { hash, field: "git_oid" });
    assert_eq!(new(vec![with_git_oid("a", 1), with_sha256("b", 1), with_git_oid("c", 2)]), two);
    assert!(new(vec![with_git_oid("a", 1), with_sha256("b", 1), with_git_oid("c", 1)]).is_ok());
    assert_eq!(Shard::new(path("a"), 0, hash, None), Err(ManifestError::EmptyBlob(path("a"))));
    assert_eq!(Shard::new(path("a"), 1, BlobHash::of(b""), None), Err(ManifestError::EmptyBlob(path("a"))));
    assert_eq!(new(Vec::new()), Err(ManifestError::NoShards));
}

#[test]
fn anything_but_the_canonical_text_is_refused() {
    let twice = |text: &str, other: &str| {
        assert!(GOLDEN.contains(text), "{text:?}");
        GOLDEN.replacen(text, other, 1)
    };
    for text in [
        twice("\"gated\": true", "\"gated\":true"),
        twice("  \"gated\"", "\t\"gated\""),
        twice("\n", "\r\n"),
        twice(" ", ""),
        twice("[],", "[ ],"),
        twice("Org/Tiny", "Org\\/Tiny"),
        twice("ü", "\\u00fc"),
        twice("\\u0001", "\\u0001\\u007f"),
        twice("a\\n", "a\\u000a"),
        twice("\"size\": 7", "\"size\": 7.0"),
        twice("\"size\": 7", "\"size\": 7e0"),
        twice("\"size\": 0", "\"size\": -0"),
        twice("      \"path\": \"LICENSE\",\n      \"size\": 0", "      \"size\": 0,\n      \"path\": \"LICENSE\""),
        twice("    \"model_card\",\n    \"weights\"", "    \"weights\",\n    \"model_card\""),
        twice("mirror.example/tiny", "mirror.example/tiny/"),
        twice("\"gated\": true", "\"gated\": false"),
        GOLDEN.trim_end().to_owned(),
        format!(" {GOLDEN}"),
    ] {
        assert!(matches!(Manifest::parse(text.as_bytes()), Err(ManifestError::NotCanonical { .. })), "{text}");
    }
    let unsorted = manifest_text("", &[shard_text("b", "1", 1), shard_text("a", "1", 1)]);
    assert!(matches!(Manifest::parse(unsorted.as_bytes()), Err(ManifestError::NotCanonical { line: 6, .. })));
    for fields in ["  \"mirrors\": [],\n", "  \"openness\": [],\n"] {
        assert!(matches!(with_fields(fields), Err(ManifestError::NotCanonical { line: 3, .. })), "{fields}");
    }
}

#[test]
fn trailing_bytes_and_duplicate_keys_are_refused() {
    for tail in ["\n", " ", "x", "\0", "{}", GOLDEN] {
        let text = format!("{GOLDEN}{tail}");
        assert!(matches!(Manifest::parse(text.as_bytes()), Err(ManifestError::TrailingBytes { .. })), "{tail:?}");
    }
    let key = |fields| match with_fields(fields) {
        Err(ManifestError::DuplicateKey { key, .. }) => key,
        other => panic!("{other:?}"),
    };
    assert_eq!(key("  \"license\": \"MIT\",\n  \"license\": \"MIT\",\n"), "license");
    assert_eq!(key("  \"a\": {\n    \"b\": 1,\n    \"b\": 1\n  },\n"), "b");
    assert_eq!(key("  \"!format\": \"p2pweights-manifest/1\",\n"), "!format");
}

#[test]
fn other_blobs_and_versions_are_told_apart() {
    for other in ["", "[]", "\u{0}GGUF", "{}", "{\"a\": 1}", "{\"!format\": 1}", "\u{feff}{}"] {
        assert_eq!(Manifest::parse(other.as_bytes()), Err(ManifestError::NotAManifest), "{other:?}");
    }
    assert_eq!(Manifest::parse(b"\xff\xfe{}"), Err(ManifestError::NotAManifest));
    let newer = GOLDEN.replace("manifest/1", "manifest/2").replace("\"shards\"", "\"!shards\"");
    assert_eq!(Manifest::parse(newer.as_bytes()), Err(ManifestError::UnsupportedVersion("p2pweights-manifest/2".to_owned())));
    let cut = &GOLDEN.as_bytes()[..GOLDEN.len() / 2];
    assert!(matches!(Manifest::parse(cut), Err(ManifestError::NotJson { .. })));
}

#[test]
fn malformed_fields_are_named() {
    let field = |fields: &str| match with_fields(fields).unwrap_err() {
        ManifestError::Text { field, .. }
        | ManifestError::WrongType { field, .. }
        | ManifestError::MissingField { field, .. } => field,
        ManifestError::TooManyEntries { field, .. } | ManifestError::DuplicateEntry { field, .. } => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field("  \"name\": \"just-a-model\",\n"), "name");
    assert_eq!(field("  \"license\": \"<script>\",\n"), "license");
    assert_eq!(field("  \"revision\": null,\n"), "revision");
    assert_eq!(field("  \"gated\": \"yes\",\n"), "gated");
    assert_eq!(field("  \"base_model\": {\n    \"name\": \"a/b\"\n  },\n"), "relation");
    assert_eq!(field("  \"mirrors\": [\n    \"file:///etc\"\n  ],\n"), "mirrors");
    assert_eq!(field("  \"mirrors\": [\n    \"http://a\",\n    \"http://a/\"\n  ],\n"), "mirrors");
    assert_eq!(field(&format!("  \"openness\": [\n{}    \"z\"\n  ],\n", "    \"a\",\n".repeat(64))), "openness");
    assert_eq!(with_fields("  \"license_file\": \"LICENSE\",\n"), Err(ManifestError::LicenseFileMissing(path("LICENSE"))));
    assert_eq!(with_fields("  \"New\": 1,\n"), Err(ManifestError::FieldName("New".to_owned())));
    let no_hash = manifest_text("", &[shard_text("a", "1", 1).replace("0101", "0X01")]);
    assert!(matches!(Manifest::parse(no_hash.as_bytes()), Err(ManifestError::Hash { field: "blake3", .. })));
    let no_path = manifest_text("", &["    {\n      \"size\": 1\n    }".to_owned()]);
    assert_eq!(Manifest::parse(no_path.as_bytes()), Err(ManifestError::MissingField { line: 4, field: "path" }));
    assert!(matches!(Manifest::parse(manifest_text("", &["1".to_owned()]).as_bytes()), Err(ManifestError::WrongType { .. })));
    let none = b"{\n  \"!format\": \"p2pweights-manifest/1\"\n}\n";
    assert_eq!(Manifest::parse(none), Err(ManifestError::MissingField { line: 1, field: "shards" }));
}

#[test]
fn what_is_put_together_keeps_the_rules_that_reading_checks() {
    let with_extra = |extra| Manifest::new(Metadata { extra, ..Metadata::default() }, vec![shard("a", 1, 1)]);
    let field = |name: &str, value| Fields::from_iter([(name.to_owned(), value)]);
    for name in ["", "!a", "A", "a b", "é", &"a".repeat(65)] {
        assert_eq!(with_extra(field(name, Value::Null)), Err(ManifestError::FieldName(name.to_owned())));
    }
    for name in ["shards", "name", "gated"] {
        assert_eq!(with_extra(field(name, Value::Null)), Err(ManifestError::ReservedField(name.to_owned())));
    }
    assert_eq!(shard("a", 1, 1).with_extra(field("size", Value::Null)), Err(ManifestError::ReservedField("size".to_owned())));
    let nested = |levels| (0..levels).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    let deepest = with_extra(field("a", nested(DEPTH - 1))).unwrap();
    assert_eq!(Manifest::parse(&deepest.encode()), Ok(deepest));
    for levels in [DEPTH, 10_000] {
        assert_eq!(with_extra(field("a", nested(levels))), Err(ManifestError::TooDeep));
    }
    // The manifest, its format, its shards, the shard, its three fields and the list are eight values.
    let list = |entries| field("x", Value::List(vec![Value::Null; entries]));
    let fullest = with_extra(list(VALUES - 8)).unwrap();
    assert_eq!(Manifest::parse(&fullest.encode()), Ok(fullest));
    assert_eq!(with_extra(list(VALUES - 7)), Err(ManifestError::TooManyValues));
    let long = with_extra(field("x", Value::Text("x".repeat(limits::MANIFEST_BYTES as usize))));
    assert!(matches!(long, Err(ManifestError::TooLarge { .. })));
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-(1i64 << 53)..=1 << 53).prop_map(|number| Value::Integer(Integer::new(number).unwrap())),
        any::<String>().prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn extras() -> impl Strategy<Value = Fields> {
    prop::collection::vec(("x[a-z0-9_.-]{0,6}", values()), 0..3).prop_map(|members| members.into_iter().collect())
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let names = ("[A-Z][a-z]{1,5}/[a-z][0-9]{1,5}", "[ -~é日]{1,20}", "[A-Z]{3}-[0-9]\\.0");
    let source = prop::option::of(("[ -~]{1,20}", "[0-9a-f]{8}", extras()));
    let base = prop::option::of(("[A-Z][a-z]{1,5}/[a-z][0-9]{1,5}", "[a-z_]{1,9}", extras()));
    let lists = (
        prop::collection::btree_set("[a-z_0-9]{1,9}", 0..5),
        prop::collection::btree_set("https?://[a-z]{1,9}(/[a-z]{1,3}){0,2}", 0..4),
    );
    (prop::option::of(names), any::<bool>(), source, base, lists, extras()).prop_map(
        |(names, gated, source, base, lists, extra)| {
            let name = names.as_ref().map(|names| names.0.parse().unwrap());
            let revision = names.as_ref().map(|names| names.1.parse().unwrap());
            let license = names.map(|names| names.2.parse().unwrap());
            let source = source.map(|(repo, revision, extra)| Source {
                repo: repo.parse().unwrap(),
                revision: revision.parse().unwrap(),
                extra,
            });
            let base_model = base.map(|(name, relation, extra)| BaseModel {
                name: name.parse().unwrap(),
                relation: relation.parse().unwrap(),
                extra,
            });
            let openness = lists.0.iter().map(|term| term.parse().unwrap()).collect();
            let mirrors = lists.1.iter().rev().map(|mirror| mirror.parse().unwrap()).collect();
            Metadata { name, revision, license, license_file: None, gated, source, base_model, openness, mirrors, extra }
        },
    )
}

fn shards() -> impl Strategy<Value = Vec<Shard>> {
    let shard = (
        "f[a-z0-9é!-]{0,8}(/d[a-z]{0,3})?",
        1..=limits::BLOB_BYTES,
        any::<[u8; 32]>(),
        prop::option::of(any::<[u8; 32]>()),
        prop::option::of(any::<[u8; 20]>()),
        extras(),
    );
    prop::collection::vec(shard, 1..6).prop_map(|shards| {
        let shard = |(path, size, blake3, sha256, git_oid, extra): (String, _, _, Option<[u8; 32]>, Option<[u8; 20]>, _)| {
            let shard = Shard::new(path.parse().unwrap(), size, BlobHash(blake3), sha256.map(Sha256)).unwrap();
            shard.with_git_oid(git_oid.map(GitOid)).with_extra(extra).unwrap()
        };
        shards.into_iter().map(shard).collect()
    })
}

proptest! {
    #[test]
    fn a_manifest_reads_back_and_the_order_given_does_not_matter(metadata in metadata(), shards in shards()) {
        let mut reversed = shards.clone();
        reversed.reverse();
        let made = Manifest::new(metadata.clone(), shards);
        prop_assume!(made.is_ok(), "paths collide");
        let manifest = made.unwrap();
        let bytes = manifest.encode();
        prop_assert!(Manifest::looks_like(&bytes));
        prop_assert_eq!(manifest.id(), BlobHash::of(&bytes));
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        prop_assert_eq!(Manifest::parse(&bytes), Ok(manifest.clone()));
        prop_assert_eq!(Manifest::new(metadata, reversed), Ok(manifest));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Manifest::parse(&bytes).is_err());
        let _ = Manifest::parse(&[b"{\n  \"!format\": \"p2pweights-manifest/1\",\n".as_slice(), &bytes].concat());
    }

    /// Whatever one changed byte makes of a manifest, it is refused or is another manifest with the same bytes as given.
    #[test]
    fn a_damaged_manifest_is_refused_or_exact(at in 0..GOLDEN.len(), byte in any::<u8>()) {
        let mut bytes = GOLDEN.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(manifest) = Manifest::parse(&bytes) {
            prop_assert_eq!(manifest.encode(), bytes);
        }
    }
}
