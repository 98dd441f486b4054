//! Every figure there is, and how it is computed from a report.

use std::time::Duration;

use p2pweights_protocol::time::Instant;

use super::{Evidence, Metric, Of, Unit};
use crate::report::{HostReport, Report};
use crate::units::ONE;

/// The part of a run, in tenths of it, before a swarm counts as established.
const WARM_UP_TENTHS: u64 = 1;

const fn metric(
    name: &'static str,
    unit: Unit,
    of: Of,
    read: fn(&Evidence<'_>, &str) -> Option<u64>,
    about: &'static str,
) -> Metric {
    Metric { name, about, unit, of, read }
}

/// Every figure, by name.
pub static METRICS: [Metric; 27] = [
    metric("last_ratio", Unit::Number, Of::World, |e, _| quantile(e.report, 1000), "the last finish against the bound"),
    metric(
        "honest_last_ratio",
        Unit::Number,
        Of::World,
        |e, _| quantile(e.report, 1000),
        "the same, said of worlds with hosts that have a vice: neither the finish nor the bound counts them",
    ),
    metric(
        "last_up_ratio",
        Unit::Number,
        Of::World,
        last_up,
        "the same while the site's link was up: time of outages left out on both sides",
    ),
    metric("p50_ratio", Unit::Number, Of::World, |e, _| quantile(e.report, 500), "when half have finished, against the bound"),
    metric("p99_ratio", Unit::Number, Of::World, |e, _| quantile(e.report, 990), "when 99 % have finished, against the bound"),
    metric("p999_ratio", Unit::Number, Of::World, |e, _| quantile(e.report, 999), "when 99.9 % have finished, against the bound"),
    metric("class_ratio", Unit::Number, Of::World, class, "the worst group's last finish against that group's own bound"),
    metric(
        "first_byte_ratio",
        Unit::Number,
        Of::World,
        first_byte,
        "the last reader to hold its first bytes, each from its start, against a lone reader's time",
    ),
    metric("finished_share", Unit::Share, Of::World, |e, _| finished(e.report), "fetchers that finished, of all"),
    metric(
        "starved",
        Unit::Number,
        Of::World,
        |e, _| count(e.report, |host| host.received == 0),
        "hosts of groups that fetch that received nothing",
    ),
    metric(
        "sent_copies",
        Unit::Number,
        Of::Group,
        |e, of| sent_copies(e.report, of),
        "copies that a group sent, all its hosts together",
    ),
    metric(
        "site_copies",
        Unit::Number,
        Of::Site,
        |e, of| site_copies(e.report, of),
        "copies that came in over a site's link; the worst of its copies",
    ),
    metric(
        "duplicates",
        Unit::Share,
        Of::World,
        |e, _| received_part(e.report, |host| host.duplicate),
        "payload that was there already, of all received",
    ),
    metric(
        "waste",
        Unit::Share,
        Of::World,
        |e, _| Some(e.report.waste_per_100k() * 10),
        "payload that came twice or for nothing, of all that arrived",
    ),
    metric(
        "refetched_share",
        Unit::Share,
        Of::World,
        |e, _| received_part(e.report, |host| host.refetched),
        "payload that was verified, lost and verified again, of all received",
    ),
    metric(
        "relayed_share",
        Unit::Share,
        Of::World,
        |e, _| received_part(e.report, |host| host.relayed),
        "payload that came through the relay, of all received",
    ),
    metric(
        "bad_groups_kept",
        Unit::Number,
        Of::World,
        |e, _| whole(e.report.bad_groups_kept),
        "groups kept that are not what they should be",
    ),
    metric(
        "violations",
        Unit::Number,
        Of::World,
        |e, _| whole(e.report.violations.len() as u64),
        "rules that were broken; without a bound none may be",
    ),
    metric(
        "gone_pieces",
        Unit::Number,
        Of::World,
        |e, _| whole(e.report.gone_pieces.len() as u64),
        "pieces that nobody present holds at the end though somebody wants them",
    ),
    metric(
        "largest_have_bytes",
        Unit::Bytes,
        Of::World,
        |e, _| most(e.report, |host| host.largest_have_bytes).and_then(whole),
        "the largest have-map that a host sent",
    ),
    metric(
        "engine_bytes",
        Unit::Bytes,
        Of::World,
        |e, _| most(e.report, |host| host.engine_bytes).filter(|bytes| *bytes > 0).and_then(whole),
        "the most that one engine held in memory, estimated",
    ),
    metric(
        "most_present",
        Unit::Number,
        Of::World,
        |e, _| e.report.moments.iter().map(|moment| moment.present).max().and_then(|most| whole(most.into())),
        "the most hosts that were there at a time",
    ),
    metric(
        "rarest_after_warmup",
        Unit::Number,
        Of::World,
        |e, _| rarest(e.report),
        "the fewest copies of a piece among those present, after the first tenth of the run",
    ),
    metric(
        "messages_per_mib",
        Unit::Number,
        Of::World,
        |e, _| Some(e.report.messages_per_mib_permille() * 1000),
        "control messages for each MiB of payload",
    ),
    metric(
        "idle_share",
        Unit::Share,
        Of::World,
        |e, _| Some(e.report.idle_permille() * 1000),
        "samples at which an uplink idled though there was work for it",
    ),
    metric(
        "wall_time",
        Unit::Time,
        Of::World,
        |e, _| e.cost.and_then(|cost| u64::try_from(cost.wall.as_micros()).ok()),
        "how long the run took on this machine",
    ),
    metric(
        "peak_memory",
        Unit::Bytes,
        Of::World,
        |e, _| e.cost.map(|cost| cost.peak_bytes).filter(|bytes| *bytes > 0).and_then(whole),
        "the most memory that the program has held so far; run one seed at a time for a fair figure",
    ),
];

fn whole(number: u64) -> Option<u64> {
    number.checked_mul(ONE)
}

fn ratio(part: u64, whole: u64) -> Option<u64> {
    let ratio = (u128::from(part) * u128::from(ONE)).checked_div(u128::from(whole))?;
    u64::try_from(ratio).ok()
}

fn time_ratio(time: Duration, of: Duration) -> Option<u64> {
    let ratio = (time.as_nanos() * u128::from(ONE)).checked_div(of.as_nanos())?;
    u64::try_from(ratio).ok()
}

fn fetchers(report: &Report) -> impl Iterator<Item = &HostReport> {
    report.fetchers.iter().map(|host| &report.hosts[host.0])
}

/// When so many thousandths of all fetchers have finished.
fn quantile(report: &Report, permille: usize) -> Option<u64> {
    let mut finishes: Vec<Instant> = fetchers(report).filter_map(|host| host.finished_at).collect();
    finishes.sort_unstable();
    let place = (report.fetchers.len() * permille).div_ceil(1000).checked_sub(1)?;
    time_ratio(*finishes.get(place)? - Instant::START, report.bound)
}

fn last_up(evidence: &Evidence<'_>, _: &str) -> Option<u64> {
    let last = evidence.report.last_finish()?;
    let down = evidence.report.sites.iter().map(|site| site.down_time).max().unwrap_or_default();
    time_ratio(last.saturating_sub(down), evidence.yardstick.bound_while_up)
}

fn class(evidence: &Evidence<'_>, _: &str) -> Option<u64> {
    let report = evidence.report;
    let mut worst = Some(0);
    for group in 0..report.groups.len() {
        let mut last = Some(Duration::ZERO);
        let mut bound = Duration::ZERO;
        for host in fetchers(report).filter(|host| host.group == group) {
            let took = host.finished_at.zip(host.began_at).map(|(finished, began)| finished - began);
            last = last.zip(took).map(|(a, b)| a.max(b));
            bound = bound.max(host.bound);
        }
        if bound > Duration::ZERO || last != Some(Duration::ZERO) {
            let own = last.and_then(|last| time_ratio(last, bound));
            worst = worst.zip(own).map(|(a, b)| a.max(b));
        }
    }
    worst.filter(|_| !report.fetchers.is_empty())
}

fn first_byte(evidence: &Evidence<'_>, _: &str) -> Option<u64> {
    let times = fetchers(evidence.report).map(|host| Some(host.first_bytes_at? - host.began_at?));
    let all: Option<Vec<Duration>> = times.collect();
    time_ratio(all?.into_iter().max()?, evidence.yardstick.lone_first_bytes?)
}

fn finished(report: &Report) -> Option<u64> {
    let finished = fetchers(report).filter(|host| host.finished_at.is_some()).count();
    ratio(finished as u64, report.fetchers.len() as u64)
}

/// How many hosts that want something this is true of.
fn count(report: &Report, is: fn(&HostReport) -> bool) -> Option<u64> {
    let wants = |host: &&HostReport| host.bound > Duration::ZERO && host.began_at.is_some();
    whole(report.hosts.iter().filter(wants).filter(|host| is(host)).count() as u64)
}

fn sent_copies(report: &Report, group: &str) -> Option<u64> {
    let group = report.groups.iter().position(|name| name == group)?;
    let sent = report.hosts.iter().filter(|host| host.group == group).map(|host| host.sent).sum();
    ratio(sent, report.copy_bytes)
}

fn site_copies(report: &Report, site: &str) -> Option<u64> {
    let copies = report.sites.iter().filter(|one| is_copy(&one.name, site));
    ratio(copies.map(|site| site.bytes_in).max()?, report.copy_bytes)
}

/// Whether a site is the one named, or one of its copies.
pub fn is_copy(site: &str, named: &str) -> bool {
    let number = site.strip_prefix(named).and_then(|rest| rest.strip_prefix('-'));
    site == named || number.is_some_and(|number| number.parse::<usize>().is_ok())
}

fn received_part(report: &Report, part: fn(&HostReport) -> u64) -> Option<u64> {
    let received: u64 = report.hosts.iter().map(|host| host.received).sum();
    ratio(report.hosts.iter().map(part).sum(), received.max(1))
}

fn most(report: &Report, figure: fn(&HostReport) -> u64) -> Option<u64> {
    report.hosts.iter().map(figure).max()
}

fn rarest(report: &Report) -> Option<u64> {
    let warm = report.ended_at.0 / 10 * WARM_UP_TENTHS;
    whole(report.moments.iter().filter(|moment| moment.at.0 >= warm).map(|moment| moment.rarest).min()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expect::Yardstick;
    use crate::network::HostId;
    use crate::report::{Moment, SiteReport};

    fn report() -> Report {
        let host = |group, finished: u64, bound: u64, sent| HostReport {
            group,
            began_at: Some(Instant(0)),
            finished_at: (finished > 0).then_some(Instant(finished)),
            bound: Duration::from_nanos(bound),
            sent,
            received: 100,
            refetched: 1,
            ..HostReport::default()
        };
        Report {
            bound: Duration::from_nanos(100),
            groups: vec!["seed".into(), "slow".into(), "fast".into()],
            hosts: vec![host(0, 0, 0, 150), host(1, 105, 100, 10), host(2, 60, 50, 10)],
            fetchers: vec![HostId(1), HostId(2)],
            copy_bytes: 100,
            sites: ["isp-1", "isp-2", "isp-x"]
                .iter()
                .zip([110, 120, 999])
                .map(|(name, bytes_in)| SiteReport { name: (*name).into(), bytes_in, ..SiteReport::default() })
                .collect(),
            ended_at: Instant(100),
            moments: (0..10)
                .map(|at| Moment { at: Instant(at * 10), rarest: at as u32, present: 3, ..Moment::default() })
                .collect(),
            ..Report::default()
        }
    }

    #[test]
    fn figures_follow_from_a_report() {
        let report = report();
        let evidence = Evidence { report: &report, yardstick: Yardstick::default(), cost: None };
        let value = |name: &str, of: &str| (Metric::named(name).unwrap().read)(&evidence, of);
        assert_eq!(value("last_ratio", ""), Some(1_050_000));
        assert_eq!(value("p50_ratio", ""), Some(600_000));
        assert_eq!(value("class_ratio", ""), Some(1_200_000), "the fast ones, against their own bound");
        assert_eq!(value("finished_share", ""), Some(ONE));
        assert_eq!(value("sent_copies", "seed"), Some(1_500_000));
        assert_eq!(value("site_copies", "isp"), Some(1_200_000));
        assert_eq!(value("refetched_share", ""), Some(10_000));
        assert_eq!(value("rarest_after_warmup", ""), Some(ONE));
        assert_eq!(value("most_present", ""), Some(3 * ONE));
        assert_eq!(value("engine_bytes", ""), None, "not measured");
        assert_eq!(value("wall_time", ""), None);
        let mut unfinished = report.clone();
        unfinished.hosts[2].finished_at = None;
        let evidence = Evidence { report: &unfinished, ..evidence };
        let value = |name: &str| (Metric::named(name).unwrap().read)(&evidence, "");
        assert_eq!([value("last_ratio"), value("class_ratio"), value("finished_share")], [None, None, Some(500_000)]);
        assert_eq!(value("p50_ratio"), Some(1_050_000));
    }

    #[test]
    fn names_are_not_used_twice() {
        let mut names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len());
    }
}
