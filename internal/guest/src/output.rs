//! Reads what a process prints, chunk by chunk.

use std::future::pending;

use tokio::io::AsyncReadExt as _;

use crate::Error;
use crate::stream::Output;

/// What is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Which of a process's outputs matters: its end is the end. The other one is read too, so that the process never waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Main {
    /// Standard output.
    Output,
    /// Standard error.
    Errors,
}

/// What a process printed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// On standard output, or on its terminal.
    Output(&'a [u8]),
    /// On standard error.
    Errors(&'a [u8]),
}

/// The outputs of a process.
#[derive(Debug)]
pub struct Chunks {
    output: Option<Output>,
    errors: Option<Output>,
    main: Main,
    buffers: [Vec<u8>; 2],
}

impl Chunks {
    /// Reads both outputs until `main` has ended.
    pub fn new(output: Output, errors: Option<Output>, main: Main) -> Self {
        Self { output: Some(output), errors, main, buffers: [vec![0; READ_BYTES], Vec::new()] }
    }

    /// Waits for what is printed next; `None` at the end of the main output. Safe to drop and call again.
    pub async fn next(&mut self) -> Option<Chunk<'_>> {
        if self.errors.is_some() {
            self.buffers[1].resize(READ_BYTES, 0);
        }
        let [output_buffer, errors_buffer] = &mut self.buffers;
        loop {
            let (from, n_read) = tokio::select! {
                n_read = read(self.output.as_mut(), output_buffer) => (Main::Output, n_read),
                n_read = read(self.errors.as_mut(), errors_buffer) => (Main::Errors, n_read),
            };
            match (from, n_read) {
                (from, 0) if from == self.main => return None,
                (Main::Output, 0) => self.output = None,
                (Main::Errors, 0) => self.errors = None,
                (Main::Output, n_read) => return Some(Chunk::Output(&output_buffer[..n_read])),
                (Main::Errors, n_read) => return Some(Chunk::Errors(&errors_buffer[..n_read])),
            }
        }
    }

    /// Whether something of the main output can be read without waiting.
    pub fn is_ready(&self) -> bool {
        let main = match self.main {
            Main::Output => self.output.as_ref(),
            Main::Errors => self.errors.as_ref(),
        };
        main.is_some_and(|output| output.ready_bytes() > 0)
    }

    /// Collects the main output to its end, and drops the other one.
    pub async fn collect(mut self, limit_bytes: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let main = self.main;
        while let Some(chunk) = self.next().await {
            match (chunk, main) {
                (Chunk::Output(more), Main::Output) | (Chunk::Errors(more), Main::Errors) => {
                    bytes.extend(more);
                }
                (Chunk::Output(_) | Chunk::Errors(_), _) => {}
            }
            if bytes.len() > limit_bytes {
                let text = format!("the program printed more than {limit_bytes} bytes");
                return Err(Error::TooLarge(text));
            }
        }
        Ok(bytes)
    }
}

async fn read(output: Option<&mut Output>, buffer: &mut [u8]) -> usize {
    match output {
        // An output that fails has ended.
        Some(output) => output.read(buffer).await.unwrap_or(0),
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::unix::pipe_pair;

    #[tokio::test]
    async fn output_is_collected_beside_errors_that_fill_their_pipe() {
        let ((mut out, output), (mut err, errors)) = (pipe_pair().unwrap(), pipe_pair().unwrap());
        let printing = async move {
            // More than a pipe holds: the process would wait if nobody read it.
            err.write_all(&vec![b'e'; 300 << 10]).await.unwrap();
            out.write_all(b"answer").await.unwrap();
        };
        let chunks = Chunks::new(output, Some(errors), Main::Output);
        let (collected, ()) = tokio::join!(chunks.collect(100), printing);
        assert_eq!(collected.unwrap(), b"answer");
    }

    #[tokio::test]
    async fn output_over_its_limit_is_an_error() {
        let (mut out, output) = pipe_pair().unwrap();
        out.write_all(b"too long").await.unwrap();
        let chunks = Chunks::new(output, None, Main::Output);
        assert!(matches!(chunks.collect(3).await, Err(Error::TooLarge(_))));
    }

    #[tokio::test]
    async fn unread_bytes_are_counted() {
        let (mut out, output) = pipe_pair().unwrap();
        let mut chunks = Chunks::new(output, None, Main::Output);
        assert!(!chunks.is_ready());
        out.write_all(b"x").await.unwrap();
        assert!(chunks.is_ready());
        assert_eq!(chunks.next().await, Some(Chunk::Output(b"x")));
        assert!(!chunks.is_ready());
        drop(out);
        assert_eq!(chunks.next().await, None);
    }
}
