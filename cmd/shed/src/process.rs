//! Connects a remote process to the local terminal or to the local standard streams.

use std::io::Read as _;

use hyper::body::Bytes;
use shed_api::stream::Exit;
use shed_client::{ClientError, Frame, Input, ProcessStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::{Failure, INTERRUPTED, Outcome};
use crate::output::Out;
use crate::terminal::{self, Raw};

/// Size of one read from standard input.
const READ_BYTES: usize = 64 << 10;
/// Chunks of input that may wait to be sent; the reading thread blocks beyond that.
const MAX_CHUNKS: usize = 4;
/// Exit status after SIGTERM: 128 + 15.
const TERMINATED: u8 = 143;
/// Exit status after SIGHUP: 128 + 1.
const HUNG_UP: u8 = 129;
/// The byte that a terminal sends for Ctrl-C.
const CTRL_C: u8 = 3;
/// The most bytes that are kept while there is no connection: what a person types, or a small paste.
const MAX_AHEAD_BYTES: usize = 4 << 10;
/// The byte that a terminal sends for Ctrl-B, tmux's prefix key.
const CTRL_B: u8 = 2;

/// Why a stream ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The process exited.
    Exit(Exit),
    /// The server reported an error.
    Problem(Box<shed_api::Problem>),
    /// The connection was lost.
    Lost(ClientError),
    /// The user detached with `~.`, Ctrl-C or, when read-only, Ctrl-B D.
    Detached,
    /// This program got a signal; the exit status for it.
    Signalled(u8),
}

impl End {
    /// The exit status or failure of a command whose stream ended so.
    pub(crate) fn outcome(self) -> Result<u8, Failure> {
        match self {
            Self::Exit(exit) => Ok(exit.shell_status()),
            Self::Problem(problem) => Err(ClientError::Problem(problem).into()),
            Self::Lost(error) => Err(error.into()),
            Self::Detached => Ok(0),
            Self::Signalled(status) => Ok(status),
        }
    }
}

/// The first message of a stream. An error of the server becomes a failure here, before the terminal is touched.
pub(crate) async fn first_frame(stream: &mut ProcessStream) -> Result<Frame, Failure> {
    match stream.reader.next().await? {
        Frame::Problem(problem) => Err(ClientError::Problem(problem).into()),
        frame => Ok(frame),
    }
}

/// Standard input, read by its own thread: a blocking read of a terminal cannot be cancelled.
struct Keyboard {
    chunks: mpsc::Receiver<Vec<u8>>,
    ended: bool,
}

impl Keyboard {
    /// Starts the reading thread.
    fn start() -> Self {
        let (send, chunks) = mpsc::channel(MAX_CHUNKS);
        // Ends at the end of standard input or with the program.
        std::thread::spawn(move || {
            let mut buffer = vec![0; READ_BYTES];
            while let Ok(n_read) = std::io::stdin().read(&mut buffer) {
                if n_read == 0 || send.blocking_send(buffer[..n_read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { chunks, ended: false }
    }

    /// The next chunk; `None` once at the end. Never returns after that.
    async fn next(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return std::future::pending().await;
        }
        let chunk = self.chunks.recv().await;
        self.ended = chunk.is_none();
        chunk
    }
}

/// Finds the escape sequence `~.` at the beginning of a line, as ssh does; `~~` sends one `~`. In a read-only session it
/// finds Ctrl-B D as well, because no input reaches tmux.
#[derive(Debug)]
struct Escape {
    line_start: bool,
    tilde: bool,
    read_only: bool,
    ctrl_b: bool,
}

impl Default for Escape {
    fn default() -> Self {
        Self { line_start: true, tilde: false, read_only: false, ctrl_b: false }
    }
}

impl Escape {
    /// The part of `bytes` to send, and whether the user detached.
    fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            let after_prefix = std::mem::replace(&mut self.ctrl_b, *byte == CTRL_B);
            if self.read_only && after_prefix && *byte == b'd' {
                return (passed, true);
            }
            if std::mem::take(&mut self.tilde) {
                match byte {
                    b'.' => return (passed, true),
                    b'~' => passed.push(b'~'),
                    _ => passed.extend([b'~', *byte]),
                }
            } else if *byte == b'~' && self.line_start {
                self.tilde = true;
                continue;
            } else {
                passed.push(*byte);
            }
            self.line_start = matches!(byte, b'\r' | b'\n');
        }
        (passed, false)
    }
}

/// The signals that a stream handles.
struct Signals {
    resized: Signal,
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(Failure::io("cannot listen for signals"));
        Ok(Self {
            resized: on(SignalKind::window_change())?,
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }
}

/// The next thing for a stream to handle.
enum StreamEvent {
    Frame(Result<Frame, ClientError>),
    Typed(Option<Vec<u8>>),
    Resized,
    Interrupt,
    Signalled(u8),
}

/// The local side of a remote terminal: keyboard, escape sequences and signals.
pub(crate) struct LocalTerminal {
    keyboard: Keyboard,
    escape: Escape,
    signals: Signals,
    /// What was typed while there was no connection, at most [`MAX_AHEAD_BYTES`].
    ahead: Vec<u8>,
}

impl LocalTerminal {
    /// Starts to read the keyboard. The reading thread runs until the program ends, so open one per program.
    pub(crate) fn open() -> Result<Self, Failure> {
        let signals = Signals::listen()?;
        let (keyboard, escape) = (Keyboard::start(), Escape::default());
        Ok(Self { keyboard, escape, signals, ahead: Vec::new() })
    }

    /// Sets whether the remote terminal is read-only.
    pub(crate) fn read_only(mut self, read_only: bool) -> Self {
        self.escape.read_only = read_only;
        self
    }

    /// Returns when the user cancels: `~.`, Ctrl-C or a signal. Other input is kept for the next connection.
    pub(crate) async fn cancelled(&mut self) -> End {
        loop {
            tokio::select! {
                chunk = self.keyboard.next() => {
                    let Some(bytes) = chunk else {
                        return End::Detached;
                    };
                    let (passed, detached) = self.escape.filter(&bytes);
                    if detached || passed.contains(&CTRL_C) {
                        return End::Detached;
                    }
                    let room = MAX_AHEAD_BYTES.saturating_sub(self.ahead.len());
                    self.ahead.extend(passed.into_iter().take(room));
                }
                _ = self.signals.interrupt.recv() => return End::Detached,
                _ = self.signals.terminate.recv() => return End::Signalled(TERMINATED),
                _ = self.signals.hang_up.recv() => return End::Signalled(HUNG_UP),
            }
        }
    }
}

/// Switches the local terminal to raw mode and shows a remote one in it until that ends.
pub(crate) async fn in_raw_terminal(stream: ProcessStream, out: Out) -> Outcome {
    let raw = Raw::enter()?;
    let end = in_terminal(stream, &mut LocalTerminal::open()?, out).await;
    drop(raw);
    end?.outcome()
}

/// Shows a remote terminal in the local one, which is in raw mode already. Resets the terminal's modes unless the remote
/// process exited and so has done that itself.
pub(crate) async fn in_terminal(
    stream: ProcessStream,
    local: &mut LocalTerminal,
    out: Out,
) -> Result<End, Failure> {
    let end = until_end(stream, local, out).await?;
    if !matches!(end, End::Exit(_)) {
        out.raw_error(terminal::RESET.as_bytes());
    }
    Ok(end)
}

async fn until_end(
    stream: ProcessStream,
    local: &mut LocalTerminal,
    out: Out,
) -> Result<End, Failure> {
    let ProcessStream { mut reader, input } = stream;
    let LocalTerminal { keyboard, escape, signals, ahead } = local;
    if !ahead.is_empty() {
        input.send(std::mem::take(ahead).into()).await;
    }
    loop {
        match next_event(&mut reader, Some(keyboard), signals).await {
            StreamEvent::Frame(frame) => {
                if let Some(end) = show(frame, out)? {
                    return Ok(end);
                }
            }
            StreamEvent::Typed(Some(bytes)) => {
                let (passed, detached) = escape.filter(&bytes);
                if detached {
                    return Ok(End::Detached);
                }
                // A lost connection is reported by the reader.
                input.send(passed.into()).await;
            }
            StreamEvent::Typed(None) => {
                input.eof().await;
            }
            StreamEvent::Resized => {
                let (cols, rows) = terminal::size();
                input.resize(cols, rows).await;
            }
            StreamEvent::Interrupt => {
                input.send(Bytes::from_static(&[CTRL_C])).await;
            }
            StreamEvent::Signalled(status) => return Ok(End::Signalled(status)),
        }
    }
}

/// Connects a remote process to the local standard streams.
pub(crate) async fn in_pipes(
    stream: ProcessStream,
    with_input: bool,
    out: Out,
) -> Result<End, Failure> {
    let ProcessStream { mut reader, input } = stream;
    let mut signals = Signals::listen()?;
    // A separate task sends the input: output and signals are handled while the process does not read.
    let feed = with_input.then(|| tokio::spawn(feed(input.clone())));
    let mut interrupted = false;
    let end = loop {
        match next_event(&mut reader, None, &mut signals).await {
            StreamEvent::Frame(frame) => {
                if let Some(end) = show(frame, out)? {
                    break end;
                }
            }
            StreamEvent::Interrupt if interrupted => break End::Signalled(INTERRUPTED),
            StreamEvent::Interrupt => {
                interrupted = true;
                input.signal("INT").await;
            }
            StreamEvent::Signalled(status) => break End::Signalled(status),
            StreamEvent::Typed(_) | StreamEvent::Resized => {}
        }
    };
    if let Some(feed) = feed {
        feed.abort();
    }
    Ok(end)
}

async fn feed(input: Input) {
    let mut keyboard = Keyboard::start();
    loop {
        let Some(bytes) = keyboard.next().await else {
            input.eof().await;
            return;
        };
        if !input.send(bytes.into()).await {
            return;
        }
    }
}

async fn next_event(
    reader: &mut shed_client::StreamReader,
    keyboard: Option<&mut Keyboard>,
    signals: &mut Signals,
) -> StreamEvent {
    let typed = async {
        match keyboard {
            Some(keyboard) => keyboard.next().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        frame = reader.next() => StreamEvent::Frame(frame),
        chunk = typed => StreamEvent::Typed(chunk),
        _ = signals.resized.recv() => StreamEvent::Resized,
        _ = signals.interrupt.recv() => StreamEvent::Interrupt,
        _ = signals.terminate.recv() => StreamEvent::Signalled(TERMINATED),
        _ = signals.hang_up.recv() => StreamEvent::Signalled(HUNG_UP),
    }
}

/// Prints the output in a frame; returns the end if the frame is the last one.
fn show(frame: Result<Frame, ClientError>, out: Out) -> Result<Option<End>, Failure> {
    match frame {
        Err(error) => return Ok(Some(End::Lost(error))),
        Ok(Frame::Stdout(bytes)) => out.raw(&bytes)?,
        Ok(Frame::Stderr(bytes)) => out.raw_error(&bytes),
        Ok(Frame::Exit(exit)) => return Ok(Some(End::Exit(exit))),
        Ok(Frame::Problem(problem)) => return Ok(Some(End::Problem(problem))),
        Ok(Frame::Started | Frame::Detached(_) | Frame::Eof) => {}
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(chunks: &[&str]) -> (String, bool) {
        let mut escape = Escape::default();
        let mut passed = Vec::new();
        for chunk in chunks {
            let (some, detached) = escape.filter(chunk.as_bytes());
            passed.extend(some);
            if detached {
                return (String::from_utf8(passed).unwrap(), true);
            }
        }
        (String::from_utf8(passed).unwrap(), false)
    }

    #[test]
    fn tilde_dot_detaches_only_at_the_start_of_a_line() {
        assert_eq!(filter(&["~."]), (String::new(), true));
        assert_eq!(filter(&["ls\r", "~", "."]), ("ls\r".to_owned(), true));
        assert_eq!(filter(&["a~.b"]), ("a~.b".to_owned(), false));
        assert_eq!(filter(&["~~."]), ("~.".to_owned(), false));
        assert_eq!(filter(&["~x~."]), ("~x~.".to_owned(), false));
        assert_eq!(filter(&["cd ~/x\r~/y"]), ("cd ~/x\r~/y".to_owned(), false));
        // Ctrl-B D is tmux's own unless the session is read-only.
        assert_eq!(filter(&["\x02d"]), ("\x02d".to_owned(), false));
    }

    #[test]
    fn ctrl_b_d_detaches_when_read_only() {
        let mut escape = Escape { read_only: true, ..Escape::default() };
        assert!(!escape.filter(b"d\x02xd\x02").1);
        assert!(escape.filter(b"d").1);
    }
}
