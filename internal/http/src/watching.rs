//! Copying between a WebSocket and a viewer of a worker.
//!
//! A frame is made when the last one is on its way, so nothing waits for a caller who does not read. What a caller sends is
//! done in order, and read no faster than it is done, but for sizes.

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use shed_api::stream::MAX_MESSAGE_BYTES;
use shed_api::worker::{WorkerClientFrame, WorkerServerFrame};
use shed_api::{Code, Problem};
use shed_core::{Error, Hands, MAX_IMAGE_BYTES, Viewer};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::State;
use crate::extract::Object;
use crate::streams::{FAREWELL_LIMIT, Parted, Stream, close, overdue, pings};

/// The largest message of a viewer: a picture in base64, with something around it.
pub(crate) const MAX_VIEWER_MESSAGE_BYTES: usize = MAX_IMAGE_BYTES / 3 * 4 + (64 << 10);
/// The largest message of one who only looks.
pub(crate) const MAX_READER_MESSAGE_BYTES: usize = MAX_MESSAGE_BYTES;
/// What is asked for and waits to be done. With one being done and one being read.
const ASKED: usize = 2;
/// Problems that wait to be told. Who makes more does not hear of all.
const PROBLEMS: usize = 8;

/// What takes time.
enum Asked {
    Input(Vec<u8>),
    Image { data: String, mime_type: String },
}

/// Copies until the viewer or the caller ends.
pub(crate) async fn watch(state: &State, socket: WebSocket, mut viewer: Viewer, hands: Hands) {
    let (mut sink, stream) = socket.split();
    let (problems, mut to_tell) = mpsc::channel(PROBLEMS);
    let stop = state.app.stopping();
    let inbound = take(stream, &hands, &problems);
    tokio::pin!(inbound);
    let outbound = async {
        let mut ping = pings(state);
        loop {
            let next = viewer.next();
            tokio::pin!(next);
            // Kept while other things are said: what it has begun to draw is not drawn twice.
            let frame = loop {
                let message = tokio::select! {
                    frame = &mut next => break frame,
                    Some(problem) = to_tell.recv() => text(&WorkerServerFrame::Problem { problem }),
                    _ = ping.tick() => Message::Ping(Vec::new().into()),
                    () = stop.cancelled() => {
                        let text = "the server is going away; connect again";
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
    let parted = tokio::select! {
        ended = outbound => match ended {
            Ok(()) => Parted::Closed,
            Err(error) => {
                tracing::debug!(%error, "a viewer went away");
                // What it typed before that is typed.
                timeout(FAREWELL_LIMIT, inbound).await.unwrap_or(Parted::Closed)
            }
        },
        parted = &mut inbound => parted,
        () = overdue(&stop) => Parted::Closed,
    };
    parted.say(&mut sink).await;
}

fn text(frame: &WorkerServerFrame) -> Message {
    Message::text(serde_json::to_string(frame).unwrap_or_default())
}

/// Does what the caller asks until it goes away.
async fn take(mut stream: Stream, hands: &Hands, problems: &mpsc::Sender<Problem>) -> Parted {
    let (queue, mut queued) = mpsc::channel(ASKED);
    let tell = |done: Result<(), Error>| {
        if let Err(error) = done {
            problems.try_send(error.problem()).ok();
        }
    };
    let act = async {
        while let Some(asked) = queued.recv().await {
            tell(match asked {
                Asked::Input(bytes) => hands.input(bytes).await,
                Asked::Image { data, mime_type } => hands.image(&data, &mime_type).await,
            });
        }
    };
    let read = async move {
        while let Some(message) = stream.next().await {
            let asked = match message {
                Err(error) => return Parted::from_error(error),
                Ok(Message::Binary(bytes)) => Asked::Input(bytes.into()),
                Ok(Message::Text(text)) => match frame(&text) {
                    Ok(WorkerClientFrame::Input { data }) => Asked::Input(data.into_bytes()),
                    Ok(WorkerClientFrame::Image { data, mime_type }) => {
                        Asked::Image { data, mime_type }
                    }
                    Ok(WorkerClientFrame::Resize { cols, rows }) => {
                        hands.resize(cols, rows);
                        continue;
                    }
                    Ok(WorkerClientFrame::Primary) => {
                        tell(hands.claim());
                        continue;
                    }
                    Err(problem) => {
                        problems.try_send(*problem).ok();
                        continue;
                    }
                },
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_)) => continue,
            };
            if queue.send(asked).await.is_err() {
                break;
            }
        }
        // What was asked for before the end is done.
        drop(queue);
        Parted::Closed
    };
    let (parted, ()) = tokio::join!(read, act);
    parted
}

fn frame(text: &str) -> Result<WorkerClientFrame, Box<Problem>> {
    let parsed = serde_json::from_str::<Object<WorkerClientFrame>>(text);
    parsed.map(|Object(frame)| frame).map_err(|error| {
        let text = format!("that is no message of this stream: {error}");
        Box::new(Problem::new(Code::InvalidRequest, text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_of_the_four_and_nothing_else() {
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
