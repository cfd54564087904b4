//! `shed attach` when the connection is lost, or the shed is started again.

use std::time::Duration;

use shed_http::{Options, Timing};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::attach::{accept_fast_typing, attach_and_report, attached, env};
use crate::support::{TestEnv, ended, started};

#[tokio::test(flavor = "multi_thread")]
async fn attach_reconnects_after_a_restart_of_the_server() {
    let mut env = env().await;
    let mut terminal = attach_and_report(&env, "attach a");
    terminal.keys("VAR=kept; echo ready-$((1))\r").await;
    terminal.until("ready-1").await;
    for round in 1..=2 {
        env.close().await;
        terminal.until("reconnecting … (~. detaches)").await;
        env.reopen().await;
        // The screen is drawn again, and input arrives.
        terminal.until("[default]").await;
        terminal.keys(&format!("echo \"back-{round}-$VAR\"\r")).await;
        terminal.until(&format!("back-{round}-kept")).await;
    }
    terminal.keys("\x02d").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
}

/// A proxy between client and server. Aborting it breaks its connections.
fn proxy(env: &TestEnv) -> JoinHandle<()> {
    // Nobody can send, so that it is never true.
    let (_, never) = watch::channel(false);
    proxy_to(env, "run/shed/shed.sock", never)
}

/// Returns when the value is true; never if nobody can make it so.
async fn froze(frozen: &mut watch::Receiver<bool>) {
    if frozen.wait_for(|frozen| *frozen).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A proxy that passes nothing on once `frozen` is true, but keeps its connections.
fn proxy_to(env: &TestEnv, socket: &str, frozen: watch::Receiver<bool>) -> JoinHandle<()> {
    let path = env.path("proxy.sock");
    std::fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path).unwrap();
    let server = env.path(socket);
    tokio::spawn(async move {
        // Dropped with the task, which closes the connections.
        let mut connections = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = UnixStream::connect(&server).await.unwrap();
            let mut is_frozen = frozen.clone();
            connections.spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    () = froze(&mut is_frozen) => std::future::pending().await,
                }
            });
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_reconnects_after_a_broken_connection() {
    let env = env().await;
    let between = proxy(&env);
    let address = format!("unix:{}", env.path("proxy.sock").display());
    let mut terminal = attach_and_report(&env, &format!("attach -s {address} a"));
    terminal.keys("echo ready-$((1))\r").await;
    terminal.until("ready-1").await;
    between.abort();
    terminal.until("reconnecting").await;
    // Input waits while there is no connection.
    terminal.keys("echo kept-$((1))\r").await;
    attached(&env, "default", 0).await;
    let between = proxy(&env);
    terminal.until("kept-1").await;
    terminal.keys("\x02d").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
    between.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnecting_follows_a_session_that_was_renamed() {
    let env = env().await;
    let address = format!("unix:{}", env.path("proxy.sock").display());
    let words = ["run", "a", "--name", "managed", "-d", "--", "sh"];
    env.run(&words).await.ok();
    env.run(&["sessions", "new", "a", "unmanaged"]).await.ok();
    for session in ["managed", "unmanaged"] {
        let between = proxy(&env);
        let mut terminal = attach_and_report(&env, &format!("attach -s {address} a -S {session}"));
        terminal.keys(&format!("VAR=kept-{session}; echo ready-$((1))\r")).await;
        terminal.until("ready-1").await;
        attached(&env, session, 1).await;
        between.abort();
        terminal.until("reconnecting").await;
        attached(&env, session, 0).await;
        let renamed = format!("new-{session}");
        env.run(&["sessions", "rename", "a", session, &renamed]).await.ok();
        env.run(&["sessions", "new", "a", session]).await.ok();
        let between = proxy(&env);
        attached(&env, &renamed, 1).await;
        terminal.keys("echo \"in-$VAR\"\r").await;
        terminal.until(&format!("in-kept-{session}")).await;
        attached(&env, session, 0).await;
        terminal.keys("\r~.").await;
        let (seen, _) = terminal.end().await;
        assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
        between.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attach_reconnects_after_a_restart_of_the_shed() {
    let env = env().await;
    env.run(&["run", "a", "--name", "managed", "--restart", "-d", "--", "sh"]).await.ok();
    for session in ["default", "managed"] {
        let mut terminal = attach_and_report(&env, &format!("attach a -S {session}"));
        terminal.keys("echo ready-$((1))\r").await;
        terminal.until("ready-1").await;
        attached(&env, session, 1).await;
        for operation in ["restart", "rebuild"] {
            env.run(&[operation, "a"]).await.ok();
            terminal.until("reconnecting").await;
            attached(&env, session, 1).await;
            terminal.keys(&format!("echo back-$((1))-{operation}\r")).await;
            terminal.until(&format!("back-1-{operation}")).await;
        }
        // A shed that was stopped is not started again.
        env.run(&["stop", "a"]).await.ok();
        let (seen, _) = terminal.end().await;
        assert!(seen.contains("restored\r\n") && !seen.contains("reconnecting"), "{seen}");
        assert_eq!(env.run(&["show", "a", "--json"]).await.json()["status"], "stopped");
        env.run(&["start", "a"]).await.ok();
        accept_fast_typing(&env).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn input_of_a_dead_connection_is_reported() {
    let env = env().await;
    let ping = Duration::from_millis(200);
    let timing = Timing { ping, ..Timing::default() };
    let options = Options { timing, ..Options::default() };
    let serving = crate::support::serve(&env.test, &env.path("fast.sock"), options).await;
    let (freeze, frozen) = watch::channel(false);
    let between = proxy_to(&env, "fast.sock", frozen);
    let address = format!("unix:{}", env.path("proxy.sock").display());
    let mut terminal = attach_and_report(&env, &format!("attach --no-reconnect -s {address} a"));
    terminal.keys("echo ready-$((1))\r").await;
    terminal.until("ready-1").await;
    freeze.send(true).unwrap();
    terminal.keys("echo lost\r").await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("no answer for 0 seconds; what was typed in the last"), "{seen}");
    assert!(seen.contains("was possibly not sent"), "{seen}");
    assert!(seen.contains("restored\r\nstatus 5."), "{seen}");
    between.abort();
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnecting_can_be_cancelled() {
    let mut env = env().await;
    let mut by_tilde = attach_and_report(&env, "attach a");
    let mut by_key = attach_and_report(&env, "attach a");
    let mut by_signal = env.terminal(&["attach", "a"]);
    let mut at_once = attach_and_report(&env, "attach a --no-reconnect");
    for terminal in [&mut by_tilde, &mut by_key, &mut by_signal, &mut at_once] {
        terminal.until("[default]").await;
    }
    env.close().await;
    let (seen, _) = at_once.end().await;
    assert!(seen.contains("restored\r\nstatus 5."), "{seen}");
    for terminal in [&mut by_tilde, &mut by_key, &mut by_signal] {
        terminal.until("reconnecting").await;
    }
    by_tilde.keys("\r~.").await;
    by_key.keys("\x03").await;
    crate::support::signal(&by_signal.child, rustix::process::Signal::TERM);
    for terminal in [&mut by_tilde, &mut by_key] {
        let (seen, _) = terminal.end().await;
        assert!(seen.contains("restored\r\nstatus 0."), "{seen}");
    }
    assert_eq!(by_signal.end().await.1, Some(143));
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnecting_does_not_create_the_session_again() {
    let mut env = env().await;
    let mut terminal = attach_and_report(&env, "attach a -S brief");
    terminal.keys("echo $TMUX\r").await;
    terminal.until("[brief]").await;
    env.close().await;
    terminal.until("reconnecting").await;
    let mut kill = tokio::process::Command::new("tmux");
    kill.args(["kill-session", "-t", "=brief"]).env("TMUX_TMPDIR", env.test.engine.tmux_dir("a"));
    ended(started(kill)).await.ok();
    env.reopen().await;
    let (seen, _) = terminal.end().await;
    assert!(seen.contains("brief") && seen.contains("restored\r\nstatus 3."), "{seen}");
}
