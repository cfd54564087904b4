//! Connects a remote process to the local terminal or to the local standard streams.

use std::time::Duration;

use hyper::body::Bytes;
use shed_api::stream::Exit;
use shed_client::{ClientError, Frame, Input, ProcessStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::clock::span_ms;
use crate::escape::{Escape, EscapeChar};
use crate::failure::{Failure, INTERRUPTED, Outcome};
use crate::keyboard::Keyboard;
use crate::output::Out;
use crate::terminal::{self, Raw};

/// Exit status after SIGTERM: 128 + 15.
const TERMINATED: u8 = 143;
/// Exit status after SIGHUP: 128 + 1.
const HUNG_UP: u8 = 129;
/// The byte that a terminal sends for Ctrl-C.
const CTRL_C: u8 = 3;
/// The most bytes that are kept while there is no connection: what a person types, or a small paste.
const MAX_AHEAD_BYTES: usize = 4 << 10;

/// Why a stream ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The process exited.
    Exit(Exit),
    /// The server reported an error.
    Problem(Box<shed_api::Problem>),
    /// The connection was lost, and for so long before that the server may not have got what was typed.
    Lost(ClientError, Option<Duration>),
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
            Self::Lost(error, unsent) => {
                let text = lost(&error, unsent);
                Err(Failure { text, ..error.into() })
            }
            Self::Detached => Ok(0),
            Self::Signalled(status) => Ok(status),
        }
    }
}

/// Why a connection was lost, and whether what was typed may be lost with it.
pub(crate) fn lost(error: &ClientError, unsent: Option<Duration>) -> String {
    match unsent {
        None => error.to_string(),
        Some(time) => {
            let time = span_ms(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            format!("{error}; what was typed in the last {time} was possibly not sent")
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
    ///
    /// In a read-only terminal, Ctrl-B D detaches as well.
    pub(crate) fn open(escape: EscapeChar, read_only: bool) -> Result<Self, Failure> {
        let signals = Signals::listen()?;
        let (keyboard, escape) = (Keyboard::of_terminal(), Escape::new(escape, read_only));
        Ok(Self { keyboard, escape, signals, ahead: Vec::new() })
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
pub(crate) async fn in_raw_terminal(
    stream: ProcessStream,
    escape: EscapeChar,
    out: Out,
) -> Outcome {
    let raw = Raw::enter()?;
    let end = in_terminal(stream, &mut LocalTerminal::open(escape, false)?, out).await;
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
    let mut typed_at = None;
    if !ahead.is_empty() {
        typed_at = Some(Instant::now());
        input.send(std::mem::take(ahead).into()).await;
    }
    loop {
        match next_event(&mut reader, Some(keyboard), signals).await {
            // What was typed after the server was last heard may be on its way for ever.
            StreamEvent::Frame(Err(error)) => {
                let heard_at = reader.last_heard();
                let is_unsent = typed_at.is_some_and(|typed_at| typed_at > heard_at);
                return Ok(End::Lost(error, is_unsent.then(|| heard_at.elapsed())));
            }
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
                typed_at = Some(Instant::now());
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
    let mut keyboard = Keyboard::of_pipe();
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
        Err(error) => return Ok(Some(End::Lost(error, None))),
        Ok(Frame::Stdout(bytes)) => out.raw(&bytes)?,
        Ok(Frame::Stderr(bytes)) => out.raw_error(&bytes),
        Ok(Frame::Exit(exit)) => return Ok(Some(End::Exit(exit))),
        Ok(Frame::Problem(problem)) => return Ok(Some(End::Problem(problem))),
        Ok(Frame::Started | Frame::Detached(_) | Frame::Eof) => {}
    }
    Ok(None)
}
