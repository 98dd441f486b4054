//! How each kind of hosts fared, against the least time that each host needs by itself.

use super::axis::Axis;
use super::frame::{Frame, Room};
use super::sketch::Anchor;
use super::style::{INK, LABEL, QUIET, SMALL, SWARM, SWARM_FAINT, TARGET, WRONG, shorten, text_width};
use super::{Shape, card};
use crate::pages::figures::{count, ratio};
use crate::pages::record::{GroupRecord, RunRecord, share};

/// Groups that fit on a card; of more, the slowest are shown.
const MOST: usize = 24;

pub(super) fn draw(run: &RunRecord, shape: Shape) -> (String, Frame) {
    let last = |group: &GroupRecord| share(&group.slowdowns, group.fetchers, 1.0).unwrap_or(f64::INFINITY);
    let mut groups: Vec<&GroupRecord> = run.groups.iter().filter(|group| group.fetchers > 0).collect();
    // The slowest first.
    groups.sort_by(|a, b| last(b).total_cmp(&last(a)).then_with(|| a.name.cmp(&b.name)));
    let title = finding(&groups, last);
    groups.truncate(MOST);

    let step = if groups.len() > 8 { 20.0 } else { 30.0 };
    let name = |group: &GroupRecord| format!("{} ({})", group.name, count(group.fetchers));
    let widest = groups.iter().map(|group| text_width(&name(group), LABEL, false)).max().unwrap_or(0);
    let name_room = i32::min(shape.width() * 2 / 5, widest);
    let subtitle = "Light dot: half of the group have finished; dark dot: its last";
    let x = "time since it began / least time that it needs by itself";
    let room = Room { left: f64::from(name_room) + 14.0, above: 22.0, right: 50.0 };
    let mut frame = card(run, shape, step * groups.len() as f64 + 6.0, room, (&title, subtitle, x));
    let limit =
        run.expectations.iter().filter_map(|expectation| expectation.limit_permille).max().map(|limit| limit as f64 / 1e3);
    let ends = groups.iter().flat_map(|group| group.slowdowns.last()).copied().chain(limit);
    let high = ends.fold(1.1, |high: f64, end| high.max(end * 1.02));
    let axis = if high > 3.0 { Axis::log(0.95, high) } else { Axis::linear(0.98, high) }.laid(frame.left, frame.right);
    frame.grid_x(&axis, "×");
    upright(&mut frame, axis.at(1.0), "bound", limit.map(|limit| axis.at(limit)));

    for (index, group) in groups.iter().enumerate() {
        let y = frame.top + step * (index as f64 + 0.5) - 2.0;
        frame.say(&shorten(&name(group), name_room, LABEL, false), (frame.left - 12.0, y), Anchor::End, LABEL, false, INK);
        let half = share(&group.slowdowns, group.fetchers, 0.5).map(|half| axis.at(half));
        let end = last(group);
        if end.is_infinite() {
            let text = format!("{} never", count(group.fetchers - group.slowdowns.len() as u64));
            half.into_iter().for_each(|half| frame.sketch.dot((half, y), 4.5, SWARM_FAINT));
            frame.say(&text, (frame.right, y), Anchor::End, LABEL, true, WRONG);
            continue;
        }
        let at = axis.at(end);
        if let Some(half) = half {
            frame.sketch.path(vec![(half, y), (at, y)], 2.0, SWARM_FAINT);
            frame.sketch.dot((half, y), 4.5, SWARM_FAINT);
        }
        frame.sketch.dot((at, y), 5.5, SWARM);
        let colour = if limit.is_some_and(|limit| end > limit) { WRONG } else { QUIET };
        frame.say(&ratio(end), (at + 10.0, y), Anchor::Start, LABEL, colour == WRONG, colour);
    }
    (title, frame)
}

fn finding(groups: &[&GroupRecord], last: impl Fn(&GroupRecord) -> f64) -> String {
    let Some(slowest) = groups.first() else { return "Nobody fetches".into() };
    let end = last(slowest);
    if end.is_infinite() {
        let lacking = groups.iter().map(|group| group.fetchers - group.slowdowns.len() as u64).sum::<u64>();
        return format!(
            "{} never finished, in {}",
            count(lacking),
            if lacking == 1 { "one group" } else { "the groups shown first" }
        );
    }
    format!("No group needs more than {} × its own bound; the slowest is {}", ratio(end), slowest.name)
}

fn upright(frame: &mut Frame, bound: f64, name: &str, target: Option<f64>) {
    let above = frame.top - 6.0;
    frame.sketch.path(vec![(bound, above), (bound, frame.bottom)], 1.5, INK);
    frame.say(name, (bound + 3.0, above - 8.0), Anchor::End, SMALL, true, INK);
    if let Some(target) = target {
        frame.sketch.dashes((target, above), (target, frame.bottom), 1.5, TARGET);
        frame.say("target", (target.max(bound + 12.0) - 3.0, above - 8.0), Anchor::Start, SMALL, false, TARGET);
    }
}
