//! A peer as somebody to serve: what it could take, what it was granted, what is being sent to it.

use std::collections::VecDeque;
use std::time::Duration;

use super::io::PeerClass;
use super::peer::Load;
use crate::ids::{Prefix, RequestId};
use crate::time::Instant;

/// How long a peer that let credits expire is passed over; doubles with each time in a row.
const EXPIRED_PAUSE: Duration = Duration::from_secs(5);
/// A report older than this tells nothing any more. Whoever runs empty says so; acting on old reports makes all sources rush to the
/// same few peers.
const REPORT_LASTS: Duration = Duration::from_millis(100);
/// How full a peer is taken to be that has not said.
const FULL_AS_MOST: u32 = 500;
/// So many credits expired, less those used since, make an idler.
const IDLED_OFTEN: u32 = 4;
/// And so many used ones at most make up for it.
const IDLED_MAX: u32 = 16;
/// Doublings of that pause.
const EXPIRED_DOUBLINGS: u32 = 6;

/// A block being sent.
#[derive(Debug, Clone, Copy)]
pub struct Serving {
    /// The peer's name for it.
    pub request: RequestId,
    /// Since when.
    pub since: Instant,
    /// Payload bytes.
    pub bytes: u64,
}

/// A peer as somebody to serve.
#[derive(Debug, Clone)]
pub struct Taker {
    /// How it is reached.
    pub class: PeerClass,
    /// The network that it is in.
    pub prefix: Prefix,
    /// It was told that we hold something it wants.
    pub wants: bool,
    /// The load it last reported.
    pub load: Load,
    /// When.
    pub reported_at: Option<Instant>,
    /// Credits granted to it since.
    pub granted_since: usize,
    /// It handed credits back or let them expire: grant it nothing before this.
    pub skip_until: Instant,
    /// Times in a row that it let credits expire.
    pub expired_in_a_row: u32,
    /// Credits that it let expire, less those that it used since.
    idled: u32,
    /// It has used a credit.
    pub has_redeemed: bool,
    /// When it last used one.
    pub redeemed_at: Option<Instant>,
    /// When each unused credit was granted, and which grant it was.
    pub granted: VecDeque<(Instant, u64)>,
    /// What is being sent to it.
    pub serving: Vec<Serving>,
    /// Largest block granted to it.
    pub block_bytes: u32,
}

impl Taker {
    /// A peer that wants nothing yet.
    pub fn new(class: PeerClass, prefix: Prefix) -> Self {
        Self {
            class,
            prefix,
            wants: false,
            load: Load::default(),
            reported_at: None,
            granted_since: 0,
            skip_until: Instant::START,
            expired_in_a_row: 0,
            idled: 0,
            has_redeemed: false,
            redeemed_at: None,
            granted: VecDeque::new(),
            serving: Vec::new(),
            block_bytes: 0,
        }
    }

    /// Whether it would take a block.
    pub fn is_hungry(&self) -> bool {
        self.wants && self.load.limit > 0
    }

    /// Credits it holds and blocks being sent to it.
    pub fn out(&self) -> usize {
        self.granted.len() + self.serving.len()
    }

    /// How full it is, in thousandths: as it said lately, with what we gave it since; or, if it has not said anything lately, as full as
    /// most, and the fuller the more we have given it.
    pub fn fullness(&self, now: Instant) -> u32 {
        let of_limit = |held: usize| Load { held: u16::try_from(held).unwrap_or(u16::MAX), limit: self.load.limit }.fullness();
        if self.reported_at.is_some_and(|at| now - at < REPORT_LASTS) {
            of_limit(usize::from(self.load.held) + self.granted_since)
        } else {
            FULL_AS_MOST + of_limit(self.out())
        }
    }

    /// It used a credit.
    pub fn redeemed(&mut self, now: Instant) {
        self.has_redeemed = true;
        self.redeemed_at = Some(now);
        self.expired_in_a_row = 0;
        self.idled = self.idled.saturating_sub(1);
    }

    /// It let a credit expire.
    pub fn idled(&mut self) {
        self.idled = (self.idled + 1).min(IDLED_MAX);
    }

    /// Whether it lets credits expire again and again: what it says about itself counts for nothing.
    pub fn is_idler(&self) -> bool {
        self.idled >= IDLED_OFTEN
    }

    /// It let credits expire and used none meanwhile: passed over, longer each time.
    pub fn hoarded(&mut self, now: Instant) {
        let pause = EXPIRED_PAUSE * 2u32.pow(self.expired_in_a_row.min(EXPIRED_DOUBLINGS));
        self.expired_in_a_row += 1;
        self.skip_until = self.skip_until.max(now + pause);
    }

    /// It reports its load.
    pub fn report(&mut self, now: Instant, load: Load) {
        if self.load.limit == 0 && load.limit > 0 && self.expired_in_a_row == 0 {
            self.skip_until = now; // It handed back what it could not use then; now it can.
        }
        self.load = load;
        self.reported_at = Some(now);
        self.granted_since = 0;
    }
}
