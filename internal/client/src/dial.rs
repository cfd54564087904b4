//! The three byte pipes to a server.

use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{Address, Client, ClientError, SshAddress};

/// How long a connection over a network may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The user of the SSH door that leads to the API.
const API_USER: &str = "_api";
/// How long ssh keeps an idle connection for the next command.
const PERSIST: &str = "ControlPersist=60";

/// Both directions of a pipe.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// How ssh is called. The user's own configuration, agent and hardware keys apply.
#[derive(Debug, Clone, Default)]
pub struct SshOptions {
    /// Pinned host keys; ssh's own known hosts when absent.
    pub known_hosts: Option<PathBuf>,
    /// Where kept connections have their sockets; without it each call connects anew.
    pub control_dir: Option<PathBuf>,
    /// More words for ssh, for tests.
    pub more: Vec<String>,
}

impl Client {
    pub(crate) async fn dial(&self) -> Result<Box<dyn Duplex>, ClientError> {
        let unreachable =
            |why: String| ClientError::Unreachable { address: self.address.to_string(), why };
        match &self.address {
            Address::Unix(path) => match UnixStream::connect(path).await {
                Ok(socket) => Ok(Box::new(socket)),
                Err(error) => Err(unreachable(socket_words(&error))),
            },
            Address::Ssh(address) => {
                Ok(Box::new(dial_ssh(address, &self.ssh).map_err(unreachable)?))
            }
            Address::Http { host, port } => {
                Ok(Box::new(dial_tcp(host, *port).await.map_err(unreachable)?))
            }
            Address::Https { host, port } => {
                let socket = dial_tcp(host, *port).await.map_err(unreachable)?;
                Ok(Box::new(dial_tls(host, socket).await.map_err(unreachable)?))
            }
        }
    }
}

fn socket_words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such socket; is shed-server running?".to_owned()
        }
        std::io::ErrorKind::ConnectionRefused => {
            "nobody answers; is shed-server running?".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => "the socket belongs to another user".to_owned(),
        _ => error.to_string(),
    }
}

async fn dial_tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let connect = TcpStream::connect((host, port));
    let connected = tokio::time::timeout(CONNECT_LIMIT, connect).await;
    let socket =
        connected.map_err(|_| "it took too long".to_owned())?.map_err(|error| error.to_string())?;
    socket.set_nodelay(true).ok();
    Ok(socket)
}

async fn dial_tls(host: &str, socket: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let name = rustls::pki_types::ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| format!("{host:?} is no name for a certificate"))?;
    let handshake = TlsConnector::from(tls_config()?).connect(name, socket);
    let made = tokio::time::timeout(CONNECT_LIMIT, handshake).await;
    made.map_err(|_| "the TLS handshake took too long".to_owned())?
        .map_err(|error| error.to_string())
}

/// The system's certificates, read once.
fn tls_config() -> Result<Arc<rustls::ClientConfig>, String> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

/// A channel of ssh's: its standard input and output.
struct SshPipe {
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: Option<tokio::process::ChildStderr>,
    heard: bool,
    _child: Child,
}

/// The words for ssh, up to the host.
fn ssh_words(address: &SshAddress, options: &SshOptions) -> Vec<String> {
    let mut words = vec!["-T".to_owned(), "-p".to_owned(), address.port.to_string()];
    let mut option = |text: String| words.extend(["-o".to_owned(), text]);
    option("BatchMode=yes".to_owned());
    option("ServerAliveInterval=15".to_owned());
    option("ServerAliveCountMax=2".to_owned());
    option("ConnectTimeout=10".to_owned());
    if let Some(file) = &options.known_hosts {
        option(format!("UserKnownHostsFile={}", file.display()));
        option("GlobalKnownHostsFile=/dev/null".to_owned());
        option("StrictHostKeyChecking=yes".to_owned());
    }
    if let Some(dir) = &options.control_dir {
        option("ControlMaster=auto".to_owned());
        // %C is a hash of host, port and user, so the path stays short.
        option(format!("ControlPath={}/%C", dir.display()));
        option(PERSIST.to_owned());
    }
    words.extend(options.more.clone());
    let user = address.user.as_deref().unwrap_or(API_USER);
    words.extend(["-l".to_owned(), user.to_owned(), "--".to_owned(), address.host.clone()]);
    words
}

fn dial_ssh(address: &SshAddress, options: &SshOptions) -> Result<SshPipe, String> {
    let mut child = Command::new("ssh")
        .args(ssh_words(address, options))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run ssh: {error}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    match (stdin, stdout) {
        (Some(stdin), Some(stdout)) => {
            Ok(SshPipe { stdin, stdout, stderr, heard: false, _child: child })
        }
        _ => Err("ssh has no pipes".to_owned()),
    }
}

impl AsyncRead for SshPipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stdout).poll_read(cx, buf);
        let ended = matches!(read, Poll::Ready(Ok(()))) && buf.filled().len() == before;
        if !ended {
            self.heard |= read.is_ready();
            return read;
        }
        // ssh ended without a byte from the server: its own words say why.
        match (self.heard, self.stderr.take()) {
            (false, Some(stderr)) => {
                let words =
                    std::thread::spawn(move || last_words(stderr)).join().unwrap_or_default();
                Poll::Ready(Err(std::io::Error::other(words)))
            }
            _ => read,
        }
    }
}

/// The last line ssh printed, with a hint where its own is none.
fn last_words(stderr: tokio::process::ChildStderr) -> String {
    let Ok(fd) = stderr.into_owned_fd() else {
        return String::new();
    };
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(fd), &mut text).ok();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.last().copied().unwrap_or("ssh ended without a word");
    if text.contains("Permission denied") {
        return format!("{last} (is your key allowed there? on the server: shed-server key add)");
    }
    last.to_owned()
}

impl AsyncWrite for SshPipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stdin).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stdin).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stdin).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssh_reads_no_option_where_a_host_belongs() {
        let address = SshAddress { user: None, host: "h".to_owned(), port: 22 };
        let options = SshOptions { known_hosts: Some("/k".into()), ..SshOptions::default() };
        let words = ssh_words(&address, &options);
        assert_eq!(words[words.len() - 4..], ["-l", "_api", "--", "h"]);
        assert!(words.contains(&"StrictHostKeyChecking=yes".to_owned()));
        assert!(!words.iter().any(|word| word.starts_with("ControlMaster")));
    }
}
