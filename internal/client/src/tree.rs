//! Calls for diffs and checkpoints of sessions.

use hyper::Method;
use shed_api::git::{
    Checkpoint, CheckpointList, Diff, DiffNumbers, MadeCheckpoint, NewCheckpoint,
    RestoreCheckpoint, RestoredCheckpoint,
};
use shed_api::session::{NewSession, Session};

use crate::calls::session_path;
use crate::work::{Download, query};
use crate::{Client, ClientError, EventStream};

/// What a diff compares. The defaults are the server's: the base with the working tree, all files, with lines.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// Old side: `base`, `head` or a checkpoint number.
    pub from: Option<String>,
    /// New side: `worktree`, `head` or a checkpoint number.
    pub to: Option<String>,
    /// File or directory to compare.
    pub path: Option<String>,
    /// Whether to omit the changed lines.
    pub stat: bool,
}

/// A patch in git's format.
#[derive(Debug)]
pub struct Patch {
    /// The patch, to be read in chunks.
    pub text: Download,
    /// Whether it was truncated at the size limit.
    pub truncated: bool,
}

impl Compared {
    fn path(&self, shed: &str, session: &str, format: Option<&str>) -> String {
        let query = query(&[
            ("from", self.from.clone()),
            ("to", self.to.clone()),
            ("path", self.path.clone()),
            ("stat", self.stat.then(|| "true".to_owned())),
            ("format", format.map(str::to_owned)),
        ]);
        format!("{}/diff{query}", session_path(shed, session))
    }
}

fn checkpoints_path(shed: &str, session: &str) -> String {
    format!("{}/checkpoints", session_path(shed, session))
}

impl Client {
    /// `GET …/sessions/{s}/diff`.
    pub async fn diff(
        &self,
        shed: &str,
        session: &str,
        compared: &Compared,
    ) -> Result<Diff, ClientError> {
        self.get(&compared.path(shed, session, None)).await
    }

    /// `GET …/sessions/{s}/diff?format=patch`.
    pub async fn patch_of(
        &self,
        shed: &str,
        session: &str,
        compared: &Compared,
    ) -> Result<Patch, ClientError> {
        let path = compared.path(shed, session, Some("patch"));
        let answer = self.ask_with(Method::GET, &path, None, &[]).await?;
        let truncated = answer.headers().get("x-shed-truncated").is_some_and(|cut| cut == "true");
        Ok(Patch { text: Download::new(self, answer), truncated })
    }

    /// `GET …/sessions/{s}/diff/numbers`.
    pub async fn diff_numbers(
        &self,
        shed: &str,
        session: &str,
    ) -> Result<DiffNumbers, ClientError> {
        self.get(&format!("{}/diff/numbers", session_path(shed, session))).await
    }

    /// `GET …/sessions/{s}/diff/watch`.
    pub async fn watch_diff(
        &self,
        shed: &str,
        session: &str,
    ) -> Result<EventStream<DiffNumbers>, ClientError> {
        self.event_stream(&format!("{}/diff/watch", session_path(shed, session))).await
    }

    /// `GET …/sessions/{s}/checkpoints`.
    pub async fn checkpoints(
        &self,
        shed: &str,
        session: &str,
    ) -> Result<CheckpointList, ClientError> {
        self.get(&checkpoints_path(shed, session)).await
    }

    /// `POST …/sessions/{s}/checkpoints`.
    pub async fn make_checkpoint(
        &self,
        shed: &str,
        session: &str,
        request: &NewCheckpoint,
    ) -> Result<MadeCheckpoint, ClientError> {
        self.send(Method::POST, &checkpoints_path(shed, session), request).await
    }

    /// `GET …/checkpoints/{c}`.
    pub async fn checkpoint(
        &self,
        shed: &str,
        session: &str,
        n: u64,
    ) -> Result<Checkpoint, ClientError> {
        self.get(&format!("{}/{n}", checkpoints_path(shed, session))).await
    }

    /// `POST …/checkpoints/{c}/restore`.
    pub async fn restore_checkpoint(
        &self,
        shed: &str,
        session: &str,
        n: u64,
        request: &RestoreCheckpoint,
    ) -> Result<RestoredCheckpoint, ClientError> {
        let path = format!("{}/{n}/restore", checkpoints_path(shed, session));
        self.send(Method::POST, &path, request).await
    }

    /// `POST …/checkpoints/{c}/fork`.
    pub async fn fork_checkpoint(
        &self,
        shed: &str,
        session: &str,
        n: u64,
        request: &NewSession,
    ) -> Result<Session, ClientError> {
        let path = format!("{}/{n}/fork", checkpoints_path(shed, session));
        self.send(Method::POST, &path, request).await
    }
}
