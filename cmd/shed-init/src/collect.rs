//! The collector: one process in each shed that sends what the workers' runners keep in their spools to the server, which
//! is its standard input. It follows the files by inotify and sleeps while nothing happens.
//!
//! It reads one turn of one spool at a time and only when the last turn is out, so that it never reads ahead of a server
//! that does not read, and a spool that is full of output does not keep the others waiting.

mod feed;
mod segments;
mod watches;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use shed_link::spool::{Ask, Epoch, Item, WorkerId};

use crate::collect::feed::{Feed, Turn};
use crate::collect::watches::{Change, Watches};
use crate::say;

pub(crate) use segments::is_abandoned;

/// Epochs that are known at once. Each is a start of a worker whose output the server has not stored whole.
const MAX_EPOCHS: usize = 4096;
/// Items that wait beside the spools. A server that does not read is not heard past it.
const MAX_NEWS: usize = 2 * MAX_EPOCHS;
/// What is read of the server at once; dozens of requests.
const READ_BYTES: usize = 4 << 10;
/// How often everything is looked at where the kernel has no watch left.
const BLIND_PAUSE: Duration = Duration::from_millis(250);
/// A runner that has just closed its files gives up its lock a moment later; how long and how often that is looked for.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const LOCK_TRIES: u32 = 50;

/// Sends the spools below `spool` until the server hangs up.
pub(crate) fn main(spool: &str) -> ExitCode {
    match Collector::new(Path::new(spool)).and_then(Collector::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&format!("shed-init: collector: {why}"));
            ExitCode::FAILURE
        }
    }
}

struct Collector {
    root: PathBuf,
    watches: Watches,
    /// What exists; followed or not.
    known: BTreeMap<Epoch, Option<Feed>>,
    /// Followed spools that may have something to read, the next first; and who is in it.
    busy: VecDeque<Epoch>,
    is_busy: BTreeSet<Epoch>,
    /// Spools whose runner may be about to give up its lock, and how often that was looked for.
    closing: BTreeMap<Epoch, u32>,
    /// When it is looked for again.
    look_at: Option<Instant>,
    /// When everything is looked at again, where something could not be watched.
    look_again: Option<Instant>,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    sent: usize,
    /// Epochs the server has not been told of.
    news: VecDeque<Item>,
}

impl Collector {
    fn new(root: &Path) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", root.display());
        std::fs::create_dir_all(root).map_err(|error| failed(&error))?;
        let watches = Watches::new(root).map_err(|error| failed(&error))?;
        let mut collector = Self {
            root: root.to_owned(),
            watches,
            known: BTreeMap::new(),
            busy: VecDeque::new(),
            is_busy: BTreeSet::new(),
            closing: BTreeMap::new(),
            look_at: None,
            look_again: None,
            inbox: Vec::new(),
            outbox: Vec::new(),
            sent: 0,
            news: VecDeque::new(),
        };
        collector.find_workers();
        collector.news.push_back(Item::Listed);
        Ok(collector)
    }

    fn run(mut self) -> Result<(), String> {
        loop {
            self.fill();
            if !self.flush()? {
                return Ok(());
            }
            let has_more = !self.news.is_empty() || !self.busy.is_empty();
            if !self.wait(!has_more || !self.outbox.is_empty())? {
                return Ok(());
            }
        }
    }

    /// Makes the next turn when the last one is out.
    fn fill(&mut self) {
        while self.outbox.is_empty() {
            if let Some(item) = self.news.pop_front() {
                item.encode(&mut self.outbox);
                continue;
            }
            let Some(epoch) = self.busy.pop_front() else {
                return;
            };
            self.is_busy.remove(&epoch);
            let Some(Some(feed)) = self.known.get_mut(&epoch) else {
                continue;
            };
            match feed.turn(&mut self.outbox) {
                Turn::More => self.make_busy(epoch),
                Turn::Quiet | Turn::Ended => {}
            }
        }
    }

    fn make_busy(&mut self, epoch: Epoch) {
        if self.is_busy.insert(epoch) {
            self.busy.push_back(epoch);
        }
    }

    /// Sends what fits. Says whether the server is there.
    fn flush(&mut self) -> Result<bool, String> {
        let socket = std::io::stdin();
        while self.sent < self.outbox.len() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&socket, &self.outbox[self.sent..], flags) {
                Ok(n_sent) => self.sent += n_sent,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
                Err(error) => return Err(format!("the socket to the server: {error}")),
            }
        }
        self.outbox.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Takes what the server asks and what the files tell; sleeps for it if there is nothing else to do. Says whether the
    /// server is there.
    fn wait(&mut self, may_sleep: bool) -> Result<bool, String> {
        let socket = std::io::stdin();
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, self.news.len() < MAX_NEWS);
        interest.set(PollFlags::OUT, !self.outbox.is_empty());
        let limit = if may_sleep {
            let left = |at: Instant| at.saturating_duration_since(Instant::now());
            self.look_at.into_iter().chain(self.look_again).min().map(left)
        } else {
            Some(Duration::ZERO)
        };
        let limit = limit.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        });
        let (server, files) = {
            let mut fds =
                [PollFd::new(&socket, interest), PollFd::new(&self.watches, PollFlags::IN)];
            // An interrupted wait is a short one.
            if poll(&mut fds, limit.as_ref()).is_err() {
                return Ok(true);
            }
            (fds[0].revents(), !fds[1].revents().is_empty())
        };
        if files {
            for change in self.watches.read() {
                self.take_change(change);
            }
        }
        if self.look_again.is_some_and(|at| at <= Instant::now()) {
            // Asked for again while it is so.
            self.look_again = Some(Instant::now() + BLIND_PAUSE);
            self.take_change(Change::Overflow);
        }
        if self.look_at.is_some_and(|at| at <= Instant::now()) {
            self.look_at_locks();
        }
        if server.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return self.receive();
        }
        Ok(true)
    }

    fn receive(&mut self) -> Result<bool, String> {
        let mut buffer = [0; READ_BYTES];
        match recv(std::io::stdin(), &mut buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(false),
            Ok((n_read, _)) => self.inbox.extend_from_slice(&buffer[..n_read]),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(error) => return Err(format!("the socket to the server: {error}")),
        }
        let mut taken = 0;
        while let Some((ask, n_bytes)) =
            Ask::decode(&self.inbox[taken..]).map_err(|error| error.to_string())?
        {
            taken += n_bytes;
            self.answer(ask);
        }
        self.inbox.drain(..taken);
        Ok(true)
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Follow { of, from } => {
                let feed = Feed::new(of, self.path(of), from);
                match self.known.get_mut(&of) {
                    Some(known) => {
                        *known = Some(feed);
                        self.make_busy(of);
                    }
                    None => self.news.push_back(Item::Lost { of, offset: from }),
                }
            }
            Ask::Ack { of, offset, end } => {
                if end {
                    self.delete(of);
                } else {
                    segments::delete_before(&self.path(of), offset);
                }
            }
            Ask::Forget { worker } => {
                let all: Vec<Epoch> =
                    self.known.keys().filter(|known| known.worker == worker).copied().collect();
                for epoch in all {
                    self.delete(epoch);
                }
                std::fs::remove_dir_all(self.root.join(worker.to_string())).ok();
            }
        }
    }

    fn delete(&mut self, epoch: Epoch) {
        self.forget(epoch);
        // What cannot be deleted is found again, and acknowledged again.
        std::fs::remove_dir_all(self.path(epoch)).ok();
        // Only when it was the worker's last.
        std::fs::remove_dir(self.root.join(epoch.worker.to_string())).ok();
    }

    fn forget(&mut self, epoch: Epoch) {
        self.known.remove(&epoch);
        self.closing.remove(&epoch);
        self.watches.forget(epoch);
    }

    fn take_change(&mut self, change: Change) {
        match change {
            Change::Workers => self.find_workers(),
            Change::Worker(worker) => self.find_epochs(worker),
            Change::Output(epoch) => {
                if matches!(self.known.get(&epoch), Some(Some(_))) {
                    self.make_busy(epoch);
                }
            }
            Change::Created(epoch) => self.look_around(epoch),
            Change::Closed(epoch) => {
                self.closing.insert(epoch, 0);
                self.look_at = Some(Instant::now());
            }
            // Somebody deleted it: who follows it is told that nothing more comes.
            Change::Gone(epoch) => match self.known.get(&epoch) {
                Some(Some(_)) => self.look_around(epoch),
                Some(None) | None => self.forget(epoch),
            },
            Change::Overflow => {
                self.find_workers();
                let all: Vec<Epoch> = self.known.keys().copied().collect();
                for epoch in all {
                    self.look_around(epoch);
                    self.take_change(Change::Closed(epoch));
                }
            }
        }
    }

    /// A spool may have a next segment, or no runner.
    fn look_around(&mut self, epoch: Epoch) {
        if let Some(Some(feed)) = self.known.get_mut(&epoch) {
            feed.look_around();
            self.make_busy(epoch);
        }
    }

    /// A runner whose files were closed either only changed its file or is gone.
    fn look_at_locks(&mut self) {
        self.look_at = None;
        let epochs: Vec<Epoch> = self.closing.keys().copied().collect();
        for epoch in epochs {
            let is_gone = segments::is_abandoned(&self.path(epoch));
            let n_tries = self.closing.get_mut(&epoch).map_or(LOCK_TRIES, |n_tries| {
                *n_tries += 1;
                *n_tries
            });
            if is_gone || n_tries >= LOCK_TRIES {
                self.closing.remove(&epoch);
                self.look_around(epoch);
            }
        }
        if !self.closing.is_empty() {
            self.look_at = Some(Instant::now() + LOCK_PAUSE);
        }
    }

    fn path(&self, epoch: Epoch) -> PathBuf {
        self.root.join(epoch.worker.to_string()).join(epoch.epoch.to_string())
    }

    fn find_workers(&mut self) {
        let workers: Vec<WorkerId> =
            names(&self.root).filter_map(|name| name.parse().ok()).collect();
        for worker in workers {
            self.find_epochs(worker);
        }
    }

    fn find_epochs(&mut self, worker: WorkerId) {
        let dir = self.root.join(worker.to_string());
        // Watched before it is read: nothing that comes in between is missed.
        if self.watches.add_worker(worker, &dir).is_err() && dir.is_dir() {
            self.go_blind();
        }
        let epochs: Vec<u64> = names(&dir).filter_map(|name| parse_epoch(&name)).collect();
        for epoch in epochs {
            let epoch = Epoch { worker, epoch };
            if self.known.contains_key(&epoch) || self.known.len() >= MAX_EPOCHS {
                continue;
            }
            if self.watches.add_epoch(epoch, &self.path(epoch)).is_err() {
                if !self.path(epoch).is_dir() {
                    continue;
                }
                self.go_blind();
            }
            self.known.insert(epoch, None);
            self.news.push_back(Item::Found { of: epoch });
        }
    }

    /// All sheds share the user's watches, and there are none left: from now on it is looked instead.
    fn go_blind(&mut self) {
        self.look_again.get_or_insert_with(|| Instant::now() + BLIND_PAUSE);
    }
}

/// The names in a directory; none when it cannot be read.
fn names(dir: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// An epoch as its directory is named: what is printed the same way it was read.
fn parse_epoch(name: &str) -> Option<u64> {
    name.parse().ok().filter(|epoch: &u64| epoch.to_string() == name)
}
