//! Settings of the gateway: how their values are written. Only a node that stays has one, so they stand beside what every command uses.

use std::net::SocketAddr;

use p2pweights_node::gateway::{GatewayConfig, Mappings};

use super::{Key, Origin, Settings};

/// What separates a name from where it leads, where both are one text.
const LEADS_TO: char = '=';

/// What is set about the gateway.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// Where it listens; `None` for nowhere.
    pub listen: Option<SocketAddr>,
    /// Everything else.
    pub config: GatewayConfig,
}

impl Default for GatewaySettings {
    fn default() -> Self {
        let config = GatewayConfig::default();
        Self { listen: Some(config.listen), config }
    }
}

impl Settings {
    /// The gateway of a node that stays: one that nobody asked for may be missing.
    pub fn gateway_of_node(&self) -> Option<GatewayConfig> {
        let listen = self.gateway.listen?;
        let optional = *self.origin(Key::GatewayListen) == Origin::Default;
        Some(GatewayConfig { listen, optional, ..self.gateway.config.clone() })
    }
}

/// A name by which it is called.
pub fn parse_host(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match text {
        "" => Err("a host has a name".to_owned()),
        _ if text.chars().all(fits) => Ok(text.to_ascii_lowercase()),
        _ => Err(format!("{text:?} is no host's name such as models.lan, without scheme and port")),
    }
}

/// Names and where they lead, as `org/model=HASH`.
pub fn parse_models(texts: &[String]) -> Result<Mappings, String> {
    let pair = |text: &'_ str| {
        // The name has no such sign, a link may have.
        text.find(LEADS_TO).ok_or_else(|| format!("{text:?} is no pair such as org/model=HASH"))
    };
    let pairs = texts.iter().map(|text| pair(text).map(|at| (&text[..at], &text[at + 1..])));
    let pairs: Vec<(&str, &str)> = pairs.collect::<Result<_, _>>()?;
    Mappings::parse(pairs).map_err(|error| error.to_string())
}

/// The same, written.
pub fn models_texts(models: &Mappings) -> Vec<String> {
    models.pairs().map(|(name, link)| format!("{name}{LEADS_TO}{link}")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::parse_gateway;
    use super::*;

    #[test]
    fn values_read_back() {
        let link = format!("p2pweights:{}?name=org%2Fm&network=lab", "ab".repeat(32));
        let texts = vec![format!("org/m@v1={link}"), format!("org/n={}", "cd".repeat(32))];
        let models = parse_models(&texts).unwrap();
        assert_eq!(parse_models(&models_texts(&models)), Ok(models));
        assert!(parse_models(&["org/m".to_owned()]).unwrap_err().contains("org/model=HASH"));
        assert!(parse_models(&["org/m=12".to_owned()]).unwrap_err().contains("neither a hash nor a link"));
        assert_eq!(parse_gateway("off"), Ok(None));
        assert!(parse_gateway("8787").unwrap_err().contains("127.0.0.1:8787"));
        assert_eq!(parse_host("Models.LAN"), Ok("models.lan".to_owned()));
        assert!(parse_host("http://x").is_err() && parse_host("x:80").is_err() && parse_host("").is_err());
    }
}
