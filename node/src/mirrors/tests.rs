//! The book of mirrors, in made-up time and without a network.

use super::*;
use crate::origin::{OriginSettings, Reach};

const SWARM: SwarmId = SwarmId(BlobHash([1; 32]));
const BLOB: BlobHash = BlobHash([2; 32]);
const OTHER: BlobHash = BlobHash([3; 32]);

fn at(seconds: u64) -> Instant {
    Instant::START + Duration::from_secs(seconds)
}

fn url(index: usize) -> MirrorUrl {
    MirrorUrl::parse(&format!("https://mirror-{index}.example/model")).expect("an address")
}

fn files() -> Arc<Catalogue> {
    let path = ShardPath::parse("weights.bin").expect("a path");
    Arc::new(Catalogue::from([(BLOB, (path, 1 << 20))]))
}

/// So many mirrors of one swarm, and what the engine is told of them.
fn mirrors(count: usize) -> (Mirrors, Vec<Input>) {
    let client = OriginClient::new(&OriginSettings::new(Reach::Public, "test")).expect("a client");
    let mut mirrors = Mirrors::default();
    let inputs = mirrors.add(at(0), SWARM, (0..count).map(url).collect(), &files(), client);
    (mirrors, inputs)
}

fn come(inputs: &[Input]) -> Vec<PeerId> {
    let come = inputs.iter().filter_map(|input| match input {
        Input::PeerConnected { peer, class: PeerClass::Mirror, .. } => Some(*peer),
        _ => None,
    });
    come.collect()
}

fn said(inputs: &[Input]) -> Vec<&Message> {
    let said = inputs.iter().filter_map(|input| match input {
        Input::Message { message, .. } => Some(message),
        _ => None,
    });
    said.collect()
}

#[tokio::test]
async fn a_mirror_says_what_its_catalogue_has_and_grants_unasked() {
    let (mirrors, inputs) = mirrors(1);
    let peer = mirror_peer(&url(0));
    assert_eq!(come(&inputs), [peer]);
    assert!(matches!(said(&inputs)[..], [Message::Grant { credits: CREDITS, .. }]), "{inputs:?}");
    let heard = mirrors.hear(peer, &Message::Interest { blobs: vec![BLOB, OTHER] });
    let have = Message::Have { blob: BLOB, size: 1 << 20, pieces: HavePieces::All };
    assert_eq!(said(&heard), [&have, &Message::HaveNot { blobs: vec![OTHER] }]);
    assert_eq!(mirrors.hear(peer, &Message::Load { held: 0, limit: 9 }), [], "it is not to be moved");
    assert_eq!(mirrors.hear(PeerId([9; 32]), &Message::Interest { blobs: vec![BLOB] }), [], "that is somebody else");
}

#[tokio::test]
async fn four_at_a_time_the_preferred_first_and_the_next_when_one_goes() {
    let (mut mirrors, inputs) = mirrors(6);
    let peers: Vec<PeerId> = (0..6).map(|index| mirror_peer(&url(index))).collect();
    assert_eq!(come(&inputs), peers[..4]);
    assert_eq!((mirrors.next_wakeup(), mirrors.review(at(5))), (None, vec![]), "who stands by wakes nobody");
    let (gone, warning) = mirrors.learn(at(5), peers[1], MirrorNews::Useless("it is a teapot".to_owned()));
    assert_eq!(gone, [Input::PeerGone { peer: peers[1] }]);
    assert!(warning.is_some_and(|text| text.contains("mirror-1") && text.contains("teapot")));
    assert_eq!(come(&mirrors.review(at(5))), [peers[4]]);
    assert_eq!(mirrors.learn(at(6), peers[1], MirrorNews::Useless(String::new())), (vec![], None), "once is enough");
}

#[tokio::test]
async fn a_pause_is_as_long_as_it_was_asked_for_or_doubles() {
    let (mut mirrors, _) = mirrors(1);
    let peer = mirror_peer(&url(0));
    let (gone, warning) = mirrors.learn(at(0), peer, MirrorNews::Busy(Some(Duration::from_secs(77))));
    assert_eq!((gone, warning), (vec![Input::PeerGone { peer }], None));
    assert_eq!(mirrors.learn(at(0), peer, MirrorNews::Busy(Some(Duration::from_secs(5)))), (vec![], None), "told already");
    assert_eq!((mirrors.next_wakeup(), come(&mirrors.review(at(76)))), (Some(at(77)), vec![]));
    assert_eq!(come(&mirrors.review(at(77))), [peer]);
    // The second in a row: twice the first.
    assert!(mirrors.hung_up(at(100), peer, HangupReason::Unresponsive).is_none());
    assert_eq!(mirrors.next_wakeup(), Some(at(120)));
    mirrors.review(at(120));
    assert!(mirrors.hung_up(at(130), peer, HangupReason::Banned).is_some_and(|text| text.contains("dropped")));
    assert_eq!((mirrors.next_wakeup(), mirrors.review(at(100_000))), (None, vec![]), "for good");
}

#[tokio::test]
async fn what_it_lacks_is_not_offered_again_and_a_wrong_address_not_asked_for_ever() {
    let (mut mirrors, _) = mirrors(1);
    let peer = mirror_peer(&url(0));
    let (told, _) = mirrors.learn(at(0), peer, MirrorNews::Lacks(BLOB));
    assert_eq!(said(&told), [&Message::HaveNot { blobs: vec![BLOB] }]);
    let heard = mirrors.hear(peer, &Message::Interest { blobs: vec![BLOB] });
    assert_eq!(said(&heard), [&Message::HaveNot { blobs: vec![BLOB] }]);
    let more = (1..LACKS).map(|index| mirrors.learn(at(0), peer, MirrorNews::Lacks(BlobHash([index as u8 + 9; 32]))).0);
    assert_eq!(more.flatten().filter(|input| matches!(input, Input::PeerGone { .. })).count(), 1);
    assert_eq!(mirrors.next_wakeup(), Some(at(10)));
}

#[tokio::test]
async fn with_the_last_fetch_a_mirror_goes() {
    let (mut mirrors, _) = mirrors(1);
    let peer = mirror_peer(&url(0));
    let client = mirrors.client.clone().expect("it was given one");
    let second = SwarmId(OTHER);
    assert_eq!(come(&mirrors.add(at(1), second, vec![url(0)], &files(), client)), [], "it is here already");
    assert_eq!(mirrors.leave(SWARM), []);
    assert!(mirrors.contains(peer));
    assert_eq!(mirrors.leave(second), [Input::PeerGone { peer }]);
    assert!(!mirrors.contains(peer));
}

#[test]
fn blocks_follow_what_an_answer_takes() {
    let mut site = Site::new(url(0));
    for (seconds, expected) in [(1, 1 << 20), (0, 2 << 20), (0, 4 << 20), (0, 4 << 20), (9, 2 << 20), (9, 1 << 20), (60, 1 << 19)]
    {
        site.fit_block(Duration::from_secs(seconds));
        assert_eq!(site.block_bytes, expected);
    }
    (0..9).for_each(|_| site.fit_block(Duration::from_secs(60)));
    assert_eq!(site.block_bytes, limits::BLOCK_MIN_BYTES);
}
