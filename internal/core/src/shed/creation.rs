//! Creating a shed: how a creation begins, is retried, is followed and ends.

use std::collections::VecDeque;

use shed_api::shed::{CreateShed, Progress};
use shed_api::{Actor, ShedName, ShedStatus};
use shed_engine::EngineError;
use shed_model::Rejection;
use shed_model::shed::ShedSpec;
use shed_model::shed::life::{Denial, Request};
use tokio::sync::{oneshot, watch};

use crate::Error;
use crate::access::Caller;
use crate::server::Server;
use crate::settings::Settings;
use crate::shed::handle::Order;
use crate::shed::handle::{KeeperHandle, Message};
use crate::shed::spec::{check_branch, check_image, check_new_image, parse_repo};
use crate::shed::view::ProgressState;

/// Begins the creation of a failed shed again, with what the request changes.
pub(crate) async fn retry(
    settings: &Settings,
    handle: &KeeperHandle,
    caller: &Caller<'_>,
    request: CreateShed,
) -> Result<(), Error> {
    let repo = request.repo.as_deref().map(parse_repo).transpose()?;
    let status = handle.view.borrow().status();
    if status != ShedStatus::Failed {
        return Err(Error::Rejected(Rejection::Shed {
            shed: caller.shed.clone(),
            denial: Denial::NotFailed,
        }));
    }
    if let Some(image) = &request.image {
        check_image(settings, image)?;
    }
    let spec = handle.view.borrow().row.spec.clone();
    check_new_image(&settings.defaults.mounts, caller.person, &spec, request.image.as_deref())?;
    if let Some(branch) = &request.branch {
        check_branch(branch, repo.is_some())?;
    }
    if let Some(repo) = &repo {
        let spec =
            ShedSpec { repo: Some(repo.url.clone()), branch: request.branch.clone(), ..spec };
        handle.set_spec(caller.actor(), spec).await?;
    }
    let order = Order { image: request.image, repo, lend: request.lend, ..Order::default() };
    handle.begin_creation(caller.actor(), order).await
}

/// Waits until a creation has ended. An error if it failed or if the server stops.
pub(crate) async fn ended(
    server: &Server,
    handle: &KeeperHandle,
    name: &ShedName,
) -> Result<(), Error> {
    let mut progress = handle.progress.clone();
    let stop = server.door_stop.clone();
    tokio::select! {
        // The keeper ends with its shed or with the server.
        done = progress.wait_for(|state| state.done.is_some()) => {
            drop(done.map_err(|_| Error::ShuttingDown)?);
        }
        // The creation goes on with the next server.
        () = stop.cancelled() => return Err(Error::ShuttingDown),
    }
    let row = handle.view.borrow().row.clone();
    match (row.status, &row.reason) {
        (ShedStatus::Failed, Some(text)) => {
            let code = row.reason_code.unwrap_or(shed_api::Code::Internal);
            let hint = format!("shed create {name} --retry");
            Err(Error::Failed(crate::Failure::new(code, text.clone()).hint(hint)))
        }
        (ShedStatus::Creating, _) if stop.is_cancelled() => Err(Error::ShuttingDown),
        (ShedStatus::Creating, _) => {
            let text = "the creation continues when the engine is back";
            Err(EngineError::Unreachable(text.to_owned()).into())
        }
        _ => Ok(()),
    }
}

impl KeeperHandle {
    /// Posts the creation and waits until it has begun, so that its progress is its own and no earlier one's.
    pub(crate) async fn begin_creation(&self, actor: Actor, order: Order) -> Result<(), Error> {
        self.relay.open_for(actor.clone());
        let ended = self.send_request(Request::Create, actor, order).await?;
        let mut view = self.view.clone();
        tokio::select! {
            biased;
            // The keeper lives as long as the shed; a creation that is over at once has begun, too.
            begun = view.wait_for(|view| view.status() != ShedStatus::Failed) => {
                begun.map(drop).map_err(|_| Error::ShuttingDown)
            }
            ended = ended => match ended.map_err(|_| Error::ShuttingDown)? {
                // It has begun and failed already: its progress says so, as it does of one that fails later.
                Err(Error::Failed(_)) if self.progress.borrow().done.is_some() => Ok(()),
                ended => ended.map(drop),
            },
        }
    }

    pub(crate) async fn set_spec(&self, actor: Actor, spec: ShedSpec) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let post = Message::ShedSpec(Box::new(spec), actor, answer);
        self.messages.send(post).await.map_err(|_| Error::ShuttingDown)?;
        answered.await.map_err(|_| Error::ShuttingDown)?
    }
}

/// Reads a creation's progress. A reader who comes late gets what still matters.
#[derive(Debug)]
pub struct ProgressReader {
    state: watch::Receiver<ProgressState>,
    known: ProgressState,
    news: VecDeque<Progress>,
}

impl ProgressReader {
    pub(crate) fn new(state: watch::Receiver<ProgressState>) -> Self {
        Self { state, known: ProgressState::default(), news: VecDeque::new() }
    }

    /// The next news; `None` after [`Progress::Done`] or when the shed is gone.
    pub async fn next(&mut self) -> Option<Progress> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Some(news);
            }
            if self.known.done.is_some() {
                return None;
            }
            let now = self.state.borrow_and_update().clone();
            self.news.extend(now.news_since(&self.known));
            self.known = now;
            if self.news.is_empty() {
                self.state.changed().await.ok()?;
            }
        }
    }
}
