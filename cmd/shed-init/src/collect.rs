//! The collector: one process per shed that sends the spools of workers to the server. Its standard input is a socket to the
//! server. It follows the files with inotify and sleeps while nothing happens.
//!
//! It reads one turn from one spool at a time, and only after the previous turn was sent. So it never reads ahead of a
//! server that is slow to read, and a large spool does not delay the others.

mod feed;
mod segments;
mod watches;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use shed_link::spool::{CollectorRequest, Epoch, Item, WorkerId};

use crate::clock::time_until;
use crate::collect::feed::{Feed, Turn};
use crate::collect::watches::{Change, Watches};
use crate::log;

pub(crate) use segments::is_abandoned;

/// The most epochs that are known at once. Each is a start of a worker whose output the server has not stored completely.
const MAX_EPOCHS: usize = 4096;
/// The most items that wait in addition to the spools' output. With more, no request of the server is read.
const MAX_WAITING_ITEMS: usize = 2 * MAX_EPOCHS;
/// The most bytes of one read from the server: dozens of requests.
const READ_BYTES: usize = 4 << 10;
/// How often all spools are checked if the kernel has no inotify watch left.
const POLL_PERIOD: Duration = Duration::from_millis(250);
/// A runner that ends releases its lock a moment after it closes its files. The lock is checked at this interval, and at
/// most [`LOCK_TRIES`] times.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// How often a lock is checked after its file was closed.
const LOCK_TRIES: u32 = 50;

/// Sends the spools below `spool` until the server closes the socket.
pub(crate) fn main(spool: &str) -> ExitCode {
    match Collector::new(Path::new(spool)).and_then(Collector::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::line(&format!("shed-init: collector: {error}"));
            ExitCode::FAILURE
        }
    }
}

struct Collector {
    root: PathBuf,
    watches: Watches,
    /// The existing epochs, with a feed if the server follows them.
    known: BTreeMap<Epoch, Option<Feed>>,
    /// Followed epochs that may have something to read, the next first.
    busy: VecDeque<Epoch>,
    /// The same epochs, for lookups.
    is_busy: BTreeSet<Epoch>,
    /// Epochs whose runner may be about to release its lock, with the number of checks so far.
    closing: BTreeMap<Epoch, u32>,
    /// How much of each epoch the server has stored.
    stored: BTreeMap<Epoch, u64>,
    /// When the locks are checked again.
    check_locks_at: Option<Instant>,
    /// When all spools are checked again, if something could not be watched.
    check_all_at: Option<Instant>,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    /// How much of the outbox is sent.
    sent: usize,
    /// Items that are not output, such as newly found epochs.
    waiting: VecDeque<Item>,
}

impl Collector {
    fn new(root: &Path) -> Result<Self, String> {
        let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", root.display());
        std::fs::create_dir_all(root).map_err(|error| failed(&error))?;
        let mut collector = Self {
            root: root.to_owned(),
            watches: Watches::new(root),
            known: BTreeMap::new(),
            busy: VecDeque::new(),
            is_busy: BTreeSet::new(),
            closing: BTreeMap::new(),
            stored: BTreeMap::new(),
            check_locks_at: None,
            check_all_at: None,
            inbox: Vec::new(),
            outbox: Vec::new(),
            sent: 0,
            waiting: VecDeque::new(),
        };
        if let Err(error) = collector.watches.add_root(root) {
            let text = format!(
                "shed-init: cannot watch {}: {error}; checking it every {} ms (raise \
                 fs.inotify.max_user_instances and fs.inotify.max_user_watches on the host)",
                root.display(),
                POLL_PERIOD.as_millis(),
            );
            log::line(&text);
            collector.start_polling();
        }
        collector.find_workers();
        collector.waiting.push_back(Item::Listed);
        Ok(collector)
    }

    fn run(mut self) -> Result<(), String> {
        loop {
            self.fill();
            if !self.flush()? {
                return Ok(());
            }
            let has_more = !self.waiting.is_empty() || !self.busy.is_empty();
            if !self.wait(!has_more || !self.outbox.is_empty())? {
                return Ok(());
            }
        }
    }

    /// Fills the outbox with the next items when it is empty.
    fn fill(&mut self) {
        while self.outbox.is_empty() {
            if let Some(item) = self.waiting.pop_front() {
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

    /// Sends what the socket takes. Returns whether the server is connected.
    fn flush(&mut self) -> Result<bool, String> {
        let socket = std::io::stdin();
        while self.sent < self.outbox.len() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&socket, &self.outbox[self.sent..], flags) {
                Ok(n_sent) => self.sent += n_sent,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(false),
                Err(error) => return Err(format!("connection to the server: {error}")),
            }
        }
        self.outbox.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Handles requests of the server and changes of files, and sleeps until there are some if `may_sleep`. Returns whether
    /// the server is connected.
    fn wait(&mut self, may_sleep: bool) -> Result<bool, String> {
        let socket = std::io::stdin();
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, self.waiting.len() < MAX_WAITING_ITEMS);
        interest.set(PollFlags::OUT, !self.outbox.is_empty());
        let deadline = if may_sleep {
            self.check_locks_at.into_iter().chain(self.check_all_at).min()
        } else {
            Some(Instant::now())
        };
        let (server, files) = {
            let mut fds = vec![PollFd::new(&socket, interest)];
            fds.extend(self.watches.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            // An interrupted wait ends early.
            if poll(&mut fds, deadline.map(time_until).as_ref()).is_err() {
                return Ok(true);
            }
            (fds[0].revents(), fds[1..].iter().any(|fd| !fd.revents().is_empty()))
        };
        if files {
            for change in self.watches.read() {
                self.handle_change(change);
            }
        }
        if self.check_all_at.is_some_and(|at| at <= Instant::now()) {
            // Repeated as long as the collector runs.
            self.check_all_at = Some(Instant::now() + POLL_PERIOD);
            if !self.root.is_dir() {
                self.recreate_root();
            }
            self.handle_change(Change::Overflow);
        }
        if self.check_locks_at.is_some_and(|at| at <= Instant::now()) {
            self.check_locks();
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
            Err(error) => return Err(format!("connection to the server: {error}")),
        }
        let mut taken = 0;
        while let Some((request, n_bytes)) =
            CollectorRequest::decode(&self.inbox[taken..]).map_err(|error| error.to_string())?
        {
            taken += n_bytes;
            self.answer(request);
        }
        self.inbox.drain(..taken);
        Ok(true)
    }

    fn answer(&mut self, request: CollectorRequest) {
        match request {
            CollectorRequest::Follow { of, from } => {
                let feed = Feed::new(of, self.path(of), from);
                match self.known.get_mut(&of) {
                    Some(known) => {
                        *known = Some(feed);
                        self.make_busy(of);
                    }
                    None => self.waiting.push_back(Item::Lost { of, offset: from }),
                }
            }
            CollectorRequest::Ack { of, offset, end } => {
                if end {
                    self.delete(of);
                } else {
                    segments::delete_before(&self.path(of), offset);
                    self.stored.insert(of, offset);
                }
            }
            CollectorRequest::Forget { worker } => {
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
        // An epoch that cannot be deleted is found by the next collector and acknowledged again.
        std::fs::remove_dir_all(self.path(epoch)).ok();
        // Fails while the worker has other epochs.
        std::fs::remove_dir(self.root.join(epoch.worker.to_string())).ok();
    }

    fn forget(&mut self, epoch: Epoch) {
        self.known.remove(&epoch);
        self.closing.remove(&epoch);
        self.stored.remove(&epoch);
        self.watches.forget(epoch);
    }

    fn handle_change(&mut self, change: Change) {
        match change {
            Change::Workers => self.find_workers(),
            Change::RootGone => self.recreate_root(),
            Change::Worker(worker) => self.find_epochs(worker),
            Change::Output(epoch) => {
                if matches!(self.known.get(&epoch), Some(Some(_))) {
                    self.make_busy(epoch);
                }
            }
            Change::Created(epoch) => {
                // The segment before a new one may be stored already, and a full disk needs its space.
                if let Some(offset) = self.stored.get(&epoch) {
                    segments::delete_before(&self.path(epoch), *offset);
                }
                self.recheck(epoch);
            }
            Change::Closed(epoch) => {
                self.closing.insert(epoch, 0);
                self.check_locks_at = Some(Instant::now());
            }
            // Another process deleted it. A follower gets the item that nothing more comes.
            Change::Gone(epoch) => match self.known.get(&epoch) {
                Some(Some(_)) => self.recheck(epoch),
                Some(None) | None => self.forget(epoch),
            },
            Change::Overflow => {
                self.find_workers();
                let all: Vec<Epoch> = self.known.keys().copied().collect();
                for epoch in all {
                    self.recheck(epoch);
                    self.handle_change(Change::Closed(epoch));
                }
            }
        }
    }

    /// Has the feed check for a next segment and for the end of the runner.
    fn recheck(&mut self, epoch: Epoch) {
        if let Some(Some(feed)) = self.known.get_mut(&epoch) {
            feed.recheck();
            self.make_busy(epoch);
        }
    }

    /// A runner that has closed a file has either begun the next segment or ended.
    fn check_locks(&mut self) {
        self.check_locks_at = None;
        let epochs: Vec<Epoch> = self.closing.keys().copied().collect();
        for epoch in epochs {
            let is_gone = segments::is_abandoned(&self.path(epoch));
            let n_tries = self.closing.get_mut(&epoch).map_or(LOCK_TRIES, |n_tries| {
                *n_tries += 1;
                *n_tries
            });
            if is_gone || n_tries >= LOCK_TRIES {
                self.closing.remove(&epoch);
                self.recheck(epoch);
            }
        }
        if !self.closing.is_empty() {
            self.check_locks_at = Some(Instant::now() + LOCK_PAUSE);
        }
    }

    fn path(&self, epoch: Epoch) -> PathBuf {
        self.root.join(epoch.worker.to_string()).join(epoch.epoch.to_string())
    }

    /// Creates the directory of all spools again. Somebody deleted it; without it no later worker's output would be found.
    fn recreate_root(&mut self) {
        let root = self.root.display();
        let created = std::fs::create_dir_all(&self.root);
        let created = created.and_then(|()| Ok(self.watches.add_root(&self.root)?));
        match created {
            Ok(()) => log::line(&format!("shed-init: {root} was deleted and is created again")),
            Err(error) => {
                log::line(&format!("shed-init: {root} was deleted; cannot create it: {error}"));
                self.start_polling();
            }
        }
        self.find_workers();
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
        // Watched before it is read, so that nothing is missed in between.
        if self.watches.add_worker(worker, &dir).is_err() && dir.is_dir() {
            self.start_polling();
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
                self.start_polling();
            }
            self.known.insert(epoch, None);
            self.waiting.push_back(Item::Found { of: epoch });
        }
    }

    /// Checks all spools periodically from now on. The user's inotify watches, which all sheds share, are used up.
    fn start_polling(&mut self) {
        self.check_all_at.get_or_insert_with(|| Instant::now() + POLL_PERIOD);
    }
}

/// The names in a directory; empty if it cannot be read.
fn names(dir: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

/// Parses the name of an epoch's directory: a number without leading zeros or sign.
fn parse_epoch(name: &str) -> Option<u64> {
    name.parse().ok().filter(|epoch: &u64| epoch.to_string() == name)
}
