//! An App on the process engine, in a directory of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shed_api::ShedName;
use shed_api::shed::{CreateShed, Shed};
use shed_core::{App, Clock, Defaults, MountPolicy, Person, SessionSettings, Settings};
use shed_engine::local::HostDirs;
use shed_guest::unix::UnixTransport;
use shed_store::Store;

use crate::host::{Host, Time};
use crate::{ProcessEngine, TcpTransport};

/// How a server reaches its sheds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A unix socket over which descriptors are passed.
    Unix,
    /// TCP, with a connection per stream.
    Tcp,
}

/// A server's rules and tasks without doors. They run on a runtime of their own, so that a test can kill them.
pub struct TestApp {
    /// The App.
    pub app: App,
    /// The engine under it; it outlives the App.
    pub engine: Arc<ProcessEngine>,
    /// Its admin.
    pub admin: Person,
    transport: Arc<dyn shed_guest::Transport>,
    host: Host,
    time: Time,
    dir: tempfile::TempDir,
    adjust: fn(&mut Settings),
}

impl TestApp {
    /// Starts one with the usual settings.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts one with settings that are changed by `adjust`.
    pub async fn start_with(adjust: fn(&mut Settings)) -> Self {
        Self::start_in(Time::Real, Transport::Unix, adjust).await
    }

    /// Starts one that reaches its sheds this way.
    pub async fn start_on(transport: Transport) -> Self {
        Self::start_in(Time::Real, transport, |_| {}).await
    }

    /// Starts one whose time can [`Self::jump`].
    pub async fn start_jumping() -> Self {
        Self::start_in(Time::Jumping, Transport::Unix, |_| {}).await
    }

    async fn start_in(time: Time, transport: Transport, adjust: fn(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let dirs = HostDirs {
            links_dir: dir.path().join("links"),
            program_dir: crate::shed_init_path().parent().expect("a directory").to_owned(),
        };
        std::fs::create_dir_all(&dirs.links_dir).expect("a directory for links");
        let (links_dir, containers) = (dirs.links_dir.clone(), dir.path().join("containers"));
        let (engine, transport): (_, Arc<dyn shed_guest::Transport>) = match transport {
            Transport::Unix => {
                let engine = ProcessEngine::new(&containers, dirs);
                let transport = UnixTransport::new(links_dir, Arc::clone(&engine) as _);
                (engine, Arc::new(transport))
            }
            Transport::Tcp => {
                let tcp = TcpTransport::start().await;
                let engine = ProcessEngine::with_bridges(&containers, dirs, Some(tcp.clone()));
                (engine, Arc::new(tcp))
            }
        };
        let host = Host::start(time);
        let app = open(&host, dir.path(), &engine, &transport, adjust).await;
        let admin = Person::local("tester".to_owned(), 0);
        Self { app, engine, admin, transport, host, time, dir, adjust }
    }

    /// Lets this much time pass at once for the App's tasks: every timer within it fires. Their sockets and processes know
    /// nothing of it, so nothing may be under way that has a time limit.
    pub async fn jump(&self, time: Duration) {
        self.host.jump(time).await;
    }

    /// Kills the App as `kill -9` kills a server and opens another one on the same data and engine. Tasks are dropped where
    /// they stand: nothing is drained, and nothing is written at the end. A door of the test is asked to close, as the
    /// kernel closes the sockets of a killed server.
    pub async fn restart(&mut self) {
        self.restart_after(|_| {}).await;
    }

    /// Like [`Self::restart`]; `between` gets the data directory while there is no server.
    pub async fn restart_after(&mut self, between: impl FnOnce(&Path)) {
        self.app.stopping().cancel();
        self.host.kill();
        between(self.dir.path());
        self.open().await;
    }

    /// Closes the App in an orderly way and opens another one; `between` gets the data directory while there is no server,
    /// with the whole database in its one file.
    pub async fn reopen_after(&mut self, between: impl FnOnce(&Path)) {
        self.app.close().await;
        self.host.kill();
        between(self.dir.path());
        self.open().await;
    }

    async fn open(&mut self) {
        self.host = Host::start(self.time);
        let (dir, engine) = (self.dir.path(), &self.engine);
        self.app = open(&self.host, dir, engine, &self.transport, self.adjust).await;
    }

    /// Like [`Self::restart`], with settings that are changed by `adjust` from now on.
    pub async fn restart_with(&mut self, adjust: fn(&mut Settings)) {
        self.adjust = adjust;
        self.restart().await;
    }

    /// The directory everything is in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A running shed.
    pub async fn shed(&self, name: &str) -> Shed {
        let request = CreateShed { name: name.to_owned(), ..CreateShed::default() };
        self.app.sheds().create(&self.admin, request).await.expect("a creation begins");
        self.app.sheds().created(&self.admin, &shed_name(name)).await.expect("a shed runs")
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.engine.kill_all();
        self.host.kill();
    }
}

fn shed_name(name: &str) -> ShedName {
    name.parse().expect("a name")
}

async fn open(
    host: &Host,
    dir: &Path,
    engine: &Arc<ProcessEngine>,
    transport: &Arc<dyn shed_guest::Transport>,
    adjust: fn(&mut Settings),
) -> App {
    let mut settings = Settings {
        name: "test".to_owned(),
        server_id: "test-server".to_owned(),
        defaults: Defaults::default(),
        mounts: MountPolicy::default(),
        images: Vec::new(),
        pulse: Duration::from_secs(1),
        sessions: SessionSettings {
            output_dir: dir.join("output"),
            templates: Some(dir.join("templates")),
            ..SessionSettings::default()
        },
    };
    adjust(&mut settings);
    let store = Store::open(dir).expect("a store");
    let (engine, transport) = (Arc::clone(engine) as _, Arc::clone(transport));
    let opening = App::open(settings, store, engine, transport, Clock::System);
    let app = host.run(opening).await.expect("an App");
    app.server().settled().await;
    app
}
