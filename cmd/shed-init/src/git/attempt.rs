//! What an attempt to create a session's worktree has created, recorded before it is created. The server may be killed in
//! the middle of an attempt, or before it hears of the end of one; its next attempt continues from the record.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use shed_link::git::{AddWorktree, AddedWorktree};

use super::directory;
use super::failure::Failure;
use super::lock;
use super::private_index;
use super::refs::{self, Step};
use super::repository::Repository;
use super::worktree::{forget_branch, forget_record};
use super::worktrees;

/// The most bytes of a record; a list of copied files is limited far below.
const MAX_RECORD_BYTES: u64 = 8 << 20;

/// An attempt of a session. Its file is locked: another attempt of the session waits. Without a session nothing is recorded.
pub(crate) struct Attempt {
    file: Option<File>,
    /// What it is about to create.
    own: Record,
    /// What the session's last attempt recorded.
    last: Option<Record>,
    /// Something may have been created that is not finished.
    is_open: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    path: String,
    branch: String,
    /// The commit at which the branch was created; absent if the branch existed before.
    #[serde(default)]
    created_at: Option<String>,
    /// The answer, once everything is created.
    #[serde(default)]
    added: Option<AddedWorktree>,
}

impl Attempt {
    /// Waits for an attempt of the same session that still runs, and reads what the last one recorded.
    pub(crate) fn begin(repository: &Repository, request: &AddWorktree) -> Result<Self, Failure> {
        let (path, branch) = (request.path.to_string(), request.branch.to_string());
        let own = Record { path, branch, ..Record::default() };
        let Some(session) = &request.session else {
            return Ok(Self { file: None, own, last: None, is_open: false });
        };
        let directory = private_index::directory(repository, None);
        fs::create_dir_all(&directory).map_err(|error| failed(&error))?;
        let mut file = lock::take_session(&directory.join(format!("{session}.attempt")))?;
        let mut text = Vec::new();
        (&mut file)
            .take(MAX_RECORD_BYTES)
            .read_to_end(&mut text)
            .map_err(|error| failed(&error))?;
        // A record that was not written completely: nothing had been created.
        let last = serde_json::from_slice::<Record>(&text).ok();
        let last = last.filter(|last| (&last.path, &last.branch) == (&own.path, &own.branch));
        Ok(Self { file: Some(file), own, last, is_open: false })
    }

    /// The answer of the last attempt, if it created everything and that is still there.
    pub(crate) fn finished(
        &self,
        repository: &Repository,
    ) -> Result<Option<AddedWorktree>, Failure> {
        let Some(added) = self.last.as_ref().and_then(|last| last.added.clone()) else {
            return Ok(None);
        };
        let is_there = self.checked_out_at(repository)?.is_some_and(|at| at == self.own.path);
        Ok(is_there.then_some(added))
    }

    /// Removes what the last attempt created and did not finish. Nobody has worked in it: the server did not know it.
    pub(crate) fn remove_leftovers(&self, repository: &Repository) -> Result<(), Failure> {
        let Some(last) = self.last.as_ref().filter(|last| last.added.is_none()) else {
            return Ok(());
        };
        let name = format!("refs/heads/{}", last.branch);
        let user = self.checked_out_at(repository)?;
        let tip = repository.commit_of(&name)?;
        let moved = last.created_at.is_some() && tip.is_some() && tip != last.created_at;
        if moved || user.is_some_and(|user| user != last.path) {
            // Somebody uses the branch: it is treated as any other branch.
            return Ok(());
        }
        let path = Path::new(&last.path);
        let record = worktrees::record(repository, path);
        let removed = if record.is_some() {
            directory::remove(path)
        } else {
            // Empty, or not ours.
            fs::remove_dir(path).or(Ok(()))
        };
        removed.map_err(|error| Failure::io("cannot remove an unfinished worktree", &error))?;
        forget_record(repository, record);
        if let (Some(created_at), Some(_)) = (&last.created_at, tip) {
            forget_branch(repository, &last.branch);
            refs::apply(repository, &[Step::Delete { name, commit: created_at.clone() }])?;
        }
        Ok(())
    }

    /// The path of the worktree that has the branch checked out.
    fn checked_out_at(&self, repository: &Repository) -> Result<Option<String>, Failure> {
        let name = format!("refs/heads/{}", self.own.branch);
        let list = worktrees::list(repository)?;
        let user = list.into_iter().find(|worktree| worktree.branch.as_deref() == Some(&name));
        let is_own =
            |path: &Path| worktrees::real(path) == worktrees::real(Path::new(&self.own.path));
        Ok(user.map(|user| {
            if is_own(&user.path) {
                self.own.path.clone()
            } else {
                user.path.to_string_lossy().into_owned()
            }
        }))
    }

    /// Records that the worktree is going to be created, and the branch if there is a commit for it.
    pub(crate) fn creates(&mut self, commit: Option<&str>) -> Result<(), Failure> {
        self.own.created_at = commit.map(str::to_owned);
        self.is_open = true;
        self.write()
    }

    /// Records that everything is created.
    pub(crate) fn finish(&mut self, added: &AddedWorktree) -> Result<(), Failure> {
        self.own.added = Some(added.clone());
        self.write()?;
        self.is_open = false;
        Ok(())
    }

    fn write(&mut self) -> Result<(), Failure> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let text = serde_json::to_vec(&self.own).map_err(|error| failed(&error.into()))?;
        let mut write = || {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&text)?;
            file.sync_data()
        };
        write().map_err(|error| failed(&error))
    }
}

impl Drop for Attempt {
    /// A failed attempt has undone what it created.
    fn drop(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| self.is_open) {
            file.set_len(0).ok();
        }
    }
}

fn failed(error: &io::Error) -> Failure {
    Failure::io("cannot record the creation of a worktree", error)
}
