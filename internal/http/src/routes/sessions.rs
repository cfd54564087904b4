//! Routes of sessions.

use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use shed_api::Problem;
use shed_api::git::Risk;
use shed_api::session::{
    DeletedSession, Input, NewSession, Output, PatchSession, Session, SessionList,
};
use shed_api::worker::Restart;
use tokio::time::{Instant, sleep_until};
use utoipa::IntoParams;

use crate::event_stream;
use crate::extract::{Answer, Body, Door, OfSession, OfShed, OptionalBody, Params, Who};

/// The shortest time between two items of a stream of sessions.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// How often a watcher asks the App to keep observing sessions. A request lasts five seconds.
const OBSERVE_PERIOD: Duration = Duration::from_secs(3);

/// Lists the sessions of all sheds, from the server's memory.
#[utoipa::path(get, path = "/api/sessions", tag = "sessions", responses((status = 200, body = SessionList)))]
pub(crate) async fn all(Door(state): Door, Who(person): Who) -> Answer<Response> {
    Ok(json(state.app.sessions().list_json(&person, None)?))
}

/// An answer whose body is JSON already.
fn json(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// Returns the sessions of all sheds as an event stream: the whole list after each change, at most ten times a second. While
/// it is open, foreground commands and activity are updated every second.
#[utoipa::path(get, path = "/api/sessions/watch", tag = "sessions",
    responses((status = 200, body = SessionList, content_type = "text/event-stream")))]
pub(crate) async fn watch(Door(state): Door, Who(person): Who) -> Response {
    let app = state.app.clone();
    let bell = app.sheds().bell();
    let start = (app, person, bell, None::<String>, Instant::now());
    let stream = futures_util::stream::unfold(
        start,
        async |(app, person, mut bell, known, mut observe_at)| {
            let stop = app.stopping();
            let pause = if known.is_some() { MIN_INTERVAL } else { Duration::ZERO };
            let not_before = Instant::now() + pause;
            loop {
                bell.borrow_and_update();
                let now = app.sessions().list_json(&person, None).ok()?;
                if known.as_ref() != Some(&now) && Instant::now() >= not_before {
                    let item = event_stream::json_item(&now);
                    return Some((item, (app, person, bell, Some(now), observe_at)));
                }
                tokio::select! {
                    rung = bell.changed(), if Instant::now() >= not_before => rung.ok()?,
                    () = sleep_until(not_before), if Instant::now() < not_before => {}
                    () = sleep_until(observe_at) => {
                        app.sessions().observe(&person);
                        observe_at = Instant::now() + OBSERVE_PERIOD;
                    }
                    () = stop.cancelled() => return None,
                }
            }
        },
    );
    event_stream::respond(&state, stream)
}

/// Lists the sessions of a shed. `warnings` says what may be missing, for example because the shed is stopped.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions", tag = "sessions", params(("n" = String, Path)),
    responses((status = 200, body = SessionList), (status = 404, body = Problem)))]
pub(crate) async fn list(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Response> {
    Ok(json(state.app.sessions().list_json(&person, Some(&name))?))
}

/// Creates a session. Starts the shed if it is stopped.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions", tag = "sessions", params(("n" = String, Path)),
    request_body = NewSession,
    responses((status = 201, body = Session), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn create(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Body(request): Body<NewSession>,
) -> Answer<(StatusCode, Json<Session>)> {
    Ok((StatusCode::CREATED, Json(state.app.sessions().create(&person, &name, request).await?)))
}

/// Returns one session.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = Session), (status = 404, body = Problem)))]
pub(crate) async fn show(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.sessions().get(&person, &name, &session)?))
}

/// Changes a session's name, title, tags, limits, branch, or the way prompts are answered.
#[utoipa::path(patch, path = "/api/sheds/{n}/sessions/{s}", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)), request_body = PatchSession,
    responses((status = 200, body = Session), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn patch(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Body(request): Body<PatchSession>,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.sessions().patch(&person, &name, &session, request).await?))
}

/// Options of a deletion.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteParams {
    /// Delete the session even if it has uncommitted or unpushed work, which goes to the trash.
    #[serde(default)]
    force: bool,
}

/// Ends a session's processes and deletes it. The worktree and branch of a managed session go to the trash.
#[utoipa::path(delete, path = "/api/sheds/{n}/sessions/{s}", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path), DeleteParams),
    responses((status = 200, body = DeletedSession, description = "Deleted; something was left out"),
        (status = 204, description = "Deleted"), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn delete(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Params(params): Params<DeleteParams>,
) -> Answer<Response> {
    let deleted = state.app.sessions().delete(&person, &name, &session, params.force).await?;
    Ok(if deleted.notes.is_empty() {
        StatusCode::NO_CONTENT.into_response()
    } else {
        Json(deleted).into_response()
    })
}

/// Ends a session's processes, after a checkpoint if it has a worktree. The session is kept and can be restarted.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/terminate", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = Session), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn terminate(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.sessions().terminate(&person, &name, &session).await?))
}

/// Restarts a session's workers. Those that run are ended first.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/restart", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)), request_body = Restart,
    responses((status = 200, body = Session), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn restart(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    OptionalBody(restart): OptionalBody<Restart>,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.sessions().restart(&person, &name, &session, restart).await?))
}

/// Freezes all processes of a session's workers.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/freeze", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = Session), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn freeze(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.sessions().freeze(&person, &name, &session, true).await?))
}

/// Lets frozen processes of a session continue.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/thaw", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = Session), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn thaw(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.sessions().freeze(&person, &name, &session, false).await?))
}

/// Turns an unmanaged tmux session into a managed one. Its windows are left unchanged.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/adopt", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = Session), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn adopt(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.sessions().adopt(&person, &name, &session).await?))
}

/// Reports the uncommitted and unpushed work that deleting a session would lose.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/risk", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = Risk), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn risk(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<Risk>> {
    Ok(Json(state.app.sessions().risk(&person, &name, &session).await?))
}

/// Types text or presses keys in the active pane of a session.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/input", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)), request_body = Input,
    responses((status = 204), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn input(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Body(request): Body<Input>,
) -> Answer<StatusCode> {
    state.app.sessions().input(&person, &name, &session, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Options of the output.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OutputParams {
    /// Number of lines of history above the screen; none when absent.
    lines: Option<u32>,
    /// Include colours, as SGR sequences.
    #[serde(default)]
    ansi: bool,
}

/// Returns the screen of a session's active pane, with history if requested.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/output", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path), OutputParams),
    responses((status = 200, body = Output), (status = 404, body = Problem)))]
pub(crate) async fn output(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Params(params): Params<OutputParams>,
) -> Answer<Json<Output>> {
    let output =
        state.app.sessions().screen(&person, &name, &session, params.lines, params.ansi).await?;
    Ok(Json(Output { output }))
}
