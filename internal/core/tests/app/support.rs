//! Requests and helpers that most tests use.

use std::process::Command;

use shed_api::session::NewSession;
use shed_api::stream::{AttachOpen, ExecOpen, ExecRequest, ExecResult, ExecSpec, Tty};
use shed_api::{EventKind, Problem, SessionRef, ShedName};
use shed_core::{Attach, Error, Stream};
use shed_testing::{TestApp, wait};
use tokio::io::AsyncReadExt as _;

pub(crate) fn shed(name: &str) -> ShedName {
    name.parse().unwrap()
}

pub(crate) fn session(name: &str) -> SessionRef {
    name.parse().unwrap()
}

pub(crate) fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn problem<T>(result: Result<T, Error>) -> Problem {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => error.problem(),
    }
}

pub(crate) fn run(argv: &[&str]) -> ExecRequest {
    ExecRequest {
        argv: words(argv),
        env: std::collections::BTreeMap::new(),
        directory: None,
        session: None,
        root: false,
        stdin: None,
        stdin_base64: None,
        timeout: Some(20.0),
    }
}

pub(crate) fn open(argv: &[&str]) -> ExecOpen {
    ExecOpen { exec: ExecSpec { argv: words(argv), ..ExecSpec::default() }, ..ExecOpen::default() }
}

pub(crate) async fn sh(test: &TestApp, name: &str, line: &str) -> ExecResult {
    test.app
        .streams()
        .exec_to_end(&test.admin, &shed(name), run(&["sh", "-c", line]), Vec::new())
        .await
        .unwrap()
}

pub(crate) fn tty() -> Tty {
    Tty { cols: 80, rows: 24, term: "xterm-256color".to_owned(), ..Tty::default() }
}

pub(crate) fn attach() -> Attach {
    let open = AttachOpen {
        tty: tty(),
        new: false,
        existing: false,
        read_only: false,
        detach_others: false,
        env: std::collections::BTreeMap::new(),
    };
    Attach { open, connection: Vec::new() }
}

/// Reads a terminal until it shows `text`.
pub(crate) async fn until(running: &mut Stream, text: &str) -> String {
    wait::text(text, async || {
        let mut buffer = vec![0; 4096];
        let n_read = running.output.read(&mut buffer).await.unwrap();
        buffer.truncate(n_read);
        (n_read > 0).then_some(buffer)
    })
    .await
}

/// Makes the workspace of a shed a repository with a commit, which `origin` has too.
pub(crate) async fn repository(test: &TestApp, name: &str) {
    let made = sh(
        test,
        name,
        "git init -q -b main && git config user.name t && git config user.email t@t && \
         echo one > a && echo .env > .gitignore && git add -A && git commit -qm first && \
         git clone -q --bare . ../origin.git && git remote add origin ../origin.git && \
         git fetch -q && git remote set-head origin main",
    )
    .await;
    assert_eq!(made.exit, 0, "{}", made.stderr);
}

/// A session whose window stays when its command has ended.
pub(crate) fn kept(name: &str, argv: &[&str]) -> NewSession {
    NewSession {
        name: Some(name.to_owned()),
        command: words(argv),
        keep: Some(true),
        ..NewSession::default()
    }
}

/// tmux as a person inside the shed `a` runs it. Returns what it prints.
pub(crate) fn by_hand(test: &TestApp, args: &[&str]) -> String {
    let output = Command::new("tmux")
        .args(args)
        .env("TMUX_TMPDIR", test.engine.tmux_dir("a"))
        .env_remove("TMUX")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tmux {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Has the daemon of shed-init in the shed `a` crash, and waits until the next one has connected.
pub(crate) async fn crash_daemon(test: &TestApp) {
    let n_links = async || {
        let events = test.app.events().list(&test.admin, 0, Some(&shed("a"))).await.unwrap();
        events.iter().filter(|event| event.kind == EventKind::LinkUp).count()
    };
    let before = n_links().await;
    let pid = test.engine.pid("a").unwrap();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let is_daemon = |child: &&str| {
        let words = std::fs::read(format!("/proc/{child}/cmdline")).unwrap();
        words.split(|byte| *byte == 0).any(|word| word == b"worker")
    };
    let daemon = children.split_whitespace().find(is_daemon).expect("a daemon");
    let killed = Command::new("kill").args(["-ABRT", daemon]).status().unwrap();
    assert!(killed.success());
    wait::eventually("the new link", async || (n_links().await > before).then_some(())).await;
}
