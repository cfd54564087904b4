//! Streams over WebSocket. The frames are described in `shed_api::stream`; the copying is in `crate::streams`.

use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde::de::DeserializeOwned;
use shed_api::stream::{AttachOpen, ConsoleOpen, ExecOpen, MAX_MESSAGE_BYTES, ServerFrame};
use shed_api::{Code, Problem, Scope};
use shed_core::{App, Attach, Error, Started, Target};

use crate::extract::{Answer, Door, OfSession, OfShed, Refused, Who};
use crate::streams::{DrainUntil, copy_connection, copy_process, opening, refuse};

/// A WebSocket of ours. Tracked by the App: it is told when the server goes away, and waited for.
fn upgrade<F: Future<Output = ()> + Send + 'static>(
    app: &App,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
    serve: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Answer<Response> {
    let upgrade = upgrade.map_err(|_| {
        Refused::new(Code::InvalidRequest, "this route speaks WebSocket; see docs/API.md")
    })?;
    let tasks = app.tasks();
    let upgrade = upgrade.max_message_size(MAX_MESSAGE_BYTES).max_frame_size(MAX_MESSAGE_BYTES);
    Ok(upgrade.on_upgrade(move |socket| tasks.track_future(serve(socket))))
}

type Upgrade = Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>;

/// The opening object, or nothing: then the caller was told what was wrong with it.
async fn opened<T: DeserializeOwned>(socket: &mut WebSocket) -> Option<T> {
    match opening(socket).await {
        Ok(open) => Some(open),
        Err(problem) => {
            refuse(socket, problem).await;
            None
        }
    }
}

/// Runs a command with its input and output as a WebSocket. The first message is an `ExecOpen`.
#[utoipa::path(get, path = "/api/sheds/{n}/exec/stream", tag = "streams", params(("n" = String, Path)),
    responses((status = 101, body = ServerFrame), (status = 404, body = Problem)))]
pub(crate) async fn exec(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    socket: Upgrade,
) -> Answer<Response> {
    state.app.shed(&person, &name)?;
    let app = state.app.clone();
    upgrade(&state.app, socket, async move |mut socket| {
        let Some(open) = opened::<ExecOpen>(&mut socket).await else {
            return;
        };
        let until = if open.wait_for_output { DrainUntil::Closed } else { DrainUntil::Quiet };
        match app.exec(&person, &name, open).await {
            Ok(Started::Running(running)) => copy_process(&app, socket, *running, until).await,
            Ok(Started::Detached(id)) => {
                crate::streams::say(&mut socket, &ServerFrame::Detached { id }).await;
            }
            Err(error) => refuse(&mut socket, error.problem()).await,
        }
    })
}

/// Attaches to a session as a WebSocket, making it if need be. The first message is an `AttachOpen`.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/attach", tag = "streams",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 101, body = ServerFrame), (status = 404, body = Problem)))]
pub(crate) async fn attach(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    socket: Upgrade,
) -> Answer<Response> {
    state.app.shed(&person, &name)?;
    let app = state.app.clone();
    upgrade(&state.app, socket, async move |mut socket| {
        let Some(open) = opened::<AttachOpen>(&mut socket).await else {
            return;
        };
        let env = open.env.clone().into_iter().collect();
        match app.attach(&person, &name, &session, Attach { open, env }).await {
            Ok(running) => copy_process(&app, socket, running, DrainUntil::Quiet).await,
            Err(error) => refuse(&mut socket, error.problem()).await,
        }
    })
}

/// A login shell without tmux, as a WebSocket. The first message is a `ConsoleOpen`.
#[utoipa::path(get, path = "/api/sheds/{n}/console", tag = "streams", params(("n" = String, Path)),
    responses((status = 101, body = ServerFrame), (status = 404, body = Problem)))]
pub(crate) async fn console(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    socket: Upgrade,
) -> Answer<Response> {
    state.app.shed(&person, &name)?;
    let app = state.app.clone();
    upgrade(&state.app, socket, async move |mut socket| {
        let Some(open) = opened::<ConsoleOpen>(&mut socket).await else {
            return;
        };
        match app.console(&person, &name, open).await {
            Ok(running) => copy_process(&app, socket, running, DrainUntil::Quiet).await,
            Err(error) => refuse(&mut socket, error.problem()).await,
        }
    })
}

/// A connection to a port of a shed's loopback, as a WebSocket. No opening message.
#[utoipa::path(get, path = "/api/sheds/{n}/forward/{port}", tag = "streams",
    params(("n" = String, Path), ("port" = u16, Path)),
    responses((status = 101, body = ServerFrame), (status = 404, body = Problem)))]
pub(crate) async fn forward(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    axum::extract::Path(path): axum::extract::Path<std::collections::HashMap<String, String>>,
    socket: Upgrade,
) -> Answer<Response> {
    state.app.shed(&person, &name)?;
    let bad = || Refused::new(Code::InvalidRequest, "the last part of the path must be a port");
    let port: u16 = path.get("port").and_then(|port| port.parse().ok()).ok_or_else(bad)?;
    let app = state.app.clone();
    upgrade(&state.app, socket, async move |mut socket| {
        match app.connect(&person, &name, &Target::Tcp("localhost".to_owned(), port)).await {
            Ok(connection) => copy_connection(&app, socket, connection.into_stream()).await,
            Err(error) => refuse(&mut socket, error.problem()).await,
        }
    })
}

/// A connection of a clone that asks for what its creator offered to lend, as a WebSocket. See `Progress`.
#[utoipa::path(get, path = "/api/sheds/{n}/lend/{id}", tag = "streams",
    params(("n" = String, Path), ("id" = String, Path)),
    responses((status = 101, body = ServerFrame), (status = 404, body = Problem)))]
pub(crate) async fn lend(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    axum::extract::Path(path): axum::extract::Path<std::collections::HashMap<String, String>>,
    socket: Upgrade,
) -> Answer<Response> {
    person
        .may_with(&name, Scope::Drive, "to lend credentials to a clone")
        .map_err(Refused::from)?;
    let id = path.get("id").cloned().unwrap_or_default();
    let app = state.app.clone();
    upgrade(&state.app, socket, async move |mut socket| match app.lend(&person, &name, &id) {
        Ok(connection) => copy_connection(&app, socket, Box::new(connection)).await,
        Err(error) => refuse(&mut socket, Error::problem(&error)).await,
    })
}
