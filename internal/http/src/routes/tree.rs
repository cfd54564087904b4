//! The files of a session: how they differ, and their checkpoints.

use std::convert::Infallible;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use shed_api::Problem;
use shed_api::git::{
    Checkpoint, CheckpointList, Diff, DiffNumbers, MadeCheckpoint, NewCheckpoint,
    RestoreCheckpoint, RestoredCheckpoint,
};
use shed_api::session::{NewSession, Session};
use shed_core::DiffQuery;
use utoipa::{IntoParams, ToSchema};

use crate::extract::{Answer, Body, Door, OfCheckpoint, OfSession, OptionalBody, Params, Who};

/// The media type of a patch. Its bytes are as git printed them, in whatever encoding the files have.
const PATCH: &str = "text/x-patch";
/// Says that a patch was cut at its limit.
const TRUNCATED: HeaderName = HeaderName::from_static("x-shed-truncated");

/// How a diff is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// As an object with files, hunks and lines.
    #[default]
    Json,
    /// As git prints it.
    Patch,
}

/// What is compared.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffParams {
    /// Before: `base` (by default), `head`, or a checkpoint's number.
    from: Option<String>,
    /// After: `worktree` (by default), `head`, or a checkpoint's number.
    to: Option<String>,
    /// Only this file or directory.
    path: Option<String>,
    /// Without the lines.
    #[serde(default)]
    stat: bool,
    /// `json` (by default), or `patch` as git prints it.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

/// How a session's files differ from its base, or from one checkpoint to another.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/diff", tag = "tree",
    params(("n" = String, Path), ("s" = String, Path), DiffParams),
    responses((status = 200, body = Diff), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn diff(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Params(params): Params<DiffParams>,
) -> Answer<Response> {
    let DiffParams { from, to, path, stat, format } = params;
    let query = DiffQuery { from, to, path, stat_only: stat };
    let (diff, patch) = state.app.diff(&person, &name, &session, query).await?;
    Ok(match format {
        Format::Json => Json(diff).into_response(),
        Format::Patch => {
            let cut = if diff.truncated { "true" } else { "false" };
            ([(CONTENT_TYPE, PATCH), (TRUNCATED, cut)], patch).into_response()
        }
    })
}

/// How far a session's files are from its base, in numbers.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/diff/numbers", tag = "tree",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = DiffNumbers), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
pub(crate) async fn numbers(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<DiffNumbers>> {
    Ok(Json(state.app.diff_numbers(&person, &name, &session).await?))
}

/// The same as an event stream, whenever the numbers changed. It ends with the session or its shed's link.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/diff/watch", tag = "tree",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = DiffNumbers, content_type = "text/event-stream"), (status = 404, body = Problem),
        (status = 409, body = Problem)))]
pub(crate) async fn watch_numbers(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Response> {
    let mut numbers = state.app.diff_watch(&person, &name, &session).await?;
    // What is known already is the first item.
    numbers.mark_changed();
    let stop = state.app.stopping();
    let start = (numbers, stop, None::<DiffNumbers>);
    let stream = futures_util::stream::unfold(start, async |(mut numbers, stop, known)| {
        loop {
            tokio::select! {
                changed = numbers.changed() => changed.ok()?,
                () = stop.cancelled() => return None,
            }
            let now = numbers.borrow_and_update().clone();
            if now.is_some() && now != known {
                let data = serde_json::to_string(&now).unwrap_or_default();
                let item = Event::default().data(data);
                return Some((Ok::<_, Infallible>(item), (numbers, stop, now)));
            }
        }
    });
    let heartbeat = KeepAlive::new().interval(state.options.timing.heartbeat).text("heartbeat");
    Ok(Sse::new(stream).keep_alive(heartbeat).into_response())
}

/// A session's checkpoints, oldest first.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/checkpoints", tag = "tree",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = CheckpointList), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn checkpoints(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<CheckpointList>> {
    Ok(Json(state.app.checkpoints(&person, &name, &session).await?))
}

/// Keeps the files of a session as they are now. Answers the last checkpoint when nothing differs from it.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/checkpoints", tag = "tree",
    params(("n" = String, Path), ("s" = String, Path)), request_body = NewCheckpoint,
    responses((status = 201, body = MadeCheckpoint), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
pub(crate) async fn checkpoint(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    OptionalBody(request): OptionalBody<NewCheckpoint>,
) -> Answer<(StatusCode, Json<MadeCheckpoint>)> {
    let made = state.app.checkpoint(&person, &name, &session, &request.message).await?;
    let status = if made.unchanged { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(made)))
}

/// One checkpoint, by its number.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/checkpoints/{c}", tag = "tree",
    params(("n" = String, Path), ("s" = String, Path), ("c" = u64, Path)),
    responses((status = 200, body = Checkpoint), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn show(
    Door(state): Door,
    Who(person): Who,
    OfCheckpoint(name, session, n): OfCheckpoint,
) -> Answer<Json<Checkpoint>> {
    Ok(Json(state.app.checkpoint_by_number(&person, &name, &session, n).await?))
}

/// Sets a session's files back to a checkpoint, all or some. What was there before is a checkpoint of its own.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/checkpoints/{c}/restore", tag = "tree",
    params(("n" = String, Path), ("s" = String, Path), ("c" = u64, Path)), request_body = RestoreCheckpoint,
    responses((status = 200, body = RestoredCheckpoint), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn restore(
    Door(state): Door,
    Who(person): Who,
    OfCheckpoint(name, session, n): OfCheckpoint,
    OptionalBody(request): OptionalBody<RestoreCheckpoint>,
) -> Answer<Json<RestoredCheckpoint>> {
    let restored = state.app.restore_checkpoint(&person, &name, &session, n, request.paths).await?;
    Ok(Json(restored))
}

/// Opens a new session in a worktree of its own that begins as a checkpoint.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/checkpoints/{c}/fork", tag = "tree",
    params(("n" = String, Path), ("s" = String, Path), ("c" = u64, Path)), request_body = NewSession,
    responses((status = 201, body = Session), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn fork(
    Door(state): Door,
    Who(person): Who,
    OfCheckpoint(name, session, n): OfCheckpoint,
    Body(request): Body<NewSession>,
) -> Answer<(StatusCode, Json<Session>)> {
    let made = state.app.fork_checkpoint(&person, &name, &session, n, request).await?;
    Ok((StatusCode::CREATED, Json(made)))
}
