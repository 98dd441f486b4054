//! The figures of a status as text: <https://prometheus.io/docs/specs/om/open_metrics_spec/>. Pure.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::report::StatusReport;

/// What the text is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What every name begins with.
const PREFIX: &str = "p2pweights";

/// Figures on their way to a text.
struct Sheet(Registry);

impl Sheet {
    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: u64) {
        let gauge = Gauge::<i64>::default();
        gauge.set(signed(value));
        self.register(name, help, unit, gauge);
    }

    /// A figure for each value of one label.
    fn gauges(&mut self, name: &str, help: &str, unit: Option<Unit>, label: &'static str, values: &[(&'static str, u64)]) {
        let family = Family::<Vec<(&'static str, &'static str)>, Gauge>::default();
        for (which, value) in values {
            family.get_or_create(&vec![(label, *which)]).set(signed(*value));
        }
        self.register(name, help, unit, family);
    }

    /// What only ever grows while the node runs.
    fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, value: u64) {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        self.register(name, help, unit, counter);
    }

    fn register(&mut self, name: &str, help: &str, unit: Option<Unit>, metric: impl prometheus_client::registry::Metric) {
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, metric),
            None => self.0.register(name, help, metric),
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// All figures.
pub fn text(status: &StatusReport) -> String {
    let mut sheet = Sheet(Registry::with_prefix(PREFIX));
    let build = [("agent", status.agent.clone()), ("network", status.network.clone())];
    sheet.register("build", "The program and the network it is in", None, Info::new(build.to_vec()));
    sheet.gauge("uptime", "Time since the node started", Some(Unit::Seconds), status.uptime_s);
    network(&mut sheet, status);
    store(&mut sheet, status);
    health(&mut sheet, status);
    let mut text = String::new();
    encode(&mut text, &sheet.0).expect("a text takes everything");
    text
}

fn network(sheet: &mut Sheet, status: &StatusReport) {
    let count = |count: usize| count as u64;
    sheet.gauge("connected_peers", "Peers connected", None, count(status.connected));
    sheet.gauge("dht_peers", "Peers in the routing table of the DHT", None, count(status.dht_peers));
    sheet.gauge("announced_keys", "Keys announced to the DHT", None, count(status.announced));
    sheet.counter("sent", "Payload sent to peers", Some(Unit::Bytes), status.sent_bytes);
    sheet.counter("received", "Payload received and verified", Some(Unit::Bytes), status.received_bytes);
    let swarms = &status.swarms;
    sheet.gauge("swarms", "Swarms being fetched", None, count(swarms.len()));
    let wanted = swarms.iter().map(|swarm| swarm.total).sum();
    sheet.gauge("swarms_wanted", "Payload of the swarms being fetched", Some(Unit::Bytes), wanted);
    let verified = swarms.iter().map(|swarm| swarm.verified).sum();
    sheet.gauge("swarms_verified", "Payload of the swarms being fetched that is verified", Some(Unit::Bytes), verified);
    let in_flight = swarms.iter().map(|swarm| swarm.in_flight).sum();
    sheet.gauge("swarms_in_flight", "Payload asked for and not yet here", Some(Unit::Bytes), in_flight);
    let starved = swarms.iter().filter(|swarm| swarm.providers == 0).count();
    sheet.gauge(
        "swarms_without_providers",
        "Swarms being fetched of which nobody connected holds anything",
        None,
        count(starved),
    );
}

fn store(sheet: &mut Sheet, status: &StatusReport) {
    let disk = &status.disk;
    sheet.gauge("store_blobs", "Blobs held in full", None, status.blobs as u64);
    sheet.gauge("store_held", "Verified payload held", Some(Unit::Bytes), status.bytes);
    let parts = [("listed", disk.listed), ("shared", disk.shared), ("other", disk.other)];
    sheet.gauges("store_disk", "What the data dir takes on its disk", Some(Unit::Bytes), "part", &parts);
    if let Some(quota) = disk.quota {
        sheet.gauge("store_promised", "Disk promised to fetches under way", Some(Unit::Bytes), disk.promised);
        sheet.gauge("store_quota", "Most that the data dir may take", Some(Unit::Bytes), quota);
        let left = disk.left.unwrap_or_default();
        sheet.gauge("store_quota_left", "What may still be promised within the quota", Some(Unit::Bytes), left);
    }
    sheet.gauge(
        "store_paused",
        "1 while fetching is paused, for want of room or because the disk fails",
        None,
        u64::from(status.paused.is_some()),
    );
}

fn health(sheet: &mut Sheet, status: &StatusReport) {
    let scrub = &status.scrub;
    let found = &scrub.since_start;
    sheet.counter("damaged", "Payload found damaged since the node started", Some(Unit::Bytes), found.damaged);
    sheet.counter("mended", "Of which put right since", Some(Unit::Bytes), found.mended);
    sheet.counter("outboards_remade", "Outboards of which something was made again from the data", None, found.outboards);
    sheet.gauge("repair_blobs", "Blobs in which damage was found and not yet mended", None, status.repairs.len() as u64);
    let missing = status.repairs.iter().map(|repair| repair.bytes).sum();
    sheet.gauge("repair", "Payload that is to be had again", Some(Unit::Bytes), missing);
    sheet.gauge("withdrawn_files", "Published files that changed and are not served", None, status.withdrawn.len() as u64);
    sheet.gauge("scrub_enabled", "1 if everything is read again in the background", None, u64::from(scrub.enabled));
    sheet.gauge("scrub_checked", "Payload read in the cycle under way", Some(Unit::Bytes), scrub.checked);
    sheet.gauge("scrub_total", "Payload to be read in the cycle under way", Some(Unit::Bytes), scrub.total);
    if let Some(last) = scrub.last_cycle_s {
        sheet.gauge("scrub_last_cycle_timestamp", "When everything had last been read, since 1970", Some(Unit::Seconds), last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{DamageCount, DiskReport, RepairReport, ScrubReport, SwarmReport};

    fn status() -> StatusReport {
        let swarm = |total, verified, providers| SwarmReport { hash: "aa".into(), total, verified, providers, in_flight: 5 };
        let repair = |bytes| RepairReport { hash: "bb".into(), bytes, attempts: 0, trying: false, next_try_s: None };
        StatusReport {
            peer_id: "peer".into(),
            agent: "p2pweights/0.1.0".into(),
            network: "a \"net\"\n".into(),
            listen: Vec::new(),
            api: None,
            gateway: None,
            metrics: None,
            uptime_s: 7,
            connected: 3,
            dht_peers: 4,
            announced: 5,
            blobs: 6,
            bytes: u64::MAX,
            sent_bytes: 1 << 40,
            received_bytes: 8,
            swarms: vec![swarm(100, 40, 2), swarm(11, 1, 0)],
            withdrawn: Vec::new(),
            disk: DiskReport { total: 6, listed: 1, shared: 2, other: 3, quota: None, promised: 9, left: None },
            paused: Some("the disk is full".into()),
            scrub: ScrubReport { since_start: DamageCount { damaged: 16384, mended: 1, outboards: 2 }, ..ScrubReport::default() },
            repairs: vec![repair(10), repair(20)],
        }
    }

    /// The value of a sample.
    fn value(text: &str, sample: &str) -> Option<String> {
        text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ').map(str::to_owned))
    }

    #[test]
    fn figures_are_those_of_the_status() {
        let text = text(&status());
        for (sample, expected) in [
            ("p2pweights_uptime_seconds", "7"),
            ("p2pweights_connected_peers", "3"),
            ("p2pweights_sent_bytes_total", "1099511627776"),
            ("p2pweights_swarms_wanted_bytes", "111"),
            ("p2pweights_swarms_verified_bytes", "41"),
            ("p2pweights_swarms_without_providers", "1"),
            ("p2pweights_store_held_bytes", "9223372036854775807"),
            ("p2pweights_store_disk_bytes{part=\"shared\"}", "2"),
            ("p2pweights_store_paused", "1"),
            ("p2pweights_damaged_bytes_total", "16384"),
            ("p2pweights_repair_blobs", "2"),
            ("p2pweights_repair_bytes", "30"),
            (r#"p2pweights_build_info{agent="p2pweights/0.1.0",network="a \"net\"\n"}"#, "1"),
        ] {
            assert_eq!(value(&text, sample).as_deref(), Some(expected), "{sample} in\n{text}");
        }
        assert!(!text.contains("quota") && !text.contains("last_cycle"), "what is not known is left out");
        assert!(text.ends_with("# EOF\n"));
    }
}
