//! An App on a real engine: each test has names of its own, and everything it makes is removed, however it ends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use shed_api::session::{NewSession, Session};
use shed_api::shed::{CreateShed, Limits, Network, Shed};
use shed_api::stream::{ExecRequest, ExecResult};
use shed_api::{Problem, ShedName};
use shed_core::{App, Clock, Defaults, Error, MountPolicy, Person, Settings};
use shed_docker::{DockerEngine, Options};
use shed_engine::local::HostDirs;
use shed_guest::unix::UnixTransport;
use shed_store::Store;
use shed_testing::DockerRun;
pub(crate) use shed_testing::{docker, try_docker};

/// A server's rules and tasks on Docker, without doors.
pub(crate) struct TestDocker {
    pub(crate) app: App,
    /// The App's own, for what no door shows.
    pub(crate) store: Store,
    /// The engine under it, for what no door asks.
    pub(crate) engine: Arc<DockerEngine>,
    pub(crate) admin: Person,
    pub(crate) options: Options,
    pub(crate) settings: Settings,
    run: DockerRun,
    dir: tempfile::TempDir,
}

impl TestDocker {
    /// A new one. Sheds have no network unless a test wants one: it takes time to make.
    pub(crate) async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    /// The same after some changes.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings, &mut Options)) -> Self {
        let run = DockerRun::start();
        let id = run.id();
        let dir = tempfile::tempdir().unwrap();
        let program_dir = dir.path().join("program");
        std::fs::create_dir_all(&program_dir).unwrap();
        std::fs::create_dir_all(dir.path().join("links")).unwrap();
        std::fs::copy(shed_testing::shed_init_path(), program_dir.join("shed-init")).unwrap();
        let mut settings = Settings {
            name: "test".to_owned(),
            server_id: format!("test-{id}"),
            defaults: Defaults {
                network: Network::None,
                limits: Limits { cpus: 2.0, memory_bytes: 512 << 20, pids: 256 },
                ..Defaults::default()
            },
            mounts: MountPolicy::default(),
            images: Vec::new(),
            pulse: shed_core::PULSE,
            sessions: shed_core::SessionSettings {
                output_dir: dir.path().join("output"),
                ..shed_core::SessionSettings::default()
            },
        };
        let mut options = Options {
            prefix: format!("shed-t{id}"),
            network: format!("shed-t{id}"),
            extra_labels: BTreeMap::from([run.label()]),
            host_dirs: HostDirs { links_dir: dir.path().join("links"), program_dir },
            ..Options::new(&settings.server_id)
        };
        change(&mut settings, &mut options);
        let engine = Arc::new(DockerEngine::connect(options.clone()));
        let (app, store) = open(dir.path(), &settings, &options, &engine).await;
        let admin = Person::local("tester".to_owned(), 0);
        Self { app, store, engine, admin, options, settings, run, dir }
    }

    /// Ends the App and starts another on the same engine: with its database, or as after the loss of all data.
    pub(crate) async fn restart(&mut self, database: Database) {
        self.app.close().await;
        if database == Database::Lost {
            for entry in std::fs::read_dir(self.dir.path()).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    std::fs::remove_file(path).unwrap();
                }
            }
        }
        self.engine = Arc::new(DockerEngine::connect(self.options.clone()));
        (self.app, self.store) =
            open(self.dir.path(), &self.settings, &self.options, &self.engine).await;
    }

    /// A running shed with the server's defaults.
    pub(crate) async fn shed(&self, name: &str) -> Shed {
        self.create(CreateShed { name: name.to_owned(), ..CreateShed::default() }).await.unwrap()
    }

    /// A shed of an image.
    pub(crate) async fn shed_of(&self, name: &str, image: &str) -> Shed {
        let image = Some(image.to_owned());
        let request = CreateShed { name: name.to_owned(), image, ..CreateShed::default() };
        self.create(request).await.unwrap()
    }

    /// Creates and waits for the end of it.
    pub(crate) async fn create(&self, request: CreateShed) -> Result<Shed, Error> {
        let name = shed(&request.name);
        self.app.sheds().create(&self.admin, request).await?;
        self.app.sheds().created(&self.admin, &name).await
    }

    /// Runs words in a shed as `dev`.
    pub(crate) async fn exec(&self, name: &str, argv: &[&str]) -> Result<ExecResult, Error> {
        self.app.streams().exec_to_end(&self.admin, &shed(name), request(argv), Vec::new()).await
    }

    /// Runs a line of shell in a shed as `dev`, and returns what it printed.
    pub(crate) async fn sh(&self, name: &str, line: &str) -> String {
        self.sh_with(name, line, false).await
    }

    /// The same as root.
    pub(crate) async fn root(&self, name: &str, line: &str) -> String {
        self.sh_with(name, line, true).await
    }

    async fn sh_with(&self, name: &str, line: &str, root: bool) -> String {
        let request = ExecRequest { root, ..request(&["sh", "-c", line]) };
        let ran = self
            .app
            .streams()
            .exec_to_end(&self.admin, &shed(name), request, Vec::new())
            .await
            .unwrap();
        assert_eq!(ran.exit, 0, "{line}: {}{}", ran.stdout, ran.stderr);
        ran.stdout
    }

    /// The name of a shed's container.
    pub(crate) fn container(&self, name: &str) -> String {
        format!("{}-{name}", self.options.prefix)
    }

    /// A field of a container, as `docker inspect` shows it.
    pub(crate) fn field(&self, name: &str, format: &str) -> String {
        docker(&["container", "inspect", "--format", format, &self.container(name)])
    }

    /// The process id of a shed's first process on this machine.
    pub(crate) fn pid(&self, name: &str) -> u32 {
        self.field(name, "{{.State.Pid}}").parse().unwrap()
    }

    /// The label of this test's things, for what it makes beside shed.
    pub(crate) fn run_label(&self) -> String {
        {
            let (name, value) = self.run.label();
            format!("{name}={value}")
        }
    }

    /// Distinguishes the things of this test from those of others.
    pub(crate) fn run_id(&self) -> &str {
        self.run.id()
    }

    /// A directory of the test's own.
    pub(crate) fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

/// Whether a restarted server has its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    Kept,
    Lost,
}

async fn open(
    dir: &Path,
    settings: &Settings,
    options: &Options,
    engine: &Arc<DockerEngine>,
) -> (App, Store) {
    let store = Store::open(dir).unwrap();
    let links_dir = options.host_dirs.links_dir.clone();
    let transport = Arc::new(UnixTransport::new(links_dir, Arc::clone(engine) as _));
    let engine = Arc::clone(engine) as _;
    let opened = App::open(settings.clone(), store.clone(), engine, transport, Clock::System);
    let app = opened.await.unwrap();
    app.server().settled().await;
    (app, store)
}

fn request(argv: &[&str]) -> ExecRequest {
    ExecRequest {
        argv: words(argv),
        env: BTreeMap::new(),
        directory: None,
        session: None,
        root: false,
        stdin: None,
        stdin_base64: None,
        timeout: Some(20.0),
    }
}

pub(crate) fn shed(name: &str) -> ShedName {
    name.parse().unwrap()
}

pub(crate) fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn problem<T>(result: Result<T, Error>) -> Problem {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error.problem(),
    }
}

/// What a new session is asked for with.
pub(crate) fn new_session_request(name: &str, command: &[&str]) -> NewSession {
    NewSession { name: Some(name.to_owned()), command: words(command), ..NewSession::default() }
}

/// A new session, with a command or a shell.
pub(crate) async fn new_session(
    test: &TestDocker,
    name: &str,
    session: &str,
    command: &[&str],
) -> Session {
    let request = new_session_request(session, command);
    test.app.sessions().create(&test.admin, &shed(name), request).await.unwrap()
}

/// The id of a session, if it is in the live table and the table is true.
pub(crate) fn id_of(test: &TestDocker, name: &str, session: &str) -> Option<String> {
    let list = test.app.sessions().list(&test.admin, Some(&shed(name))).unwrap();
    let row = list.sessions.into_iter().find(|row| row.name == session);
    row.filter(|_| list.warnings.is_empty()).map(|row| row.id)
}

/// The worker of the shed-init whose supervisor is `first`.
pub(crate) fn worker_of(first: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).ok()?;
    let is_worker = |pid: &u32| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split('\0').nth(1) == Some("worker")
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(is_worker)
}

/// Kills a process of this machine.
pub(crate) fn kill(pid: u32) {
    let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}
