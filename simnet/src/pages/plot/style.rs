//! How every plot looks: colours that colour-blind people can tell apart (after Okabe and Ito), sizes, and the font that labels are
//! measured with and PNGs are written in.

use std::sync::Once;

use plotters::style::{FontStyle, IntoFont, RGBColor};

use crate::pages::markup::printable;

/// Text and the bound.
pub const INK: RGBColor = RGBColor(0x22, 0x26, 0x2b);
/// What is said in passing: axes, units, sources.
pub const QUIET: RGBColor = RGBColor(0x66, 0x6d, 0x76);
/// The grid.
pub const GRID: RGBColor = RGBColor(0xe6, 0xe8, 0xeb);
/// The card.
pub const CARD: RGBColor = RGBColor(0xff, 0xff, 0xff);
/// What this is all about: the swarm.
pub const SWARM: RGBColor = RGBColor(0x00, 0x5f, 0xa8);
/// The swarm's area or band.
pub const SWARM_AREA: RGBColor = RGBColor(0xcf, 0xe3, 0xf2);
/// The swarm in other seeds, and lesser marks.
pub const SWARM_FAINT: RGBColor = RGBColor(0x8f, 0xbe, 0xdf);
/// A target.
pub const TARGET: RGBColor = RGBColor(0x00, 0x7d, 0x5a);
/// What went wrong.
pub const WRONG: RGBColor = RGBColor(0xc2, 0x4a, 0x00);
/// Baselines, in turn: greyed, told apart by their labels.
pub const BASELINES: [RGBColor; 5] = [
    RGBColor(0x7c, 0x72, 0x66),
    RGBColor(0xa0, 0x7a, 0x8e),
    RGBColor(0x7d, 0x92, 0x68),
    RGBColor(0x8a, 0x84, 0xab),
    RGBColor(0xb0, 0x8d, 0x57),
];

/// A plot's units a pixel: coordinates are whole numbers, and half a pixel is fine enough.
pub const SCALE: i32 = 2;

/// Sizes of text, in pixels.
pub const TITLE: i32 = 16;
/// Labels of what is drawn.
pub const LABEL: i32 = 13;
/// Axes and notes.
pub const SMALL: i32 = 12;
/// Sources.
pub const TINY: i32 = 11;
/// All of them.
pub const SIZES: [i32; 4] = [TITLE, LABEL, SMALL, TINY];

/// The name under which the font is known. In an SVG it is the viewer's own.
pub const FONT: &str = "sans-serif";

/// Text sizes, in plotters' measure.
pub fn font_size(pixels: i32) -> f64 {
    f64::from(pixels * SCALE) * 1.24
}

/// Makes the font known, once.
pub fn prepare_font() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let fonts: [(FontStyle, &'static [u8]); 2] = [
            (FontStyle::Normal, include_bytes!("../font/DejaVuSansCondensed.ttf")),
            (FontStyle::Bold, include_bytes!("../font/DejaVuSansCondensed-Bold.ttf")),
        ];
        for (style, bytes) in fonts {
            assert!(plotters::style::register_font(FONT, style, bytes).is_ok(), "the font in this folder is a font");
        }
    });
}

/// The width of a text, in pixels, in a font as wide as any that a viewer is likely to have.
pub fn text_width(text: &str, pixels: i32, bold: bool) -> i32 {
    prepare_font();
    let style = if bold { FontStyle::Bold } else { FontStyle::Normal };
    let font = (FONT, font_size(pixels), style).into_font();
    // The font here is condensed, and one that is not takes a tenth more; but plotters sets it larger than a browser would.
    font.box_size(text).map_or(0, |(width, _)| (f64::from(width) * 1.05) as i32 / SCALE + 1)
}

/// A text in lines no wider than this. What does not fit in so many lines ends in an ellipsis.
pub fn wrap(text: &str, width: i32, pixels: i32, bold: bool, lines: usize) -> Vec<String> {
    let mut wrapped = vec![String::new()];
    for word in text.split_whitespace() {
        let line = wrapped.last_mut().expect("there is always a line");
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if line.is_empty() || text_width(&longer, pixels, bold) <= width {
            *line = longer;
        } else {
            wrapped.push(word.to_owned());
        }
    }
    if wrapped.len() > lines {
        wrapped.truncate(lines);
        if let Some(line) = wrapped.last_mut() {
            line.push('…');
        }
    }
    wrapped.into_iter().map(|line| shorten(&line, width, pixels, bold)).collect()
}

/// A text no wider than this, with an ellipsis for what is missing. Control characters, which XML cannot hold, are replaced.
pub fn shorten(text: &str, width: i32, pixels: i32, bold: bool) -> String {
    let mut text: String = text.chars().map(printable).take(300).collect();
    if text_width(&text, pixels, bold) <= width {
        return text;
    }
    while !text.is_empty() && text_width(&format!("{text}…"), pixels, bold) > width {
        text.pop();
    }
    text + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_where_it_is_put() {
        assert!(text_width("wide wide wide", LABEL, true) > text_width("wide", LABEL, false) * 3);
        let lines = wrap("one two three four five six seven", 80, TITLE, true, 2);
        assert_eq!(lines.len(), 2);
        assert!(lines[1].ends_with('…') && lines.iter().all(|line| text_width(line, TITLE, true) <= 80), "{lines:?}");
        assert_eq!(shorten("a\u{0}b", 100, SMALL, false), "a\u{fffd}b");
        assert!(shorten(&"x".repeat(5000), 50, SMALL, false).len() < 20);
    }
}
