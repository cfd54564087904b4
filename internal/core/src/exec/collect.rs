//! Collecting the output of a command that is run to its end.

use std::time::Duration;

use shed_api::stream::{ExecResult, Exit};

use crate::Error;
use crate::exec::OUTPUT_WAIT;
use shed_guest::{Output, Stream};
use tokio::io::AsyncReadExt as _;

/// The most output of each kind that `POST …/exec` returns.
const MAX_RESULT_BYTES: usize = 8 << 20;
/// Between TERM and KILL at the end of that time.
const TERM_LIMIT: Duration = Duration::from_secs(2);

/// Collects what a command prints until its end. An error if it was ended at the limit; `None` if the shed went away.
pub(crate) async fn collect(
    running: &mut Stream,
    limit: Duration,
) -> Option<Result<ExecResult, Error>> {
    let deadline = tokio::time::sleep(limit);
    tokio::pin!(deadline);
    let (mut stdout, mut stderr) = (Collected::default(), Collected::default());
    let mut late = false;
    let mut drained = None;
    let mut exit = None;
    loop {
        // On a busy machine this time can pass before the command's own output is read.
        let unread = stdout.unread > 0 || stderr.unread > 0;
        let drain_limit = async {
            match drained {
                Some(at) if !unread => tokio::time::sleep_until(at).await,
                Some(_) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stdout.read(Some(&mut running.output)) => {}
            () = stderr.read(running.errors.as_mut()) => {}
            ended = running.exit.wait(), if exit.is_none() => {
                exit = Some(ended?);
                stdout.unread = running.output.ready_bytes();
                stderr.unread = running.errors.as_ref().map_or(0, Output::ready_bytes);
                drained = Some(tokio::time::Instant::now() + OUTPUT_WAIT);
            }
            () = drain_limit => break,
            () = &mut deadline, if exit.is_none() => {
                running.control.signal(if late { 9 } else { 15 });
                late = true;
                deadline.as_mut().reset(tokio::time::Instant::now() + TERM_LIMIT);
            }
        }
        let no_errors = stderr.ended || running.errors.is_none();
        if exit.is_some() && stdout.ended && no_errors {
            break;
        }
    }
    if late {
        let text =
            format!("the command did not end within {} seconds and was ended", limit.as_secs_f64());
        return Some(Err(Error::TimedOut(text)));
    }
    let exit = exit?;
    let truncated = stdout.cut || stderr.cut;
    let ((stdout, stdout_base64), (stderr, stderr_base64)) = (stdout.text(), stderr.text());
    let status = exit.shell_status();
    let signal = match exit {
        Exit::Code(_) => None,
        Exit::Signal(name) => Some(name),
    };
    Some(Ok(ExecResult {
        exit: status,
        signal,
        stdout,
        stderr,
        stdout_base64,
        stderr_base64,
        truncated,
    }))
}

/// Output up to a limit. The rest is read and dropped, so that the command can end.
#[derive(Default)]
struct Collected {
    bytes: Vec<u8>,
    ended: bool,
    cut: bool,
    /// Bytes that were in the pipe at the command's end and are not read yet.
    unread: usize,
}

impl Collected {
    async fn read(&mut self, output: Option<&mut Output>) {
        let Some(output) = output.filter(|_| !self.ended) else {
            return std::future::pending().await;
        };
        let mut buffer = vec![0; 64 << 10];
        match output.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                self.ended = true;
                self.unread = 0;
            }
            Ok(n_read) => {
                self.unread = self.unread.saturating_sub(n_read);
                let room = MAX_RESULT_BYTES - self.bytes.len();
                self.cut |= n_read > room;
                self.bytes.extend(&buffer[..n_read.min(room)]);
            }
        }
    }

    fn text(self) -> (String, Option<String>) {
        use base64::Engine as _;
        match String::from_utf8(self.bytes) {
            Ok(text) => (text, None),
            Err(error) => {
                let bytes = error.as_bytes();
                let exact = base64::engine::general_purpose::STANDARD.encode(bytes);
                (String::from_utf8_lossy(bytes).into_owned(), Some(exact))
            }
        }
    }
}
