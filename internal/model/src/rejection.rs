//! Why a request is rejected by a rule, before anything was done.

use shed_api::git::{GitNameError, Risk};
use shed_api::name::NameError;
use shed_api::{ShedName, ShedStatus};

use crate::session::life::Denial as SessionDenial;
use crate::shed::life::Denial as ShedDenial;

/// How many things a message names.
const MAX_NAMED: usize = 3;

/// Why a request is rejected. The text is the sentence that the caller reads.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Rejection {
    /// The request is malformed or contradicts itself.
    #[error("{0}")]
    Invalid(String),
    /// A name does not match its pattern.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A value exceeds its limit.
    #[error("{0}")]
    TooLarge(String),
    /// The caller's credential does not allow it.
    #[error("{0}")]
    Forbidden(String),
    /// Nothing has this name or id.
    #[error("no {0}")]
    NotFound(String),
    /// The shed's status excludes the request.
    #[error("shed {shed:?} {denial}")]
    Shed {
        /// The shed that was addressed.
        shed: ShedName,
        /// The rule that excludes it. Its text continues "shed NAME …".
        denial: ShedDenial,
    },
    /// The shed must run for this, and is not started for it.
    #[error("shed {shed:?} is {status}")]
    NotRunning {
        /// The shed that was addressed.
        shed: ShedName,
        /// The status it has now; never `running`.
        status: ShedStatus,
    },
    /// The session's status, or the operation in progress, excludes the request.
    #[error("session {session:?} of shed {shed:?} {denial}")]
    Session {
        /// The shed that the session is in.
        shed: ShedName,
        /// The session's name, or its id if it was addressed by that.
        session: String,
        /// The rule that excludes it. Its text continues "session NAME of shed NAME …".
        denial: SessionDenial,
    },
    /// Work that is neither committed elsewhere nor pushed would be lost.
    #[error("session {session:?} of shed {shed:?} has uncommitted or unpushed work: {}", at_risk(.risk))]
    WorkAtRisk {
        /// The shed that the session is in.
        shed: ShedName,
        /// The name of the session whose worktree has the work.
        session: String,
        /// The counts of what would be lost; at least one is not 0.
        risk: Box<Risk>,
    },
    /// A worktree has work that exists nowhere else and that the trash cannot hold.
    #[error("session {session:?} of shed {shed:?} has work that cannot be put in the trash: {}; push it, move it away or remove it", unsaved(.risk))]
    Unsaved {
        /// The shed's name.
        shed: ShedName,
        /// The session's name.
        session: String,
        /// The worktree's directory.
        directory: String,
        /// What would be lost.
        risk: Box<Risk>,
    },
    /// A worktree is locked with `git worktree lock`.
    #[error("worktree {directory:?} of session {session:?} of shed {shed:?} is locked")]
    Locked {
        /// The shed's name.
        shed: ShedName,
        /// The session's name.
        session: String,
        /// The worktree's directory.
        directory: String,
    },
}

impl Rejection {
    /// A malformed request; `text` is the whole sentence.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }
}

/// Lists what would be lost, for example `2 unpushed commits, 1 changed file`. Empty when nothing would be.
pub fn at_risk(risk: &Risk) -> String {
    let counted = |n: u64, one: &str, many: &str| match n {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {many}")),
    };
    let parts = [
        counted(risk.unpushed, "unpushed commit", "unpushed commits"),
        counted(risk.dirty, "changed file", "changed files"),
        counted(risk.untracked, "new file", "new files"),
        counted(risk.n_worktrees, "other worktree inside it", "other worktrees inside it")
            .map(|text| format!("{text} ({})", some_of(&risk.worktrees, risk.n_worktrees))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Lists what the trash cannot hold, for example `"sub" (not readable)`.
pub fn unsaved(risk: &Risk) -> String {
    let named = risk.unsaved.iter().map(|it| format!("{:?} ({})", it.path, it.reason));
    some_of(&named.collect::<Vec<_>>(), risk.n_unsaved)
}

/// The first of `n` names, and how many more there are.
fn some_of(names: &[String], n: u64) -> String {
    let named: Vec<&str> = names.iter().take(MAX_NAMED).map(String::as_str).collect();
    let left = n.saturating_sub(named.len() as u64);
    let more = if left > 0 { format!(" and {left} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

impl From<GitNameError> for Rejection {
    fn from(error: GitNameError) -> Self {
        Self::Invalid(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn risk(unpushed: u64, dirty: u64, untracked: u64) -> Risk {
        let (files, commits) = (Vec::new(), Vec::new());
        Risk { dirty, untracked, files, unpushed, commits, ..Risk::default() }
    }

    #[test]
    fn what_would_be_lost_is_listed_with_its_numbers() {
        assert_eq!(at_risk(&risk(0, 0, 0)), "");
        assert_eq!(at_risk(&risk(1, 1, 1)), "1 unpushed commit, 1 changed file, 1 new file");
        assert_eq!(at_risk(&risk(2, 0, 3)), "2 unpushed commits, 3 new files");
        assert_eq!(at_risk(&risk(0, 2, 0)), "2 changed files");
        let worktrees: Vec<String> = (0..5).map(|n| format!("/w/{n}")).collect();
        let inside = Risk { n_worktrees: 5, worktrees, ..risk(0, 1, 0) };
        let text = "1 changed file, 5 other worktrees inside it (/w/0, /w/1, /w/2 and 2 more)";
        assert_eq!(at_risk(&inside), text);
    }

    #[test]
    fn each_rejection_names_what_it_is_about() {
        let shed: ShedName = "web".parse().unwrap();
        let session = "fix".to_owned();
        for (rejection, text) in [
            (Rejection::invalid("no"), "no"),
            (Rejection::NotFound("key \"x\"".to_owned()), "no key \"x\""),
            (
                Rejection::Shed { shed: shed.clone(), denial: ShedDenial::Paused },
                "shed \"web\" is paused",
            ),
            (
                Rejection::NotRunning { shed: shed.clone(), status: ShedStatus::Stopped },
                "shed \"web\" is stopped",
            ),
            (
                Rejection::Session {
                    shed: shed.clone(),
                    session: session.clone(),
                    denial: SessionDenial::Frozen,
                },
                "session \"fix\" of shed \"web\" is frozen",
            ),
            (
                Rejection::WorkAtRisk { shed, session, risk: Box::new(risk(1, 0, 0)) },
                "session \"fix\" of shed \"web\" has uncommitted or unpushed work: 1 unpushed commit",
            ),
        ] {
            assert_eq!(rejection.to_string(), text);
        }
    }
}
