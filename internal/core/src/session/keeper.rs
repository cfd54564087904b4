//! The session keeper of a shed: the one task that may change the rows of its sessions. Others send it messages; it decides
//! (`shed_model::session::life`), writes, shows the change, and only then starts operations. It follows the view of the
//! shed's keeper: it collects output from a new link, and compares each table of tmux with the rows.

mod changes;
mod exits;
mod reconcile;
mod requests;
mod slots;
mod starts;
mod timers;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use shed_api::{Actor, ShedName};
use shed_model::lane::{self, Lane};
use shed_model::session::life::{Operation, Rules};
use shed_model::session::{LayoutRow, Managed};
use shed_model::worker::WorkerRow;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::starts::Starts;
use crate::Error;
use crate::server::Server;
use crate::session::Resources;
use crate::session::handle::{Answer, Message, SessionOrder, WorkHandle, WorkerMessage};
use crate::session::table::Table;
use crate::session::view::WorkView;
use crate::shed::view::View;
use shed_guest::Link;

/// Messages that wait for the keeper.
const INBOX: usize = 64;
/// A session has ended when its windows are gone for this long: a shed that is stopped from outside loses its windows a
/// moment before its link.
const VANISH_GRACE: Duration = Duration::from_millis(1500);
/// tmux's layout is written this long after it changed, so that a burst is one write.
const LAYOUT_PAUSE: Duration = Duration::from_secs(2);

type Job = lane::Job<Operation, Work, Answer>;

/// What goes with an operation.
#[derive(Clone)]
struct Work {
    actor: Actor,
    order: SessionOrder,
    /// Cancels it.
    cancel: CancellationToken,
}

struct SessionKeeper {
    server: Arc<Server>,
    resources: Resources,
    shed: ShedName,
    messages: mpsc::Sender<Message>,
    /// The shed's own keeper.
    shed_messages: mpsc::Sender<crate::shed::handle::Message>,
    view: watch::Sender<Arc<WorkView>>,
    shed_view: watch::Receiver<View>,
    /// The operations on each session, by its id; only of sessions with any.
    lanes: HashMap<String, Lane<Rules, Work, Answer>>,
    /// The link whose spools are collected.
    link: Option<Link>,
    /// The table that was compared last.
    compared: Option<Arc<Table>>,
    /// When the shed was first seen running after its last start.
    came_up: Option<DateTime<Utc>>,
    /// The starts of workers that are under way.
    starts: Starts<Link>,
    /// By session: what begins when it gets a slot; its creation when absent.
    turns: HashMap<String, Job>,
    /// By session: when the next attempt to end it at its runtime limit may begin.
    not_before: HashMap<String, Instant>,
    /// By session: when its windows are gone for good.
    vanished: HashMap<String, Instant>,
    /// By session: when its last timed checkpoint was made.
    checkpointed: HashMap<String, Instant>,
    /// The layout that was written last, and when the next is due.
    layout: Option<LayoutRow>,
    layout_due: Option<Instant>,
    stop: CancellationToken,
}

/// Starts the session keeper of a shed. Ends with the shed or the server.
pub(crate) async fn start(
    server: &Arc<Server>,
    resources: &Resources,
    shed: ShedName,
    shed_messages: mpsc::Sender<crate::shed::handle::Message>,
    shed_view: watch::Receiver<View>,
    stop: CancellationToken,
) -> Result<WorkHandle, Error> {
    let stored = server.store.stored_sessions(shed.to_string()).await?;
    let layout = server.store.layout(shed.to_string()).await?;
    let mut view = WorkView { unreadable: stored.unreadable, ..WorkView::default() };
    let mut workers: BTreeMap<String, Vec<WorkerRow>> = BTreeMap::new();
    for worker in stored.workers {
        workers.entry(worker.session.clone()).or_default().push(worker);
    }
    for row in stored.sessions {
        let workers = workers.remove(&row.id).unwrap_or_default();
        view.sessions.insert(row.id.clone(), Arc::new(Managed { row, workers }));
    }
    let of_workers = view.sessions.values().flat_map(|known| &known.workers);
    let ids: Vec<String> = of_workers.map(|row| row.id.clone()).collect();
    let (logs, of_shed) = (resources.logs.clone(), shed.to_string());
    // Only for what lists show; nobody waits for it.
    server.tasks.spawn_blocking(move || logs.load_ends(&of_shed, &ids));
    let (messages, inbox) = mpsc::channel(INBOX);
    let view = watch::Sender::new(Arc::new(view));
    let handle = WorkHandle { messages: messages.clone(), view: view.subscribe() };
    let keeper = SessionKeeper {
        server: Arc::clone(server),
        resources: resources.clone(),
        shed,
        messages,
        shed_messages,
        view,
        shed_view,
        lanes: HashMap::new(),
        link: None,
        compared: None,
        came_up: None,
        starts: Starts::default(),
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

impl SessionKeeper {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
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
                        return self.give_up_slots();
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

    async fn take(&mut self, post: Message) {
        match post {
            Message::Create(plan, actor, answer) => self.create(*plan, actor, answer).await,
            Message::Adopt(row, actor, answer) => self.adopt(*row, &actor, answer).await,
            Message::Request(operation) => self.take_request(operation).await,
            Message::Change(change) => self.take_change(change).await,
            Message::Done(id, result) => self.finish(&id, result).await,
            Message::Worker(post) => {
                let WorkerMessage { report, listed_over, done } = post;
                done.send(self.take_worker_report(report, listed_over.as_ref()).await).ok();
            }
            Message::Conversation(seen) => self.take_conversation(seen).await,
            Message::Forget(id, actor, done) => drop(done.send(self.forget(&id, &actor).await)),
            Message::DropRecord(id, actor, done) => {
                done.send(self.drop_record(&id, &actor).await).ok();
            }
            Message::RemoveWorker(session, worker, event, done) => {
                done.send(self.remove_worker(&session, worker, event).await).ok();
            }
            Message::Stopping(done) => {
                self.write_layout(true).await;
                done.send(()).ok();
            }
        }
    }

    /// Whether the shed runs and its link is up.
    fn can_act(&self) -> bool {
        self.shed_view.borrow().is_reachable()
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

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
