//! Watching a worker over WebSocket. The frames are described in `shed_api::worker`; the copying is in `crate::watching`.

use axum::response::Response;
use serde::Deserialize;
use shed_api::worker::WorkerServerFrame;
use shed_api::{Code, Problem};
use shed_core::WatchWorker;
use utoipa::IntoParams;

use super::streams::{Upgrade, upgrade};
use crate::extract::{Answer, Door, OfWorker, Params, Refused, Who};
use crate::watching::{MAX_READER_MESSAGE_BYTES, MAX_VIEWER_MESSAGE_BYTES, watch};

/// How to watch.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WatchParams {
    /// Go on from this offset, without a history if it is near. Needs `epoch`.
    from: Option<u64>,
    /// The run of the worker that `from` is in.
    epoch: Option<u64>,
    /// Drop what is typed.
    #[serde(default)]
    read_only: bool,
    /// End with the worker's command.
    #[serde(default)]
    once: bool,
    /// What the client calls itself over its connections, so that a page that is loaded again keeps its place.
    viewer: Option<String>,
    /// Its columns. Needs `rows`.
    cols: Option<u16>,
    /// Its rows. Needs `cols`.
    rows: Option<u16>,
}

fn both<T>(what: &str, one: Option<T>, other: Option<T>) -> Answer<Option<(T, T)>> {
    match (one, other) {
        (Some(one), Some(other)) => Ok(Some((one, other))),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => {
            Err(Refused::new(Code::InvalidRequest, format!("{what} go together")))
        }
    }
}

/// What a worker prints, live, with what was there before; and what is typed. Many may watch one worker; the size of the
/// primary viewer is the terminal's.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/workers/{w}/ws", tag = "streams",
    params(("n" = String, Path), ("s" = String, Path), ("w" = String, Path), WatchParams),
    responses((status = 101, body = WorkerServerFrame), (status = 404, body = Problem)))]
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
    let (viewer, hands) = state.app.watch_worker(&person, &name, &session, &worker, how)?;
    let max_bytes =
        if hands.is_read_only() { MAX_READER_MESSAGE_BYTES } else { MAX_VIEWER_MESSAGE_BYTES };
    upgrade(state, socket, max_bytes, async move |state, socket| {
        watch(&state, socket, viewer, hands).await;
    })
}
