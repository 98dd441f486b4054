//! The lines of a flight log: what went into an engine and what came out, so that a run can be gone through again. One JSON value a line;
//! the layout is in `docs/flight.md`. Knows no file: the node writes such lines, simnet reads them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::engine::{EngineConfig, Input, Output};
use crate::time::Instant;

/// The version of the layout; one that this program does not know is refused.
pub const VERSION: u32 = 1;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first one.
    Flight(Header),
    /// A fact, and the wishes that followed.
    Step(Step),
    /// The last one; a log without it was cut off with its node.
    End(Ending),
}

/// What an engine was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the layout.
    pub version: u32,
    /// Version of the program that wrote it: another one's engine may decide otherwise.
    pub program: String,
    /// The engine's seed.
    pub seed: u64,
    /// The engine's settings.
    pub config: EngineConfig,
}

/// A fact, and the wishes that followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub now: Instant,
    /// The fact.
    pub input: Input,
    /// The wishes, in order.
    pub outputs: Vec<Output>,
}

/// Why a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The node was stopped.
    Stopped,
    /// The log had become as long as it may.
    Full,
    /// The disk was slower than the engine: what followed is missing.
    Behind,
}

/// Why a line cannot be read.
#[derive(Debug, Error)]
pub enum LineError {
    /// Not what a line looks like.
    #[error("not a line of a flight log")]
    Malformed(#[from] serde_json::Error),
    /// Written by a program of another time.
    #[error("the layout has version {0}, this program reads version {VERSION}; use the p2pweights that wrote it")]
    Version(u32),
}

impl Line {
    /// As it is written, its end of line included.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string(self).expect("its maps have texts for keys, and its writer cannot fail");
        text.push('\n');
        text
    }

    /// Reads a line, with or without its end.
    pub fn parse(text: &[u8]) -> Result<Self, LineError> {
        /// Read before the rest, whose layout may be another one.
        #[derive(Deserialize)]
        struct Only {
            flight: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        if let Ok(Only { flight: Version { version } }) = serde_json::from_slice(text)
            && version != VERSION
        {
            return Err(LineError::Version(version));
        }
        Ok(serde_json::from_slice(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Command, HangupReason};
    use crate::geometry::Span;
    use crate::ids::{BlobHash, PeerId};

    const STEP: &str = concat!(
        r#"{"step":{"now":1500000000,"input":{"Command":{"Offer":{"blob":"0101010101010101010101010101010101010101010101010101010101"#,
        r#"010101","size":20000,"held":[[0,2]]}}},"outputs":[{"Hangup":{"peer":"02020202020202020202020202020202020202"#,
        r#"02020202020202020202020202","reason":"Full"}}]}}"#,
        "\n"
    );

    fn header() -> Line {
        Line::Flight(Header { version: VERSION, program: "0.1.0".into(), seed: 7, config: EngineConfig::default() })
    }

    #[test]
    fn lines_are_written_as_documented_and_read_back() {
        let held = Span::new(0, 2).into_iter().collect();
        let input = Input::Command(Command::Offer { blob: BlobHash([1; 32]), size: 20_000, held });
        let outputs = vec![Output::Hangup { peer: PeerId([2; 32]), reason: HangupReason::Full }];
        let step = Line::Step(Step { now: Instant(1_500_000_000), input, outputs });
        // Which settings there are is not the layout's affair.
        let config = serde_json::to_string(&EngineConfig::default()).unwrap();
        assert!(
            config
                .starts_with(r#"{"first_credits":8,"first_in_flight_bytes":16777216,"news_delay":{"secs":0,"nanos":100000000}"#)
        );
        for (line, text) in [
            (header(), format!("{{\"flight\":{{\"version\":1,\"program\":\"0.1.0\",\"seed\":7,\"config\":{config}}}}}\n")),
            (step, STEP.to_owned()),
            (Line::End(Ending::Stopped), "{\"end\":\"stopped\"}\n".to_owned()),
            (Line::End(Ending::Full), "{\"end\":\"full\"}\n".to_owned()),
            (Line::End(Ending::Behind), "{\"end\":\"behind\"}\n".to_owned()),
        ] {
            assert_eq!(line.to_text(), text);
            assert_eq!(Line::parse(text.as_bytes()).unwrap(), line);
        }
    }

    #[test]
    fn settings_that_an_older_program_did_not_have_take_their_defaults() {
        let text = r#"{"flight":{"version":1,"program":"0.0.9","seed":7,"config":{"first_credits":9}}}"#;
        let Line::Flight(header) = Line::parse(text.as_bytes()).unwrap() else { panic!("no header") };
        assert_eq!(header.config, EngineConfig { first_credits: 9, ..EngineConfig::default() });
    }

    #[test]
    fn a_layout_of_another_time_is_refused_by_its_version() {
        let error = Line::parse(br#"{"flight":{"version":2,"engine":"other"}}"#).unwrap_err();
        assert!(matches!(error, LineError::Version(2)), "{error}");
        for text in ["", "{}", "{\"step\":{}}", "{\"end\":\"of the world\"}", "\u{feff}{\"end\":\"full\"}"] {
            assert!(matches!(Line::parse(text.as_bytes()), Err(LineError::Malformed(_))), "{text:?}");
        }
    }
}
