//! Starting a process: the worker's half of the child stage.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;
use shed_link::{Conn, Program, Refusal, Spawn, Status, User, recv_blocking, send_blocking};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::child::Order;
use crate::place::{Place, UserFacts};
use crate::reaper::Reaper;

/// What a box without a `PATH` of its own gets.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Another stage is started so long after one was taken: not while the command begins, and perhaps ends.
const PREPARE_AFTER: Duration = Duration::from_millis(5);

/// A process that runs.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its number, and that of its process group.
    pub(crate) pid: Pid,
    /// How it ends.
    pub(crate) ended: oneshot::Receiver<Status>,
}

/// A child stage that waits for its order.
#[derive(Debug)]
struct Stage {
    pid: Pid,
    ended: oneshot::Receiver<Status>,
    control: Conn,
}

/// Where child stages come from. After the first use one is kept ready: to start it takes about a millisecond, of the few
/// that a short command has.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stages {
    reaper: Reaper,
    /// Locked for single looks.
    ready: Arc<Mutex<Option<Stage>>>,
}

impl Stages {
    /// With the one who tells of their ends.
    pub(crate) fn new(reaper: Reaper) -> Self {
        Self { reaper, ready: Arc::default() }
    }

    /// The one that is ready, or a new one; and another is made ready when there is time.
    fn take(&self) -> Result<Stage, Refusal> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stages = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PREPARE_AFTER).await;
            stages.prepare();
        });
        // One that was killed meanwhile would look like a command that was.
        match ready.map(|mut stage| (stage.ended.try_recv(), stage)) {
            Some((Err(oneshot::error::TryRecvError::Empty), stage)) => Ok(stage),
            _ => self.start(),
        }
    }

    fn prepare(&self) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_none() {
            // Without one, the next command waits for its own, or is told why there is none.
            *ready = self.start().ok();
        }
    }

    fn start(&self) -> Result<Stage, Refusal> {
        let (ours, theirs) = control_pair()?;
        let pid = start_stage(theirs)?;
        let ended = self.reaper.expect(pid);
        ours.set_nonblocking(true).map_err(no_resources)?;
        let control = Conn::new(UnixStream::from_std(ours).map_err(no_resources)?);
        Ok(Stage { pid, ended, control })
    }
}

/// Starts `spawn` with its descriptors and waits until its `execve` has succeeded or failed.
pub(crate) async fn launch(
    place: &Place,
    stages: &Stages,
    spawn: Spawn,
    fds: Vec<OwnedFd>,
) -> Result<Started, Refusal> {
    let order = order(place, spawn)?;
    let Stage { pid, ended, mut control } = stages.take()?;
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    control.send(&order, &borrowed).await.map_err(no_resources)?;
    drop(borrowed);
    drop(fds);
    match control.recv::<Refusal>().await {
        Ok(None) => Ok(Started { pid, ended }),
        Ok(Some((refusal, _))) => Err(refusal),
        Err(error) => Err(no_resources(error)),
    }
}

/// The same without a runtime, for the runner. The caller reaps the child.
pub(crate) fn launch_blocking(order: &Order, fds: &[BorrowedFd<'_>]) -> Result<Pid, Refusal> {
    let (ours, theirs) = control_pair()?;
    let pid = start_stage(theirs)?;
    send_blocking(ours.as_fd(), order, fds).map_err(no_resources)?;
    match recv_blocking::<Refusal>(ours.as_fd()) {
        Ok(None) => Ok(pid),
        Ok(Some((refusal, _))) => Err(refusal),
        Err(error) => Err(no_resources(error)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err, which passes values")]
fn no_resources(error: impl ToString) -> Refusal {
    Refusal::NoResources(error.to_string())
}

fn control_pair() -> Result<(std::os::unix::net::UnixStream, OwnedFd), Refusal> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.map_err(no_resources)?;
    Ok((ours.into(), theirs))
}

fn start_stage(control: OwnedFd) -> Result<Pid, Refusal> {
    let child = Command::new("/proc/self/exe")
        .arg("child")
        .stdin(Stdio::from(control))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(no_resources)?;
    Ok(Pid::from_child(&child))
}

/// What the child stage is to become.
pub(crate) fn order(place: &Place, spawn: Spawn) -> Result<Order, Refusal> {
    let user = match spawn.user {
        User::Dev => place.user.clone(),
        User::Root => place.root(),
    };
    let env = environment(own_environment(), &user, spawn.env);
    let own = place.program.to_string_lossy();
    let (program, arg0, args) = words_of(&user.shell, &own, spawn.program)?;
    let strings = [&program, &arg0].into_iter().chain(&args);
    let pairs = env.iter().flat_map(|(key, value)| [key, value]);
    if strings.chain(pairs).any(|text| text.contains('\0')) {
        return Err(Refusal::Invalid("a word of the command has a NUL byte in it".to_owned()));
    }
    let fallback = spawn.directory.is_none().then(|| user.home.clone());
    let directory = spawn.directory.map_or_else(|| place.workspace.clone(), PathBuf::from);
    Ok(Order {
        program,
        arg0,
        args,
        env,
        directory: directory.to_string_lossy().into_owned(),
        fallback_directory: fallback,
        become_user: place.switch_user.then_some((user.uid, user.gid, user.groups)),
        io: spawn.io,
        tied: spawn.detached.is_none(),
        confine: None,
    })
}

/// Our own environment: what the engine gave the box. A variable that is no UTF-8 is nobody's of ours and stays behind.
fn own_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
}

/// Program, name and arguments.
pub(crate) fn words_of(
    shell: &str,
    own: &str,
    program: Program,
) -> Result<(String, String, Vec<String>), Refusal> {
    let base = shell.rsplit('/').next().unwrap_or(shell);
    let login = format!("-{base}");
    Ok(match program {
        Program::Argv(mut argv) => {
            if argv.first().is_none_or(String::is_empty) {
                return Err(Refusal::Invalid("the command is empty".to_owned()));
            }
            let program = argv.remove(0);
            (program.clone(), program, argv)
        }
        Program::LoginShell => (shell.to_owned(), login, Vec::new()),
        Program::ShellLine(line) => (shell.to_owned(), login, vec!["-c".to_owned(), line]),
        Program::Own(args) => (own.to_owned(), own.to_owned(), args),
        Program::Nothing => {
            return Err(Refusal::Invalid("only a worker may run nothing".to_owned()));
        }
    })
}

/// The box's environment, then who the user is, then what was asked for.
fn environment(
    inherited: impl Iterator<Item = (String, String)>,
    user: &UserFacts,
    asked: Vec<(String, String)>,
) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = inherited.collect();
    let has = |env: &[(String, String)], key: &str| env.iter().any(|(known, _)| known == key);
    for (key, value) in [("PATH", DEFAULT_PATH), ("LANG", "C.UTF-8")] {
        if !has(&env, key) {
            env.push((key.to_owned(), value.to_owned()));
        }
    }
    let UserFacts { name, home, shell, .. } = user;
    let who = [("HOME", home), ("USER", name), ("LOGNAME", name), ("SHELL", shell)];
    let who = who.into_iter().map(|(key, value)| (key.to_owned(), value.clone()));
    for (key, value) in who.chain(asked) {
        env.retain(|(known, _)| *known != key);
        env.push((key, value));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev() -> UserFacts {
        UserFacts {
            name: "dev".to_owned(),
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            home: "/home/dev".to_owned(),
            shell: "/bin/bash".to_owned(),
        }
    }

    #[test]
    fn what_is_asked_for_beats_who_the_user_is_beats_the_box() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let box_env = [pair("HOME", "/root"), pair("LANG", "de"), pair("FOO", "box")];
        let asked = vec![pair("FOO", "asked"), pair("SHELL", "/bin/zsh")];
        let env = environment(box_env.into_iter(), &dev(), asked);
        let value = |key: &str| env.iter().find(|(known, _)| known == key).map(|(_, v)| v.as_str());
        assert_eq!(value("HOME"), Some("/home/dev"));
        assert_eq!(value("LANG"), Some("de"));
        assert_eq!(value("FOO"), Some("asked"));
        assert_eq!(value("SHELL"), Some("/bin/zsh"));
        assert_eq!(value("PATH"), Some(DEFAULT_PATH));
    }
}
