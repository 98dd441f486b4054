//! From a report to a record: what a scenario says of itself, and the figures that are worth keeping.

use std::collections::BTreeMap;
use std::time::Duration;

use p2pweights_protocol::time::Instant;

use super::record::{Expectation, GroupRecord, LinkRecord, MomentRecord, RunRecord, SCHEMA, seconds};
use crate::report::{HostReport, Report, Traffic};

/// What a report does not know: which scenario was run, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The scenario's name.
    pub name: String,
    /// Its row in the table of targets, if it is there.
    pub row: Option<u32>,
    /// What it is about, in some sentences.
    pub about: String,
    /// The seed.
    pub seed: u64,
    /// Whether it ran at full size, and not in its short form.
    pub full: bool,
    /// The command that does it again.
    pub command: String,
}

impl RunRecord {
    /// What is kept of a run.
    pub fn of(facts: Facts, report: &Report, expectations: Vec<Expectation>) -> Self {
        let sum = |figure: fn(&HostReport) -> u64| report.hosts.iter().map(figure).sum::<u64>();
        Self {
            schema: SCHEMA,
            engine: env!("CARGO_PKG_VERSION").into(),
            name: facts.name,
            row: facts.row,
            about: facts.about,
            seed: facts.seed,
            full: facts.full,
            command: facts.command,
            digest: format!("{:016x}", report.digest),
            expectations,
            bound_s: seconds(report.bound),
            ended_s: seconds(report.ended_at - Instant::START),
            staggered: is_staggered(report),
            hosts: report.hosts.len() as u64,
            fetchers: report.fetchers.len() as u64,
            copy_bytes: report.copy_bytes,
            groups: groups(report),
            links: links(report),
            moments: moments(report),
            sent_bytes: report.sent(),
            received_bytes: sum(|host| host.received),
            duplicate_bytes: sum(|host| host.duplicate),
            wasted_bytes: sum(|host| host.wasted),
            refetched_bytes: sum(|host| host.refetched),
            relayed_bytes: sum(|host| host.relayed),
            traffic: traffic(&report.traffic),
            traffic_bytes: report.traffic.bytes,
            transfers: report.traffic.requests,
            idle_permille: report.idle_permille(),
            events: report.events,
            violations: report.violations.iter().map(|violation| format!("{violation:?}")).collect(),
            gone_pieces: report.gone_pieces.len() as u64,
            bad_groups_kept: report.bad_groups_kept,
            ran_out_of_events: report.ran_out_of_events,
            baselines: Vec::new(),
        }
    }
}

fn began(host: &HostReport) -> Instant {
    host.began_at.unwrap_or(Instant::START)
}

/// Beginnings further apart than a hundredth of the bound matter.
fn is_staggered(report: &Report) -> bool {
    let latest = report.fetchers.iter().map(|host| began(&report.hosts[host.0]) - Instant::START).max();
    latest.unwrap_or_default() > report.bound / 100
}

fn groups(report: &Report) -> Vec<GroupRecord> {
    let mut groups: Vec<GroupRecord> =
        report.groups.iter().map(|name| GroupRecord { name: name.clone(), ..GroupRecord::default() }).collect();
    for host in &report.hosts {
        let Some(group) = groups.get_mut(host.group) else { continue };
        group.hosts += 1;
        group.sent_bytes += host.sent;
        group.received_bytes += host.received;
    }
    for host in report.fetchers.iter().map(|host| &report.hosts[host.0]) {
        let Some(group) = groups.get_mut(host.group) else { continue };
        group.fetchers += 1;
        let Some(finished_at) = host.finished_at else { continue };
        let took = seconds(finished_at - began(host));
        let bound = if host.bound > Duration::ZERO { host.bound } else { report.bound };
        group.finished_s.push(took);
        // Six decimals are more than anybody can see, and keep records short.
        group.slowdowns.push((took / seconds(bound).max(1e-6) * 1e6).round() / 1e6);
    }
    for group in &mut groups {
        group.finished_s.sort_by(f64::total_cmp);
        group.slowdowns.sort_by(f64::total_cmp);
    }
    groups
}

fn links(report: &Report) -> Vec<LinkRecord> {
    let link = |site: &crate::report::SiteReport| LinkRecord {
        name: site.name.clone(),
        bytes_in: site.bytes_in,
        bytes_out: site.bytes_out,
        bytes_again: site.bytes_again,
        down_s: seconds(site.down_time),
    };
    report.sites.iter().map(link).collect()
}

fn moments(report: &Report) -> Vec<MomentRecord> {
    let moment = |moment: &crate::report::Moment| MomentRecord {
        at_s: seconds(moment.at - Instant::START),
        uplinks_permille: moment.uplinks_busy_permille,
        rarest: moment.rarest,
        mean_permille: moment.mean_permille,
        commonest: moment.commonest,
        present: moment.present,
        finished: moment.finished,
    };
    report.moments.iter().map(moment).collect()
}

fn traffic(traffic: &Traffic) -> BTreeMap<String, u64> {
    let kinds = [
        ("hello", traffic.hello),
        ("interest", traffic.interest),
        ("no_interest", traffic.no_interest),
        ("have", traffic.have),
        ("have_more", traffic.have_more),
        ("have_not", traffic.have_not),
        ("load", traffic.load),
        ("grant", traffic.grant),
        ("returned", traffic.returned),
        ("cancel", traffic.cancel),
        ("decline", traffic.decline),
        ("peers", traffic.peers),
        ("refusals", traffic.refusals),
    ];
    kinds.into_iter().filter(|(_, count)| *count > 0).map(|(kind, count)| (kind.into(), count)).collect()
}
