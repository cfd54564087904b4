//! `shed exec` and `shed console`.

use std::process::Stdio;

use rustix::process::Signal;
use shed_api::Scope;
use shed_api::access::NewToken;
use shed_http::{Http, Listen, Listener, Options};
use shed_testing::eventually;

use tokio::io::AsyncWriteExt as _;

use crate::support::{TestEnv, ended, noise, signal, started, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_status_is_passed_on() {
    let env = TestEnv::new().await;
    for (line, status) in
        [("exit 0", 0), ("exit 42", 42), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
    {
        assert_eq!(env.run(&["exec", "a", "sh", "-c", line]).await.status, status, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_output_and_error_are_separate() {
    let env = TestEnv::new().await;
    let output = env.run(&["exec", "a", "sh", "-c", "echo out; echo err >&2; pwd"]).await;
    let workspace = env.test.engine.workspace("a");
    assert_eq!(output.ok(), format!("out\n{}\n", workspace.display()));
    assert_eq!(output.stderr, "err\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_is_passed_on_unchanged() {
    let env = TestEnv::new().await;
    let bytes = noise(1 << 20);
    let output = env.run_with(&["exec", "a", "cat"], &bytes).await;
    assert_eq!(output.status, 0, "{}", output.stderr);
    assert!(output.stdout == bytes, "{} bytes came back", output.stdout.len());
    // A command may exit without reading all input.
    assert_eq!(env.run_with(&["exec", "a", "true"], &bytes).await.status, 0);
    assert_eq!(env.run_with(&["exec", "a", "wc", "-c"], b"").await.ok(), "0\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn options_end_at_the_command() {
    let env = TestEnv::new().await;
    let workspace = format!("{}\n", env.test.engine.workspace("a").display());
    for (words, printed) in [
        (&["exec", "a", "pwd"][..], workspace.as_str()),
        (&["exec", "-w", "/tmp", "a", "pwd"], "/tmp\n"),
        (&["exec", "a", "-w", "/tmp", "pwd"], "/tmp\n"),
        (&["exec", "a", "--workdir=/tmp", "--", "pwd"], "/tmp\n"),
        (&["exec", "-e", "K=V W", "a", "sh", "-c", "echo $K"], "V W\n"),
        (&["exec", "a", "-e", "K=1", "-e", "L=", "sh", "-c", "echo $K-$L"], "1-\n"),
        (&["exec", "a", "-e", "LANG", "printenv", "LANG"], "C.UTF-8\n"),
        (
            &["exec", "-T", "a", "printf", "%s|", "-w", "/x", "-S", "s", "--json", "--", "-h"],
            "-w|/x|-S|s|--json|--|-h|",
        ),
        (&["exec", "a", "--", "printf", "%s|", "--", "-e", "--help"], "--|-e|--help|"),
        (&["exec", "--", "a", "printf", "%s|", "--root"], "--root|"),
        (&["exec", "a", "printf", "[%s]", "", " ", "$HOME", "*", "é"], "[][ ][$HOME][*][é]"),
    ] {
        assert_eq!(env.run(words).await.ok(), printed, "{words:?}");
    }
    for words in [
        &["exec", "a"][..],
        &["exec", "a", "-x", "true"],
        &["exec", "a", "-e", "NOT_SET_HERE", "true"],
        &["exec", "a", "-e", "=x", "true"],
        &["exec", "--root", "-S", "s", "a", "true"],
    ] {
        assert!(!env.run(words).await.fails(2).is_empty(), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_start_is_named() {
    let env = TestEnv::new().await;
    assert!(
        env.run(&["exec", "a", "no-such-program"]).await.fails(127).contains("no-such-program")
    );
    assert!(env.run(&["exec", "a", "/etc/passwd"]).await.fails(126).contains("/etc/passwd"));
    assert!(env.run(&["exec", "-w", "/nowhere", "a", "true"]).await.fails(1).contains("/nowhere"));
    assert!(env.run(&["exec", "-S", "none", "a", "true"]).await.fails(3).contains("none"));
    // A stopped shed is started; a paused one is not unpaused.
    env.run(&["stop", "a"]).await.ok();
    assert_eq!(env.run(&["exec", "a", "echo", "up"]).await.ok(), "up\n");
    env.run(&["pause", "a"]).await.ok();
    assert!(env.run(&["exec", "a", "true"]).await.fails(4).contains("shed unpause a"));
    env.run(&["unpause", "a"]).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_command() {
    let env = TestEnv::new().await;
    let line = "trap 'echo caught; exit 9' INT; echo go; while :; do sleep 0.01; done";
    let mut child = started(env.shed(&["exec", "a", "sh", "-c", line]));
    let mut output = child.stdout.take().unwrap();
    until(&mut output, "go").await;
    signal(&child, Signal::INT);
    until(&mut output, "caught").await;
    ended(child).await.fails(9);

    // If the command handles SIGINT, a second Ctrl-C ends the client, and the command ends with the connection.
    let line = "trap 'echo caught' INT; echo $$; while :; do sleep 0.01; done";
    let mut child = started(env.shed(&["exec", "a", "sh", "-c", line]));
    let mut output = child.stdout.take().unwrap();
    let pid = until(&mut output, "\n").await;
    signal(&child, Signal::INT);
    until(&mut output, "caught").await;
    signal(&child, Signal::INT);
    ended(child).await.fails(130);
    gone(pid.trim()).await;

    let mut child = started(env.shed(&["exec", "a", "sh", "-c", "echo $$; exec sleep 1000"]));
    let pid = until(&mut child.stdout.take().unwrap(), "\n").await;
    signal(&child, Signal::TERM);
    ended(child).await.fails(143);
    gone(pid.trim()).await;
}

async fn gone(pid: &str) {
    eventually("the end", async || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim().chars().next());
        state.is_none_or(|state| state == 'Z').then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_command_keeps_running() {
    let env = TestEnv::new().await;
    let line = "until test -e go; do sleep 0.01; done; touch done";
    let id = env.run(&["exec", "--detach", "a", "sh", "-c", line]).await;
    assert!(!id.ok().trim().is_empty());
    let workspace = env.test.engine.workspace("a");
    std::fs::write(workspace.join("go"), "").unwrap();
    eventually("the end", async || workspace.join("done").exists().then_some(())).await;
    let id = env.run(&["--json", "exec", "--detach", "a", "true"]).await.json()["id"].clone();
    let id = id.as_str().unwrap();
    let mut events = started(env.shed(&["events", "--after", "0", "--json"]));
    until(events.stdout.take().unwrap(), id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_in_a_session_has_its_environment_and_an_exact_status() {
    let env = TestEnv::new().await;
    env.run(&["sessions", "new", "a", "work", "-w", "/tmp", "-e", "K=session"]).await.ok();
    let line = "echo \"[$K]\"; pwd; exit 7";
    let output = env.run(&["exec", "-S", "work", "a", "sh", "-c", line]).await;
    output.fails(7);
    assert_eq!(str::from_utf8(&output.stdout).unwrap(), "[session]\r\n/tmp\r\n");
    assert_eq!(
        env.run(&["exec", "a", "--session", "work", "sh", "-c", "kill -9 $$"]).await.status,
        137
    );
    // The window closes when the command exits.
    eventually("the window's end", async || {
        let list = env.run(&["sessions", "a", "--json"]).await.json();
        (list["sessions"][0]["window_count"] == 1).then_some(())
    })
    .await;

    let piped = env.run_with(&["exec", "-S", "work", "a", "cat"], b"x").await;
    assert!(piped.fails(2).contains("try: shed exec -n -S work a -- cat"), "{piped:?}");
    let mut from_file = env.shed(&["exec", "-S", "work", "a", "cat"]);
    from_file
        .stdin(std::fs::File::open("/etc/hosts").unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    ended(from_file.spawn().unwrap()).await.fails(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_started_has_the_status_of_shells() {
    let env = TestEnv::new().await;
    env.run(&["sessions", "new", "a", "work"]).await.ok();
    env.run(&["exec", "a", "sh", "-c", "echo x > not-executable"]).await.ok();
    let workspace = env.test.engine.workspace("a");
    let workspace = workspace.to_str().unwrap();
    for (command, status) in [("no-such-command", 127), ("./not-executable", 126)] {
        env.run(&["exec", "a", command]).await.fails(status);
        env.run(&["exec", "--detach", "a", command]).await.fails(status);
        env.run(&["exec", "-S", "work", "-w", workspace, "a", command]).await.fails(status);
    }
    // That is not the command's fault.
    env.run(&["exec", "-w", "/no-such-directory", "a", "true"]).await.fails(1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_n_standard_input_is_left_to_others() {
    let env = TestEnv::new().await;
    env.run(&["sessions", "new", "a", "work"]).await.ok();
    let list = "one\ntwo\nthree\n";
    for words in ["exec -n a", "exec -n -S work a"] {
        let script = format!("while read -r line; do \"$0\" {words} echo got-$line; done");
        let mut shell = env.shed(&[]);
        let program = shell.as_std().get_program().to_owned();
        let mut command = tokio::process::Command::new("sh");
        command.arg("-c").arg(script).arg(program).current_dir(env.path(""));
        for (name, value) in shell.as_std_mut().get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = crate::support::started(command);
        child.stdin.take().unwrap().write_all(list.as_bytes()).await.unwrap();
        let output = ended(child).await;
        let text = output.ok().replace('\r', "");
        assert_eq!(text, "got-one\ngot-two\ngot-three\n", "{words}");
    }
    // Without it, the first command would have read the rest. The command itself reads the end of its input.
    assert_eq!(env.run_with(&["exec", "-n", "a", "cat"], b"x").await.ok(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_allocated_when_there_is_one_or_with_t() {
    let env = TestEnv::new().await;
    let mut terminal = env.terminal(&[
        "exec",
        "a",
        "sh",
        "-c",
        "stty size; tty >/dev/null; echo $?; read x; echo $x-",
    ]);
    terminal.until("24 80\r\n0\r\n").await;
    terminal.keys("typed\r").await;
    terminal.until("typed-\r\n").await;
    assert_eq!(terminal.end().await.1, Some(0));
    let mut terminal = env.terminal(&["exec", "-T", "a", "sh", "-c", "tty; exit 3"]);
    let (seen, status) = terminal.end().await;
    assert_eq!((seen.as_str(), status), ("not a tty\r\n", Some(3)));
    assert_eq!(env.run(&["exec", "-t", "a", "sh", "-c", "stty size"]).await.ok(), "24 80\r\n");
    // Ctrl-C is sent through the terminal.
    let line = "trap 'echo caught; exit 5' INT; echo go; while :; do sleep 0.01; done";
    let mut terminal = env.terminal(&["exec", "a", "sh", "-c", line]);
    terminal.until("go").await;
    terminal.keys("\x03").await;
    terminal.until("caught").await;
    assert_eq!(terminal.end().await.1, Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_is_a_login_shell() {
    let env = TestEnv::new().await;
    let mut terminal = env.terminal(&["console", "a"]);
    terminal.keys("shopt -q login_shell && echo login-$((40 + 2)) \"[$TMUX]\"\r").await;
    terminal.until("login-42 []").await;
    terminal.resize(77, 22);
    terminal
        .keys("until test \"$(stty size)\" = '22 77'; do :; done; echo followed-$((1))\r")
        .await;
    terminal.until("followed-1").await;
    terminal.keys("exit 9\r").await;
    assert_eq!(terminal.end().await.1, Some(9));
    let mut terminal = env.terminal(&["console", "none"]);
    let (seen, status) = terminal.end().await;
    assert!(status == Some(3) && seen.contains("none"), "{status:?} {seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_limited_to_its_scope() {
    let env = TestEnv::new().await;
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(Listen::Tcp(address, None)).await.unwrap();
    let address = format!("http://{}", listener.address().unwrap());
    tokio::spawn(Http::new(env.test.app.clone(), Options::default()).serve(listener));
    let new = NewToken {
        name: "reader".to_owned(),
        scope: Scope::Read,
        sheds: Vec::new(),
        expires_in_seconds: None,
    };
    let token = env.test.app.access().add_token(&env.test.admin, new).await.unwrap().token;
    let run = async |token: &str, words: &[&str]| {
        let mut command = env.shed(words);
        command.env("SHED_TOKEN", token).env("SHED_SERVER", &address);
        ended(started(command)).await
    };
    assert!(run(&token, &["list"]).await.ok().contains("running"));
    for words in [
        &["exec", "a", "true"][..],
        &["stop", "a"],
        &["create", "b"],
        &["delete", "-f", "a"],
        &["sessions", "new", "a", "x"],
        &["cp", "a:x", "."],
    ] {
        let refused = run(&token, words).await;
        assert!(refused.fails(6).contains("scope"), "{words:?} {refused:?}");
    }
    run("shed_nonsense", &["list"]).await.fails(6);
    run("", &["list"]).await.fails(6);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shutdown_of_the_server_is_reported() {
    let mut env = TestEnv::new().await;
    let mut child = started(env.shed(&["exec", "a", "sh", "-c", "echo go; exec sleep 1000"]));
    until(child.stdout.take().unwrap(), "go").await;
    let mut console = env.terminal(&["console", "a"]);
    console.keys("echo go-$((1))\r").await;
    console.until("go-1").await;
    env.close().await;
    let output = ended(child).await;
    assert!(output.fails(5).contains("the server is shutting down"), "{output:?}");
    let (seen, status) = console.end().await;
    assert!(status == Some(5) && seen.contains("the server is shutting down"), "{status:?} {seen}");
    assert!(env.run(&["exec", "a", "true"]).await.fails(5).contains("connection refused"));
}
