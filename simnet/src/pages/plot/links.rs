//! How many copies came in over each shared link: one is what it takes.

use super::axis::Axis;
use super::frame::{Frame, Room};
use super::sketch::Anchor;
use super::style::{INK, LABEL, QUIET, SMALL, SWARM, SWARM_FAINT, WRONG, shorten, text_width};
use super::{Shape, card};
use crate::pages::figures::{copies, count};
use crate::pages::record::{LinkRecord, RunRecord};

/// Links that fit on a card; of more, those with the most copies are shown.
const MOST: usize = 24;
/// What is less of a copy than this cannot be seen, and is not explained.
const VISIBLE: f64 = 0.004;

pub(super) fn draw(run: &RunRecord, shape: Shape) -> (String, Frame) {
    let mut links: Vec<&LinkRecord> = run.links.iter().collect();
    links.sort_by(|a, b| b.bytes_in.cmp(&a.bytes_in).then_with(|| a.name.cmp(&b.name)));
    let title = finding(run, &links);
    let hidden = links.len().saturating_sub(MOST);
    links.truncate(MOST);

    let subtitle = if hidden > 0 {
        format!("Copies that came in over each shared link; {} with fewer are left out", count(hidden as u64))
    } else {
        "Copies that came in over each shared link".to_owned()
    };
    let again = links.iter().any(|link| run.copies(link.bytes_again) >= VISIBLE);
    let subtitle = if again { subtitle + "; orange: bytes that the site had already" } else { subtitle };
    let step = if links.len() > 8 { 19.0 } else { 26.0 };
    let name_room = i32::min(shape.width() / 3, links.iter().map(|link| text_width(&link.name, LABEL, false)).max().unwrap_or(0));
    let room = Room { left: f64::from(name_room) + 10.0, above: 22.0, right: 48.0 };
    let mut frame = card(run, shape, step * links.len() as f64 + 6.0, room, (&title, &subtitle, "copies"));
    let most = links.first().map_or(0.0, |link| run.copies(link.bytes_in));
    let x = Axis::linear(0.0, f64::max(1.1, most * 1.02)).laid(frame.left, frame.right);
    frame.grid_x(&x, "");

    for (index, link) in links.iter().enumerate() {
        let middle = frame.top + step * (index as f64 + 0.5) - 4.0;
        let (above, below) = (middle - step * 0.32, middle + step * 0.32);
        let end = x.at(run.copies(link.bytes_in));
        let fresh = x.at(run.copies(link.bytes_in.saturating_sub(link.bytes_again)));
        frame.sketch.fill((frame.left, above), (fresh, below), if index == 0 { SWARM } else { SWARM_FAINT });
        frame.sketch.fill((fresh, above), (end, below), WRONG);
        let name = shorten(&link.name, name_room, LABEL, false);
        frame.say(&name, (frame.left - 8.0, middle), Anchor::End, LABEL, false, INK);
        let value = copies(run.copies(link.bytes_in));
        frame.say(
            &value,
            (end.max(x.at(1.0)) + 6.0, middle),
            Anchor::Start,
            LABEL,
            index == 0,
            if index == 0 { SWARM } else { QUIET },
        );
    }
    let one = x.at(1.0);
    frame.sketch.path(vec![(one, frame.top - 6.0), (one, frame.bottom)], 1.5, INK);
    frame.say("one copy", (one, frame.top - 14.0), Anchor::Middle, SMALL, true, INK);
    frame.sketch.path(vec![(frame.left, frame.top - 6.0), (frame.left, frame.bottom)], 1.0, QUIET);
    (title, frame)
}

/// `links` are in order, the one with the most copies first.
fn finding(run: &RunRecord, links: &[&LinkRecord]) -> String {
    match links {
        [] => "There are no shared links".into(),
        [only] => format!("{} copies crossed the link of {}", copies(run.copies(only.bytes_in)), only.name),
        [most, .., least] => format!(
            "Between {} and {} copies crossed each of {} links",
            copies(run.copies(least.bytes_in)),
            copies(run.copies(most.bytes_in)),
            count(links.len() as u64),
        ),
    }
}
