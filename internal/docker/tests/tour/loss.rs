//! An engine that is missing, lost, back again, or too old.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use shed_api::{Code, ShedStatus};
use shed_docker::{DockerEngine, Options};
use shed_engine::{Engine as _, EngineError};
use shed_model::shed::life::Request;
use shed_testing::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::support::{TestDocker, docker, problem, shed};

/// A socket that leads to the real engine until it is cut.
struct Proxy {
    path: PathBuf,
    /// Ends the listener and every connection of now.
    cut: Mutex<CancellationToken>,
}

impl Proxy {
    fn new(dir: &Path) -> Arc<Self> {
        let path = dir.join("engine.sock");
        Arc::new(Self { path, cut: Mutex::default() })
    }

    fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    fn cut(&self) {
        self.cut.lock().unwrap().cancel();
        std::fs::remove_file(&self.path).unwrap();
    }

    fn mend(&self) {
        let listener = UnixListener::bind(&self.path).unwrap();
        let cut = CancellationToken::new();
        *self.cut.lock().unwrap() = cut.clone();
        tokio::spawn(async move {
            let accept = async {
                loop {
                    let (near, _) = listener.accept().await.unwrap();
                    tokio::spawn(cut.clone().run_until_cancelled_owned(pass_on(near)));
                }
            };
            cut.run_until_cancelled(accept).await
        });
    }
}

async fn pass_on(mut near: UnixStream) {
    let mut far = UnixStream::connect("/var/run/docker.sock").await.unwrap();
    tokio::io::copy_bidirectional(&mut near, &mut far).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn sheds_keep_running_while_the_engine_is_away_and_reconnect() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::new(dir.path());
    proxy.mend();
    let test = TestDocker::with(|_, options| options.host = Some(proxy.host())).await;
    test.shed("a").await;
    test.shed("b").await;
    test.app.sheds().request(&test.admin, &shed("b"), Request::Stop).await.unwrap();
    proxy.cut();
    let missing = eventually("the loss", async || {
        let missing = test.app.server().health().missing.join(" ");
        missing.contains("engine.sock").then_some(missing)
    })
    .await;
    assert!(missing.contains("systemctl start docker"), "{missing}");
    // The link needs no engine.
    assert_eq!(test.sh("a", "echo still").await, "still\n");
    let refused = problem(test.app.sheds().request(&test.admin, &shed("b"), Request::Start).await);
    assert_eq!(refused.code, Code::EngineUnreachable);
    // What happens meanwhile is seen at the return.
    docker(&["kill", &test.container("a")]);
    proxy.mend();
    eventually("the return", async || test.app.server().health().ready.then_some(())).await;
    for name in ["a", "b"] {
        eventually("both run", async || {
            let now = test.app.sheds().get(&test.admin, &shed(name)).unwrap();
            (now.status == ShedStatus::Running && now.link.connected).then_some(())
        })
        .await;
        assert_eq!(test.sh(name, "echo back").await, "back\n");
    }
    // Changes are heard again.
    docker(&["kill", &test.container("a")]);
    eventually("the end of a", async || {
        let now = test.app.sheds().get(&test.admin, &shed("a")).unwrap();
        (now.status == ShedStatus::Stopped).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_without_its_engine_and_connects_later() {
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::new(dir.path());
    let test = TestDocker::with(|_, options| options.host = Some(proxy.host())).await;
    assert!(!test.app.server().health().ready);
    proxy.mend();
    eventually("the engine", async || test.app.server().health().ready.then_some(())).await;
    test.shed_of("a", "shed-test-busybox:latest").await;
}

fn engine_at(host: String) -> DockerEngine {
    DockerEngine::connect(Options { host: Some(host), ..Options::new("nobody") })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_engine_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                let body = r#"{"Version":"18.09.1","ApiVersion":"1.39"}"#;
                let head =
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
                let answer = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    let engine = engine_at(format!("unix://{}", path.display()));
    let EngineError::Unreachable(why) = engine.describe().await.unwrap_err() else {
        panic!("it is refused for something else");
    };
    assert_eq!(
        why,
        "Docker 18.09.1 has API version 1.39, but shed needs 1.41 (Docker 20.10) or newer; upgrade it"
    );
    assert!(matches!(engine.containers().await, Err(EngineError::Unreachable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_engine_is_reported() {
    let engine = engine_at("unix:///no/such/engine.sock".to_owned());
    let report = |_: String, _: Option<u8>| {};
    for error in [
        engine.describe().await.unwrap_err(),
        engine.find(&shed("a")).await.unwrap_err(),
        engine.image("x", &report).await.unwrap_err(),
        engine.start(&shed("a")).await.unwrap_err(),
        engine.disk().await.unwrap_err(),
        engine.changes().await.err().unwrap(),
    ] {
        assert!(
            matches!(&error, EngineError::Unreachable(why) if why.contains("/no/such/engine.sock")),
            "{error}"
        );
    }
    let odd = engine_at("ssh://host".to_owned()).describe().await.unwrap_err();
    assert!(odd.to_string().contains("ssh://host"), "{odd}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_engine_describes_itself() {
    let test = TestDocker::start().await;
    let words = test.engine.describe().await.unwrap();
    assert!(words.contains("(API 1."), "{words}");
}
