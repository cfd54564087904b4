//! From a request to the rows of a session and its first worker.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use shed_api::SessionName;
use shed_api::git::{Branch, Rev};
use shed_api::session::{NewSession, SessionStatus, SessionType};
use shed_api::worker::{NewWorker, WorkerKind, WorkerStatus};

use super::names::{AutomaticName, free_name, slug, slugify};
use super::ports::free_block;
use super::request::{check, check_worker};
use super::{SessionRow, SessionSpec};
use crate::Rejection;
use crate::conversation::{Abilities, Conversation};
use crate::worker::{WorkerRow, WorkerSpec};

/// The number of a worker's first start.
pub const FIRST_EPOCH: u64 = 1;
/// The most workers of a session.
pub const MAX_WORKERS: usize = 64;

/// What the server's configuration says about new sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// What the branches of worktrees begin with, for example `shed/`.
    pub branch_prefix: String,
    /// The agents that may be asked for, by name.
    pub agents: BTreeMap<String, Abilities>,
}

/// Fresh ids for what is planned. Random ids are not made here, so that a plan depends on its arguments alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ids {
    /// Of the session.
    pub session: String,
    /// Of the worker.
    pub worker: String,
    /// Of an agent's conversation, a UUID.
    pub conversation: String,
}

/// What a plan depends on beside the request.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The name of the shed that the session is created in.
    pub shed: &'a str,
    /// Names of sessions that are taken.
    pub names: BTreeSet<String>,
    /// Port blocks that are taken.
    pub port_blocks: BTreeSet<u16>,
    /// The directory in the shed under which worktrees are made.
    pub worktrees: &'a str,
    /// The directory in which sessions begin by default, and the repository that worktrees are made from.
    pub workspace: &'a str,
    /// When the request arrived, by the server's clock.
    pub now: DateTime<Utc>,
    /// Fresh ids.
    pub ids: Ids,
    /// The session whose worktree is shared.
    pub shared: Option<&'a SessionRow>,
}

/// A planned session: its row and its first worker's.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The session, waiting.
    pub session: SessionRow,
    /// Its first worker, not started.
    pub worker: WorkerRow,
}

/// Checks a request and decides everything about the session that can be decided without asking the shed.
pub fn plan(rules: &Rules, inputs: &Inputs<'_>, request: NewSession) -> Result<Plan, Rejection> {
    check(&request)?;
    let kind = request.kind.unwrap_or(SessionType::Quick);
    let (name, stem) = if let Some(name) = &request.name {
        (name.parse::<SessionName>()?.to_string(), None)
    } else {
        let stem = slug(&request);
        (free_name(&inputs.names, &stem), Some(stem))
    };
    let Ids { session: id, .. } = inputs.ids.clone();
    let worker = NewWorker {
        name: None,
        agent: request.agent,
        model: request.model,
        prompt: request.prompt,
        command: request.command,
        directory: None,
        env: std::collections::BTreeMap::new(),
        keep: request.keep.or((kind == SessionType::Worktree).then_some(true)),
        restart: request.restart,
    };
    let worker = plan_worker(rules, &BTreeSet::new(), inputs.ids.clone(), &id, inputs.now, worker)?;
    let is_worktree = kind == SessionType::Worktree;
    let own_worktree = is_worktree && inputs.shared.is_none();
    let repo = is_worktree
        .then(|| request.directory.clone().unwrap_or_else(|| inputs.workspace.to_owned()));
    let directory = match (inputs.shared, is_worktree) {
        (Some(shared), _) => shared.spec.directory.clone(),
        (None, true) => format!("{}/{name}", inputs.worktrees),
        (None, false) => request.directory.clone().unwrap_or_else(|| inputs.workspace.to_owned()),
    };
    let branch = own_worktree.then(|| {
        request.branch.clone().unwrap_or_else(|| format!("{}{name}", rules.branch_prefix))
    });
    let of_name = own_worktree && request.branch.is_none();
    let branch_prefix = of_name.then(|| rules.branch_prefix.clone());
    if let Some(branch) = &branch {
        Branch::try_from(branch.clone())?;
    }
    if let Some(base) = &request.base {
        Rev::try_from(base.clone())?;
    }
    let set_up = request.setup.is_empty();
    let spec = SessionSpec {
        kind,
        title: request.title.filter(|title| !title.is_empty()),
        tags: request.tags,
        automatic: stem.map(|stem| AutomaticName { stem, branch_prefix }),
        directory,
        repo: inputs.shared.map_or(repo, |shared| shared.spec.repo.clone()),
        git_dir: inputs.shared.and_then(|shared| shared.spec.git_dir.clone()),
        branch: inputs.shared.map_or(branch, |shared| shared.spec.branch.clone()),
        made_branch: own_worktree && !request.existing_branch,
        base: inputs.shared.map_or(request.base, |shared| shared.spec.base.clone()),
        base_commit: inputs.shared.and_then(|shared| shared.spec.base_commit.clone()),
        existing_branch: request.existing_branch,
        fetch: request.fetch,
        from_checkpoint: None,
        placed: !own_worktree,
        set_up,
        shares: inputs.shared.map(|shared| shared.id.clone()),
        template: request.template,
        limits: request.limits.unwrap_or_default(),
        auto_respond: request.auto_respond,
        confine: request.confine,
        port_block: free_block(&inputs.port_blocks),
        env: request.env,
        setup: request.setup,
        teardown: request.teardown,
        closes: !worker.spec.keep && kind == SessionType::Quick,
        running_since: None,
        running_since_uptime: None,
        notes: Vec::new(),
        restarting: None,
        deletion: None,
    };
    let session = SessionRow {
        id,
        shed: inputs.shed.to_owned(),
        name,
        status: SessionStatus::Waiting,
        reason: None,
        created_at: inputs.now,
        status_since: inputs.now,
        spec,
    };
    Ok(Plan { session, worker })
}

/// Plans a worker of a session that has workers of these `names`.
pub fn plan_worker(
    rules: &Rules,
    names: &BTreeSet<String>,
    ids: Ids,
    session: &str,
    now: DateTime<Utc>,
    request: NewWorker,
) -> Result<WorkerRow, Rejection> {
    check_worker(&request)?;
    if names.len() >= MAX_WORKERS {
        return Err(Rejection::TooLarge(format!("a session has at most {MAX_WORKERS} workers")));
    }
    let kind = if request.agent.is_some() { WorkerKind::Agent } else { WorkerKind::Terminal };
    let wanted = match (&request.name, &request.agent, request.command.first()) {
        (Some(name), _, _) => name.parse::<SessionName>()?.to_string(),
        (None, Some(agent), _) => free_name(names, agent),
        (None, None, Some(word)) => {
            let base = word.rsplit('/').next().unwrap_or(word);
            free_name(names, &slugify(base).unwrap_or_else(|| "command".to_owned()))
        }
        (None, None, None) => free_name(names, "shell"),
    };
    let record = match &request.agent {
        None => None,
        Some(agent) => {
            let Some(can) = rules.agents.get(agent) else {
                let known: Vec<&str> = rules.agents.keys().map(String::as_str).collect();
                let text = format!("invalid agent {agent:?}; expected one of {}", known.join(", "));
                return Err(Rejection::Invalid(text));
            };
            Some(Conversation::planned(ids.conversation, can.takes_id, FIRST_EPOCH))
        }
    };
    Ok(WorkerRow {
        id: ids.worker,
        session: session.to_owned(),
        name: wanted,
        status: WorkerStatus::Starting,
        epoch: 0,
        exit: None,
        reason: None,
        created_at: now,
        started_at: None,
        ended_at: None,
        spec: WorkerSpec {
            kind,
            conversation: None,
            record,
            agent: request.agent,
            model: request.model,
            prompt: request.prompt,
            keep: request.keep.unwrap_or(kind == WorkerKind::Agent),
            command: request.command,
            directory: request.directory,
            env: request.env,
            restart: request.restart,
            hook: false,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(names: &[&str]) -> Inputs<'static> {
        Inputs {
            shed: "a",
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            port_blocks: BTreeSet::from([0, 2]),
            worktrees: "/worktrees",
            workspace: "/workspace",
            now: DateTime::from_timestamp(5, 0).unwrap(),
            ids: Ids {
                session: "s1".to_owned(),
                worker: "w1".to_owned(),
                conversation: "c1".to_owned(),
            },
            shared: None,
        }
    }

    fn rules() -> Rules {
        let claude = Abilities { takes_id: true, resumes_by_id: true };
        let agents = BTreeMap::from([("claude".to_owned(), claude)]);
        Rules { branch_prefix: "shed/".to_owned(), agents }
    }

    fn planned(names: &[&str], request: NewSession) -> Result<Plan, Rejection> {
        plan(&rules(), &inputs(names), request)
    }

    #[test]
    fn an_empty_request_is_a_shell_that_closes() {
        let Plan { session, worker } =
            planned(&[], NewSession { name: Some("x".to_owned()), ..NewSession::default() })
                .unwrap();
        assert_eq!((session.name.as_str(), session.spec.directory.as_str()), ("x", "/workspace"));
        assert!(session.spec.closes && session.spec.placed && session.spec.set_up);
        assert_eq!(session.spec.port_block, Some(1));
        assert_eq!((worker.name.as_str(), worker.spec.keep), ("shell", false));
    }

    #[test]
    fn a_worktree_has_its_own_directory_and_branch() {
        let request = NewSession {
            kind: Some(SessionType::Worktree),
            title: Some("Fix: the 日本 login! #(id)".to_owned()),
            agent: Some("claude".to_owned()),
            ..NewSession::default()
        };
        let Plan { session, worker } = planned(&["fix-the-login-id"], request).unwrap();
        assert_eq!(session.name, "fix-the-login-id-2");
        assert_eq!(session.spec.title.as_deref(), Some("Fix: the 日本 login! #(id)"));
        assert_eq!(session.spec.directory, "/worktrees/fix-the-login-id-2");
        assert_eq!(session.spec.branch.as_deref(), Some("shed/fix-the-login-id-2"));
        assert!(session.spec.made_branch && !session.spec.placed && !session.spec.closes);
        assert!(worker.spec.keep && worker.spec.record.is_some());
        let taken = BTreeSet::from(["fix-the-login-id", "fix-the-login-id-2"].map(str::to_owned));
        let next = session.with_next_name(&taken).unwrap();
        assert_eq!(next.name, "fix-the-login-id-3");
        assert_eq!(next.spec.directory, "/worktrees/fix-the-login-id-3");
        assert_eq!(next.spec.branch.as_deref(), Some("shed/fix-the-login-id-3"));
        let japanese = NewSession { title: Some("日本語".to_owned()), ..NewSession::default() };
        assert_eq!(planned(&[], japanese).unwrap().session.name, "session");
        let untitled = NewSession { title: Some(String::new()), ..NewSession::default() };
        assert_eq!(planned(&[], untitled).unwrap().session.spec.title, None);
    }

    #[test]
    fn malformed_requests_are_rejected() {
        let some = |text: &str| Some(text.to_owned());
        let bad = [
            NewSession { name: some("#(id)"), ..NewSession::default() },
            NewSession { branch: some("x"), ..NewSession::default() },
            NewSession { prompt: some("x"), ..NewSession::default() },
            NewSession { agent: some("nobody"), ..NewSession::default() },
            NewSession { directory: some("here"), ..NewSession::default() },
            NewSession { title: some("a\x1b"), ..NewSession::default() },
            NewSession { tags: vec!["a,b".to_owned()], ..NewSession::default() },
            NewSession { command: vec![String::new()], ..NewSession::default() },
            NewSession {
                agent: some("claude"),
                command: vec!["x".to_owned()],
                ..NewSession::default()
            },
        ];
        for request in bad {
            assert!(planned(&[], request.clone()).is_err(), "{request:?}");
        }
        for branch in [
            "", "-x", "a..b", "../x", "a b", "x.lock", "a//b", "/a", "a/", "@", "a@{1}", "é\u{7}",
            "HEAD",
        ] {
            let kind = Some(SessionType::Worktree);
            let request = NewSession { kind, branch: some(branch), ..NewSession::default() };
            assert!(planned(&[], request).is_err(), "{branch:?}");
        }
        for branch in ["a", "shed/x", "#(id)", "fix-1.2", "日本"] {
            let kind = Some(SessionType::Worktree);
            let request = NewSession { kind, branch: some(branch), ..NewSession::default() };
            assert!(planned(&[], request).is_ok(), "{branch:?}");
        }
    }

    #[test]
    fn a_worker_is_named_after_what_it_runs() {
        let names = BTreeSet::from(["ls".to_owned(), "claude".to_owned()]);
        let worker = |request| {
            plan_worker(&rules(), &names, inputs(&[]).ids, "s1", DateTime::UNIX_EPOCH, request)
        };
        let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let command = |all: &[&str]| NewWorker { command: words(all), ..NewWorker::default() };
        assert_eq!(worker(command(&["/bin/ls", "-l"])).unwrap().name, "ls-2");
        assert_eq!(worker(command(&["日本"])).unwrap().name, "command");
        assert_eq!(worker(NewWorker::default()).unwrap().name, "shell");
        let agent = NewWorker { agent: Some("claude".to_owned()), ..NewWorker::default() };
        let row = worker(agent).unwrap();
        assert_eq!(
            (row.name.as_str(), row.spec.kind, row.spec.keep),
            ("claude-2", WorkerKind::Agent, true)
        );
        let named =
            NewWorker { name: Some("mine".to_owned()), keep: Some(true), ..NewWorker::default() };
        let row = worker(named).unwrap();
        assert_eq!(
            (row.name.as_str(), row.spec.kind, row.spec.keep),
            ("mine", WorkerKind::Terminal, true)
        );
        assert_eq!((row.session.as_str(), row.id.as_str(), row.epoch), ("s1", "w1", 0));
        let bad = NewWorker { name: Some("#(id)".to_owned()), ..NewWorker::default() };
        assert!(worker(bad).is_err());
    }

    #[test]
    fn a_session_has_a_limited_number_of_workers() {
        let names = |n: usize| (0..n).map(|n| n.to_string()).collect::<BTreeSet<_>>();
        let worker = |n| {
            let ids = Ids::default();
            plan_worker(&rules(), &names(n), ids, "", DateTime::UNIX_EPOCH, NewWorker::default())
        };
        assert!(worker(MAX_WORKERS - 1).is_ok());
        assert!(matches!(worker(MAX_WORKERS), Err(Rejection::TooLarge(_))));
    }

    #[test]
    fn who_shares_a_worktree_works_in_the_others() {
        let tree = NewSession {
            kind: Some(SessionType::Worktree),
            name: Some("fix".to_owned()),
            ..NewSession::default()
        };
        let owner = planned(&[], tree.clone()).unwrap().session;
        let shared = Inputs { shared: Some(&owner), ..inputs(&[]) };
        let request =
            NewSession { name: Some("look".to_owned()), share: Some("fix".to_owned()), ..tree };
        let session = plan(&rules(), &shared, request).unwrap().session;
        assert_eq!(session.spec.directory, owner.spec.directory);
        assert_eq!(
            (&session.spec.branch, &session.spec.repo),
            (&owner.spec.branch, &owner.spec.repo)
        );
        assert_eq!(session.spec.shares, Some(owner.id));
        assert!(session.spec.placed && !session.spec.made_branch);
    }

    #[test]
    fn a_worktree_may_use_an_existing_branch_of_another_repository() {
        let some = |text: &str| Some(text.to_owned());
        let tree = NewSession {
            kind: Some(SessionType::Worktree),
            name: some("fix"),
            branch: some("old"),
            directory: some("/workspace/other"),
            ..NewSession::default()
        };
        let existing = NewSession { existing_branch: true, ..tree.clone() };
        let spec = planned(&[], existing).unwrap().session.spec;
        assert_eq!((spec.branch, spec.repo), (some("old"), some("/workspace/other")));
        let unnamed = NewSession { name: None, ..tree.clone() };
        let session = planned(&[], unnamed).unwrap().session;
        let next = session.with_next_name(&BTreeSet::from(["old".to_owned()])).unwrap();
        assert_eq!((next.name.as_str(), next.spec.branch), ("old-2", some("old")));
        let named = planned(&[], tree.clone()).unwrap().session;
        assert_eq!(named.with_next_name(&BTreeSet::new()), None);
        assert!(spec.existing_branch && !spec.made_branch);
        assert_eq!(spec.directory, "/worktrees/fix");
        for base in ["-x", "a b"] {
            let request = NewSession { base: some(base), ..tree.clone() };
            assert!(planned(&[], request).is_err(), "{base:?}");
        }
    }

    #[test]
    fn a_quick_session_closes_unless_something_of_it_is_kept() {
        let quick = NewSession {
            setup: vec!["make".to_owned()],
            directory: Some("/srv".to_owned()),
            ..NewSession::default()
        };
        let spec = planned(&[], quick.clone()).unwrap().session.spec;
        assert!(spec.closes && !spec.set_up);
        assert_eq!((spec.directory.as_str(), spec.repo), ("/srv", None));
        let kept = NewSession { keep: Some(true), ..quick.clone() };
        assert!(!planned(&[], kept).unwrap().session.spec.closes);
        let tree = NewSession {
            kind: Some(SessionType::Worktree),
            keep: Some(false),
            directory: None,
            ..quick
        };
        let planned = planned(&[], tree).unwrap();
        assert!(!planned.session.spec.closes && !planned.worker.spec.keep);
    }
}
