//! An engine without containers: a box is a shed-init as a plain child, with directories of its own.
//!
//! It is real where it counts for the doors (processes, terminals, tmux, links) and keeps nothing apart: no limits, no
//! network of its own, no other user. An image is any name; one that begins with `missing` is not
//! there, one that begins with `slow` takes for ever to fetch, and at one that begins with `faulty` we panic. One that begins
//! with `hostile` has a shed-init that attacks the server.

mod faults;
mod hostile;
mod peer;
mod spawner;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};
use shed_api::ShedName;
use shed_api::shed::{DiskUse, Limits, Stats};
use shed_engine::local::{HostDirs, link_dir};
use shed_engine::{
    Change, Changes, ContainerPlan, ContainerState, Created, Engine, EngineError, EngineFuture,
    Found, ImageFacts, Report,
};
use tokio::runtime::Handle;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use shed_guest::unix::UnixTransport;

use self::hostile::Hostile;
use self::spawner::{Spawner, signal_tree};
use crate::tcp::{TcpTransport, bridge};

/// The static shed-init this crate was built with.
pub fn shed_init_path() -> &'static Path {
    Path::new(env!("SHED_INIT_PATH"))
}

/// Changes nobody has read yet.
const CHANGES: usize = 256;

/// An engine of plain processes under one directory. Ends what it started when it is dropped.
#[derive(Debug)]
pub struct ProcessEngine {
    root: PathBuf,
    dirs: HostDirs,
    /// The engine itself, which checks who calls a bridge.
    me: Weak<Self>,
    /// Present when sheds are reached over TCP.
    tcp: Option<TcpTransport>,
    spawner: Spawner,
    containers: Arc<Mutex<BTreeMap<ShedName, ProcessContainer>>>,
    changes: broadcast::Sender<Change>,
    /// Whether it pretends to be gone.
    down: watch::Sender<bool>,
    faults: faults::Faults,
}

#[derive(Debug)]
struct ProcessContainer {
    plan: ContainerPlan,
    state: ContainerState,
    pid: Option<u32>,
    /// Present instead of a process if its image is hostile.
    hostile: Option<Hostile>,
    /// Whether every start fails.
    cannot_start: bool,
    /// Moves at each end of the process.
    ended: watch::Sender<u64>,
}

impl ProcessEngine {
    /// An engine that keeps everything under `root` and serves a server with these directories. Must be called on the
    /// test's runtime.
    pub fn new(root: &Path, dirs: HostDirs) -> Arc<Self> {
        Self::with_bridges(root, dirs, None)
    }

    /// The same; with a bridge beside each shed-init if the server reaches its sheds over TCP.
    pub fn with_bridges(root: &Path, dirs: HostDirs, tcp: Option<TcpTransport>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            tcp,
            dirs,
            root: root.to_owned(),
            spawner: Spawner::start(Handle::current()),
            containers: Arc::default(),
            changes: broadcast::channel(CHANGES).0,
            down: watch::Sender::new(false),
            faults: faults::Faults::default(),
        })
    }

    /// Pretends to be gone, or to be back. Boxes go on.
    pub fn set_down(&self, down: bool) {
        self.down.send_replace(down);
    }

    /// The process id of a box's shed-init.
    pub fn pid(&self, shed: &str) -> Option<u32> {
        let containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        containers.iter().find(|(name, _)| name.as_str() == shed).and_then(|(_, known)| known.pid)
    }

    /// A shed's workspace on this machine.
    pub fn workspace(&self, shed: &str) -> PathBuf {
        self.root.join(shed).join("workspace")
    }

    /// The `TMUX_TMPDIR` of a shed's tmux.
    pub fn tmux_dir(&self, shed: &str) -> PathBuf {
        self.root.join(shed).join("run/tmux")
    }

    fn up(&self) -> Result<(), EngineError> {
        if *self.down.borrow() {
            return Err(EngineError::Unreachable("the engine is down".to_owned()));
        }
        Ok(())
    }

    fn with<T>(
        &self,
        shed: &ShedName,
        act: impl FnOnce(&mut ProcessContainer) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.up()?;
        let mut containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        match containers.get_mut(shed) {
            Some(known) => act(known),
            None => Err(EngineError::NoContainer(format!("no box of shed {shed:?}"))),
        }
    }

    fn found(shed: &ShedName, known: &ProcessContainer) -> Found {
        Found {
            shed: shed.clone(),
            id: format!("process-{shed}"),
            state: known.state.clone(),
            created_at: known.plan.created_at,
            repo: known.plan.repo.clone(),
            image: known.plan.image.clone(),
            limits: known.plan.limits,
            network: known.plan.network,
            mounts: known.plan.mounts.clone(),
            env: known.plan.env.clone(),
            stranded: false,
        }
    }

    fn launch(&self, shed: &ShedName, known: &mut ProcessContainer) -> Result<(), EngineError> {
        if known.state == ContainerState::Running {
            return Ok(());
        }
        known.hostile = Hostile::start(&known.plan.image, &link_dir(&self.dirs.links_dir, shed));
        if known.hostile.is_some() {
            known.state = ContainerState::Running;
            self.changes.send(Change { shed: shed.clone() }).ok();
            return Ok(());
        }
        faults::check_start(known)?;
        let dir = self.root.join(shed.as_str());
        let failed = |error: std::io::Error| EngineError::Failed(error.to_string());
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .map_err(failed)?;
        let run_dir = dir.join("run");
        let bridge = self.bridge(shed)?;
        let mut command = std::process::Command::new(shed_init_path());
        command
            .arg("--link-dir")
            .arg(link_dir(&self.dirs.links_dir, shed))
            .arg("--run-dir")
            .arg(&run_dir)
            .arg("--workspace")
            .arg(dir.join("workspace"))
            .arg("--worktrees")
            .arg(dir.join("worktrees"))
            .arg("--home")
            .arg(dir.join("home"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("SHED_NAME", shed.as_str())
            .envs(&known.plan.env)
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log);
        command.process_group(0);
        let mut child = self.spawner.spawn(command.into()).map_err(failed)?;
        known.pid = child.id();
        known.state = ContainerState::Running;
        let (containers, changes, name) =
            (Arc::clone(&self.containers), self.changes.clone(), shed.clone());
        let pid = known.pid;
        self.spawner.runtime.spawn(async move {
            let status = child.wait().await;
            bridge.iter().for_each(JoinHandle::abort);
            let code = status.ok().and_then(|status| status.code()).unwrap_or(137);
            let mut containers = containers.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = containers.get_mut(&name).filter(|known| known.pid == pid) {
                known.state = ContainerState::Exited { code: code.into(), out_of_memory: false };
                known.pid = None;
                known.ended.send_modify(|n_ends| *n_ends += 1);
            }
            drop(containers);
            changes.send(Change { shed: name }).ok();
        });
        self.changes.send(Change { shed: shed.clone() }).ok();
        Ok(())
    }

    /// Starts a bridge for a shed-init, if sheds are reached over TCP. Ends with shed-init.
    fn bridge(&self, shed: &ShedName) -> Result<Option<JoinHandle<()>>, EngineError> {
        let (Some(tcp), Some(me)) = (&self.tcp, self.me.upgrade()) else {
            return Ok(None);
        };
        let unix = UnixTransport::new(self.dirs.links_dir.clone(), me);
        // Like shed-init, it outlives a server that is killed.
        let _runtime = self.spawner.runtime.enter();
        let bridge = bridge(&unix, shed, tcp.tickets());
        let bridge = bridge.map_err(|error| EngineError::Failed(error.to_string()))?;
        Ok(Some(tokio::spawn(bridge)))
    }

    async fn end(&self, shed: &ShedName, limit: Duration) -> Result<(), EngineError> {
        self.faults.before_stop().await;
        let known = self.with(shed, |known| {
            if known.hostile.take().is_some() {
                known.state = ContainerState::Exited { code: 0, out_of_memory: false };
            }
            Ok((known.pid, known.ended.subscribe()))
        });
        let (pid, mut ended) = match known {
            Err(EngineError::NoContainer(_)) => return Ok(()),
            known => known?,
        };
        let Some(pid) = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) else {
            return Ok(());
        };
        signal_tree(pid, Signal::CONT);
        kill_process(pid, Signal::TERM).ok();
        if tokio::time::timeout(limit, ended.changed()).await.is_err() {
            signal_tree(pid, Signal::KILL);
            ended.changed().await.ok();
        }
        Ok(())
    }

    fn freeze(
        &self,
        shed: &ShedName,
        signal: Signal,
        state: ContainerState,
    ) -> Result<(), EngineError> {
        self.with(shed, |known| {
            if let Some(pid) = known.pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
                signal_tree(pid, signal);
            }
            known.state = state;
            Ok(())
        })?;
        self.changes.send(Change { shed: shed.clone() }).ok();
        Ok(())
    }
}

impl ProcessEngine {
    /// Kills a box with all that is in it, as the end of a machine would.
    pub fn kill(&self, shed: &str) {
        if let Some(pid) = self.pid(shed).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            signal_tree(pid, Signal::KILL);
        }
    }

    /// Kills every box. Called at the end of a test, before the runtime goes and with it the order of things.
    pub fn kill_all(&self) {
        let containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        for known in containers.values() {
            if let Some(pid) = known.pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
                signal_tree(pid, Signal::KILL);
            }
        }
    }
}

fn later<'a, T: Send + 'a>(result: Result<T, EngineError>) -> EngineFuture<'a, T> {
    Box::pin(std::future::ready(result))
}

impl Engine for ProcessEngine {
    fn describe(&self) -> EngineFuture<'_, String> {
        Box::pin(self.described())
    }

    fn ping(&self) -> EngineFuture<'_, ()> {
        Box::pin(self.faults.ping())
    }

    fn containers(&self) -> EngineFuture<'_, Vec<Found>> {
        let containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        let found = containers.iter().map(|(name, known)| Self::found(name, known)).collect();
        later(self.up().map(|()| found))
    }

    fn find<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, Option<Found>> {
        let containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
        let found = containers.get(shed).map(|known| Self::found(shed, known));
        later(self.up().map(|()| found))
    }

    fn image<'a>(&'a self, name: &'a str, report: &'a Report) -> EngineFuture<'a, ImageFacts> {
        report(format!("looking at {name}"), None);
        let facts = ImageFacts { home: "/home/dev".to_owned() };
        assert!(!name.starts_with("faulty"), "a mistake, as the test wanted it");
        if name.starts_with("slow") {
            return Box::pin(std::future::pending());
        }
        later(self.up().and_then(|()| {
            if name.starts_with("missing") {
                let why = "not here, and there is nowhere to fetch it from".to_owned();
                return Err(EngineError::NoImage { image: name.to_owned(), why });
            }
            Ok(facts)
        }))
    }

    fn create<'a>(&'a self, plan: &'a ContainerPlan) -> EngineFuture<'a, Created> {
        let make = || {
            self.up()?;
            let dir = self.root.join(plan.shed.as_str());
            let made_volumes = !dir.join("workspace").exists();
            for part in ["workspace", "worktrees", "home", "run"] {
                std::fs::create_dir_all(dir.join(part))
                    .map_err(|error| EngineError::Failed(error.to_string()))?;
            }
            let mut containers = self.containers.lock().unwrap_or_else(PoisonError::into_inner);
            containers.entry(plan.shed.clone()).or_insert_with(|| ProcessContainer {
                plan: plan.clone(),
                state: ContainerState::Created,
                pid: None,
                hostile: None,
                cannot_start: false,
                ended: watch::Sender::new(0),
            });
            Ok(Created { made_volumes })
        };
        later(make())
    }

    fn start<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()> {
        later(self.with(shed, |known| self.launch(shed, known)))
    }

    fn stop<'a>(&'a self, shed: &'a ShedName, limit: Duration) -> EngineFuture<'a, ()> {
        Box::pin(self.end(shed, limit))
    }

    fn pause<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()> {
        later(self.freeze(shed, Signal::STOP, ContainerState::Paused))
    }

    fn unpause<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()> {
        later(self.freeze(shed, Signal::CONT, ContainerState::Running))
    }

    fn remove_container<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()> {
        Box::pin(async move {
            self.end(shed, Duration::ZERO).await?;
            self.containers.lock().unwrap_or_else(PoisonError::into_inner).remove(shed);
            Ok(())
        })
    }

    fn remove_volumes<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, ()> {
        let dir = self.root.join(shed.as_str());
        let removed = match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(EngineError::Failed(error.to_string()))
            }
            Err(_) | Ok(()) => Ok(()),
        };
        later(self.up().and(removed))
    }

    fn limit<'a>(&'a self, shed: &'a ShedName, limits: Limits) -> EngineFuture<'a, ()> {
        later(self.with(shed, |known| {
            known.plan.limits = limits;
            Ok(())
        }))
    }

    fn logs<'a>(&'a self, shed: &'a ShedName, n_lines: u32) -> EngineFuture<'a, String> {
        let text =
            std::fs::read_to_string(self.root.join(shed.as_str()).join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(n_lines as usize);
        later(Ok(lines[first..].join("\n") + "\n"))
    }

    fn stats<'a>(&'a self, shed: &'a ShedName) -> EngineFuture<'a, Stats> {
        later(self.with(shed, |known| {
            Ok(Stats {
                name: shed.to_string(),
                cpus: 0.0,
                memory_bytes: 0,
                memory_limit_bytes: known.plan.limits.memory_bytes,
                pids: 1,
                network_in_bytes: 0,
                network_out_bytes: 0,
            })
        }))
    }

    fn disk(&self) -> EngineFuture<'_, Vec<DiskUse>> {
        Box::pin(async {
            self.up()?;
            self.faults.disk().await
        })
    }

    fn changes(&self) -> EngineFuture<'_, Changes> {
        let told = tokio_stream::wrappers::BroadcastStream::new(self.changes.subscribe());
        let told = told.filter_map(|change| std::future::ready(change.ok()));
        let mut down = self.down.subscribe();
        let until_down = async move {
            // The engine lives as long as its test.
            down.wait_for(|down| *down).await.ok();
        };
        let changes: Changes = Box::pin(told.take_until(Box::pin(until_down)));
        later(self.up().map(|()| changes))
    }
}
