//! Smaller and simpler worlds from a given one: faults that come again and again as single ones, groups and blobs made smaller. What
//! minimising a failure is made of.

use std::time::Duration;

use super::befalling::faults;
use super::either::Either;
use super::tables::{FaultTable, FaultWord, ScenarioFile, WhoTable};
use super::{FileError, Form};
use crate::network::HostId;
use crate::scenario::{Scenario, Trouble};
use crate::units::{Share, Size, Time};

impl ScenarioFile {
    /// The same world of a seed with each of its faults written down by itself, and the hosts that chance chose named.
    pub fn with_single_faults(&self, seed: u64) -> Result<Self, FileError> {
        let scenario = self.scenario(seed)?;
        let mut file = self.clone();
        file.fault = faults(self, &scenario, seed)
            .unwrap_or_default()
            .into_iter()
            .map(|fault| single(&scenario, fault.at, fault.what))
            .collect();
        Ok(file)
    }

    /// The same with so many hosts in a group. Faults that name hosts which are no more befall others of the group instead.
    pub fn with_count(&self, group: usize, count: usize) -> Self {
        let mut file = self.clone();
        file.group[group].count = Some(count);
        let name = &file.group[group].name;
        for fault in &mut file.fault {
            if let Some(Either::Table(WhoTable { group: Some(of), hosts: Some(hosts), .. })) = &mut fault.who
                && of == name
            {
                hosts.iter_mut().for_each(|host| *host %= count.max(1));
                hosts.sort_unstable();
                hosts.dedup();
            }
        }
        file
    }

    /// The same with blobs of at most this size.
    pub fn with_blobs_up_to(&self, bytes: u64) -> Self {
        let mut file = self.clone();
        for size in file.blob.iter_mut().flat_map(|blob| blob.size.iter_mut().chain(&mut blob.files)) {
            size.0 = size.0.min(bytes);
        }
        file
    }

    /// The size of the largest blob.
    pub fn largest_blob(&self) -> u64 {
        self.blob.iter().flat_map(|blob| blob.size.iter().chain(&blob.files)).map(|size: &Size| size.0).max().unwrap_or(0)
    }

    /// Whether it still makes sense.
    pub fn is_sound(&self) -> bool {
        Self::parse(&self.name, &self.to_toml(), Form::Full).is_ok()
    }
}

fn single(scenario: &Scenario, at: Duration, what: Trouble) -> FaultTable {
    let mut table = FaultTable {
        kind: FaultWord::Crash,
        at: Some(Time(at)),
        every: None,
        times: None,
        within: None,
        lasts: None,
        one_way: false,
        left: None,
        rotten: None,
        site: None,
        who: None,
    };
    let host = what.host();
    let (kind, lasts) = match what {
        Trouble::Crash { away, .. } => (FaultWord::Crash, away),
        Trouble::Sleep { lasts, .. } => (FaultWord::Sleep, Some(lasts)),
        Trouble::Partition { side, lasts, one_way } => {
            table.one_way = one_way;
            // The two sides may be of several groups: they are counted among all hosts.
            table.who = Some(among(None, side.iter().map(|host| host.0).collect()));
            (FaultWord::Partition, Some(lasts))
        }
        Trouble::SiteDown { site, lasts } => {
            table.site = Some(scenario.sites[site.0].name.clone());
            (FaultWord::SiteDown, Some(lasts))
        }
        Trouble::Slow { permille, lasts, .. } => {
            table.left = Some(Share(permille * 1000));
            (FaultWord::Slow, Some(lasts))
        }
        Trouble::DiskFull { lasts, .. } => (FaultWord::DiskFull, Some(lasts)),
        Trouble::DiskFails { lasts, .. } => (FaultWord::DiskFails, Some(lasts)),
        Trouble::Rot { groups, .. } => {
            table.rotten = Some(groups);
            (FaultWord::Rot, None)
        }
    };
    (table.kind, table.lasts) = (kind, lasts.map(Time));
    if let Some(HostId(host)) = host {
        let group = scenario.hosts[host].group;
        let place = scenario.hosts[..host].iter().filter(|plan| plan.group == group).count();
        table.who = Some(among(Some(scenario.groups[group].clone()), vec![place]));
    }
    table
}

fn among(group: Option<String>, hosts: Vec<usize>) -> Either<String, WhoTable> {
    Either::Table(WhoTable { group, hosts: Some(hosts), ..WhoTable::default() })
}
