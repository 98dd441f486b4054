//! The client against a server of raw bytes on loopback: redirects, tokens, ranges, deadlines, and who is not connected to.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A server that answers each request by its path, and remembers what it was asked.
struct Server {
    base: Url,
    asked: Arc<Mutex<Vec<String>>>,
    _task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let base = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(byte) => request.push(byte),
                            Err(_) => return,
                        }
                    }
                    let request = String::from_utf8(request).unwrap();
                    let path = request.split(' ').nth(1).unwrap().to_owned();
                    seen.lock().unwrap().push(request.to_ascii_lowercase());
                    let text = answer(&path);
                    if text == SILENCE {
                        // Until the client gives up.
                        let _ = stream.read_u8().await;
                    }
                    let _ = stream.write_all(text.as_bytes()).await;
                    if text == DRIP {
                        let mut drops = tokio::time::interval(Duration::from_millis(10));
                        while stream.write_all(b"x").await.is_ok() {
                            drops.tick().await;
                        }
                    }
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { base, asked, _task: task }
    }

    fn url(&self, path: &str) -> Url {
        self.base.join(path).unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

const SILENCE: &str = "";
/// After this head come single bytes without end.
const DRIP: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    answer(&format!("302 Found\r\nLocation: {to}\r\nX-Repo-Commit: abc"), "")
}

fn client(reach: Reach) -> OriginClient {
    OriginClient::new(&OriginSettings::new(reach, "test/1")).unwrap()
}

async fn body(answer: Answer) -> String {
    String::from_utf8(answer.whole(1000).await.unwrap()).unwrap()
}

#[tokio::test]
async fn redirects_are_followed_and_the_first_answer_is_remembered() {
    let server = Server::start(|path| match path {
        "/a/b?x=1" => redirect("../c?y=2"),
        "/c?y=2" => redirect("/d"),
        _ => answer("200 OK", "bytes"),
    })
    .await;
    let found = client(Reach::Anywhere).get(&server.url("a/b?x=1"), None, None).await.unwrap();
    assert_eq!(found.url(), &server.url("d"));
    assert_eq!(found.first_header("x-repo-commit"), Some("abc"));
    assert_eq!(body(found).await, "bytes");
    assert_eq!(server.asked().len(), 3);
    assert!(
        server
            .asked()
            .iter()
            .all(|request| request.contains("accept-encoding: identity") && request.contains("user-agent: test/1"))
    );
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let server = Server::start(|_| redirect("/again")).await;
    let error = client(Reach::Anywhere).get(&server.url(""), None, None).await.unwrap_err();
    assert!(matches!(error, OriginError::Redirects { .. }), "{error:?}");
    assert_eq!(server.asked().len(), REDIRECTS + 1);
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn a_token_goes_to_its_own_server_only() {
    let storage = Server::start(|_| answer("200 OK", "bytes")).await;
    let target = storage.url("signed?key=secret").to_string();
    let hub = Server::start(move |path| if path == "/first" { redirect("/second") } else { redirect(&target) }).await;
    let credentials = Credentials::new(&hub.base, "hf_secret\n").unwrap();
    let found = client(Reach::Anywhere).get(&hub.url("first"), Some(ByteRange::from(0)), Some(&credentials)).await.unwrap();
    assert_eq!(body(found).await, "bytes");
    assert!(hub.asked().iter().all(|request| request.contains("authorization: bearer hf_secret\r")));
    assert_eq!(hub.asked().len(), 2);
    let elsewhere = storage.asked().concat();
    assert!(!elsewhere.contains("hf_secret") && elsewhere.contains("range: bytes=0-\r"), "{elsewhere}");
    assert!(!format!("{credentials:?}").contains("hf_secret"));
    assert!(matches!(Credentials::new(&hub.base, "a\nb"), Err(OriginError::Token)));
}

#[tokio::test]
async fn redirects_that_lead_elsewhere_than_to_an_origin_are_refused() {
    for (target, part) in [
        ("file:///etc/passwd", "http"),
        ("ftp://127.0.0.1/x", "http"),
        ("http://user:word@127.0.0.1/x", "password"),
        ("http://[::1", "no address"),
        ("http:///", "no address"),
    ] {
        let server = Server::start(move |_| redirect(target)).await;
        let error = client(Reach::Anywhere).get(&server.url(""), None, None).await.unwrap_err();
        assert!(matches!(&error, OriginError::Redirect { problem, .. } if problem.contains(part)), "{target}: {error:?}");
    }
    let down = follow(&"https://a/".parse().unwrap(), &HeaderValue::from_static("http://a/?sig=secret")).unwrap_err().to_string();
    assert!(down.contains("away from https") && !down.contains("secret"), "{down}");
}

#[tokio::test]
async fn what_is_not_public_is_not_connected_to() {
    let server = Server::start(|_| answer("200 OK", "bytes")).await;
    let port = server.base.port().unwrap();
    for host in ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/").parse().unwrap();
        let error = client(Reach::Public).get(&url, None, None).await.unwrap_err();
        assert!(matches!(error, OriginError::Forbidden(_)), "{host}: {error:?}");
        assert_eq!(error.retry(), Retry::Never);
    }
    assert_eq!(server.asked(), Vec::<String>::new());
    let url = format!("http://localhost:{port}/").parse().unwrap();
    assert!(client(Reach::Anywhere).get(&url, None, None).await.is_ok());
}

#[tokio::test]
async fn a_range_is_what_was_asked_for_or_the_whole_file() {
    let server = Server::start(|path| match path {
        "/right" => answer("206 Partial Content\r\nContent-Range: bytes 2-4/10", "abc"),
        "/other" => answer("206 Partial Content\r\nContent-Range: bytes 3-5/10", "abc"),
        "/more" => answer("206 Partial Content\r\nContent-Range: bytes 2-9/10", "abcdefgh"),
        "/contradiction" => answer("206 Partial Content\r\nContent-Range: bytes 2-4/10", "ab"),
        "/nothing" => answer("206 Partial Content", "abc"),
        "/zipped" => answer("200 OK\r\nContent-Encoding: gzip", "abc"),
        "/busy" => answer("429 Too Many Requests\r\nRetry-After: 7\r\nX-Error-Message: slow down", ""),
        "/gone" => answer("404 Not Found", ""),
        _ => answer("200 OK", "0123456789"),
    })
    .await;
    let asked = ByteRange { first: 2, last: Some(4) };
    let part = async |path| client(Reach::Anywhere).get(&server.url(path), Some(asked), None).await.unwrap().part(asked);
    assert_eq!(part("right").await.unwrap(), Part { first: 2, bytes: Some(3), size: Some(10) });
    assert_eq!(part("whole").await.unwrap(), Part { first: 0, bytes: Some(10), size: Some(10) });
    for path in ["other", "more", "contradiction", "nothing", "zipped"] {
        assert!(matches!(part(path).await, Err(OriginError::Part { .. })), "{path}");
    }
    let busy = part("busy").await.unwrap_err();
    assert_eq!(busy.retry(), Retry::After(Some(Duration::from_secs(7))));
    assert!(busy.to_string().contains("429") && busy.to_string().contains("slow down"), "{busy}");
    assert_eq!(part("gone").await.unwrap_err().retry(), Retry::Never);
    assert!(server.asked()[0].contains("range: bytes=2-4\r"));
}

#[tokio::test]
async fn what_breaks_off_grows_or_is_silent_is_an_error() {
    let server = Server::start(|path| match path {
        "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_owned(),
        "/endless" => answer("200 OK", &"x".repeat(1001)),
        "/drip" => DRIP.to_owned(),
        _ => SILENCE.to_owned(),
    })
    .await;
    let get = async |path| client(Reach::Anywhere).get(&server.url(path), None, None).await;
    let short = get("short").await.unwrap().whole(1000).await.unwrap_err();
    assert!(matches!(short, OriginError::Body { .. }), "{short:?}");
    let endless = get("endless").await.unwrap().whole(1000).await.unwrap_err();
    assert!(matches!(endless, OriginError::TooLarge { limit: 1000, .. }), "{endless:?}");
    let settings = OriginSettings { read_deadline: Duration::from_millis(100), ..OriginSettings::new(Reach::Anywhere, "test/1") };
    let impatient = OriginClient::new(&settings).unwrap();
    let silent = impatient.get(&server.url("silent"), None, None).await.unwrap_err();
    assert!(matches!(silent, OriginError::Silent { .. }), "{silent:?}");
    assert_eq!(silent.retry(), Retry::After(None));
    // Its pauses are shorter than that, all of it takes longer.
    let settings = OriginSettings { read_deadline: Duration::from_secs(2), ..settings };
    let patient = OriginClient::new(&settings).unwrap();
    let drip = patient.get(&server.url("drip"), None, None).await.unwrap().whole(1_000_000).await.unwrap_err();
    assert!(matches!(drip, OriginError::Silent { after, .. } if after >= 2 * settings.read_deadline), "{drip:?}");
}

#[test]
fn a_strangers_text_is_made_safe_to_print() {
    assert_eq!(printable("  a\u{1b}[31m\r\nb\u{202e}c "), "a [31m  b c");
    assert_eq!(printable(&"x".repeat(1000)).len(), PRINTED);
    assert_eq!(shown(&"https://me:pw@h:8/p?sig=1#f".parse().unwrap()), "https://h:8/p");
}
