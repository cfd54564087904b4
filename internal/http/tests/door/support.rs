//! A door with an App behind it, and requests as bytes, so that a test can send what no client would.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use shed_api::Scope;
use shed_api::access::NewToken;
use shed_client::{Address, Client};
use shed_core::Person;
use shed_http::{Http, Listen, Listener, Options, Tls};
use shed_testing::{TestApp, Transport};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::task::JoinHandle;

/// No answer takes longer, or the test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Both directions of a connection.
pub(crate) trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// A serving door.
pub(crate) struct Door {
    pub(crate) test: TestApp,
    pub(crate) http: Http,
    /// Of the TCP listener.
    pub(crate) address: SocketAddr,
    /// Of the unix listener.
    pub(crate) socket: PathBuf,
    pub(crate) serving: Vec<JoinHandle<()>>,
}

impl Door {
    pub(crate) async fn start() -> Self {
        Self::with(Options::default(), None).await
    }

    /// One with a running shed `a`.
    pub(crate) async fn with_shed() -> Self {
        let door = Self::start().await;
        door.test.shed("a").await;
        door
    }

    pub(crate) async fn with(options: Options, tls: Option<Tls>) -> Self {
        Self::over(TestApp::start().await, options, tls).await
    }

    /// One with a running shed `a` that the server reaches this way.
    pub(crate) async fn with_shed_on(transport: Transport) -> Self {
        let door = Self::over(TestApp::start_on(transport).await, Options::default(), None).await;
        door.test.shed("a").await;
        door
    }

    /// One with a running shed `a` and a server whose time can jump.
    pub(crate) async fn jumping_with_shed() -> Self {
        let door = Self::over(TestApp::start_jumping().await, Options::default(), None).await;
        door.test.shed("a").await;
        door
    }

    async fn over(test: TestApp, options: Options, tls: Option<Tls>) -> Self {
        let http = Http::new(test.app.clone(), options);
        let socket = test.dir().join("shed.sock");
        let unix = Listener::bind(Listen::Unix(socket.clone())).await.unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tcp = Listener::bind(Listen::Tcp(any, tls)).await.unwrap();
        let address = tcp.address().unwrap();
        let serve = |listener| tokio::spawn(http.clone().serve(listener));
        let serving = vec![serve(unix), serve(tcp)];
        Self { test, http, address, socket, serving }
    }

    /// Serves a connection of somebody another door has checked.
    pub(crate) fn served(
        &self,
        person: Person,
        pipe: tokio::io::DuplexStream,
    ) -> impl Future<Output = ()> + Send + 'static {
        let http = self.http.clone();
        async move { http.serve_person(person, Box::new(pipe)).await }
    }

    /// The typed client of the socket's owner.
    pub(crate) fn client(&self) -> Client {
        Client::new(Address::Unix(self.socket.clone()))
    }

    /// The typed client over TCP.
    pub(crate) fn client_with(&self, token: &str) -> Client {
        let address = Address::Http { host: "127.0.0.1".to_owned(), port: self.address.port() };
        Client::new(address).with_token(Some(token.to_owned()))
    }

    /// The secret of a new token, for these sheds or for all.
    pub(crate) async fn token(&self, scope: Scope, sheds: &[&str]) -> String {
        let request = NewToken {
            name: format!("{scope}-{}", sheds.join("-")),
            scope,
            sheds: sheds.iter().map(|name| (*name).to_owned()).collect(),
            expires_in_seconds: None,
        };
        self.test.app.access().add_token(&self.test.admin, request).await.unwrap().token
    }

    /// A token that was good for no time at all.
    pub(crate) async fn expired_token(&self) -> String {
        let request = NewToken {
            name: "expired".to_owned(),
            scope: Scope::Admin,
            sheds: Vec::new(),
            expires_in_seconds: Some(0),
        };
        self.test.app.access().add_token(&self.test.admin, request).await.unwrap().token
    }

    pub(crate) async fn unix(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Asks over the unix socket.
    pub(crate) async fn ask(&self, ask: Ask) -> Reply {
        ask.over(self.unix().await).await
    }

    /// Asks over TCP.
    pub(crate) async fn ask_tcp(&self, ask: Ask) -> Reply {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((ask.from, 0))).unwrap();
        ask.over(socket.connect(self.address).await.unwrap()).await
    }

    /// Asks over the unix socket for JSON and gets it.
    pub(crate) async fn json(&self, ask: Ask, status: u16) -> Value {
        let reply = self.ask(ask).await;
        assert_eq!(reply.status, status, "{}", reply.text());
        reply.json()
    }

    /// Asks over the unix socket and is refused.
    pub(crate) async fn refused(&self, ask: Ask) -> (u16, String) {
        self.ask(ask).await.problem()
    }
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    from: Ipv4Addr,
}

pub(crate) fn ask(method: &str, path: &str) -> Ask {
    let (method, path) = (method.to_owned(), path.to_owned());
    Ask { method, path, headers: Vec::new(), body: None, from: Ipv4Addr::LOCALHOST }
}

pub(crate) fn get(path: &str) -> Ask {
    ask("GET", path)
}

pub(crate) fn post(path: &str, body: &str) -> Ask {
    ask("POST", path).json(body)
}

impl Ask {
    pub(crate) fn json(mut self, body: &str) -> Self {
        self.body = Some(body.as_bytes().to_vec());
        self.header("content-type", "application/json")
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// From another address of this machine's loopback.
    pub(crate) fn from(mut self, last: u8) -> Self {
        self.from = Ipv4Addr::new(127, 0, 0, last);
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut lines = vec![format!("{} {} HTTP/1.1", self.method, self.path)];
        let has = |name: &str| self.headers.iter().any(|(own, _)| own == name);
        if !has("host") {
            lines.push("host: localhost".to_owned());
        }
        if !has("connection") {
            lines.push("connection: close".to_owned());
        }
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        lines.extend(self.body.iter().map(|body| format!("content-length: {}", body.len())));
        let mut bytes = (lines.join("\r\n") + "\r\n\r\n").into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    async fn over(self, mut pipe: impl Pipe) -> Reply {
        // A server that refuses early may not read the rest.
        pipe.write_all(&self.bytes()).await.ok();
        if self.method == "HEAD" {
            // It tells the length of a body that does not follow.
            return read_in_time(try_head(&mut pipe)).await;
        }
        reply(&mut pipe).await
    }
}

/// An answer, whole but for event streams and upgrades.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and code of a refusal, which has everything a refusal has.
    pub(crate) fn problem(&self) -> (u16, String) {
        let kind = self.header("content-type");
        assert_eq!(kind, Some("application/problem+json"), "{}: {}", self.status, self.text());
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        assert_eq!(problem["status"], self.status);
        assert_eq!(self.header("x-request-id"), Some(text("request_id").as_str()));
        assert_eq!(text("type"), format!("/api/docs#{}", text("code")));
        assert!(!text("title").is_empty() && !text("detail").is_empty(), "{problem}");
        // Words for people, not our types.
        assert!(!text("detail").contains("Name(") && !text("detail").contains("Id("), "{problem}");
        (self.status, text("code"))
    }
}

/// Reads one answer.
pub(crate) async fn reply(pipe: &mut (impl AsyncRead + Unpin)) -> Reply {
    read_in_time(try_reply(pipe)).await
}

async fn read_in_time(reading: impl Future<Output = Option<Reply>>) -> Reply {
    let reply = tokio::time::timeout(LIMIT, reading).await.expect("an answer in time");
    reply.expect("a whole answer")
}

/// Reads one answer; `None` if the connection ends before it does.
pub(crate) async fn try_reply(pipe: &mut (impl AsyncRead + Unpin)) -> Option<Reply> {
    let mut reply = try_head(pipe).await?;
    assert_eq!(reply.header("transfer-encoding").is_some(), reply.is_stream());
    if let Some(length) = reply.header("content-length") {
        reply.body.resize(length.parse().unwrap(), 0);
        pipe.read_exact(&mut reply.body).await.ok()?;
    }
    Some(reply)
}

async fn try_head(pipe: &mut (impl AsyncRead + Unpin)) -> Option<Reply> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(pipe.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    };
    Some(Reply { status, headers: lines.map(header).collect(), body: Vec::new() })
}

impl Reply {
    pub(crate) fn is_stream(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }
}

/// Whether the other side has closed; what it still sends is read away.
pub(crate) async fn ends(pipe: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, pipe.read_to_end(&mut rest)).await.is_ok()
}

/// A new session's request body.
pub(crate) fn session_body(name: &str, command: &[&str]) -> String {
    serde_json::json!({ "name": name, "command": command }).to_string()
}
