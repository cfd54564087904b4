//! Commands: plain, with a terminal, in a session's window, detached.

use std::collections::BTreeMap;
use std::time::Duration;

use shed_api::session::NewSession;
use shed_api::stream::{ConsoleOpen, ExecOpen, Exit};
use shed_api::{Code, EventKind};
use shed_core::{Started, Stream};
use shed_testing::{TestApp, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{crash_daemon, open, problem, run, session, sh, shed, until, words};

async fn started(test: &TestApp, open: ExecOpen) -> Stream {
    match test.app.streams().exec(&test.admin, &shed("a"), open).await.unwrap() {
        Started::Running(running) => *running,
        Started::Detached(_) => panic!("it is detached"),
    }
}

async fn read_all(running: &mut Stream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match running.output.read(&mut buffer).await.unwrap() {
            0 => return all,
            n_read => all.extend(&buffer[..n_read]),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_pass_unchanged_and_exit_statuses_are_exact() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let odd = ["printf", "%s|", "a b", "$HOME", "'q'", "*", "", "x\ny", "-n"];
    let result = test
        .app
        .streams()
        .exec_to_end(&test.admin, &shed("a"), run(&odd), Vec::new())
        .await
        .unwrap();
    assert_eq!(result.stdout, "a b|$HOME|'q'|*||x\ny|-n|");
    let result = sh(&test, "a", "echo out; echo err >&2; exit 7").await;
    assert_eq!((result.exit, result.signal), (7, None));
    assert_eq!((result.stdout.as_str(), result.stderr.as_str()), ("out\n", "err\n"));
    let result = sh(&test, "a", "kill -KILL $$").await;
    assert_eq!((result.exit, result.signal), (137, Some("KILL".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_run_reports_why() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let name = shed("a");
    let missing = test
        .app
        .streams()
        .exec_to_end(&test.admin, &name, run(&["no-such-program"]), Vec::new())
        .await;
    let missing = problem(missing);
    assert_eq!(missing.code, Code::ExecFailed);
    assert!(missing.detail.contains("no-such-program"), "{}", missing.detail);
    let mut lost = run(&["true"]);
    lost.directory = Some("/no/such/dir".to_owned());
    let lost = problem(test.app.streams().exec_to_end(&test.admin, &name, lost, Vec::new()).await);
    assert!(lost.detail.contains("/no/such/dir"), "{}", lost.detail);
    let empty =
        problem(test.app.streams().exec_to_end(&test.admin, &name, run(&[]), Vec::new()).await);
    assert_eq!(empty.code, Code::InvalidRequest);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_unchanged_both_ways() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let bytes: Vec<u8> =
        (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let result = test
        .app
        .streams()
        .exec_to_end(&test.admin, &shed("a"), run(&["cat"]), bytes.clone())
        .await
        .unwrap();
    let exact = result.stdout_base64.expect("these bytes are no text");
    let back = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, exact).unwrap();
    assert!(back == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_takes_too_long_is_ended() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let mut slow = run(&["sh", "-c", "trap '' TERM; sleep 1000"]);
    slow.timeout = Some(0.1);
    let late =
        problem(test.app.streams().exec_to_end(&test.admin, &shed("a"), slow, Vec::new()).await);
    assert_eq!(late.code, Code::TimedOut);
}

#[tokio::test(flavor = "multi_thread")]
async fn background_children_do_not_keep_a_command_open() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let result =
        tokio::time::timeout(Duration::from_secs(10), sh(&test, "a", "sleep 1000 & echo done"))
            .await;
    assert_eq!(result.unwrap().stdout, "done\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_commands_filter_prints_after_its_end_is_returned() {
    let test = TestApp::start().await;
    test.shed("a").await;
    // As in a script with `exec > >(tee log)`.
    let line = "(sleep 0.4; echo from-the-filter) & echo now";
    assert_eq!(sh(&test, "a", line).await.stdout, "now\nfrom-the-filter\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_gets_hup_when_its_caller_disconnects() {
    let test = TestApp::start().await;
    test.shed("a").await;
    // Without its own stderr the shell would say "Hangup" to nobody and die of that instead.
    let line =
        "exec 2> log; trap 'echo hup > told; exit' HUP; echo ready; while :; do sleep 0.05; done";
    let mut running = started(&test, open(&["sh", "-c", line])).await;
    until(&mut running, "ready").await;
    drop(running);
    let told = test.engine.workspace("a").join("told");
    eventually("the signal", async || told.exists().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_its_size_from_the_first_byte_and_a_known_term() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let console = ConsoleOpen {
        tty: shed_api::stream::Tty {
            cols: 101,
            rows: 33,
            term: "xterm-nobody-knows".to_owned(),
            ..Default::default()
        },
        root: false,
        env: BTreeMap::new(),
    };
    let mut running = test.app.streams().console(&test.admin, &shed("a"), console).await.unwrap();
    running.input.as_mut().unwrap().write_all(b"stty size; echo T=$TERM; exit 3\r").await.unwrap();
    let seen = until(&mut running, "T=xterm-256color").await;
    assert!(seen.contains("33 101"), "{seen}");
    while running.output.read(&mut [0; 4096]).await.unwrap() > 0 {}
    assert_eq!(running.exit.wait().await, Some(Exit::Code(3)));
}

async fn with_session(name: &str, line: &str) -> TestApp {
    let test = TestApp::start().await;
    test.shed("a").await;
    let request = NewSession {
        name: Some(name.to_owned()),
        directory: Some("/tmp".to_owned()),
        command: words(&["sh", "-c", line]),
        env: BTreeMap::from([("MARK".to_owned(), "of-session".to_owned())]),
        ..NewSession::default()
    };
    test.app.sessions().create(&test.admin, &shed("a"), request).await.unwrap();
    test
}

fn in_session(argv: &[&str]) -> ExecOpen {
    let mut open = open(argv);
    open.exec.session = Some("work".to_owned());
    open
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_a_session_has_its_context_and_an_exact_status() {
    let test = with_session("work", "exec cat").await;
    let line = "pwd; echo $MARK; test -t 0 && test -t 1 && echo tty; exit 42";
    let mut running = started(&test, in_session(&["sh", "-c", line])).await;
    let output = String::from_utf8(read_all(&mut running).await).unwrap();
    assert_eq!(output, "/tmp\r\nof-session\r\ntty\r\n");
    assert_eq!(running.exit.wait().await, Some(Exit::Code(42)));
    let work = || test.app.sessions().get(&test.admin, &shed("a"), &session("work")).unwrap();
    eventually("the window's end", async || (work().window_count == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_window_of_a_session_command_is_visible_and_takes_no_focus() {
    let test = with_session("work", "exec cat").await;
    let mut running =
        started(&test, in_session(&["sh", "-c", "echo look-here; exec sleep 1000"])).await;
    until(&mut running, "look-here").await;
    let windows = eventually("the window", async || {
        let now = test.app.sessions().get(&test.admin, &shed("a"), &session("work")).unwrap();
        (now.windows.len() == 2).then_some(now.windows)
    })
    .await;
    assert_eq!(windows.iter().map(|window| window.active).collect::<Vec<_>>(), [true, false]);
    // A caller that goes away ends it, and the window with it.
    drop(running);
    eventually("the window's end", async || {
        let now = test.app.sessions().get(&test.admin, &shed("a"), &session("work")).unwrap();
        (now.window_count == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_output_of_a_session_command_arrives_whole() {
    let test = with_session("work", "exec cat").await;
    let mut running = started(&test, in_session(&["seq", "1", "200000"])).await;
    let output = String::from_utf8(read_all(&mut running).await).unwrap();
    let lines: Vec<String> = output.split_terminator("\r\n").map(str::to_owned).collect();
    assert!(lines.iter().zip(1..).all(|(line, n)| *line == n.to_string()), "a line is wrong");
    assert_eq!(lines.len(), 200_000);
    assert_eq!(running.exit.wait().await, Some(Exit::Code(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_command_that_dies_by_a_signal_reports_it() {
    let test = with_session("work", "exec cat").await;
    let mut running = started(&test, in_session(&["sh", "-c", "kill -TERM $$"])).await;
    read_all(&mut running).await;
    assert_eq!(running.exit.wait().await, Some(Exit::Signal("TERM".to_owned())));
    let missing = problem(
        test.app.streams().exec(&test.admin, &shed("a"), in_session(&["no-such-program"])).await,
    );
    assert_eq!(missing.code, Code::ExecFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_session_and_piped_input_are_refused() {
    let test = with_session("other", "exec cat").await;
    let missing =
        problem(test.app.streams().exec(&test.admin, &shed("a"), in_session(&["true"])).await);
    assert_eq!(missing.code, Code::SessionNotFound);
    let piped = ExecOpen { stdin: true, ..in_session(&["true"]) };
    assert_eq!(
        problem(test.app.streams().exec(&test.admin, &shed("a"), piped).await).code,
        Code::InvalidRequest
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_command_reports_its_end_as_an_event() {
    let test = with_session("work", "exec cat").await;
    for session in [None, Some("work".to_owned())] {
        let mut detached = open(&["sh", "-c", "exit 5"]);
        detached.detach = true;
        detached.exec.session = session;
        let Started::Detached(id) =
            test.app.streams().exec(&test.admin, &shed("a"), detached).await.unwrap()
        else {
            panic!("it is not detached");
        };
        let note = format!("{id} exit 5");
        eventually("the event", async || {
            let events = test.app.events().list(&test.admin, 0, Some(&shed("a"))).await.unwrap();
            events
                .iter()
                .any(|event| {
                    event.kind == EventKind::ExecEnded && event.note.as_ref() == Some(&note)
                })
                .then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_and_their_commands_outlive_the_shed_init_worker() {
    let test = with_session("work", "exec cat").await;
    let mut running =
        started(&test, in_session(&["sh", "-c", "echo one; read x; echo two-$x; exit 9"])).await;
    until(&mut running, "one").await;
    let before = test.app.sessions().get(&test.admin, &shed("a"), &session("work")).unwrap();
    crash_daemon(&test).await;
    let after = eventually("the command's window", async || {
        let now = test.app.sessions().get(&test.admin, &shed("a"), &session("work")).ok()?;
        now.windows.iter().any(|window| window.name == "exec").then_some(now)
    })
    .await;
    assert_eq!(after.id, before.id);
    let exec = after.windows.iter().find(|window| window.name == "exec").unwrap();
    let status = std::process::Command::new("tmux")
        .args(["send-keys", "-t", &exec.id, "x", "Enter"])
        .env("TMUX_TMPDIR", test.engine.tmux_dir("a"))
        .status()
        .unwrap();
    assert!(status.success());
    until(&mut running, "two-x").await;
    read_all(&mut running).await;
    assert_eq!(running.exit.wait().await, Some(Exit::Code(9)));
}
