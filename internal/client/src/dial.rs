//! Connections to a server: unix socket, TCP with or without TLS, and ssh.

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

/// How long connecting and the TLS handshake may take, each.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// SSH user that gives access to the API.
const API_USER: &str = "_api";
/// How long ssh keeps an idle shared connection, in seconds.
const PERSIST: &str = "ControlPersist=60";

/// A connection: bytes in both directions.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Options for calling ssh. The user's ssh configuration, agent and hardware keys apply as well.
#[derive(Debug, Clone, Default)]
pub struct SshOptions {
    /// File with pinned host keys; ssh's own known hosts when absent.
    pub known_hosts: Option<PathBuf>,
    /// Directory for the sockets of shared connections; without it each call opens a new connection.
    pub control_dir: Option<PathBuf>,
    /// Additional arguments for ssh, for tests.
    pub more: Vec<String>,
}

impl Client {
    /// Opens a connection to the server.
    pub(crate) async fn dial(&self) -> Result<Box<dyn Duplex>, ClientError> {
        let unreachable =
            |why: String| ClientError::Unreachable { address: self.address.to_string(), why };
        match &self.address {
            Address::Unix(path) => match UnixStream::connect(path).await {
                Ok(socket) => Ok(Box::new(socket)),
                Err(error) => Err(unreachable(socket_error(&error))),
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

/// Why a unix socket cannot be opened.
fn socket_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "the socket does not exist; is shed-server running?".to_owned()
        }
        std::io::ErrorKind::ConnectionRefused => {
            "connection refused; is shed-server running?".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => "the socket belongs to another user".to_owned(),
        _ => error.to_string(),
    }
}

async fn dial_tcp(host: &str, port: u16) -> Result<TcpStream, String> {
    let connect = TcpStream::connect((host, port));
    let connected = tokio::time::timeout(CONNECT_LIMIT, connect).await;
    let socket =
        connected.map_err(|_| "timed out".to_owned())?.map_err(|error| error.to_string())?;
    socket.set_nodelay(true).ok();
    Ok(socket)
}

async fn dial_tls(host: &str, socket: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let name = rustls::pki_types::ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| format!("invalid host name {host:?} for TLS"))?;
    let handshake = TlsConnector::from(tls_config()?).connect(name, socket);
    let made = tokio::time::timeout(CONNECT_LIMIT, handshake).await;
    made.map_err(|_| "TLS handshake timed out".to_owned())?.map_err(|error| error.to_string())
}

/// TLS configuration with the system's root certificates, read once.
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

/// Standard input and output of an ssh process.
struct SshPipe {
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: Option<tokio::process::ChildStderr>,
    /// Whether the server has sent anything.
    has_answered: bool,
    _child: Child,
}

/// Arguments for ssh, up to the host.
fn ssh_args(address: &SshAddress, options: &SshOptions) -> Vec<String> {
    let mut args = vec!["-T".to_owned(), "-p".to_owned(), address.port.to_string()];
    let mut option = |text: String| args.extend(["-o".to_owned(), text]);
    option("BatchMode=yes".to_owned());
    // A dead connection is noticed within 15 seconds, also by the commands that share it.
    option("ServerAliveInterval=5".to_owned());
    option("ServerAliveCountMax=2".to_owned());
    option("ConnectTimeout=10".to_owned());
    if let Some(file) = &options.known_hosts {
        option(format!("UserKnownHostsFile={}", file.display()));
        option("GlobalKnownHostsFile=/dev/null".to_owned());
        option("StrictHostKeyChecking=yes".to_owned());
    }
    if let Some(dir) = &options.control_dir {
        option("ControlMaster=auto".to_owned());
        // %C is a hash of host, port and user, which keeps the path short.
        option(format!("ControlPath={}/%C", dir.display()));
        option(PERSIST.to_owned());
    }
    args.extend(options.more.clone());
    let user = address.user.as_deref().unwrap_or(API_USER);
    args.extend(["-l".to_owned(), user.to_owned(), "--".to_owned(), address.host.clone()]);
    args
}

fn dial_ssh(address: &SshAddress, options: &SshOptions) -> Result<SshPipe, String> {
    let mut child = Command::new("ssh")
        .args(ssh_args(address, options))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run ssh: {error}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    match (stdin, stdout) {
        (Some(stdin), Some(stdout)) => {
            Ok(SshPipe { stdin, stdout, stderr, has_answered: false, _child: child })
        }
        _ => Err("cannot open pipes to ssh".to_owned()),
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
            self.has_answered |= read.is_ready();
            return read;
        }
        // ssh exited before the server sent anything: its error output says why.
        match (self.has_answered, self.stderr.take()) {
            (false, Some(stderr)) => {
                let why = std::thread::spawn(move || ssh_error(stderr)).join().unwrap_or_default();
                Poll::Ready(Err(std::io::Error::other(why)))
            }
            _ => read,
        }
    }
}

/// The last line of ssh's error output, with a hint for a refused key.
fn ssh_error(stderr: tokio::process::ChildStderr) -> String {
    let Ok(fd) = stderr.into_owned_fd() else {
        return String::new();
    };
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(fd), &mut text).ok();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.last().copied().unwrap_or("ssh exited without a message");
    if text.contains("Permission denied") {
        return format!("{last} (to allow your key, on the server: shed-server key add)");
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
    fn the_host_follows_the_end_of_options() {
        let address = SshAddress { user: None, host: "h".to_owned(), port: 22 };
        let options = SshOptions { known_hosts: Some("/k".into()), ..SshOptions::default() };
        let args = ssh_args(&address, &options);
        assert_eq!(args[args.len() - 4..], ["-l", "_api", "--", "h"]);
        assert!(args.contains(&"StrictHostKeyChecking=yes".to_owned()));
        assert!(!args.iter().any(|arg| arg.starts_with("ControlMaster")));
    }
}
