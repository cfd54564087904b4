//! The App: one service for each noun, with the calls that a door can make. A service authorizes the caller, makes one
//! call into the folder of its noun, and returns the answer in the types of the API.

mod access;
mod batches;
mod events;
mod files;
mod forwards;
mod housekeeping;
mod output;
mod previews;
mod sessions;
mod sheds;
mod status;
mod streams;
mod templates;
mod workers;

use std::sync::Arc;
use std::time::Duration;

use shed_api::{Actor, EventKind, ShedName};
use shed_engine::Engine;
use shed_guest::Transport;
use shed_model::NewEvent;
use shed_model::shed::{ShedRow, repo};
use shed_store::{Store, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::access::Credentials;
pub use self::batches::Batches;
pub use self::events::Events;
pub use self::files::Files;
pub use self::forwards::Forwards;
pub use self::housekeeping::Housekeeping;
pub use self::output::WorkerOutput;
pub use self::previews::Previews;
pub use self::sessions::Sessions;
pub use self::sheds::{Removal, Sheds};
pub use self::status::Status;
pub use self::streams::Streams;
pub use self::templates::Templates;
pub use self::workers::Workers;
use crate::Error;
use crate::files::diff_watch::DiffWatches;
use crate::housekeeping::output_limit;
use crate::output::logs::Logs;
use crate::output::preview_stream::PreviewSources;
use crate::output::previews::Previews as Models;
use crate::output::viewers::Viewers;
use crate::scheduler::admission::Slots;
use crate::server::Server;
use crate::session::Resources;
use crate::session::list::Lists;
use crate::settings::{Clock, Settings};
use crate::shed::disk_query::DiskQuery;
use crate::shed::engine_watch::{EngineState, watch_engine};
use crate::shed::registry::Registry;

/// How long tasks may take to end when the server stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);

/// The server without its doors. Clones are the same server.
#[derive(Clone)]
pub struct App {
    server: Arc<Server>,
    services: Arc<Services>,
}

struct Services {
    batches: Batches,
    access: Credentials,
    events: Events,
    files: Files,
    forwards: Forwards,
    housekeeping: Housekeeping,
    output: WorkerOutput,
    previews: Previews,
    sessions: Sessions,
    sheds: Sheds,
    server: Status,
    streams: Streams,
    templates: Templates,
    workers: Workers,
}

impl Services {
    fn new(
        server: &Arc<Server>,
        registry: &Registry,
        resources: &Resources,
        engine: &watch::Receiver<EngineState>,
    ) -> Self {
        let again = || (Arc::clone(server), registry.clone(), resources.logs.clone());
        let sessions = {
            let (server, registry, logs) = again();
            let lists = Lists::new(logs, server.clock);
            Sessions { server, registry, lists }
        };
        let files = {
            let (server, registry, _) = again();
            Files { server, registry, sessions: sessions.clone(), diffs: DiffWatches::default() }
        };
        Self {
            access: Credentials::new(server.store.clone(), server.clock),
            batches: {
                let (server, registry, _) = again();
                Batches { server, registry, sessions: sessions.clone(), files: files.clone() }
            },
            events: Events { server: Arc::clone(server) },
            files,
            forwards: Forwards { registry: registry.clone() },
            housekeeping: {
                let (server, registry, logs) = again();
                Housekeeping { server, registry, logs }
            },
            output: {
                let (server, registry, logs) = again();
                WorkerOutput { server, registry, logs }
            },
            previews: {
                let (server, registry, logs) = again();
                let models = Models::default();
                Previews { sources: PreviewSources { server, registry, logs, models } }
            },
            server: Status { server: Arc::clone(server), engine: engine.clone() },
            sheds: {
                let (server, registry, _) = again();
                let disk_query = DiskQuery::new(Arc::clone(&server), engine.clone());
                Sheds { server, registry, resources: resources.clone(), disk_query }
            },
            streams: {
                let (server, registry, _) = again();
                Streams { server, registry }
            },
            templates: {
                let (server, registry, _) = again();
                Templates { server, registry }
            },
            workers: {
                let (sessions, logs) = (sessions.clone(), resources.logs.clone());
                Workers { sessions, viewers: Viewers::default(), logs }
            },
            sessions,
        }
    }
}

/// The row with a repository that may be shown. Older versions stored URLs with a password that they did not recognize.
async fn without_password(server: &Server, mut row: ShedRow) -> ShedRow {
    let Some(url) = &row.spec.repo else { return row };
    let clean = repo::clean(url);
    if clean == *url {
        return row;
    }
    row.spec.repo = Some(clean);
    let stored = server.store.set_spec(row.name.clone(), row.spec.clone(), None).await;
    if let Err(error) = stored {
        tracing::warn!(shed = %row.name, %error, "a password in the URL of a repository is still in the database");
    }
    row
}

impl App {
    /// Starts a keeper for every shed in the database, and the watch over the engine. An engine that does not answer is no
    /// error: it is waited for.
    pub async fn open(
        settings: Settings,
        store: Store,
        engine: Arc<dyn Engine>,
        transport: Arc<dyn Transport>,
        clock: Clock,
    ) -> Result<Self, Error> {
        let slots = Slots::new(settings.sessions.concurrency);
        let logs = Logs::new(settings.sessions.output_dir.clone(), settings.sessions.output_bytes);
        let resources = Resources { slots, logs };
        let server = Arc::new(Server::new(settings, store, engine, transport, clock));
        let registry = Registry::default();
        for row in server.store.sheds().await? {
            let row = without_password(&server, row).await;
            match row.name.parse::<ShedName>() {
                Ok(name) => registry.start(&server, &resources, name, row).await?,
                // One bad row must not keep the others down.
                Err(error) => {
                    tracing::error!(%error, "a shed's row has an invalid name; it was skipped");
                }
            }
        }
        let state = watch::Sender::new(EngineState::Unknown);
        let services = Services::new(&server, &registry, &resources, &state.subscribe());
        if let Some(limit) = server.settings.sessions.output_total_bytes {
            let (server, registry, logs) =
                (Arc::clone(&server), registry.clone(), resources.logs.clone());
            let tasks = server.tasks.clone();
            tasks.spawn(output_limit::enforce(server, registry, logs, limit));
        }
        server.tasks.spawn(watch_engine(Arc::clone(&server), resources, registry, state));
        let event = NewEvent::new(clock.now(), EventKind::ServerStarted, Actor::Server);
        match server.store.add_events(vec![event]).await {
            // A server that runs can delete sheds and so make space.
            Err(StoreError::DiskFull) => tracing::error!("the disk with the database is full"),
            added => added?,
        }
        Ok(Self { server, services: Arc::new(services) })
    }

    /// The same operation on several sessions.
    pub fn batches(&self) -> &Batches {
        &self.services.batches
    }

    /// Keys and tokens.
    pub fn access(&self) -> &Credentials {
        &self.services.access
    }

    /// What happened.
    pub fn events(&self) -> &Events {
        &self.services.events
    }

    /// Sessions' files: diffs, checkpoints, the trash.
    pub fn files(&self) -> &Files {
        &self.services.files
    }

    /// Connections into sheds and listeners in them.
    pub fn forwards(&self) -> &Forwards {
        &self.services.forwards
    }

    /// Orphans and garbage.
    pub fn housekeeping(&self) -> &Housekeeping {
        &self.services.housekeeping
    }

    /// What workers printed.
    pub fn output(&self) -> &WorkerOutput {
        &self.services.output
    }

    /// The last rows of workers' screens.
    pub fn previews(&self) -> &Previews {
        &self.services.previews
    }

    /// Sessions.
    pub fn sessions(&self) -> &Sessions {
        &self.services.sessions
    }

    /// Sheds.
    pub fn sheds(&self) -> &Sheds {
        &self.services.sheds
    }

    /// The server itself.
    pub fn server(&self) -> &Status {
        &self.services.server
    }

    /// Terminals and commands.
    pub fn streams(&self) -> &Streams {
        &self.services.streams
    }

    /// What sessions can be created from.
    pub fn templates(&self) -> &Templates {
        &self.services.templates
    }

    /// Sessions' workers.
    pub fn workers(&self) -> &Workers {
        &self.services.workers
    }

    /// Cancelled when the server begins to stop: whoever holds a long answer open ends it then.
    pub fn stopping(&self) -> CancellationToken {
        self.server.door_stop.clone()
    }

    /// Tracks the doors' tasks, which [`App::close`] waits for.
    pub fn tasks(&self) -> TaskTracker {
        self.server.door_tasks.clone()
    }

    /// Ends every task and waits for it: the doors' first, then the App's. Sheds and what runs in them go on.
    pub async fn close(&self) {
        let event = NewEvent::new(self.server.clock.now(), EventKind::ServerStopped, Actor::Server);
        if let Err(error) = self.server.store.add_events(vec![event]).await {
            tracing::error!(%error, "the event of the server's stop was not written");
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

    /// The settings that the server was started with.
    pub fn settings(&self) -> &Settings {
        &self.server.settings
    }
}

/// Waits for tasks that were asked to end.
async fn drained(all: impl Future<Output = ()>) {
    if tokio::time::timeout(DRAIN_LIMIT, all).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
}
