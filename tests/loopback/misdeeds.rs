//! Sources with one vice each, beside one honest node. Whatever they do, the model arrives as it is, soon, and they gain nothing by it.
//!
//! Each test lets the character be asked first: only then does the honest node come.

use p2pweights_node::report::FailureKind;
use p2pweights_protocol::geometry::GROUP_BYTES;
use p2pweights_protocol::ids::BlobHash;
use p2pweights_tests::content::{MIB, noise, write};
use p2pweights_tests::nodes::request;
use p2pweights_tests::wait::eventually;

use crate::hostile::{Babbler, Drip, FalseClaimer, Goods, Impostor, Liar, Mute, Proof, Resetter, SizeLiar};
use crate::stage::Stage;

/// Shards of the models here: enough that every source has something to do, small enough to travel in an instant.
const SHARDS: [usize; 4] = [MIB, MIB + 17, 2 * MIB, 300_000];

fn names(warnings: &[String], peer_id: &str) -> bool {
    warnings.iter().any(|warning| warning.contains(peer_id))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_liar_gains_nothing_and_is_banned_at_once() {
    let stage = Stage::new(&SHARDS).await;
    let liar = stage.character("liar", Liar { group: 0 }).await;
    let fetcher = stage.fetcher().await;
    let fetch = fetcher.start_fetch(stage.request());
    liar.until_asked().await;
    let (fetched, honest) = stage.rescued(&fetcher, fetch).await;
    assert_eq!((fetched.from(&liar.peer_id), fetched.from(&honest.peer_id)), (0, stage.bytes));
    assert!(names(&fetched.warnings, &liar.peer_id), "{:?}", fetched.warnings);
    assert!(!fetcher.is_connected(&liar.peer_id).await);
    assert!(liar.asked() <= 2, "a newcomer is trusted with two requests, not with {}", liar.asked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lie_costs_one_group_and_what_proved_before_it_stays() {
    let stage = Stage::new(&SHARDS).await;
    let liar = stage.character("liar", Liar { group: 3 }).await;
    let fetcher = stage.fetcher().await;
    let fetch = fetcher.start_fetch(stage.request());
    liar.until_asked().await;
    let (fetched, honest) = stage.rescued(&fetcher, fetch).await;
    // Three groups of the first answer at most (spans can be shorter); the second request died with the connection.
    assert!(fetched.from(&liar.peer_id) <= 3 * GROUP_BYTES, "{:?}", fetched.sources);
    assert_eq!(fetched.from(&liar.peer_id) + fetched.from(&honest.peer_id), stage.bytes);
    assert!(names(&fetched.warnings, &liar.peer_id), "{:?}", fetched.warnings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_claims_what_it_has_not_is_struck_and_banned() {
    let stage = Stage::new(&SHARDS).await;
    let claimer = stage.character("claimer", FalseClaimer).await;
    let fetcher = stage.fetcher().await;
    let mut fetch = fetcher.start_fetch(stage.request());
    // Each of its claims is tried once: three of them are enough.
    let banned = fetch.until("a ban", |event| match event {
        p2pweights_node::report::FetchEvent::Warning { message } => Some(message.clone()),
        _ => None,
    });
    assert!(banned.await.contains(&claimer.peer_id));
    let (fetched, honest) = stage.rescued(&fetcher, fetch).await;
    assert_eq!((fetched.from(&claimer.peer_id), fetched.from(&honest.peer_id)), (0, stage.bytes));
    assert!(!fetcher.is_connected(&claimer.peer_id).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mute_source_costs_a_bounded_delay() {
    let stage = Stage::new(&SHARDS).await;
    let mute = stage.character("mute", Mute).await;
    let fetcher = stage.fetcher().await;
    let fetch = fetcher.start_fetch(stage.request());
    mute.until_asked().await;
    let (fetched, honest) = stage.rescued(&fetcher, fetch).await;
    assert_eq!((fetched.from(&mute.peer_id), fetched.from(&honest.peer_id)), (0, stage.bytes));
    assert!(mute.asked() <= 2, "a newcomer is trusted with two requests, not with {}", mute.asked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_struck_when_its_deadline_passes() {
    let stage = Stage::new(&SHARDS).await;
    let mute = stage.character("mute", Mute).await;
    let fetcher = stage.fetcher().await;
    let fetch = fetcher.start_fetch(stage.request());
    mute.until_asked().await;
    eventually("a strike", async || (fetcher.strikes(&mute.peer_id).await > 0).then_some(())).await;
    let (fetched, _honest) = stage.rescued(&fetcher, fetch).await;
    assert_eq!(fetched.from(&mute.peer_id), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_drips_is_struck_and_overtaken() {
    let stage = Stage::new(&SHARDS).await;
    let drip = stage.character("drip", Drip).await;
    let fetcher = stage.fetcher().await;
    let fetch = fetcher.start_fetch(stage.request());
    drip.until_asked().await;
    eventually("a strike", async || (fetcher.strikes(&drip.peer_id).await > 0).then_some(())).await;
    let (fetched, honest) = stage.rescued(&fetcher, fetch).await;
    assert_eq!((fetched.from(&drip.peer_id), fetched.from(&honest.peer_id)), (0, stage.bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_breaks_off_is_left_alone() {
    let stage = Stage::new(&SHARDS).await;
    let resetter = stage.character("resetter", Resetter).await;
    let fetcher = stage.fetcher().await;
    let fetch = fetcher.start_fetch(stage.request());
    resetter.until_asked().await;
    // Three broken answers in a row, and it is hung up on for a while.
    eventually("a hang-up", async || (!fetcher.is_connected(&resetter.peer_id).await).then_some(())).await;
    let (fetched, honest) = stage.rescued(&fetcher, fetch).await;
    assert_eq!((fetched.from(&resetter.peer_id), fetched.from(&honest.peer_id)), (0, stage.bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_nothing_ends_the_stream_and_is_struck() {
    let stage = Stage::new(&SHARDS).await;
    let impostor = stage.character("impostor", Impostor).await;
    let fetcher = stage.fetcher().await;
    let fetch = fetcher.start_fetch(stage.request());
    impostor.until_asked().await;
    eventually("a strike", async || fetcher.has_struck(&impostor.peer_id).await.then_some(())).await;
    let (fetched, honest) = stage.rescued(&fetcher, fetch).await;
    assert_eq!((fetched.from(&impostor.peer_id), fetched.from(&honest.peer_id)), (0, stage.bytes));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn noise_instead_of_an_answer_ends_the_stream_and_is_struck() {
    let stage = Stage::new(&SHARDS).await;
    let babbler = stage.character("babbler", Babbler).await;
    let fetcher = stage.fetcher().await;
    let fetch = fetcher.start_fetch(stage.request());
    babbler.until_asked().await;
    eventually("a strike", async || fetcher.has_struck(&babbler.peer_id).await.then_some(())).await;
    let (fetched, honest) = stage.rescued(&fetcher, fetch).await;
    assert_eq!((fetched.from(&babbler.peer_id), fetched.from(&honest.peer_id)), (0, stage.bytes));
}

/// A plain blob by its bare hash: its size is what a provider says until it is proved.
async fn size_lie(proof: Proof, claimed: u64) {
    let stage = Stage::new(&[1000]).await;
    let content = noise(9, 3 * MIB + 5);
    let hash = BlobHash::of(&content);
    write(&stage.world.path("weights.bin"), &content);
    stage.world.publish("owner", &stage.world.path("weights.bin")).await;
    let liar = stage.character_with("liar", hash, Goods::new([content.clone()]), SizeLiar { claimed, proof }).await;
    let fetcher = stage.fetcher().await;
    let fetch = fetcher.start_fetch(request(&hash.to_string(), Some(stage.output())));
    liar.until_asked().await;
    let owner = stage.world.node("owner", &[&fetcher.address]).await;
    let fetched = fetch.done().await;
    assert_eq!((fetched.from(&liar.peer_id), fetched.from(&owner.peer_id)), (0, content.len() as u64));
    let placed = std::fs::read(stage.output().join(hash.to_string())).expect("it is placed");
    assert!(placed == content);
    match proof {
        Proof::Forged => eventually("a ban", async || (!fetcher.is_connected(&liar.peer_id).await).then_some(())).await,
        Proof::None => eventually("a strike", async || (fetcher.strikes(&liar.peer_id).await > 0).then_some(())).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_size_that_cannot_be_proved_is_not_believed() {
    size_lie(Proof::None, 1 << 40).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_size_with_a_forged_proof_is_a_lie() {
    size_lie(Proof::Forged, 3 * MIB as u64).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_nobody_honest_a_fetch_ends_with_a_reason_and_keeps_the_manifest_only() {
    let stage = Stage::new(&SHARDS).await;
    let liar = stage.character("liar", Liar { group: 0 }).await;
    let claimer = stage.character("claimer", FalseClaimer).await;
    let fetcher = stage.fetcher().await;
    let failure = fetcher.start_fetch(p2pweights_node::report::FetchRequest { timeout_s: 3, ..stage.request() }).failure().await;
    assert!(matches!(failure.kind, FailureKind::Incomplete | FailureKind::NotFound), "{failure:?}");
    assert!(liar.asked() > 0 && claimer.asked() > 0);
    assert!(!stage.output().exists(), "nothing is placed that is not proved");
}
