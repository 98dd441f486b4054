//! Labels beside the curves they belong to, where they cover nothing.

use plotters::style::RGBColor;

use super::frame::Frame;
use super::sketch::{Anchor, Point};
use super::style::{CARD, LABEL, shorten, text_width};

/// A curve that wants its name beside it.
#[derive(Debug, Clone)]
pub struct Curve {
    /// Its name.
    pub name: String,
    /// Its points, in pixels, in order from left to right.
    pub points: Vec<Point>,
    /// Its colour, and that of the label.
    pub colour: RGBColor,
    /// Whether the label is bold.
    pub bold: bool,
    /// Where the label had best stand, as a share of the plot's height from above.
    pub near: f64,
}

/// Left, top, right, bottom.
type Bounds = (f64, f64, f64, f64);

/// Heights at which a label may stand beside its curve, as shares of the plot's height from above.
const HEIGHTS: [f64; 13] = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.12, 0.88, 0.05, 0.95, 0.35, 0.65];

/// Names every curve. `uprights` are other lines, given by where they stand, which labels had better not cover.
pub fn label(frame: &mut Frame, curves: &[Curve], uprights: &[f64]) {
    let mut taken: Vec<Bounds> = Vec::new();
    for curve in curves {
        let widest = ((frame.right - frame.left) * 0.5) as i32;
        let name = shorten(&curve.name, widest, LABEL, curve.bold);
        let width = f64::from(text_width(&name, LABEL, curve.bold));
        let mut heights = HEIGHTS;
        heights.sort_by(|a, b| (a - curve.near).abs().total_cmp(&(b - curve.near).abs()));
        let places: Vec<(Point, Anchor, Bounds)> = heights
            .iter()
            .flat_map(|share| {
                let y = frame.top + (frame.bottom - frame.top) * share;
                let span = span_near(&curve.points, y);
                span.into_iter().flat_map(move |(low, high)| beside(low, high, y, width))
            })
            .collect();
        let fits = |bounds: &Bounds| {
            bounds.0 >= frame.left
                && bounds.2 <= frame.right + 1.0
                && bounds.1 >= frame.top - 4.0
                && bounds.3 <= frame.bottom
                && !taken.iter().any(|other| overlap(*bounds, *other))
        };
        let clear = |bounds: &Bounds| !curves.iter().any(|curve| crosses(&curve.points, *bounds));
        let open = |bounds: &Bounds| !uprights.iter().any(|x| bounds.0 < *x && *x < bounds.2);
        let free: Vec<_> = places.iter().filter(|(_, _, bounds)| fits(bounds)).collect();
        let best = free.iter().find(|(_, _, bounds)| clear(bounds) && open(bounds));
        // Over a line rather than not at all: on a patch of white.
        let second = free.iter().find(|(_, _, bounds)| clear(bounds));
        let Some((at, anchor, bounds)) = best.or(second).or(free.first()) else { continue };
        if best.is_none() {
            frame.sketch.fill((bounds.0, bounds.1 + 1.0), (bounds.2, bounds.3 - 1.0), CARD);
        }
        taken.push(*bounds);
        frame.say(&name, *at, *anchor, LABEL, curve.bold, curve.colour);
    }
}

/// Where a label of this width can stand beside a curve: right of it, left of it.
fn beside(low: f64, high: f64, y: f64, width: f64) -> [(Point, Anchor, Bounds); 2] {
    const GAP: f64 = 7.0;
    let (above, below) = (y - 9.0, y + 9.0);
    [
        ((high + GAP, y), Anchor::Start, (high + GAP - 2.0, above, high + GAP + width, below)),
        ((low - GAP, y), Anchor::End, (low - GAP - width, above, low - GAP + 2.0, below)),
    ]
}

/// From where to where a curve goes within half a line of this height; `None`: it does not come there.
fn span_near(points: &[Point], y: f64) -> Option<(f64, f64)> {
    let mut span: Option<(f64, f64)> = None;
    for pair in points.windows(2) {
        let (upper, lower) = (pair[0].1.min(pair[1].1), pair[0].1.max(pair[1].1));
        if lower >= y - 9.0 && upper <= y + 9.0 {
            let (low, high) = span.unwrap_or((f64::INFINITY, f64::NEG_INFINITY));
            span = Some((low.min(pair[0].0).min(pair[1].0), high.max(pair[0].0).max(pair[1].0)));
        }
    }
    span
}

fn overlap(a: Bounds, b: Bounds) -> bool {
    a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
}

/// Whether a curve, whose parts are level, upright or short, comes into a box.
fn crosses(points: &[Point], bounds: Bounds) -> bool {
    points.windows(2).any(|pair| {
        let part = (pair[0].0.min(pair[1].0), pair[0].1.min(pair[1].1), pair[0].0.max(pair[1].0), pair[0].1.max(pair[1].1));
        // A line has no width: it needs some to overlap with anything.
        overlap((part.0 - 1.0, part.1 - 1.0, part.2 + 1.0, part.3 + 1.0), bounds)
    })
}
