//! A set of blocks, one bit each. Iterates from the lowest to the highest.

/// A set of blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// None of so many blocks.
    pub fn none(blocks: usize) -> Self {
        Self(vec![0; blocks.div_ceil(64)])
    }

    /// Whether a block is in it.
    pub fn has(&self, block: u32) -> bool {
        self.0[block as usize / 64] >> (block % 64) & 1 == 1
    }

    /// Puts a block in.
    pub fn add(&mut self, block: u32) {
        self.0[block as usize / 64] |= 1 << (block % 64);
    }

    /// Takes a block out.
    pub fn remove(&mut self, block: u32) {
        self.0[block as usize / 64] &= !(1 << (block % 64));
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Whether a block is in both.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// The blocks in it.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().zip(0..).flat_map(|(word, place)| ones(*word, place))
    }

    /// The blocks in both.
    pub fn both<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = u32> + 'a {
        self.0.iter().zip(&other.0).zip(0..).flat_map(|((a, b), place)| ones(a & b, place))
    }

    /// How many are in both.
    pub fn count_both(&self, other: &Self) -> usize {
        self.0.iter().zip(&other.0).map(|(a, b)| (a & b).count_ones() as usize).sum()
    }
}

fn ones(mut word: u64, place: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(place * 64 + bit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_there() {
        let (mut a, mut b) = (Bits::none(130), Bits::none(130));
        [0, 63, 64, 129].into_iter().for_each(|block| a.add(block));
        [1, 63, 129].into_iter().for_each(|block| b.add(block));
        assert_eq!(a.both(&b).collect::<Vec<_>>(), [63, 129]);
        assert_eq!((a.count(), a.count_both(&b), a.meets(&b), a.is_empty()), (4, 2, true, false));
        a.remove(63);
        a.remove(129);
        assert!(!a.meets(&b) && !a.has(63) && a.has(64));
        assert_eq!(a.iter().collect::<Vec<_>>(), [0, 64]);
    }
}
