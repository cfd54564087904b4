//! Connections into a shed and out of it.

use shed_api::Code;
use shed_core::{Bind, Target};
use shed_testing::TestApp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::support::{problem, shed};

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_a_shed_is_reached_with_half_close() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut asked = String::new();
            // Answers only after the end of the question.
            socket.read_to_string(&mut asked).await.unwrap();
            socket.write_all(format!("you said {asked}").as_bytes()).await.unwrap();
        }
    });
    for host in ["127.0.0.1", "localhost"] {
        let target = Target::Tcp(host.to_owned(), port);
        let connection = test.app.forwards().connect(&test.admin, &shed("a"), &target).await;
        let mut stream = connection.unwrap().into_stream();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "you said hello");
    }
    let closed = Target::Tcp("127.0.0.1".to_owned(), 1);
    assert_eq!(
        problem(test.app.forwards().connect(&test.admin, &shed("a"), &closed).await).code,
        Code::ConnectFailed
    );
    let hostile = Target::Tcp("-oProxyCommand=id".to_owned(), 1);
    assert_eq!(
        problem(test.app.forwards().connect(&test.admin, &shed("a"), &hostile).await).code,
        Code::InvalidRequest
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_file_in_a_shed_is_reached() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let path = test.dir().join("echo.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"hi").await.unwrap();
    });
    let target = Target::Unix(path.to_str().unwrap().to_owned());
    let mut stream =
        test.app.forwards().connect(&test.admin, &shed("a"), &target).await.unwrap().into_stream();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_in_a_shed_hands_out_connections_and_ends_when_dropped() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let bind = Bind::Tcp("localhost".to_owned(), 0);
    let mut listening = test.app.forwards().listen(&test.admin, &shed("a"), &bind).await.unwrap();
    let port = listening.port;
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (connection, host, _) = listening.accept().await.unwrap();
    assert_eq!(host, "127.0.0.1");
    connection.into_stream().write_all(b"served").await.unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "served");
    drop(listening);
    shed_testing::eventually("the end of the listener", async || {
        TcpStream::connect(("127.0.0.1", port)).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_forwarded_only_where_the_shed_allows_it() {
    let test = TestApp::start().await;
    test.shed("a").await;
    let refused = problem(test.app.forwards().listen(&test.admin, &shed("a"), &Bind::Agent).await);
    assert_eq!(refused.code, Code::Forbidden);
    let patch =
        shed_api::shed::PatchShed { allow_agent_forwarding: Some(true), ..Default::default() };
    test.app.sheds().patch(&test.admin, &shed("a"), patch).await.unwrap();
    let listening =
        test.app.forwards().listen(&test.admin, &shed("a"), &Bind::Agent).await.unwrap();
    let path = listening.path.clone().unwrap();
    assert!(std::path::Path::new(&path).exists());
    drop(listening);
    shed_testing::eventually("the end of the socket", async || {
        (!std::path::Path::new(&path).exists()).then_some(())
    })
    .await;
}
