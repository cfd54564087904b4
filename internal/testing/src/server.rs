//! An App on the process engine, in a directory of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shed_api::ShedName;
use shed_api::shed::{CreateShed, Shed};
use shed_core::{App, Clock, Defaults, MountPolicy, Person, SessionSettings, Settings};
use shed_store::Store;

use crate::ProcessEngine;

/// How long [`eventually`] waits.
const EVENTUALLY: Duration = Duration::from_secs(20);

/// A server's rules and tasks without doors.
pub struct TestApp {
    /// The App.
    pub app: App,
    /// The engine under it.
    pub engine: Arc<ProcessEngine>,
    /// Its admin.
    pub admin: Person,
    dir: tempfile::TempDir,
    adjust: fn(&mut Settings),
}

impl TestApp {
    /// A new one.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// A new one with other settings than the usual.
    pub async fn start_with(adjust: fn(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let engine = ProcessEngine::new(&dir.path().join("boxes"));
        let app = open(dir.path(), &engine, adjust).await;
        Self { app, engine, admin: Person::local("tester".to_owned(), 0), dir, adjust }
    }

    /// Ends the App as a killed server would, or in an orderly way, and starts another on the same data and engine.
    pub async fn restart(&mut self) {
        self.restart_after(|_| {}).await;
    }

    /// The same; `between` gets the directory while no server is there.
    pub async fn restart_after(&mut self, between: impl FnOnce(&Path)) {
        self.app.close().await;
        between(self.dir.path());
        self.app = open(self.dir.path(), &self.engine, self.adjust).await;
    }

    /// The same with other settings from now on.
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
        self.app.create(&self.admin, request).await.expect("a creation begins");
        self.app.created(&self.admin, &shed_name(name)).await.expect("a shed runs")
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.engine.kill_all();
    }
}

fn shed_name(name: &str) -> ShedName {
    name.parse().expect("a name")
}

async fn open(dir: &Path, engine: &Arc<ProcessEngine>, adjust: fn(&mut Settings)) -> App {
    let mut settings = Settings {
        name: "test".to_owned(),
        server_id: "test-server".to_owned(),
        links_dir: dir.join("links"),
        program_dir: crate::shed_init_path().parent().expect("a directory").to_owned(),
        defaults: Defaults::default(),
        mounts: MountPolicy::default(),
        pulse: Duration::from_secs(1),
        sessions: SessionSettings {
            output_dir: dir.join("output"),
            templates: Some(dir.join("templates")),
            ..SessionSettings::default()
        },
    };
    adjust(&mut settings);
    std::fs::create_dir_all(&settings.links_dir).expect("a directory for links");
    let store = Store::open(dir).expect("a store");
    let app =
        App::open(settings, store, Arc::clone(engine) as _, Clock::System).await.expect("an App");
    app.settled().await;
    app
}

/// Asks again and again until there is an answer; for what no channel tells. Fails the test after 20 seconds.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < EVENTUALLY, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
