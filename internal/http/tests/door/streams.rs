//! Streams over WebSocket: terminals, commands and forwards, through the typed client.

use serde_json::{Value, json};
use shed_api::Scope;
use shed_api::stream::{AttachOpen, ConsoleOpen, ExecOpen, ExecSpec, Exit, Tty};
use shed_client::{ClientError, Frame, ProcessStream};
use shed_testing::{Transport, eventually, over_each_transport, wait};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{Door, LIMIT, get, post, session_body};

pub(crate) fn tty() -> Tty {
    Tty { cols: 80, rows: 24, term: "xterm-256color".to_owned(), ..Tty::default() }
}

fn attach() -> AttachOpen {
    serde_json::from_value(json!({ "tty": tty() })).unwrap()
}

fn open(argv: &[&str]) -> ExecOpen {
    let argv = argv.iter().map(|word| (*word).to_owned()).collect();
    ExecOpen { exec: ExecSpec { argv, ..ExecSpec::default() }, ..ExecOpen::default() }
}

async fn next(stream: &mut ProcessStream) -> Frame {
    let next = tokio::time::timeout(LIMIT, stream.reader.next()).await;
    next.expect("a frame in time").expect("a frame")
}

/// Reads a terminal until it shows `text`.
async fn until(stream: &mut ProcessStream, text: &str) -> String {
    wait::text(text, async || match next(stream).await {
        Frame::Stdout(bytes) => Some(bytes.into()),
        Frame::Started => Some(Vec::new()),
        other => panic!("{other:?} before {text:?}"),
    })
    .await
}

/// Reads to the end: output, errors, and how it ended.
async fn to_end(stream: &mut ProcessStream) -> (Vec<u8>, Vec<u8>, Exit) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    loop {
        match next(stream).await {
            Frame::Started => {}
            Frame::Stdout(bytes) => out.extend(bytes),
            Frame::Stderr(bytes) => err.extend(bytes),
            Frame::Exit(exit) => return (out, err, exit),
            other => panic!("{other:?}"),
        }
    }
}

over_each_transport! {
    a_terminal_has_input_output_and_a_size
    a_session_outlives_a_dropped_terminal
    a_console_is_a_shell
    a_command_has_three_streams_and_an_exit
    output_of_a_commands_filter_arrives_and_a_background_process_does_not_hold_it
    a_command_takes_signals
    a_command_can_be_detached
    a_slow_caller_makes_its_command_wait
    a_port_in_a_shed_is_reached_with_half_close
}

async fn a_terminal_has_input_output_and_a_size(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let token = door.token(Scope::Drive, &[]).await;
    let mut stream = door.client_with(&token).attach("a", "work", &attach()).await.unwrap();
    assert_eq!(next(&mut stream).await, Frame::Started);
    assert!(stream.input.send("echo so-$((40+2)); stty size\r".into()).await);
    let seen = until(&mut stream, "so-42").await;
    if !seen.contains("23 80") {
        // One row is the status line.
        until(&mut stream, "23 80").await;
    }
    let shown = async |check: fn(&Value) -> bool| {
        eventually("the session", async || {
            let list = door.json(get("/api/sessions"), 200).await;
            check(&list["sessions"][0]).then_some(())
        })
        .await;
    };
    shown(|session| session["attached"] == true && session["attached_clients"] == 1).await;
    assert!(stream.input.resize(100, 30).await);
    // tmux gives the window its new size a moment later. The echoed command does not contain what is waited for.
    let line = "until stty size | grep '29 1''00'; do :; done\r";
    assert!(stream.input.send(line.into()).await);
    until(&mut stream, "29 100").await;
    assert!(stream.input.send("\x02d".into()).await);
    let (_, _, exit) = to_end(&mut stream).await;
    assert_eq!(exit, Exit::Code(0));
    shown(|session| session["attached"] == false).await;
}

async fn a_session_outlives_a_dropped_terminal(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let mut stream = door.client().attach("a", "work", &attach()).await.unwrap();
    stream.input.send("echo here-$((1+1))\r".into()).await;
    until(&mut stream, "here-2").await;
    drop(stream);
    eventually("the end of the client", async || {
        let list = door.json(get("/api/sessions"), 200).await;
        (list["sessions"][0]["attached"] == false).then_some(())
    })
    .await;
    let mut again = AttachOpen { existing: true, ..attach() };
    let mut stream = door.client().attach("a", "work", &again).await.unwrap();
    until(&mut stream, "here-2").await;
    // What exists is not new, and what does not is not there.
    again = AttachOpen { new: true, ..attach() };
    let mut refused = door.client().attach("a", "work", &again).await.unwrap();
    let Frame::Problem(problem) = next(&mut refused).await else { panic!() };
    assert_eq!(problem.code, shed_api::Code::SessionExists);
    again = AttachOpen { existing: true, ..attach() };
    let mut refused = door.client().attach("a", "play", &again).await.unwrap();
    let Frame::Problem(problem) = next(&mut refused).await else { panic!() };
    assert_eq!(problem.code, shed_api::Code::SessionNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_scope_sees_a_session_and_cannot_type() {
    let door = Door::with_shed().await;
    let script = ["sh", "-c", "echo visible; exec cat"];
    door.json(post("/api/sheds/a/sessions", &session_body("work", &script)), 201).await;
    let reader = door.token(Scope::Read, &[]).await;
    let by_scope = door.client_with(&reader).attach("a", "work", &attach()).await.unwrap();
    let by_wish = AttachOpen { read_only: true, ..attach() };
    let by_wish = door.client().attach("a", "work", &by_wish).await.unwrap();
    let mut owner = door.client().attach("a", "work", &attach()).await.unwrap();
    for mut stream in [by_scope, by_wish] {
        until(&mut stream, "visible").await;
        assert!(stream.input.send("typed-by-reader\r".into()).await);
        // What comes after it on the same stream was read after it.
        assert!(stream.input.resize(90, 30).await);
        stream.input.close().await;
        while stream.reader.next().await.is_ok() {}
    }
    owner.input.send("typed-by-owner\r".into()).await;
    until(&mut owner, "typed-by-owner").await;
    let output = door.json(get("/api/sheds/a/sessions/work/output?lines=100"), 200).await;
    assert!(!output["output"].as_str().unwrap().contains("typed-by-reader"), "{output}");
    // A reader makes no session, detaches nobody, runs nothing.
    let mut missing = door.client_with(&reader).attach("a", "play", &attach()).await.unwrap();
    let Frame::Problem(problem) = next(&mut missing).await else { panic!() };
    assert_eq!(problem.code, shed_api::Code::SessionNotFound);
    let others = AttachOpen { detach_others: true, ..attach() };
    let mut refused = door.client_with(&reader).attach("a", "work", &others).await.unwrap();
    let Frame::Problem(problem) = next(&mut refused).await else { panic!() };
    assert_eq!(problem.code, shed_api::Code::Forbidden);
    let refused = door.client_with(&reader).exec_stream("a", &open(&["id"])).await;
    assert_eq!(refused.err().unwrap().code(), Some(shed_api::Code::Forbidden));
}

async fn a_console_is_a_shell(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let console: ConsoleOpen =
        serde_json::from_value(json!({ "tty": tty(), "env": { "X": "y" } })).unwrap();
    let mut stream = door.client().console("a", &console).await.unwrap();
    stream.input.send("echo $X-$((40+2)) ${TMUX:-none}; stty size; exit 5\r".into()).await;
    let (out, err, exit) = to_end(&mut stream).await;
    let out = String::from_utf8_lossy(&out);
    assert!(out.contains("y-42 none") && out.contains("24 80"), "{out}");
    assert!(err.is_empty());
    assert_eq!(exit, Exit::Code(5));
}

async fn a_command_has_three_streams_and_an_exit(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let script = "cat; echo err >&2; exit 3";
    let open = ExecOpen { stdin: true, ..open(&["sh", "-c", script]) };
    let mut stream = door.client().exec_stream("a", &open).await.unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    assert!(stream.input.send(bytes.clone().into()).await);
    assert!(stream.input.eof().await);
    let (out, err, exit) = to_end(&mut stream).await;
    assert_eq!(out, bytes);
    assert_eq!(err, b"err\n");
    assert_eq!(exit, Exit::Code(3));
    // After the last message the stream is over.
    assert!(matches!(stream.reader.next().await, Err(ClientError::Lost { .. })));
}

async fn output_of_a_commands_filter_arrives_and_a_background_process_does_not_hold_it(
    transport: Transport,
) {
    let door = Door::with_shed_on(transport).await;
    // As in a script with `exec > >(tee log)`.
    let script = "(sleep 0.4; echo from-the-filter) & echo now";
    let mut stream = door.client().exec_stream("a", &open(&["sh", "-c", script])).await.unwrap();
    assert_eq!(to_end(&mut stream).await.0, b"now\nfrom-the-filter\n");
    let script = "sleep 1000 & echo now";
    let mut stream = door.client().exec_stream("a", &open(&["sh", "-c", script])).await.unwrap();
    assert_eq!(to_end(&mut stream).await.0, b"now\n");
}

async fn a_command_takes_signals(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let mut stream = door.client().exec_stream("a", &open(&["sleep", "1000"])).await.unwrap();
    assert_eq!(next(&mut stream).await, Frame::Started);
    assert!(stream.input.signal("TERM").await);
    assert_eq!(to_end(&mut stream).await.2, Exit::Signal("TERM".to_owned()));
}

async fn a_command_can_be_detached(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let mark = door.test.dir().join("mark");
    let open = ExecOpen { detach: true, ..open(&["touch", mark.to_str().unwrap()]) };
    let mut stream = door.client().exec_stream("a", &open).await.unwrap();
    let Frame::Detached(id) = next(&mut stream).await else { panic!() };
    assert!(!id.is_empty());
    eventually("the mark", async || mark.exists().then_some(())).await;
}

async fn a_slow_caller_makes_its_command_wait(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let mark = door.test.dir().join("pid");
    let script = format!("echo $$ > {0}.new; mv {0}.new {0}; exec yes", mark.display());
    let mut slow = door.client().exec_stream("a", &open(&["sh", "-c", &script])).await.unwrap();
    let pid = eventually("the command", async || std::fs::read_to_string(&mark).ok()).await;
    let written = || {
        let io = std::fs::read_to_string(format!("/proc/{}/io", pid.trim())).unwrap();
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    let blocked = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('S')
    };
    // It sleeps in a write: nobody takes any more.
    eventually("the command to wait", async || {
        let before = written();
        for _ in 0..20 {
            if !blocked() {
                return None;
            }
            tokio::task::yield_now().await;
        }
        (before > 0 && written() == before).then_some(())
    })
    .await;
    assert!(written() < 16 << 20, "{}", written());
    // Others are served meanwhile.
    let mut quick = door.client().exec_stream("a", &open(&["echo", "quick"])).await.unwrap();
    assert_eq!(to_end(&mut quick).await.0, b"quick\n");
    // And it goes on when it is read.
    let before = written();
    let mut n_read = 0;
    while n_read < 32 << 20 {
        if let Frame::Stdout(bytes) = next(&mut slow).await {
            n_read += bytes.len();
        }
    }
    assert!(written() > before);
    drop(slow);
    eventually("the end of the command", async || {
        (!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists()).then_some(())
    })
    .await;
}

async fn a_port_in_a_shed_is_reached_with_half_close(transport: Transport) {
    let door = Door::with_shed_on(transport).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            // Answers only after the end of the question.
            socket.read_to_end(&mut asked).await.unwrap();
            socket.write_all(&asked).await.unwrap();
        }
    });
    let mut stream = door.client().forward("a", port).await.unwrap();
    assert_eq!(next(&mut stream).await, Frame::Started);
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 241) as u8).collect();
    stream.input.send(bytes.clone().into()).await;
    stream.input.eof().await;
    let mut answer = Vec::new();
    loop {
        match next(&mut stream).await {
            Frame::Stdout(bytes) => answer.extend(bytes),
            Frame::Eof => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answer, bytes);
    // Both sides have ended: the server closes, so that nobody waits for the other.
    let ended = tokio::time::timeout(LIMIT, stream.reader.next()).await.unwrap();
    assert!(matches!(ended, Err(ClientError::Lost { .. })), "{ended:?}");
    let mut refused = door.client().forward("a", 1).await.unwrap();
    let Frame::Problem(problem) = next(&mut refused).await else { panic!() };
    assert_eq!(problem.code, shed_api::Code::ConnectFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_shed_ends_its_streams() {
    let door = Door::with_shed().await;
    let mut exec = door.client().exec_stream("a", &open(&["sleep", "1000"])).await.unwrap();
    let mut terminal = door.client().attach("a", "work", &attach()).await.unwrap();
    assert_eq!(next(&mut exec).await, Frame::Started);
    assert_eq!(next(&mut terminal).await, Frame::Started);
    assert_eq!(door.ask(post("/api/sheds/a/stop", "")).await.status, 200);
    for stream in [&mut exec, &mut terminal] {
        let last = loop {
            match next(stream).await {
                Frame::Stdout(_) | Frame::Stderr(_) => {}
                last => break last,
            }
        };
        match last {
            Frame::Exit(_) => {}
            Frame::Problem(problem) => assert_eq!(problem.code, shed_api::Code::ShedUnreachable),
            other => panic!("{other:?}"),
        }
    }
}
