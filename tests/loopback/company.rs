//! One honest source in bad company: all vices at once, from the first moment on. What the bad ones do, and do not do, holds up nobody else.

use p2pweights_protocol::limits;
use p2pweights_tests::content::MIB;
use p2pweights_tests::wait::eventually;

use crate::hostile::{Drip, Flooder, Resetter, Staller};
use crate::stage::Stage;

/// Enough that every source is asked.
const SHARDS: [usize; 3] = [4 * MIB, 3 * MIB + 17, 300_000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_staller_a_drip_a_resetter_and_a_flooder_hold_up_nobody() {
    let stage = Stage::new(&SHARDS).await;
    let staller = stage.character("staller", Staller).await;
    let drip = stage.character("drip", Drip).await;
    let resetter = stage.character("resetter", Resetter).await;
    let flooder = stage.character("flooder", Flooder).await;
    let fetcher = stage.fetcher().await;
    let fetch = fetcher.start_fetch(stage.request());
    for character in [&staller, &drip, &resetter, &flooder] {
        character.until_asked().await;
    }
    let honest = stage.honest_joins(&fetcher).await;
    // The drip has not sent half a group by the time this test would be over without an end: that the fetch ends shows that nobody waits.
    let fetched = fetch.done().await;
    stage.assert_arrived();
    assert_eq!((fetched.bytes, fetched.held), (stage.bytes, 0));

    // Neither sent one group whole.
    assert_eq!((fetched.from(&drip.peer_id), fetched.from(&resetter.peer_id)), (0, 0));
    // The others sent what was true as far as it went: a block on each stream, and the third stream that ends badly is the last.
    let little = 3 * u64::from(limits::BLOCK_MIN_BYTES);
    for character in [&staller, &flooder] {
        assert!(fetched.from(&character.peer_id) <= little, "{:?}", fetched.sources);
    }
    let all: u64 = fetched.sources.iter().map(|source| source.bytes).sum();
    assert_eq!(all, stage.bytes, "each byte was counted once: {:?}", fetched.sources);
    assert!(fetched.from(&honest.peer_id) >= stage.bytes - 2 * little);

    // Whoever sends what was not asked for is struck; the honest one is not, whatever its company.
    eventually("a strike", async || fetcher.has_struck(&flooder.peer_id).await.then_some(())).await;
    assert!(fetcher.is_connected(&honest.peer_id).await);
    assert_eq!(fetcher.strikes(&honest.peer_id).await, 0);
    assert!(fetched.warnings.iter().all(|warning| !warning.contains(&honest.peer_id)), "{:?}", fetched.warnings);
    // None was asked on and on: two requests at a time are what a newcomer is trusted with, and the pauses after a break grow.
    for (name, character) in [("staller", &staller), ("drip", &drip), ("resetter", &resetter), ("flooder", &flooder)] {
        assert!(character.asked() <= 30, "the {name} was asked {} times", character.asked());
    }
}
