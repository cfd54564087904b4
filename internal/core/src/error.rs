//! Every way in which a request can fail, and the one place where each gets its problem code, text and hint.

mod failure;
mod guest;

use shed_api::{Code, Problem, ShedName, ShedStatus};
use shed_link::Refusal;
use shed_link::git::{FailureKind, GitNameError};
use shed_model::Rejection;
use shed_store::StoreError;

use shed_engine::EngineError;
use shed_model::session::life::Denial as SessionDenial;
use shed_model::shed::life::Denial;

pub use self::failure::Failure;

/// Why a request failed. [`Error::problem`] is what the caller gets; the rest is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rule rejects the request.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// A missing or invalid credential.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// There is no such shed, or the caller may not see it.
    #[error("no shed {0:?}")]
    NoShed(ShedName),
    /// A shed of that name exists.
    #[error("shed {0:?} exists")]
    ShedExists(ShedName),
    /// No such session.
    #[error("no session {session:?} in shed {shed:?}")]
    NoSession {
        /// The shed that was addressed.
        shed: ShedName,
        /// As the request names it.
        session: String,
    },
    /// A session of that name exists.
    #[error("session {session:?} exists in shed {shed:?}")]
    SessionExists {
        /// The shed that has it.
        shed: ShedName,
        /// The name that is taken.
        session: String,
    },
    /// The session is unmanaged: it has no row that could change.
    #[error(
        "session {session:?} of shed {shed:?} is unmanaged: it has no title, tags, branch or workers"
    )]
    Unmanaged {
        /// The shed that was addressed.
        shed: ShedName,
        /// As the request names it.
        session: String,
    },
    /// Something excludes the request now; `text` says what.
    #[error("session {session:?} of shed {shed:?}: {text}")]
    SessionBusy {
        /// The shed that the session is in.
        shed: ShedName,
        /// The session's name.
        session: String,
        /// What excludes the request, for people.
        text: String,
    },
    /// A setup or teardown hook failed.
    #[error("the {hook} of session {session:?} ended with {how}")]
    HookFailed {
        /// The shed that the session is in.
        shed: ShedName,
        /// The session's name.
        session: String,
        /// `setup` or `teardown`: also its worker's name.
        hook: String,
        /// `exit N`, `signal NAME` or `exit status unknown`.
        how: String,
    },
    /// Another operation cancelled this one.
    #[error("the operation was cancelled")]
    Cancelled,
    /// No such worker.
    #[error("no worker {worker:?} in session {session:?}")]
    NoWorker {
        /// The name of the session that was searched.
        session: String,
        /// As the request names it.
        worker: String,
    },
    /// A worker of that name exists.
    #[error("worker {worker:?} exists in session {session:?}")]
    WorkerExists {
        /// The name of the session that has it.
        session: String,
        /// The name that is taken.
        worker: String,
    },
    /// The volume with a shed's worktrees is full, so nothing new can be started.
    #[error("the volume of shed {shed:?} with {directory} is full")]
    ShedDiskFull {
        /// The shed.
        shed: ShedName,
        /// Where the volume is mounted.
        directory: String,
    },
    /// A worker's command could not be started.
    #[error("worker {worker:?}: {why}")]
    WorkerRefused {
        /// The name of the worker.
        worker: String,
        /// What shed-init or its runner reported.
        why: String,
    },
    /// git in the shed failed.
    #[error("{text}")]
    Git {
        /// What the problem code is derived from.
        kind: FailureKind,
        /// One line for people.
        text: String,
    },
    /// Reading or writing a worker's log.
    #[error(transparent)]
    Output(#[from] shed_output::Error),
    /// A key, token or branch exists already; the text names it.
    #[error("{0} exists")]
    Exists(String),
    /// An operation on the shed failed.
    #[error("{0}")]
    Failed(Failure),
    /// The shed is running, but its shed-init does not answer.
    #[error("shed {0:?} is running, but its shed-init does not answer")]
    ShedUnreachable(ShedName),
    /// The shed-init of the shed is too old for the request. It is updated when the shed starts.
    #[error("the shed-init of shed {0:?} is too old for this request")]
    OldShedInit(ShedName),
    /// The shed is running, but its container was created for another data directory of the server.
    #[error(
        "shed {0:?} is running, but its container was created for another data directory and cannot connect"
    )]
    Stranded(ShedName),
    /// The image has no tmux.
    #[error("the image of shed {0:?} has no tmux")]
    NoTmux(ShedName),
    /// The tmux server ended during the request, at every try.
    #[error("the tmux server of shed {0:?} ended during the request")]
    TmuxLost(ShedName),
    /// tmux failed for another reason.
    #[error("shed {shed:?}: {text}")]
    Tmux {
        /// The shed that was addressed.
        shed: ShedName,
        /// tmux's message.
        text: String,
    },
    /// A program in the shed could not be started.
    #[error("{0}")]
    Refused(Refusal),
    /// A connection into the shed failed.
    #[error("{0}")]
    Connect(String),
    /// The container engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A time limit passed.
    #[error("{0}")]
    TimedOut(String),
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// A system call of the server failed.
    #[error("{what}: {error}")]
    Io {
        /// What the server was doing.
        what: String,
        /// The reason.
        error: std::io::Error,
    },
}

impl Error {
    /// Adds what was being done to an error of the operating system.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }

    /// Whether the disk with the database was full.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Store(StoreError::DiskFull))
    }

    /// What the caller gets.
    pub fn problem(&self) -> Problem {
        let detail = self.to_string();
        match self {
            Self::Rejected(rejection) => rejected(rejection, detail),
            Self::Unauthorized(_) => Problem::new(Code::Unauthorized, detail)
                .hint("on the server: shed-server token add laptop --scope drive"),
            Self::NoShed(_) => Problem::new(Code::ShedNotFound, detail).hint("shed list"),
            Self::ShedExists(name) => {
                Problem::new(Code::ShedExists, detail).hint(format!("shed attach {name}"))
            }
            Self::NoSession { shed, .. } => {
                Problem::new(Code::SessionNotFound, detail).hint(format!("shed sessions {shed}"))
            }
            Self::SessionExists { shed, session } => Problem::new(Code::SessionExists, detail)
                .hint(format!("shed attach {shed} -S {session}")),
            Self::Unmanaged { shed, session } => Problem::new(Code::Conflict, detail)
                .hint(format!("shed sessions adopt {shed} {session}")),
            Self::HookFailed { shed, session, hook, .. } => Problem::new(Code::ExecFailed, detail)
                .hint(format!("shed output {shed} {session} {hook}")),
            Self::SessionBusy { .. } | Self::Cancelled => Problem::new(Code::Busy, detail),
            Self::NoWorker { .. } => Problem::new(Code::WorkerNotFound, detail),
            Self::WorkerExists { .. } => Problem::new(Code::WorkerExists, detail),
            Self::ShedDiskFull { shed, directory } => Problem::new(Code::DiskFull, detail)
                .hint(format!("shed exec {shed} -- df -h {directory}")),
            Self::WorkerRefused { .. } => Problem::new(Code::ExecFailed, detail),
            Self::Git { kind, .. } => git(*kind, detail),
            Self::Output(error) => match error {
                shed_output::Error::Full { .. } => {
                    Problem::new(Code::DiskFull, detail).hint("on the server: df -h")
                }
                shed_output::Error::Needle { .. } => Problem::new(Code::InvalidRequest, detail),
                _ => Problem::new(Code::Internal, detail),
            },
            Self::Exists(_) => Problem::new(Code::Conflict, detail),
            Self::Failed(failure) => {
                let problem = Problem::new(failure.code, detail);
                Problem { hint: failure.hint.clone(), ..problem }
            }
            Self::ShedUnreachable(shed) | Self::Stranded(shed) => {
                Problem::new(Code::ShedUnreachable, detail).hint(format!("shed restart {shed}"))
            }
            Self::OldShedInit(shed) => {
                Problem::new(Code::Conflict, detail).hint(format!("shed restart {shed}"))
            }
            Self::NoTmux(shed) => Problem::new(Code::TmuxNotAvailable, detail)
                .hint(format!("shed exec --root {shed} -- apt-get install -y tmux")),
            Self::Refused(refusal) => refused(refusal, detail),
            Self::Connect(_) => Problem::new(Code::ConnectFailed, detail),
            Self::Engine(error) => engine(error, detail),
            Self::Store(error) => match error {
                StoreError::Exists(_) => Problem::new(Code::Conflict, detail),
                StoreError::DiskFull => {
                    Problem::new(Code::DiskFull, detail).hint("on the server: df -h")
                }
                StoreError::ReadOnly => Problem::new(Code::Internal, detail),
                StoreError::TooNew { .. }
                | StoreError::Damaged { .. }
                | StoreError::Foreign(_)
                | StoreError::File { .. }
                | StoreError::Unreadable(_)
                | StoreError::Sqlite(_)
                | StoreError::Closed => {
                    Problem::new(Code::Internal, "the server's database failed")
                }
            },
            Self::TimedOut(_) => Problem::new(Code::TimedOut, detail),
            Self::ShuttingDown => Problem::new(Code::ShuttingDown, detail),
            Self::Io { error, .. } if error.kind() == std::io::ErrorKind::StorageFull => {
                Problem::new(Code::DiskFull, detail).hint("on the server: df -h")
            }
            Self::TmuxLost(_) | Self::Tmux { .. } | Self::Io { .. } => {
                Problem::new(Code::Internal, detail)
            }
        }
    }
}

fn rejected(rejection: &Rejection, detail: String) -> Problem {
    match rejection {
        Rejection::Invalid(_) => Problem::new(Code::InvalidRequest, detail),
        Rejection::Name(_) => Problem::new(Code::InvalidName, detail),
        Rejection::TooLarge(_) => Problem::new(Code::TooLarge, detail),
        Rejection::Forbidden(_) => Problem::new(Code::Forbidden, detail),
        Rejection::NotFound(_) => Problem::new(Code::NotFound, detail),
        Rejection::Shed { shed, denial } => denied(shed, *denial, detail),
        Rejection::NotRunning { shed, status } => not_running(shed, *status, detail),
        Rejection::Session { shed, session, denial } => {
            session_denied(shed, session, *denial, detail)
        }
        Rejection::WorkAtRisk { shed, session, .. } => Problem::new(Code::WorkWouldBeLost, detail)
            .hint(format!("shed sessions delete {shed} {session} --force")),
        Rejection::Unsaved { shed, directory, .. } => Problem::new(Code::Conflict, detail)
            .hint(format!("shed exec {shed} -w {directory} -- ls -la")),
        Rejection::Locked { shed, directory, .. } => Problem::new(Code::Conflict, detail)
            .hint(format!("shed exec {shed} -w {directory} -- git worktree unlock .")),
    }
}

fn denied(shed: &ShedName, denial: Denial, detail: String) -> Problem {
    let busy = |detail| Problem::new(Code::Busy, detail);
    match denial {
        Denial::Paused => busy(detail).hint(format!("shed unpause {shed}")),
        Denial::NotRunning => {
            Problem::new(Code::NotRunning, detail).hint(format!("shed start {shed}"))
        }
        Denial::NotFailed => Problem::new(Code::ShedExists, detail),
        Denial::NeverCreated | Denial::NotCloned => {
            busy(detail).hint(format!("shed create {shed} --retry"))
        }
        Denial::Removing | Denial::TooManyWaiting => busy(detail),
    }
}

fn not_running(shed: &ShedName, status: ShedStatus, detail: String) -> Problem {
    let problem = Problem::new(Code::NotRunning, detail);
    match status {
        ShedStatus::Paused => problem.hint(format!("shed unpause {shed}")),
        ShedStatus::Stopped => problem.hint(format!("shed start {shed}")),
        ShedStatus::Failed => problem.hint(format!("shed show {shed}")),
        ShedStatus::Creating
        | ShedStatus::Starting
        | ShedStatus::Running
        | ShedStatus::Stopping
        | ShedStatus::Removing => problem,
    }
}

fn refused(refusal: &Refusal, detail: String) -> Problem {
    match refusal {
        Refusal::Invalid(_) => Problem::new(Code::InvalidRequest, detail),
        Refusal::NotExecutable { missing, .. } => {
            let exit_status = Some(if *missing { 127 } else { 126 });
            Problem { exit_status, ..Problem::new(Code::ExecFailed, detail) }
        }
        Refusal::NoDirectory { .. } | Refusal::NoResources(_) => {
            Problem::new(Code::ExecFailed, detail)
        }
        Refusal::CannotConfine(_) => Problem::new(Code::ConfineUnavailable, detail),
        Refusal::TimedOut => Problem::new(Code::TimedOut, detail),
        Refusal::Unsupported => Problem::new(Code::Conflict, detail),
    }
}

fn session_denied(
    shed: &ShedName,
    session: &str,
    denial: SessionDenial,
    detail: String,
) -> Problem {
    let problem = Problem::new(Code::Busy, detail);
    match denial {
        SessionDenial::Ended | SessionDenial::Failed => {
            problem.hint(format!("shed sessions restart {shed} {session}"))
        }
        SessionDenial::Frozen => problem.hint(format!("shed sessions thaw {shed} {session}")),
        SessionDenial::Orphaned => problem.hint(format!("shed sessions show {shed} {session}")),
        SessionDenial::Removing | SessionDenial::Waiting | SessionDenial::TooManyWaiting => problem,
    }
}

fn git(kind: FailureKind, detail: String) -> Problem {
    let code = match kind {
        FailureKind::NotFound => Code::NotFound,
        FailureKind::Exists | FailureKind::BranchInUse => Code::Conflict,
        FailureKind::Busy => Code::Busy,
        FailureKind::NoSpace => Code::DiskFull,
        FailureKind::Invalid => Code::InvalidRequest,
        FailureKind::TooMuch => Code::TooLarge,
        FailureKind::NoGit
        | FailureKind::NotARepository
        | FailureKind::NoCommit
        | FailureKind::BaseGone
        | FailureKind::Fetch
        | FailureKind::Locked
        | FailureKind::ReadOnly
        | FailureKind::Denied
        | FailureKind::Interrupted
        | FailureKind::Git => Code::GitFailed,
    };
    Problem::new(code, detail)
}

fn engine(error: &EngineError, detail: String) -> Problem {
    match error {
        EngineError::NoContainer(_) => Problem::new(Code::NotFound, detail),
        EngineError::NoImage { .. } => {
            Problem::new(Code::ImageNotFound, detail).hint("on the server: docker images")
        }
        EngineError::Conflict(_) => Problem::new(Code::Conflict, detail),
        EngineError::DiskFull(_) => {
            Problem::new(Code::DiskFull, detail).hint("on the server: docker system df")
        }
        EngineError::Unreachable(_) => {
            Problem::new(Code::EngineUnreachable, detail).hint("on the server: shed-server doctor")
        }
        EngineError::Failed(_) => Problem::new(Code::EngineFailed, detail),
    }
}

impl From<GitNameError> for Error {
    fn from(error: GitNameError) -> Self {
        Self::Rejected(error.into())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<shed_api::name::NameError> for Error {
    fn from(error: shed_api::name::NameError) -> Self {
        Self::Rejected(error.into())
    }
}
