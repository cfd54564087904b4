//! The operations on a shed, started by its keeper. They act on engine and container, report steps, and never write a row
//! themselves. Each can be resumed: after a crash of the server it is.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use shed_api::{Code, ShedName, ShedStatus};
use shed_model::shed::{ShedRow, ShedSpec};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::Failure;
use crate::server::Server;
use crate::session::handle::WorkHandle;
use crate::settings::HELLO_LIMIT;
use crate::shed::clone::checkout;
use crate::shed::credential_relay::CredentialRelay;
use crate::shed::handle::Order;
use crate::shed::mounts::look_up;
use crate::shed::view::{ProgressState, View};
use shed_engine::STOP_LIMIT;
use shed_engine::{ContainerPlan, ContainerState, Engine, EngineError, Found};
use shed_guest::Link;
use shed_model::shed::life::Operation;

/// How many of a container's last log lines go into the reason of a failure.
const SHOWN_LOG_LINES: u32 = 10;

/// What an operation reports to its keeper.
#[derive(Debug)]
pub(crate) enum Report {
    /// Another transitional status.
    Status(ShedStatus),
    /// The container's current state.
    Found(Option<Box<Found>>),
    /// A change of the specification to store.
    ShedSpec(SpecChange),
    /// The end of the operation: the new status, or the failure.
    Finished(Result<ShedStatus, OpError>),
}

/// A failed operation, and the shed's status after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpError {
    pub(crate) failure: Failure,
    pub(crate) after: After,
}

/// The status of a shed after a failed operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// Failed, with the failure as its reason.
    Failed,
    /// As before: nothing had been done yet.
    Was(ShedStatus),
    /// As the engine reports its container.
    Observed,
    /// Transitional: the operation is resumed when the engine or the server is back.
    Later,
}

impl<E: Into<Failure>> From<E> for OpError {
    fn from(error: E) -> Self {
        let failure = error.into();
        let later = matches!(failure.code, Code::EngineUnreachable | Code::ShuttingDown);
        Self { failure, after: if later { After::Later } else { After::Failed } }
    }
}

/// A change of a shed's specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SpecChange {
    /// Its container is made from this image.
    Image(String),
    /// Its creation made its volumes.
    MadeVolumes,
    /// Its clone is complete but for this, in words.
    Cloned(Vec<String>),
}

impl SpecChange {
    pub(crate) fn apply(self, spec: &mut ShedSpec) {
        match self {
            Self::Image(image) => spec.image = image,
            Self::MadeVolumes => spec.made_volumes = true,
            Self::Cloned(missing) => {
                spec.cloned = true;
                spec.notes = missing;
            }
        }
    }
}

/// What an operation works with.
pub(crate) struct OpEnv {
    pub(crate) server: Arc<Server>,
    pub(crate) name: ShedName,
    /// The row when it began.
    pub(crate) row: ShedRow,
    /// The status before it began.
    pub(crate) was: ShedStatus,
    pub(crate) view: watch::Receiver<View>,
    pub(crate) progress: watch::Sender<ProgressState>,
    pub(crate) relay: CredentialRelay,
    pub(crate) work: WorkHandle,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) cancel: CancellationToken,
    pub(crate) order: Order,
}

type Outcome = Result<ShedStatus, OpError>;

/// Runs an operation to its end and reports it.
pub(crate) async fn run_op(op: Operation, mut env: OpEnv) {
    let run = AssertUnwindSafe(run(op, &mut env)).catch_unwind();
    // A panic ends this operation and must not leave the shed in a transitional status for ever.
    let mut result = run.await.unwrap_or_else(|_| {
        let text = "internal error; see the server's log";
        Err(OpError::from(Failure::new(Code::Internal, text)))
    });
    if let (Err(error), Operation::Stop | Operation::Pause | Operation::Unpause | Operation::Remove) =
        (&mut result, op)
        && error.after == After::Failed
    {
        error.after = After::Observed;
    }
    let found = env.engine().find(&env.name).await;
    if let Ok(found) = found {
        env.report(Report::Found(found.map(Box::new))).await;
    }
    env.report(Report::Finished(result)).await;
}

async fn run(op: Operation, env: &mut OpEnv) -> Outcome {
    match op {
        Operation::Create => create(env).await,
        Operation::Start => start(env).await,
        Operation::Stop => stop(env).await,
        Operation::Restart => restart(env).await,
        Operation::Pause => pause(env).await,
        Operation::Unpause => unpause(env).await,
        Operation::Rebuild => rebuild(env).await,
        Operation::Remove => remove(env).await,
    }
}

impl OpEnv {
    fn engine(&self) -> &dyn Engine {
        &*self.server.engine
    }

    async fn report(&self, report: Report) {
        // The keeper is gone when this fails: the server is going away.
        self.reports.send(report).await.ok();
    }

    /// Waits for a step that may take long and can be cancelled without leaving anything half done.
    async fn unless_cancelled<T>(&self, step: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            done = step => Ok(done),
            () = self.cancel.cancelled() => Err(Failure::new(Code::ShuttingDown, "the operation was cancelled")),
        }
    }

    /// Reports the current step.
    pub(crate) fn step(&self, text: impl Into<String>, percent: Option<u8>) {
        let step = Some((text.into(), percent));
        self.progress.send_if_modified(|progress| {
            let changed = progress.step != step;
            progress.step = step;
            changed
        });
    }
}

/// Creates a shed, or continues a creation that failed.
async fn create(env: &mut OpEnv) -> Outcome {
    make_container(env).await?;
    if env.order.no_start && env.row.spec.repo.is_none() {
        return Ok(ShedStatus::Stopped);
    }
    let link = bring_up(env).await?;
    if env.row.spec.repo.is_some() && !env.row.spec.cloned {
        let missing = env.unless_cancelled(checkout(env, &link)).await??;
        env.report(Report::ShedSpec(SpecChange::Cloned(missing))).await;
    }
    Ok(ShedStatus::Running)
}

/// Image, volumes, container.
async fn make_container(env: &OpEnv) -> Result<(), Failure> {
    let image = env.order.image.clone().unwrap_or_else(|| env.row.spec.image.clone());
    env.step(format!("looking for image {image}"), None);
    let progress = env.progress.clone();
    let report = move |text: String, percent: Option<u8>| {
        progress.send_modify(|progress| progress.step = Some((text, percent)));
    };
    let facts = env.unless_cancelled(env.engine().image(&image, &report)).await??;
    if image != env.row.spec.image {
        env.report(Report::ShedSpec(SpecChange::Image(image.clone()))).await;
    }
    env.step("creating the container", None);
    let spec = &env.row.spec;
    let plan = ContainerPlan {
        shed: env.name.clone(),
        created_at: env.row.created_at,
        repo: spec.repo.clone(),
        image,
        limits: spec.limits,
        network: spec.network,
        mounts: spec.mounts.clone(),
        env: spec.env.clone(),
        home: facts.home,
    };
    let created = env.engine().create(&plan).await?;
    if created.made_volumes {
        env.report(Report::ShedSpec(SpecChange::MadeVolumes)).await;
    }
    Ok(())
}

/// Starts the container and waits for shed-init's hello.
async fn bring_up(env: &mut OpEnv) -> Result<Link, Failure> {
    env.step("starting", None);
    let (stale, ran_before) = {
        let view = env.view.borrow();
        let stale = view.link.clone().filter(|link| link.gone().is_cancelled());
        (stale, view.found.as_ref().is_some_and(|found| found.state == ContainerState::Running))
    };
    if !ran_before {
        for mount in &env.row.spec.mounts {
            let checked = env.server.settings.mounts.recheck(mount, look_up);
            let checked = checked.map_err(crate::Error::from);
            checked.map_err(|error| Failure::new(error.problem().code, error.to_string()))?;
        }
    }
    start_container(env).await?;
    let (name, engine) = (env.name.clone(), Arc::clone(&env.server.engine));
    let hello = wait_for_hello(&mut env.view, stale, &name, &*engine);
    let cancel = env.cancel.clone();
    let waited = tokio::select! {
        waited = timeout(HELLO_LIMIT, hello) => waited,
        () = cancel.cancelled() => return Err(Failure::new(Code::ShuttingDown, "the operation was cancelled")),
    };
    match waited {
        Ok(Some(link)) => Ok(link),
        Ok(None) => Err(no_hello(env, "its container ended at once").await),
        Err(_) => {
            let failure = no_hello(env, "its shed-init did not connect within 10 seconds").await;
            if ran_before {
                // Its processes may hold work, even if they cannot be reached.
                return Err(failure.hint(format!("shed restart {}", env.name)));
            }
            // Nothing in it is worth keeping.
            env.engine().stop(&env.name, Duration::ZERO).await.ok();
            Err(failure)
        }
    }
}

/// Starts the container. One that was never started holds nothing: if it cannot start, it is made again, once. An engine
/// that was killed while it started a container refuses every later start of it.
async fn start_container(env: &OpEnv) -> Result<(), Failure> {
    let error = match env.engine().start(&env.name).await {
        Err(error @ (EngineError::Failed(_) | EngineError::Conflict(_))) => error,
        started => return Ok(started?),
    };
    let found = env.engine().find(&env.name).await?;
    if found.is_none_or(|found| found.state != ContainerState::Created) {
        // What was written outside the volumes would be lost: a person decides.
        return Err(Failure::from(error).hint(format!("shed rebuild {}", env.name)));
    }
    tracing::warn!(shed = %env.name, %error, "a container that never started is made again");
    env.engine().remove_container(&env.name).await?;
    make_container(env).await?;
    Ok(env.engine().start(&env.name).await?)
}

/// `None` if the container ended first.
async fn wait_for_hello(
    view: &mut watch::Receiver<View>,
    stale: Option<Link>,
    name: &ShedName,
    engine: &dyn Engine,
) -> Option<Link> {
    loop {
        let (link, ended) = {
            let now = view.borrow_and_update();
            (now.link.clone(), now.container_ended())
        };
        if let Some(link) =
            link.filter(|link| Some(link) != stale.as_ref() && !link.gone().is_cancelled())
        {
            return Some(link);
        }
        if ended {
            // The view may be older than the start.
            let found = engine.find(name).await.ok().flatten();
            if found.is_none_or(|found| matches!(found.state, ContainerState::Exited { .. })) {
                return None;
            }
        }
        // The keeper lives as long as its operation.
        view.changed().await.ok()?;
    }
}

async fn no_hello(env: &OpEnv, why: &str) -> Failure {
    let log = env.engine().logs(&env.name, SHOWN_LOG_LINES).await.unwrap_or_default();
    let lines: Vec<String> =
        log.lines().map(shed_api::name::printable).filter(|line| !line.trim().is_empty()).collect();
    let last = if lines.is_empty() {
        String::new()
    } else {
        format!("; last lines: {}", lines.join(" | "))
    };
    Failure::new(Code::StartFailed, format!("shed {:?} did not start: {why}{last}", env.name))
        .hint(format!("shed logs {}", env.name))
}

async fn start(env: &mut OpEnv) -> Outcome {
    match env.engine().find(&env.name).await? {
        // Its container was removed outside shed; its volumes have all data.
        None => make_container(env).await?,
        Some(found) if is_stranded(&found) => {
            env.engine().remove_container(&env.name).await?;
            make_container(env).await?;
        }
        Some(_) => {}
    }
    bring_up(env).await?;
    Ok(ShedStatus::Running)
}

/// Whether a container cannot start, because it was created for another data directory.
fn is_stranded(found: &Found) -> bool {
    found.stranded && matches!(found.state, ContainerState::Created | ContainerState::Exited { .. })
}

async fn stop(env: &OpEnv) -> Outcome {
    env.work.stopping().await;
    env.engine().stop(&env.name, STOP_LIMIT).await?;
    Ok(ShedStatus::Stopped)
}

async fn restart(env: &mut OpEnv) -> Outcome {
    stop(env).await?;
    forget_link(env).await;
    env.report(Report::Status(ShedStatus::Starting)).await;
    start(env).await
}

/// Waits until the end of the old link is noticed, a moment after the container's.
async fn forget_link(env: &mut OpEnv) {
    let gone = env.view.borrow().link.as_ref().map(Link::gone);
    if let Some(gone) = gone {
        timeout(Duration::from_secs(1), gone.cancelled()).await.ok();
    }
}

async fn pause(env: &OpEnv) -> Outcome {
    env.engine().pause(&env.name).await?;
    Ok(ShedStatus::Paused)
}

async fn unpause(env: &OpEnv) -> Outcome {
    env.engine().unpause(&env.name).await?;
    Ok(ShedStatus::Running)
}

/// Makes a new container on the same volumes. The image is looked up before anything is removed.
async fn rebuild(env: &mut OpEnv) -> Outcome {
    let image = env.order.image.clone().unwrap_or_else(|| env.row.spec.image.clone());
    let quiet = |_: String, _: Option<u8>| {};
    if let Err(error) = env.engine().image(&image, &quiet).await {
        return Err(OpError { failure: error.into(), after: After::Was(env.was) });
    }
    let runs = matches!(env.was, ShedStatus::Running | ShedStatus::Paused | ShedStatus::Starting);
    env.work.stopping().await;
    env.engine().stop(&env.name, STOP_LIMIT).await?;
    forget_link(env).await;
    env.engine().remove_container(&env.name).await?;
    env.report(Report::Status(ShedStatus::Starting)).await;
    make_container(env).await?;
    if !runs {
        return Ok(ShedStatus::Stopped);
    }
    bring_up(env).await?;
    Ok(ShedStatus::Running)
}

async fn remove(env: &OpEnv) -> Outcome {
    if env.order.keep_volumes {
        // The volumes are kept: let programs finish writing.
        env.engine().stop(&env.name, STOP_LIMIT).await?;
    }
    env.engine().remove_container(&env.name).await?;
    if !env.order.keep_volumes {
        env.engine().remove_volumes(&env.name).await?;
    }
    Ok(ShedStatus::Removing)
}
