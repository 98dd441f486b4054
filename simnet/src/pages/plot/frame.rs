//! What all plots share: the card with its title, the grid and its labels, and a line below that says where it comes from.

use plotters::style::RGBColor;

use super::Shape;
use super::axis::{Axis, tick_label};
use super::sketch::{Anchor, Point, Sketch, Words};
use super::style::{GRID, INK, LABEL, QUIET, SMALL, TINY, TITLE, shorten, text_width, wrap};
use crate::pages::markup::printable;

const PADDING: f64 = 16.0;

/// The words around a plot.
#[derive(Debug, Clone, Default)]
pub struct Captions {
    /// What one finds.
    pub title: String,
    /// What is drawn, and in which unit.
    pub subtitle: String,
    /// What lies along the lower edge.
    pub x: String,
    /// Where it comes from.
    pub source: String,
}

/// Room around a plot for labels, in pixels.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// For what is named at the left.
    pub left: f64,
    /// For what upright lines are called.
    pub above: f64,
    /// For what sticks out at the right.
    pub right: f64,
}

/// A card with a title; what is left of it is for the plot.
#[derive(Debug)]
pub struct Frame {
    /// Draw here.
    pub sketch: Sketch,
    /// Left, top, right and bottom of the plot, in pixels.
    pub left: f64,
    /// See `left`.
    pub top: f64,
    /// See `left`.
    pub right: f64,
    /// See `left`.
    pub bottom: f64,
}

impl Frame {
    /// A card for a plot of this height, with room for labels around it.
    pub fn new(shape: Shape, height: f64, room: Room, captions: &Captions) -> Self {
        let width = f64::from(shape.width());
        let inner = (width - 2.0 * PADDING) as i32;
        let title = wrap(&captions.title, inner, TITLE, true, 3);
        let subtitle = wrap(&captions.subtitle, inner, SMALL, false, 2);
        let top = PADDING + 21.0 * title.len() as f64 + 17.0 * subtitle.len() as f64 + 10.0 + room.above;
        let below = if captions.x.is_empty() { 26.0 } else { 64.0 };
        let bottom = top + height;
        let mut frame = Self {
            sketch: Sketch::new(shape.width(), (bottom + below + PADDING - 4.0) as i32),
            left: PADDING + room.left,
            top,
            right: width - PADDING - room.right,
            bottom,
        };
        let mut y = PADDING + 9.0;
        for line in title {
            frame.say(&line, (PADDING, y), Anchor::Start, TITLE, true, INK);
            y += 21.0;
        }
        for line in subtitle {
            frame.say(&line, (PADDING, y), Anchor::Start, SMALL, false, QUIET);
            y += 17.0;
        }
        let source = shorten(&captions.source, inner, TINY, false);
        frame.say(&source, (PADDING, bottom + below), Anchor::Start, TINY, false, QUIET);
        if !captions.x.is_empty() {
            let x = shorten(&captions.x, (frame.right - PADDING) as i32, SMALL, false);
            frame.say(&x, (frame.right, bottom + 34.0), Anchor::End, SMALL, false, QUIET);
        }
        frame
    }

    /// Words on the plot.
    pub fn say(&mut self, text: &str, at: Point, anchor: Anchor, size: i32, bold: bool, colour: RGBColor) {
        let text = text.chars().map(printable).collect();
        self.sketch.words(Words { text, at, anchor, size, bold, colour });
    }

    /// Upright grid lines, and their figures below.
    pub fn grid_x(&mut self, axis: &Axis, suffix: &str) {
        let room = (self.right - self.left) / 64.0;
        let ticks = axis.ticks(room as usize);
        let mut free = f64::NEG_INFINITY;
        for tick in &ticks {
            let x = axis.at(*tick);
            self.sketch.path(vec![(x, self.top), (x, self.bottom)], 1.0, GRID);
            let label = tick_label(*tick, &ticks) + suffix;
            let half = f64::from(text_width(&label, SMALL, false)) / 2.0;
            if x - half > free {
                self.say(&label, (x, self.bottom + 15.0), Anchor::Middle, SMALL, false, QUIET);
                free = x + half + 6.0;
            }
        }
    }

    /// Level grid lines, and their figures at the left.
    pub fn grid_y(&mut self, axis: &Axis, suffix: &str) {
        let room = (self.bottom - self.top) / 44.0;
        let ticks = axis.ticks(room as usize);
        for tick in &ticks {
            let y = axis.at(*tick);
            self.sketch.path(vec![(self.left, y), (self.right, y)], 1.0, GRID);
            self.say(&(tick_label(*tick, &ticks) + suffix), (self.left - 7.0, y), Anchor::End, SMALL, false, QUIET);
        }
    }

    /// The line that the plot stands on.
    pub fn ground(&mut self) {
        self.sketch.path(vec![(self.left, self.bottom), (self.right, self.bottom)], 1.0, QUIET);
    }

    /// Words where there is nothing to draw.
    pub fn nothing(&mut self, text: &str) {
        let at = ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0);
        self.say(text, at, Anchor::Middle, LABEL, false, QUIET);
    }
}
