//! A worker: a command that shed runs in a window of a session.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use shed_api::stream::Exit;
use shed_api::worker::{WorkerKind, WorkerStatus};

use crate::conversation::Conversation;

/// Why a worker ended that ended because its shed stopped.
pub const STOPPED_WITH_SHED: &str = "stopped with the shed";
/// The same in rows of earlier builds of 0.1. They are read, not rewritten.
const STOPPED_WITH_SHED_BEFORE: &str = "it was ended with the shed";

/// What a worker was created with. New fields have defaults: rows of older versions are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// `agent` or `terminal`.
    pub kind: WorkerKind,
    /// The name of the agent's definition; absent for a terminal.
    #[serde(default)]
    pub agent: Option<String>,
    /// The model in the agent's own spelling; the agent's default when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// What the agent is asked first; absent when it starts without a prompt, and for a terminal.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The id of the agent's conversation in rows of older versions, which have no record. They are read, not rewritten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<String>,
    /// The record of the agent's conversation; absent for a terminal, and in rows of older versions.
    #[serde(default)]
    pub record: Option<Conversation>,
    /// The command as argv; empty for a login shell.
    #[serde(default)]
    pub command: Vec<String>,
    /// The working directory in the shed; the session's directory when absent.
    #[serde(default)]
    pub directory: Option<String>,
    /// Variables added to its environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether its window stays open when its command has ended.
    #[serde(default)]
    pub keep: bool,
    /// Whether its command is started again when the shed is.
    #[serde(default)]
    pub restart: bool,
    /// Whether it is the session's setup or teardown.
    #[serde(default)]
    pub hook: bool,
}

/// A worker as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerRow {
    /// Random; never changes.
    pub id: String,
    /// The id of the session it belongs to.
    pub session: String,
    /// Unique in its session.
    pub name: String,
    /// Its status; `starting` also before its first start.
    pub status: WorkerStatus,
    /// How often its command was started; 0 before the first start.
    pub epoch: u64,
    /// How its command ended; absent while it runs, and when the exit status is unknown.
    pub exit: Option<Exit>,
    /// Why there is no exit status; absent while it runs.
    pub reason: Option<String>,
    /// When the worker was created.
    pub created_at: DateTime<Utc>,
    /// When its command was last started.
    pub started_at: Option<DateTime<Utc>>,
    /// When its command last ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// What it was created with.
    pub spec: WorkerSpec,
}

/// What a spool or a runner reports about a worker's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerReport {
    /// The id of the worker ([`WorkerRow::id`]).
    pub worker: String,
    /// The start it is about; a report of another start than [`WorkerRow::epoch`] is ignored.
    pub epoch: u64,
    /// When it happened, in milliseconds since 1970.
    pub at_ms: u64,
    /// What happened.
    pub change: WorkerChange,
}

/// What happened to a worker's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerChange {
    /// It runs.
    Started,
    /// It ended.
    Exited(Exit),
    /// It could not be started, for this reason.
    Refused(String),
    /// Its runner is gone, and its exit status is unknown.
    Lost,
}

/// What a worker's window is opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// To start the command.
    Command {
        /// Whether an agent goes on with its conversation, as far as there is one.
        continues: bool,
    },
    /// To show its past output and this line.
    Notice(String),
}

impl WorkerRow {
    /// The record of its agent's conversation. `takes_id` says whether the agent begins conversations with a given id.
    pub fn conversation(&self, takes_id: bool) -> Conversation {
        let older =
            || Conversation::of_older_row(self.spec.conversation.as_deref(), takes_id, self.epoch);
        self.spec.record.clone().unwrap_or_else(older)
    }

    /// Whether its command was started and has not ended.
    pub fn is_alive(&self) -> bool {
        self.epoch > 0 && self.status != WorkerStatus::Exited
    }

    /// Whether its command was started and is not reported to run yet.
    pub fn is_starting(&self) -> bool {
        self.epoch > 0 && self.status == WorkerStatus::Starting
    }

    /// How its command ended, in words. `None` while it runs.
    pub fn end_note(&self) -> Option<String> {
        match &self.exit {
            Some(exit) => Some(exit_note(exit)),
            None => self.reason.clone(),
        }
    }

    /// Whether it ended because its shed stopped.
    pub fn stopped_with_shed(&self) -> bool {
        let reason = self.reason.as_deref();
        reason == Some(STOPPED_WITH_SHED) || reason == Some(STOPPED_WITH_SHED_BEFORE)
    }

    /// The row after a report about its current start; `None` when nothing changes.
    pub fn after(&self, report: &WorkerReport) -> Option<Self> {
        if report.epoch != self.epoch {
            return None;
        }
        let at = i64::try_from(report.at_ms).ok().and_then(DateTime::from_timestamp_millis);
        let ended = Self { status: WorkerStatus::Exited, ended_at: at, ..self.clone() };
        let after = match &report.change {
            WorkerChange::Started if self.status == WorkerStatus::Starting => Self {
                status: WorkerStatus::Running,
                started_at: at.or(self.started_at),
                ..self.clone()
            },
            WorkerChange::Started => return None,
            WorkerChange::Exited(exit) => Self { exit: Some(exit.clone()), ..ended },
            // The first report of an end counts.
            WorkerChange::Refused(_) | WorkerChange::Lost
                if self.status == WorkerStatus::Exited =>
            {
                return None;
            }
            WorkerChange::Refused(why) => Self { reason: Some(why.clone()), ..ended },
            WorkerChange::Lost => Self { reason: Some(STOPPED_WITH_SHED.to_owned()), ..ended },
        };
        (after != *self).then_some(after)
    }

    /// How it comes back when its shed has started again; `None` if its window had closed. `resumes` says whether its agent
    /// can resume a conversation by its id.
    pub fn restored(&self, shed: &str, session: &str, resumes: bool) -> Option<Opening> {
        let spec = &self.spec;
        let ran = self.status != WorkerStatus::Exited || self.stopped_with_shed();
        if !ran {
            let how = self.end_note().unwrap_or_default();
            return spec.keep.then(|| Opening::Notice(format!("the command had ended: {how}")));
        }
        let is_shell = spec.command.is_empty() && spec.agent.is_none();
        if is_shell || spec.restart || resumes {
            return Some(Opening::Command { continues: resumes });
        }
        Some(Opening::Notice(format!(
            "the command stopped with the shed; to start it again: shed workers restart {shed} {session} {}",
            self.name
        )))
    }
}

/// How a command ended, in words.
pub fn exit_note(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit {code}"),
        Exit::Signal(name) => format!("signal {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(ms).unwrap()
    }

    fn worker(status: WorkerStatus) -> WorkerRow {
        WorkerRow {
            id: "w1".to_owned(),
            session: "s1".to_owned(),
            name: "build".to_owned(),
            status,
            epoch: 2,
            exit: None,
            reason: None,
            created_at: at(0),
            started_at: Some(at(1)),
            ended_at: None,
            spec: WorkerSpec {
                kind: WorkerKind::Terminal,
                agent: None,
                model: None,
                prompt: None,
                conversation: None,
                record: None,
                command: vec!["make".to_owned()],
                directory: None,
                env: BTreeMap::new(),
                keep: false,
                restart: false,
                hook: false,
            },
        }
    }

    fn report(change: WorkerChange) -> WorkerReport {
        WorkerReport { worker: "w1".to_owned(), epoch: 2, at_ms: 50, change }
    }

    #[test]
    fn a_worker_lives_from_its_first_start_to_its_end() {
        use WorkerStatus::{Exited, Running, Starting};
        let never = |status| WorkerRow { epoch: 0, ..worker(status) };
        let cases = [
            (worker(Starting), true, true),
            (worker(Running), true, false),
            (worker(Exited), false, false),
            (never(Starting), false, false),
        ];
        for (row, alive, starting) in cases {
            assert_eq!((row.is_alive(), row.is_starting()), (alive, starting), "{row:?}");
        }
    }

    #[test]
    fn a_report_of_a_start_counts_once() {
        let starting = worker(WorkerStatus::Starting);
        let running = starting.after(&report(WorkerChange::Started)).unwrap();
        assert_eq!((running.status, running.started_at), (WorkerStatus::Running, Some(at(50))));
        assert_eq!(running.after(&report(WorkerChange::Started)), None);
        let when = WorkerReport { at_ms: u64::MAX, ..report(WorkerChange::Started) };
        assert_eq!(starting.after(&when).unwrap().started_at, Some(at(1)), "no such time");
        for epoch in [1, 3] {
            let other = WorkerReport { epoch, ..report(WorkerChange::Started) };
            assert_eq!(starting.after(&other), None, "it is about another start");
        }
    }

    #[test]
    fn an_exit_status_wins_over_other_ends() {
        let running = worker(WorkerStatus::Running);
        let lost = running.after(&report(WorkerChange::Lost)).unwrap();
        assert_eq!((lost.status, lost.ended_at), (WorkerStatus::Exited, Some(at(50))));
        assert_eq!(lost.reason.as_deref(), Some("stopped with the shed"));
        let refused = running.after(&report(WorkerChange::Refused("no make".to_owned()))).unwrap();
        assert_eq!(
            (refused.status, refused.end_note()),
            (WorkerStatus::Exited, Some("no make".to_owned()))
        );
        for late in
            [WorkerChange::Lost, WorkerChange::Refused(String::new()), WorkerChange::Started]
        {
            assert_eq!(refused.after(&report(late)), None);
        }
        let exited = report(WorkerChange::Exited(Exit::Code(3)));
        let known = lost.after(&exited).unwrap();
        assert_eq!(
            (known.exit.clone(), known.end_note()),
            (Some(Exit::Code(3)), Some("exit 3".to_owned()))
        );
        assert_eq!(known.after(&exited), None, "it was reported before");
        assert_eq!(exit_note(&Exit::Signal("KILL".to_owned())), "signal KILL");
        assert_eq!(running.end_note(), None);
    }

    #[test]
    fn rows_of_older_servers_say_in_other_words_that_the_shed_stopped() {
        for (reason, expected) in [
            (Some("stopped with the shed"), true),
            (Some("it was ended with the shed"), true),
            (Some("no make"), false),
            (None, false),
        ] {
            let row =
                WorkerRow { reason: reason.map(str::to_owned), ..worker(WorkerStatus::Exited) };
            assert_eq!(row.stopped_with_shed(), expected, "{reason:?}");
        }
    }

    #[test]
    fn how_a_worker_comes_back_with_its_shed() {
        let row = |change: fn(&mut WorkerRow)| {
            let mut row = worker(WorkerStatus::Exited);
            change(&mut row);
            row
        };
        let stopped: fn(&mut WorkerRow) = |row| row.reason = Some(STOPPED_WITH_SHED.to_owned());
        let command = |continues| Some(Opening::Command { continues });
        let back = |row: &WorkerRow, resumes| row.restored("web", "main", resumes);
        // It had ended before: only what keeps its window is shown.
        let failed = row(|row| row.exit = Some(Exit::Code(1)));
        assert_eq!(back(&failed, false), None);
        let kept = row(|row| {
            row.exit = Some(Exit::Code(1));
            row.spec.keep = true;
        });
        let notice = Opening::Notice("the command had ended: exit 1".to_owned());
        assert_eq!(back(&kept, true), Some(notice));
        // It ran until the shed stopped, or its end was not reported yet.
        let again = Some(Opening::Notice(
            "the command stopped with the shed; to start it again: shed workers restart web main build".to_owned(),
        ));
        assert_eq!(back(&row(stopped), false), again);
        assert_eq!(back(&worker(WorkerStatus::Running), false), again);
        assert_eq!(back(&row(stopped), true), command(true));
        let mut restarts = row(stopped);
        restarts.spec.restart = true;
        assert_eq!(back(&restarts, false), command(false));
        let mut agent = row(stopped);
        agent.spec.command = Vec::new();
        assert_eq!(back(&agent, false), command(false), "a login shell");
        agent.spec.agent = Some("claude".to_owned());
        assert!(matches!(back(&agent, false), Some(Opening::Notice(_))));
    }
}
