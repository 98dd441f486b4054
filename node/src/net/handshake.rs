//! TLS handshakes, record by record: not a byte is read of what follows, for it belongs to whoever takes over.

use std::io::{self, Write};

use rustls::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::records::{HEADER_BYTES, LONGEST};

/// Shakes hands. Has no deadline of its own.
pub(super) async fn shake(socket: &mut TcpStream, connection: &mut Connection) -> io::Result<()> {
    loop {
        send(socket, connection).await?;
        if !connection.is_handshaking() {
            return Ok(());
        }
        let record = record(socket).await?;
        if let Err(error) = take(connection, &record) {
            // The other side is told why, if it still listens.
            let _ = send(socket, connection).await;
            return Err(error);
        }
    }
}

async fn send(socket: &mut TcpStream, connection: &mut Connection) -> io::Result<()> {
    let mut bytes = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut bytes as &mut dyn Write)?;
    }
    socket.write_all(&bytes).await
}

async fn record(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut record = vec![0; HEADER_BYTES];
    socket.read_exact(&mut record).await?;
    let body = usize::from(u16::from_be_bytes([record[3], record[4]]));
    if HEADER_BYTES + body > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    record.resize(HEADER_BYTES + body, 0);
    socket.read_exact(&mut record[HEADER_BYTES..]).await?;
    Ok(record)
}

fn take(connection: &mut Connection, mut record: &[u8]) -> io::Result<()> {
    while !record.is_empty() {
        // rustls takes nothing after a goodbye. It believes none before the handshake is over, but this loop must not depend on that.
        if connection.read_tls(&mut record)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        connection.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    }
    Ok(())
}
