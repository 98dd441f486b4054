//! What changes while a run goes on: the use of uplinks, copies of pieces, who is there.

use super::axis::Axis;
use super::frame::{Frame, Room};
use super::labels::{Curve, label};
use super::sketch::{Anchor, Point};
use super::style::{INK, SMALL, SWARM, SWARM_AREA, SWARM_FAINT, TARGET, WRONG};
use super::{Shape, card};
use crate::pages::figures::{count, counted, percent, time, time_unit};
use crate::pages::record::{MomentRecord, RunRecord};

/// Steps that uplinks are drawn with: in more of them one sees single blocks begin and end.
const MOST_STEPS: usize = 100;

/// Time to the right, from the beginning to the last moment.
struct Timeline {
    axis: Axis,
    unit: &'static str,
    unit_s: f64,
}

impl Timeline {
    fn of(run: &RunRecord) -> Self {
        let end_s = run.moments.last().map_or(1.0, |moment| moment.at_s);
        let (unit, unit_s) = time_unit(end_s);
        Self { axis: Axis::linear(0.0, end_s / unit_s), unit, unit_s }
    }

    fn laid(self, frame: &Frame) -> Self {
        Self { axis: self.axis.laid(frame.left, frame.right), ..self }
    }

    fn at(&self, seconds: f64) -> f64 {
        self.axis.at(seconds / self.unit_s)
    }

    /// A line where the bound is, unless there is none to compare with.
    fn bound(&self, frame: &mut Frame, run: &RunRecord) {
        if run.staggered || run.bound_s <= 0.0 || run.bound_s / self.unit_s > self.axis.range().1 {
            return;
        }
        let x = self.at(run.bound_s);
        frame.sketch.path(vec![(x, frame.top - 2.0), (x, frame.bottom)], 1.5, INK);
        frame.say("bound", (x, frame.top - 10.0), Anchor::Middle, SMALL, true, INK);
    }
}

/// How much of the uplinks was used.
pub(super) fn uplinks(run: &RunRecord, shape: Shape) -> (String, Frame) {
    let half = run.moments.iter().position(|moment| u64::from(moment.finished) * 2 >= run.fetchers.max(1));
    let spans: Vec<(f64, &MomentRecord)> = spans(&run.moments).collect();
    let busy = mean_use(&spans[..=half.unwrap_or(spans.len() - 1)]);
    let until = if half.is_some() { "until half have finished" } else { "to the end" };
    let title = format!("Uplinks are {} busy on average {until}", percent(busy));
    let line = Timeline::of(run);
    let captions = (title.as_str(), "Use of all uplinks that are there", line.unit);
    let mut frame = card(run, shape, shape.height(), Room { left: 38.0, above: 16.0, right: 8.0 }, captions);
    let line = line.laid(&frame);
    let y = Axis::linear(0.0, 100.0).laid(frame.bottom, frame.top);
    frame.grid_x(&line.axis, "");
    frame.grid_y(&y, " %");

    let mut points: Vec<Point> = Vec::new();
    for span in spans.chunks(run.moments.len().div_ceil(MOST_STEPS)) {
        let (from_s, to_s) = (span[0].0, span[span.len() - 1].1.at_s);
        let height = y.at(mean_use(span) * 100.0);
        points.push((line.at(from_s), height));
        points.push((line.at(to_s), height));
    }
    let (first, last) = (points[0].0, points[points.len() - 1].0);
    let around = [(last, frame.bottom), (first, frame.bottom)];
    frame.sketch.area(points.iter().copied().chain(around).collect(), SWARM_AREA);
    frame.sketch.path(points, 1.5, SWARM);
    frame.ground();
    line.bound(&mut frame, run);
    (title, frame)
}

/// Each moment with the time since which its use of uplinks counts: that of the moment before, or the beginning.
fn spans(moments: &[MomentRecord]) -> impl Iterator<Item = (f64, &MomentRecord)> {
    let before = std::iter::once(0.0).chain(moments.iter().map(|moment| moment.at_s));
    before.zip(moments)
}

/// The mean use over these spans, each counted for as long as it is.
fn mean_use(spans: &[(f64, &MomentRecord)]) -> f64 {
    let lengths = spans.iter().map(|(from_s, to)| (to.at_s - from_s, to.uplinks_permille as f64 / 1e3));
    let (time, used) = lengths.fold((0.0, 0.0), |(time, used), (length, busy)| (time + length, used + length * busy));
    if time > 0.0 { used / time } else { 0.0 }
}

/// Copies of pieces.
pub(super) fn rarity(run: &RunRecord, shape: Shape) -> (String, Frame) {
    let most = run.moments.iter().map(|moment| moment.commonest).max().unwrap_or(0);
    let log = most > 12;
    let line = Timeline::of(run);
    let title = rarity_finding(run);
    let subtitle = format!(
        "Copies among those present: band from the rarest to the commonest piece, line: mean{}",
        if log { " (log scale)" } else { "" }
    );
    let mut frame =
        card(run, shape, shape.height(), Room { left: 38.0, above: 16.0, right: 8.0 }, (&title, &subtitle, line.unit));
    let line = line.laid(&frame);
    let high = f64::from(most.max(1)) * if log { 1.1 } else { 1.05 };
    let y = if log { Axis::log_from_zero(high) } else { Axis::linear(0.0, high) }.laid(frame.bottom, frame.top);
    frame.grid_x(&line.axis, "");
    frame.grid_y(&y, "");

    let curve = |copies: fn(&MomentRecord) -> f64| -> Vec<Point> {
        run.moments.iter().map(|moment| (line.at(moment.at_s), y.at(copies(moment)))).collect()
    };
    let commonest = curve(|moment| f64::from(moment.commonest));
    let mean = curve(|moment| moment.mean_permille as f64 / 1e3);
    let rarest = curve(|moment| f64::from(moment.rarest));
    frame.sketch.area(commonest.iter().chain(rarest.iter().rev()).copied().collect(), SWARM_AREA);
    frame.sketch.path(commonest.clone(), 1.0, SWARM_FAINT);
    frame.sketch.path(rarest.clone(), 1.5, SWARM);
    frame.sketch.path(mean.clone(), 2.5, SWARM);
    frame.ground();
    line.bound(&mut frame, run);
    let named = |name: &str, points, near| Curve { name: name.into(), points, colour: SWARM, bold: false, near };
    let bound = [line.at(run.bound_s)];
    label(&mut frame, &[named("rarest piece", rarest, 0.9), named("commonest piece", commonest, 0.1)], &bound);
    (title, frame)
}

fn rarity_finding(run: &RunRecord) -> String {
    // What is gone before anybody had it was never there.
    let rarest = || run.moments.iter().map(|moment| moment.rarest);
    let gone = run.moments.windows(2).filter(|pair| pair[1].rarest == 0).map(|pair| pair[1].at_s - pair[0].at_s).sum::<f64>();
    if run.gone_pieces > 0 {
        return format!(
            "At the end {} that somebody wants {} gone",
            counted(run.gone_pieces, "piece"),
            if run.gone_pieces == 1 { "is" } else { "are" }
        );
    }
    if gone > 0.0 {
        return format!("For {} nobody present held some piece", time(gone));
    }
    let lonely = run.moments.iter().rposition(|moment| moment.rarest < 2);
    match lonely.map(|index| run.moments.get(index + 1)) {
        None => format!("The rarest piece never has fewer than {}", copies(rarest().min().unwrap_or(0))),
        Some(Some(moment)) => format!("From {} on, nobody is the only one to hold a piece", time(moment.at_s)),
        Some(None) => "At the end some piece has one holder only".into(),
    }
}

fn copies(copies: u32) -> String {
    if copies == 1 { "1 copy".into() } else { format!("{} copies", count(u64::from(copies))) }
}

/// Who is there, and who has finished.
pub(super) fn population(run: &RunRecord, shape: Shape) -> (String, Frame) {
    let most = run.moments.iter().map(|moment| moment.present).max().unwrap_or(0);
    let title = format!("Never more than {} at once", counted(u64::from(most), "host"));
    let line = Timeline::of(run);
    let finished = run.moments.iter().map(|moment| moment.finished).max().unwrap_or(0);
    // Where hosts come and go, many more finish than are ever there: they would flatten the rest.
    let show_finished = finished <= most.saturating_mul(3);
    let subtitle = if show_finished {
        "Hosts that are there, fetchers that have finished".to_owned()
    } else {
        format!("Hosts that are there; {} have finished by the end", count(u64::from(finished)))
    };
    let room = Room { left: 46.0, above: 4.0, right: 8.0 };
    let mut frame = card(run, shape, shape.height(), room, (&title, &subtitle, line.unit));
    let line = line.laid(&frame);
    let high = if show_finished { most.max(finished) } else { most };
    let y = Axis::linear(0.0, f64::from(high.max(1)) * 1.05).laid(frame.bottom, frame.top);
    frame.grid_x(&line.axis, "");
    frame.grid_y(&y, "");
    let curve = |hosts: fn(&MomentRecord) -> u32| -> Vec<Point> {
        run.moments.iter().map(|moment| (line.at(moment.at_s), y.at(f64::from(hosts(moment))))).collect()
    };
    let present = curve(|moment| moment.present);
    frame.sketch.path(present.clone(), 2.5, SWARM);
    let mut curves = vec![Curve { name: "there".into(), points: present, colour: SWARM, bold: true, near: 0.5 }];
    if show_finished {
        let points = curve(|moment| moment.finished);
        frame.sketch.path(points.clone(), 1.5, TARGET);
        curves.push(Curve { name: "finished".into(), points, colour: TARGET, bold: false, near: 0.5 });
    }
    frame.ground();
    label(&mut frame, &curves, &[]);
    if run.ran_out_of_events {
        frame.say("stopped: too many events", (frame.right - 4.0, frame.top + 24.0), Anchor::End, SMALL, true, WRONG);
    }
    (title, frame)
}
