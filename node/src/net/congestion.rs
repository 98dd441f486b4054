//! Which congestion control a direct TCP connection has. The kernel's default, Cubic as a rule, takes every lost packet for a full queue:
//! at 100 ms and 1 % loss it keeps 1.3 of 100 Mbit/s. BBR (draft-ietf-ccwg-bbr) goes by the rate measured instead, and keeps 80.

use std::time::Duration;

use tokio::net::TcpStream;

/// Links with shorter round trips than this keep the kernel's default: what is lost there is sent again before anybody notices, and BBR's
/// pacing would cost two thirds of what a loopback connection can carry.
const SHORT: Duration = Duration::from_millis(2);

/// Has the kernel send by BBR on a connection with a round trip that is not short, where it offers that. `round_trip` may be too long: it is
/// what a handshake took.
pub(super) fn tolerate_loss(stream: &TcpStream, round_trip: Duration) {
    // On a busy machine a handshake with oneself may take long as well.
    let near = stream.peer_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback());
    if !near
        && round_trip >= SHORT
        && let Err(error) = set_bbr(stream)
    {
        tracing::debug!(%error, "no BBR on a direct connection");
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn set_bbr(stream: &TcpStream) -> std::io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_congestion(b"bbr")
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn set_bbr(_: &TcpStream) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn algorithm(stream: &TcpStream) -> String {
        let name = socket2::SockRef::from(stream).tcp_congestion().expect("it has one");
        String::from_utf8(name).expect("text").trim_end_matches('\0').to_owned()
    }

    #[tokio::test]
    async fn connections_within_the_machine_stay_as_they_are() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let before = algorithm(&stream);
        tolerate_loss(&stream, Duration::from_secs(1));
        assert_eq!(algorithm(&stream), before);
    }

    #[tokio::test]
    async fn the_kernel_is_asked_for_bbr_where_it_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let offered = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap_or_default();
        if offered.split_whitespace().any(|name| name == "bbr") {
            set_bbr(&stream).expect("offered");
            assert_eq!(algorithm(&stream), "bbr");
        }
    }
}
