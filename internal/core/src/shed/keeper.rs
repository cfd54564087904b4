//! The keeper of a shed: the one task that may change it. Others send it requests; it decides (`shed_model::shed::life`),
//! writes the new status with its event, and only then starts the operation. Operations run beside it and report back, so
//! that it always answers.

mod link_events;
mod reports;
mod requests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use shed_api::{Actor, Code, EventKind, ShedName, ShedStatus};
use shed_model::NewEvent;
use shed_model::lane::{self, Lane};
use shed_model::shed::life::{Operation, Rules};
use shed_model::shed::{ShedRow, ShedSpec, StatusChange};
use shed_store::StoreError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::server::Server;
use crate::session::Resources;
use crate::session::handle::WorkHandle;
use crate::session::list::LastList;
use crate::shed::credential_relay::CredentialRelay;
use crate::shed::handle::{Answer, KeeperHandle, Message, Order};
use crate::shed::operations::Report;
use crate::shed::view::{ProgressState, View};
use shed_guest::LinkEvent;

/// Messages that wait for the keeper. Further senders wait.
const INBOX: usize = 32;
/// Events of links that may wait. When it is full, shed-init waits.
const LINK_EVENTS: usize = 32;
/// Reports of an operation that wait.
const REPORTS: usize = 32;

/// Waits for the end of an operation.
type Waiter = oneshot::Sender<Result<Answer, Error>>;
type Job = lane::Job<Operation, Work, Waiter>;

/// What goes with an operation.
#[derive(Debug)]
struct Work {
    actor: Actor,
    order: Order,
    /// Cancels it.
    cancel: CancellationToken,
}

struct Keeper {
    server: Arc<Server>,
    resources: Resources,
    name: ShedName,
    row: ShedRow,
    view: watch::Sender<View>,
    progress: watch::Sender<ProgressState>,
    relay: CredentialRelay,
    work: WorkHandle,
    /// The operations that run and wait.
    lane: Lane<Rules, Work, Waiter>,
    reports: mpsc::Sender<Report>,
    /// By session name: who asked for a session that is about to appear or change, and when.
    expected: HashMap<String, (Actor, Instant)>,
    /// The boot id of the last link. The table in the view is of this run of the container.
    boot: Option<String>,
    /// Whether this keeper started the container: then the first sessions it sees are new.
    fresh: bool,
    /// Ends with the server, or with the shed.
    stop: CancellationToken,
}

/// What a keeper reacts to.
enum Turn {
    Pulse,
    Message(Option<Message>),
    Link(LinkEvent),
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
    let listener = server.transport.listen(&name)?;
    let (messages, inbox) = mpsc::channel(INBOX);
    let (link_events, heard) = mpsc::channel(LINK_EVENTS);
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
    let relay = CredentialRelay::default();
    let stop = server.stop.child_token();
    let work = crate::session::keeper::start(
        server,
        resources,
        name.clone(),
        messages.clone(),
        view.subscribe(),
        stop.clone(),
    );
    let work = work.await?;
    let handle = KeeperHandle {
        messages,
        view: view.subscribe(),
        progress: progress.subscribe(),
        relay: relay.clone(),
        work: work.clone(),
        list: LastList::default(),
    };
    server.tasks.spawn(shed_guest::listen(listener, name.clone(), link_events, stop.clone()));
    let keeper = Keeper {
        server: Arc::clone(server),
        resources: resources.clone(),
        name,
        row,
        view,
        progress,
        relay,
        work,
        lane: Lane::default(),
        reports,
        expected: HashMap::new(),
        boot: None,
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
        mut inbox: mpsc::Receiver<Message>,
        mut link_events: mpsc::Receiver<LinkEvent>,
        mut reports: mpsc::Receiver<Report>,
    ) -> Ended {
        let mut pulse = tokio::time::interval(self.server.settings.pulse);
        pulse.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let turn = tokio::select! {
                _ = pulse.tick() => Turn::Pulse,
                post = inbox.recv() => Turn::Message(post),
                Some(event) = link_events.recv() => Turn::Link(event),
                Some(report) = reports.recv() => Turn::Report(report),
                () = self.stop.cancelled() => Turn::Stop,
            };
            match turn {
                Turn::Message(Some(post)) => self.take_post(post).await,
                // Every handle is gone, or the server stops: containers go on, and so does what is in them.
                Turn::Message(None) | Turn::Stop => return Ended::Stopped,
                Turn::Link(event) => self.handle_link_event(event).await,
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

    /// Checks that shed-init answers. It cannot while the shed is paused.
    fn check_link(&self) {
        if self.row.status == ShedStatus::Running
            && self.lane.running().is_none()
            && let Some(link) = self.view.borrow().link.clone()
        {
            self.server.tasks.spawn(async move { link.check().await });
        }
    }

    async fn take_post(&mut self, post: Message) {
        match post {
            Message::Request(request) => self.take_request(request).await,
            Message::ShedSpec(spec, actor, answer) => {
                let event = self.event(EventKind::ShedChanged, actor);
                let written = self.write_spec(*spec, Some(event)).await;
                answer.send(written).ok();
            }
            Message::Expect(session, actor) => {
                self.expected.retain(|_, (_, since)| since.elapsed() < link_events::EXPECTED_FOR);
                self.expected.insert(session, (actor, Instant::now()));
            }
            Message::Seen(found, occasion) => self.take_seen(found, occasion).await,
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
            // While processes go on, as in a clone that is retried or when a shed is unpaused, the table is still true:
            // shed-init reports tmux again only when something in it changes.
            if view.is_stopping() || (view.link.is_none() && !view.has_processes()) {
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

fn answer_all(
    waiters: Vec<oneshot::Sender<Result<Answer, Error>>>,
    answer: impl Fn() -> Result<Answer, Error>,
) {
    for waiter in waiters {
        // Whoever hung up does not want to know.
        waiter.send(answer()).ok();
    }
}
