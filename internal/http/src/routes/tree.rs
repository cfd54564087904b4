//! Files of a session: diffs and checkpoints.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use shed_api::git::{
    Checkpoint, CheckpointList, Diff, DiffNumbers, MadeCheckpoint, NewCheckpoint,
    RestoreCheckpoint, RestoredCheckpoint,
};
use shed_api::session::{NewSession, Session};
use shed_core::DiffQuery;
use utoipa::{IntoParams, ToSchema};

use crate::event_stream;
use crate::extract::{Answer, Body, Door, OfCheckpoint, OfSession, OptionalBody, Params, Who};

/// Media type of a patch. Its bytes are as git printed them, in the encoding of the files.
const PATCH: &str = "text/x-patch";
/// Header that says whether a patch was cut at its size limit: `true` or `false`.
const TRUNCATED: HeaderName = HeaderName::from_static("x-shed-truncated");

/// Format of a diff.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// An object with files, hunks and lines.
    #[default]
    Json,
    /// The text that git prints.
    Patch,
}

/// Selects the two states to compare.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffParams {
    /// State before the change: `base` (default), `head`, or the number of a checkpoint.
    #[param(pattern = "^(base|head|worktree|[0-9]{1,18})$")]
    from: Option<String>,
    /// State after the change: `worktree` (default), `head`, or the number of a checkpoint.
    #[param(pattern = "^(base|head|worktree|[0-9]{1,18})$")]
    to: Option<String>,
    /// Path of the only file or directory to compare.
    path: Option<String>,
    /// Return the files without their lines.
    #[serde(default)]
    stat: bool,
    /// `json` (default), or `patch` for the text that git prints.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

/// Returns the changes of a session's files. They are the changes since its base, or between two of base, head, checkpoints
/// and worktree.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/diff", tag = "files", operation_id = "files_diff",
    params(("n" = String, Path), ("s" = String, Path), DiffParams),
    responses((status = 200, content((Diff = "application/json"), (String = "text/x-patch")),
        headers(("x-shed-truncated" = bool, description = "Whether a patch was cut at its size limit; only with `text/x-patch`.")))))]
pub(crate) async fn diff(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Params(params): Params<DiffParams>,
) -> Answer<Response> {
    let DiffParams { from, to, path, stat, format } = params;
    let query = DiffQuery { from, to, path, stat_only: stat };
    let (diff, patch) = state.app.files().diff(&person, &name, &session, query).await?;
    Ok(match format {
        Format::Json => Json(diff).into_response(),
        Format::Patch => {
            let cut = if diff.truncated { "true" } else { "false" };
            ([(CONTENT_TYPE, PATCH), (TRUNCATED, cut)], patch).into_response()
        }
    })
}

/// Returns the numbers of changed files, lines and commits since a session's base.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/diff/numbers", tag = "files", operation_id = "files_diff_numbers",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = DiffNumbers)))]
pub(crate) async fn numbers(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<DiffNumbers>> {
    Ok(Json(state.app.files().diff_numbers(&person, &name, &session).await?))
}

/// Returns the numbers of changed files, lines and commits as an event stream. An event is sent after each change. The
/// stream ends with the session or the link to its shed.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/diff/watch", tag = "files", operation_id = "files_diff_watch",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = DiffNumbers, content_type = "text/event-stream")))]
pub(crate) async fn watch_numbers(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Response> {
    let mut numbers = state.app.files().diff_watch(&person, &name, &session).await?;
    // If the numbers are known already, they are the first item.
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
                return Some((event_stream::item(&now), (numbers, stop, now)));
            }
        }
    });
    Ok(event_stream::respond(&state, stream))
}

/// Lists the checkpoints of a session, oldest first.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/checkpoints", tag = "checkpoints", operation_id = "checkpoints_list",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = CheckpointList)))]
pub(crate) async fn checkpoints(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<CheckpointList>> {
    Ok(Json(state.app.files().checkpoints(&person, &name, &session).await?))
}

/// Creates a checkpoint of a session's files. If nothing has changed since the last one, returns that with status 200.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/checkpoints", tag = "checkpoints", operation_id = "checkpoints_create",
    params(("n" = String, Path), ("s" = String, Path)), request_body = NewCheckpoint,
    responses((status = 201, body = MadeCheckpoint), (status = 200, body = MadeCheckpoint)))]
pub(crate) async fn checkpoint(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    OptionalBody(request): OptionalBody<NewCheckpoint>,
) -> Answer<(StatusCode, Json<MadeCheckpoint>)> {
    let made =
        state.app.files().make_checkpoint(&person, &name, &session, &request.message).await?;
    let status = if made.unchanged { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(made)))
}

/// Returns one checkpoint.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/checkpoints/{c}", tag = "checkpoints", operation_id = "checkpoints_show",
    params(("n" = String, Path), ("s" = String, Path), ("c" = u64, Path)),
    responses((status = 200, body = Checkpoint)))]
pub(crate) async fn show(
    Door(state): Door,
    Who(person): Who,
    OfCheckpoint(name, session, n): OfCheckpoint,
) -> Answer<Json<Checkpoint>> {
    Ok(Json(state.app.files().checkpoint(&person, &name, &session, n).await?))
}

/// Restores all or some of a session's files from a checkpoint. The state before is saved as a checkpoint of its own.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/checkpoints/{c}/restore", tag = "checkpoints", operation_id = "checkpoints_restore",
    params(("n" = String, Path), ("s" = String, Path), ("c" = u64, Path)), request_body = RestoreCheckpoint,
    responses((status = 200, body = RestoredCheckpoint)))]
pub(crate) async fn restore(
    Door(state): Door,
    Who(person): Who,
    OfCheckpoint(name, session, n): OfCheckpoint,
    OptionalBody(request): OptionalBody<RestoreCheckpoint>,
) -> Answer<Json<RestoredCheckpoint>> {
    let restored =
        state.app.files().restore_checkpoint(&person, &name, &session, n, request.paths).await?;
    Ok(Json(restored))
}

/// Creates a session in a new worktree with the files of a checkpoint.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/checkpoints/{c}/fork", tag = "checkpoints", operation_id = "checkpoints_fork",
    params(("n" = String, Path), ("s" = String, Path), ("c" = u64, Path)), request_body = NewSession,
    responses((status = 201, body = Session)))]
pub(crate) async fn fork(
    Door(state): Door,
    Who(person): Who,
    OfCheckpoint(name, session, n): OfCheckpoint,
    Body(request): Body<NewSession>,
) -> Answer<(StatusCode, Json<Session>)> {
    let made = state.app.files().fork_checkpoint(&person, &name, &session, n, request).await?;
    Ok((StatusCode::CREATED, Json(made)))
}
