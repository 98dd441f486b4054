//! What is on a plot, in pixels with halves, before it is an SVG or a PNG. Everything is rounded here, so that one plot is the same bytes
//! wherever it is drawn.

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, TextStyle};

use super::style::{CARD, FONT, SCALE, SIZES, font_size, prepare_font};

/// In bitmaps plotters puts words higher than a browser does, by this share of their size.
const LOWER: f64 = 0.15;

/// A place, in pixels from the upper left corner.
pub type Point = (f64, f64);

/// Which end of a text is at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// Words on a plot.
#[derive(Debug, Clone)]
pub struct Words {
    /// What they say.
    pub text: String,
    /// Where: the middle of the line's height.
    pub at: Point,
    /// How they lie there.
    pub anchor: Anchor,
    /// Size in pixels.
    pub size: i32,
    /// Whether they are bold.
    pub bold: bool,
    /// Colour.
    pub colour: RGBColor,
}

/// One thing on a plot.
#[derive(Debug, Clone)]
enum Mark {
    Path { points: Vec<Point>, width: f64, colour: RGBColor },
    Area { points: Vec<Point>, colour: RGBColor },
    Box { from: Point, to: Point, colour: RGBColor },
    Dot { at: Point, radius: f64, colour: RGBColor },
    Words(Words),
}

/// A plot. What comes later lies on top.
#[derive(Debug, Clone)]
pub struct Sketch {
    width: i32,
    height: i32,
    marks: Vec<Mark>,
}

impl Sketch {
    /// A blank card of this size, in pixels.
    pub fn new(width: i32, height: i32) -> Self {
        Self { width, height, marks: Vec::new() }
    }

    /// A line through these points.
    pub fn path(&mut self, points: Vec<Point>, width: f64, colour: RGBColor) {
        self.marks.push(Mark::Path { points, width, colour });
    }

    /// A dashed straight line, level or upright.
    pub fn dashes(&mut self, from: Point, to: Point, width: f64, colour: RGBColor) {
        let length = (to.0 - from.0).abs() + (to.1 - from.1).abs();
        let at = |share: f64| (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
        let mut along = 0.0;
        while along < length {
            self.path(vec![at(along / length), at((along + 5.0).min(length) / length)], width, colour);
            along += 9.0;
        }
    }

    /// A filled shape.
    pub fn area(&mut self, points: Vec<Point>, colour: RGBColor) {
        self.marks.push(Mark::Area { points, colour });
    }

    /// A filled box.
    pub fn fill(&mut self, from: Point, to: Point, colour: RGBColor) {
        self.marks.push(Mark::Box { from, to, colour });
    }

    /// A dot.
    pub fn dot(&mut self, at: Point, radius: f64, colour: RGBColor) {
        self.marks.push(Mark::Dot { at, radius, colour });
    }

    /// Words.
    pub fn words(&mut self, words: Words) {
        self.marks.push(Mark::Words(words));
    }

    /// The plot as a file for vectors, with a name for those who cannot see it.
    pub fn svg(&self, name: &str) -> String {
        let mut drawn = String::new();
        {
            let area = SVGBackend::with_string(&mut drawn, self.units()).into_drawing_area();
            self.draw(&area, 0.0).expect("writing to a string does not fail");
        }
        // The backend knows one size only: shown, a plot has half as many pixels as units. And it fits where there is less room.
        let body = drawn.split_once('>').map_or("", |(_, body)| body);
        let head = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {} {}\" role=\"img\">\n<title>{}</title>",
            self.width,
            self.height,
            self.units().0,
            self.units().1,
            crate::pages::markup::escape(name),
        );
        let shorter = [(" opacity=\"1\"", ""), (" \"/>", "\"/>"), (" stroke=\"none\"/>", "/>")];
        let body = shorter.into_iter().fold(body.to_owned(), |body, (long, short)| body.replace(long, short));
        // What a size becomes in plotters' measure and back again is not quite what it was.
        head + &SIZES.into_iter().fold(body, |body, size| {
            let size_in = |units: f64| format!("font-size=\"{units}\"");
            body.replace(&size_in(font_size(size) / 1.24), &size_in(f64::from(size * SCALE)))
        })
    }

    /// The plot as a picture, at twice its size for sharp screens.
    pub fn png(&self) -> Result<Vec<u8>, png::EncodingError> {
        let (width, height) = self.units();
        let mut pixels = vec![0; (width * height * 3) as usize];
        {
            let area = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
            self.draw(&area, LOWER).expect("drawing into memory does not fail");
        }
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.write_header()?.write_image_data(&pixels)?;
        Ok(file)
    }

    fn units(&self) -> (u32, u32) {
        ((self.width * SCALE).unsigned_abs(), (self.height * SCALE).unsigned_abs())
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>, lower: f64) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        prepare_font();
        area.fill(&CARD)?;
        for mark in &self.marks {
            match mark {
                Mark::Path { points, width, colour } => {
                    let style = colour.stroke_width(unit(*width).unsigned_abs());
                    area.draw(&PathElement::new(thin(points), style))?;
                }
                Mark::Area { points, colour } => area.draw(&Polygon::new(thin(points), colour.filled()))?,
                Mark::Box { from, to, colour } => area.draw(&Rectangle::new([place(*from), place(*to)], colour.filled()))?,
                Mark::Dot { at, radius, colour } => area.draw(&Circle::new(place(*at), unit(*radius), colour.filled()))?,
                Mark::Words(words) => {
                    let at = place((words.at.0, words.at.1 + lower * f64::from(words.size)));
                    area.draw(&Text::new(words.text.clone(), at, text_style(words)))?;
                }
            }
        }
        area.present()
    }
}

type Area<B> = DrawingArea<B, plotters::coord::Shift>;

fn text_style(words: &Words) -> TextStyle<'_> {
    let style = if words.bold { FontStyle::Bold } else { FontStyle::Normal };
    let anchor = match words.anchor {
        Anchor::Start => HPos::Left,
        Anchor::Middle => HPos::Center,
        Anchor::End => HPos::Right,
    };
    TextStyle::from((FONT, font_size(words.size), style).into_font()).color(&words.colour).pos(Pos::new(anchor, VPos::Center))
}

fn unit(pixels: f64) -> i32 {
    // Far outside of any card, and well inside of what a backend can count with.
    (pixels * f64::from(SCALE)).round().clamp(-20_000.0, 20_000.0) as i32
}

fn place(point: Point) -> (i32, i32) {
    (unit(point.0), unit(point.1))
}

/// The points of a line after rounding, without those that lie between their neighbours on a straight level or upright line.
fn thin(points: &[Point]) -> Vec<(i32, i32)> {
    let mut kept: Vec<(i32, i32)> = Vec::new();
    for point in points.iter().copied().map(place) {
        if kept.last() == Some(&point) {
            continue;
        }
        if let [.., before, last] = kept[..] {
            let level = before.1 == last.1 && last.1 == point.1 && (before.0 < last.0) == (last.0 < point.0);
            let upright = before.0 == last.0 && last.0 == point.0 && (before.1 < last.1) == (last.1 < point.1);
            if level || upright {
                kept.pop();
            }
        }
        kept.push(point);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_points_but_not_their_shape() {
        let points = [(0.0, 0.0), (0.1, 0.0), (1.0, 0.0), (2.0, 0.0), (2.0, 1.0), (2.0, 3.0), (1.0, 3.0)];
        assert_eq!(thin(&points), [(0, 0), (4, 0), (4, 6), (2, 6)]);
        assert_eq!(thin(&[(f64::NAN, 0.0), (f64::INFINITY, 0.0)]), [(0, 0), (20_000, 0)]);
    }

    #[test]
    fn a_plot_is_a_file_in_both_forms() {
        let mut sketch = Sketch::new(60, 40);
        sketch.path(vec![(1.0, 1.0), (9.0, 9.0)], 1.5, super::super::style::SWARM);
        sketch.words(Words {
            text: "<a & b>".into(),
            at: (3.0, 3.0),
            anchor: Anchor::Start,
            size: 13,
            bold: true,
            colour: super::super::style::INK,
        });
        let svg = sketch.svg("a < b");
        assert!(
            svg.starts_with("<svg xmlns") && svg.contains("viewBox=\"0 0 120 80\"") && svg.contains("<title>a &lt; b</title>")
        );
        assert!(svg.contains("&lt;a &amp; b&gt;") && svg.contains("font-size=\"26\""), "{svg}");
        let png = sketch.png().unwrap();
        assert_eq!(&png[1..4], b"PNG");
    }
}
