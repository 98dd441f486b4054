//! Importing a repository from a hub on this machine, beside `curl` of the same files.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use super::{column, mega, rate};
use crate::figures::{CPU_S, Key, MB, MB_PER_S, Report};
use crate::lab::{Lab, text};
use crate::process::{Process, Spent};
use crate::{Outcome, hub};

/// Files of the repository: as large models have several.
const FILES: u64 = 4;

struct Round {
    curl: f64,
    import: f64,
    spent: Spent,
}

pub fn run(lab: &Lab, report: &mut Report) -> Outcome {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("  there is no curl to compare with");
        return Ok(());
    }
    let folder = lab.path("repository");
    fs::create_dir_all(&folder)?;
    let bytes = lab.file_bytes();
    let names: Vec<String> = (1..=FILES).map(|number| format!("model-{number:05}-of-{FILES:05}.safetensors")).collect();
    for name in &names {
        lab.random_file(&format!("repository/{name}"), bytes / FILES)?;
    }
    let mut server = lab.role(&["hub", text(&folder)?])?;
    let (_, base) = server.line()?;
    let rounds = lab.rounds(|| {
        lab.settle()?;
        let curl = rate(bytes, curl(lab, &base, &names)?);
        lab.settle()?;
        let (took_s, spent) = import(lab, &base)?;
        Ok(Round { curl, import: rate(bytes, took_s), spent })
    })?;
    server.kill()?;
    lab.forget("repository")?;
    let curl = column(&rounds, |round| round.curl);
    report.figure("curl of the same files", MB_PER_S, &curl);
    let rates = column(&rounds, |round| round.import);
    let ratio = report.compared("import, to its end", MB_PER_S, &rates, "curl", &curl);
    report.hold(Key::Import, ratio);
    report.figure("  processor time", CPU_S, &column(&rounds, |round| round.spent.cpu_s));
    report.figure("  peak memory", MB, &column(&rounds, |round| mega(round.spent.peak_bytes)));
    Ok(())
}

/// Seconds that curl takes: one process, one file after the other, nothing checked and nothing synced.
fn curl(lab: &Lab, base: &str, names: &[String]) -> Outcome<f64> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]);
    let mut files: Vec<PathBuf> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let file = lab.path(&format!("curl-{index}.bin"));
        command.arg("--output").arg(&file).arg(hub::address(base, name));
        files.push(file);
    }
    let began = Instant::now();
    let ended = Process::start("curl", &mut command, &lab.path("curl.log"))?.end()?.ended;
    files.into_iter().try_for_each(fs::remove_file)?;
    Ok((ended - began).as_secs_f64())
}

/// Seconds from the command's start to its end, when everything is durable.
fn import(lab: &Lab, base: &str) -> Outcome<(f64, Spent)> {
    let began = Instant::now();
    let process = lab.start("import", &["import", &format!("hf:{}", hub::REPOSITORY), "--endpoint", base])?;
    let spent = process.end()?;
    lab.forget("import")?;
    Ok(((spent.ended - began).as_secs_f64(), spent))
}
