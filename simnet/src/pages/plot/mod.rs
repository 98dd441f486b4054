//! Plots of a run. Which there are, and for which runs; each is drawn in a file of its own, and looks as `style` says.

mod axis;
mod completion;
mod frame;
mod groups;
mod labels;
mod links;
mod over_time;
mod sketch;
mod style;

use super::record::RunRecord;
use frame::{Captions, Frame, Room};
use sketch::Sketch;

/// What a plot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// How many had finished by when, against the bound and the baselines.
    Completion,
    /// How much of the uplinks was used, over time.
    Uplinks,
    /// Copies of the rarest, the mean and the commonest piece, over time.
    Rarity,
    /// Hosts present and fetchers finished, over time.
    Population,
    /// Copies that came over each shared link.
    Links,
    /// How each group of hosts fared against its own bound.
    Groups,
}

impl Kind {
    /// All of them, in the order in which a page has them.
    pub const ALL: [Self; 6] = [Self::Completion, Self::Uplinks, Self::Rarity, Self::Links, Self::Groups, Self::Population];

    /// A name for files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completion => "completion",
            Self::Uplinks => "uplinks",
            Self::Rarity => "rarity",
            Self::Population => "population",
            Self::Links => "links",
            Self::Groups => "groups",
        }
    }

    /// Whether it says something about a run.
    pub fn applies_to(self, run: &RunRecord) -> bool {
        match self {
            Self::Completion => true,
            Self::Uplinks | Self::Rarity => run.moments.len() >= 2,
            Self::Population => {
                let present = |change: fn(u32, u32) -> u32| run.moments.iter().map(|moment| moment.present).reduce(change);
                run.moments.len() >= 2 && present(u32::min) != present(u32::max)
            }
            Self::Links => !run.links.is_empty(),
            Self::Groups => run.groups.iter().filter(|group| group.fetchers > 0).count() >= 2,
        }
    }
}

/// How wide a plot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// For a page of text, or a paper's column: 720 pixels.
    Wide,
    /// For two side by side, or a telephone: 460 pixels.
    Narrow,
}

impl Shape {
    fn width(self) -> i32 {
        match self {
            Self::Wide => 720,
            Self::Narrow => 460,
        }
    }

    /// The height of a plot over time, without what is around it.
    fn height(self) -> f64 {
        match self {
            Self::Wide => 260.0,
            Self::Narrow => 190.0,
        }
    }
}

/// A drawn plot.
#[derive(Debug)]
pub struct Plot {
    title: String,
    sketch: Sketch,
}

impl Plot {
    /// Draws a run. `others` are the same scenario with other seeds, shown faintly where that is possible. `None` if it would say nothing.
    pub fn of(kind: Kind, run: &RunRecord, others: &[&RunRecord], shape: Shape) -> Option<Self> {
        if !kind.applies_to(run) {
            return None;
        }
        let (title, frame) = match kind {
            Kind::Completion => completion::draw(run, others, shape),
            Kind::Uplinks => over_time::uplinks(run, shape),
            Kind::Rarity => over_time::rarity(run, shape),
            Kind::Population => over_time::population(run, shape),
            Kind::Links => links::draw(run, shape),
            Kind::Groups => groups::draw(run, shape),
        };
        Some(Self { title, sketch: frame.sketch })
    }

    /// As SVG: the same run gives the same bytes.
    pub fn svg(&self) -> String {
        self.sketch.svg(&self.title)
    }

    /// As PNG, with twice as many pixels as it is wide.
    pub fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        self.sketch.png()
    }
}

/// The line below a plot: it must be true wherever the plot is shown.
fn source(run: &RunRecord) -> String {
    let row = run.row.map_or(String::new(), |row| format!("#{row} "));
    let size = if run.full { "" } else { ", short form" };
    format!("Simulated in simnet {} · {row}{} · seed {}{size}", run.engine, run.name, run.seed)
}

/// The card for a plot of this run.
fn card(run: &RunRecord, shape: Shape, height: f64, room: Room, captions: (&str, &str, &str)) -> Frame {
    let (title, subtitle, x) = captions;
    let captions = Captions { title: title.into(), subtitle: subtitle.into(), x: x.into(), source: source(run) };
    Frame::new(shape, height, room, &captions)
}
