//! Shutdown of the server: requests and streams end in an orderly way, and nothing delays it.

use std::time::{Duration, Instant};

use serde_json::json;
use shed_api::Code;
use shed_api::stream::{ExecOpen, ExecSpec};
use shed_client::Frame;
use shed_http::{Options, Timing};
use shed_testing::eventually;
use tokio::io::AsyncWriteExt as _;

use crate::support::{Door, ends, get, post, reply};

fn exec(script: &str) -> ExecOpen {
    let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
    ExecOpen { exec: ExecSpec { argv, ..ExecSpec::default() }, ..ExecOpen::default() }
}

/// Closes the server and returns how long it took.
async fn close(door: &Door) -> Duration {
    let start = Instant::now();
    door.test.app.close().await;
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_progress_is_answered() {
    let door = Door::with_shed().await;
    let (begun, go) = (door.test.dir().join("begun"), door.test.dir().join("go"));
    let script = format!(
        "touch {}; until [ -e {} ]; do sleep 0.01; done; echo done",
        begun.display(),
        go.display()
    );
    let body = json!({ "argv": ["sh", "-c", script] }).to_string();
    let mut asking = door.unix().await;
    asking.write_all(&post("/api/sheds/a/exec", &body).bytes()).await.unwrap();
    eventually("the command", async || begun.exists().then_some(())).await;
    let app = door.test.app.clone();
    let closing = tokio::spawn(async move { app.close().await });
    eventually("the end of the listener", async || {
        tokio::net::TcpStream::connect(door.address).await.is_err().then_some(())
    })
    .await;
    assert!(!closing.is_finished());
    std::fs::write(go, "").unwrap();
    let reply = reply(&mut asking).await;
    assert_eq!(reply.json()["stdout"], "done\n");
    assert!(ends(&mut asking).await);
    closing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_gets_a_problem() {
    let timing = Timing { drain: Duration::from_millis(200), ..Timing::default() };
    let door = Door::with(Options { timing, ..Options::default() }, None).await;
    door.test.shed("a").await;
    let begun = door.test.dir().join("begun");
    let body = json!({ "argv": ["sh", "-c", format!("touch {}; sleep 1000", begun.display())] });
    let mut asking = door.unix().await;
    asking.write_all(&post("/api/sheds/a/exec", &body.to_string()).bytes()).await.unwrap();
    eventually("the command", async || begun.exists().then_some(())).await;
    let (took, reply) = tokio::join!(close(&door), reply(&mut asking));
    assert_eq!(reply.problem(), (503, "shutting-down".to_owned()));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_get_a_problem_and_end() {
    let door = Door::with_shed().await;
    door.json(post("/api/sheds", r#"{"name":"b","image":"slow"}"#), 202).await;
    let client = door.client();
    let mut exec = client.exec_stream("a", &exec("sleep 1000")).await.unwrap();
    assert_eq!(exec.reader.next().await.unwrap(), Frame::Started);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut forward = client.forward("a", port).await.unwrap();
    assert_eq!(forward.reader.next().await.unwrap(), Frame::Started);
    let mut events = client.events(1_000, None).await.unwrap();
    let mut watch = client.watch_sessions().await.unwrap();
    watch.next().await.unwrap().unwrap();
    let mut progress = client.progress("b").await.unwrap();
    let took = close(&door).await;
    assert!(took < Duration::from_secs(5), "{took:?}");
    for stream in [&mut exec, &mut forward] {
        let Frame::Problem(problem) = stream.reader.next().await.unwrap() else { panic!() };
        assert_eq!(problem.code, Code::ShuttingDown);
        assert!(stream.reader.next().await.is_err());
    }
    assert!(events.next().await.unwrap().is_none());
    while watch.next().await.unwrap().is_some() {}
    while progress.next().await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_and_half_open_connections_do_not_delay_it() {
    let timing = Timing { drain: Duration::from_secs(1), ..Timing::default() };
    let door = Door::with(Options { timing, ..Options::default() }, None).await;
    door.test.shed("a").await;
    let mut idle = door.tcp().await;
    let live = get("/api/health/live").header("connection", "keep-alive");
    idle.write_all(&live.bytes()).await.unwrap();
    assert_eq!(reply(&mut idle).await.status, 200);
    let mut silent = door.tcp().await;
    let mut half = door.tcp().await;
    half.write_all(b"GET /api/health/live HTTP/1.1\r\nhost: loc").await.unwrap();
    // A stream without its opening, one that nobody reads, and a body that does not come.
    let url = "ws://localhost/api/sheds/a/console";
    let (unopened, _) = tokio_tungstenite::client_async(url, door.unix().await).await.unwrap();
    let unread = door.client().exec_stream("a", &exec("exec yes")).await.unwrap();
    let mut no_body = door.unix().await;
    let head = "POST /api/sheds HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n";
    no_body.write_all(head.as_bytes()).await.unwrap();
    eventually("the connections", async || {
        let n_tasks = door.test.app.tasks().len();
        (n_tasks >= 6).then_some(())
    })
    .await;
    let took = close(&door).await;
    // One second for the body, and a little.
    assert!(took < Duration::from_secs(4), "{took:?}");
    for socket in [&mut idle, &mut silent, &mut half] {
        assert!(ends(socket).await);
    }
    drop((unopened, unread));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_file_is_removed_with_its_server() {
    let mut door = Door::start().await;
    let answered = shed_http::Listener::bind(shed_http::Listen::Unix(door.socket.clone())).await;
    assert!(matches!(answered, Err(shed_http::BindError::Answered(_))));
    let taken = shed_http::Listener::bind(shed_http::Listen::Tcp(door.address, None)).await;
    assert!(matches!(taken, Err(shed_http::BindError::InUse { .. })));
    close(&door).await;
    for serving in door.serving.drain(..) {
        serving.await.unwrap();
    }
    assert!(!door.socket.exists());
    // What a killed server left is taken over; what is no socket is not.
    drop(std::os::unix::net::UnixListener::bind(&door.socket).unwrap());
    assert!(door.socket.exists());
    let listener = shed_http::Listener::bind(shed_http::Listen::Unix(door.socket.clone())).await;
    drop(listener.unwrap());
    std::fs::remove_file(&door.socket).unwrap();
    std::fs::write(&door.socket, "mine").unwrap();
    let refused = shed_http::Listener::bind(shed_http::Listen::Unix(door.socket.clone())).await;
    assert!(matches!(refused, Err(shed_http::BindError::InUse { .. })));
    assert_eq!(std::fs::read_to_string(&door.socket).unwrap(), "mine");
}
