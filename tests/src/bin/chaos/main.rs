//! A fetch that is killed again and again: `cargo run -p p2pweights-tests --bin chaos`. The real program fetches a model from two real
//! sources and gets SIGKILL at moments drawn from a seed, until it is done; sources are killed, too, and the index is deleted or damaged
//! in between. After each kill the data dir is judged without the store's own code. Ends by itself, and with it all that it started.

mod evidence;
mod lab;
mod moments;
mod run;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: chaos [flags]
  --kills N       how often the fetch is killed; default 200
  --seed N        another life; default 1
  --seconds N     give up after so long; default 900
  --program FILE  the program to kill; default the one beside this, built first
  --json          the figures as JSON";

/// Something was lost, or could not be tried.
const FAILED: u8 = 1;
/// The order makes no sense.
const USAGE_ERROR: u8 = 2;

/// What is to be done.
#[derive(Debug, PartialEq)]
pub struct Order {
    /// How often the fetch is killed.
    pub kills: u64,
    /// Which moments are drawn.
    pub seed: u64,
    /// Longest time for all of it.
    pub time: Duration,
    /// The program.
    pub program: Option<PathBuf>,
    /// Figures as JSON.
    pub json: bool,
}

impl Order {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut order = Self { kills: 200, seed: 1, time: Duration::from_secs(900), program: None, json: false };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} wants a value"));
            let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text:?} is no number"));
            match word.as_str() {
                "--kills" => order.kills = number(value()?)?,
                "--seed" => order.seed = number(value()?)?,
                "--seconds" => order.time = Duration::from_secs(number(value()?)?),
                "--program" => order.program = Some(value()?.into()),
                "--json" => order.json = true,
                _ => return Err(format!("unknown flag {word}")),
            }
        }
        Ok(order)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [role, program, arguments @ ..] = words.as_slice()
        && role == lab::CHILD
    {
        eprintln!("error: {}", lab::become_child(program, arguments));
        return ExitCode::from(FAILED);
    }
    let order = match Order::parse(words.into_iter()) {
        Ok(order) => order,
        Err(message) => {
            eprintln!("error: {message}\n\n{USAGE}");
            return ExitCode::from(USAGE_ERROR);
        }
    };
    match run::run(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}\nagain: chaos --seed {} --kills {}", order.seed, order.kills);
            ExitCode::from(FAILED)
        }
    }
}
