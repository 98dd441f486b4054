//! Mirror C of the demo: which files are about half of a model, and how it comes to hold them.

use p2pweights_node::report::{FetchEvent, FilePlan};

use super::processes::{self, Program};
use super::workspace::Workspace;
use crate::failure::CommandError;

/// Has mirror C fetch the files that come nearest to half of the bytes; gives their bytes.
pub async fn fetch(program: &Program, workspace: &Workspace, bootstrap: &str, hash: &str) -> Result<u64, CommandError> {
    let folder = workspace.folder("mirror-c");
    let place = workspace.folder("mirror-c-files");
    let mut plan = Vec::new();
    let mut fetch = processes::fetch_arguments(hash, bootstrap, &place);
    fetch.push("--dry-run".into());
    program
        .follow("mirror-c", &folder, &fetch, |line| {
            if let Ok(FetchEvent::Plan { files, .. }) = serde_json::from_str(line) {
                plan = files;
            }
            Ok(())
        })
        .await?;
    let half = nearest_to_half(&plan);
    let bytes = half.iter().map(|file| file.bytes).sum();
    let mut fetch = processes::fetch_arguments(hash, bootstrap, &place);
    for file in &half {
        fetch.extend(["--include".into(), glob_escaped(&file.path).into()]);
    }
    program.follow("mirror-c", &folder, &fetch, |_| Ok(())).await?;
    Ok(bytes)
}

/// Largest first, each file that brings the sum nearer to half.
fn nearest_to_half(files: &[FilePlan]) -> Vec<&FilePlan> {
    let half = files.iter().map(|file| file.bytes).sum::<u64>() / 2;
    let mut sorted: Vec<_> = files.iter().collect();
    sorted.sort_by_key(|file| std::cmp::Reverse(file.bytes));
    let mut sum = 0_u64;
    sorted.retain(|file| {
        let nearer = file.bytes > 0 && half.abs_diff(sum + file.bytes) < half.abs_diff(sum);
        sum += if nearer { file.bytes } else { 0 };
        nearer
    });
    sorted
}

/// A glob that matches this path alone.
fn glob_escaped(path: &str) -> String {
    path.chars()
        .map(|c| if matches!(c, '*' | '?' | '[' | ']' | '{' | '}' | '\\') { format!("[{c}]") } else { c.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(sizes: &[u64]) -> Vec<FilePlan> {
        let file =
            |(index, bytes): (usize, &u64)| FilePlan { path: format!("f{index}"), hash: String::new(), bytes: *bytes, held: 0 };
        sizes.iter().enumerate().map(file).collect()
    }

    #[test]
    fn half_is_the_nearest_that_whole_files_give() {
        for (sizes, expected) in [(&[24, 24, 24, 24][..], 48), (&[91, 5, 4], 91), (&[60, 20, 10, 10], 60), (&[4, 3, 3], 4)] {
            let all = files(sizes);
            assert_eq!(nearest_to_half(&all).iter().map(|file| file.bytes).sum::<u64>(), expected, "{sizes:?}");
        }
    }

    #[test]
    fn a_path_with_glob_characters_stands_for_itself() {
        assert_eq!(glob_escaped("a[1]*.bin"), "a[[]1[]][*].bin");
    }
}
