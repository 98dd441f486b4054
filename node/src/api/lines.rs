//! Events as lines of JSON in an HTTP body, in both directions.

use axum::body::{Body, Bytes};
use futures::StreamExt;
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

/// Longest line a client takes: a plan that names every file of the largest manifest.
pub const LINE_BYTES: usize = 32 * 1024 * 1024;

/// A body with one line for each event. Dropping the body drops the receiver, which cancels what sends.
pub fn body<T: Serialize + Send + 'static>(events: mpsc::Receiver<T>) -> Body {
    let lines = futures::stream::unfold(events, |mut events| async move {
        let event = events.recv().await?;
        let mut line = serde_json::to_vec(&event).expect("reports have only text keys");
        line.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(line)), events))
    });
    Body::from_stream(lines.fuse())
}

/// Reads lines from a body as events, until it ends or nobody listens. `broken` is sent when it ends in the middle of a line.
pub async fn read<T: DeserializeOwned>(mut body: hyper::body::Incoming, events: mpsc::Sender<T>, broken: impl Fn(String) -> T) {
    let mut buffer = Vec::new();
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = events.closed() => return,
        };
        match frame {
            Some(Ok(frame)) => buffer.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Some(Err(error)) => return drop(events.send(broken(format!("the connection to the node broke: {error}"))).await),
            None if buffer.is_empty() => return,
            None => return drop(events.send(broken("the node stopped in the middle of an answer".to_owned())).await),
        }
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let event = serde_json::from_slice(&line).unwrap_or_else(|error| broken(format!("answer not understood: {error}")));
            if events.send(event).await.is_err() {
                return;
            }
        }
        if buffer.len() > LINE_BYTES {
            return drop(events.send(broken("the node's answer is too long".to_owned())).await);
        }
    }
}
