//! What befalls a world: from the faults of a file, which may come again and again and to hosts that the seed chooses, to single ones.

use std::time::Duration;

use p2pweights_protocol::random::Random;

use super::Wrong;
use super::either::Either;
use super::tables::{FaultTable, FaultWord, ScenarioFile, WhoTable};
use crate::network::HostId;
use crate::scenario::{Fault, Scenario, SiteId, Trouble};

/// Faults of one table: a typo in a time must not fill the memory.
const MOST: u64 = 1_000_000;

/// All faults of a file, given a world that has all else.
pub fn faults(file: &ScenarioFile, scenario: &Scenario, seed: u64) -> Result<Vec<Fault>, Wrong> {
    let mut all = Vec::new();
    for (index, table) in file.fault.iter().enumerate() {
        let mut random = super::build::chance(seed, "fault", index);
        for at in moments(table, scenario.until) {
            if table.kind == FaultWord::SiteDown {
                let site = table.site.as_deref().unwrap_or_default();
                let named = scenario.sites.iter().enumerate().filter(|(_, one)| crate::expect::is_copy(&one.name, site));
                all.extend(named.map(|(id, _)| Fault { at, what: Trouble::SiteDown { site: SiteId(id), lasts: lasts(table) } }));
                continue;
            }
            let hosts = chosen(table.who.as_ref(), index, scenario, &mut random)?;
            if table.kind == FaultWord::Partition {
                let what = Trouble::Partition { side: hosts, lasts: lasts(table), one_way: table.one_way };
                all.push(Fault { at, what });
                continue;
            }
            let within = table.within.map_or(0, |within| u64::try_from(within.0.as_nanos()).unwrap_or(u64::MAX));
            for host in hosts {
                let at = at + Duration::from_nanos(random.below(within));
                all.push(Fault { at, what: trouble(table, host) });
            }
        }
    }
    all.sort_by_key(|fault| fault.at);
    Ok(all)
}

fn lasts(table: &FaultTable) -> Duration {
    table.lasts.map_or(Duration::ZERO, |lasts| lasts.0)
}

fn trouble(table: &FaultTable, host: HostId) -> Trouble {
    let lasts = lasts(table);
    match table.kind {
        FaultWord::Crash => Trouble::Crash { host, away: table.lasts.map(|lasts| lasts.0) },
        FaultWord::Sleep => Trouble::Sleep { host, lasts },
        FaultWord::Slow => Trouble::Slow { host, permille: table.left.map_or(0, |left| left.permille()), lasts },
        FaultWord::DiskFull => Trouble::DiskFull { host, lasts },
        FaultWord::Rot => Trouble::Rot { host, groups: table.rotten.unwrap_or(0) },
        FaultWord::DiskFails | FaultWord::Partition | FaultWord::SiteDown => Trouble::DiskFails { host, lasts },
    }
}

/// The times at which a fault comes.
fn moments(table: &FaultTable, until: Duration) -> Vec<Duration> {
    let Some(every) = table.every.map(|every| every.0) else { return vec![table.at.unwrap_or_default().0] };
    let first = table.at.map_or(every, |at| at.0);
    let all = (0..table.times.unwrap_or(MOST).min(MOST)).map(|turn| first + every * u32::try_from(turn).unwrap_or(u32::MAX));
    all.take_while(|at| *at <= until).collect()
}

/// The hosts that are meant, some of them chosen by chance, in order.
fn chosen(
    who: Option<&Either<String, WhoTable>>,
    fault: usize,
    scenario: &Scenario,
    random: &mut Random,
) -> Result<Vec<HostId>, Wrong> {
    let table = match who {
        None => WhoTable::default(),
        Some(Either::Simple(group)) => WhoTable { group: Some(group.clone()), ..WhoTable::default() },
        Some(Either::Table(table)) => table.clone(),
    };
    let group = table.group.as_ref().map(|name| scenario.groups.iter().position(|group| group == name));
    let is_meant = |host: &HostId| group.is_none_or(|group| Some(scenario.hosts[host.0].group) == group);
    let mut hosts: Vec<HostId> = (0..scenario.hosts.len()).map(HostId).filter(is_meant).collect();
    if let Some(places) = &table.hosts {
        let host = |place: &usize| {
            let wrong =
                || Wrong::at(["fault".into(), fault.into(), "who".into(), "hosts".into()], there_is_none(*place, hosts.len()));
            hosts.get(*place).copied().ok_or_else(wrong)
        };
        return places.iter().map(host).collect();
    }
    let count = match (table.share, table.count) {
        (Some(share), _) => share.of(hosts.len()),
        (None, Some(count)) => count.min(hosts.len()),
        (None, None) => hosts.len(),
    };
    // The first steps of a shuffle.
    for place in 0..count {
        let other = place + usize::try_from(random.below((hosts.len() - place) as u64)).unwrap_or(0);
        hosts.swap(place, other);
    }
    hosts.truncate(count);
    hosts.sort_unstable();
    Ok(hosts)
}

fn there_is_none(place: usize, hosts: usize) -> String {
    format!("there is no host {place} among {hosts}; hosts are counted from 0 within their group")
}
