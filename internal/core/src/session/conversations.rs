//! The conversations of agents: what the container says of them, what a start does with them, and following them while they
//! run. An agent is asked by what it records and holds open; its answer can be false, and then it resumes another of its own
//! conversations.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use shed_agents::{Agent, Program, Start};
use shed_api::worker::WorkerStatus;
use shed_guest::Link;
use shed_link::Run;
use shed_model::conversation::{Begin, Conversation, Found};
use shed_model::session::Managed;
use shed_model::worker::WorkerRow;
use tokio::time::sleep;
use uuid::Uuid;

use crate::Error;
use crate::housekeeping::leftover;
use crate::output::logs::Logs;
use crate::server::Server;
use crate::session::env::SessionOpEnv;
use crate::session::handle::{Message, Seen, WorkHandle};
use crate::session::settings::abilities;
use crate::session::view::WorkView;

/// How long one observation may take.
const OBSERVE_LIMIT_MS: u64 = 10_000;
/// The pause before the next observation of an agent that was just started or has just changed its conversation.
const QUICK_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause while it is not known which conversation the agent is in.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause between two observations of an agent that prints. One that prints nothing is not observed.
const LONG_PAUSE: Duration = Duration::from_secs(15);

/// What an agent's start does.
pub(crate) struct Planned {
    /// The record of its conversation from then on.
    pub(crate) record: Conversation,
    /// The words that start it.
    pub(crate) argv: Vec<String>,
    /// Variables that they need.
    pub(crate) env: Vec<(String, String)>,
}

/// Plans start number `epoch` of an agent's worker. `None` if it has no agent that is known.
pub(crate) async fn plan(
    env: &SessionOpEnv,
    link: &Link,
    known: &Managed,
    row: &WorkerRow,
    continues: bool,
    epoch: u64,
) -> Option<Planned> {
    let agent = env.server.settings.sessions.agents.get(row.spec.agent.as_ref()?)?;
    let mut before = row.conversation(agent.takes_id());
    let mut found = Found::Nothing;
    if before.epoch < epoch {
        let of_shed = env.shed_view.borrow().row.spec.env.clone();
        let place = Place::of(&agent.program, link, &of_shed, known, row);
        if before.id.is_none() && !before.prompt_recorded {
            let ids = search(link, &place, row).await;
            let view = env.view.borrow().clone();
            before = before.recovered(&ids, |id| is_taken(&view, &row.id, id));
        }
        found = find_turn(link, &place, before.id.as_deref()).await;
    }
    let fresh = Uuid::new_v4().to_string();
    let (record, begin) = before.next(continues, found, abilities(agent), epoch, &fresh);
    let start = start(row, &record, begin);
    let (argv, vars) = (agent.argv(start), agent.env(start));
    Some(Planned { argv, env: vars, record })
}

fn start<'a>(row: &'a WorkerRow, record: &'a Conversation, begin: Begin) -> Start<'a> {
    Start {
        model: row.spec.model.as_deref(),
        prompt: row.spec.prompt.as_deref().filter(|_| begin.sends_prompt),
        conversation: record.id.as_deref(),
        continues: begin.resumes,
    }
}

/// Where a worker's agent has its files.
struct Place {
    program: Program,
    home: String,
    /// The directory that a variable gives.
    dir: Option<String>,
}

impl Place {
    fn of(
        program: &Program,
        link: &Link,
        of_shed: &BTreeMap<String, String>,
        known: &Managed,
        row: &WorkerRow,
    ) -> Self {
        let variable = program.transcript.as_ref().map(|transcript| transcript.variable);
        let dir = variable.and_then(|name| {
            let all = [&row.spec.env, &known.row.spec.env, of_shed];
            all.into_iter().find_map(|vars| vars.get(name)).cloned()
        });
        Self { program: program.clone(), home: link.hello().home.clone(), dir }
    }

    /// The program's directory.
    fn root(&self) -> String {
        let transcript = self.program.transcript.as_ref();
        let root = transcript.map(|it| it.root(&self.home, self.dir.as_deref()));
        root.unwrap_or_else(|| self.home.clone())
    }
}

/// Asks whether a prompt is recorded in a conversation.
async fn find_turn(link: &Link, place: &Place, id: Option<&str>) -> Found {
    let Some(transcript) = &place.program.transcript else {
        return Found::Unknown;
    };
    let argv = id.and_then(|id| transcript.find(&place.home, place.dir.as_deref(), id));
    let Some(argv) = argv else {
        return Found::Nothing;
    };
    match print(link, argv).await {
        Ok(printed) if printed.is_empty() => Found::Nothing,
        Ok(_) => Found::Turn,
        Err(error) => {
            tracing::info!(%error, "an agent's transcripts could not be searched");
            Found::Unknown
        }
    }
}

/// The conversations since the worker's last start that have its first prompt: an agent that was killed as soon as it had sent
/// it was not observed.
async fn search(link: &Link, place: &Place, row: &WorkerRow) -> Vec<String> {
    let (Some(transcript), Some(prompt), Some(started)) =
        (&place.program.transcript, &row.spec.prompt, row.started_at)
    else {
        return Vec::new();
    };
    let (home, dir) = (&place.home, place.dir.as_deref());
    let argv = transcript.search(home, dir, prompt, started.timestamp());
    print(link, argv).await.map(|printed| transcript.ids(&printed)).unwrap_or_default()
}

/// Whether another worker of the shed has or had this conversation.
fn is_taken(view: &WorkView, worker: &str, id: &str) -> bool {
    let mut others = view.sessions.values().flat_map(|known| &known.workers);
    others.any(|row| {
        let record = row.spec.record.as_ref().filter(|_| row.id != worker);
        record.is_some_and(|record| {
            record.id.as_deref() == Some(id) || record.older.iter().any(|older| older == id)
        })
    })
}

/// What a query prints. One that finds nothing fails, which is an answer too.
async fn print(link: &Link, argv: Vec<String>) -> Result<String, Error> {
    let run = Run { argv, env: Vec::new(), directory: None, timeout_ms: OBSERVE_LIMIT_MS };
    Ok(link.run(run).await?.stdout)
}

/// Follows the conversations of a shed's running agents, as long as its link is up.
#[derive(Clone)]
pub(crate) struct Follower {
    server: Arc<Server>,
    logs: Logs,
    link: Link,
    work: WorkHandle,
    /// The shed's variables.
    vars: BTreeMap<String, String>,
}

impl Follower {
    pub(crate) fn new(
        server: &Arc<Server>,
        logs: Logs,
        link: &Link,
        work: WorkHandle,
        vars: BTreeMap<String, String>,
    ) -> Self {
        Self { server: Arc::clone(server), logs, link: link.clone(), work, vars }
    }

    /// Starts a task for each start of an agent.
    pub(crate) async fn run(self) {
        let mut view = self.work.view.clone();
        let mut followed: BTreeMap<String, u64> = BTreeMap::new();
        let gone = self.link.gone();
        loop {
            let running = running(&view.borrow_and_update());
            followed.retain(|worker, epoch| running.get(worker) == Some(epoch));
            for (worker, epoch) in running {
                if followed.insert(worker.clone(), epoch) != Some(epoch) {
                    self.server.tasks.spawn(self.clone().follow(worker, epoch));
                }
            }
            tokio::select! {
                changed = view.changed() => if changed.is_err() { return },
                () = gone.cancelled() => return,
                () = self.server.stop.cancelled() => return,
            }
        }
    }

    /// Observes one agent whenever it has printed, until it ends.
    async fn follow(self, worker: String, epoch: u64) {
        let gone = self.link.gone();
        let mut view = self.work.view.clone();
        let ended = view.wait_for(|view| running(view).get(&worker) != Some(&epoch));
        tokio::select! {
            () = self.observe_often(&worker, epoch) => {}
            _ = ended => {}
            () = gone.cancelled() => {}
            () = self.server.stop.cancelled() => {}
        }
    }

    async fn observe_often(&self, worker: &str, epoch: u64) {
        let mut printed = self.logs.mark(worker);
        let mut pause = QUICK_PAUSE;
        loop {
            printed.borrow_and_update();
            let Some((known, row)) = find(&self.work.view.borrow(), worker) else {
                return;
            };
            let agents = &self.server.settings.sessions.agents;
            let Some(agent) = row.spec.agent.as_ref().and_then(|agent| agents.get(agent)) else {
                return;
            };
            let record = row.conversation(agent.takes_id());
            if agent.program.transcript.is_none()
                || (agent.program.identity.is_none() && record.had_turn)
            {
                // Nothing more can be learned.
                return;
            }
            let shown = match self.observe(agent, &known, &row, &record).await {
                Ok((shown, turn)) if record.seen(&shown, turn).is_some() => {
                    let seen = Seen { worker: worker.to_owned(), epoch, shown, turn };
                    if self.work.post(Message::Conversation(seen)).await.is_err() {
                        return;
                    }
                    true
                }
                Ok(_) => false,
                Err(error) => {
                    tracing::debug!(%error, worker, "an agent could not be observed");
                    false
                }
            };
            let longest = if record.id.is_none() { UNKNOWN_PAUSE } else { LONG_PAUSE };
            pause = if shown { QUICK_PAUSE } else { (pause * 2).min(longest) };
            sleep(pause).await;
            if printed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The ids that an agent shows, and whether a prompt is recorded in the conversation it is in.
    async fn observe(
        &self,
        agent: &Agent,
        known: &Managed,
        row: &WorkerRow,
        record: &Conversation,
    ) -> Result<(Vec<String>, Option<bool>), Error> {
        let place = Place::of(&agent.program, &self.link, &self.vars, known, row);
        let shown = match agent.program.identity {
            None => Vec::new(),
            Some(identity) => {
                let all = leftover::processes(&self.link).await?;
                let of_worker = |worker: Option<&str>| worker == Some(row.id.as_str());
                let (pids, started): (Vec<u32>, Vec<u64>) = all
                    .iter()
                    .filter(|process| of_worker(process.worker.as_deref()))
                    .map(|process| (process.pid, process.started))
                    .unzip();
                if pids.is_empty() {
                    return Ok((Vec::new(), None));
                }
                let printed = print(&self.link, identity.look(&place.root(), &pids)).await?;
                identity.read(&printed, &started)
            }
        };
        let moved = record.shown_id(&shown);
        let turn = if record.had_turn && moved.is_none() {
            None
        } else {
            let id = moved.or(record.id.as_deref());
            match find_turn(&self.link, &place, id).await {
                Found::Turn => Some(true),
                Found::Nothing => Some(false),
                Found::Unknown => None,
            }
        };
        Ok((shown, turn))
    }
}

/// The running workers that have an agent, with their starts.
fn running(view: &WorkView) -> BTreeMap<String, u64> {
    let all = view.sessions.values().flat_map(|known| &known.workers);
    let agents = all.filter(|row| row.spec.agent.is_some() && row.status == WorkerStatus::Running);
    agents.map(|row| (row.id.clone(), row.epoch)).collect()
}

fn find(view: &WorkView, worker: &str) -> Option<(Arc<Managed>, WorkerRow)> {
    view.sessions.values().find_map(|known| {
        let row = known.workers.iter().find(|row| row.id == worker)?;
        Some((Arc::clone(known), row.clone()))
    })
}
