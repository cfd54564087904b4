//! Sheds: create, change, request.

use shed_api::git::Branch;
use shed_model::{Rejection, env};
use std::collections::VecDeque;

use shed_api::shed::{CreateShed, Limits, PatchShed, Progress, RebuildShed, Shed};
use shed_api::size::parse_size;
use shed_api::{EventKind, Scope, ShedName, ShedStatus};
use shed_model::NewEvent;
use shed_model::shed::{ShedRow, ShedSpec};
use shed_store::StoreError;
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

use super::App;
use super::start_keeper;
use crate::shed::handle::Order;
use crate::shed::handle::{Answer, KeeperHandle, Message};
use crate::shed::view::ProgressState;
use crate::{Error, Person};
use shed_engine::EngineError;
use shed_model::shed::life::{Denial, Request};
use shed_model::shed::repo::{self, Repo};

/// The least memory a shed can live with.
const MIN_MEMORY_BYTES: u64 = 16 << 20;
/// The fewest processes a shed can live with: shed-init's two, tmux's two, a shell and what it starts.
const MIN_PIDS: u32 = 16;
/// An image's name.
const MAX_IMAGE_BYTES: usize = 512;

/// What a deletion leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// Nothing.
    Everything,
    /// The volumes.
    KeepVolumes,
}

impl App {
    /// Begins to create a shed (or to take up a failed one) and returns it as it is then. The progress tells the rest.
    pub async fn create(&self, person: &Person, request: CreateShed) -> Result<Shed, Error> {
        let name: ShedName = request.name.parse()?;
        person.may_with(&name, Scope::Drive, "to create a shed")?;
        if request.retry {
            return self.retry(person, &name, request).await;
        }
        let (spec, repo) = self.specify(person, &request)?;
        let now = self.server.clock.now();
        let row = ShedRow {
            name: name.to_string(),
            status: ShedStatus::Creating,
            reason: None,
            reason_code: None,
            wanted: !request.no_start,
            created_at: now,
            status_since: now,
            spec,
        };
        let mut event =
            NewEvent::new(now, EventKind::ShedStatus, person.actor.clone()).shed(name.as_str());
        event.status = Some(ShedStatus::Creating);
        match self.server.store.add_shed(row.clone(), event).await {
            Err(StoreError::Exists(_)) => return Err(Error::ShedExists(name)),
            added => added?,
        }
        // From here on the shed exists, whatever becomes of the caller: the rest is the keeper's.
        start_keeper(&self.server, &self.resources, &self.sheds, name.clone(), row).await?;
        let order =
            Order { no_start: request.no_start, repo, lend: request.lend, ..Order::default() };
        let handle = self.keeper(person, &name, Scope::Drive, "to create a shed")?;
        handle.begin_creation(person, order).await?;
        self.shed(person, &name)
    }

    async fn retry(
        &self,
        person: &Person,
        name: &ShedName,
        request: CreateShed,
    ) -> Result<Shed, Error> {
        let handle = self.keeper(person, name, Scope::Drive, "to create a shed")?;
        let repo = request.repo.as_deref().map(parse_repo).transpose()?;
        let status = handle.view.borrow().status();
        if status != ShedStatus::Failed {
            return Err(Error::Rejected(Rejection::Shed {
                shed: name.clone(),
                denial: Denial::NotFailed,
            }));
        }
        if let Some(image) = &request.image {
            check_image(image)?;
        }
        if let Some(branch) = &request.branch {
            check_branch(branch, repo.is_some())?;
        }
        if let Some(repo) = &repo {
            let spec = ShedSpec {
                repo: Some(repo.url.clone()),
                branch: request.branch.clone(),
                ..handle.view.borrow().row.spec.clone()
            };
            handle.set_spec(person, spec).await?;
        }
        let order = Order { image: request.image, repo, lend: request.lend, ..Order::default() };
        handle.begin_creation(person, order).await?;
        self.shed(person, name)
    }

    /// Checks a request and fills in what it does not say.
    fn specify(
        &self,
        person: &Person,
        request: &CreateShed,
    ) -> Result<(ShedSpec, Option<Repo>), Error> {
        let defaults = &self.settings().defaults;
        let repo = request.repo.as_deref().map(parse_repo).transpose()?;
        if request.no_start && repo.is_some() {
            let text = "a shed that is not started cannot clone: leave out --no-start or --repo";
            return Err(Error::Rejected(Rejection::Invalid(text.to_owned())));
        }
        if let Some(branch) = &request.branch {
            check_branch(branch, repo.is_some())?;
        }
        let image = request.image.clone().unwrap_or_else(|| defaults.image.clone());
        check_image(&image)?;
        let limits =
            limits(defaults.limits, request.cpus, request.memory.as_deref(), request.pids)?;
        if !request.mounts.is_empty() {
            person.may(Scope::Admin, "to mount directories of the host")?;
        }
        for mount in &request.mounts {
            self.settings().mounts.check(
                mount,
                person.local_uid,
                "/home/dev",
                crate::shed::mounts::look_up,
            )?;
        }
        let mut env = defaults.env.clone();
        env.extend(request.env.clone());
        env::check(env.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        let mounts = defaults.mounts.iter().chain(&request.mounts).cloned().collect();
        let spec = ShedSpec {
            image,
            repo: repo.as_ref().map(|repo| repo.url.clone()),
            branch: request.branch.clone(),
            limits,
            network: request.network.unwrap_or(defaults.network),
            mounts,
            env,
            allow_agent_forwarding: request.allow_agent_forwarding,
            git_identity: request.git_identity.clone(),
            cloned: repo.is_none(),
            made_volumes: false,
            removal_keeps_volumes: false,
        };
        Ok((spec, repo))
    }

    /// Makes a request come true and waits for it.
    pub async fn request(
        &self,
        person: &Person,
        name: &ShedName,
        request: Request,
    ) -> Result<(Answer, Shed), Error> {
        let handle = self.keeper(person, name, Scope::Drive, "to start and stop a shed")?;
        let answer = handle.request(request, person.actor.clone(), Order::default()).await?;
        Ok((answer, self.shed(person, name)?))
    }

    /// A new container on the same volumes; waits for it.
    pub async fn rebuild(
        &self,
        person: &Person,
        name: &ShedName,
        request: RebuildShed,
    ) -> Result<Shed, Error> {
        let handle = self.keeper(person, name, Scope::Drive, "to rebuild a shed")?;
        if let Some(image) = &request.image {
            check_image(image)?;
        }
        let order = Order { image: request.image, ..Order::default() };
        handle.request(Request::Rebuild, person.actor.clone(), order).await?;
        self.shed(person, name)
    }

    /// Deletes a shed and waits for it. One that is being created is called off first.
    pub async fn delete(
        &self,
        person: &Person,
        name: &ShedName,
        removal: Removal,
    ) -> Result<(), Error> {
        let handle = self.keeper(person, name, Scope::Drive, "to delete a shed")?;
        let order = Order { keep_volumes: removal == Removal::KeepVolumes, ..Order::default() };
        handle.request(Request::Delete, person.actor.clone(), order).await?;
        Ok(())
    }

    /// Changes limits and options while it runs.
    pub async fn patch(
        &self,
        person: &Person,
        name: &ShedName,
        request: PatchShed,
    ) -> Result<Shed, Error> {
        let handle = self.keeper(person, name, Scope::Drive, "to change a shed")?;
        let (spec, has_box) = {
            let view = handle.view.borrow();
            (view.row.spec.clone(), view.has_box())
        };
        let limits = limits(spec.limits, request.cpus, request.memory.as_deref(), request.pids)?;
        if limits != spec.limits && has_box {
            self.server.engine.limit(name, limits).await?;
        }
        let allow = request.allow_agent_forwarding.unwrap_or(spec.allow_agent_forwarding);
        handle.set_spec(person, ShedSpec { limits, allow_agent_forwarding: allow, ..spec }).await?;
        self.shed(person, name)
    }

    /// How a creation goes.
    pub fn progress(&self, person: &Person, name: &ShedName) -> Result<ProgressReader, Error> {
        let handle = self.keeper(person, name, Scope::Read, "to see a shed")?;
        let known = ProgressState::default();
        Ok(ProgressReader { state: handle.progress, known, news: VecDeque::new() })
    }

    /// Waits until nothing is under way any more, and says how it ended.
    pub async fn created(&self, person: &Person, name: &ShedName) -> Result<Shed, Error> {
        let handle = self.keeper(person, name, Scope::Read, "to see a shed")?;
        let mut progress = handle.progress.clone();
        let stop = self.stopping();
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
                let text = "the creation goes on when the engine is back";
                Err(EngineError::Unreachable(text.to_owned()).into())
            }
            _ => self.shed(person, name),
        }
    }

    /// One connection of a clone that asks for something its creator lends. Only the creator is given it.
    pub fn lend(&self, person: &Person, name: &ShedName, id: &str) -> Result<UnixStream, Error> {
        let handle = self.keeper(person, name, Scope::Drive, "to lend credentials to a clone")?;
        let taken = handle.relay.take(id, &person.actor);
        taken.ok_or_else(|| {
            Error::Rejected(Rejection::NotFound("clone that waits for this".to_owned()))
        })
    }
}

impl KeeperHandle {
    /// Posts the creation and waits until it has begun, so that its progress is its own and no earlier one's.
    async fn begin_creation(&self, person: &Person, order: Order) -> Result<(), Error> {
        self.relay.open_for(person.actor.clone());
        let ended = self.send_request(Request::Create, person.actor.clone(), order).await?;
        let mut view = self.view.clone();
        tokio::select! {
            biased;
            // The keeper lives as long as the shed; a creation that is over at once has begun, too.
            begun = view.wait_for(|view| view.status() != ShedStatus::Failed) => {
                begun.map(drop).map_err(|_| Error::ShuttingDown)
            }
            ended = ended => ended.map_err(|_| Error::ShuttingDown)?.map(drop),
        }
    }

    async fn set_spec(&self, person: &Person, spec: ShedSpec) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        let post = Message::ShedSpec(Box::new(spec), person.actor.clone(), answer);
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

fn parse_repo(given: &str) -> Result<Repo, Error> {
    repo::parse(given).map_err(|error| Error::Rejected(Rejection::Invalid(error.to_string())))
}

fn check_branch(branch: &str, has_repo: bool) -> Result<(), Error> {
    if !has_repo {
        return Err(Error::Rejected(Rejection::Invalid(
            "a branch was given without a repository".to_owned(),
        )));
    }
    Branch::try_from(branch.to_owned())?;
    Ok(())
}

fn check_image(image: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    let good = !image.is_empty()
        && image.len() <= MAX_IMAGE_BYTES
        && image.starts_with(|c: char| c.is_ascii_alphanumeric())
        && image.chars().all(plain);
    if good {
        Ok(())
    } else {
        Err(Error::Rejected(Rejection::Invalid(format!("{image:?} is no image name"))))
    }
}

fn limits(
    before: Limits,
    cpus: Option<f64>,
    memory: Option<&str>,
    pids: Option<u32>,
) -> Result<Limits, Error> {
    let cpus = cpus.unwrap_or(before.cpus);
    if !(cpus.is_finite() && (0.01..=4096.0).contains(&cpus)) {
        return Err(Error::Rejected(Rejection::Invalid(format!(
            "{cpus} CPUs is no sensible limit"
        ))));
    }
    let memory_bytes = match memory {
        Some(text) => parse_size(text)
            .map_err(|error| Error::Rejected(Rejection::Invalid(error.to_string())))?,
        None => before.memory_bytes,
    };
    if memory_bytes < MIN_MEMORY_BYTES {
        return Err(Error::Rejected(Rejection::Invalid(
            "a shed needs at least 16M of memory".to_owned(),
        )));
    }
    let pids = pids.unwrap_or(before.pids);
    if pids < MIN_PIDS {
        return Err(Error::Rejected(Rejection::Invalid(format!(
            "a shed needs at least {MIN_PIDS} processes"
        ))));
    }
    Ok(Limits { cpus, memory_bytes, pids })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_outside_sense_are_refused() {
        let before = Limits { cpus: 2.0, memory_bytes: 4 << 30, pids: 100 };
        assert_eq!(limits(before, None, None, None).unwrap(), before);
        assert_eq!(limits(before, Some(0.5), Some("1G"), Some(64)).unwrap().memory_bytes, 1 << 30);
        for (cpus, memory, pids) in [
            (Some(0.0), None, None),
            (Some(f64::NAN), None, None),
            (Some(-1.0), None, None),
            (None, Some("1M"), None),
            (None, Some("x"), None),
            (None, None, Some(1)),
        ] {
            assert!(limits(before, cpus, memory, pids).is_err(), "{cpus:?} {memory:?} {pids:?}");
        }
    }

    #[test]
    fn names_of_images_branches_and_variables_are_plain() {
        for good in ["debian", "ghcr.io/a/b:1.2", "a@sha256:abc"] {
            assert!(check_image(good).is_ok());
        }
        for bad in ["", "-v", "a b", "a;b", "/etc"] {
            assert!(check_image(bad).is_err());
        }
        assert!(check_branch("feature/x", true).is_ok());
        for bad in ["", "-x", "a..b", "a b", "a:b"] {
            assert!(check_branch(bad, true).is_err());
        }
        assert!(check_branch("x", false).is_err());
    }
}
