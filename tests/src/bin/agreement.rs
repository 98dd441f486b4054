//! Prints how far simnet and real nodes agree: `cargo run --release -p p2pweights-tests --bin agreement`. Takes about two minutes.

use std::time::Duration;

use p2pweights_tests::agreement::{Case, MBIT};

/// What is compared: sizes that take ten to twenty seconds.
const CASES: [Case; 4] = [
    Case { fetchers: 1, up_bytes_per_s: 40 * MBIT, down_bytes_per_s: 100 * MBIT, bytes: 60_000_000 },
    Case { fetchers: 4, up_bytes_per_s: 40 * MBIT, down_bytes_per_s: 100 * MBIT, bytes: 60_000_000 },
    Case { fetchers: 8, up_bytes_per_s: 40 * MBIT, down_bytes_per_s: 100 * MBIT, bytes: 60_000_000 },
    // The downlinks decide.
    Case { fetchers: 4, up_bytes_per_s: 40 * MBIT, down_bytes_per_s: 32 * MBIT, bytes: 50_000_000 },
];

#[tokio::main]
async fn main() {
    println!("fetchers  up      down     size    bound    simnet   real     real/simnet  first: simnet  real");
    for case in CASES {
        let agreement = case.run().await;
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        println!(
            "{:<9} {:<7} {:<8} {:<7} {:<8} {:<8} {:<8} {:<12.3} {:<14} {}{}",
            case.fetchers,
            format!("{}", case.up_bytes_per_s / MBIT),
            format!("{}", case.down_bytes_per_s / MBIT),
            format!("{} MB", case.bytes / 1_000_000),
            seconds(agreement.bound),
            seconds(agreement.simulated.last),
            seconds(agreement.real.last),
            agreement.ratio_permille() as f64 / 1000.0,
            seconds(agreement.simulated.first),
            seconds(agreement.real.first),
            if agreement.is_fair() {
                String::new()
            } else {
                format!("  (machine too busy: stalled {} permille)", agreement.stalled_permille)
            },
        );
    }
}
