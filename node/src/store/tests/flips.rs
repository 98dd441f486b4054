//! Bit-rot: flipped bits in every kind of file of a store, while it is closed and while it is open. None may be served, each is found by a
//! scrub or harms nothing, and whatever was held is had again from a peer. `cargo test -p p2pweights-node --lib flips -- --nocapture`
//! prints the figures.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;

use super::*;

/// Flips in all, so many in each store: a store takes longer to copy and open than to read.
const FLIPS: usize = 1000;
const FLIPS_A_STORE: usize = 10;
/// All that happens follows from it.
const SEED: u64 = 5;

/// Numbers that look random and are the same on every run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// A store with blobs of every kind, closed, and the peers that have them.
struct Original {
    dir: TempDir,
    /// Where published files lie.
    _files: TempDir,
    peers: Vec<Peer>,
    held: BTreeMap<BlobHash, SpanSet>,
}

impl Original {
    fn new() -> Self {
        let (dir, files) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let store = Store::open(dir.path()).unwrap();
        let mut peers = Vec::new();
        // Small ones, of one group and of several, have no outboard.
        for size in [3000, 5 * GROUP_BYTES + 9] {
            peers.push(Peer::with_bytes(size));
            store.put_bytes(&peers.last().unwrap().bytes).unwrap();
        }
        for groups in [17, 40] {
            let peer = Peer::with_groups(groups);
            peer.send_all(&store);
            peers.push(peer);
        }
        let partial = Peer::with_groups(30);
        let writer = store.writer(partial.hash, partial.size()).unwrap();
        for run in [span(2, 9), span(15, 20), span(29, 30)] {
            partial.send(&writer, run);
        }
        writer.sync().unwrap();
        drop(writer);
        peers.push(partial);
        for (groups, mode) in [(25, PublishMode::Copy), (20, PublishMode::Reference)] {
            let peer = Peer::with_groups(groups);
            let path = files.path().join(groups.to_string());
            fs::write(&path, &peer.bytes).unwrap();
            publish(&store, &path, mode).unwrap();
            peers.push(peer);
        }
        let held = peers.iter().map(|peer| (peer.hash, store.blob(peer.hash).unwrap().held)).collect();
        store.close().unwrap();
        drop(store);
        Self { dir, _files: files, peers, held }
    }

    fn copy(&self) -> TempDir {
        let copy = TempDir::new().unwrap();
        copy_folder(self.dir.path(), copy.path());
        copy
    }
}

const KINDS: [&str; 4] = ["data", "outboard", "progress", "index"];

fn files_of_kind(dir: &Path, kind: &str) -> Vec<PathBuf> {
    let files = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(|entry| entry.unwrap().into_path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.is_file() && fs::metadata(path).unwrap().len() > 0)
        .filter(|path| {
            let within = path.strip_prefix(dir).unwrap().to_str().unwrap();
            if kind == "index" { within.starts_with("index") } else { within.starts_with("blobs") && within.ends_with(kind) }
        })
        .collect();
    files.sort();
    files
}

/// One flip: the file, the byte, and what it was before.
struct Flip {
    path: PathBuf,
    at: u64,
    before: u8,
}

fn flip_one(dir: &Path, kind: &str, draws: &mut Draws) -> Flip {
    let files = files_of_kind(dir, kind);
    let path = files[draws.below(files.len() as u64) as usize].clone();
    let at = draws.below(fs::metadata(&path).unwrap().len());
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ (1 << draws.below(8))], at).unwrap();
    Flip { path, at, before: byte[0] }
}

/// Asks for all that is said to be held. What comes must be right; returns whether all of it came.
fn serves_nothing_wrong(store: &Store, peer: &Peer) -> bool {
    let Ok(reader) = store.reader(peer.hash) else { return false };
    let mut all = true;
    for run in store.blob(peer.hash).unwrap().held.runs() {
        let mut rest = Some(run);
        while let Some(span) = rest {
            let mut sent = Vec::new();
            match reader.encode_span(span, &mut sent) {
                Ok(()) => {
                    assert!(sent == peer.encoded(span), "something wrong was served");
                    break;
                }
                Err(ReadError::Damaged { span: bad }) => {
                    assert!(peer.encoded(span).starts_with(&sent), "something wrong was served");
                    all = false;
                    rest = Span::new(bad.end(), span.end());
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    all
}

fn scrub(store: &Store) {
    let mut from = BlobHash([0; 32]);
    while let Some(blob) = store.next_held(from) {
        store.verify(blob).unwrap();
        let mut next = blob.0;
        let last = next.iter().rposition(|byte| *byte != 255).unwrap();
        next[last] += 1;
        next[last + 1..].fill(0);
        from = BlobHash(next);
    }
}

/// Brings what is missing of what was held.
fn mend(store: &Store, peer: &Peer, held: &SpanSet) {
    let status = store.blob(peer.hash);
    if status.is_some_and(|status| held.runs().all(|run| status.held.covers(run))) {
        return;
    }
    let writer = store.writer(peer.hash, peer.size()).unwrap();
    for run in held.runs() {
        writer.verified().gaps(run).into_iter().for_each(|gap| peer.send(&writer, gap));
    }
    writer.sync().unwrap();
}

#[test]
fn a_thousand_flipped_bits_are_found_or_harmless_and_mended_and_none_is_served() {
    let original = Original::new();
    let mut draws = Draws(SEED);
    let mut figures: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
    let mut repaired = 0;
    for round in 0..FLIPS / FLIPS_A_STORE {
        let dir = original.copy();
        // Every second store is open when its disk begins to rot.
        let open = (round % 2 == 1).then(|| Store::open(dir.path()).unwrap());
        let mut flips = Vec::new();
        for index in 0..FLIPS_A_STORE {
            let kind = KINDS[(round * FLIPS_A_STORE + index) % KINDS.len()];
            // The index's own marker is gone while the store is open, and the progress file is there always.
            flips.push((kind, flip_one(dir.path(), kind, &mut draws)));
        }
        let store = open.unwrap_or_else(|| Store::open(dir.path()).unwrap());
        for peer in &original.peers {
            serves_nothing_wrong(&store, peer);
        }
        scrub(&store);
        for peer in &original.peers {
            assert!(serves_nothing_wrong(&store, peer), "the scrub passed something over");
        }
        for (kind, Flip { path, at, before }) in &flips {
            let kept = fs::File::open(path).ok().and_then(|file| {
                let mut byte = [0];
                file.read_exact_at(&mut byte, *at).ok().map(|()| byte[0])
            });
            let hash = path.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().parse::<BlobHash>();
            let held_before = hash.as_ref().ok().map(|hash| &original.held[hash]);
            let held_now = hash.as_ref().ok().and_then(|hash| store.blob(*hash)).map(|status| status.held);
            let group = at / GROUP_BYTES;
            let outcome = match *kind {
                "data" if held_before.is_some_and(|held| held.contains(group)) => {
                    assert!(!held_now.is_some_and(|held| held.contains(group)), "damage is held");
                    0
                }
                "outboard" if kept == Some(*before) => 1,
                // What it says is not needed, or was read before, or is made again; all that is held proves, see above.
                _ => 2,
            };
            figures.entry(*kind).or_default()[outcome] += 1;
        }
        repaired += store.repairs().len();
        for peer in &original.peers {
            mend(&store, peer, &original.held[&peer.hash]);
        }
        assert_eq!(store.repairs(), []);
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        for peer in &original.peers {
            let held = store.blob(peer.hash).unwrap().held;
            assert!(original.held[&peer.hash].runs().all(|run| held.covers(run)), "not all is mended");
            assert!(serves_nothing_wrong(&store, peer));
        }
    }
    for (kind, [lost, remade, harmless]) in &figures {
        println!("{kind:9} {lost:4} found, not held any more; {remade:4} made again from the data; {harmless:4} harmless");
    }
    println!("{FLIPS} flips, 0 served, {repaired} complete blobs mended");
    assert!(figures["data"][0] > 100 && figures["outboard"][1] > 100, "{figures:?}");
}

#[test]
fn a_bit_that_flips_while_its_blob_is_served_costs_no_more_than_its_group() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(40);
    peer.send_all(&store);
    let (data, outboard, _) = files_of(&store, peer.hash);
    let reader = store.reader(peer.hash).unwrap();
    let whole = peer.geometry.whole().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let losses = Arc::clone(&told);
    store.on_loss(move |loss| losses.lock().unwrap().push(loss.clone()));
    // A parent: the data below is right, so nothing is lost, and the reader that saw it goes on.
    for pair in 0..39 {
        flip(&outboard, pair * 64 + 7);
        let Err(ReadError::Damaged { span: bad }) = reader.encode_span(whole, &mut std::io::sink()) else { panic!("not found") };
        store.suspect(peer.hash, bad).unwrap();
        assert!(serves_nothing_wrong(&store, &peer) && store.is_complete(peer.hash), "pair {pair}");
    }
    assert_eq!(*told.lock().unwrap(), []);
    // A group, blamed together with its neighbours because the parent above is wrong, too.
    flip(&data, 11 * GROUP_BYTES);
    flip(&data, 12 * GROUP_BYTES);
    store.suspect(peer.hash, whole).unwrap();
    assert_eq!(store.blob(peer.hash).unwrap().held, spans(&[(0, 11), (13, 40)]));
    let expected = Loss { hash: peer.hash, size: peer.size(), groups: spans(&[(11, 13)]), withdrawn: false };
    assert_eq!(*told.lock().unwrap(), [expected]);
    let repairs = store.repairs();
    assert_eq!((repairs.len(), repairs[0].damaged_bytes), (1, 2 * GROUP_BYTES));
    // After a restart it is still known what is to be mended, and forgotten once it is.
    let copy = crashed(&store);
    let copied = Store::open(copy.path()).unwrap();
    assert_eq!(copied.repairs(), repairs);
    mend(&copied, &peer, &whole.into());
    assert!(copied.repairs().is_empty() && copied.is_complete(peer.hash));
}

#[test]
fn files_that_are_gone_are_found_while_the_store_is_open() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let peer = Peer::with_groups(40);
    peer.send_all(&store);
    let (data, outboard, _) = files_of(&store, peer.hash);
    fs::remove_file(&outboard).unwrap();
    let report = store.verify(peer.hash).unwrap();
    assert!(report.outboard_mended && report.damaged.is_empty(), "{report:?}");
    assert!(serves_nothing_wrong(&store, &peer));
    fs::remove_file(&data).unwrap();
    assert_eq!(store.verify(peer.hash).unwrap().damaged.groups(), 40);
    assert_eq!(store.repairs().len(), 1);
    mend(&store, &peer, &spans(&[(0, 40)]));
    assert!(serves_nothing_wrong(&store, &peer) && store.is_complete(peer.hash));
}
