//! `connect`, `listen` and `credential`: programs that the daemon starts as the session user, so that connections and sockets
//! belong to that user. The standard input of the first two is a socket to the server, over which they pass the connected
//! sockets. The bytes of a connection never pass through shed-init.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use shed_link::{Connected, Listened, send_blocking};

use crate::unix_path;

/// Keeps the other processes of the session user from tracing this one, and so from the sockets it shares with the server and
/// the credentials it passes on. Failing is not possible, and would not be fatal.
pub(crate) fn refuse_tracing() {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
}

/// How long a connection attempt to one address may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// `connect tcp HOST PORT` or `connect unix PATH`: connects once and sends the connected socket.
pub(crate) fn connect(kind: &str, target: &[String]) -> ExitCode {
    let control = std::io::stdin();
    let socket = match (kind, target) {
        ("tcp", [host, port]) => connect_tcp(host, port),
        ("unix", [path]) => {
            unix_path::connect(Path::new(path)).map_err(|error| format!("{path}: {error}"))
        }
        _ => Err("invalid arguments of connect; expected tcp HOST PORT or unix PATH".to_owned()),
    };
    let sent = match &socket {
        Ok(socket) => send_blocking(control.as_fd(), &Connected::Socket, &[socket.as_fd()]),
        Err(error) => send_blocking(control.as_fd(), &Connected::Refused(error.clone()), &[]),
    };
    if sent.is_ok() && socket.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn connect_tcp(host: &str, port: &str) -> Result<OwnedFd, String> {
    connect_any(host, parse_port(port)?, &resolve(host)?)
}

fn parse_port(port: &str) -> Result<u16, String> {
    port.parse().map_err(|_| format!("invalid port {port:?}; expected a number up to 65535"))
}

/// Connects to the first of a host's addresses that accepts.
fn connect_any(host: &str, port: u16, addresses: &[IpAddr]) -> Result<OwnedFd, String> {
    // The first address's error is reported: that a container has no ::1 would only distract from the refusal at 127.0.0.1.
    let mut refused = None;
    for address in addresses {
        match TcpStream::connect_timeout(&SocketAddr::new(*address, port), CONNECT_LIMIT) {
            Ok(socket) => {
                socket.set_nodelay(true).ok();
                return Ok(socket.into());
            }
            Err(error) => {
                refused.get_or_insert(format!("{host}:{port}: {error}"));
            }
        }
    }
    Err(refused.unwrap_or_else(|| format!("{host}: the host has no address")))
}

/// The addresses of a host. A static program has no name resolution, so the image's `getent` is used.
fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    if host == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()]);
    }
    // A name that begins with '-' would be taken for an option.
    if host.starts_with('-') || host.is_empty() {
        return Err(format!("invalid host name {host:?}"));
    }
    let asked = Command::new("getent").args(["ahosts", host]).output();
    let output =
        asked.map_err(|error| format!("{host}: cannot run the image's getent: {error}"))?;
    let mut addresses = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let address = line.split_whitespace().next().and_then(|word| word.parse().ok());
        addresses.extend(address.filter(|address| !addresses.contains(address)));
    }
    if addresses.is_empty() { Err(format!("{host}: no such host")) } else { Ok(addresses) }
}

/// A listening socket; the path is that of a unix socket.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// `listen tcp HOST PORT` or `listen unix PATH [private]`: sends each accepted connection until the server closes the control
/// socket. A private unix socket is in a new directory that only the user can enter. The directory is removed with it.
pub(crate) fn listen(kind: &str, target: &[String]) -> ExitCode {
    let control = std::io::stdin();
    let bound =
        match (kind, target) {
            ("tcp", [host, port]) => bind_tcp(host, port),
            ("unix", [path]) => bind_unix(Path::new(path), false),
            ("unix", [path, private]) if private == "private" => bind_unix(Path::new(path), true),
            _ => Err("invalid arguments of listen; expected tcp HOST PORT or unix PATH [private]"
                .to_owned()),
        };
    let listener = match bound {
        Ok(listener) => listener,
        Err(error) => {
            // Fails when the server has closed the socket.
            send_blocking(control.as_fd(), &Listened::Refused(error), &[]).ok();
            return ExitCode::FAILURE;
        }
    };
    accept_all(control.as_fd(), &listener);
    if let Listener::Unix(_, path) = &listener {
        std::fs::remove_file(path).ok();
        if target.len() == 2
            && let Some(dir) = path.parent()
        {
            std::fs::remove_dir(dir).ok();
        }
    }
    ExitCode::SUCCESS
}

fn bind_tcp(host: &str, port: &str) -> Result<Listener, String> {
    let port = parse_port(port)?;
    // The special names of RFC 4254, section 7.1.
    let address = match host {
        "" | "*" | "0.0.0.0" => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        "localhost" => IpAddr::from(Ipv4Addr::LOCALHOST),
        host => host.parse().map_err(|_| {
            format!("invalid address {host:?}; expected an IP address, localhost or *")
        })?,
    };
    let addresses = (address, port).to_socket_addrs().map_err(|error| error.to_string())?;
    let addresses: Vec<_> = addresses.collect();
    let bound = TcpListener::bind(addresses.as_slice());
    bound.map(Listener::Tcp).map_err(|error| format!("{host}:{port}: {error}"))
}

fn bind_unix(path: &Path, private: bool) -> Result<Listener, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if private && let Some(dir) = path.parent() {
        std::fs::DirBuilder::new().mode(0o700).create(dir).map_err(failed)?;
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    Ok(Listener::Unix(listener, path.to_owned()))
}

/// Sends accepted connections until the control socket is closed or readable.
fn accept_all(control: BorrowedFd<'_>, listener: &Listener) {
    let (fd, port) = match listener {
        Listener::Tcp(tcp) => (tcp.as_fd(), tcp.local_addr().map_or(0, |address| address.port())),
        Listener::Unix(unix, _) => (unix.as_fd(), 0),
    };
    if send_blocking(control, &Listened::Listening { port }, &[]).is_err() {
        return;
    }
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(control, PollFlags::IN),
            PollFd::from_borrowed_fd(fd, PollFlags::IN),
        ];
        if poll(&mut fds, None).is_err() {
            continue;
        }
        if !fds[0].revents().is_empty() {
            return;
        }
        let accepted = match listener {
            Listener::Tcp(tcp) => tcp.accept().map(|(socket, peer)| {
                socket.set_nodelay(true).ok();
                (OwnedFd::from(socket), peer.ip().to_string(), peer.port())
            }),
            Listener::Unix(unix, _) => {
                unix.accept().map(|(socket, _)| (OwnedFd::from(socket), String::new(), 0))
            }
        };
        // Fails when the peer has closed the connection in between.
        let Ok((socket, host, port)) = accepted else {
            continue;
        };
        if send_blocking(control, &Listened::Accepted { host, port }, &[socket.as_fd()]).is_err() {
            return;
        }
    }
}

/// `credential SOCKET get`: a git credential helper. Passes git's request to the client that lends a credential, and the
/// answer back to git.
pub(crate) fn credential(socket: &str) -> ExitCode {
    let relay = || -> std::io::Result<()> {
        let mut request = Vec::new();
        std::io::stdin().read_to_end(&mut request)?;
        let mut lender = UnixStream::connect(socket)?;
        lender.write_all(&request)?;
        lender.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        lender.read_to_end(&mut answer)?;
        std::io::stdout().write_all(&answer)
    };
    if relay().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_the_first_address_is_reported() {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let both = [Ipv4Addr::LOCALHOST.into(), Ipv4Addr::BROADCAST.into()];
        assert!(connect_any("localhost", port, &both).is_ok());
        drop(listener);
        let error = connect_any("localhost", port, &both).unwrap_err();
        assert!(error.contains("refused"), "{error}");
    }
}
