//! A shed's inside without the shed: an own tmux server, the socket where a runner claims its command, a collector, and
//! the server's ends of all of them.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use shed_link::control::{self, Reply, Report};
use shed_link::spool::{Ask, Epoch, Item, WorkerId};
use shed_link::{
    Claim, Claimed, Confine, Io, Program, Spawn, User, WorkerSpec, recv_blocking, send_blocking,
};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_shed-init");
/// Nothing here takes so long unless it is broken.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// Looks until it is so.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn epoch(worker: u8, epoch: u64) -> Epoch {
    Epoch { worker: WorkerId::from_bytes([worker; 16]), epoch }
}

/// What is to be run; the rest has defaults.
pub(crate) struct Plan {
    pub(crate) of: Epoch,
    pub(crate) program: Program,
    pub(crate) prelude: Vec<u8>,
    pub(crate) confine: Option<Confine>,
    pub(crate) spool: Option<PathBuf>,
}

/// A shell's line as a worker's command.
pub(crate) fn line(of: Epoch, line: &str) -> Plan {
    let argv = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    Plan { of, program: Program::Argv(argv), prelude: Vec::new(), confine: None, spool: None }
}

pub(crate) struct Shed {
    dir: tempfile::TempDir,
    box_socket: UnixListener,
}

impl Shed {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for part in ["tmux", "work"] {
            std::fs::create_dir(dir.path().join(part)).unwrap();
        }
        let box_socket = UnixListener::bind(dir.path().join("box.sock")).unwrap();
        let shed = Self { dir, box_socket };
        // Without any file of the user's, and with a window that stays when its command has ended.
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

    /// Opens a window with a runner and gives it its command. Answers the pane.
    pub(crate) fn run(&self, plan: Plan) -> String {
        let socket = self.dir.path().join("box.sock");
        let words = ["new-window", "-d", "-P", "-F", "#{pane_id}", "-t", "=main:", PROGRAM, "run"];
        let pane = self.tmux(&[&words[..], &[socket.to_str().unwrap(), "token"]].concat());
        let (caller, _) = self.box_socket.accept().unwrap();
        let (claim, _) = recv_blocking::<Claim>(caller.as_fd()).unwrap().unwrap();
        assert_eq!(claim.token, "token");
        let spool = plan.spool.unwrap_or_else(|| self.spool());
        let spawn = Spawn {
            program: plan.program,
            env: vec![("SHED_WORKER".to_owned(), plan.of.worker.to_string())],
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
        send_blocking(caller.as_fd(), &Claimed::Spawn(spawn), &[theirs.as_fd()]).unwrap();
        drop(theirs);
        prelude.write_all(&plan.prelude).unwrap();
        pane
    }

    pub(crate) fn screen(&self, pane: &str) -> String {
        self.tmux(&["capture-pane", "-p", "-S", "-", "-t", pane])
    }

    pub(crate) fn runner_pid(&self, pane: &str) -> i32 {
        self.tmux(&["display-message", "-p", "-t", pane, "#{pane_pid}"]).parse().unwrap()
    }

    /// Waits until the window's command has ended. tmux does not always learn how: the spool says.
    pub(crate) fn dead(&self, pane: &str) {
        wait_for("the window's end", || {
            let state = self.tmux(&["display-message", "-p", "-t", pane, "#{pane_dead}"]);
            (state == "1").then_some(())
        });
    }

    pub(crate) fn collector(&self) -> Collector {
        Collector::start(&self.spool())
    }

    pub(crate) fn control(&self, of: Epoch) -> Control {
        Self::control_at(&self.epoch_dir(of).join(control::SOCKET))
    }

    /// The way the server comes: through the program that connects.
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

pub(crate) struct Control {
    socket: UnixStream,
    inbox: Vec<u8>,
}

impl Control {
    pub(crate) fn send(&mut self, ask: &control::Ask) {
        self.socket.write_all(&ask.encode()).unwrap();
    }

    pub(crate) fn ask(&mut self, ask: &control::Ask) -> Reply {
        self.send(ask);
        self.hear()
    }

    pub(crate) fn hear(&mut self) -> Reply {
        loop {
            if let Some((reply, n_bytes)) = Reply::decode(&self.inbox).unwrap() {
                self.inbox.drain(..n_bytes);
                return reply;
            }
            let mut buffer = [0; 4096];
            let n_read = self.socket.read(&mut buffer).unwrap();
            assert!(n_read > 0, "the runner hung up");
            self.inbox.extend(&buffer[..n_read]);
        }
    }

    pub(crate) fn report(&mut self) -> Report {
        match self.ask(&control::Ask::Status) {
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
    pub(crate) fn start(spool: &Path) -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        let child = Command::new(PROGRAM)
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

    pub(crate) fn ask(&mut self, ask: Ask) {
        let mut bytes = Vec::new();
        ask.encode(&mut bytes);
        self.socket.write_all(&bytes).unwrap();
    }

    pub(crate) fn follow(&mut self, of: Epoch, from: u64) {
        self.ask(Ask::Follow { of, from });
    }

    pub(crate) fn next(&mut self) -> Item {
        loop {
            if let Some((item, n_bytes)) = Item::decode(&self.inbox).unwrap() {
                self.inbox.drain(..n_bytes);
                return item;
            }
            let mut buffer = vec![0; 64 << 10];
            let n_read = self.socket.read(&mut buffer).unwrap();
            assert!(n_read > 0, "the collector hung up");
            self.inbox.extend(&buffer[..n_read]);
        }
    }

    /// Reads until the item that fits.
    pub(crate) fn until(&mut self, fits: impl Fn(&Item) -> bool) -> Item {
        loop {
            let item = self.next();
            if fits(&item) {
                return item;
            }
        }
    }

    pub(crate) fn found(&mut self, of: Epoch) {
        self.until(|item| *item == Item::Found { of });
    }

    /// Reads one epoch to its last item: everything that was printed from `from` on, and all items.
    pub(crate) fn read_all(&mut self, of: Epoch, from: u64) -> (Vec<u8>, Vec<Item>) {
        let (mut bytes, mut items, mut offset) = (Vec::new(), Vec::new(), from);
        loop {
            let item = self.next();
            match &item {
                Item::Output { of: whose, offset: at, bytes: more, .. } if *whose == of => {
                    assert_eq!(*at, offset, "a hole that no gap tells of");
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

    /// Waits until it has ended.
    pub(crate) fn until_hung_up(&mut self) {
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
