//! A remote process in the local terminal, or between local pipes.

use std::io::Read as _;

use hyper::body::Bytes;
use shed_api::stream::Exit;
use shed_client::{ClientError, Frame, Input, ProcessStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::output::Out;
use crate::terminal;

/// What is read from standard input at once.
const READ_BYTES: usize = 64 << 10;
/// Pieces of input that wait to be sent; the reading thread waits beyond that.
const PIECES: usize = 4;
/// The exit status of somebody who pressed Ctrl-C twice.
const INTERRUPTED: u8 = 130;
/// The exit status of one that was told to end, by SIGTERM.
const TERMINATED: u8 = 143;
/// The exit status of one whose terminal went away, by SIGHUP.
const HUNG_UP: u8 = 129;
/// What a terminal sends for Ctrl-C.
const CTRL_C: u8 = 3;
/// What a terminal sends for Ctrl-B, tmux's prefix.
const CTRL_B: u8 = 2;

/// How a stream ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The process ended.
    Exit(Exit),
    /// The server said why it cannot go on.
    Problem(Box<shed_api::Problem>),
    /// The connection broke.
    Lost(ClientError),
    /// The person typed `~.`.
    Escaped,
    /// A signal ended this program.
    Ended(u8),
}

impl End {
    /// The exit status of a command that ended so, or its failure.
    pub(crate) fn outcome(self) -> Result<u8, Failure> {
        match self {
            Self::Exit(exit) => Ok(exit.shell_status()),
            Self::Problem(problem) => Err(ClientError::Problem(problem).into()),
            Self::Lost(error) => Err(error.into()),
            Self::Escaped => Ok(0),
            Self::Ended(status) => Ok(status),
        }
    }
}

/// Standard input, read by a thread of its own: a read of a terminal cannot be called off.
struct Keyboard {
    pieces: mpsc::Receiver<Vec<u8>>,
    ended: bool,
}

impl Keyboard {
    /// Begins to read.
    fn start() -> Self {
        let (send, pieces) = mpsc::channel(PIECES);
        // Ends with standard input or with the program.
        std::thread::spawn(move || {
            let mut buffer = vec![0; READ_BYTES];
            while let Ok(n_read) = std::io::stdin().read(&mut buffer) {
                if n_read == 0 || send.blocking_send(buffer[..n_read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { pieces, ended: false }
    }

    /// The next piece; `None` at the end, once. Waits for ever after that.
    async fn next(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return std::future::pending().await;
        }
        let piece = self.pieces.recv().await;
        self.ended = piece.is_none();
        piece
    }
}

/// Finds `~.` at the beginning of a line, as ssh does. `~~` is one `~`. For somebody who only looks Ctrl-B D as well:
/// nothing they type gets to tmux.
#[derive(Debug)]
struct Escape {
    line_start: bool,
    tilde: bool,
    looks: bool,
    ctrl_b: bool,
}

impl Default for Escape {
    fn default() -> Self {
        Self { line_start: true, tilde: false, looks: false, ctrl_b: false }
    }
}

impl Escape {
    /// What to pass on of `bytes`, and whether `~.` was in it.
    fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(bytes.len() + 1);
        for byte in bytes {
            let after_prefix = std::mem::replace(&mut self.ctrl_b, *byte == CTRL_B);
            if self.looks && after_prefix && *byte == b'd' {
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

/// Signals that mean something to a stream.
struct Signals {
    resized: Signal,
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let on = |kind| signal(kind).map_err(Failure::io("signals"));
        Ok(Self {
            resized: on(SignalKind::window_change())?,
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }
}

/// What happens next.
enum Turn {
    Frame(Result<Frame, ClientError>),
    Typed(Option<Vec<u8>>),
    Resized,
    Interrupt,
    Ended(u8),
}

/// The local side of a remote terminal: what is typed, what of it is meant for us, and signals.
pub(crate) struct Seat {
    keyboard: Keyboard,
    escape: Escape,
    signals: Signals,
}

impl Seat {
    /// Takes the keyboard, for as long as the program runs.
    pub(crate) fn take() -> Result<Self, Failure> {
        let signals = Signals::listen()?;
        Ok(Self { keyboard: Keyboard::start(), escape: Escape::default(), signals })
    }

    /// The same for somebody who only looks, or may do more.
    pub(crate) fn looking(mut self, looks: bool) -> Self {
        self.escape.looks = looks;
        self
    }

    /// Returns when the person gives up: `~.`, Ctrl-C or a signal. Anything else typed meanwhile is for nobody.
    pub(crate) async fn give_up(&mut self) -> End {
        loop {
            tokio::select! {
                piece = self.keyboard.next() => {
                    let Some(bytes) = piece else {
                        return End::Escaped;
                    };
                    let (passed, escaped) = self.escape.filter(&bytes);
                    if escaped || passed.contains(&CTRL_C) {
                        return End::Escaped;
                    }
                }
                _ = self.signals.interrupt.recv() => return End::Escaped,
                _ = self.signals.terminate.recv() => return End::Ended(TERMINATED),
                _ = self.signals.hang_up.recv() => return End::Ended(HUNG_UP),
            }
        }
    }
}

/// Shows a remote terminal in the local one, which is raw already, and cleans up if the remote one could not.
pub(crate) async fn in_terminal(
    stream: ProcessStream,
    seat: &mut Seat,
    out: Out,
) -> Result<End, Failure> {
    let end = until_end(stream, seat, out).await?;
    if !matches!(end, End::Exit(_)) {
        out.raw_error(terminal::RESET.as_bytes());
    }
    Ok(end)
}

async fn until_end(stream: ProcessStream, seat: &mut Seat, out: Out) -> Result<End, Failure> {
    let ProcessStream { mut reader, input } = stream;
    let Seat { keyboard, escape, signals } = seat;
    loop {
        match turn(&mut reader, Some(keyboard), signals).await {
            Turn::Frame(frame) => {
                if let Some(end) = show(frame, out)? {
                    return Ok(end);
                }
            }
            Turn::Typed(Some(bytes)) => {
                let (passed, escaped) = escape.filter(&bytes);
                if escaped {
                    return Ok(End::Escaped);
                }
                // A connection that is gone is told by the reader.
                input.send(passed.into()).await;
            }
            Turn::Typed(None) => {
                input.eof().await;
            }
            Turn::Resized => {
                let (cols, rows) = terminal::size();
                input.resize(cols, rows).await;
            }
            Turn::Interrupt => {
                input.send(Bytes::from_static(&[CTRL_C])).await;
            }
            Turn::Ended(status) => return Ok(End::Ended(status)),
        }
    }
}

/// Runs a remote process between the local pipes.
pub(crate) async fn in_pipes(
    stream: ProcessStream,
    with_input: bool,
    out: Out,
) -> Result<End, Failure> {
    let ProcessStream { mut reader, input } = stream;
    let mut signals = Signals::listen()?;
    // Input is sent by a task of its own: while the process does not take it, output and signals go on.
    let feed = with_input.then(|| tokio::spawn(feed(input.clone())));
    let mut interrupted = false;
    let end = loop {
        match turn(&mut reader, None, &mut signals).await {
            Turn::Frame(frame) => {
                if let Some(end) = show(frame, out)? {
                    break end;
                }
            }
            Turn::Interrupt if interrupted => break End::Ended(INTERRUPTED),
            Turn::Interrupt => {
                interrupted = true;
                input.signal("INT").await;
            }
            Turn::Ended(status) => break End::Ended(status),
            Turn::Typed(_) | Turn::Resized => {}
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

async fn turn(
    reader: &mut shed_client::StreamReader,
    keyboard: Option<&mut Keyboard>,
    signals: &mut Signals,
) -> Turn {
    let typed = async {
        match keyboard {
            Some(keyboard) => keyboard.next().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        frame = reader.next() => Turn::Frame(frame),
        piece = typed => Turn::Typed(piece),
        _ = signals.resized.recv() => Turn::Resized,
        _ = signals.interrupt.recv() => Turn::Interrupt,
        _ = signals.terminate.recv() => Turn::Ended(TERMINATED),
        _ = signals.hang_up.recv() => Turn::Ended(HUNG_UP),
    }
}

/// Prints what came; the end if it was that.
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

    fn filter(pieces: &[&str]) -> (String, bool) {
        let mut escape = Escape::default();
        let mut passed = Vec::new();
        for piece in pieces {
            let (some, escaped) = escape.filter(piece.as_bytes());
            passed.extend(some);
            if escaped {
                return (String::from_utf8(passed).unwrap(), true);
            }
        }
        (String::from_utf8(passed).unwrap(), false)
    }

    #[test]
    fn tilde_dot_ends_only_at_the_start_of_a_line() {
        assert_eq!(filter(&["~."]), (String::new(), true));
        assert_eq!(filter(&["ls\r", "~", "."]), ("ls\r".to_owned(), true));
        assert_eq!(filter(&["a~.b"]), ("a~.b".to_owned(), false));
        assert_eq!(filter(&["~~."]), ("~.".to_owned(), false));
        assert_eq!(filter(&["~x~."]), ("~x~.".to_owned(), false));
        assert_eq!(filter(&["cd ~/x\r~/y"]), ("cd ~/x\r~/y".to_owned(), false));
        // tmux hears what is tmux's.
        assert_eq!(filter(&["\x02d"]), ("\x02d".to_owned(), false));
    }

    #[test]
    fn one_who_looks_leaves_with_ctrl_b_d() {
        let mut escape = Escape { looks: true, ..Escape::default() };
        assert!(!escape.filter(b"d\x02xd\x02").1);
        assert!(escape.filter(b"d").1);
    }
}
