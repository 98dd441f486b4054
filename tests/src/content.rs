//! Models with seeded contents: the same bytes on every run, different ones for different seeds.

use std::fs;
use std::path::{Path, PathBuf};

/// 2^10 bytes.
pub const KIB: usize = 1024;
/// 2^20 bytes.
pub const MIB: usize = 1024 * KIB;

/// Bytes that look random and are the same on every run.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut content = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
    content
}

/// Writes a file and the folders above it.
pub fn write(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
    fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// A model folder in the layout of a hub repository, with shards of these sizes.
pub fn write_model(folder: &Path, seed: u64, shard_bytes: &[usize]) {
    for (index, bytes) in shard_bytes.iter().enumerate() {
        write(&folder.join(shard_name(index, shard_bytes.len())), &noise(seed * 1000 + index as u64, *bytes));
    }
    write(&folder.join("config.json"), b"{\"model_type\":\"test\"}\n");
}

/// The name of one shard among so many.
pub fn shard_name(index: usize, count: usize) -> String {
    format!("model-{:05}-of-{count:05}.safetensors", index + 1)
}

/// Every file below a folder, by relative path.
pub fn files_below(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current).unwrap_or_else(|error| panic!("{}: {error}", current.display())) {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let relative = path.strip_prefix(folder).expect("it lies below").to_owned();
                files.push((relative, fs::read(&path).expect("a file can be read")));
            }
        }
    }
    files.sort();
    files
}

/// Both folders hold the same files with the same bytes.
#[track_caller]
pub fn assert_same_files(left: &Path, right: &Path) {
    let (left, right) = (files_below(left), files_below(right));
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(&left), names(&right));
    for ((path, one), (_, other)) in left.iter().zip(&right) {
        assert!(one == other, "{} differs", path.display());
    }
}

/// Bytes of all files below a folder.
pub fn bytes_below(folder: &Path) -> u64 {
    files_below(folder).iter().map(|(_, content)| content.len() as u64).sum()
}
