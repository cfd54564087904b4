//! The session keeper: the one task that may change what is remembered of a shed's sessions. Doors and operations post;
//! it judges (`life`), writes, shows, and only then starts what acts. It follows the shed's own keeper by its view: a link
//! that comes up is collected from, a table of tmux's is compared with what should be there.

mod exits;
mod reconcile;
mod timers;

use shed_model::Rejection;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shed_api::session::SessionStatus;
use shed_api::worker::WorkerStatus;
use shed_api::{Actor, EventKind, ShedName, ShedStatus};
use shed_link::Status;
use shed_model::NewEvent;
use shed_model::session::{Deletion, LayoutRow, SessionRow};
use shed_model::worker::WorkerRow;
use shed_store::StoreError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::box_link::BoxLink;
use crate::server::Server;
use crate::session::Resources;
use crate::session::operations::{self, OpEnv, Order};
use crate::session::table::Table;
use crate::session::view::WorkView;
use crate::session::windows::{FIRST_EPOCH, started_event};
use crate::shed::view::View;
use shed_model::lane::{self, Lane, Step};
use shed_model::session::Managed;
use shed_model::session::life::{Denial, Facts, Rules, Wish};
use shed_model::session::plan::Plan;
use shed_model::session::ports;

/// Posts that wait for the keeper.
const INBOX: usize = 64;
/// A session whose windows are gone is over when they are still gone after this: a shed that is being stopped from
/// outside loses its windows a moment before its link.
const VANISH_GRACE: Duration = Duration::from_millis(1500);
/// How long a stop of the shed waits for what tmux looks like.
const STOPPING_LIMIT: Duration = Duration::from_secs(3);
/// What tmux looks like is written this long after it changed, so that a burst is one write.
const LAYOUT_PAUSE: Duration = Duration::from_secs(2);

/// Why a worker has ended whose shed did.
pub(crate) const WITH_SHED: &str = "it was ended with the shed";

/// What may be posted.
pub(crate) enum Post {
    /// A session is to be.
    Create(Box<Plan>, Actor, oneshot::Sender<Result<(), Error>>),
    /// A tmux session made by hand is to be remembered; its windows stay as they are.
    Adopt(Box<SessionRow>, Actor, oneshot::Sender<Result<(), Error>>),
    /// Somebody wants something of a session.
    Wish(WishPost),
    /// An operation changes what it works on.
    Change(ChangePost),
    /// An operation is over.
    Done(String, Result<(), Error>),
    /// Something became of a worker's command. Answered when it is written.
    Worker(WorkerNews, oneshot::Sender<Result<(), Error>>),
    /// A session is forgotten: the last change of its operation.
    Forget(String, Actor, oneshot::Sender<Result<(), Error>>),
    /// So is a worker.
    RemoveWorker(String, String, NewEvent, oneshot::Sender<Result<(), Error>>),
    /// A row that cannot be read is dropped, by its id.
    DropRecord(String, Actor, oneshot::Sender<Result<(), Error>>),
    /// The shed is about to be stopped in an orderly way.
    Stopping(oneshot::Sender<()>),
}

/// A wish, who has it, and what goes with it.
pub(crate) struct WishPost {
    pub(crate) session: String,
    pub(crate) wish: Wish,
    pub(crate) actor: Actor,
    pub(crate) order: Order,
    pub(crate) answer: oneshot::Sender<Result<(), Error>>,
}

/// A change of one session, made by the keeper for an operation.
pub(crate) struct ChangePost {
    pub(crate) session: String,
    pub(crate) change: Box<dyn FnOnce(&mut Managed) + Send>,
    pub(crate) events: Vec<NewEvent>,
    pub(crate) done: oneshot::Sender<Result<Arc<Managed>, Error>>,
}

/// What became of a worker's command, from its spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WorkerNews {
    pub(crate) worker: String,
    pub(crate) epoch: u64,
    pub(crate) at_ms: u64,
    pub(crate) what: WorkerEnd,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WorkerEnd {
    /// It runs.
    Started,
    /// It ended.
    Exited(Status),
    /// It could not be started; why.
    Refused(String),
    /// Its runner is gone and nobody knows how it ended.
    Lost,
}

/// How everyone else reaches a session keeper.
#[derive(Debug, Clone)]
pub(crate) struct WorkHandle {
    posts: mpsc::Sender<Post>,
    pub(crate) view: watch::Receiver<Arc<WorkView>>,
}

impl WorkHandle {
    /// Posts; an error if the keeper has ended.
    pub(crate) async fn post(&self, post: Post) -> Result<(), Error> {
        self.posts.send(post).await.map_err(|_| Error::ShuttingDown)
    }

    /// The shed is about to stop: what tmux looks like is written first, if it can be told soon.
    pub(crate) async fn stopping(&self) {
        let (done, written) = oneshot::channel();
        if self.post(Post::Stopping(done)).await.is_ok() {
            tokio::time::timeout(STOPPING_LIMIT, written).await.map(drop).ok();
        }
    }

    /// Posts a wish and waits for its end.
    pub(crate) async fn wish(
        &self,
        session: &str,
        wish: Wish,
        actor: Actor,
        order: Order,
    ) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let post = WishPost { session: session.to_owned(), wish, actor, order, answer };
        self.post(Post::Wish(post)).await?;
        answered.await.map_err(|_| Error::ShuttingDown)?
    }
}

/// How a wish is answered.
type Answer = oneshot::Sender<Result<(), Error>>;

type Job = lane::Job<Wish, Work, Answer>;

/// What goes with an operation.
#[derive(Clone)]
struct Work {
    actor: Actor,
    order: Order,
    /// Ends it early.
    cancel: CancellationToken,
}

struct Keeper {
    server: Arc<Server>,
    resources: Resources,
    shed: ShedName,
    posts: mpsc::Sender<Post>,
    /// The shed's own keeper.
    shed_posts: mpsc::Sender<crate::shed::keeper::Post>,
    view: watch::Sender<Arc<WorkView>>,
    shed_view: watch::Receiver<View>,
    /// The operations on each session, by its id; only of sessions with any.
    lanes: HashMap<String, Lane<Rules, Work, Answer>>,
    /// The link whose spools are collected.
    link: Option<BoxLink>,
    /// The table that was compared last.
    compared: Option<Arc<Table>>,
    /// When the shed was first seen up since it came up anew.
    came_up: Option<DateTime<Utc>>,
    /// What is to be done for sessions that have to wait for a place, where it is not their creation.
    turns: HashMap<String, Job>,
    /// Sessions whose end at their limit failed, and when it is tried again.
    not_before: HashMap<String, Instant>,
    /// Sessions whose windows are gone, and when that is final.
    vanished: HashMap<String, Instant>,
    /// When sessions that want checkpoints by the clock were looked at last.
    checkpointed: HashMap<String, Instant>,
    /// What was last written of tmux, and when the next is due.
    layout: Option<LayoutRow>,
    layout_due: Option<Instant>,
    stop: CancellationToken,
}

/// Starts the session keeper of a shed. Ends with the shed or the server.
pub(crate) async fn start(
    server: &Arc<Server>,
    resources: &Resources,
    shed: ShedName,
    shed_posts: mpsc::Sender<crate::shed::keeper::Post>,
    shed_view: watch::Receiver<View>,
    stop: CancellationToken,
) -> Result<WorkHandle, Error> {
    let remembered = server.store.remembered(shed.to_string()).await?;
    let layout = server.store.layout(shed.to_string()).await?;
    let mut view = WorkView { unreadable: remembered.unreadable, ..WorkView::default() };
    let mut workers: BTreeMap<String, Vec<WorkerRow>> = BTreeMap::new();
    for worker in remembered.workers {
        workers.entry(worker.session.clone()).or_default().push(worker);
    }
    for row in remembered.sessions {
        let workers = workers.remove(&row.id).unwrap_or_default();
        view.sessions.insert(row.id.clone(), Arc::new(Managed { row, workers }));
    }
    let of_workers = view.sessions.values().flat_map(|known| &known.workers);
    let ids: Vec<String> = of_workers.map(|row| row.id.clone()).collect();
    let (logs, of_shed) = (resources.logs.clone(), shed.to_string());
    // Only for what lists show; nobody waits for it.
    server.tasks.spawn_blocking(move || logs.look(&of_shed, &ids));
    let (posts, inbox) = mpsc::channel(INBOX);
    let view = watch::Sender::new(Arc::new(view));
    let handle = WorkHandle { posts: posts.clone(), view: view.subscribe() };
    let keeper = Keeper {
        server: Arc::clone(server),
        resources: resources.clone(),
        shed,
        posts,
        shed_posts,
        view,
        shed_view,
        lanes: HashMap::new(),
        link: None,
        compared: None,
        came_up: None,
        turns: HashMap::new(),
        not_before: HashMap::new(),
        vanished: HashMap::new(),
        checkpointed: HashMap::new(),
        layout,
        layout_due: None,
        stop,
    };
    server.tasks.spawn(keeper.run(inbox));
    Ok(handle)
}

impl Keeper {
    async fn run(mut self, mut inbox: mpsc::Receiver<Post>) {
        let mut places = self.resources.slots.bell();
        self.take_view().await;
        loop {
            let due = self.next_due();
            tokio::select! {
                post = inbox.recv() => match post {
                    Some(post) => self.take(post).await,
                    None => return,
                },
                changed = self.shed_view.changed() => {
                    if changed.is_err() || self.shed_view.borrow().gone {
                        return self.give_up_places();
                    }
                    self.take_view().await;
                }
                _ = places.changed() => self.admit().await,
                () = sleep_until(due) => self.take_due().await,
                () = self.stop.cancelled() => return,
            }
        }
    }

    fn known(&self, id: &str) -> Option<Arc<Managed>> {
        self.view.borrow().sessions.get(id).cloned()
    }

    fn all(&self) -> Vec<Arc<Managed>> {
        self.view.borrow().sessions.values().cloned().collect()
    }

    async fn take(&mut self, post: Post) {
        match post {
            Post::Create(plan, actor, answer) => self.create(*plan, actor, answer).await,
            Post::Adopt(row, actor, answer) => self.adopt(*row, &actor, answer).await,
            Post::Wish(wish) => self.take_wish(wish).await,
            Post::Change(change) => self.take_change(change).await,
            Post::Done(id, result) => self.finish(&id, result).await,
            Post::Worker(news, done) => drop(done.send(self.take_news(news).await)),
            Post::Forget(id, actor, done) => drop(done.send(self.forget(&id, &actor).await)),
            Post::DropRecord(id, actor, done) => {
                done.send(self.drop_record(&id, &actor).await).ok();
            }
            Post::RemoveWorker(session, worker, event, done) => {
                done.send(self.remove_worker(&session, worker, event).await).ok();
            }
            Post::Stopping(done) => {
                self.write_layout(true).await;
                done.send(()).ok();
            }
        }
    }

    async fn create(
        &mut self,
        plan: Plan,
        actor: Actor,
        answer: oneshot::Sender<Result<(), Error>>,
    ) {
        let Plan { mut session, mut worker } = plan;
        // Others may have been made since it was planned.
        let taken = self.all().iter().filter_map(|known| known.row.spec.port_block).collect();
        if session.spec.port_block.is_none_or(|block| BTreeSet::contains(&taken, &block)) {
            session.spec.port_block = ports::free_block(&taken);
        }
        let id = session.id.clone();
        let placed = self.resources.slots.enter(self.shed.as_str(), &id, session.created_at);
        if placed {
            session.status = SessionStatus::Creating;
            if session.spec.placed && session.spec.set_up {
                // Nothing comes before its first start: one write for both.
                worker.epoch = FIRST_EPOCH;
            }
        }
        let mut happened = vec![status_event(self.now(), &session, &actor)];
        if worker.epoch == FIRST_EPOCH {
            happened.push(started_event(self.now(), &session, &worker, &actor));
        }
        let added = self.server.store.add_session(session.clone(), vec![worker.clone()], happened);
        if let Err(error) = added.await {
            self.resources.slots.leave(self.shed.as_str(), &id);
            let error = match error {
                StoreError::Exists(_) => {
                    Error::SessionExists { shed: self.shed.clone(), session: session.name }
                }
                error => error.into(),
            };
            answer.send(Err(error)).ok();
            return;
        }
        self.put(Managed { row: session, workers: vec![worker] });
        if placed {
            let order = Order { fresh: true, ..Order::default() };
            let payload = self.work(actor, order);
            let job = Job { operation: Wish::Create, payload, waiters: vec![answer] };
            self.insert(&id, job).await;
        } else {
            // It is there, and its turn will come: that is all the caller waits for.
            answer.send(Ok(())).ok();
        }
    }

    async fn adopt(
        &mut self,
        row: SessionRow,
        actor: &Actor,
        answer: oneshot::Sender<Result<(), Error>>,
    ) {
        let event = status_event(self.now(), &row, actor);
        let added = self.server.store.add_session(row.clone(), Vec::new(), vec![event]).await;
        if added.is_ok() {
            self.resources.slots.keep(self.shed.as_str(), &row.id);
            self.put(Managed { row, workers: Vec::new() });
        }
        answer.send(added.map_err(Error::from)).ok();
    }

    /// Begins what it is the turn of.
    async fn admit(&mut self) {
        for known in self.all() {
            let row = &known.row;
            if row.status == SessionStatus::Waiting
                && !self.is_busy(&row.id)
                && self.can_act()
                && self.resources.slots.enter(self.shed.as_str(), &row.id, row.created_at)
            {
                let waited = self.turns.remove(&row.id);
                let job = waited.unwrap_or_else(|| self.own(Wish::Create, Order::default()));
                self.insert(&row.id, job).await;
            }
        }
    }

    /// Starts a session that has ended again when there is a place for it; until then it waits.
    async fn begin_again(&mut self, row: &SessionRow) {
        if self.resources.slots.enter(self.shed.as_str(), &row.id, row.created_at) {
            return self.begin(&row.id).await;
        }
        let Some(mut job) = self.lanes.get_mut(&row.id).and_then(Lane::finish) else {
            return;
        };
        let actor = &job.payload.actor;
        let waits = self.set_status(&row.id, SessionStatus::Waiting, None, actor).await;
        let waiters = std::mem::take(&mut job.waiters);
        if !waiters.is_empty() && waits.is_err() {
            self.resources.slots.leave(self.shed.as_str(), &row.id);
            return tell(waiters, waits);
        }
        tell(waiters, Ok(()));
        self.turns.insert(row.id.clone(), job);
    }

    /// Whether what runs in the shed can be asked and changed.
    fn can_act(&self) -> bool {
        let view = self.shed_view.borrow();
        view.link.is_some() && view.status() == ShedStatus::Running
    }

    fn is_busy(&self, id: &str) -> bool {
        self.lanes.get(id).is_some_and(|lane| lane.running().is_some())
    }

    fn work(&self, actor: Actor, order: Order) -> Work {
        Work { actor, order, cancel: self.stop.child_token() }
    }

    /// What the server does by itself.
    fn own(&self, operation: Wish, order: Order) -> Job {
        Job { operation, payload: self.work(Actor::Server, order), waiters: Vec::new() }
    }

    fn facts(&self, row: &SessionRow) -> Facts {
        Facts { status: row.status, is_missing: self.is_missing(&row.id) }
    }

    async fn take_wish(&mut self, post: WishPost) {
        let WishPost { session, wish, actor, order, answer } = post;
        let Some(known) = self.known(&session) else {
            return tell(vec![answer], Err(self.no_session(session)));
        };
        let (facts, work) = (self.facts(&known.row), self.work(actor, order));
        let lane = self.lanes.entry(session.clone()).or_default();
        let step = lane.request(facts, wish, work, answer);
        self.take_step(&known, step).await;
        self.drop_idle(&session);
    }

    async fn take_step(&mut self, known: &Managed, step: Step<Answer, Denial>) {
        let id = &known.row.id;
        match step {
            Step::Begin => {
                let running = self.lanes.get(id).and_then(Lane::running);
                let restarts = running.is_some_and(|job| job.operation == Wish::Restart);
                if restarts && !is_up(&known.row) {
                    self.begin_again(&known.row).await;
                } else {
                    self.begin(id).await;
                }
            }
            Step::Wait => {}
            Step::Cancel(_) => {
                if let Some(job) = self.lanes.get(id).and_then(Lane::running) {
                    job.payload.cancel.cancel();
                }
            }
            Step::Answer(waiters, lane::Answer::Already) => tell(waiters, Ok(())),
            Step::Answer(waiters, lane::Answer::Denied(denial)) => {
                let (shed, session) = (self.shed.clone(), known.row.name.clone());
                let denied = Rejection::Session { shed, session, denial };
                tell(waiters, Err(Error::Rejected(denied)));
            }
        }
    }

    fn no_session(&self, session: String) -> Error {
        Error::NoSession { shed: self.shed.clone(), session }
    }

    fn drop_idle(&mut self, id: &str) {
        if self.lanes.get(id).is_some_and(Lane::is_idle) {
            self.lanes.remove(id);
        }
    }

    /// Begins what no rule denies: now, or next.
    async fn insert(&mut self, id: &str, job: Job) {
        let lane = self.lanes.entry(id.to_owned()).or_default();
        if matches!(lane.insert(job), Step::Begin) {
            self.begin(id).await;
            self.drop_idle(id);
        }
    }

    /// Begins what the session's lane runs.
    async fn begin(&mut self, id: &str) {
        self.turns.remove(id);
        let Some(job) = self.lanes.get(id).and_then(Lane::running) else {
            return;
        };
        let (operation, Work { actor, order, cancel }) = (job.operation, job.payload.clone());
        let written = match operation {
            Wish::Create => self.enter_status(id, SessionStatus::Creating, None, &actor).await,
            Wish::Delete => {
                self.enter_status(id, SessionStatus::Removing, Some(order.force), &actor).await
            }
            _ => Ok(()),
        };
        if let Err(error) = written {
            let job = self.lanes.get_mut(id).and_then(Lane::finish);
            return tell(job.map(|job| job.waiters).unwrap_or_default(), Err(error));
        }
        let env = OpEnv {
            server: Arc::clone(&self.server),
            resources: self.resources.clone(),
            shed: self.shed.clone(),
            id: id.to_owned(),
            posts: self.posts.clone(),
            shed_posts: self.shed_posts.clone(),
            view: self.view.subscribe(),
            shed_view: self.shed_view.clone(),
            cancel,
            actor,
            order,
        };
        self.server.tasks.spawn(operations::run(operation, env));
    }

    async fn finish(&mut self, id: &str, result: Result<(), Error>) {
        let Some(job) = self.lanes.get_mut(id).and_then(Lane::finish) else {
            return;
        };
        if job.operation == Wish::Delete && result.is_ok() {
            self.resources.slots.leave(self.shed.as_str(), id);
            for job in self.lanes.remove(id).into_iter().flat_map(Lane::close) {
                // It is gone, which is what a second deletion wanted.
                let gone = match job.operation {
                    Wish::Delete => Ok(()),
                    _ => Err(self.no_session(id.to_owned())),
                };
                tell(job.waiters, gone);
            }
        }
        self.settle_place(id);
        if job.waiters.is_empty()
            && let Err(error) = &result
        {
            tracing::warn!(shed = %self.shed, session = id, %error, "what was begun for a session failed");
        }
        tell(job.waiters, result);
        self.take_turns(id).await;
        self.compare().await;
    }

    /// Begins what waits for its turn.
    async fn take_turns(&mut self, id: &str) {
        loop {
            let Some(known) = self.known(id) else {
                for job in self.lanes.remove(id).into_iter().flat_map(Lane::close) {
                    tell(job.waiters, Err(self.no_session(id.to_owned())));
                }
                return;
            };
            let facts = self.facts(&known.row);
            // One that is denied now must not keep those behind it waiting.
            match self.lanes.get_mut(id).and_then(|lane| lane.next(facts)) {
                Some(step) => self.take_step(&known, step).await,
                None => return self.drop_idle(id),
            }
        }
    }

    async fn take_change(&mut self, post: ChangePost) {
        let ChangePost { session, change, events, done } = post;
        let changed = self.change(&session, change, events).await;
        done.send(changed).ok();
    }

    /// Written, then shown.
    async fn change(
        &mut self,
        id: &str,
        change: impl FnOnce(&mut Managed),
        events: Vec<NewEvent>,
    ) -> Result<Arc<Managed>, Error> {
        let Some(known) = self.known(id) else {
            return Err(Error::NoSession { shed: self.shed.clone(), session: id.to_owned() });
        };
        let mut after = Managed::clone(&known);
        change(&mut after);
        let row = (after.row != known.row).then(|| after.row.clone());
        let workers: Vec<WorkerRow> =
            after.workers.iter().filter(|row| !known.workers.contains(row)).cloned().collect();
        if row.is_some() || !workers.is_empty() || !events.is_empty() {
            self.server.store.write_session(row, workers, events).await?;
        }
        self.put(after);
        self.known(id).ok_or(Error::ShuttingDown)
    }

    async fn set_status(
        &mut self,
        id: &str,
        status: SessionStatus,
        reason: Option<String>,
        actor: &Actor,
    ) -> Result<(), Error> {
        let Some(known) = self.known(id) else {
            return Ok(());
        };
        let now = self.now();
        let row = SessionRow { status, reason, status_since: now, ..known.row.clone() };
        let event = status_event(now, &row, actor);
        self.change(id, move |known| known.row = row, vec![event]).await.map(drop)
    }

    /// The status of an operation that begins; of a deletion also how it was asked for.
    async fn enter_status(
        &mut self,
        id: &str,
        status: SessionStatus,
        force: Option<bool>,
        actor: &Actor,
    ) -> Result<(), Error> {
        let Some(known) = self.known(id) else {
            return Ok(());
        };
        let (now, before) = (self.now(), &known.row);
        let mut row = SessionRow { status, ..before.clone() };
        // Of one that is taken up again it is remembered what the session was.
        row.spec.deletion = force.map(|force| {
            let was = before.spec.deletion.map_or(before.status, |deletion| deletion.was);
            Deletion { force, was }
        });
        let mut events = Vec::new();
        if before.status != status {
            row.reason = None;
            row.status_since = now;
            events.push(status_event(now, &row, actor));
        }
        self.change(id, move |known| known.row = row, events).await.map(drop)
    }

    /// A session in which nothing runs takes no place from others.
    fn settle_place(&self, id: &str) {
        if self.is_busy(id) {
            return;
        }
        let known = self.known(id);
        let runs = known.is_some_and(|known| {
            let alive = |row: &WorkerRow| row.status != WorkerStatus::Exited;
            let by_hand = known.workers.is_empty();
            matches!(known.row.status, SessionStatus::Running | SessionStatus::Frozen)
                && (by_hand || known.workers.iter().any(alive))
        });
        let waits = self.known(id).is_some_and(|known| known.row.status == SessionStatus::Waiting);
        if runs {
            self.resources.slots.keep(self.shed.as_str(), id);
        } else if !waits {
            self.resources.slots.leave(self.shed.as_str(), id);
        }
    }

    fn give_up_places(&self) {
        for known in self.all() {
            self.resources.slots.leave(self.shed.as_str(), &known.row.id);
            // Their directory goes with the shed.
            known.workers.iter().for_each(|worker| self.resources.logs.drop_cell(&worker.id));
        }
    }

    async fn forget(&mut self, id: &str, actor: &Actor) -> Result<(), Error> {
        let Some(known) = self.known(id) else {
            return Ok(());
        };
        let event = NewEvent::new(self.now(), EventKind::SessionRemoved, actor.clone())
            .shed(self.shed.as_str())
            .session(&known.row.name);
        self.server.store.remove_session(id.to_owned(), event).await?;
        self.show(|view| view.forget(id));
        Ok(())
    }

    /// Drops a row that cannot be read; of any other nothing is done.
    async fn drop_record(&mut self, id: &str, actor: &Actor) -> Result<(), Error> {
        let record = self.view.borrow().unreadable.iter().find(|record| record.id == id).cloned();
        let Some(record) = record else {
            return Ok(());
        };
        let event = NewEvent::new(self.now(), EventKind::SessionRemoved, actor.clone())
            .shed(self.shed.as_str())
            .session(&record.name)
            .note("its record could not be read");
        self.server.store.drop_record(id.to_owned(), event).await?;
        // With a session go its workers' rows.
        self.show(|view| view.unreadable.retain(|it| it.id != id && it.session != id));
        Ok(())
    }

    async fn remove_worker(
        &mut self,
        session: &str,
        worker: String,
        event: NewEvent,
    ) -> Result<(), Error> {
        self.server.store.remove_worker(worker.clone(), event).await?;
        if let Some(known) = self.known(session) {
            let mut known = Managed::clone(&known);
            known.workers.retain(|row| row.id != worker);
            self.put(known);
        }
        self.settle_place(session);
        Ok(())
    }

    fn put(&self, known: Managed) {
        self.show(|view| drop(view.sessions.insert(known.row.id.clone(), Arc::new(known))));
    }

    fn show(&self, change: impl FnOnce(&mut WorkView)) {
        self.view.send_modify(|view| change(Arc::make_mut(view)));
        self.server.ring();
    }

    fn now(&self) -> DateTime<Utc> {
        self.server.clock.now()
    }
}

/// Whether it has processes, as far as is remembered.
fn is_up(row: &SessionRow) -> bool {
    matches!(row.status, SessionStatus::Running | SessionStatus::Frozen)
}

/// Answers the waiter of an operation. There is at most one: requests to sessions do not join.
fn tell(mut waiters: Vec<Answer>, result: Result<(), Error>) {
    if let Some(waiter) = waiters.pop() {
        // A caller that is gone needs no answer.
        waiter.send(result).ok();
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The event that a session has this status now.
pub(crate) fn status_event(at: DateTime<Utc>, row: &SessionRow, actor: &Actor) -> NewEvent {
    let note = match &row.reason {
        Some(reason) => format!("{}: {reason}", row.status),
        None => row.status.to_string(),
    };
    NewEvent::new(at, EventKind::SessionStatus, actor.clone())
        .shed(&row.shed)
        .session(&row.name)
        .note(note)
}

/// How a worker ended, in words.
pub(crate) fn end_note(row: &WorkerRow) -> Option<String> {
    match (&row.exit, &row.reason) {
        (Some(shed_api::stream::Exit::Code(code)), _) => Some(format!("exit {code}")),
        (Some(shed_api::stream::Exit::Signal(name)), _) => Some(format!("signal {name}")),
        (None, Some(reason)) => Some(reason.clone()),
        (None, None) => None,
    }
}
