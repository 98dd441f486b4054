//! Goes through a node's flight log again: feeds its facts to an engine of the same making and compares the wishes. A report from the
//! field becomes a test this way. Reads whatever it is given, opens nothing.

use std::fmt;
use std::io::{self, BufRead, Read};

use p2pweights_protocol::engine::{Engine, Output};
use p2pweights_protocol::flight::{Ending, Header, Line, LineError, Step};
use p2pweights_protocol::time::Instant;
use thiserror::Error;

/// Longest line read. The longest that a node writes orders the 65,536 files of the largest manifest: some 10 MB.
const LINE_BYTES: u64 = 64 * 1024 * 1024;

/// A flight gone through again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// What the engine was made of.
    pub header: Header,
    /// Facts gone through; the one that made a difference is the last.
    pub steps: u64,
    /// When the last of them happened.
    pub until: Instant,
    /// Why the log ends; `None` if its node ended without a word, or if it was not read to its end.
    pub ending: Option<Ending>,
    /// The first difference.
    pub difference: Option<Difference>,
}

/// Where the engine decided otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The line, counted from 1.
    pub line: u64,
    /// The fact that it answered, and the wishes recorded.
    pub step: Box<Step>,
    /// The first wish that differs, counted from 0.
    pub index: usize,
    /// That wish as recorded; `None` if there were no more.
    pub expected: Option<Output>,
    /// That wish now.
    pub got: Option<Output>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wish = |wish: &Option<Output>| wish.as_ref().map_or_else(|| "nothing more".to_owned(), |wish| format!("{wish:?}"));
        writeln!(f, "line {}, at {:?}, wish {} after {:?}", self.line, self.step.now, self.index + 1, self.step.input)?;
        writeln!(f, "  recorded: {}", wish(&self.expected))?;
        write!(f, "  now:      {}", wish(&self.got))
    }
}

/// Why a log cannot be gone through.
#[derive(Debug, Error)]
pub enum FlightError {
    /// It cannot be read.
    #[error("line {line} cannot be read")]
    Read {
        /// The line, counted from 1.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// A line is not what it should be.
    #[error("line {line} cannot be understood")]
    Line {
        /// The line, counted from 1.
        line: u64,
        /// Why.
        source: LineError,
    },
    /// A line stands where it cannot.
    #[error("line {line}: {what}")]
    Order {
        /// The line, counted from 1.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// Goes through a log until its end or the first difference. A last line that is not complete is left out: so ends the log of a node that
/// was killed.
pub fn replay(mut log: impl BufRead) -> Result<Replay, FlightError> {
    let mut line = 1;
    let Some(Line::Flight(header)) = next(&mut log, line)? else {
        return Err(FlightError::Order {
            line,
            what: "a flight log begins with how its engine was made; this is none, or its beginning is missing",
        });
    };
    let mut engine = Engine::new(header.config.clone(), header.seed);
    let mut replay = Replay { header, steps: 0, until: Instant::START, ending: None, difference: None };
    loop {
        line += 1;
        match next(&mut log, line)? {
            None => return Ok(replay),
            Some(_) if replay.ending.is_some() => {
                return Err(FlightError::Order { line, what: "nothing can follow the end of a flight" });
            }
            Some(Line::Flight(_)) => {
                return Err(FlightError::Order { line, what: "a second flight begins here; split the file" });
            }
            Some(Line::End(ending)) => replay.ending = Some(ending),
            Some(Line::Step(step)) if step.now < replay.until => {
                return Err(FlightError::Order { line, what: "time runs backwards" });
            }
            Some(Line::Step(step)) => {
                replay.steps += 1;
                replay.until = step.now;
                replay.difference = compare(&mut engine, line, step);
                if replay.difference.is_some() {
                    return Ok(replay);
                }
            }
        }
    }
}

/// The next line; `None` at the end.
fn next(log: &mut impl BufRead, line: u64) -> Result<Option<Line>, FlightError> {
    let mut text = Vec::new();
    log.take(LINE_BYTES).read_until(b'\n', &mut text).map_err(|source| FlightError::Read { line, source })?;
    if !text.ends_with(b"\n") {
        let too_long = text.len() as u64 == LINE_BYTES;
        return if too_long { Err(FlightError::Order { line, what: "longer than any line of a flight log" }) } else { Ok(None) };
    }
    Line::parse(&text).map(Some).map_err(|source| FlightError::Line { line, source })
}

fn compare(engine: &mut Engine, line: u64, step: Step) -> Option<Difference> {
    engine.handle(step.now, step.input.clone());
    let got: Vec<Output> = std::iter::from_fn(|| engine.poll_output()).collect();
    let most = got.len().max(step.outputs.len());
    let index = (0..most).find(|index| got.get(*index) != step.outputs.get(*index))?;
    let expected = step.outputs.get(index).cloned();
    Some(Difference { line, step: Box::new(step), index, expected, got: got.into_iter().nth(index) })
}

#[cfg(test)]
mod tests {
    use p2pweights_protocol::engine::{Command, EngineConfig, Input};
    use p2pweights_protocol::flight::VERSION;
    use p2pweights_protocol::ids::{BlobHash, PeerId};

    use super::*;

    fn first_line() -> String {
        let header = Header { version: VERSION, program: "test".into(), seed: 1, config: EngineConfig::default() };
        Line::Flight(header).to_text()
    }

    fn step(at: u64, input: Input, outputs: Vec<Output>) -> String {
        Line::Step(Step { now: Instant(at), input, outputs }).to_text()
    }

    fn offer(byte: u8) -> Input {
        let held = p2pweights_protocol::geometry::Geometry::of(20_000).whole().into_iter().collect();
        Input::Command(Command::Offer { blob: BlobHash([byte; 32]), size: 20_000, held })
    }

    fn announce(byte: u8) -> Vec<Output> {
        vec![Output::Announce { blob: BlobHash([byte; 32]) }]
    }

    fn log(lines: &[String]) -> String {
        first_line() + &lines.concat()
    }

    #[test]
    fn the_same_facts_bring_the_same_wishes() {
        let end = Line::End(Ending::Full).to_text();
        let text = log(&[step(5, offer(1), announce(1)), step(5, Input::Tick, vec![]), step(9, offer(2), announce(2)), end]);
        let replayed = replay(text.as_bytes()).unwrap();
        assert_eq!(
            (replayed.steps, replayed.until, replayed.ending, replayed.difference),
            (3, Instant(9), Some(Ending::Full), None)
        );
        // Cut off in the middle of its last line.
        let replayed = replay(&text.as_bytes()[..text.len() - 20]).unwrap();
        assert_eq!((replayed.steps, replayed.ending, replayed.difference), (2, None, None));
    }

    #[test]
    fn the_first_difference_is_told() {
        let wrong = log(&[step(5, offer(1), announce(1)), step(6, offer(2), announce(3)), step(7, offer(3), vec![])]);
        let difference = replay(wrong.as_bytes()).unwrap().difference.expect("a difference");
        assert_eq!((difference.line, difference.index), (3, 0));
        assert_eq!((difference.expected.clone(), difference.got.clone()), (announce(3).pop(), announce(2).pop()));
        let text = difference.to_string();
        assert!(text.contains("line 3") && text.contains("recorded: Announce") && text.contains("Offer"), "{text}");

        let missing = log(&[step(5, offer(1), vec![])]);
        let difference = replay(missing.as_bytes()).unwrap().difference.expect("a difference");
        assert_eq!((difference.expected, difference.got), (None, announce(1).pop()));
        let hangup = Output::Dial { peer: PeerId([1; 32]) };
        let more = log(&[step(5, offer(1), [announce(1), vec![hangup.clone()]].concat())]);
        let difference = replay(more.as_bytes()).unwrap().difference.expect("a difference");
        assert_eq!((difference.index, difference.expected, difference.got), (1, Some(hangup), None));
    }

    #[test]
    fn what_is_wrong_with_a_log_is_told_with_its_line() {
        let tick = |at| step(at, Input::Tick, vec![]);
        let end = || Line::End(Ending::Stopped).to_text();
        for (text, expected) in [
            (String::new(), "line 1: a flight log begins"),
            ("\n".to_owned(), "line 1 cannot be understood"),
            (tick(1), "line 1: a flight log begins"),
            (first_line().replace("\"version\":1", "\"version\":9"), "line 1 cannot be understood"),
            (log(&[tick(1), "{}\n".to_owned(), tick(2)]), "line 3 cannot be understood"),
            (log(&[tick(1), "\u{0}\n".to_owned()]), "line 3 cannot be understood"),
            (log(&[tick(2), tick(1)]), "line 3: time"),
            (log(&[tick(1), first_line()]), "line 3: a second flight"),
            (log(&[end(), tick(1)]), "line 3: nothing can follow"),
        ] {
            let error = replay(text.as_bytes()).expect_err(&text);
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
