//! The keeper: the one task that may change a shed. Doors post wishes; the keeper decides (`life`), writes the new status
//! with its event, and only then acts. Operations run beside it and report back, so it always answers.

mod news;

use shed_model::Rejection;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use shed_api::{Actor, Code, EventKind, ShedName, ShedStatus};
use shed_model::NewEvent;
use shed_model::shed::{ShedRow, ShedSpec, StatusChange};
use shed_store::StoreError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::box_link::{LinkListener, LinkNews, link_dir};
use crate::error::Failure;
use crate::server::Server;
use crate::session::Resources;
use crate::session::keeper::WorkHandle;
use crate::shed::credential_relay::LendDesk;
use crate::shed::operations::{After, OpEnv, OpError, Order, Report, run_op};
use crate::shed::view::{ProgressState, View};
use shed_engine::{BoxState, Found};
use shed_model::lane::{self, Lane, Step};
use shed_model::shed::life::{self, Denial, Facts, Occasion, Op, Repair, Rules, Seen, Wish};

/// Posts that wait for the keeper. Doors wait beyond that.
const INBOX: usize = 32;
/// News of links that wait. shed-init waits beyond that.
const NEWS: usize = 32;
/// Reports of an operation that wait.
const REPORTS: usize = 32;

/// What a door may post.
#[derive(Debug)]
pub(crate) enum Post {
    /// Somebody wants something.
    Wish(WishPost),
    /// What is asked for from now on; already true of the box.
    ShedSpec(Box<ShedSpec>, Actor, oneshot::Sender<Result<(), Error>>),
    /// A session is about to appear, go or be renamed because of somebody.
    Expect(String, Actor),
    /// The engine was looked at.
    Seen(Option<Box<Found>>, Occasion),
}

/// A wish, who has it, and what goes with it.
#[derive(Debug)]
pub(crate) struct WishPost {
    pub(crate) wish: Wish,
    pub(crate) actor: Actor,
    pub(crate) order: Order,
    pub(crate) answer: oneshot::Sender<Result<Answer, Error>>,
}

/// A wish come true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// It was so before.
    Already,
}

/// How everyone else reaches a keeper.
#[derive(Debug, Clone)]
pub(crate) struct KeeperHandle {
    pub(crate) posts: mpsc::Sender<Post>,
    pub(crate) view: watch::Receiver<View>,
    pub(crate) progress: watch::Receiver<ProgressState>,
    pub(crate) desk: LendDesk,
    /// Its sessions.
    pub(crate) work: WorkHandle,
}

impl KeeperHandle {
    /// Posts a wish and waits for its end.
    pub(crate) async fn wish(
        &self,
        wish: Wish,
        actor: Actor,
        order: Order,
    ) -> Result<Answer, Error> {
        let answered = self.post_wish(wish, actor, order).await?;
        answered.await.map_err(|_| Error::ShuttingDown)?
    }

    /// Posts a wish; the receiver tells its end.
    pub(crate) async fn post_wish(
        &self,
        wish: Wish,
        actor: Actor,
        order: Order,
    ) -> Result<oneshot::Receiver<Result<Answer, Error>>, Error> {
        let (answer, answered) = oneshot::channel();
        let post = Post::Wish(WishPost { wish, actor, order, answer });
        self.posts.send(post).await.map_err(|_| self.gone())?;
        Ok(answered)
    }

    /// The keeper has ended: with its shed, or with the server.
    fn gone(&self) -> Error {
        match self.view.borrow().row.name.parse() {
            Ok(name) if self.view.borrow().gone => Error::NoShed(name),
            _ => Error::ShuttingDown,
        }
    }
}

/// Waits for the end of an operation.
type Waiter = oneshot::Sender<Result<Answer, Error>>;
type Job = lane::Job<Op, Work, Waiter>;

/// What goes with an operation.
#[derive(Debug)]
struct Work {
    actor: Actor,
    order: Order,
    /// Ends it early.
    cancel: CancellationToken,
}

struct Keeper {
    server: Arc<Server>,
    resources: Resources,
    name: ShedName,
    row: ShedRow,
    view: watch::Sender<View>,
    progress: watch::Sender<ProgressState>,
    desk: LendDesk,
    work: WorkHandle,
    /// Its operations.
    lane: Lane<Rules, Work, Waiter>,
    reports: mpsc::Sender<Report>,
    /// Who asked for changes of sessions that are about to show.
    expected: HashMap<String, (Actor, Instant)>,
    /// Whether this keeper started the box, so that it knows that there was no session before the first it hears of.
    fresh: bool,
    /// Ends with the server, or with the shed.
    stop: CancellationToken,
}

/// Everything that can move a keeper.
enum Turn {
    Pulse,
    Post(Option<Post>),
    Link(LinkNews),
    Report(Report),
    Stop,
}

/// Starts the keeper of a shed that has a row. Ends when the shed is deleted or the server stops; `on_gone` is called
/// after a deletion.
pub(crate) async fn start(
    server: &Arc<Server>,
    resources: &Resources,
    name: ShedName,
    row: ShedRow,
    on_gone: impl FnOnce() + Send + 'static,
) -> Result<KeeperHandle, Error> {
    let listener = LinkListener::bind(&server.settings.links_dir, &name)?;
    let (posts, inbox) = mpsc::channel(INBOX);
    let (news, heard) = mpsc::channel(NEWS);
    let (reports, reported) = mpsc::channel(REPORTS);
    let first = View {
        row: Arc::new(row.clone()),
        found: None,
        link: None,
        table: None,
        table_is_old: false,
        gone: false,
    };
    let view = watch::Sender::new(first);
    let progress = watch::Sender::new(ProgressState::default());
    let desk = LendDesk::default();
    let stop = server.stop.child_token();
    let work = crate::session::keeper::start(
        server,
        resources,
        name.clone(),
        posts.clone(),
        view.subscribe(),
        stop.clone(),
    );
    let work = work.await?;
    let handle = KeeperHandle {
        posts,
        view: view.subscribe(),
        progress: progress.subscribe(),
        desk: desk.clone(),
        work: work.clone(),
    };
    server.tasks.spawn(listener.run(Arc::clone(server), name.clone(), news, stop.clone()));
    let keeper = Keeper {
        server: Arc::clone(server),
        resources: resources.clone(),
        name,
        row,
        view,
        progress,
        desk,
        work,
        lane: Lane::default(),
        reports,
        expected: HashMap::new(),
        fresh: false,
        stop,
    };
    server.tasks.spawn(async move {
        if keeper.run(inbox, heard, reported).await == Ended::Removed {
            on_gone();
        }
    });
    Ok(handle)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Removed,
    Stopped,
}

impl Keeper {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Post>,
        mut news: mpsc::Receiver<LinkNews>,
        mut reports: mpsc::Receiver<Report>,
    ) -> Ended {
        let mut pulse = tokio::time::interval(self.server.settings.pulse);
        pulse.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let turn = tokio::select! {
                _ = pulse.tick() => Turn::Pulse,
                post = inbox.recv() => Turn::Post(post),
                Some(news) = news.recv() => Turn::Link(news),
                Some(report) = reports.recv() => Turn::Report(report),
                () = self.stop.cancelled() => Turn::Stop,
            };
            match turn {
                Turn::Post(Some(post)) => self.take_post(post).await,
                // Every handle is gone, or the server stops: containers go on, and so does what is in them.
                Turn::Post(None) | Turn::Stop => return Ended::Stopped,
                Turn::Link(news) => self.take_news(news).await,
                Turn::Pulse => self.check_link(),
                Turn::Report(report) => {
                    if self.take_report(report).await == Some(Ended::Removed) {
                        self.stop.cancel();
                        return Ended::Removed;
                    }
                }
            }
        }
    }

    /// Asks shed-init for a sign of life. A frozen one has none.
    fn check_link(&self) {
        if self.row.status == ShedStatus::Running
            && self.lane.running().is_none()
            && let Some(link) = self.view.borrow().link.clone()
        {
            self.server.tasks.spawn(async move { link.check().await });
        }
    }

    fn facts(&self) -> Facts {
        Facts {
            status: self.row.status,
            has_box: self.view.borrow().has_box(),
            is_cloned: self.row.spec.cloned,
        }
    }

    fn work(&self, actor: Actor, order: Order) -> Work {
        Work { actor, order, cancel: self.stop.child_token() }
    }

    async fn take_post(&mut self, post: Post) {
        match post {
            Post::Wish(wish) => self.take_wish(wish).await,
            Post::ShedSpec(spec, actor, answer) => {
                let event = self.event(EventKind::ShedChanged, actor);
                let written = self.write_spec(*spec, Some(event)).await;
                answer.send(written).ok();
            }
            Post::Expect(session, actor) => {
                self.expected.retain(|_, (_, since)| since.elapsed() < news::EXPECTED_FOR);
                self.expected.insert(session, (actor, Instant::now()));
            }
            Post::Seen(found, occasion) => self.take_seen(found, occasion).await,
        }
    }

    async fn take_wish(&mut self, post: WishPost) {
        let WishPost { wish, actor, mut order, answer } = post;
        let running = self.lane.running().map(|job| job.operation);
        order.calls_off_creation = wish == Wish::Delete && running == Some(Op::Create);
        let (facts, work) = (self.facts(), self.work(actor, order));
        match self.lane.request(facts, wish, work, answer) {
            Step::Begin => self.begin().await,
            Step::Wait => {}
            Step::Cancel(denied) => {
                for (waiter, denial) in denied {
                    waiter.send(Err(self.denied(denial))).ok();
                }
                if let Some(running) = self.lane.running() {
                    running.payload.cancel.cancel();
                }
            }
            Step::Answer(waiters, answer) => self.answer(waiters, answer),
        }
    }

    fn denied(&self, denial: Denial) -> Error {
        Error::Rejected(Rejection::Shed { shed: self.name.clone(), denial })
    }

    fn answer(&self, waiters: Vec<Waiter>, answer: lane::Answer<Denial>) {
        tell(waiters, || match answer {
            lane::Answer::Already => Ok(Answer::Already),
            lane::Answer::Denied(denial) => Err(self.denied(denial)),
        });
    }

    /// Begins what the lane runs, and what waits behind it if that fails.
    async fn begin(&mut self) {
        while let Err(failure) = self.try_begin().await {
            if let Some(job) = self.lane.finish() {
                tell(job.waiters, || Err(Error::Failed(failure.clone())));
            }
            if !self.turn() {
                return;
            }
        }
    }

    /// The turn of what waits; whether something is to begin.
    fn turn(&mut self) -> bool {
        while let Some(step) = self.lane.next(self.facts()) {
            match step {
                Step::Begin => return true,
                Step::Answer(waiters, answer) => self.answer(waiters, answer),
                Step::Wait | Step::Cancel(_) => {}
            }
        }
        false
    }

    /// Writes the transitional status and starts the operation.
    async fn try_begin(&mut self) -> Result<(), Failure> {
        let Some(job) = self.lane.running_mut() else { return Ok(()) };
        let op = job.operation;
        let Work { actor, order, cancel } = &mut job.payload;
        // A creation that is called off takes nothing along that was there before it.
        order.keep_volumes |= order.calls_off_creation && !self.row.spec.made_volumes;
        let (actor, order, cancel) = (actor.clone(), order.clone(), cancel.clone());
        let (status, wanted) = match op {
            Op::Create => (ShedStatus::Creating, Some(!order.no_start)),
            Op::Start | Op::Unpause => (ShedStatus::Starting, Some(true)),
            Op::Restart => (ShedStatus::Stopping, Some(true)),
            Op::Stop => (ShedStatus::Stopping, Some(false)),
            Op::Pause => (self.row.status, None),
            Op::Rebuild => (ShedStatus::Stopping, None),
            Op::Remove => (ShedStatus::Removing, Some(false)),
        };
        let was = self.row.status;
        // Before the new status shows: whoever sees it must not take an earlier operation's progress for this one's.
        self.progress.send_replace(ProgressState::default());
        let keep_volumes = (op == Op::Remove).then_some(order.keep_volumes);
        let mut prepared = self.prepare(keep_volumes, status, wanted, &actor).await;
        // What frees space must be possible when there is none.
        if matches!(prepared, Err(StoreError::DiskFull))
            && op == Op::Remove
            && self.server.store.give_back()
        {
            prepared = self.prepare(keep_volumes, status, wanted, &actor).await;
        }
        prepared?;
        self.fresh |= matches!(op, Op::Create | Op::Start | Op::Restart | Op::Rebuild);
        let env = OpEnv {
            server: Arc::clone(&self.server),
            name: self.name.clone(),
            row: self.row.clone(),
            was,
            view: self.view.subscribe(),
            progress: self.progress.clone(),
            desk: self.desk.clone(),
            work: self.work.clone(),
            reports: self.reports.clone(),
            cancel,
            order,
        };
        self.server.tasks.spawn(run_op(op, env));
        Ok(())
    }

    /// Writes what an operation begins with; of a removal also whether it keeps the volumes.
    async fn prepare(
        &mut self,
        keep_volumes: Option<bool>,
        status: ShedStatus,
        wanted: Option<bool>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        if let Some(removal_keeps_volumes) = keep_volumes
            && self.row.spec.removal_keeps_volumes != removal_keeps_volumes
        {
            // Written first: a server that dies during the removal must finish this one and no other.
            let spec = ShedSpec { removal_keeps_volumes, ..self.row.spec.clone() };
            self.server.store.set_spec(self.name.to_string(), spec.clone(), None).await?;
            self.row.spec = spec;
        }
        if status != self.row.status || wanted.is_some_and(|wanted| wanted != self.row.wanted) {
            self.set_status(status, None, wanted, actor).await?;
        }
        Ok(())
    }

    async fn take_report(&mut self, report: Report) -> Option<Ended> {
        match report {
            Report::Status(status) => {
                let running = self.lane.running();
                let actor = running.map_or(Actor::Server, |job| job.payload.actor.clone());
                self.log_failure(self.row.status, status, &actor).await;
                None
            }
            Report::Found(found) => {
                self.show(|view| view.found = found.map(|found| Arc::new(*found)));
                None
            }
            Report::ShedSpec(change) => {
                let mut spec = self.row.spec.clone();
                change.apply(&mut spec);
                if let Err(error) = self.write_spec(spec, None).await {
                    tracing::error!(shed = %self.name, %error, "a shed's specification was not written");
                }
                None
            }
            Report::Finished(result) => self.finish(result).await,
        }
    }

    /// A status in the middle of an operation; that it could not be written must not end the operation.
    async fn log_failure(&mut self, from: ShedStatus, to: ShedStatus, actor: &Actor) {
        if from != to
            && let Err(error) = self.set_status(to, None, None, actor).await
        {
            tracing::error!(shed = %self.name, %error, "a shed's status was not written");
        }
    }

    async fn finish(&mut self, result: Result<ShedStatus, OpError>) -> Option<Ended> {
        let job = self.lane.finish()?;
        if job.operation == Op::Remove && result.is_ok() {
            return self.finish_removal(job).await;
        }
        let interrupted = self.lane.next_operation() == Some(Op::Remove);
        let (status, reason) = match &result {
            Ok(status) => (Some(*status), None),
            Err(_) if interrupted => (None, None),
            Err(error) => self.after_failure(error).await,
        };
        if let Some(status) = status
            && let Err(error) = self.set_status(status, reason, None, &job.payload.actor).await
        {
            tracing::error!(shed = %self.name, %error, "a shed's status was not written");
        }
        self.progress.send_modify(|progress| progress.done = Some(self.row.status));
        self.desk.clear();
        match result {
            Ok(_) => tell(job.waiters, || Ok(Answer::Done)),
            Err(error) => tell(job.waiters, || Err(Error::Failed(error.failure.clone()))),
        }
        if self.turn() {
            self.begin().await;
        }
        None
    }

    /// The status after a failed operation, and its reason.
    async fn after_failure(
        &mut self,
        error: &OpError,
    ) -> (Option<ShedStatus>, Option<(Code, String)>) {
        match error.after {
            After::Failed => {
                let OpError { failure, .. } = error;
                (Some(ShedStatus::Failed), Some((failure.code, failure.text.clone())))
            }
            After::Was(status) => (Some(status), None),
            After::Later => (None, None),
            After::Look => {
                let found = self.server.engine.find(&self.name).await.ok().flatten();
                let status = match seen(found.as_ref()) {
                    Seen::Running => ShedStatus::Running,
                    Seen::Paused => ShedStatus::Paused,
                    Seen::Ended | Seen::Nothing => ShedStatus::Stopped,
                };
                self.show(|view| view.found = found.map(Arc::new));
                (Some(status), None)
            }
        }
    }

    async fn finish_removal(&mut self, job: Job) -> Option<Ended> {
        let dir = link_dir(&self.server.settings.links_dir, &self.name);
        if let Err(error) = std::fs::remove_dir_all(&dir) {
            tracing::warn!(shed = %self.name, %error, "the link directory was left behind");
        }
        let event = self.event(EventKind::ShedRemoved, job.payload.actor.clone());
        if !job.payload.order.keep_volumes {
            // What its sessions worked on is gone, and with it what is remembered of them.
            if let Err(error) = self.server.store.forget_sessions(self.name.to_string()).await {
                tracing::error!(shed = %self.name, %error, "its sessions were not forgotten");
            }
            let output = self.resources.logs.shed_dir(self.name.as_str());
            match std::fs::remove_dir_all(&output) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(shed = %self.name, %error, "the output of its workers was left behind");
                }
                _ => {}
            }
        }
        let removed = self.server.store.remove_shed(self.name.to_string(), event).await;
        if let Err(error) = removed {
            let failure = Failure::from(error);
            tell(job.waiters, || Err(Error::Failed(failure.clone())));
            return None;
        }
        self.show(|view| {
            view.gone = true;
            view.link = None;
        });
        self.progress.send_modify(|progress| progress.done = Some(ShedStatus::Removing));
        tell(job.waiters, || Ok(Answer::Done));
        // What waited wants something of a shed that is gone.
        for job in std::mem::take(&mut self.lane).close() {
            tell(job.waiters, || Err(self.denied(Denial::Removing)));
        }
        Some(Ended::Removed)
    }

    async fn take_seen(&mut self, found: Option<Box<Found>>, occasion: Occasion) {
        let seen = seen(found.as_deref());
        let ended = found.as_deref().and_then(why_ended);
        self.show(|view| view.found = found.map(|found| Arc::new(*found)));
        if self.lane.running().is_some() {
            return;
        }
        match life::repair(self.row.status, self.row.wanted, occasion, seen) {
            Repair::Nothing => {}
            Repair::Set(status) => {
                let reason = ended.filter(|_| status == ShedStatus::Stopped);
                if let Err(error) = self.set_status(status, reason, None, &Actor::Server).await {
                    tracing::error!(shed = %self.name, %error, "a shed's status was not written");
                }
            }
            Repair::Begin(op) => {
                let keep_volumes = self.row.spec.removal_keeps_volumes;
                let order = Order { keep_volumes, no_start: !self.row.wanted, ..Order::default() };
                let payload = self.work(Actor::Server, order);
                let job = Job { operation: op, payload, waiters: Vec::new() };
                if matches!(self.lane.insert(job), Step::Begin) {
                    self.begin().await;
                }
            }
        }
    }

    fn event(&self, kind: EventKind, actor: Actor) -> NewEvent {
        NewEvent::new(self.server.clock.now(), kind, actor).shed(self.name.as_str())
    }

    async fn add_event(&self, event: NewEvent) {
        if let Err(error) = self.server.store.add_events(vec![event]).await {
            tracing::error!(shed = %self.name, %error, "an event was not written");
        }
    }

    /// Written, then shown.
    async fn set_status(
        &mut self,
        status: ShedStatus,
        reason: Option<(Code, String)>,
        wanted: Option<bool>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut event = self.event(EventKind::ShedStatus, actor.clone());
        event.status = Some(status);
        event.note = reason.as_ref().map(|(_, text)| text.clone());
        let change = StatusChange { status, reason: reason.clone(), wanted };
        let at = event.at;
        self.server.store.set_status(self.name.to_string(), change, event).await?;
        let (code, text) = reason.unzip();
        self.row.status = status;
        self.row.status_since = at;
        self.row.reason = text;
        self.row.reason_code = code;
        self.row.wanted = wanted.unwrap_or(self.row.wanted);
        self.show(|view| {
            if !matches!(status, ShedStatus::Running | ShedStatus::Paused | ShedStatus::Failed) {
                view.table = None;
            }
        });
        Ok(())
    }

    async fn write_spec(&mut self, spec: ShedSpec, event: Option<NewEvent>) -> Result<(), Error> {
        self.server.store.set_spec(self.name.to_string(), spec.clone(), event).await?;
        self.row.spec = spec;
        self.show(|_| {});
        Ok(())
    }

    fn show(&self, change: impl FnOnce(&mut View)) {
        self.view.send_modify(|view| {
            view.row = Arc::new(self.row.clone());
            change(view);
        });
        self.server.ring();
    }
}

fn tell(
    waiters: Vec<oneshot::Sender<Result<Answer, Error>>>,
    answer: impl Fn() -> Result<Answer, Error>,
) {
    for waiter in waiters {
        // Whoever hung up does not want to know.
        waiter.send(answer()).ok();
    }
}

fn seen(found: Option<&Found>) -> Seen {
    match found.map(|found| &found.state) {
        None => Seen::Nothing,
        Some(BoxState::Running) => Seen::Running,
        Some(BoxState::Paused) => Seen::Paused,
        Some(BoxState::Created | BoxState::Exited { .. }) => Seen::Ended,
    }
}

fn why_ended(found: &Found) -> Option<(Code, String)> {
    match &found.state {
        BoxState::Exited { out_of_memory: true, .. } => {
            Some((Code::StartFailed, "its container ran out of memory and ended".to_owned()))
        }
        BoxState::Exited { code, .. } => {
            let text = format!("its container was ended outside shed (exit status {code})");
            Some((Code::NotRunning, text))
        }
        BoxState::Created | BoxState::Running | BoxState::Paused => None,
    }
}
