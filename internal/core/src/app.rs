//! The App: every call a door can make, with who makes it. Split by noun.

pub(crate) mod credentials;
pub(crate) mod exec;
pub(crate) mod forward;
pub(crate) mod many;
pub(crate) mod previews;
pub(crate) mod reading;
pub(crate) mod sessions;
pub(crate) mod sheds;
pub(crate) mod tidy;
pub(crate) mod tree;
pub(crate) mod viewer;
pub(crate) mod window;
pub(crate) mod work;
pub(crate) mod worker_output;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use shed_api::{Actor, EventKind, Scope, ShedName, ShedStatus};
use shed_model::NewEvent;
use shed_model::shed::{ShedRow, ShedSpec};
use shed_store::{Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::files::diff_watch::DiffWatches;
use crate::output::logs::Logs;
use crate::output::previews::Previews;
use crate::output::viewers::Viewers;
use crate::scheduler::admission::Slots;
use crate::server::Server;
use crate::session::Resources;
use crate::session::list::Lists;
use crate::settings::{Clock, Settings};
use crate::shed::handle::{KeeperHandle, Message};
use crate::shed::keeper;
use crate::{Error, Person};
use shed_engine::{BoxState, Engine, EngineError, Found};
use shed_model::shed::life::Occasion;

/// The first pause after the engine went away; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between looks for a lost engine.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long tasks may take to end when the server goes away.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The server's rules and tasks. Clones are the same server.
#[derive(Clone)]
pub struct App {
    pub(crate) server: Arc<Server>,
    pub(crate) resources: Resources,
    /// Diffs that somebody watches.
    pub(crate) diffs: DiffWatches,
    /// Who watches workers.
    pub(crate) viewers: Viewers,
    /// What workers look like.
    pub(crate) previews: Previews,
    sheds: Sheds,
    /// The last list of each shed's sessions.
    pub(crate) lists: Lists,
    engine_state: watch::Receiver<EngineState>,
}

/// Keepers by name. The lock is held for single look-ups, never across an await.
type Sheds = Arc<RwLock<BTreeMap<ShedName, KeeperHandle>>>;

/// Whether the engine answers, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineState {
    /// Nobody has looked yet.
    Unknown,
    /// It answers; in words.
    Up(String),
    /// It does not; why.
    Down(String),
}

impl App {
    /// Starts the keepers of every remembered shed and the watch over the engine. An engine that does not answer is no
    /// error: it is waited for.
    pub async fn open(
        settings: Settings,
        store: Store,
        engine: Arc<dyn Engine>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let slots = Slots::new(settings.sessions.concurrency);
        let logs = Logs::new(settings.sessions.output_dir.clone(), settings.sessions.output_bytes);
        let resources = Resources { slots, logs };
        let server = Arc::new(Server::new(settings, store, engine, clock));
        let sheds = Sheds::default();
        for row in server.store.sheds().await? {
            match row.name.parse::<ShedName>() {
                Ok(name) => start_keeper(&server, &resources, &sheds, name, row).await?,
                // One bad row must not keep the others down.
                Err(error) => {
                    tracing::error!(%error, "a shed's row has a name that is none; it was left alone");
                }
            }
        }
        let state = watch::Sender::new(EngineState::Unknown);
        let engine_state = state.subscribe();
        let watch = watch_engine(Arc::clone(&server), resources.clone(), Arc::clone(&sheds), state);
        server.tasks.spawn(watch);
        let event = NewEvent::new(clock.now(), EventKind::ServerStarted, Actor::Server);
        match server.store.add_events(vec![event]).await {
            // A server that starts can delete, and so make room.
            Err(StoreError::DiskFull) => tracing::error!("the disk with the database is full"),
            added => added?,
        }
        Ok(Self {
            server,
            resources,
            diffs: DiffWatches::default(),
            viewers: Viewers::default(),
            previews: Previews::default(),
            sheds,
            lists: Lists::default(),
            engine_state,
        })
    }

    /// Cancelled when the server goes away: whoever holds a long answer open ends it then.
    pub fn stopping(&self) -> CancellationToken {
        self.server.door_stop.clone()
    }

    /// For tasks of the doors that must be waited for.
    pub fn tasks(&self) -> TaskTracker {
        self.server.door_tasks.clone()
    }

    /// Ends every task and waits for it: the doors' first, then our own. Sheds and what runs in them go on.
    pub async fn close(&self) {
        let event = NewEvent::new(self.server.clock.now(), EventKind::ServerStopped, Actor::Server);
        if let Err(error) = self.server.store.add_events(vec![event]).await {
            tracing::error!(%error, "the server's end was not written");
        }
        let Server { door_stop, door_tasks, stop, tasks, .. } = &*self.server;
        door_stop.cancel();
        door_tasks.close();
        drained(door_tasks.wait()).await;
        stop.cancel();
        tasks.close();
        drained(tasks.wait()).await;
        if let Err(error) = self.server.store.settle().await {
            tracing::warn!(%error, "the database was left in more than one file");
        }
    }

    /// What the server was told at its start.
    pub fn settings(&self) -> &Settings {
        &self.server.settings
    }

    /// Whether the engine answers.
    pub fn engine_state(&self) -> EngineState {
        self.engine_state.borrow().clone()
    }

    /// Waits until the engine was looked at once, so that what follows sees sheds as they are.
    pub async fn settled(&self) {
        let mut state = self.engine_state.clone();
        // The watch ends with the server.
        state.wait_for(|state| *state != EngineState::Unknown).await.ok();
    }

    fn handles(&self) -> Vec<(ShedName, KeeperHandle)> {
        let sheds = self.sheds.read().unwrap_or_else(PoisonError::into_inner);
        let there = sheds.iter().filter(|(_, handle)| !handle.view.borrow().gone);
        there.map(|(name, handle)| (name.clone(), handle.clone())).collect()
    }

    /// A shed's keeper, whoever asks.
    pub(crate) fn handle(&self, name: &ShedName) -> Option<KeeperHandle> {
        self.sheds.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The keeper of a shed the person may do this with.
    pub(crate) fn keeper(
        &self,
        person: &Person,
        name: &ShedName,
        needed: Scope,
        what: &str,
    ) -> Result<KeeperHandle, Error> {
        person.may_with(name, needed, what)?;
        let sheds = self.sheds.read().unwrap_or_else(PoisonError::into_inner);
        let there = sheds.get(name).filter(|handle| !handle.view.borrow().gone);
        there.cloned().ok_or_else(|| Error::NoShed(name.clone()))
    }
}

/// Waits for tasks that were asked to end.
async fn drained(all: impl Future<Output = ()>) {
    if tokio::time::timeout(DRAIN_LIMIT, all).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
}

async fn start_keeper(
    server: &Arc<Server>,
    resources: &Resources,
    sheds: &Sheds,
    name: ShedName,
    row: ShedRow,
) -> Result<(), Error> {
    let (map, gone) = (Arc::clone(sheds), name.clone());
    let handle = keeper::start(server, resources, name.clone(), row, move || {
        let mut map = map.write().unwrap_or_else(PoisonError::into_inner);
        // A new shed of the same name may already be there.
        if map.get(&gone).is_some_and(|handle| handle.view.borrow().gone) {
            map.remove(&gone);
        }
    })
    .await?;
    sheds.write().unwrap_or_else(PoisonError::into_inner).insert(name, handle);
    Ok(())
}

/// Keeps the picture of the engine's boxes true: a whole look whenever the engine is (back) there, then its changes.
/// Owned by the App; ends with the server.
async fn watch_engine(
    server: Arc<Server>,
    resources: Resources,
    sheds: Sheds,
    state: watch::Sender<EngineState>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = tokio::select! {
            ended = try_watch_engine(&server, &resources, &sheds, &state) => match ended {
                Ok(()) => EngineError::Unreachable("the engine went away".to_owned()),
                Err(error) => error,
            },
            () = server.stop.cancelled() => return,
        };
        let was_up = matches!(&*state.borrow(), EngineState::Up(_));
        if was_up || *state.borrow() == EngineState::Unknown {
            tracing::warn!(%error, "the engine does not answer");
            pause = FIRST_PAUSE;
        }
        state.send_replace(EngineState::Down(error.to_string()));
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = LONGEST_PAUSE.min(pause * 2),
            () = server.stop.cancelled() => return,
        }
    }
}

async fn try_watch_engine(
    server: &Arc<Server>,
    resources: &Resources,
    sheds: &Sheds,
    state: &watch::Sender<EngineState>,
) -> Result<(), EngineError> {
    let words = server.engine.describe().await?;
    // Listen first, then look: what happens in between is heard.
    let mut changes = server.engine.changes().await?;
    let boxes = server.engine.boxes().await?;
    look_at_all(server, resources, sheds, boxes).await;
    state.send_replace(EngineState::Up(words));
    while let Some(change) = changes.next().await {
        let handle = {
            let sheds = sheds.read().unwrap_or_else(PoisonError::into_inner);
            sheds.get(&change.shed).cloned()
        };
        if let Some(handle) = handle {
            let found = server.engine.find(&change.shed).await?;
            tell(&handle, found, Occasion::Change).await;
        }
    }
    Ok(())
}

async fn tell(handle: &KeeperHandle, found: Option<Found>, occasion: Occasion) {
    // A keeper that has ended needs no news.
    handle.messages.send(Message::Seen(found.map(Box::new), occasion)).await.ok();
}

async fn look_at_all(
    server: &Arc<Server>,
    resources: &Resources,
    sheds: &Sheds,
    boxes: Vec<Found>,
) {
    let mut boxes: BTreeMap<ShedName, Found> =
        boxes.into_iter().map(|found| (found.shed.clone(), found)).collect();
    let known: Vec<(ShedName, KeeperHandle)> = {
        let sheds = sheds.read().unwrap_or_else(PoisonError::into_inner);
        sheds.iter().map(|(name, handle)| (name.clone(), handle.clone())).collect()
    };
    for (name, handle) in known {
        tell(&handle, boxes.remove(&name), Occasion::Return).await;
    }
    for found in boxes.into_values() {
        let name = found.shed.clone();
        if let Err(error) = adopt(server, resources, sheds, found).await {
            tracing::error!(shed = %name, %error, "a container of ours was not adopted");
        }
    }
}

/// Takes up a box with our label that no row tells of: the engine's list is the truth for what exists.
async fn adopt(
    server: &Arc<Server>,
    resources: &Resources,
    sheds: &Sheds,
    found: Found,
) -> Result<(), Error> {
    let (status, wanted) = match found.state {
        // `starting` until shed-init says hello.
        BoxState::Running => (ShedStatus::Starting, true),
        BoxState::Paused => (ShedStatus::Paused, true),
        BoxState::Created | BoxState::Exited { .. } => (ShedStatus::Stopped, false),
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
            made_volumes: false,
            removal_keeps_volumes: false,
        },
    };
    let mut event =
        NewEvent::new(now, EventKind::ShedAdopted, Actor::Server).shed(found.shed.as_str());
    event.status = Some(status);
    server.store.add_shed(row.clone(), event).await?;
    let name = found.shed.clone();
    start_keeper(server, resources, sheds, name.clone(), row).await?;
    let handle = {
        let sheds = sheds.read().unwrap_or_else(PoisonError::into_inner);
        sheds.get(&name).cloned()
    };
    if let Some(handle) = handle {
        tell(&handle, Some(found), Occasion::Return).await;
    }
    Ok(())
}
