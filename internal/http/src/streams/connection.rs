//! Copies between a WebSocket and a connection into a shed.

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt as _, StreamExt as _};
use shed_api::stream::{ClientFrame, STDOUT, ServerFrame};
use shed_core::Duplex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

use super::{
    CallerEnd, READ_BYTES, close, close_grace_over, close_with, pings, send_frame, shutting_down,
    started,
};
use crate::State;

/// Copies a connection until both directions have ended.
pub(crate) async fn copy_connection(state: &State, socket: WebSocket, connection: Box<dyn Duplex>) {
    let (mut sink, mut stream) = socket.split();
    let (mut read, mut write) = tokio::io::split(connection);
    let stop = state.app.stopping();
    let (send_end, mut caller_end) = oneshot::channel();
    let outbound = async {
        send_frame(&mut sink, &started(state)).await?;
        let mut ping = pings(state);
        let mut buffer = Vec::new();
        let (mut ended, mut caller_ended) = (false, false);
        while !(ended && caller_ended) {
            buffer.resize(READ_BYTES + 1, 0);
            buffer[0] = STDOUT;
            let n_read = tokio::select! {
                n_read = read.read(&mut buffer[1..]), if !ended => n_read.unwrap_or(0),
                _ = &mut caller_end, if !caller_ended => {
                    caller_ended = true;
                    continue;
                }
                _ = ping.tick() => {
                    sink.send(Message::Ping(Vec::new().into())).await?;
                    continue;
                }
                () = stop.cancelled() => {
                    return close_with(&mut sink, shutting_down("the server is shutting down")).await;
                }
            };
            if n_read == 0 {
                ended = true;
                send_frame(&mut sink, &ServerFrame::Eof).await?;
                continue;
            }
            buffer.truncate(n_read + 1);
            sink.send(Message::binary(std::mem::take(&mut buffer))).await?;
        }
        close(&mut sink).await
    };
    let inbound = async {
        let mut send_end = Some(send_end);
        while let Some(message) = stream.next().await {
            let ends = match message {
                Err(error) => return CallerEnd::from_error(error),
                // Bytes after the end are dropped.
                Ok(Message::Binary(bytes)) if send_end.is_some() => {
                    write.write_all(&bytes).await.is_err()
                }
                Ok(Message::Text(text)) => {
                    matches!(serde_json::from_str(&text), Ok(ClientFrame::Eof))
                }
                Ok(
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Close(_),
                ) => false,
            };
            if let Some(send_end) = send_end.take_if(|_| ends) {
                write.shutdown().await.ok();
                // Fails if the other direction has ended already.
                send_end.send(()).ok();
            }
        }
        CallerEnd::Closed
    };
    let ended = tokio::select! {
        ended = outbound => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection's caller disconnected");
            }
            CallerEnd::Closed
        }
        ended = inbound => ended,
        () = close_grace_over(&stop) => CallerEnd::Closed,
    };
    ended.close(&mut sink).await;
}
