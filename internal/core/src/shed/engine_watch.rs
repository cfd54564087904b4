//! The watch over the engine: what containers there are, and whether it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use shed_api::{Actor, EventKind, ShedName, ShedStatus};
use shed_engine::{ContainerState, EngineError, Found};
use shed_guest::Backoff;
use shed_model::NewEvent;
use shed_model::shed::life::Occasion;
use shed_model::shed::{ShedRow, ShedSpec};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::Error;
use crate::server::Server;
use crate::session::Resources;
use crate::shed::handle::{KeeperHandle, Message};
use crate::shed::registry::Registry;

/// The first pause before a lost engine is asked again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often an engine that reports nothing is pinged: one that hangs keeps its connections open.
pub(crate) const PING_PERIOD: Duration = Duration::from_secs(10);
/// How long it may take to answer; more than a busy one needs.
pub(crate) const PING_LIMIT: Duration = Duration::from_secs(10);

/// Whether the engine answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EngineState {
    /// It was not asked yet.
    Unknown,
    /// It answers; its description.
    Up(String),
    /// It does not answer; why.
    Down(String),
}

/// Reports the engine's containers to the keepers: all of them whenever the engine answers (again), then each change.
/// Ends with the server.
pub(crate) async fn watch_engine(
    server: Arc<Server>,
    resources: Resources,
    registry: Registry,
    state: watch::Sender<EngineState>,
) {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let error = tokio::select! {
            ended = try_watch_engine(&server, &resources, &registry, &state) => match ended {
                Ok(()) => EngineError::Unreachable("the engine's event stream ended".to_owned()),
                Err(error) => error,
            },
            () = server.stop.cancelled() => return,
        };
        let was_up = matches!(&*state.borrow(), EngineState::Up(_));
        if was_up || *state.borrow() == EngineState::Unknown {
            tracing::warn!(%error, "the engine does not answer");
            backoff.reset();
        }
        state.send_replace(EngineState::Down(error.to_string()));
        tokio::select! {
            () = backoff.pause() => {}
            () = server.stop.cancelled() => return,
        }
    }
}

async fn try_watch_engine(
    server: &Arc<Server>,
    resources: &Resources,
    registry: &Registry,
    state: &watch::Sender<EngineState>,
) -> Result<(), EngineError> {
    let words = server.engine.describe().await?;
    // Subscribed before the list is read, so that no change is missed.
    let mut changes = server.engine.changes().await?;
    let containers = server.engine.containers().await?;
    observe_all(server, resources, registry, containers).await;
    state.send_replace(EngineState::Up(words));
    loop {
        match timeout(PING_PERIOD, changes.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(change)) => {
                if let Some(handle) = registry.get(&change.shed) {
                    let found = server.engine.find(&change.shed).await?;
                    report(&handle, found, Occasion::Change).await;
                }
            }
            Err(_) => ping(server).await?,
        }
    }
}

async fn ping(server: &Server) -> Result<(), EngineError> {
    timeout(PING_LIMIT, server.engine.ping()).await.unwrap_or_else(|_| {
        let seconds = PING_LIMIT.as_secs();
        Err(EngineError::Unreachable(format!("the engine did not answer within {seconds} seconds")))
    })
}

async fn report(handle: &KeeperHandle, found: Option<Found>, occasion: Occasion) {
    // A keeper that has ended needs no report.
    handle.messages.send(Message::Seen(found.map(Box::new), occasion)).await.ok();
}

async fn observe_all(
    server: &Arc<Server>,
    resources: &Resources,
    registry: &Registry,
    containers: Vec<Found>,
) {
    let mut containers: BTreeMap<ShedName, Found> =
        containers.into_iter().map(|found| (found.shed.clone(), found)).collect();
    for (name, handle) in registry.all() {
        report(&handle, containers.remove(&name), Occasion::Return).await;
    }
    for found in containers.into_values() {
        let name = found.shed.clone();
        if let Err(error) = adopt(server, resources, registry, found).await {
            tracing::error!(shed = %name, %error, "a container with our label was not adopted");
        }
    }
}

/// Adds a shed for a container with our label that has no row: what exists is what the engine lists.
async fn adopt(
    server: &Arc<Server>,
    resources: &Resources,
    registry: &Registry,
    found: Found,
) -> Result<(), Error> {
    let (status, wanted) = match found.state {
        // `starting` until shed-init connects.
        ContainerState::Running => (ShedStatus::Starting, true),
        ContainerState::Paused => (ShedStatus::Paused, true),
        ContainerState::Created | ContainerState::Exited { .. } => (ShedStatus::Stopped, false),
    };
    let now = server.clock.now();
    let row = ShedRow {
        name: found.shed.to_string(),
        status,
        reason: None,
        reason_code: None,
        wanted,
        created_at: found.created_at,
        status_since: now,
        spec: ShedSpec {
            image: found.image.clone(),
            repo: found.repo.clone(),
            branch: None,
            limits: found.limits,
            network: found.network,
            mounts: found.mounts.clone(),
            env: found.env.clone(),
            allow_agent_forwarding: false,
            git_identity: None,
            // Whatever was cloned is in its volume; cloning again could only do harm.
            cloned: true,
            notes: Vec::new(),
            made_volumes: false,
            removal_keeps_volumes: false,
        },
    };
    let mut event =
        NewEvent::new(now, EventKind::ShedAdopted, Actor::Server).shed(found.shed.as_str());
    event.status = Some(status);
    server.store.add_shed(row.clone(), event).await?;
    let name = found.shed.clone();
    registry.start(server, resources, name.clone(), row).await?;
    if let Some(handle) = registry.get(&name) {
        report(&handle, Some(found), Occasion::Return).await;
    }
    Ok(())
}
