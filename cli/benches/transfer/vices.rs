//! Sources with one vice each. They speak the wire through the node's own network layer and answer by hand: true bytes up to the point
//! where the vice sets in.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use p2pweights_node::identity;
use p2pweights_node::net::{BulkPath, BulkStream, Net, NetConfig, NetEvent};
use p2pweights_node::store::{BlobReader, Store};
use p2pweights_protocol::ids::{BlobHash, PeerId};
use p2pweights_protocol::limits;
use p2pweights_protocol::wire::{BULK_REQUEST_BYTES, BulkRequest, BulkResponse, BulkStatus, HavePieces, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Outcome;

/// Credits given at once; one more follows each request.
const CREDITS: u16 = 8;
/// Messages that a flooder sends in a millisecond.
const FLOOD: usize = 64;
/// Bytes of one write of a flooder.
const FLOOD_BYTES: usize = 256 * 1024;

/// What a source does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Vice {
    /// Stops in the middle of a span.
    Stalls,
    /// Sends one byte a second.
    Drips,
    /// Breaks the stream off in the middle of a span.
    Resets,
    /// Sends without end what nobody asked for, on both kinds of stream.
    Floods,
}

impl Vice {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Stalls, Self::Drips, Self::Resets, Self::Floods];

    /// Its name, which is its data dir's, too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stalls => "stalls",
            Self::Drips => "drips",
            Self::Resets => "resets",
            Self::Floods => "floods",
        }
    }
}

/// Plays a hostile source; `None` if there is no such role.
pub fn play(role: &[&str]) -> Option<Outcome> {
    let ["vice", name, data_dir, hash] = role else { return None };
    let vice = Vice::ALL.into_iter().find(|vice| vice.name() == *name)?;
    Some(serve(vice, Path::new(data_dir), hash))
}

fn serve(vice: Vice, data_dir: &Path, hash: &str) -> Outcome {
    let hash: BlobHash = hash.parse().map_err(|error| format!("{hash}: {error}"))?;
    let reader = Arc::new(Store::open(data_dir)?.reader(hash)?);
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
        let config = NetConfig {
            keypair: identity::load_or_create(data_dir)?,
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
            bootstrap: Vec::new(),
            network: "bench".to_owned(),
            mdns: false,
            agent: format!("hostile/{}", vice.name()),
            paths: BulkPath::ALL.to_vec(),
        };
        let (net, mut events) = Net::start(config).await?;
        let status = net.status().await?;
        let listen = status.listen.first().ok_or("it listens nowhere")?;
        println!("{}/p2p/{}", listen.to_string().split("/p2p/").next().unwrap_or_default(), status.peer);
        while let Some(event) = events.recv().await {
            answer(&net, vice, &reader, event);
        }
        Ok(())
    })
}

fn answer(net: &Net, vice: Vice, reader: &Arc<BlobReader>, event: NetEvent) {
    let (blob, size) = (reader.hash(), reader.geometry().size());
    match event {
        NetEvent::Message { peer, message: Message::Interest { blobs } } if blobs.contains(&blob) => {
            // A peer that has gone meanwhile hears nothing, here and below.
            let news = Message::Have { blob, size, pieces: HavePieces::All };
            let _ = net.send(peer, &news);
            // Only whoever fetches is flooded: the other bad ones, who know it from the DHT, would bear it for ever.
            if vice == Vice::Floods {
                tokio::spawn(flood_control(net.clone(), peer, news));
            }
        }
        NetEvent::Message { peer, message: Message::Load { limit: 1.., .. } } => grant(net, peer, CREDITS),
        NetEvent::Bulk { peer, stream } => {
            grant(net, peer, CREDITS);
            let (net, reader) = (net.clone(), Arc::clone(reader));
            tokio::spawn(async move {
                // An error is how a stream ends.
                let _ = bulk(&net, peer, vice, &reader, stream).await;
            });
        }
        _ => (),
    }
}

async fn bulk(net: &Net, peer: PeerId, vice: Vice, reader: &BlobReader, mut stream: BulkStream) -> io::Result<()> {
    let mut header = [0; BULK_REQUEST_BYTES];
    loop {
        stream.read_exact(&mut header).await?;
        let request = BulkRequest::decode(&header).map_err(io::Error::other)?;
        grant(net, peer, 1);
        let mut answer = BulkResponse { request: request.request, status: BulkStatus::Data }.encode().to_vec();
        reader.encode_span(request.span, &mut answer).map_err(io::Error::other)?;
        match vice {
            Vice::Stalls => {
                stream.write_all(&answer[..answer.len() / 2]).await?;
                stream.flush().await?;
                std::future::pending::<()>().await;
            }
            Vice::Drips => {
                let mut drops = tokio::time::interval(Duration::from_secs(1));
                for byte in answer {
                    drops.tick().await;
                    stream.write_all(&[byte]).await?;
                    stream.flush().await?;
                }
            }
            Vice::Resets => {
                stream.write_all(&answer[..answer.len() / 2]).await?;
                stream.flush().await?;
                return Ok(());
            }
            Vice::Floods => {
                stream.write_all(&answer).await?;
                let noise = vec![0xa5; FLOOD_BYTES];
                loop {
                    stream.write_all(&noise).await?;
                }
            }
        }
    }
}

/// The same news again and again, until the peer is gone or has had more than it reads.
async fn flood_control(net: Net, peer: PeerId, news: Message) {
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    loop {
        ticks.tick().await;
        if (0..FLOOD).any(|_| net.send(peer, &news).is_err()) {
            return;
        }
    }
}

fn grant(net: &Net, peer: PeerId, credits: u16) {
    let _ = net.send(peer, &Message::Grant { credits, block_bytes: limits::BLOCK_MIN_BYTES, hint: None });
}
