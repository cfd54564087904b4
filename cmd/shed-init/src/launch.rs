//! Starts processes: the parent's side of the child stage.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as UnixSocket;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use shed_link::{Conn, Program, Refusal, Spawn, Status, recv_blocking, send_blocking};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::child::ChildCommand;
use crate::environment::{self, Environment};
use crate::reaper::Reaper;
use crate::settings::{Settings, User};

/// The `PATH` for an image that sets none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How long after one child stage was used the next one is started: not while the command starts, and perhaps ends.
const PREPARE_AFTER: Duration = Duration::from_millis(5);

/// A started process.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its process id, which is also its process group.
    pub(crate) pid: Pid,
    /// Receives its exit status.
    pub(crate) exit: oneshot::Receiver<Status>,
}

/// A child stage that waits for its command.
#[derive(Debug)]
struct Stage {
    pid: Pid,
    exit: oneshot::Receiver<Status>,
    control: Conn,
}

/// Starts child stages. After the first use one is kept ready: starting it takes about a millisecond, which matters for
/// short commands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stages {
    reaper: Reaper,
    /// The lock is held for single lookups only.
    ready: Arc<Mutex<Option<Stage>>>,
}

impl Stages {
    /// Child stages whose exits `reaper` reports.
    pub(crate) fn new(reaper: Reaper) -> Self {
        Self { reaper, ready: Arc::default() }
    }

    /// Takes the ready child stage, or starts one. Another one is prepared a little later.
    fn take(&self) -> Result<Stage, Refusal> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stages = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PREPARE_AFTER).await;
            stages.prepare();
        });
        // If the ready one was killed, its exit would be taken for the command's.
        match ready.map(|mut stage| (stage.exit.try_recv(), stage)) {
            Some((Err(oneshot::error::TryRecvError::Empty), stage)) => Ok(stage),
            _ => self.start(),
        }
    }

    fn prepare(&self) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.is_none() {
            // If that fails, the next command starts its own child stage, or reports the error.
            *ready = self.start().ok();
        }
    }

    fn start(&self) -> Result<Stage, Refusal> {
        let (ours, theirs) = control_pair()?;
        let pid = start_stage(theirs)?;
        let exit = self.reaper.expect(pid);
        ours.set_nonblocking(true).map_err(no_resources)?;
        let control = Conn::new(UnixStream::from_std(ours).map_err(no_resources)?);
        Ok(Stage { pid, exit, control })
    }
}

/// Starts `spawn` with its descriptors and waits until its `execve` has succeeded or failed.
pub(crate) async fn launch(
    settings: &Settings,
    stages: &Stages,
    spawn: Spawn,
    fds: Vec<OwnedFd>,
) -> Result<Started, Refusal> {
    let is_own = matches!(spawn.program, Program::Own(_));
    let command = command(settings, spawn)?;
    let Stage { pid, exit, mut control } = stages.take()?;
    if is_own {
        stages.reaper.keep_running(pid);
    }
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    control.send(&command, &borrowed).await.map_err(no_resources)?;
    drop(borrowed);
    drop(fds);
    match control.recv::<Refusal>().await {
        Ok(None) => Ok(Started { pid, exit }),
        Ok(Some((refusal, _))) => Err(refusal),
        Err(error) => Err(no_resources(error)),
    }
}

/// The same without an async runtime, for the runner. The caller reaps the child.
pub(crate) fn launch_blocking(
    command: &ChildCommand,
    fds: &[BorrowedFd<'_>],
) -> Result<Pid, Refusal> {
    let (ours, theirs) = control_pair()?;
    let pid = start_stage(theirs)?;
    send_blocking(ours.as_fd(), command, fds).map_err(no_resources)?;
    match recv_blocking::<Refusal>(ours.as_fd()) {
        Ok(None) => Ok(pid),
        Ok(Some((refusal, _))) => Err(refusal),
        Err(error) => Err(no_resources(error)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes values")]
pub(crate) fn no_resources(error: impl ToString) -> Refusal {
    Refusal::NoResources(error.to_string())
}

/// A pair of connected sockets, the second one as a descriptor for a child.
pub(crate) fn control_pair() -> Result<(UnixSocket, OwnedFd), Refusal> {
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

/// The command that the child stage executes for a request.
fn command(settings: &Settings, spawn: Spawn) -> Result<ChildCommand, Refusal> {
    let user = match spawn.user {
        shed_link::User::Dev => settings.user.clone(),
        shed_link::User::Root => settings.root(),
    };
    let mut inherited = environment::inherited();
    let inherited = match spawn.user {
        shed_link::User::Dev => {
            let tmux_dir = settings.tmux_dir().to_string_lossy().into_owned();
            environment::set(&mut inherited, "TMUX_TMPDIR".to_owned(), tmux_dir);
            inherited
        }
        shed_link::User::Root => for_root(inherited),
    };
    let env = environment(inherited, &user, spawn.env);
    let own = settings.program.to_string_lossy();
    let words = program_and_args(&user.shell, &own, spawn.program)?;
    let Words { program, arg0, args, last } = &words;
    let strings = [program, arg0].into_iter().chain(args);
    let pairs = env.iter().chain(&spawn.locale).flat_map(|(key, value)| [key, value]);
    let mut texts = strings.chain(pairs).map(String::as_bytes).chain(last.as_deref());
    let has_nul = texts.any(|text| text.contains(&0));
    drop(texts);
    if has_nul {
        return Err(Refusal::Invalid("an argument of the command contains a NUL byte".to_owned()));
    }
    let fallback = spawn.directory.is_none().then(|| user.home.clone());
    let directory = spawn.directory.map_or_else(|| settings.workspace.clone(), PathBuf::from);
    Ok(ChildCommand {
        words,
        env,
        locale: spawn.locale,
        directory: directory.to_string_lossy().into_owned(),
        fallback_directory: fallback,
        become_user: settings.switch_user.then_some((user.uid, user.gid, user.groups)),
        io: spawn.io,
        tied: spawn.detached.is_none(),
        confine: None,
    })
}

/// A program and its arguments.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Words {
    /// The program, looked up in `PATH`.
    pub(crate) program: String,
    /// Its `argv[0]`.
    pub(crate) arg0: String,
    /// Its other arguments.
    pub(crate) args: Vec<String>,
    /// One more argument, which is not UTF-8.
    pub(crate) last: Option<Vec<u8>>,
}

/// The program and its arguments. `own` is the path of shed-init, for [`Program::Own`].
pub(crate) fn program_and_args(shell: &str, own: &str, program: Program) -> Result<Words, Refusal> {
    let base = shell.rsplit('/').next().unwrap_or(shell);
    let words = |program: &str, arg0: String, args: Vec<String>| Words {
        program: program.to_owned(),
        arg0,
        args,
        last: None,
    };
    // Not a login shell: it would print what the user's profile prints, in the middle of a protocol such as rsync's.
    let line = |args: &[&str]| {
        let args = ["-c"].iter().chain(args).map(|arg| (*arg).to_owned());
        words(shell, base.to_owned(), args.collect())
    };
    Ok(match program {
        Program::Argv(mut argv) => {
            if argv.first().is_none_or(String::is_empty) {
                return Err(Refusal::Invalid("the command is empty".to_owned()));
            }
            let program = argv.remove(0);
            words(&program, program.clone(), argv)
        }
        Program::LoginShell => words(shell, format!("-{base}"), Vec::new()),
        Program::ShellLine(text) => line(&[&text]),
        Program::ShellLineBytes(text) => Words { last: Some(text), ..line(&[]) },
        Program::Own(args) => words(own, own.to_owned(), args),
        Program::Nothing => {
            return Err(Refusal::Invalid("only a worker may be without a command".to_owned()));
        }
    })
}

/// What root gets of the container's environment: nothing that can make a program run other code, since the creator of the
/// shed, who need not be an administrator, chose most of it.
fn for_root(mut inherited: Environment) -> Environment {
    const KEPT: &[&str] = &["SHED_NAME", "LANG", "TZ"];
    inherited.retain(|(name, _)| KEPT.contains(&name.as_str()) || name.starts_with("LC_"));
    inherited
}

/// The container's environment, then the user's variables, then the requested ones; a later value replaces an earlier one.
fn environment(
    inherited: Environment,
    user: &User,
    requested: Vec<(String, String)>,
) -> Environment {
    let mut env = inherited;
    for (name, value) in [("PATH", DEFAULT_PATH), ("LANG", "C.UTF-8")] {
        if environment::get(&env, name).is_none() {
            environment::set(&mut env, name.to_owned(), value.to_owned());
        }
    }
    let User { name, home, shell, .. } = user;
    let who = [("HOME", home), ("USER", name), ("LOGNAME", name), ("SHELL", shell)];
    let who = who.into_iter().map(|(name, value)| (name.to_owned(), value.clone()));
    environment::extend(&mut env, who.chain(requested));
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dev() -> User {
        User {
            name: "dev".to_owned(),
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            home: "/home/dev".to_owned(),
            shell: "/bin/bash".to_owned(),
        }
    }

    #[test]
    fn requested_variables_override_the_users_and_those_override_the_containers() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let container = vec![pair("HOME", "/root"), pair("LANG", "de"), pair("FOO", "container")];
        let requested = vec![pair("FOO", "requested"), pair("SHELL", "/bin/zsh")];
        let env = environment(container, &dev(), requested);
        let value = |name: &str| environment::get(&env, name);
        assert_eq!(value("HOME"), Some("/home/dev"));
        assert_eq!(value("LANG"), Some("de"));
        assert_eq!(value("FOO"), Some("requested"));
        assert_eq!(value("SHELL"), Some("/bin/zsh"));
        assert_eq!(value("PATH"), Some(DEFAULT_PATH));
    }

    #[test]
    fn root_gets_nothing_that_makes_a_program_run_other_code() {
        let names = ["PATH", "LD_PRELOAD", "BASH_ENV", "ENV", "GCONV_PATH", "SHED_NAME", "LC_ALL"];
        let container = names.map(|name| (name.to_owned(), "x".to_owned())).to_vec();
        let kept: Vec<String> = for_root(container).into_iter().map(|(name, _)| name).collect();
        assert_eq!(kept, ["SHED_NAME", "LC_ALL"]);
    }
}
