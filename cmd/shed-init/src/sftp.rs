//! `sftp`: an SFTP server for the files of the container (version 3, draft-ietf-secsh-filexfer-02, with OpenSSH's
//! extensions). It reads requests from standard input and writes replies to standard output. It runs as the session user and
//! has the same access to files as the user's shell. File names are bytes throughout.
//!
//! It has one thread and handles one request after the other. Replies are collected while complete requests are buffered, and
//! written before it waits for more, so that many requests at once need few system calls.

mod accounts;
mod attributes;
mod extend;
mod handles;
mod input;
mod listing;
mod paths;
mod reply;
mod session;
mod wire;

use std::fmt;
use std::io::Write as _;
use std::os::fd::BorrowedFd;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use input::Input;
use reply::Replies;
use session::Session;

/// The exit status after a protocol violation. It is 1 after a lost connection and 0 at the end of the input.
const VIOLATION: u8 = 3;

/// Replies are written at the latest when this many bytes are collected. Small replies share a write; file data is sent
/// immediately, so that the client processes it while the next block is read.
const FLUSH_BYTES: usize = 16 << 10;

/// Serves requests until standard input ends.
pub(crate) fn main() -> ExitCode {
    let Err(ending) = serve() else {
        return ExitCode::SUCCESS;
    };
    // Standard error may be closed together with the client's connection.
    writeln!(std::io::stderr(), "shed-init: sftp: {ending}").ok();
    match ending {
        Ending::TooLarge { .. } | Ending::NoInit => ExitCode::from(VIOLATION),
        Ending::Input(_) | Ending::Output(_) => ExitCode::FAILURE,
    }
}

/// Why a session ends before its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// A packet exceeds the limit; the following packets cannot be found.
    TooLarge { n_bytes: usize },
    /// A request before the client's INIT packet.
    NoInit,
    /// Standard input failed.
    Input(Errno),
    /// Standard output failed.
    Output(Errno),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { n_bytes } => {
                write!(
                    f,
                    "a packet of {n_bytes} bytes exceeds the limit of {}",
                    wire::MAX_PACKET_BYTES
                )
            }
            Self::NoInit => f.write_str("received a request before the INIT packet"),
            Self::Input(error) => write!(f, "cannot read requests: {error}"),
            Self::Output(error) => write!(f, "cannot write replies: {error}"),
        }
    }
}

fn serve() -> Result<(), Ending> {
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let mut input = Input::new();
    let mut replies = Replies::new();
    let mut session = Session::new();
    loop {
        if let Some(packet) = input.packet()? {
            session.answer(packet, &mut replies)?;
            if replies.bytes().len() >= FLUSH_BYTES {
                flush(stdout, &mut replies)?;
            }
        } else {
            flush(stdout, &mut replies)?;
            if fill(stdin, &mut input)? == 0 {
                return Ok(());
            }
        }
    }
}

/// Waits for more input and reads it; 0 is the end.
fn fill(stdin: BorrowedFd<'_>, input: &mut Input) -> Result<usize, Ending> {
    loop {
        match rustix::io::read(stdin, input.room()) {
            Ok(n_read) => {
                input.add(n_read);
                return Ok(n_read);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(stdin, PollFlags::IN),
            Err(error) => return Err(Ending::Input(error)),
        }
    }
}

fn flush(stdout: BorrowedFd<'_>, replies: &mut Replies) -> Result<(), Ending> {
    let mut left = replies.bytes();
    while !left.is_empty() {
        match rustix::io::write(stdout, left) {
            Ok(0) => return Err(Ending::Output(Errno::PIPE)),
            Ok(n_written) => left = &left[n_written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(stdout, PollFlags::OUT),
            Err(error) => return Err(Ending::Output(error)),
        }
    }
    replies.clear();
    Ok(())
}

/// Waits for a descriptor that our parent has left non-blocking.
fn wait(fd: BorrowedFd<'_>, flags: PollFlags) {
    // May end early when interrupted; the caller tries again anyway.
    poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None).ok();
}
