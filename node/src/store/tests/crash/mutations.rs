//! Proof that the judge is awake: lives with a wrong order of changes, each of which must break a promise in some crash.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::Recording;
use crate::store::disk::stage::{FileId, Node, Step};

/// A step that does nothing.
const NOTHING: Step = Step::SyncFile { file: 0 };
/// Every mistake shows within so many crashes; most within a hundred.
const SAMPLES: u64 = 3_000;

/// All names that each file ever had.
fn names_of_files(steps: &[Step]) -> BTreeMap<FileId, BTreeSet<String>> {
    let (mut names, mut files) = (BTreeMap::<PathBuf, FileId>::new(), BTreeMap::<FileId, BTreeSet<String>>::new());
    for step in steps {
        let (file, path) = match step {
            Step::Name { path, node: Node::File(file) } => (*file, path),
            Step::Rename { from, to } => match names.remove(from) {
                Some(file) => (file, to),
                None => continue,
            },
            _ => continue,
        };
        names.insert(path.clone(), file);
        files.entry(file).or_default().insert(path.to_str().unwrap().to_owned());
    }
    files
}

/// The files of which some name has these words in it.
fn files_with(steps: &[Step], words: &[&str]) -> BTreeSet<FileId> {
    let has = |names: &BTreeSet<String>| names.iter().any(|name| words.iter().any(|word| name.contains(word)));
    names_of_files(steps).into_iter().filter(|(_, names)| has(names)).map(|(file, _)| file).collect()
}

/// Nothing of these files is made durable.
fn never_sync(steps: &mut [Step], words: &[&str]) -> usize {
    let files = files_with(steps, words);
    let syncs = steps.iter_mut().filter(|step| matches!(step, Step::SyncFile { file } if files.contains(file)));
    syncs.map(|step| *step = NOTHING).count()
}

fn removes(step: &Step, part: &str) -> bool {
    matches!(step, Step::Unname { path } if path.extension().is_some_and(|found| found == part))
}

/// A mistake must have been made somewhere, and must be found.
#[track_caller]
fn is_found(mistake: impl FnOnce(&mut Vec<Step>) -> usize) {
    let mut recording = Recording::new();
    let made = mistake(&mut recording.steps);
    assert!(made > 0, "the order is another one by now: nothing was changed");
    recording.mark();
    let found = (0..SAMPLES).find_map(|seed| recording.sample(seed).err());
    assert!(found.is_some(), "{made} wrong orders, and no promise was broken in {SAMPLES} crashes");
}

#[test]
fn progress_before_data_is_found() {
    is_found(|steps| {
        let (data, progress) = (files_with(steps, &[".data"]), files_with(steps, &[".progress"]));
        let syncs = |step: &Step, files: &BTreeSet<FileId>| matches!(step, Step::SyncFile { file } if files.contains(file));
        let mut made = 0;
        for at in 2..steps.len() {
            if syncs(&steps[at - 2], &data) && syncs(&steps[at], &progress) {
                steps[at - 2..=at].rotate_left(1);
                made += 1;
            }
        }
        made
    });
}

#[test]
fn removing_the_progress_file_before_the_data_is_found() {
    is_found(|steps| {
        let mut made = 0;
        for at in 2..steps.len() {
            if removes(&steps[at - 2], "data") && removes(&steps[at], "progress") {
                steps.swap(at - 2, at);
                made += 1;
            }
        }
        made
    });
}

#[test]
fn completing_before_the_data_is_synced_is_found() {
    is_found(|steps| {
        let data = files_with(steps, &[".data"]);
        let mut made = 0;
        for at in 0..steps.len() {
            let synced =
                (at.saturating_sub(6)..at).rev().find(|&at| matches!(&steps[at], Step::SyncFile { file } if data.contains(file)));
            if let Some(synced) = synced.filter(|_| removes(&steps[at], "progress")) {
                // With the sync of its folder.
                steps[synced..=at + 1].rotate_right(2);
                made += 1;
            }
        }
        made
    });
}

#[test]
fn naming_small_blobs_before_they_are_synced_is_found() {
    is_found(|steps| never_sync(steps, &["/arrived/"]));
}

#[test]
fn a_pin_that_is_not_synced_is_found() {
    is_found(|steps| never_sync(steps, &["/pins/"]));
}

#[test]
fn an_index_that_is_vouched_for_too_long_is_found() {
    is_found(|steps| {
        let mut made = 0;
        for at in 1..steps.len() {
            let marker = matches!(&steps[at - 1], Step::Unname { path } if path.ends_with("index.clean"));
            if marker && matches!(steps[at], Step::SyncFolder { .. }) {
                steps[at] = NOTHING;
                made += 1;
            }
        }
        made
    });
}
