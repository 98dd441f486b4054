//! TLS 1.3 records (RFC 8446 §5) of a connection whose handshake is over, each direction by itself: one thread may encrypt while another
//! decrypts, in place, without a lock between them. Keys and ciphers are rustls's; only the cutting into records is done here.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::ops::Range;

use rustls::crypto::cipher::{InboundOpaqueMessage, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets, ProtocolVersion, SupportedCipherSuite};

/// Most payload of one record: exactly one chunk group.
pub const RECORD_BYTES: usize = 16 * 1024;
/// Type, version and length before every record.
pub const HEADER_BYTES: usize = 5;
/// Most that a record's body may be longer than its payload (RFC 8446 §5.2).
const EXPANSION: usize = 256;
/// The longest record as it travels.
pub const LONGEST: usize = HEADER_BYTES + RECORD_BYTES + EXPANSION;
/// Records under one key: AES-GCM's safety margin wears thin at 2^24 (RFC 8446 §5.5).
const MOST_RECORDS: u64 = 1 << 23;
/// Buffers in one system call.
const VECTORS: usize = 32;

/// Both directions of a connection.
pub struct Records {
    pub inbound: Inbound,
    pub outbound: Outbound,
}

impl Records {
    /// Takes over from rustls after a handshake; `suite` is what was agreed on.
    pub fn of(suite: Option<SupportedCipherSuite>, secrets: ExtractedSecrets) -> Result<Self, Error> {
        let Some(SupportedCipherSuite::Tls13(suite)) = suite else {
            return Err(Error::General("TLS 1.3 only".to_owned()));
        };
        let parts = |secrets| match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
            | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
            _ => Err(Error::General("unknown cipher".to_owned())),
        };
        let (next_in, (key_in, iv_in)) = (secrets.rx.0, parts(secrets.rx.1)?);
        let (next_out, (key_out, iv_out)) = (secrets.tx.0, parts(secrets.tx.1)?);
        Ok(Self {
            inbound: Inbound::new(suite.aead_alg.decrypter(key_in, iv_in), next_in),
            outbound: Outbound::new(suite.aead_alg.encrypter(key_out, iv_out), next_out),
        })
    }
}

/// The direction towards us.
pub struct Inbound {
    decrypter: Box<dyn MessageDecrypter>,
    next: u64,
    buffer: Vec<u8>,
    /// What has been read and not been decrypted.
    raw: Range<usize>,
    /// What has been decrypted and not been consumed.
    plain: Range<usize>,
    closed: bool,
}

impl Inbound {
    fn new(decrypter: Box<dyn MessageDecrypter>, next: u64) -> Self {
        Self { decrypter, next, buffer: Vec::new(), raw: 0..0, plain: 0..0, closed: false }
    }

    /// Records opened so far.
    pub fn records(&self) -> u64 {
        self.next
    }

    /// The payload at hand: what is left of one record.
    pub fn plain(&self) -> &[u8] {
        &self.buffer[self.plain.clone()]
    }

    /// So much of the payload has been used.
    pub fn consume(&mut self, bytes: usize) -> &[u8] {
        let from = self.plain.start;
        self.plain.start += bytes;
        &self.buffer[from..self.plain.start]
    }

    /// Whether the peer said that nothing follows.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Decrypts the next record if all of it has been read; the payload before it must have been consumed.
    pub fn open_next(&mut self) -> io::Result<bool> {
        debug_assert!(self.plain.is_empty(), "payload is lost");
        while let Some(&[kind, .., high, low]) = self.buffer[self.raw.clone()].first_chunk::<HEADER_BYTES>() {
            let body = usize::from(u16::from_be_bytes([high, low]));
            if body > RECORD_BYTES + EXPANSION {
                return Err(broken("record too long"));
            }
            let start = self.raw.start + HEADER_BYTES;
            if start + body > self.raw.end {
                return Ok(false);
            }
            if ContentType::from(kind) != ContentType::ApplicationData || self.next >= MOST_RECORDS {
                return Err(broken("unexpected record"));
            }
            let sealed = &mut self.buffer[start..start + body];
            let message = InboundOpaqueMessage::new(ContentType::ApplicationData, ProtocolVersion::TLSv1_2, sealed);
            let opened =
                self.decrypter.decrypt(message, self.next).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            self.next += 1;
            self.raw.start = start + body;
            match opened.typ {
                ContentType::ApplicationData if opened.payload.is_empty() => (),
                ContentType::ApplicationData => {
                    self.plain = start..start + opened.payload.len();
                    return Ok(true);
                }
                ContentType::Alert => {
                    self.closed = true;
                    return Ok(false);
                }
                _ => return Err(broken("unexpected message")),
            }
        }
        Ok(false)
    }

    /// Reads once, at most `most` bytes and what fits beside an unfinished record; returns how many, 0 at the end. Everything before must
    /// have been consumed and opened.
    pub fn fill(&mut self, mut from: impl Read, room: usize, most: usize) -> io::Result<usize> {
        let size = room.max(LONGEST);
        if self.buffer.len() < size {
            self.buffer.resize(size, 0);
        }
        if self.raw.start > 0 {
            self.buffer.copy_within(self.raw.clone(), 0);
            self.raw = 0..self.raw.len();
            self.plain = 0..0;
        }
        let end = self.buffer.len().min(self.raw.end.saturating_add(most));
        loop {
            match from.read(&mut self.buffer[self.raw.end..end]) {
                Ok(count) => {
                    self.raw.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives memory back while nothing comes: what is left is the room for one record.
    pub fn shrink(&mut self) {
        if self.buffer.len() <= LONGEST || !self.plain.is_empty() {
            return;
        }
        self.buffer.copy_within(self.raw.clone(), 0);
        self.raw = 0..self.raw.len();
        self.plain = 0..0;
        self.buffer.truncate(self.raw.end.max(LONGEST));
        self.buffer.shrink_to_fit();
    }
}

/// The direction from us.
pub struct Outbound {
    encrypter: Box<dyn MessageEncrypter>,
    next: u64,
    /// Records on their way.
    queue: VecDeque<Vec<u8>>,
    /// How much of the first one has gone.
    gone: usize,
    queued: usize,
}

impl Outbound {
    fn new(encrypter: Box<dyn MessageEncrypter>, next: u64) -> Self {
        Self { encrypter, next, queue: VecDeque::new(), gone: 0, queued: 0 }
    }

    /// Bytes that wait to be written.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Encrypts the bytes, in as many records as it takes.
    pub fn seal(&mut self, bytes: &[u8]) -> io::Result<()> {
        for payload in bytes.chunks(RECORD_BYTES) {
            if self.next >= MOST_RECORDS {
                return Err(broken("worn out: too many records under one key"));
            }
            let message = OutboundPlainMessage {
                typ: ContentType::ApplicationData,
                version: ProtocolVersion::TLSv1_2,
                payload: OutboundChunks::Single(payload),
            };
            let record = self.encrypter.encrypt(message, self.next).map_err(io::Error::other)?.encode();
            self.next += 1;
            self.queued += record.len();
            self.queue.push_back(record);
        }
        Ok(())
    }

    /// Writes once, at most `most` bytes of what waits; returns how many.
    pub fn write_to(&mut self, mut to: impl Write, most: usize) -> io::Result<usize> {
        let mut vectors = [IoSlice::new(&[]); VECTORS];
        let (mut used, mut left) = (0, most);
        for (index, (vector, record)) in vectors.iter_mut().zip(&self.queue).enumerate() {
            let rest = if index == 0 { &record[self.gone..] } else { &record[..] };
            let rest = &rest[..rest.len().min(left)];
            *vector = IoSlice::new(rest);
            left -= rest.len();
            used += 1;
            if left == 0 {
                break;
            }
        }
        let written = to.write_vectored(&vectors[..used])?;
        self.queued -= written;
        self.gone += written;
        while let Some(first) = self.queue.front() {
            if self.gone < first.len() {
                break;
            }
            self.gone -= first.len();
            self.queue.pop_front();
        }
        Ok(written)
    }
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use libp2p::identity::Keypair;
    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::{ClientConnection, Connection, ServerConnection};

    use super::super::certificates::Certificates;
    use super::*;

    /// Both ends of a connection, after a handshake in memory.
    pub(crate) fn ends() -> (Records, Records) {
        let keys = [Keypair::generate_ed25519(), Keypair::generate_ed25519()];
        let [ours, theirs] = keys.each_ref().map(|key| Certificates::new(key, "/test/1").expect("a certificate"));
        let client = Arc::new(ours.client(keys[1].public().to_peer_id()).expect("a configuration"));
        let name = ServerName::try_from("127.0.0.1").expect("an address");
        let mut client = Connection::from(ClientConnection::new(client, name).expect("a client"));
        let server = Arc::new(theirs.server().expect("a configuration"));
        let mut server = Connection::from(ServerConnection::new(server).expect("a server"));
        while client.is_handshaking() || server.is_handshaking() || client.wants_write() {
            for (from, to) in [(0, 1), (1, 0)] {
                let sides = [&mut client, &mut server];
                let mut bytes = Vec::new();
                while sides[from].wants_write() {
                    sides[from].write_tls(&mut bytes as &mut dyn Write).expect("memory takes everything");
                }
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    sides[to].read_tls(&mut rest).expect("room");
                    sides[to].process_new_packets().expect("a good handshake");
                }
            }
        }
        let [client, server] = [client, server].map(|end| {
            let suite = end.negotiated_cipher_suite();
            Records::of(suite, end.dangerous_extract_secrets().expect("secrets")).expect("TLS 1.3")
        });
        (client, server)
    }

    fn sealed(outbound: &mut Outbound, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        outbound.seal(payload).expect("sealed");
        while outbound.queued() > 0 {
            outbound.write_to(&mut bytes, usize::MAX).expect("memory takes everything");
        }
        bytes
    }

    /// All payload in these bytes, which are read a few at a time.
    fn opened(inbound: &mut Inbound, mut bytes: &[u8], most: usize) -> io::Result<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            while inbound.open_next()? {
                let there = inbound.plain().len();
                payload.extend_from_slice(inbound.consume(there));
            }
            if inbound.fill(&mut bytes, 40_000, most)? == 0 {
                return Ok(payload);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_sealed_opens_however_it_is_cut(sizes in prop::collection::vec(0..70_000usize, 1..6), most in 1..50_000usize) {
            let (mut client, mut server) = ends();
            let payload: Vec<u8> = sizes.iter().enumerate().flat_map(|(n, size)| vec![n as u8 + 1; *size]).collect();
            let mut bytes = Vec::new();
            let mut rest = &payload[..];
            for size in sizes {
                bytes.extend(sealed(&mut client.outbound, rest.split_off(..size).expect("as long as all sizes")));
            }
            prop_assert_eq!(opened(&mut server.inbound, &bytes, most).expect("opened"), payload);
        }
    }

    #[test]
    fn a_record_that_was_touched_moved_or_invented_is_an_error() {
        let (mut client, mut server) = ends();
        let [first, second] = [b"first", b"other"].map(|payload| sealed(&mut client.outbound, payload));
        for at in 0..first.len() {
            let mut touched = first.clone();
            touched[at] ^= 1;
            // A longer length waits for bytes that never come; everything else is found at once.
            if let Ok(payload) = opened(&mut ends().1.inbound, &touched, usize::MAX) {
                assert!(payload.is_empty(), "byte {at}: {payload:?}");
            }
        }
        assert!(opened(&mut ends().1.inbound, &second, usize::MAX).is_err(), "another connection's record");
        assert_eq!(opened(&mut server.inbound, &first, usize::MAX).expect("untouched"), b"first");
        assert!(opened(&mut server.inbound, &first, usize::MAX).is_err(), "the same record again");
        let (mut client, mut server) = ends();
        sealed(&mut client.outbound, b"lost");
        let second = sealed(&mut client.outbound, b"next");
        assert!(opened(&mut server.inbound, &second, usize::MAX).is_err(), "a record out of turn");
        for invented in [vec![0xff; 64], vec![23, 3, 3, 0xff, 0xff], vec![22, 3, 3, 0, 4, 1, 2, 3, 4]] {
            assert!(opened(&mut ends().1.inbound, &invented, usize::MAX).is_err(), "{invented:?}");
        }
    }

    #[test]
    fn a_key_is_not_used_for_ever() {
        let (mut client, mut server) = ends();
        client.outbound.next = MOST_RECORDS - 1;
        server.inbound.next = MOST_RECORDS - 1;
        let last = sealed(&mut client.outbound, b"last");
        assert_eq!(opened(&mut server.inbound, &last, usize::MAX).expect("opened"), b"last");
        assert!(client.outbound.seal(b"more").is_err());
        client.outbound.next = 0;
        let more = sealed(&mut client.outbound, b"more");
        assert!(opened(&mut server.inbound, &more, usize::MAX).is_err());
    }

    #[test]
    fn memory_is_given_back_and_nothing_with_it() {
        let (mut client, mut server) = ends();
        let bytes = [sealed(&mut client.outbound, &[7; RECORD_BYTES]), sealed(&mut client.outbound, &[8; 100])].concat();
        let (most, rest) = bytes.split_at(bytes.len() - 3);
        assert_eq!(opened(&mut server.inbound, most, usize::MAX).expect("opened"), [7; RECORD_BYTES]);
        server.inbound.shrink();
        assert_eq!(server.inbound.buffer.len(), LONGEST);
        assert_eq!(opened(&mut server.inbound, rest, usize::MAX).expect("opened"), [8; 100]);
    }
}
