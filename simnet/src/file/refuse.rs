//! What makes no sense in a scenario file though every value can be read: names that nobody has, worlds that cannot work.

use super::either::Either;
use super::place::Step;
use super::tables::*;
use super::{Wrong, nearest};
use crate::expect::{Expectation, METRICS, Metric, Of, Wanted};
use crate::hostile::Vice;
use crate::scenario::Holding;

/// Rows of the table of targets.
const ROWS: std::ops::RangeInclusive<u32> = 1..=19;

impl GroupTable {
    /// What its hosts hold: what is written, or what goes with their vice.
    pub(super) fn holding(&self) -> Holding {
        match (&self.holds, self.vice) {
            (Some(holds), _) => holds.0.clone(),
            (None, None | Some(ViceWord(Vice::Leech))) => Holding::Nothing,
            (None, Some(_)) => Holding::All,
        }
    }

    /// Whether its hosts fetch what they lack: what is written, or what goes with their vice.
    pub(super) fn is_fetching(&self) -> bool {
        self.fetches.unwrap_or(self.vice == Some(ViceWord(Vice::Leech)))
    }

    fn is_in_swarm(&self, swarm: usize) -> bool {
        self.swarms.as_ref().is_none_or(|swarms| swarms.contains(&swarm))
    }
}

impl ScenarioFile {
    /// The bounds that are set, and for what.
    pub(crate) fn expectations(&self) -> Result<Vec<Wanted>, Wrong> {
        let mut all = Vec::new();
        for (name, entry) in &self.expect {
            match entry {
                Either::Simple(expectation) => all.push(self.wanted(name, "", *expectation)?),
                Either::Table(table) => {
                    for (of, expectation) in table {
                        all.push(self.wanted(name, of, *expectation)?);
                    }
                }
            }
        }
        Ok(all)
    }

    /// The bounds that the file sets, and for what.
    pub fn wanted_figures(&self) -> Vec<Wanted> {
        self.expectations().unwrap_or_default()
    }

    fn wanted(&self, name: &str, of: &str, expectation: Expectation) -> Result<Wanted, Wrong> {
        let mut path: Vec<Step> = vec!["expect".into(), name.into()];
        let wrong = |path: Vec<Step>, message: String| Err(Wrong { path, message });
        let Some(metric) = Metric::named(name) else {
            let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
            let hint = nearest(name, &names).map_or_else(|| ";".to_owned(), |near| format!("; did you mean `{near}`?"));
            return wrong(path, format!("there is no such figure{hint} known: {}", names.join(", ")));
        };
        let known: Vec<&str> = match metric.of {
            Of::World => Vec::new(),
            Of::Group => self.group.iter().map(|group| group.name.as_str()).collect(),
            Of::Site => self.site.iter().map(|site| site.name.as_str()).collect(),
        };
        match (metric.of, of) {
            (Of::World, "") => (),
            (Of::World, _) => return wrong(path, "is a figure of the whole world; write a bound, no table".into()),
            (_, "") => return wrong(path, format!("needs the name it is about: `{name}.NAME`, one of {}", known.join(", "))),
            (_, of) if !known.contains(&of) => {
                path.push(of.into());
                return wrong(path, format!("nothing is called {of:?} here; {}", one_of(of, &known)));
            }
            _ => (),
        }
        if !of.is_empty() {
            path.push(of.into());
        }
        if !expectation.fits(metric.unit) {
            let example = metric.unit.show(metric_example(metric));
            return wrong(path, format!("\"{expectation}\" is in another unit; this figure reads like {example}"));
        }
        Ok(Wanted { metric, of: of.into(), expectation })
    }

    /// Whatever else makes no sense.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if self.name.is_empty()
            || !self.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        {
            return Err(Wrong::at(["name".into()], "must be small letters, digits and dashes: it names files"));
        }
        if self.row.is_some_and(|row| !ROWS.contains(&row)) {
            return Err(Wrong::at(["row".into()], "is no row of the table of targets; it has rows 1 to 19"));
        }
        if self.seeds == 0 {
            return Err(Wrong::at(["seeds".into()], "must be at least 1"));
        }
        self.check_blobs()?;
        self.check_sites()?;
        if self.group.is_empty() {
            return Err(Wrong::at([], "nobody is there; add a [[group]] that holds something and one that fetches it"));
        }
        (0..self.group.len()).try_for_each(|index| self.check_group(index))?;
        self.check_world()?;
        (0..self.fault.len()).try_for_each(|index| self.check_fault(index))
    }

    fn check_blobs(&self) -> Result<(), Wrong> {
        if self.blob.is_empty() {
            return Err(Wrong::at([], "there is nothing to fetch; add a [[blob]] with a size"));
        }
        for (index, blob) in self.blob.iter().enumerate() {
            if blob.size.is_some() != blob.files.is_empty() {
                return Err(Wrong::at(["blob".into(), index.into()], "needs either `size` or `files`"));
            }
            if blob.size.iter().chain(&blob.files).any(|size| size.0 == 0) {
                return Err(Wrong::at(["blob".into(), index.into()], "is empty; give it a size above 0"));
            }
        }
        Ok(())
    }

    fn check_sites(&self) -> Result<(), Wrong> {
        for (index, site) in self.site.iter().enumerate() {
            if self.site[..index].iter().any(|other| other.name == site.name) {
                return Err(Wrong::at(
                    ["site".into(), index.into(), "name".into()],
                    format!("{:?} is taken; names are used once", site.name),
                ));
            }
            if site.count == Some(0) {
                return Err(Wrong::at(["site".into(), index.into(), "count".into()], "must be at least 1"));
            }
            if site.up.0 == 0 && site.down.0 == 0 {
                return Err(Wrong::at(
                    ["site".into(), index.into(), "up".into()],
                    "carries nothing either way; give `up` or `down` a rate",
                ));
            }
            if let Some(Either::Table(outages)) = &site.outages
                && outages.lasts >= outages.every
            {
                let path = ["site".into(), index.into(), "outages".into(), "lasts".into()];
                return Err(Wrong::at(path, "is as long as `every`: the link would never be up"));
            }
            if let Some(Either::Simple(outages)) = &site.outages
                && outages.iter().any(|(from, to)| from >= to)
            {
                return Err(Wrong::at(
                    ["site".into(), index.into(), "outages".into()],
                    "an outage ends before it begins; write [from, to]",
                ));
            }
        }
        Ok(())
    }

    fn check_group(&self, index: usize) -> Result<(), Wrong> {
        let group = &self.group[index];
        let wrong = |key: &str, message: String| Err(Wrong::at(["group".into(), index.into(), key.into()], message));
        if self.group[..index].iter().any(|other| other.name == group.name) {
            return wrong("name", format!("{:?} is taken; names are used once", group.name));
        }
        let coming = matches!(&group.starts, Some(Either::Table(StartsTable { poisson: Some(_), .. })));
        match group.count {
            Some(0) => return wrong("count", "must be at least 1; leave the group out if nobody is in it".into()),
            None if !coming => return wrong("name", format!("how many are {:?}? Add `count`", group.name)),
            _ => (),
        }
        if let Some(name) = &group.site {
            let known: Vec<String> =
                self.site.iter().flat_map(SiteTable::names).chain(self.site.iter().map(|site| site.name.clone())).collect();
            if !known.contains(name) {
                let names: Vec<&str> = self.site.iter().map(|site| site.name.as_str()).collect();
                return wrong("site", format!("there is no site {name:?}; {}", one_of(name, &names)));
            }
        }
        if let Some(swarm) = group.swarms.iter().flatten().find(|swarm| **swarm >= self.blob.len()) {
            return wrong(
                "swarms",
                format!("there is no swarm {swarm}; each [[blob]] is one, counted from 0 to {}", self.blob.len() - 1),
            );
        }
        if group.is_fetching() && group.down.0 == 0 {
            return wrong("down", "a group that fetches can never finish without a downlink; give it a rate".into());
        }
        if group.holding() != Holding::Nothing && group.vice.is_none() && group.up.0 == 0 && !group.is_fetching() {
            return wrong("up", "a group that holds something and can't send it is of no use; give it a rate".into());
        }
        match &group.starts {
            Some(Either::Table(starts)) if starts.poisson.is_some() == starts.uniform.is_some() => {
                return wrong("starts", "needs either `poisson` or `uniform`".into());
            }
            Some(Either::Table(starts)) if starts.poisson.is_some() && starts.until.is_none() && group.count.is_none() => {
                return wrong("starts", "goes on for ever; add `until` here, or `count` to the group".into());
            }
            Some(Either::Table(starts)) if starts.uniform.is_some() && starts.until.is_some() => {
                return wrong("starts", "`until` goes with `poisson`; `uniform` says itself how long".into());
            }
            _ => (),
        }
        match &group.stay {
            Some(Either::Table(stay))
                if [stay.sent.is_some(), stay.extra_pieces.is_some(), stay.after.is_some()].iter().filter(|is| **is).count()
                    != 1 =>
            {
                wrong("stay", "needs one of `sent`, `extra_pieces`, `after`".into())
            }
            _ => Ok(()),
        }
    }

    /// Whether somebody could finish at all.
    fn check_world(&self) -> Result<(), Wrong> {
        let gives = |group: &&GroupTable| group.vice.is_none_or(|vice| vice.0.gives());
        for swarm in 0..self.blob.len() {
            let here = || self.group.iter().filter(move |group| group.is_in_swarm(swarm));
            let holders: Vec<&GroupTable> = here().filter(gives).filter(|group| group.holding() != Holding::Nothing).collect();
            let fetcher = self.group.iter().position(|group| group.is_in_swarm(swarm) && group.is_fetching());
            let Some(fetcher) = fetcher else { continue };
            if holders.is_empty() {
                let path = ["group".into(), fetcher.into(), "fetches".into()];
                return Err(Wrong::at(
                    path,
                    "nobody holds what this group fetches; give a group without a vice `holds = \"all\"`",
                ));
            }
            let hidden = here().all(|group| group.nat == Some(NatWord::Cone)) && self.relay.is_none();
            let lan = |group: &GroupTable| {
                let mut named = self.site.iter().filter(|site| group.site.as_ref().is_some_and(|name| is_of(site, name)));
                group.site.clone().filter(|_| named.any(|site| site.lan))
            };
            let first = here().next().and_then(lan);
            if hidden && (first.is_none() || here().any(|group| lan(group) != first)) {
                let path = ["group".into(), fetcher.into(), "nat".into()];
                let message =
                    "everybody is behind a NAT and nobody can help them to meet; add a `relay`, or a group with `nat = \"open\"`";
                return Err(Wrong::at(path, message));
            }
        }
        Ok(())
    }

    fn check_fault(&self, index: usize) -> Result<(), Wrong> {
        let fault = &self.fault[index];
        let wrong = |key: &str, message: String| Err(Wrong::at(["fault".into(), index.into(), key.into()], message));
        if fault.at.is_none() && fault.every.is_none() {
            return wrong("kind", "when? Add `at`, or `every`".into());
        }
        if fault.every.is_some_and(|every| every.0.is_zero()) {
            return wrong("every", "must be longer than nothing".into());
        }
        if fault.times.is_some() && fault.every.is_none() {
            return wrong("times", "goes with `every`".into());
        }
        if fault.lasts.is_none() && !matches!(fault.kind, FaultWord::Crash | FaultWord::Rot) {
            return wrong("kind", "for how long? Add `for`".into());
        }
        if fault.left.is_some() != (fault.kind == FaultWord::Slow) {
            return wrong("kind", "`left`, what is left of the rate, goes with \"slow\", which needs it".into());
        }
        if fault.rotten.is_some() != (fault.kind == FaultWord::Rot) {
            return wrong("kind", "`rotten`, how many groups rot, goes with \"rot\", which needs it".into());
        }
        if fault.site.is_some() != (fault.kind == FaultWord::SiteDown) {
            return wrong("kind", "`site` goes with \"site-down\", which needs it; others say `who`".into());
        }
        if fault.one_way && fault.kind != FaultWord::Partition {
            return wrong("one_way", "goes with \"partition\"".into());
        }
        let sites: Vec<&str> = self.site.iter().map(|site| site.name.as_str()).collect();
        if let Some(name) = fault.site.as_ref().filter(|name| !self.site.iter().any(|site| is_of(site, name))) {
            return wrong("site", format!("there is no site {name:?}; {}", one_of(name, &sites)));
        }
        let group = match &fault.who {
            Some(Either::Simple(group)) => Some(group),
            Some(Either::Table(table)) => {
                let ways = [table.share.is_some(), table.count.is_some(), table.hosts.is_some()];
                if ways.iter().filter(|is| **is).count() > 1 {
                    return wrong("who", "takes one of `share`, `count`, `hosts`".into());
                }
                table.group.as_ref()
            }
            None => None,
        };
        let groups: Vec<&str> = self.group.iter().map(|group| group.name.as_str()).collect();
        match group {
            Some(name) if !groups.contains(&name.as_str()) => {
                wrong("who", format!("there is no group {name:?}; {}", one_of(name, &groups)))
            }
            _ => Ok(()),
        }
    }
}

impl SiteTable {
    /// The names of its copies.
    pub(super) fn names(&self) -> Vec<String> {
        match self.count {
            None => vec![self.name.clone()],
            Some(count) => (1..=count).map(|copy| format!("{}-{copy}", self.name)).collect(),
        }
    }
}

/// Whether a name means a site or one of its copies.
fn is_of(site: &SiteTable, name: &str) -> bool {
    site.name == name || site.names().iter().any(|copy| copy == name)
}

fn one_of(wrong: &str, known: &[&str]) -> String {
    match nearest(wrong, known) {
        Some(near) => format!("did you mean {near:?}?"),
        None if known.is_empty() => "there are none at all".into(),
        None => format!("there are {}", known.join(", ")),
    }
}

fn metric_example(metric: &Metric) -> u64 {
    match metric.unit {
        crate::expect::Unit::Bytes => crate::units::ONE << 20,
        _ => crate::units::ONE,
    }
}
