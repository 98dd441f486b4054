//! The names of the settings, in a config file and in the environment.

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Where identity and store live.
    DataDir,
    /// Addresses to listen on.
    Listen,
    /// Peers to join the DHT through.
    Bootstrap,
    /// Network to join.
    Network,
    /// Whether to find peers on the local network.
    Mdns,
    /// Where the local API listens.
    Api,
    /// Where the gateway listens.
    GatewayListen,
    /// By which names it is called.
    GatewayHosts,
    /// Which models it may look for.
    GatewayModels,
    /// Where figures for monitoring are served.
    MetricsListen,
    /// Free disk that is never used.
    StorageReserve,
    /// How often everything that is held is read again.
    ScrubPeriod,
    /// Most bytes that are read for it in a second.
    ScrubRate,
    /// Most disk that the data dir takes.
    StorageQuota,
    /// What goes first when room is needed within that.
    StorageEviction,
    /// From how much of the quota on things are evicted.
    StorageHigh,
    /// Down to how much of it.
    StorageLow,
    /// Whether what nobody else is known to hold may be evicted.
    StorageEvictLastCopy,
    /// Most payload that goes out in a second.
    MaxUpload,
    /// Most payload that comes in in a second.
    MaxDownload,
    /// The same, to peers of the local network only.
    LanMaxUpload,
    /// The same, from peers of the local network only.
    LanMaxDownload,
    /// The same, to all other peers.
    WanMaxUpload,
    /// The same, from all other peers.
    WanMaxDownload,
    /// Most memory that payload on its way in takes.
    Memory,
    /// Gated or private repositories of which others may have what was imported.
    ShareGated,
    /// What payload may travel on.
    Paths,
    /// Where the flight log is written.
    LogFlight,
    /// Whether mirrors are asked that a manifest names.
    MirrorsEnabled,
    /// Whether mirrors may lie within this machine or its network.
    MirrorsAllowPrivate,
}

impl Key {
    /// All of them, in the order in which they are printed.
    pub const ALL: [Self; 30] = [
        Self::DataDir,
        Self::Listen,
        Self::Bootstrap,
        Self::Network,
        Self::Mdns,
        Self::Api,
        Self::GatewayListen,
        Self::GatewayHosts,
        Self::GatewayModels,
        Self::MetricsListen,
        Self::StorageReserve,
        Self::ScrubPeriod,
        Self::ScrubRate,
        Self::StorageQuota,
        Self::StorageEviction,
        Self::StorageHigh,
        Self::StorageLow,
        Self::StorageEvictLastCopy,
        Self::MaxUpload,
        Self::MaxDownload,
        Self::LanMaxUpload,
        Self::LanMaxDownload,
        Self::WanMaxUpload,
        Self::WanMaxDownload,
        Self::Memory,
        Self::ShareGated,
        Self::Paths,
        Self::LogFlight,
        Self::MirrorsEnabled,
        Self::MirrorsAllowPrivate,
    ];

    /// As written in a config file; a dot stands for a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::DataDir => "data_dir",
            Self::Listen => "listen",
            Self::Bootstrap => "bootstrap",
            Self::Network => "network",
            Self::Mdns => "mdns",
            Self::Api => "api",
            Self::GatewayListen => "gateway.listen",
            Self::GatewayHosts => "gateway.hosts",
            Self::GatewayModels => "gateway.models",
            Self::MetricsListen => "metrics.listen",
            Self::StorageReserve => "storage.reserve",
            Self::ScrubPeriod => "storage.scrub_period",
            Self::ScrubRate => "storage.scrub_rate",
            Self::StorageQuota => "storage.quota",
            Self::StorageEviction => "storage.eviction",
            Self::StorageHigh => "storage.high",
            Self::StorageLow => "storage.low",
            Self::StorageEvictLastCopy => "storage.evict_last_copy",
            Self::MaxUpload => "limits.max_upload",
            Self::MaxDownload => "limits.max_download",
            Self::LanMaxUpload => "limits.lan.max_upload",
            Self::LanMaxDownload => "limits.lan.max_download",
            Self::WanMaxUpload => "limits.wan.max_upload",
            Self::WanMaxDownload => "limits.wan.max_download",
            Self::Memory => "limits.memory",
            Self::ShareGated => "share.gated",
            Self::Paths => "paths",
            Self::LogFlight => "log.flight",
            Self::MirrorsEnabled => "mirrors.enabled",
            Self::MirrorsAllowPrivate => "mirrors.allow_private",
        }
    }

    /// As written in the environment.
    pub fn variable(self) -> String {
        format!("P2PWEIGHTS_{}", self.name().replace('.', "_").to_uppercase())
    }

    /// Whether it takes several values: an array in a config file, separated by commas in the environment.
    pub fn is_list(self) -> bool {
        matches!(self, Self::Listen | Self::Bootstrap | Self::ShareGated | Self::Paths | Self::GatewayHosts) || self.is_table()
    }

    /// Whether it is a table of names and values in a config file; elsewhere its items are `name=value`.
    pub fn is_table(self) -> bool {
        matches!(self, Self::GatewayModels)
    }

    /// The key of that name in a config file.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The key whose name is nearest to what was written, for a hint.
    pub fn nearest(written: &str) -> Self {
        let spelling = written.replace('-', "_");
        let distance = |key: &Self| {
            let last_part = key.name().rsplit('.').next().unwrap_or(key.name());
            edit_distance(&spelling, key.name()).min(edit_distance(&spelling, last_part))
        };
        Self::ALL.into_iter().min_by_key(distance).unwrap_or(Self::DataDir)
    }
}

/// Levenshtein distance: insertions, deletions and replacements of characters that make one text of the other.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_meant() {
        for (written, expected) in [
            ("bootstraps", Key::Bootstrap),
            ("data-dir", Key::DataDir),
            ("reserve", Key::StorageReserve),
            ("quotas", Key::StorageQuota),
            ("storage.reserved", Key::StorageReserve),
            ("netwrok", Key::Network),
            ("mDNS", Key::Mdns),
            ("max-uplaod", Key::MaxUpload),
            ("flight_log", Key::LogFlight),
        ] {
            assert_eq!(Key::nearest(&written.to_lowercase()), expected, "{written}");
        }
    }

    #[test]
    fn keys_stand_at_their_own_index() {
        for (index, key) in Key::ALL.into_iter().enumerate() {
            assert_eq!(key as usize, index);
            assert_eq!(Key::named(key.name()), Some(key));
        }
        assert_eq!(Key::StorageReserve.variable(), "P2PWEIGHTS_STORAGE_RESERVE");
    }
}
