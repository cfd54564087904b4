//! Routes of the WebSocket streams. `shed_api::stream` describes the frames; `crate::streams` copies the bytes.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, Path};
use axum::response::Response;
use serde::de::DeserializeOwned;
use shed_api::stream::{AttachOpen, ConsoleOpen, ExecOpen, MAX_MESSAGE_BYTES, ServerFrame};
use shed_api::{Code, Scope, ShedName};
use shed_core::{Attach, Error, Person, Started, Stream, Target};

use crate::State;
use crate::extract::{Answer, Door, OfSession, OfShed, Refused, Who};
use crate::serve::Held;
use crate::streams::{
    DrainUntil, copy_connection, copy_process, opening, refuse, send_last, with_pings,
};

/// A request to upgrade to a WebSocket, and what keeps its connection counted as open.
pub(super) type Upgrade = (Result<WebSocketUpgrade, WebSocketUpgradeRejection>, Extension<Held>);

/// Upgrades to a WebSocket with messages of at most `max_bytes`. The App waits for its end when the server shuts down.
pub(super) fn upgrade<F: Future<Output = ()> + Send + 'static>(
    state: Arc<State>,
    (upgrade, Extension(held)): Upgrade,
    max_bytes: usize,
    serve: impl FnOnce(Arc<State>, WebSocket) -> F + Send + 'static,
) -> Answer<Response> {
    let upgrade = upgrade.map_err(|_| {
        Refused::new(Code::UpgradeRequired, "this route needs a WebSocket upgrade; see docs/API.md")
    })?;
    let tasks = state.app.tasks();
    let upgrade = upgrade.max_message_size(max_bytes).max_frame_size(max_bytes);
    Ok(upgrade.on_upgrade(move |socket| {
        tasks.track_future(async move {
            serve(state, socket).await;
            drop(held);
        })
    }))
}

/// Checks permissions before the upgrade, so that a refusal is an HTTP status and not a frame.
fn may(state: &State, person: &Person, name: &ShedName, needed: Scope, what: &str) -> Answer<()> {
    person.may_with(name, needed, what)?;
    state.app.sheds().get(person, name)?;
    Ok(())
}

/// Reads the opening object. If it is invalid, sends the problem and returns `None`.
async fn opened<T: DeserializeOwned>(state: &State, socket: &mut WebSocket) -> Option<T> {
    match opening(state, socket).await {
        Ok(open) => Some(open),
        Err(problem) => {
            refuse(socket, problem).await;
            None
        }
    }
}

/// Waits for a terminal to start and then copies it.
async fn run_terminal(
    state: &State,
    mut socket: WebSocket,
    starting: impl Future<Output = Result<Stream, Error>>,
) {
    match with_pings(state, &mut socket, starting).await {
        Ok(running) => copy_process(state, socket, running, DrainUntil::Quiet).await,
        Err(error) => refuse(&mut socket, error.problem()).await,
    }
}

/// Runs a command and streams its input and output over a WebSocket. The first message is an `ExecOpen`.
#[utoipa::path(get, path = "/api/sheds/{n}/exec/stream", tag = "commands", operation_id = "commands_stream", params(("n" = String, Path)),
    responses((status = 101)))]
pub(crate) async fn exec(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    socket: Upgrade,
) -> Answer<Response> {
    may(&state, &person, &name, Scope::Drive, "to run commands")?;
    upgrade(state, socket, MAX_MESSAGE_BYTES, async move |state, mut socket| {
        let Some(open) = opened::<ExecOpen>(&state, &mut socket).await else {
            return;
        };
        let until = match &open.tty {
            _ if open.wait_for_output => DrainUntil::Closed,
            Some(_) => DrainUntil::Quiet,
            None => DrainUntil::Ended,
        };
        match with_pings(&state, &mut socket, state.app.streams().exec(&person, &name, open)).await
        {
            Ok(Started::Running(running)) => copy_process(&state, socket, *running, until).await,
            Ok(Started::Detached(id)) => {
                send_last(&mut socket, &ServerFrame::Detached { id }).await;
            }
            Err(error) => refuse(&mut socket, error.problem()).await,
        }
    })
}

/// Attaches to a session over a WebSocket, creating it if it does not exist. The first message is an `AttachOpen`.
#[utoipa::path(get, path = "/api/sheds/{n}/sessions/{s}/attach", tag = "sessions", operation_id = "sessions_attach",
    params(("n" = String, Path), ("s" = String, Path)),
    responses((status = 101)))]
pub(crate) async fn attach(
    Door(state): Door,
    Who(person): Who,
    OfSession(name, session): OfSession,
    socket: Upgrade,
) -> Answer<Response> {
    may(&state, &person, &name, Scope::Read, "to attach")?;
    upgrade(state, socket, MAX_MESSAGE_BYTES, async move |state, mut socket| {
        let Some(open) = opened::<AttachOpen>(&state, &mut socket).await else {
            return;
        };
        let attach = Attach { open, connection: Vec::new() };
        let attached = state.app.streams().attach(&person, &name, &session, attach);
        run_terminal(&state, socket, attached).await;
    })
}

/// Opens a login shell without tmux over a WebSocket. The first message is a `ConsoleOpen`.
#[utoipa::path(get, path = "/api/sheds/{n}/console", tag = "commands", operation_id = "commands_console", params(("n" = String, Path)),
    responses((status = 101)))]
pub(crate) async fn console(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    socket: Upgrade,
) -> Answer<Response> {
    may(&state, &person, &name, Scope::Drive, "to run commands")?;
    upgrade(state, socket, MAX_MESSAGE_BYTES, async move |state, mut socket| {
        let Some(open) = opened::<ConsoleOpen>(&state, &mut socket).await else {
            return;
        };
        run_terminal(&state, socket, state.app.streams().console(&person, &name, open)).await;
    })
}

/// Connects to a port on a shed's loopback interface over a WebSocket. There is no opening message.
#[utoipa::path(get, path = "/api/sheds/{n}/forward/{port}", tag = "commands", operation_id = "commands_forward",
    params(("n" = String, Path), ("port" = u16, Path)),
    responses((status = 101)))]
pub(crate) async fn forward(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Path(path): Path<HashMap<String, String>>,
    socket: Upgrade,
) -> Answer<Response> {
    may(&state, &person, &name, Scope::Drive, "to forward connections")?;
    let bad =
        || Refused::new(Code::InvalidRequest, "invalid port; expected a number from 0 to 65535");
    let port: u16 = path.get("port").and_then(|port| port.parse().ok()).ok_or_else(bad)?;
    upgrade(state, socket, MAX_MESSAGE_BYTES, async move |state, mut socket| {
        let target = Target::Tcp("localhost".to_owned(), port);
        let connected = state.app.forwards().connect(&person, &name, &target);
        match with_pings(&state, &mut socket, connected).await {
            Ok(connection) => copy_connection(&state, socket, connection.into_stream()).await,
            Err(error) => refuse(&mut socket, error.problem()).await,
        }
    })
}

/// Connects a clone with a credential that its creator lends, over a WebSocket. See `Progress`.
#[utoipa::path(get, path = "/api/sheds/{n}/lend/{id}", tag = "sheds", operation_id = "sheds_lend",
    params(("n" = String, Path), ("id" = String, Path)),
    responses((status = 101)))]
pub(crate) async fn lend(
    Door(state): Door,
    Who(person): Who,
    OfShed(name): OfShed,
    Path(path): Path<HashMap<String, String>>,
    socket: Upgrade,
) -> Answer<Response> {
    may(&state, &person, &name, Scope::Drive, "to lend credentials to a clone")?;
    let id = path.get("id").cloned().unwrap_or_default();
    upgrade(state, socket, MAX_MESSAGE_BYTES, async move |state, mut socket| {
        match state.app.sheds().lend(&person, &name, &id) {
            Ok(connection) => copy_connection(&state, socket, Box::new(connection)).await,
            Err(error) => refuse(&mut socket, Error::problem(&error)).await,
        }
    })
}
