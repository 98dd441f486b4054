//! Links: a hash with hints about what it names and who has it, in one line that can be mailed or clicked. Hints are claims: only the
//! hash is proved, so a wrong link can waste time and nothing else. Provider addresses stay opaque texts here.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::ids::{BlobHash, ParseHashError};
use crate::limits;
use crate::manifest::is_invisible;

/// What every link begins with.
pub const SCHEME: &str = "p2pweights";
/// Longest link: every link that can be built, at three bytes for an escaped one, stays below it. Real ones have a few hundred bytes.
pub const LINK_BYTES: usize = 32 * 1024;
/// Most provider addresses in a link; more than this is the DHT's work.
pub const LINK_PROVIDERS: usize = 16;
/// Longest provider address: a relayed multiaddr with two peer ids and a long host name.
pub const LINK_PROVIDER_BYTES: usize = 512;
/// Longest name in a link: that of a model, `ORG/MODEL`, is at most 193.
pub const LINK_NAME_BYTES: usize = 255;
/// Longest network name: it is part of every protocol name.
pub const LINK_NETWORK_BYTES: usize = limits::NETWORK_NAME_BYTES;

const _: () = assert!(3 * (LINK_PROVIDERS * LINK_PROVIDER_BYTES + LINK_NAME_BYTES + LINK_NETWORK_BYTES) + 1024 < LINK_BYTES);

const NAME: &str = "name";
const PROVIDER: &str = "provider";
const NETWORK: &str = "network";

/// Why a text is not a link.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// Longer than any link may be.
    #[error("a link has at most {LINK_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// Begins with something else.
    #[error("a link begins with \"{SCHEME}:\"")]
    Scheme,
    /// Written with slashes, as a web address is.
    #[error("the hash follows \"{SCHEME}:\" directly, without slashes")]
    Slashes,
    /// What follows the scheme is not a hash.
    #[error("the link's hash is malformed")]
    Hash(#[source] ParseHashError),
    /// Neither a hash nor a link.
    #[error("expected a hash of 64 hexadecimal digits, or a link \"{SCHEME}:<hash>\"")]
    NeitherHashNorLink(#[source] ParseHashError),
    /// A part after `#`.
    #[error("a link has no part after '#'")]
    Fragment,
    /// A parameter twice that may stand once.
    #[error("the link's parameter {0:?} stands twice")]
    Repeated(&'static str),
    /// A parameter without a value.
    #[error("the link's parameter {0:?} is empty")]
    Empty(&'static str),
    /// A parameter's value is too long.
    #[error("the link's parameter {parameter:?} has {bytes} bytes, at most {limit} are allowed")]
    ParameterTooLong {
        /// The parameter.
        parameter: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A character that cannot stand in a parameter.
    #[error("{found:?} cannot stand in the link's parameter {parameter:?}")]
    Character {
        /// The parameter.
        parameter: &'static str,
        /// The character.
        found: char,
    },
    /// A provider that is not a multiaddr.
    #[error("a provider in a link is a multiaddr, which begins with '/': {0:?} does not")]
    Provider(String),
    /// Too many providers.
    #[error("a link has at most {LINK_PROVIDERS} providers")]
    TooManyProviders,
}

/// A hash, and hints about it: `p2pweights:<hash>?name=Org%2FModel&provider=%2Fip4%2F…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Link {
    hash: BlobHash,
    name: Option<String>,
    providers: Vec<String>,
    network: Option<String>,
}

impl Link {
    /// A link without hints.
    pub fn new(hash: BlobHash) -> Self {
        Self { hash, name: None, providers: Vec::new(), network: None }
    }

    /// With a name to show a person, instead of the one it had.
    pub fn with_name(mut self, name: &str) -> Result<Self, LinkError> {
        // U+FFFD is what is left of bytes that are not UTF-8.
        checked(NAME, name, LINK_NAME_BYTES, |c| !c.is_control() && !is_invisible(c) && c != char::REPLACEMENT_CHARACTER)?;
        self.name = Some(name.to_owned());
        Ok(self)
    }

    /// With one more provider address; one that is already there is not added again.
    pub fn with_provider(mut self, address: &str) -> Result<Self, LinkError> {
        checked(PROVIDER, address, LINK_PROVIDER_BYTES, |c| c.is_ascii_graphic())?;
        if !address.starts_with('/') {
            return Err(LinkError::Provider(address.to_owned()));
        }
        if self.providers.iter().any(|known| known == address) {
            return Ok(self);
        }
        if self.providers.len() == LINK_PROVIDERS {
            return Err(LinkError::TooManyProviders);
        }
        self.providers.push(address.to_owned());
        Ok(self)
    }

    /// With the network in which the providers are, instead of the one it had.
    pub fn with_network(mut self, network: &str) -> Result<Self, LinkError> {
        checked(NETWORK, network, LINK_NETWORK_BYTES, |c| matches!(c, 'a'..='z' | '0'..='9' | '-'))?;
        self.network = Some(network.to_owned());
        Ok(self)
    }

    /// What a person names on the command line: a bare hash, which is a link without hints, or a link.
    pub fn parse_target(text: &str) -> Result<Self, LinkError> {
        if text.contains(':') {
            return text.parse();
        }
        text.parse().map(Self::new).map_err(LinkError::NeitherHashNorLink)
    }

    /// The manifest or blob it names.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }

    /// What its maker calls it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Multiaddrs of peers said to have it.
    pub fn providers(&self) -> &[String] {
        &self.providers
    }

    /// The network in which they are said to be.
    pub fn network(&self) -> Option<&str> {
        self.network.as_deref()
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}:{}", self.hash)?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.name.iter().map(|name| (NAME, name)));
        query.extend_pairs(self.network.iter().map(|network| (NETWORK, network)));
        query.extend_pairs(self.providers.iter().map(|provider| (PROVIDER, provider)));
        match query.finish() {
            empty if empty.is_empty() => Ok(()),
            query => write!(f, "?{query}"),
        }
    }
}

impl FromStr for Link {
    type Err = LinkError;

    /// Unknown parameters are ignored, so that links of a later version still lead somewhere. The scheme may be in any case (RFC 3986).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > LINK_BYTES {
            return Err(LinkError::TooLong(text.len()));
        }
        let (scheme, rest) = text.split_once(':').ok_or(LinkError::Scheme)?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(LinkError::Scheme);
        }
        if rest.starts_with('/') {
            return Err(LinkError::Slashes);
        }
        if rest.contains('#') {
            return Err(LinkError::Fragment);
        }
        let (hash, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut link = Self::new(hash.parse().map_err(LinkError::Hash)?);
        for (parameter, value) in form_urlencoded::parse(query.as_bytes()) {
            link = match parameter.as_ref() {
                NAME if link.name.is_some() => return Err(LinkError::Repeated(NAME)),
                NETWORK if link.network.is_some() => return Err(LinkError::Repeated(NETWORK)),
                NAME => link.with_name(&value)?,
                NETWORK => link.with_network(&value)?,
                PROVIDER => link.with_provider(&value)?,
                _ => link,
            };
        }
        Ok(link)
    }
}

fn checked(parameter: &'static str, value: &str, limit: usize, allows: impl Fn(char) -> bool) -> Result<(), LinkError> {
    if value.is_empty() {
        return Err(LinkError::Empty(parameter));
    }
    if value.len() > limit {
        return Err(LinkError::ParameterTooLong { parameter, bytes: value.len(), limit });
    }
    match value.chars().find(|&c| !allows(c)) {
        Some(found) => Err(LinkError::Character { parameter, found }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash() -> BlobHash {
        BlobHash::of(b"weights")
    }

    fn parse(query: &str) -> Result<Link, LinkError> {
        format!("p2pweights:{}{query}", hash()).parse()
    }

    #[test]
    fn a_link_is_written_in_one_way() {
        let link = Link::new(hash()).with_name("Org/Some Model").unwrap().with_network("lab-1").unwrap();
        let link = link.with_provider("/ip4/192.0.2.1/tcp/4001/p2p/12D3").unwrap().with_provider("/ip6/::1/tcp/1").unwrap();
        let text = format!(
            "p2pweights:{}?name=Org%2FSome+Model&network=lab-1&provider=%2Fip4%2F192.0.2.1%2Ftcp%2F4001%2Fp2p%2F12D3\
             &provider=%2Fip6%2F%3A%3A1%2Ftcp%2F1",
            hash()
        );
        assert_eq!(link.to_string(), text);
        assert_eq!(text.parse(), Ok(link));
        assert_eq!(Link::new(hash()).to_string(), format!("p2pweights:{}", hash()));
    }

    #[test]
    fn people_may_write_it_less_strictly() {
        let plain = Link::new(hash());
        assert_eq!(format!("P2PWeights:{}?", hash()).parse(), Ok(plain.clone()));
        assert_eq!(parse("?future=1&other"), Ok(plain.clone()));
        assert_eq!(parse("?name=Org/Some%20Model").unwrap().name(), Some("Org/Some Model"));
        assert_eq!(parse("?provider=/dns/a/tcp/1&provider=/dns/a/tcp/1").unwrap().providers(), ["/dns/a/tcp/1"]);
    }

    #[test]
    fn an_error_names_the_wrong_part() {
        let too_many: String = (0..=LINK_PROVIDERS).map(|port| format!("&provider=/dns/a/tcp/{port}")).collect();
        let long = "x".repeat(300);
        for (query, error) in [
            ("#x".to_owned(), LinkError::Fragment),
            ("?name=a&name=b".to_owned(), LinkError::Repeated("name")),
            ("?name=a&name=a".to_owned(), LinkError::Repeated("name")),
            ("?network=a&network=b".to_owned(), LinkError::Repeated("network")),
            ("?name=".to_owned(), LinkError::Empty("name")),
            ("?name".to_owned(), LinkError::Empty("name")),
            ("?name=a%0Ab".to_owned(), LinkError::Character { parameter: "name", found: '\n' }),
            ("?name=%E2%80%AEgpj".to_owned(), LinkError::Character { parameter: "name", found: '\u{202e}' }),
            ("?name=%FF".to_owned(), LinkError::Character { parameter: "name", found: '\u{fffd}' }),
            ("?network=A".to_owned(), LinkError::Character { parameter: "network", found: 'A' }),
            ("?network=a/b".to_owned(), LinkError::Character { parameter: "network", found: '/' }),
            (format!("?name={long}"), LinkError::ParameterTooLong { parameter: "name", bytes: 300, limit: 255 }),
            ("?provider=http://x".to_owned(), LinkError::Provider("http://x".to_owned())),
            ("?provider=/a%20b".to_owned(), LinkError::Character { parameter: "provider", found: ' ' }),
            (format!("?{too_many}"), LinkError::TooManyProviders),
        ] {
            assert_eq!(parse(&query), Err(error), "{query}");
        }
        assert_eq!("x".repeat(33_000).parse::<Link>(), Err(LinkError::TooLong(33_000)));
        assert_eq!(format!("magnet:{}", hash()).parse::<Link>(), Err(LinkError::Scheme));
        assert_eq!(format!("p2pweights://{}", hash()).parse::<Link>(), Err(LinkError::Slashes));
        assert_eq!(
            "p2pweights:abc?name=x".parse::<Link>(),
            Err(LinkError::Hash(ParseHashError::Length { digits: 64, found: 3 }))
        );
    }

    #[test]
    fn the_command_line_takes_hash_or_link() {
        assert_eq!(Link::parse_target(&hash().to_string()), Ok(Link::new(hash())));
        assert_eq!(Link::parse_target(&Link::new(hash()).to_string()), Ok(Link::new(hash())));
        assert_eq!(
            Link::parse_target("Org/Model"),
            Err(LinkError::NeitherHashNorLink(ParseHashError::Length { digits: 64, found: 9 }))
        );
        assert_eq!(Link::parse_target("https://example.org/x"), Err(LinkError::Scheme));
    }

    proptest! {
        #[test]
        fn a_link_reads_back(
            bytes in any::<[u8; 32]>(), name in prop::option::of("[ -~é日&=+%#?]{1,40}"), network in prop::option::of("[a-z0-9-]{1,32}"),
            providers in prop::collection::btree_set("/[!-~]{0,60}", 0..16),
        ) {
            let mut link = Link::new(BlobHash(bytes));
            if let Some(name) = &name { link = link.with_name(name).unwrap(); }
            if let Some(network) = &network { link = link.with_network(network).unwrap(); }
            for provider in &providers { link = link.with_provider(provider).unwrap(); }
            prop_assert_eq!(link.to_string().parse(), Ok(link.clone()));
            prop_assert_eq!(Link::parse_target(&link.to_string()), Ok(link));
        }

        #[test]
        fn any_text_is_answered(text in any::<String>(), query in "[a-z=&%0-9?#/]{0,60}") {
            let _ = Link::parse_target(&text);
            let _ = parse(&query);
        }
    }
}
