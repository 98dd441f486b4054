//! The targets as a picture: a bar for each, as long as it is good, and a line where the target lies.

use crate::figures::{Target, short};

const WIDTH: f64 = 1000.0;
const LEFT: f64 = 400.0;
const ROW: f64 = 34.0;
const TOP: f64 = 56.0;
/// Longest bar: twice as good as promised. Better ones are cut there; their figure stands beside them.
const MOST: f64 = 2.0;
/// Width of a bar that just meets its target.
const UNIT: f64 = 170.0;
/// Blue and vermilion, which colour-blind people tell apart (after Okabe and Ito).
const MET: &str = "#0072b2";
const MISSED: &str = "#d55e00";

/// An SVG file.
pub fn svg(targets: &[Target], subtitle: &str) -> String {
    let measured: Vec<(&Target, f64)> = targets.iter().filter_map(|target| Some((target, target.score()?))).collect();
    let height = TOP + ROW * measured.len() as f64 + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <title>Targets and figures</title>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"15\" font-weight=\"bold\">Targets and figures: a bar to the line or beyond meets its target</text>\n\
         <text x=\"16\" y=\"42\" font-size=\"10\" fill=\"#555555\">{}</text>\n",
        escaped(subtitle)
    );
    for (index, (target, score)) in measured.iter().enumerate() {
        let y = TOP + ROW * index as f64;
        let colour = if target.is_met() == Some(true) { MET } else { MISSED };
        let width = score.clamp(0.0, MOST) * UNIT;
        svg.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n<rect x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"18\" \
             fill=\"{colour}\"/>\n<text x=\"{:.1}\" y=\"{}\" font-size=\"11\">{} ({})</text>\n",
            LEFT - 10.0,
            y + 18.0,
            escaped(target.what),
            y + 5.0,
            LEFT + width.max(UNIT) + 6.0,
            y + 18.0,
            short(target.figure.unwrap_or_default()),
            escaped(&target.promise()),
        ));
    }
    let line = LEFT + UNIT;
    svg.push_str(&format!(
        "<line x1=\"{line}\" y1=\"{TOP}\" x2=\"{line}\" y2=\"{}\" stroke=\"#000000\" stroke-dasharray=\"4 3\"/>\n</svg>\n",
        height - 34.0
    ));
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
