//! Randomness as an argument: one seeded stream, the same on every machine. ChaCha8 (rand_chacha), whose output is fixed by contract.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A seeded source of choices.
#[derive(Debug, Clone)]
pub struct Random(ChaCha8Rng);

impl Random {
    /// The stream that this seed names.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`; 0 when that is 0. The bias of the remainder is below 2^-32 for every bound used here.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.0.next_u64() % bound }
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below_u32(&mut self, bound: u32) -> u32 {
        u32::try_from(self.below(bound.into())).expect("below a 32-bit bound")
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0.next_u64()
    }
}
