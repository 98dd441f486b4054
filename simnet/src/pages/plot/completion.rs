//! How many had finished by when, in multiples of the bound: the swarm, other seeds of it, the baselines, the bound and the targets.

use super::axis::Axis;
use super::frame::{Frame, Room};
use super::labels::{Curve, label};
use super::sketch::{Anchor, Point};
use super::style::{BASELINES, INK, SMALL, SWARM, SWARM_FAINT, TARGET, WRONG, shorten, text_width};
use super::{Shape, card};
use crate::pages::figures::{count, counted, ratio};
use crate::pages::record::{RunRecord, share};

/// Beyond this multiple of the bound, equal steps would leave no room for what is near it.
const FAR: f64 = 2.5;
/// How the names of baselines begin.
const MODEL: &str = "our model of ";

pub(super) fn draw(run: &RunRecord, others: &[&RunRecord], shape: Shape) -> (String, Frame) {
    let title = finding(run);
    let x = if run.staggered {
        "time since it began / least time that it needs by itself"
    } else {
        "time / the bound, which no protocol can beat"
    };
    let mut subtitle = String::from("Share of fetchers that have finished");
    if !others.is_empty() {
        subtitle += "; thin lines: other seeds";
    }
    // What is said once for all need not stand beside each.
    let is_modelled = !run.baselines.is_empty() && run.baselines.iter().all(|baseline| baseline.label.starts_with(MODEL));
    if is_modelled {
        subtitle += "; muted: our models of others in the same world";
    }
    let mut frame = card(run, shape, shape.height(), Room { left: 38.0, above: 18.0, right: 8.0 }, (&title, &subtitle, x));
    let swarm = run.ratios();
    let (x, y) = axes(run, others, &swarm, &frame);
    frame.grid_x(&x, "×");
    frame.grid_y(&y, " %");
    frame.ground();
    uprights(&mut frame, run, &x);

    let steps = |ratios: &[f64], of: u64| steps(ratios, of, &x, &y);
    for other in others {
        frame.sketch.path(steps(&other.ratios(), other.fetchers), 1.0, SWARM_FAINT);
    }
    let mut curves = Vec::new();
    for (baseline, colour) in run.baselines.iter().zip(BASELINES.iter().cycle()) {
        let ratios = run.baseline_ratios(baseline);
        let last = share(&ratios, baseline.fetchers, 1.0);
        let label = if is_modelled { &baseline.label[MODEL.len()..] } else { &baseline.label };
        let name = last.map_or_else(|| label.to_owned(), |last| format!("{label}, {}×", ratio(last)));
        let points = steps(&ratios, baseline.fetchers);
        frame.sketch.path(points.clone(), 1.5, *colour);
        curves.push(Curve { name, points, colour: *colour, bold: false, near: 0.5 });
    }
    let points = steps(&swarm, run.fetchers);
    frame.sketch.path(points.clone(), 3.0, SWARM);
    let name = run.last_ratio().map_or_else(|| "p2pweights".to_owned(), |last| format!("p2pweights, {}×", ratio(last)));
    curves.insert(0, Curve { name, points, colour: SWARM, bold: true, near: 0.5 });
    label(&mut frame, &curves, &limits(run).chain([1.0]).map(|limit| x.at(limit)).collect::<Vec<f64>>());
    missing(&mut frame, run);
    (title, frame)
}

fn finding(run: &RunRecord) -> String {
    let lacking = run.fetchers - run.finished().min(run.fetchers);
    let bound = if run.staggered { "its own bound" } else { "the bound" };
    let best = run.baselines.iter().filter_map(|baseline| share(&run.baseline_ratios(baseline), baseline.fetchers, 1.0));
    let best = best.min_by(f64::total_cmp).filter(|_| !run.staggered);
    let rest = best.map_or(String::new(), |best| format!("; the best baseline needs {} ×", ratio(best)));
    match (run.fetchers, lacking, run.last_ratio()) {
        (0, _, _) => "Nobody fetches".into(),
        (1, 0, Some(last)) => format!("The only fetcher needs {} × {bound}{rest}", ratio(last)),
        (all, 0, Some(last)) if run.staggered => {
            format!("The slowest of {} fetchers needs {} × {bound}", count(all), ratio(last))
        }
        (all, 0, Some(last)) => format!("The last of {} fetchers is done at {} × {bound}{rest}", count(all), ratio(last)),
        (all, lacking, _) => format!("{} of {} never finished", count(lacking), counted(all, "fetcher")),
    }
}

/// The targets, as multiples of the bound.
fn limits(run: &RunRecord) -> impl Iterator<Item = f64> {
    run.expectations.iter().filter_map(|expectation| expectation.limit_permille).map(|limit| limit as f64 / 1e3)
}

fn axes(run: &RunRecord, others: &[&RunRecord], swarm: &[f64], frame: &Frame) -> (Axis, Axis) {
    let baselines: Vec<Vec<f64>> = run.baselines.iter().map(|baseline| run.baseline_ratios(baseline)).collect();
    let other_seeds: Vec<Vec<f64>> = others.iter().map(|other| other.ratios()).collect();
    let curves = || std::iter::once(swarm).chain(baselines.iter().chain(&other_seeds).map(Vec::as_slice));
    let high =
        curves().filter_map(|curve| curve.last().copied()).chain(limits(run)).fold(1.1, |high: f64, end| high.max(end * 1.03));
    // The bound is what matters: what lies far below it is shown only where much does.
    let tenth = |curve: &[f64]| curve.get(curve.len() / 10).copied();
    let low = curves().filter_map(tenth).fold(0.9, f64::min);
    let low = if low < 0.9 { (low * 10.0 - 0.5).floor().max(0.0) / 10.0 } else { 0.9 };
    let x = if high > FAR { Axis::log(low.max(0.1), high) } else { Axis::linear(low, high) };
    (x.laid(frame.left, frame.right), Axis::linear(0.0, 100.0).laid(frame.bottom, frame.top))
}

/// A curve that rises by one fetcher at each completion time, and goes on to the right if some never finish.
fn steps(ratios: &[f64], of: u64, x: &Axis, y: &Axis) -> Vec<Point> {
    let mut points: Vec<Point> = Vec::new();
    let share = |finished: usize| 100.0 * finished as f64 / of.max(1) as f64;
    let before = ratios.iter().take_while(|ratio| **ratio < x.range().0).count();
    points.push((x.ends().0, y.at(share(before))));
    for (finished, ratio) in ratios.iter().enumerate().skip(before) {
        points.push((x.at(*ratio), y.at(share(finished))));
        points.push((x.at(*ratio), y.at(share(finished + 1))));
    }
    if (ratios.len() as u64) < of {
        points.push((x.ends().1, y.at(share(ratios.len()))));
    }
    points
}

/// The bound, and where the targets are.
fn uprights(frame: &mut Frame, run: &RunRecord, x: &Axis) {
    let above = frame.top - 11.0;
    let bound = x.at(1.0);
    frame.sketch.path(vec![(bound, frame.top - 2.0), (bound, frame.bottom)], 1.5, INK);
    frame.say("bound", (bound + 3.0, above), Anchor::End, SMALL, true, INK);
    let mut targets: Vec<(u64, &str)> = run
        .expectations
        .iter()
        .filter_map(|expectation| Some((expectation.limit_permille?, expectation.name.as_str())))
        .collect();
    targets.sort_unstable();
    targets.dedup_by_key(|(limit, _)| *limit);
    for (limit, _) in &targets {
        let at = x.at(*limit as f64 / 1e3);
        frame.sketch.dashes((at, frame.top - 2.0), (at, frame.bottom), 1.5, TARGET);
    }
    let first = targets.first().map(|(limit, _)| x.at(*limit as f64 / 1e3));
    let text = match &targets[..] {
        [] => return,
        [(limit, name)] => format!("target: {name} {}×", ratio(*limit as f64 / 1e3)),
        several => {
            let each: Vec<String> =
                several.iter().map(|(limit, name)| format!("{name} {}×", ratio(*limit as f64 / 1e3))).collect();
            format!("targets: {}", each.join(", "))
        }
    };
    let at = first.unwrap_or(bound).max(bound + 12.0) - 3.0;
    let room = f64::max(frame.right + 8.0 - at, (frame.right - frame.left) / 2.0);
    let text = shorten(&text, room as i32, SMALL, false);
    if at + f64::from(text_width(&text, SMALL, false)) <= frame.right + 8.0 {
        frame.say(&text, (at, above), Anchor::Start, SMALL, false, TARGET);
    } else {
        frame.say(&text, (frame.right, above), Anchor::End, SMALL, false, TARGET);
    }
}

/// Those who never finished are said where their part of the curve would be.
fn missing(frame: &mut Frame, run: &RunRecord) {
    if run.fetchers == 0 {
        frame.nothing("no fetchers");
    } else if run.finished() < run.fetchers {
        let text = format!("{} never", counted(run.fetchers - run.finished(), "fetcher"));
        frame.say(&text, (frame.right - 4.0, frame.top + 17.0), Anchor::End, SMALL, true, WRONG);
    }
}
