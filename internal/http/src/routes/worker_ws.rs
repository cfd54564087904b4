//! Route for viewers of a worker over WebSocket. `shed_api::worker` describes the frames; `crate::watching` serves them.

use axum::response::Response;
use serde::Deserialize;
use shed_api::Code;
use shed_core::WatchWorker;
use utoipa::IntoParams;

use super::streams::{Upgrade, upgrade};
use crate::extract::{Answer, Door, OfWorker, Params, Refused, Who};
use crate::watching::{MAX_READER_MESSAGE_BYTES, MAX_VIEWER_MESSAGE_BYTES, watch};

/// Options of a viewer.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WatchParams {
    /// Offset at which to continue. If it is recent, the viewer gets no history. Needs `epoch`.
    from: Option<u64>,
    /// Number of the worker's run that `from` belongs to. Needs `from`.
    epoch: Option<u64>,
    /// Drop input of this viewer.
    #[serde(default)]
    read_only: bool,
    /// End the stream when the worker's command ends.
    #[serde(default)]
    once: bool,
    /// Name that a client chooses for all its connections, so that it stays the primary viewer when it reconnects.
    viewer: Option<String>,
    /// Number of columns of the viewer. Needs `rows`.
    cols: Option<u16>,
    /// Number of rows of the viewer. Needs `cols`.
    rows: Option<u16>,
}

fn both<T>(names: &str, one: Option<T>, other: Option<T>) -> Answer<Option<(T, T)>> {
    match (one, other) {
        (Some(one), Some(other)) => Ok(Some((one, other))),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => {
            let text = format!("invalid query; expected {names} together or neither");
            Err(Refused::new(Code::InvalidRequest, text))
        }
    }
}

/// Streams a worker's terminal over a WebSocket: earlier output, live output and input. A worker may have many viewers; its
/// terminal takes the size of the primary one. Messages of the client are `WorkerClientFrame`s.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers/{w}/ws", tag = "workers", operation_id = "workers_watch",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path), WatchParams),
    responses((status = 101)))]
pub(crate) async fn worker(
    Door(state): Door,
    Who(person): Who,
    OfWorker(name, session, worker): OfWorker,
    Params(params): Params<WatchParams>,
    socket: Upgrade,
) -> Answer<Response> {
    let how = WatchWorker {
        from: both("from and epoch", params.from, params.epoch)?,
        read_only: params.read_only,
        once: params.once,
        name: params.viewer,
        size: both("cols and rows", params.cols, params.rows)?,
    };
    let (viewer, writer) = state.app.workers().watch(&person, &name, &session, &worker, &how)?;
    let max_bytes =
        if writer.is_read_only() { MAX_READER_MESSAGE_BYTES } else { MAX_VIEWER_MESSAGE_BYTES };
    upgrade(state, socket, max_bytes, async move |state, socket| {
        watch(&state, socket, viewer, writer).await;
    })
}
