//! Read-only terminals, whose size must not become a window's size.
//!
//! tmux ignores the size of a read-only client only while another client without the flag `ignore-size` is attached to its
//! server, to whichever session. So each read-only terminal has a companion: such a client on a session of its own, which
//! ends with the last companion and is in no list of shed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use shed_api::stream::Tty;
use shed_guest::{Output, ReadStream, Stream};
use shed_link::{Program, Spawn, User};
use shed_tmux::argv;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Error;
use crate::exec::spawn::{terminal_env, tty_io};
use crate::shed::entered::Entered;

/// How long tmux may take to attach a companion.
const ATTACH_LIMIT: Duration = Duration::from_secs(10);
/// The size of one read of what a companion prints, which is dropped.
const READ_BYTES: usize = 4 << 10;

/// A companion. Dropping it detaches it.
pub(crate) struct Companion {
    _guard: DropGuard,
}

/// Attaches a companion. Returns when tmux counts it.
pub(crate) async fn companion(entered: &Entered, tty: &Tty) -> Result<Companion, Error> {
    let spawn = Spawn {
        program: Program::Argv(argv::companion()),
        env: terminal_env(Vec::new(), tty),
        locale: Vec::new(),
        directory: None,
        user: User::Dev,
        io: tty_io(tty),
        detached: None,
        worker: None,
    };
    let started = entered.link.start(spawn).await;
    let mut running = started.map_err(|error| entered.no_tmux(error.into()))?;
    let mut buffer = vec![0; READ_BYTES];
    // tmux prints to a terminal only once its client is attached.
    let first = timeout(ATTACH_LIMIT, running.output.read(&mut buffer)).await;
    let late = || Error::TimedOut("tmux did not attach the read-only terminal".to_owned());
    if first.map_err(|_| late())?.unwrap_or_default() == 0 {
        return Err(Error::Connect("tmux did not attach the read-only terminal".to_owned()));
    }
    let dropped = CancellationToken::new();
    let companion = Companion { _guard: dropped.clone().drop_guard() };
    tokio::spawn(async move {
        // Unread output would make tmux wait.
        let drop_output = async {
            while running.output.read(&mut buffer).await.is_ok_and(|n_read| n_read > 0) {}
        };
        tokio::select! {
            () = dropped.cancelled() => {}
            () = drop_output => {}
        }
        drop(running);
    });
    Ok(companion)
}

/// Keeps a companion as long as the terminal's output is held.
pub(crate) fn with_companion(running: Stream, companion: Companion) -> Stream {
    let Stream { input, output, errors, control, exit } = running;
    let output = Output::other(Box::new(ReadOnlyOutput { output, _companion: companion }));
    Stream { input, output, errors, control, exit }
}

/// The output of a read-only terminal.
struct ReadOnlyOutput {
    output: Output,
    _companion: Companion,
}

impl AsyncRead for ReadOnlyOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(context, buffer)
    }
}

impl ReadStream for ReadOnlyOutput {
    fn ready_bytes(&self) -> usize {
        self.output.ready_bytes()
    }
}
