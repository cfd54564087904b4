//! Connects a WebSocket with a viewer of a worker.
//!
//! The next frame is made only when the last one was sent, so nothing is queued for a client that does not read. Requests of
//! the client are performed in order, and read no faster than they are performed, except for sizes.

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use shed_api::stream::MAX_MESSAGE_BYTES;
use shed_api::worker::{WorkerClientFrame, WorkerServerFrame};
use shed_api::{Code, Problem};
use shed_core::{Error, InputWriter, MAX_IMAGE_BYTES, Viewer};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::State;
use crate::extract::Object;
use crate::streams::{CLOSE_GRACE, CallerEnd, Stream, close, close_grace_over, pings};

/// The largest message of a viewer, in bytes: an image in base64 and some JSON around it.
pub(crate) const MAX_VIEWER_MESSAGE_BYTES: usize = MAX_IMAGE_BYTES / 3 * 4 + (64 << 10);
/// The largest message of a read-only viewer, in bytes.
pub(crate) const MAX_READER_MESSAGE_BYTES: usize = MAX_MESSAGE_BYTES;
/// Queued requests of a client, in addition to one being performed and one being read.
const QUEUED_REQUESTS: usize = 2;
/// Problems that wait to be sent. Further ones are dropped.
const QUEUED_PROBLEMS: usize = 8;

/// A request that takes time and is queued.
enum Request {
    Input(Vec<u8>),
    Image { data: String, mime_type: String },
}

/// Serves a viewer until it or the client ends.
pub(crate) async fn watch(
    state: &State,
    socket: WebSocket,
    mut viewer: Viewer,
    writer: InputWriter,
) {
    let (mut sink, stream) = socket.split();
    let (problems, mut queued_problems) = mpsc::channel(QUEUED_PROBLEMS);
    let stop = state.app.stopping();
    let inbound = perform_requests(stream, &writer, &problems);
    tokio::pin!(inbound);
    let outbound = async {
        let mut ping = pings(state);
        loop {
            let next = viewer.next();
            tokio::pin!(next);
            // Kept while other messages are sent, so that a frame it has begun is not made twice.
            let frame = loop {
                let message = tokio::select! {
                    frame = &mut next => break frame,
                    Some(problem) = queued_problems.recv() => text(&WorkerServerFrame::Problem { problem }),
                    _ = ping.tick() => Message::Ping(Vec::new().into()),
                    () = stop.cancelled() => {
                        let text = "the server is shutting down; connect again";
                        break Some(WorkerServerFrame::Problem {
                            problem: Problem::new(Code::ShuttingDown, text),
                        });
                    }
                };
                sink.send(message).await?;
            };
            if let Some(frame) = frame {
                sink.send(text(&frame)).await?;
                if !stop.is_cancelled() {
                    continue;
                }
            }
            return close(&mut sink).await;
        }
    };
    let ended = tokio::select! {
        ended = outbound => match ended {
            Ok(()) => CallerEnd::Closed,
            Err(error) => {
                tracing::debug!(%error, "a viewer disconnected");
                // Input that it has sent before is still typed.
                timeout(CLOSE_GRACE, inbound).await.unwrap_or(CallerEnd::Closed)
            }
        },
        ended = &mut inbound => ended,
        () = close_grace_over(&stop) => CallerEnd::Closed,
    };
    ended.close(&mut sink).await;
}

fn text(frame: &WorkerServerFrame) -> Message {
    Message::text(serde_json::to_string(frame).unwrap_or_default())
}

/// Performs the client's requests until it disconnects.
async fn perform_requests(
    mut stream: Stream,
    writer: &InputWriter,
    problems: &mpsc::Sender<Problem>,
) -> CallerEnd {
    let (queue, mut queued) = mpsc::channel(QUEUED_REQUESTS);
    let report = |done: Result<(), Error>| {
        if let Err(error) = done {
            problems.try_send(error.problem()).ok();
        }
    };
    let act = async {
        while let Some(request) = queued.recv().await {
            report(match request {
                Request::Input(bytes) => writer.input(bytes).await,
                Request::Image { data, mime_type } => writer.image(&data, &mime_type).await,
            });
        }
    };
    let read = async move {
        while let Some(message) = stream.next().await {
            let request = match message {
                Err(error) => return CallerEnd::from_error(error),
                Ok(Message::Binary(bytes)) => Request::Input(bytes.into()),
                Ok(Message::Text(text)) => match frame(&text) {
                    Ok(WorkerClientFrame::Input { data }) => Request::Input(data.into_bytes()),
                    Ok(WorkerClientFrame::Image { data, mime_type }) => {
                        Request::Image { data, mime_type }
                    }
                    Ok(WorkerClientFrame::Resize { cols, rows }) => {
                        writer.resize(cols, rows);
                        continue;
                    }
                    Ok(WorkerClientFrame::Primary) => {
                        report(writer.claim());
                        continue;
                    }
                    Err(problem) => {
                        problems.try_send(*problem).ok();
                        continue;
                    }
                },
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => continue,
            };
            if queue.send(request).await.is_err() {
                break;
            }
        }
        // Requests that are queued already are still performed.
        drop(queue);
        CallerEnd::Closed
    };
    let (ended, ()) = tokio::join!(read, act);
    ended
}

fn frame(text: &str) -> Result<WorkerClientFrame, Box<Problem>> {
    let parsed = serde_json::from_str::<Object<WorkerClientFrame>>(text);
    parsed.map(|Object(frame)| frame).map_err(|error| {
        let text = format!(
            "invalid message; expected input, resize, image or primary as described in docs/API.md: {error}"
        );
        Box::new(Problem::new(Code::InvalidRequest, text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_four_kinds_of_frames_are_accepted() {
        let input = frame(r#"{"type":"input","data":"\u001b[A€"}"#).unwrap();
        assert_eq!(input, WorkerClientFrame::Input { data: "\x1b[A€".to_owned() });
        assert_eq!(frame(r#"{"type":"primary"}"#).unwrap(), WorkerClientFrame::Primary);
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"type":"input"}"#,
            r#"{"type":"input","data":1}"#,
            r#"{"type":"input","data":"","more":1}"#,
            r#"{"type":"resize","cols":-1,"rows":3}"#,
            r#"{"type":"resize","cols":70000,"rows":3}"#,
            r#"{"type":"exit"}"#,
            r#"["input"]"#,
        ] {
            assert!(frame(bad).is_err(), "{bad}");
        }
    }
}
