//! Settings of the quota and of eviction: how their values are written, and which of them do not go together.

use p2pweights_node::store::MIN_QUOTA_BYTES;
use p2pweights_node::upkeep::Eviction;

use super::{Key, OFF, Settings, size_text};
use crate::failure::CommandError;
use crate::size;

/// A quota, or `off`.
pub fn parse_quota(text: &str) -> Result<Option<u64>, String> {
    if text == OFF {
        return Ok(None);
    }
    match size::parse(text)? {
        bytes @ MIN_QUOTA_BYTES.. => Ok(Some(bytes)),
        _ => {
            let least = size_text(MIN_QUOTA_BYTES);
            Err(format!(
                "{text:?} is too little: an empty store alone takes half of the least there is, {least}; or `off` for none"
            ))
        }
    }
}

/// What goes first.
pub fn parse_eviction(text: &str) -> Result<Eviction, String> {
    text.parse()
}

/// A part of the quota.
pub fn parse_percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse() {
        Ok(percent @ 1..=100) => Ok(percent),
        _ => Err(format!("{text:?} is no part of the quota such as 90%")),
    }
}

/// Whether what is set goes together.
pub fn check(settings: &Settings) -> Result<(), CommandError> {
    let node = &settings.node;
    let (high, low) = (node.watermarks.high, node.watermarks.low);
    if low > high {
        let (high_from, low_from) = (settings.origin(Key::StorageHigh), settings.origin(Key::StorageLow));
        let message = format!("storage.low is {low}% ({low_from}), above storage.high, {high}% ({high_from})");
        return Err(CommandError::usage(message).or_hint("set storage.low to at most storage.high"));
    }
    if node.eviction != Eviction::Off && node.quota_bytes.is_none() {
        let from = settings.origin(Key::StorageEviction);
        let message = format!("storage.eviction is `{}` ({from}), but there is no storage.quota to keep to", node.eviction);
        return Err(CommandError::usage(message).or_hint("set storage.quota, or storage.eviction to `off`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_and_parts_are_checked() {
        assert_eq!(parse_quota("off"), Ok(None));
        assert_eq!(parse_quota("100GiB"), Ok(Some(100 << 30)));
        assert!(parse_quota("15MiB").unwrap_err().contains("16MiB"));
        assert_eq!((parse_percent("90%"), parse_percent("80")), (Ok(90), Ok(80)));
        for wrong in ["0%", "101", "-1", "many"] {
            assert!(parse_percent(wrong).unwrap_err().contains("90%"), "{wrong}");
        }
    }
}
