//! How much a peer says. Each message costs the engine the same whoever sends it, so one peer that talks without end takes the time of all.

use std::time::Duration;

use crate::limits;
use crate::time::Instant;

/// Messages beyond the allowance that make one strike.
const UNHEARD_PER_STRIKE: u32 = 1024;
/// What one message takes of the allowance.
const COST: Duration = Duration::from_nanos(1_000_000_000 / limits::MESSAGES_PER_S as u64);
/// The allowance of somebody who was silent for long.
const FULL: Duration = Duration::from_secs(1);

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// It is attended to.
    Heard,
    /// It is not.
    Unheard,
    /// Nor is it, and neither were many before it.
    TooMuch,
}

/// The account of one peer.
#[derive(Debug, Clone, Default)]
pub struct Chatter {
    /// From when on everything has been paid for, were it silent.
    paid_until: Instant,
    /// Answers that we have asked for, which are free.
    answers_due: usize,
    unheard: u32,
}

impl Chatter {
    /// We ask about so many blobs: an answer on each is awaited.
    pub fn expect(&mut self, answers: usize) {
        self.answers_due += answers;
    }

    /// A message has come; `is_answer` if it could be one that we asked for.
    pub fn hear(&mut self, now: Instant, is_answer: bool) -> Hearing {
        if is_answer && self.answers_due > 0 {
            self.answers_due -= 1;
            return Hearing::Heard;
        }
        let paid_until = self.paid_until.max(now) + COST;
        if paid_until <= now + FULL {
            self.paid_until = paid_until;
            return Hearing::Heard;
        }
        self.unheard += 1;
        if self.unheard.is_multiple_of(UNHEARD_PER_STRIKE) { Hearing::TooMuch } else { Hearing::Unheard }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Engine, EngineConfig, Input, Output, PeerClass};
    use crate::ids::{PeerId, Prefix};
    use crate::wire::Message;

    fn heard(chatter: &mut Chatter, now: Instant, messages: u32) -> u32 {
        (0..messages).map(|_| u32::from(chatter.hear(now, false) == Hearing::Heard)).sum()
    }

    #[test]
    fn a_second_of_talk_is_heard_at_once_and_no_more() {
        let (mut chatter, now) = (Chatter::default(), Instant::START);
        let most = limits::MESSAGES_PER_S;
        assert_eq!(heard(&mut chatter, now, 2 * most), most);
        let later = now + Duration::from_millis(500);
        assert_eq!(heard(&mut chatter, later, 2 * most), most / 2);
    }

    #[test]
    fn what_we_asked_for_is_free_and_talk_beyond_measure_is_told() {
        let (mut chatter, now) = (Chatter::default(), Instant::START);
        chatter.expect(100_000);
        assert!((0..100_000).all(|_| chatter.hear(now, true) == Hearing::Heard));
        assert_eq!(heard(&mut chatter, now, limits::MESSAGES_PER_S), limits::MESSAGES_PER_S);
        let hearings: Vec<Hearing> = (0..3 * UNHEARD_PER_STRIKE).map(|_| chatter.hear(now, true)).collect();
        assert_eq!(hearings.iter().filter(|hearing| **hearing == Hearing::TooMuch).count(), 3);
        assert!(!hearings.contains(&Hearing::Heard));
    }

    #[test]
    fn whoever_talks_without_end_is_banned() {
        let (peer, mut engine) = (PeerId([1; 32]), Engine::new(EngineConfig::default(), 1));
        let mut put = |input| {
            engine.handle(Instant::START, input);
            std::iter::from_fn(|| engine.poll_output()).any(|output| matches!(output, Output::Hangup { .. }))
        };
        put(Input::PeerConnected { peer, class: PeerClass::Wan, prefix: Prefix::default() });
        let said = (1..).find(|_| put(Input::Message { peer, message: Message::Load { held: 0, limit: 1 } }));
        assert_eq!(said, Some(limits::MESSAGES_PER_S + 3 * UNHEARD_PER_STRIKE));
    }
}
