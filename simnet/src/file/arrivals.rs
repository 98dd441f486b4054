//! When the hosts of a group begin, in whole nanoseconds: chance without floating point.

use std::time::Duration;

use p2pweights_protocol::random::Random;

use super::either::Either;
use super::tables::StartsTable;
use crate::units::Time;

/// Hosts of one group that may come one after the other: a typo in a frequency must not fill the memory.
const MOST: usize = 1_000_000;

/// When each host begins. `count`: how many there are; `None`: as many as come.
pub fn starts(starts: Option<&Either<Time, StartsTable>>, count: Option<usize>, random: &mut Random) -> Vec<Duration> {
    match starts {
        None => vec![Duration::ZERO; count.unwrap_or(0)],
        Some(Either::Simple(at)) => vec![at.0; count.unwrap_or(0)],
        Some(Either::Table(table)) => {
            let from = table.from.map_or(Duration::ZERO, |from| from.0);
            if let Some(within) = table.uniform {
                let nanos = u64::try_from(within.0.as_nanos()).unwrap_or(u64::MAX);
                let mut all: Vec<Duration> =
                    (0..count.unwrap_or(0)).map(|_| from + Duration::from_nanos(random.below(nanos))).collect();
                all.sort_unstable();
                return all;
            }
            let gap = table.poisson.map_or(Duration::MAX, |frequency| frequency.0);
            let mut all = Vec::new();
            let mut at = from;
            while all.len() < count.unwrap_or(MOST) {
                at = at.saturating_add(exponential(gap, random));
                if table.until.is_some_and(|until| at > until.0) {
                    break;
                }
                all.push(at);
            }
            all
        }
    }
}

/// A time that is exponentially distributed around a mean, by von Neumann's method: nothing but comparisons of random numbers. The first
/// number of a falling run of odd length is the fraction; each run of even length before it counts as one whole mean.
fn exponential(mean: Duration, random: &mut Random) -> Duration {
    let mean = mean.as_nanos().min(u128::from(u64::MAX / 64));
    let mut whole = 0;
    loop {
        let first = random.any();
        let (mut last, mut length) = (first, 1);
        loop {
            let next = random.any();
            if next >= last {
                break;
            }
            (last, length) = (next, length + 1);
        }
        if length % 2 == 1 {
            let nanos = mean * whole + ((mean * u128::from(first)) >> 64);
            return Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        whole += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_times_have_their_mean_and_shape() {
        let mut random = Random::new(1);
        let mut times: Vec<u128> = (0..20_000).map(|_| exponential(Duration::from_secs(1), &mut random).as_millis()).collect();
        let mean = times.iter().sum::<u128>() / 20_000;
        assert!((980..1020).contains(&mean), "{mean}");
        times.sort_unstable();
        assert!((675..711).contains(&times[10_000]), "the median is ln 2: {}", times[10_000]);
        assert!((2920..3080).contains(&times[19_000]), "95 % are below ln 20: {}", times[19_000]);
    }

    #[test]
    fn hosts_come_until_it_is_over() {
        let come = |poisson: &str, until: Option<&str>, count| {
            let table = StartsTable {
                poisson: Some(poisson.parse().unwrap()),
                uniform: None,
                from: Some("10 s".parse().unwrap()),
                until: until.map(|until| until.parse().unwrap()),
            };
            starts(Some(&Either::Table(table)), count, &mut Random::new(3))
        };
        let hour = come("10/s", Some("110 s"), None);
        assert!((900..1100).contains(&hour.len()), "{}", hour.len());
        assert!(hour.is_sorted() && hour[0] > Duration::from_secs(10) && hour[hour.len() - 1] <= Duration::from_secs(110));
        assert_eq!(come("10/s", None, Some(5)).len(), 5);
    }
}
