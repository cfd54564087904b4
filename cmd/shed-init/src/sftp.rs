//! `sftp`: the files of the box over SFTP version 3 (draft-ietf-secsh-filexfer-02 with OpenSSH's extensions), requests
//! on standard input, replies on standard output. It runs as the user, who may do here what a shell may do; nothing is
//! fenced off. File names are bytes from end to end.
//!
//! One thread, one request after the other. Replies are gathered while whole requests are at hand and written before
//! it waits for more, so a client that sends many requests at once costs few system calls.

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

/// The exit status of a client that does not speak the protocol. A lost connection is 1, the end of the input 0.
const VIOLATION: u8 = 3;

/// Gathered replies are written at the latest when there are so many bytes of them. Small replies share a write; file
/// data goes out at once, so that the client works on it while the next is read.
const FLUSH_BYTES: usize = 16 << 10;

/// Serves standard input until it ends.
pub(crate) fn main() -> ExitCode {
    let Err(ending) = serve() else {
        return ExitCode::SUCCESS;
    };
    // Standard error may have gone the way of the client.
    writeln!(std::io::stderr(), "shed-init: sftp: {ending}").ok();
    match ending {
        Ending::TooLarge { .. } | Ending::NotGreeted => ExitCode::from(VIOLATION),
        Ending::Input(_) | Ending::Output(_) => ExitCode::FAILURE,
    }
}

/// Why a session ends before its input does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// A packet over the limit; what comes after it cannot be found.
    TooLarge { n_bytes: usize },
    /// A request before the client's greeting.
    NotGreeted,
    /// Standard input failed.
    Input(Errno),
    /// Standard output failed.
    Output(Errno),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { n_bytes } => {
                write!(f, "a packet of {n_bytes} bytes is over {}", wire::MAX_PACKET_BYTES)
            }
            Self::NotGreeted => f.write_str("a request came before the greeting"),
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

/// Waits for more input and takes it; 0 is its end.
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

/// Whoever started us may have left the descriptor non-blocking.
fn wait(fd: BorrowedFd<'_>, flags: PollFlags) {
    // Ends early when interrupted; the caller asks again anyway.
    poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None).ok();
}
