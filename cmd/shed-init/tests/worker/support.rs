//! The inside of a shed without a container: a tmux server, the socket where a runner claims its command, a collector, and the
//! server's ends of all their connections.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use shed_link::control::{self, Reply, Report};
use shed_link::spool::{CollectorRequest, Epoch, Item, WorkerId};
use shed_link::{
    Claim, Claimed, Confine, Io, Program, Spawn, User, WorkerSpec, recv_blocking, send_blocking,
};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_shed-init");
/// No step of a test takes this long unless something is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// Checks a condition repeatedly until it holds.
pub(crate) fn wait_for<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(Instant::now() < deadline, "timeout while waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn epoch(worker: u8, epoch: u64) -> Epoch {
    Epoch { worker: WorkerId::from_bytes([worker; 16]), epoch }
}

/// A command for a worker.
pub(crate) struct Plan {
    pub(crate) of: Epoch,
    pub(crate) program: Program,
    pub(crate) prelude: Vec<u8>,
    pub(crate) confine: Option<Confine>,
    pub(crate) spool: Option<PathBuf>,
}

/// A line for a shell, without prelude and confinement.
pub(crate) fn line(of: Epoch, line: &str) -> Plan {
    let argv = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    Plan { of, program: Program::Argv(argv), prelude: Vec::new(), confine: None, spool: None }
}

pub(crate) struct Shed {
    dir: tempfile::TempDir,
    /// Where runners claim their commands.
    claims: UnixListener,
}

impl Shed {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for part in ["tmux", "work"] {
            std::fs::create_dir(dir.path().join(part)).unwrap();
        }
        let claims = UnixListener::bind(dir.path().join("box.sock")).unwrap();
        let shed = Self { dir, claims };
        // Without the user's configuration, and with windows that stay open when their command has ended.
        shed.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "-s",
            "main",
            "cat",
        ]);
        shed.tmux(&["set-option", "-g", "remain-on-exit", "on"]);
        shed
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn spool(&self) -> PathBuf {
        self.dir.path().join("worktrees/.shed/spool")
    }

    pub(crate) fn epoch_dir(&self, of: Epoch) -> PathBuf {
        self.spool().join(of.worker.to_string()).join(of.epoch.to_string())
    }

    pub(crate) fn tmux(&self, words: &[&str]) -> String {
        let output = Command::new("tmux")
            .env("TMUX_TMPDIR", self.dir.path().join("tmux"))
            .env_remove("TMUX")
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Opens a window with a runner and sends it its command. Returns the pane's id.
    pub(crate) fn run(&self, plan: Plan) -> String {
        let socket = self.dir.path().join("box.sock");
        let words = ["new-window", "-d", "-P", "-F", "#{pane_id}", "-t", "=main:", PROGRAM, "run"];
        let pane = self.tmux(&[&words[..], &[socket.to_str().unwrap(), "token"]].concat());
        self.send_command(plan);
        pane
    }

    /// Starts a runner on a terminal that is read as fast as possible, unlike one of tmux, and sends it its command.
    pub(crate) fn run_on_terminal(&self, plan: Plan) -> Terminal {
        let terminal = Terminal::start(&self.dir.path().join("box.sock"));
        self.send_command(plan);
        terminal
    }

    /// Answers the claim of a runner.
    fn send_command(&self, plan: Plan) {
        let (caller, _) = self.claims.accept().unwrap();
        let (claim, _) = recv_blocking::<Claim>(caller.as_fd()).unwrap().unwrap();
        assert_eq!(claim.token, "token");
        let spool = plan.spool.unwrap_or_else(|| self.spool());
        let spawn = Spawn {
            program: plan.program,
            env: vec![("SHED_WORKER".to_owned(), plan.of.worker.to_string())],
            locale: Vec::new(),
            directory: Some(self.work().to_string_lossy().into_owned()),
            user: User::Dev,
            io: Io::Prelude,
            detached: None,
            worker: Some(WorkerSpec {
                id: plan.of.worker,
                epoch: plan.of.epoch,
                spool: spool.to_string_lossy().into_owned(),
                confine: plan.confine,
            }),
        };
        let (mut prelude, theirs) = UnixStream::pair().unwrap();
        send_blocking(caller.as_fd(), &Claimed::Spawn(Box::new(spawn)), &[theirs.as_fd()]).unwrap();
        drop(theirs);
        prelude.write_all(&plan.prelude).unwrap();
    }

    pub(crate) fn screen(&self, pane: &str) -> String {
        self.tmux(&["capture-pane", "-p", "-S", "-", "-t", pane])
    }

    pub(crate) fn runner_pid(&self, pane: &str) -> i32 {
        self.tmux(&["display-message", "-p", "-t", pane, "#{pane_pid}"]).parse().unwrap()
    }

    /// Waits until the runner in the window has ended.
    pub(crate) fn dead(&self, pane: &str) {
        wait_for("the window's end", || {
            let state = self.tmux(&["display-message", "-p", "-t", pane, "#{pane_dead}"]);
            (state == "1").then_some(())
        });
    }

    pub(crate) fn collector(&self) -> Collector {
        Self::collector_at(&self.spool())
    }

    pub(crate) fn collector_at(spool: &Path) -> Collector {
        Collector::start(&mut Command::new(PROGRAM), spool)
    }

    /// A collector whose user has no inotify instance left.
    pub(crate) fn collector_without_inotify(&self) -> Collector {
        // A user namespace has a limit of its own.
        let script = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "sh", "-c", script, "sh", PROGRAM]);
        Collector::start(&mut command, &self.spool())
    }

    pub(crate) fn control(&self, of: Epoch) -> Control {
        Self::control_at(&self.epoch_dir(of).join(control::SOCKET))
    }

    /// Connects as the server does, with `shed-init connect`.
    pub(crate) fn control_at(path: &Path) -> Control {
        wait_for("the control socket", || path.exists().then_some(()));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let connect = Command::new(PROGRAM)
            .args(["connect", "unix", path.to_str().unwrap()])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .status()
            .unwrap();
        assert!(connect.success());
        let (connected, mut fds) =
            recv_blocking::<shed_link::Connected>(ours.as_fd()).unwrap().unwrap();
        assert_eq!(connected, shed_link::Connected::Socket);
        let socket = UnixStream::from(fds.remove(0));
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Control { socket, inbox: Vec::new() }
    }
}

impl Drop for Shed {
    fn drop(&mut self) {
        Command::new("tmux")
            .env("TMUX_TMPDIR", self.dir.path().join("tmux"))
            .arg("kill-server")
            .output()
            .ok();
    }
}

/// A runner on a terminal of 80 columns and 24 rows.
pub(crate) struct Terminal {
    runner: Child,
    screen: JoinHandle<Vec<u8>>,
}

impl Terminal {
    fn start(socket: &Path) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        let size = Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&slave, size).unwrap();
        let runner = Command::new(PROGRAM)
            .arg("run")
            .arg(socket)
            .arg("token")
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave))
            .spawn()
            .unwrap();
        Self { runner, screen: std::thread::spawn(move || read_terminal(&master)) }
    }

    /// Waits until the runner has ended. Returns its exit status and everything it has shown.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<u8>) {
        let status = self.runner.wait().unwrap();
        (status, self.screen.join().unwrap())
    }
}

/// Reads until the runner has closed the terminal. Answers its request for the terminal's status, as a terminal does.
fn read_terminal(master: &OwnedFd) -> Vec<u8> {
    let mut shown = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n_read) = rustix::io::read(master, &mut buffer) {
        shown.extend_from_slice(&buffer[..n_read]);
        if let Some(before) = shown.strip_suffix(b"\x1b[5n") {
            shown.truncate(before.len());
            rustix::io::write(master, b"\x1b[0n").unwrap();
        }
    }
    shown
}

pub(crate) struct Control {
    socket: UnixStream,
    inbox: Vec<u8>,
}

impl Control {
    pub(crate) fn send(&mut self, ask: &control::RunnerRequest) {
        self.socket.write_all(&ask.encode()).unwrap();
    }

    pub(crate) fn ask(&mut self, ask: &control::RunnerRequest) -> Reply {
        self.send(ask);
        self.receive()
    }

    pub(crate) fn receive(&mut self) -> Reply {
        loop {
            if let Some((reply, n_bytes)) = Reply::decode(&self.inbox).unwrap() {
                self.inbox.drain(..n_bytes);
                return reply;
            }
            let mut buffer = [0; 4096];
            let n_read = self.socket.read(&mut buffer).unwrap();
            assert!(n_read > 0, "the runner closed the connection");
            self.inbox.extend(&buffer[..n_read]);
        }
    }

    pub(crate) fn report(&mut self) -> Report {
        match self.ask(&control::RunnerRequest::Status) {
            Reply::Status(report) => report,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) struct Collector {
    child: Child,
    pub(crate) socket: UnixStream,
    inbox: Vec<u8>,
}

impl Collector {
    pub(crate) fn start(command: &mut Command, spool: &Path) -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        let child = command
            .arg("collect")
            .arg(spool)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .spawn()
            .unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self { child, socket, inbox: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn ask(&mut self, ask: CollectorRequest) {
        self.ask_all(&[ask]);
    }

    /// Sends several requests in one write.
    pub(crate) fn ask_all(&mut self, asks: &[CollectorRequest]) {
        let mut bytes = Vec::new();
        for ask in asks {
            ask.encode(&mut bytes);
        }
        self.socket.write_all(&bytes).unwrap();
    }

    pub(crate) fn follow(&mut self, of: Epoch, from: u64) {
        self.ask(CollectorRequest::Follow { of, from });
    }

    pub(crate) fn next(&mut self) -> Item {
        loop {
            if let Some((item, n_bytes)) = Item::decode(&self.inbox).unwrap() {
                self.inbox.drain(..n_bytes);
                return item;
            }
            let mut buffer = vec![0; 64 << 10];
            let n_read = self.socket.read(&mut buffer).unwrap();
            assert!(n_read > 0, "the collector closed the connection");
            self.inbox.extend(&buffer[..n_read]);
        }
    }

    /// Reads until an item matches.
    pub(crate) fn until(&mut self, matches: impl Fn(&Item) -> bool) -> Item {
        loop {
            let item = self.next();
            if matches(&item) {
                return item;
            }
        }
    }

    pub(crate) fn found(&mut self, of: Epoch) {
        self.until(|item| *item == Item::Found { of });
    }

    /// Reads one epoch to its last item. Returns the output from `from` on and all other items.
    pub(crate) fn read_all(&mut self, of: Epoch, from: u64) -> (Vec<u8>, Vec<Item>) {
        let (mut bytes, mut items, mut offset) = (Vec::new(), Vec::new(), from);
        loop {
            let item = self.next();
            match &item {
                Item::Output { of: whose, offset: at, bytes: more, .. } if *whose == of => {
                    assert_eq!(*at, offset, "output is missing without a gap");
                    offset += more.len() as u64;
                    bytes.extend(more);
                    continue;
                }
                Item::Gap { of: whose, offset: at, n_bytes } if *whose == of => {
                    assert_eq!(*at, offset);
                    offset += n_bytes;
                }
                Item::Exit { of: whose, offset: at, .. } | Item::Lost { of: whose, offset: at }
                    if *whose == of =>
                {
                    assert_eq!(*at, offset);
                    items.push(item);
                    return (bytes, items);
                }
                Item::Refused { of: whose, .. } if *whose == of => {
                    items.push(item);
                    return (bytes, items);
                }
                _ => {}
            }
            items.push(item);
        }
    }

    /// Waits until the collector has failed.
    pub(crate) fn until_failed(&mut self) {
        while self.socket.read(&mut [0; 4096]).unwrap_or(0) > 0 {}
        assert!(!self.child.wait().unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.kill();
    }
}
