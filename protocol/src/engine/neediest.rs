//! Whom to grant the next block: the cheapest to reach first, among those the emptiest, ties at random. Pure choice.
//!
//! The emptiest receiver makes the best use of a block: this alone is worth a factor of three against receivers that pull from random
//! sources. Why each exception is made stands beside its number.

use std::collections::BTreeMap;
use std::time::Duration;

use super::io::PeerClass;
use super::taker::Taker;
use crate::ids::{PeerId, Prefix};
use crate::limits;
use crate::random::Random;
use crate::time::Instant;

/// Every so many grants the class of the peer does not count, so that nobody starves.
const CLASS_BLIND_EVERY: u64 = 10;
/// Credits out to a peer that has never used one, while others wait: a hoarder holds up no more than these.
const UNPROVED_CREDITS: usize = 2;
/// Of all credits, the part that peers of one network may hold while others wait: identities are free to mint, networks are not.
const PREFIX_SHARE: usize = 2;

/// The peer to grant the next credit, of `window` that may be out; `None` if none could use it. `grants_made`: grants so far;
/// `turnaround`: the longest that credits usually lie unused.
pub fn neediest(
    takers: &BTreeMap<PeerId, Taker>,
    now: Instant,
    grants_made: u64,
    window: usize,
    turnaround: Duration,
    random: &mut Random,
) -> Option<PeerId> {
    let class_counts = !(grants_made + 1).is_multiple_of(CLASS_BLIND_EVERY);
    let alone = takers.values().filter(|taker| taker.is_hungry()).nth(1).is_none();
    let able = |taker: &Taker| {
        let most = match (alone, taker.is_idler(), taker.has_redeemed) {
            (true, _, _) | (false, false, true) => limits::REQUESTS_PER_PEER,
            (false, true, _) => 1,
            (false, false, false) => UNPROVED_CREDITS,
        };
        // Who does not use what it has needs no more, whatever it says about itself.
        let lies_unused = !alone && taker.granted.front().is_some_and(|(at, _)| now - *at >= turnaround);
        taker.is_hungry() && taker.skip_until <= now && taker.out() < most.min(taker.load.limit.into()) && !lies_unused
    };
    let able = || takers.iter().filter(|(_, taker)| able(taker));
    let contested = |class: PeerClass, prefix: Prefix| {
        class != PeerClass::Lan && prefix != Prefix::default() && able().any(|(_, other)| other.prefix != prefix)
    };
    let crowded = |class: PeerClass, prefix: Prefix| {
        let mut held = takers.values().filter(|other| other.prefix == prefix).map(Taker::out);
        let (first, others) = (held.next().unwrap_or(0), held.next());
        let all = |second: usize| first + second + held.sum::<usize>();
        others.is_some_and(|second| all(second) >= (window / PREFIX_SHARE).max(UNPROVED_CREDITS)) && contested(class, prefix)
    };
    let mut best = None;
    for (peer, taker) in able() {
        let key = (taker.is_idler(), class_counts.then_some(taker.class), taker.fullness(now), random.any());
        if best.as_ref().is_none_or(|(other, _)| key < *other) && !crowded(taker.class, taker.prefix) {
            best = Some((key, *peer));
        }
    }
    best.map(|(_, peer)| peer)
}

#[cfg(test)]
mod tests {
    use super::super::peer::Load;
    use super::*;
    use crate::ids::RequestId;

    const NOW: Instant = Instant(1_000_000_000);

    fn taker(held: u16, limit: u16, class: PeerClass, prefix: u64) -> Taker {
        let mut taker = Taker::new(class, Prefix(prefix));
        taker.wants = true;
        taker.has_redeemed = true;
        taker.report(NOW, Load { held, limit });
        taker
    }

    fn choice(takers: &[Taker], grants_made: u64) -> Option<u8> {
        let takers = (0u8..).zip(takers).map(|(name, taker)| (PeerId([name; 32]), taker.clone())).collect();
        neediest(&takers, NOW, grants_made, 8, Duration::from_millis(250), &mut Random::new(7)).map(|peer| peer.0[0])
    }

    #[test]
    fn the_emptiest_of_the_cheapest_class() {
        let (far, near) = (PeerClass::Wan, PeerClass::Lan);
        assert_eq!(choice(&[taker(5, 10, far, 1), taker(3, 10, far, 2), taker(4, 20, far, 3)], 0), Some(2));
        assert_eq!(choice(&[taker(0, 10, far, 1), taker(9, 10, near, 2)], 0), Some(1), "cheap before empty");
        assert_eq!(choice(&[taker(0, 10, far, 1), taker(9, 10, near, 2)], 9), Some(0), "but not every time");
        assert_eq!(choice(&[taker(0, 0, far, 1)], 0), None, "wants nothing");
    }

    #[test]
    fn who_was_told_to_wait_waits_and_who_never_used_one_gets_few() {
        let mut waits = taker(0, 10, PeerClass::Wan, 1);
        waits.skip_until = NOW + Duration::from_nanos(1);
        assert_eq!(choice(&[waits, taker(9, 10, PeerClass::Wan, 2)], 0), Some(1));
        let mut unproved = taker(0, 10, PeerClass::Wan, 1);
        unproved.has_redeemed = false;
        unproved.granted = [(NOW, 0); UNPROVED_CREDITS].into();
        assert_eq!(choice(&[unproved.clone(), taker(9, 10, PeerClass::Wan, 2)], 0), Some(1));
        assert_eq!(choice(&[unproved], 0), Some(0), "unless nobody else waits");
        let mut idle = taker(0, 10, PeerClass::Wan, 1);
        idle.granted = [(Instant(NOW.0 - 250_000_000), 0)].into();
        assert_eq!(choice(&[idle, taker(9, 10, PeerClass::Wan, 2)], 0), Some(1), "who lets credits lie gets no more");
        let mut idler = taker(0, 10, PeerClass::Lan, 1);
        (0..4).for_each(|_| idler.idled());
        assert_eq!(choice(&[idler, taker(9, 10, PeerClass::Wan, 2)], 0), Some(1), "nor who did so again and again");
    }

    #[test]
    fn one_network_gets_half_while_others_wait() {
        let mut sybils: Vec<Taker> = (0..4).map(|_| taker(0, 10, PeerClass::Wan, 1)).collect();
        for sybil in &mut sybils {
            sybil.serving = vec![super::super::taker::Serving { request: RequestId(0), since: NOW, bytes: 0 }];
        }
        assert!(choice(&sybils, 0).is_some(), "nobody else waits");
        sybils.push(taker(9, 10, PeerClass::Wan, 2));
        assert_eq!(choice(&sybils, 0), Some(4));
    }
}
