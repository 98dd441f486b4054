//! The gateway: one file that is held, by nginx's measure; a cold one from two peers, by a fetch's; a hundred readers at once.

use std::fs;
use std::path::{Path, PathBuf};

use super::{column, mega, rate};
use crate::figures::{Key, MB, MB_PER_S, Report, SECONDS, median};
use crate::http::{self, Nginx};
use crate::lab::{Lab, Node};
use crate::{MIB, Outcome};

/// Clients that read at once, for memory.
const READERS: usize = 100;
/// What the model is called.
const NAME: &str = "bench/model";
const FILE: &str = "model.safetensors";

struct Round {
    /// Seconds of nginx, where there is one.
    nginx_s: Option<f64>,
    held_s: f64,
}

pub fn run(lab: &Lab, report: &mut Report) -> Outcome {
    let folder = model(lab)?;
    held(lab, report, &folder)?;
    cold(lab, report, &folder)
}

/// The file that others move, as a model of one file.
fn model(lab: &Lab) -> Outcome<PathBuf> {
    let folder = lab.path("model");
    fs::create_dir_all(&folder)?;
    let file = lab.model()?;
    if !folder.join(FILE).exists() {
        fs::hard_link(file, folder.join(FILE))?;
    }
    Ok(folder)
}

fn held(lab: &Lab, report: &mut Report, folder: &Path) -> Outcome {
    let bytes = lab.file_bytes();
    let hash = lab.publish("held", folder, &["--name", NAME])?.hash;
    let node = lab.node("held", &["--gateway", "127.0.0.1:0"])?;
    let gateway = gateway_of(lab, &node)?;
    let target = format!("/{NAME}/resolve/{}/{FILE}", &hash[..40]);
    let nginx = Nginx::start(lab, folder)?;
    let rounds = lab.rounds(|| {
        let nginx_s = nginx.as_ref().map(|nginx| http::get(lab, &nginx.address, &format!("/{FILE}"), bytes)).transpose()?;
        let held_s = http::get(lab, &gateway, &target, bytes)?;
        Ok(Round { nginx_s: nginx_s.map(|got| got.whole_s), held_s: held_s.whole_s })
    })?;
    let rates = column(&rounds, |round| rate(bytes, round.held_s));
    if nginx.is_some() {
        let yardstick = column(&rounds, |round| rate(bytes, round.nginx_s.unwrap_or(f64::NAN)));
        report.figure("one GET from nginx", MB_PER_S, &yardstick);
        let ratio = report.compared("one GET of a file that is held, proved", MB_PER_S, &rates, "nginx", &yardstick);
        report.hold(Key::GatewayHeld, ratio);
    } else {
        println!("  nginx is not installed: nothing to compare with");
        report.figure("one GET of a file that is held", MB_PER_S, &rates);
    }
    let one = mega(node.process.resident_bytes());
    let part = (bytes / 8).min(64 * MIB);
    http::crowd(lab, &gateway, &target, READERS, part, bytes)?;
    report.figure("  memory before", MB, &[one]);
    let peak = mega(node.process.peak_bytes());
    report.figure(&format!("  peak memory, {READERS} readers at once"), MB, &[peak]);
    report.hold(Key::GatewayMemory, peak);
    drop(nginx);
    lab.dismiss(vec![node])
}

struct Cold {
    fetch_s: f64,
    whole_s: f64,
    first_s: f64,
}

fn cold(lab: &Lab, report: &mut Report, folder: &Path) -> Outcome {
    let bytes = lab.file_bytes();
    let (sources, hash) = lab.sources(2, folder)?;
    let addresses: Vec<&str> = sources.iter().map(|source| source.address.as_str()).collect();
    let providers: String = addresses.iter().map(|address| format!("&provider={}", address.replace('/', "%2F"))).collect();
    let link = format!("p2pweights:{hash}?name=model{providers}");
    let rounds = lab.rounds(|| {
        lab.settle()?;
        let fetch_s = lab.fetch("fetcher", &hash, &addresses)?.took_s;
        lab.settle()?;
        fs::write(lab.path("gateway.toml"), format!("[gateway.models]\n\"{NAME}\" = \"{link}\"\n"))?;
        let config = lab.path("gateway.toml");
        let node = lab.node("cold", &["--gateway", "127.0.0.1:0", "--config", crate::lab::text(&config)?])?;
        let gateway = gateway_of(lab, &node)?;
        // A commit that is not known yet: the manifest is part of what is waited for.
        let target = format!("/{NAME}/resolve/{}/{FILE}", &hash[..40]);
        let got = http::get(lab, &gateway, &target, bytes)?;
        lab.dismiss(vec![node])?;
        Ok(Cold { fetch_s, whole_s: got.whole_s, first_s: got.first_s })
    })?;
    let fetches = column(&rounds, |round| rate(bytes, round.fetch_s));
    report.figure("a fetch from two sources", MB_PER_S, &fetches);
    let rates = column(&rounds, |round| rate(bytes, round.whole_s));
    let ratio = report.compared("the same through a gateway that holds nothing", MB_PER_S, &rates, "fetch", &fetches);
    report.hold(Key::GatewayCold, ratio);
    let firsts = column(&rounds, |round| round.first_s);
    report.figure("  until the first byte, manifest included", SECONDS, &firsts);
    report.hold(Key::GatewayFirst, median(&firsts));
    lab.dismiss(sources)
}

/// Where a node's gateway listens.
fn gateway_of(lab: &Lab, node: &Node) -> Outcome<String> {
    Ok(lab.status(node)?["gateway"].as_str().ok_or("no gateway")?.to_owned())
}
