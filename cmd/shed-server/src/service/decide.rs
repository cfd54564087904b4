//! What to do, given what is seen. No side effects.

use std::time::Duration;

use shed_api::problem::exit;

use super::process::Process;

/// How long a server may take to stop. Its drain is cut short after ten seconds.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What exists of the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) unit: Unit,
    /// The process that the pid file names, if it is the one for which the file was written.
    pub(crate) supervisor: Option<Process>,
    /// The server that the ready file names, if it serves this state directory. It may have outlived its supervisor.
    pub(crate) server: Option<Server>,
}

/// A server process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) process: Process,
    /// Whether its program is not the file of this program: another one, or one that a build has replaced since.
    pub(crate) is_other_build: bool,
}

/// State of the systemd unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Unit {
    /// The service does not use systemd here, or there is no unit file yet.
    #[default]
    Absent,
    Inactive,
    Active,
    /// systemd gave up on it.
    Failed,
}

/// What `start` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing: a server answers.
    Keep,
    Launch,
    /// Stop what exists, then launch.
    Replace(Reason),
}

/// Why a server is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    OtherBuild,
    /// Something of the service exists, and no server answers.
    NoAnswer,
}

/// What `start` does. `answers`: whether a server answers on the socket, ours or one that people started themselves.
pub(crate) fn start(seen: &Seen, answers: bool) -> Start {
    match (answers, seen.server, stop(seen)) {
        (true, Some(Server { is_other_build: true, .. }), _) => Start::Replace(Reason::OtherBuild),
        (true, _, _) => Start::Keep,
        (false, _, Stop::Nothing) => Start::Launch,
        (false, _, Stop::Unit | Stop::Process(_)) => Start::Replace(Reason::NoAnswer),
    }
}

/// What `stop` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nothing of the service runs.
    Nothing,
    /// systemd stops the server.
    Unit,
    /// SIGTERM: the supervisor stops its server; a server without a supervisor stops itself.
    Process(Process),
}

/// What `stop` does.
pub(crate) fn stop(seen: &Seen) -> Stop {
    if seen.unit == Unit::Active {
        return Stop::Unit;
    }
    let process = seen.supervisor.or(seen.server.map(|server| server.process));
    process.map_or(Stop::Nothing, Stop::Process)
}

/// How a server process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Status(u8),
    Signal(i32),
    /// It was not started: its program cannot be run.
    NotStarted,
}

/// What the supervisor does after its server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterExit {
    /// End with the same status.
    End(u8),
    /// Start the server again after a pause.
    Restart(Duration),
}

/// The pause before the first restart.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause; until then each one is twice the last.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After a server that ran for longer, the pause is the first one again.
const STEADY: Duration = Duration::from_secs(60);

/// What the supervisor does after its server ended. `last_pause` is the pause before the last restart, if there was one.
pub(crate) fn after_exit(exit: Exit, ran: Duration, last_pause: Option<Duration>) -> AfterExit {
    // 0: it was asked to stop. With a wrong configuration, or beside another server, it would fail again.
    if let Exit::Status(status @ (exit::OK | exit::USAGE | exit::CONFLICT)) = exit {
        return AfterExit::End(status);
    }
    AfterExit::Restart(match last_pause {
        Some(pause) if ran <= STEADY => (pause * 2).min(LONGEST_PAUSE),
        Some(_) | None => FIRST_PAUSE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Process {
        format!("{pid} 100").parse().unwrap()
    }

    fn server(is_other_build: bool) -> Server {
        Server { process: process(2), is_other_build }
    }

    #[test]
    fn a_server_that_answers_is_kept_unless_it_is_another_build() {
        let supervised =
            Seen { supervisor: Some(process(1)), server: Some(server(false)), ..Seen::default() };
        assert_eq!(start(&supervised, true), Start::Keep);
        let orphan = Seen { supervisor: None, ..supervised };
        assert_eq!(start(&orphan, true), Start::Keep);
        let older = Seen { server: Some(server(true)), ..supervised };
        assert_eq!(start(&older, true), Start::Replace(Reason::OtherBuild));
        // Nobody knows its build; it is not ours to replace.
        assert_eq!(start(&Seen::default(), true), Start::Keep);
    }

    #[test]
    fn a_server_is_launched_after_leftovers_are_stopped() {
        assert_eq!(start(&Seen::default(), false), Start::Launch);
        let inactive = Seen { unit: Unit::Inactive, ..Seen::default() };
        assert_eq!(start(&inactive, false), Start::Launch);
        let failed = Seen { unit: Unit::Failed, ..Seen::default() };
        assert_eq!(start(&failed, false), Start::Launch);
        for seen in [
            Seen { supervisor: Some(process(1)), ..Seen::default() },
            Seen { server: Some(server(false)), ..Seen::default() },
            Seen { server: Some(server(true)), ..Seen::default() },
            Seen { unit: Unit::Active, ..Seen::default() },
        ] {
            assert_eq!(start(&seen, false), Start::Replace(Reason::NoAnswer), "{seen:?}");
        }
    }

    #[test]
    fn the_unit_is_stopped_before_the_supervisor_and_that_before_the_server() {
        let mut seen =
            Seen { unit: Unit::Active, supervisor: Some(process(1)), server: Some(server(false)) };
        assert_eq!(stop(&seen), Stop::Unit);
        seen.unit = Unit::Inactive;
        assert_eq!(stop(&seen), Stop::Process(process(1)));
        seen.supervisor = None;
        assert_eq!(stop(&seen), Stop::Process(process(2)));
        seen.server = None;
        assert_eq!(stop(&seen), Stop::Nothing);
    }

    #[test]
    fn a_server_that_died_is_started_again_and_one_that_cannot_run_is_not() {
        let quick = Duration::from_secs(1);
        for status in [0, 2, 4] {
            assert_eq!(after_exit(Exit::Status(status), quick, None), AfterExit::End(status));
        }
        for exit in [Exit::Status(1), Exit::Status(5), Exit::Signal(9), Exit::NotStarted] {
            assert_eq!(after_exit(exit, quick, None), AfterExit::Restart(FIRST_PAUSE), "{exit:?}");
        }
    }

    #[test]
    fn the_pause_grows_while_the_server_keeps_dying() {
        let mut last = None;
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let after = after_exit(Exit::Signal(9), STEADY, last);
            let AfterExit::Restart(pause) = after else { panic!("{after:?}") };
            pauses.push(pause.as_secs());
            last = Some(pause);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        let long = STEADY + Duration::from_secs(1);
        assert_eq!(after_exit(Exit::Signal(9), long, last), AfterExit::Restart(FIRST_PAUSE));
    }
}
