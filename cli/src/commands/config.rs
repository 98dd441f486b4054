//! `config show`: what is in force, and where it came from.

use std::num::NonZeroU64;
use std::path::PathBuf;

use serde::Serialize;

use crate::failure::CommandError;
use crate::output::{Output, table};
use crate::settings::{Key, OFF, Origin, Settings};

#[derive(Serialize)]
struct ConfigReport<'a> {
    file: &'a Option<PathBuf>,
    settings: Vec<SettingReport<'a>>,
}

#[derive(Serialize)]
struct SettingReport<'a> {
    key: &'static str,
    value: serde_json::Value,
    origin: &'a Origin,
}

pub fn show(output: Output, settings: &Settings) -> Result<(), CommandError> {
    let report = ConfigReport {
        file: &settings.file,
        settings: Key::ALL
            .into_iter()
            .map(|key| SettingReport { key: key.name(), value: value(settings, key), origin: settings.origin(key) })
            .collect(),
    };
    output.value(&report, || {
        let row = |key: Key| {
            let texts = settings.texts(key);
            let value = if texts.is_empty() { "none".to_owned() } else { texts.join(", ") };
            vec![key.name().to_owned(), settings.origin(key).to_string(), value]
        };
        table(&["setting", "from", "value"], &Key::ALL.map(row))
    })
}

fn value(settings: &Settings, key: Key) -> serde_json::Value {
    let texts = settings.texts(key);
    let rate = |cap: Option<NonZeroU64>| cap.map(NonZeroU64::get).into();
    match key {
        Key::Listen | Key::Bootstrap | Key::ShareGated | Key::Paths | Key::GatewayHosts | Key::GatewayModels => texts.into(),
        Key::Mdns => settings.node.mdns.into(),
        Key::StorageReserve => settings.node.reserve_bytes.into(),
        Key::ScrubPeriod => settings.node.scrub_period.map(|period| period.as_secs()).into(),
        Key::ScrubRate => rate(settings.node.scrub_rate),
        Key::Api | Key::GatewayListen | Key::MetricsListen => texts.into_iter().find(|text| text != OFF).into(),
        Key::StorageQuota => settings.node.quota_bytes.into(),
        Key::StorageHigh => settings.node.watermarks.high.into(),
        Key::StorageLow => settings.node.watermarks.low.into(),
        Key::StorageEvictLastCopy => settings.node.evict_last_copy.into(),
        Key::Memory => settings.node.transfer_memory_bytes.into(),
        Key::MaxUpload => rate(settings.node.max_upload.total),
        Key::MaxDownload => rate(settings.node.max_download.total),
        Key::LanMaxUpload => rate(settings.node.max_upload.lan),
        Key::LanMaxDownload => rate(settings.node.max_download.lan),
        Key::WanMaxUpload => rate(settings.node.max_upload.wan),
        Key::WanMaxDownload => rate(settings.node.max_download.wan),
        Key::MirrorsEnabled => settings.node.manifest_mirrors.into(),
        Key::MirrorsAllowPrivate => settings.node.private_mirrors.into(),
        Key::LogFlight => settings.node.flight_log.clone().map(|path| path.display().to_string()).into(),
        Key::DataDir | Key::Network | Key::StorageEviction => texts.concat().into(),
    }
}
