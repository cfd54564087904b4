//! Sessions.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::http::StatusCode;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use shed_api::Problem;
use shed_api::git::Risk;
use shed_api::session::{Input, NewSession, Output, PatchSession, Session, SessionList};
use shed_api::worker::Restart;
use tokio::time::{Instant, sleep_until};
use utoipa::IntoParams;

use crate::extract::{Answer, Body, Door, OfSession, OfShed, OptionalBody, Params, Who};

/// The shortest time between two pictures of one stream.
const FRAME: Duration = Duration::from_millis(100);
/// How often whoever watches renews their look, which lasts five seconds.
const LOOK_PERIOD: Duration = Duration::from_secs(3);

/// Every session of every shed, from memory.
#[utoipa::path(get, path = "/api/sessions", tag = "sessions", responses((status = 200, body = SessionList)))]
pub(crate) async fn all(Door(state): Door, Who(person): Who) -> Answer<Json<SessionList>> {
    Ok(Json(state.app.sessions(&person, None)?))
}

/// The same as an event stream: the whole list whenever something changed, at most ten times a second. While it is open,
/// foreground commands and activity are read every second.
#[utoipa::path(get, path = "/api/sessions/watch", tag = "sessions",
    responses((status = 200, body = SessionList, content_type = "text/event-stream")))]
pub(crate) async fn watch(Door(state): Door, Who(person): Who) -> Response {
    let app = state.app.clone();
    let bell = app.bell();
    let start = (app, person, bell, None::<SessionList>, Instant::now());
    let stream =
        futures_util::stream::unfold(start, async |(app, person, mut bell, known, mut look_at)| {
            let stop = app.stopping();
            let not_before = Instant::now() + if known.is_some() { FRAME } else { Duration::ZERO };
            loop {
                bell.borrow_and_update();
                let now = app.sessions(&person, None).ok()?;
                if known.as_ref() != Some(&now) && Instant::now() >= not_before {
                    let data = serde_json::to_string(&now).unwrap_or_default();
                    let item = axum::response::sse::Event::default().data(data);
                    return Some((
                        Ok::<_, Infallible>(item),
                        (app, person, bell, Some(now), look_at),
                    ));
                }
                tokio::select! {
                    rung = bell.changed(), if Instant::now() >= not_before => rung.ok()?,
                    () = sleep_until(not_before), if Instant::now() < not_before => {}
                    () = sleep_until(look_at) => {
                        app.look(&person);
                        look_at = Instant::now() + LOOK_PERIOD;
                    }
                    () = stop.cancelled() => return None,
                }
            }
        });
    let heartbeat = KeepAlive::new().interval(state.options.timing.heartbeat).text("heartbeat");
    Sse::new(stream).keep_alive(heartbeat).into_response()
}

/// The sessions of a shed. One that is stopped has none, and a warning says so.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions", tag = "sessions", params(("n" = String, Path)),
    responses((status = 200, body = SessionList), (status = 404, body = Problem)))]
pub(crate) async fn list(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
) -> Answer<Json<SessionList>> {
    Ok(Json(state.app.sessions(&person, Some(&name))?))
}

/// Makes a session, starting the shed if need be.
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
    Ok((StatusCode::CREATED, Json(state.app.new_session(&person, &name, request).await?)))
}

/// One session, by name or by `$id`.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = Session), (status = 404, body = Problem)))]
pub(crate) async fn show(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.session(&person, &name, &session)?))
}

/// Changes a session's name, title, tags, limits, branch, or how prompts are answered.
#[utoipa::path(patch, path = "/api/sheds/{n}/sessions/{s}", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)), request_body = PatchSession,
    responses((status = 200, body = Session), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn patch(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Body(request): Body<PatchSession>,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.patch_session(&person, &name, &session, request).await?))
}

/// How to delete.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteParams {
    /// Also where work that is nowhere else would go to the trash.
    #[serde(default)]
    force: bool,
}

/// Ends a session and everything in it. One that shed made is forgotten; its worktree and branch go, into the trash.
#[utoipa::path(delete, path = "/api/sheds/{n}/sessions/{s}", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path), DeleteParams),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn delete(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Params(params): Params<DeleteParams>,
) -> Answer<StatusCode> {
    state.app.delete_session(&person, &name, &session, params.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a session's processes, with a checkpoint if it has a worktree. The session stays and can be started again.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/terminate", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = Session), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn terminate(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.terminate_session(&person, &name, &session).await?))
}

/// Starts a session's workers again, ending those that run first.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/restart", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)), request_body = Restart,
    responses((status = 200, body = Session), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn restart(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    OptionalBody(restart): OptionalBody<Restart>,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.restart_session(&person, &name, &session, restart).await?))
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
    Ok(Json(state.app.freeze_session(&person, &name, &session, true).await?))
}

/// Lets frozen processes go on.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/thaw", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = Session), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn thaw(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.freeze_session(&person, &name, &session, false).await?))
}

/// Remembers a tmux session that was made by hand. Its windows stay as they are.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/adopt", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = Session), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn adopt(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<Session>> {
    Ok(Json(state.app.adopt_session(&person, &name, &session).await?))
}

/// What deleting a session would lose.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/risk", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 200, body = Risk), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub(crate) async fn risk(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
) -> Answer<Json<Risk>> {
    Ok(Json(state.app.session_risk(&person, &name, &session).await?))
}

/// Types text or presses keys in the session's active pane.
#[utoipa::path(post, path = "/api/sheds/{n}/sessions/{s}/input", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path)), request_body = Input,
    responses((status = 204), (status = 400, body = Problem), (status = 404, body = Problem)))]
pub(crate) async fn input(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Body(request): Body<Input>,
) -> Answer<StatusCode> {
    state.app.input(&person, &name, &session, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How much of the screen.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OutputParams {
    /// So many lines of history above the screen; none by default.
    lines: Option<u32>,
    /// With colours, as SGR sequences.
    #[serde(default)]
    ansi: bool,
}

/// The active pane's screen, with history.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/output", tag = "sessions",
    params(("n" = String, Path), ("s" = String, Path), OutputParams),
    responses((status = 200, body = Output), (status = 404, body = Problem)))]
pub(crate) async fn output(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    Params(params): Params<OutputParams>,
) -> Answer<Json<Output>> {
    let output = state.app.output(&person, &name, &session, params.lines, params.ansi).await?;
    Ok(Json(Output { output }))
}
