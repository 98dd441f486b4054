//! Spreads moments in time, so that nodes started together do not act together. Deterministic: the same seed and case, the same moment.

use std::time::Duration;

/// `base`, give or take up to a tenth.
pub fn spread(base: Duration, seed: u64, case: &[u8]) -> Duration {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(case);
    let bytes = hasher.finalize();
    let draw = u32::from_le_bytes(bytes.as_bytes()[..4].try_into().expect("four bytes"));
    base.mul_f64(0.9 + 0.2 * f64::from(draw) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_stay_within_a_tenth_and_differ() {
        let base = Duration::from_secs(100);
        let drawn: std::collections::BTreeSet<_> = (0..50u8).map(|case| spread(base, 7, &[case])).collect();
        assert!(drawn.len() > 40);
        assert!(drawn.iter().all(|at| (90..=110).contains(&at.as_secs())));
        assert_eq!(spread(base, 7, b"x"), spread(base, 7, b"x"));
    }
}
