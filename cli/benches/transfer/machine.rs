//! The machine that the figures are of.

use std::fs;
use std::path::Path;

use serde::Serialize;

/// What makes one machine's figures differ from another's.
#[derive(Debug, Serialize)]
pub struct Machine {
    cores: usize,
    processor: String,
    /// Instructions that hashing and encryption depend on.
    instructions: Vec<&'static str>,
    memory_mib: u64,
    kernel: String,
    file_system: String,
    tcp_congestion_control: String,
    /// Processes that ran or wanted to, over the last minute before the benches began.
    load: String,
}

impl Machine {
    /// The machine at hand, for work in this folder.
    pub fn here(folder: &Path) -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let of = |key: &str| field(&processors, key).unwrap_or_default();
        let flags = of("flags");
        let known = ["aes", "vaes", "sha_ni", "avx2", "avx512f"];
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory_kib = field(&memory, "MemTotal").and_then(|text| text.trim_end_matches(" kB").parse().ok()).unwrap_or(0u64);
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: format!("{} (family {}, model {})", of("model name"), of("cpu family"), of("model")),
            instructions: known.into_iter().filter(|name| flags.split(' ').any(|flag| flag == *name)).collect(),
            memory_mib: memory_kib / 1024,
            kernel: read("/proc/sys/kernel/osrelease"),
            file_system: file_system(folder),
            tcp_congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control"),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }

    /// The least that a picture must say.
    pub fn caption(&self) -> String {
        let Self { cores, processor, memory_mib, kernel, file_system, .. } = self;
        format!("{cores} cores of {processor}, {memory_mib} MiB of memory, Linux {kernel}, {file_system}")
    }

    /// In one sentence.
    pub fn line(&self) -> String {
        let Self { cores, processor, memory_mib, kernel, file_system, tcp_congestion_control, load, .. } = self;
        let instructions = self.instructions.join(" ");
        format!(
            "{cores} cores of {processor} [{instructions}], {memory_mib} MiB of memory, Linux {kernel}, {file_system}, \
             TCP {tcp_congestion_control}, load {load} before it began"
        )
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn field(text: &str, key: &str) -> Option<String> {
    let of = |line: &str| line.split_once(':').filter(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned());
    text.lines().find_map(of)
}

/// The file system with the longest mount point above the folder.
fn file_system(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut fields =
        mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|fields| fields.len() > 2).collect::<Vec<_>>();
    fields.retain(|fields| folder.starts_with(fields[1]));
    fields.iter().max_by_key(|fields| fields[1].len()).map_or_else(String::new, |fields| fields[2].to_owned())
}
