//! What workers print, on its way from the spools in the container to the logs of the server.
//!
//! One collector runs per link. It names the epochs it finds; each is followed from where its log ends,
//! so that what was printed while no server was there comes as if nothing had been. Bytes are acknowledged when they are
//! on the disk; until then the container keeps them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use shed_api::ShedName;
use shed_api::worker::WorkerStatus;
use shed_link::Status;
use shed_link::spool::{CollectorRequest, Epoch, Item};
use shed_model::worker::{WorkerChange, WorkerReport};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Error;
use crate::output::logs::{Cell, Logs};
use crate::server::Server;
use crate::session::handle::{Message, WorkHandle, WorkerMessage};
use shed_guest::{Backoff, Link};

/// How often what was stored is made safe and acknowledged while something comes.
const ACK_PERIOD: Duration = Duration::from_secs(2);
/// So many bytes are acknowledged sooner: the container keeps 64 MiB.
const ACK_BYTES: u64 = 8 << 20;
/// After a collector that went away, or a disk that was full.
const PAUSE: Duration = Duration::from_millis(500);

/// Collects until the link ends.
pub(crate) async fn run(
    server: Arc<Server>,
    logs: Logs,
    shed: ShedName,
    link: Link,
    work: WorkHandle,
) {
    if link.hello().worktrees.is_empty() {
        // An older shed-init: there are no workers in there.
        return;
    }
    let gone = link.gone();
    let mut backoff = Backoff::constant(PAUSE);
    loop {
        let collector = Collector {
            logs: logs.clone(),
            shed: shed.clone(),
            link: link.clone(),
            work: work.clone(),
            followed: HashMap::new(),
            requests: Vec::new(),
            dirty_bytes: 0,
            ack_due: None,
        };
        tokio::select! {
            ended = collector.run() => if let Err(error) = ended {
                tracing::warn!(%shed, %error, "the collection of workers' output was interrupted");
            },
            () = gone.cancelled() => return,
            () = server.stop.cancelled() => return,
        }
        tokio::select! {
            () = backoff.pause() => {}
            () = gone.cancelled() => return,
            () = server.stop.cancelled() => return,
        }
    }
}

struct Collector {
    logs: Logs,
    shed: ShedName,
    link: Link,
    work: WorkHandle,
    followed: HashMap<Epoch, Followed>,
    /// Not sent yet.
    requests: Vec<CollectorRequest>,
    /// Stored since the last acknowledgement.
    dirty_bytes: u64,
    ack_due: Option<Instant>,
}

/// An epoch that is followed.
struct Followed {
    cell: Arc<Cell>,
    /// The first byte of the epoch that is not stored.
    stored: u64,
    dirty: bool,
    /// Its last item is stored.
    over: bool,
}

impl Collector {
    async fn run(mut self) -> Result<(), Error> {
        let mut collector = shed_guest::collector::Collector::start(&self.link).await?;
        loop {
            let due = self.ack_due;
            tokio::select! {
                items = collector.next() => self.take(items?.into()).await?,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.acknowledge().await?;
                }
            }
            if self.dirty_bytes >= ACK_BYTES {
                self.acknowledge().await?;
            }
            collector.send(self.requests.drain(..)).await?;
        }
    }

    async fn take(&mut self, mut items: VecDeque<Item>) -> Result<(), Error> {
        while let Some(item) = items.pop_front() {
            match item {
                Item::Found { of } => self.found(of).await?,
                Item::Listed => self.listed().await?,
                item => {
                    // What comes in a row is one trip to the disk.
                    let mut batch = vec![item];
                    let goes_on = |next: &Item| !matches!(next, Item::Found { .. } | Item::Listed);
                    while items.front().is_some_and(goes_on) {
                        batch.extend(items.pop_front());
                    }
                    self.store(batch).await?;
                }
            }
        }
        Ok(())
    }

    /// Follows an epoch of a worker that has a row. An epoch of any other worker is ignored, and its spool stays.
    async fn found(&mut self, of: Epoch) -> Result<(), Error> {
        let worker = of.worker.to_string();
        let view = self.work.view.borrow().clone();
        let known = view.sessions.values().find_map(|known| {
            let row = known.workers.iter().find(|row| row.id == worker)?;
            Some((row.epoch, known.row.spec.limits.output_bytes))
        });
        let Some((epoch, kept_bytes)) = known else {
            return Ok(());
        };
        if of.epoch > epoch || self.followed.contains_key(&of) {
            return Ok(());
        }
        let (logs, shed) = (self.logs.clone(), self.shed.clone());
        let opened = move || -> Result<(Arc<Cell>, Option<u64>), Error> {
            let cell = logs.open(shed.as_str(), &worker, kept_bytes)?;
            // `None` of an epoch that another has followed: what is left of it came too late.
            let from = Logs::epoch_end(&cell, of.epoch);
            if from.is_some() {
                let now = u64::try_from(chrono::Utc::now().timestamp_millis()).unwrap_or_default();
                logs.write(&cell, |log| log.begin_epoch(of.epoch, now), true)?;
            }
            Ok((cell, from))
        };
        let (cell, from) = blocking(opened).await?;
        match from {
            Some(from) => {
                let followed = Followed { cell, stored: from, dirty: false, over: false };
                self.followed.insert(of, followed);
                self.requests.push(CollectorRequest::Follow { of, from });
            }
            None => self.requests.push(CollectorRequest::Ack { of, offset: u64::MAX, end: true }),
        }
        Ok(())
    }

    /// All epochs have been named. A worker that should run and has none is lost.
    async fn listed(&mut self) -> Result<(), Error> {
        let view = self.work.view.borrow().clone();
        for row in view.sessions.values().flat_map(|known| &known.workers) {
            let is_followed = self
                .followed
                .keys()
                .any(|of| of.epoch == row.epoch && of.worker.to_string() == row.id);
            let should_run = row.epoch > 0 && row.status != WorkerStatus::Exited;
            if should_run && !is_followed {
                let change = WorkerChange::Lost;
                let report =
                    WorkerReport { worker: row.id.clone(), epoch: row.epoch, at_ms: 0, change };
                self.post(report, Some(self.link.clone())).await?;
            }
        }
        Ok(())
    }

    async fn store(&mut self, items: Vec<Item>) -> Result<(), Error> {
        let mut work = Vec::new();
        for item in items {
            let Some(of) = epoch_of(&item) else {
                continue;
            };
            // Only what was asked for is taken.
            if let Some(followed) = self.followed.get_mut(&of).filter(|followed| !followed.over) {
                if let Item::Output { offset, bytes, .. } = &item {
                    followed.stored = offset + bytes.len() as u64;
                    self.dirty_bytes += bytes.len() as u64;
                }
                followed.dirty = true;
                followed.over = is_last(&item);
                work.push((of, Arc::clone(&followed.cell), item));
            }
        }
        let logs = self.logs.clone();
        let told = blocking(move || {
            let mut told = Vec::new();
            for (of, cell, item) in work {
                if let Some(news) = store_one(&logs, &cell, of, item)? {
                    told.push(news);
                }
            }
            Ok(told)
        });
        for (of, at_ms, what) in told.await? {
            self.tell(&of.worker.to_string(), of.epoch, at_ms, what).await?;
        }
        if self.followed.values().any(|followed| followed.over) {
            self.acknowledge().await?;
        }
        self.ack_due.get_or_insert_with(|| Instant::now() + ACK_PERIOD);
        Ok(())
    }

    /// Returns when it is written: a spool goes only after that.
    async fn tell(
        &self,
        worker: &str,
        epoch: u64,
        at_ms: u64,
        change: WorkerChange,
    ) -> Result<(), Error> {
        self.post(WorkerReport { worker: worker.to_owned(), epoch, at_ms, change }, None).await
    }

    async fn post(&self, report: WorkerReport, listed_over: Option<Link>) -> Result<(), Error> {
        let (done, written) = oneshot::channel();
        self.work.post(Message::Worker(WorkerMessage { report, listed_over, done })).await?;
        written.await.map_err(|_| Error::ShuttingDown)?
    }

    /// Syncs what was stored, then acknowledges it, so that the container drops it.
    async fn acknowledge(&mut self) -> Result<(), Error> {
        self.ack_due = None;
        self.dirty_bytes = 0;
        let dirty: Vec<(Epoch, Arc<Cell>)> = self
            .followed
            .iter()
            .filter(|(_, followed)| followed.dirty)
            .map(|(of, followed)| (*of, Arc::clone(&followed.cell)))
            .collect();
        let logs = self.logs.clone();
        let synced = blocking(move || {
            for (_, cell) in &dirty {
                logs.write(cell, shed_output::Log::sync, false)?;
            }
            Ok(dirty)
        });
        for (of, _) in synced.await? {
            let Some(followed) = self.followed.get_mut(&of) else {
                continue;
            };
            followed.dirty = false;
            self.requests.push(CollectorRequest::Ack {
                of,
                offset: followed.stored,
                end: followed.over,
            });
            if followed.over {
                self.followed.remove(&of);
                self.logs.close(&of.worker.to_string());
            }
        }
        Ok(())
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::ShuttingDown)?
}

fn epoch_of(item: &Item) -> Option<Epoch> {
    match item {
        Item::Found { of }
        | Item::Started { of, .. }
        | Item::Output { of, .. }
        | Item::Resize { of, .. }
        | Item::Gap { of, .. }
        | Item::Exit { of, .. }
        | Item::Refused { of, .. }
        | Item::Lost { of, .. } => Some(*of),
        Item::Listed => None,
    }
}

fn is_last(item: &Item) -> bool {
    matches!(item, Item::Exit { .. } | Item::Refused { .. } | Item::Lost { .. })
}

/// Writes an item to its log; what the keeper must know of it.
fn store_one(
    logs: &Logs,
    cell: &Arc<Cell>,
    of: Epoch,
    item: Item,
) -> Result<Option<(Epoch, u64, WorkerChange)>, Error> {
    let epoch = of.epoch;
    Ok(match item {
        Item::Output { offset, at_ms, bytes, .. } => {
            logs.write(cell, |log| log.append(epoch, offset, at_ms, &bytes).map(drop), false)?;
            None
        }
        Item::Gap { offset, n_bytes, .. } => {
            let end = offset.saturating_add(n_bytes);
            logs.write(cell, |log| log.append(epoch, end, 0, &[]).map(drop), true)?;
            None
        }
        Item::Resize { at_ms, cols, rows, .. } => {
            logs.write(cell, |log| log.resize(epoch, at_ms, cols, rows), true)?;
            None
        }
        Item::Started { at_ms, .. } => Some((of, at_ms, WorkerChange::Started)),
        Item::Exit { at_ms, status, .. } => {
            let exit = match status {
                Status::Code(code) => shed_output::Exit::Code(code),
                Status::Signal(number) => shed_output::Exit::Signal(number),
            };
            logs.write(cell, |log| log.exit(epoch, at_ms, exit), true)?;
            Some((of, at_ms, WorkerChange::Exited(status.into())))
        }
        Item::Refused { at_ms, refusal, .. } => Some((
            of,
            at_ms,
            WorkerChange::Refused(shed_api::name::printable(&refusal.to_string())),
        )),
        Item::Lost { .. } => {
            logs.write(cell, |_| Ok(()), true)?;
            Some((of, 0, WorkerChange::Lost))
        }
        Item::Found { .. } | Item::Listed => None,
    })
}
