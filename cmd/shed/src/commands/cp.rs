//! `shed cp`.

use std::path::{Path, PathBuf};

use shed_api::stream::{ExecOpen, ExecRequest, ExecSpec, Exit};
use shed_client::{Client, ClientError, Frame, ProcessStream};
use tokio::sync::mpsc;

use super::completions::sides;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

mod archive;

use archive::{pack, unpack};

/// Pieces of an archive on their way; the other side waits beyond that.
const PIECES: usize = 8;
/// What is sent at once.
const PIECE_BYTES: usize = 64 << 10;
/// Where relative paths of a shed begin.
const WORKSPACE: &str = "/workspace";
/// The most of tar's words that are kept for a failure.
const MAX_WORDS_BYTES: usize = 4 << 10;

/// Copy files and directories into a shed or out of it
///
/// One side is NAME:PATH; a relative PATH begins at /workspace. Directories are copied whole, with modes, times and links.
/// An existing directory as the target gets the source inside it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed cp data.csv web:                  into /workspace
  shed cp web:dist ./dist
  shed cp src web:/home/dev/backup/")]
pub(crate) struct Args {
    /// What: a local path, or NAME:PATH
    #[arg(add = sides())]
    from: String,
    /// Where to: a local path, or NAME:PATH
    #[arg(add = sides())]
    to: String,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Local(PathBuf),
    Shed(String, String),
}

/// `NAME:PATH` is a shed's; a path with a slash before the colon is local.
fn side(text: &str) -> Side {
    match text.split_once(':') {
        Some((name, path)) if name.parse::<shed_api::ShedName>().is_ok() => {
            let path =
                if path.starts_with('/') { path.to_owned() } else { format!("{WORKSPACE}/{path}") };
            Side::Shed(name.to_owned(), path)
        }
        _ => Side::Local(text.into()),
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    match (side(&args.from), side(&args.to)) {
        (Side::Local(from), Side::Shed(name, to)) => upload(&client, &from, &name, &to).await?,
        (Side::Shed(name, from), Side::Local(to)) => download(&client, &name, &from, &to).await?,
        (Side::Local(_), Side::Local(_)) => {
            return Err(Failure::usage("one side must be NAME:PATH").hint("shed cp --help"));
        }
        (Side::Shed(..), Side::Shed(..)) => {
            return Err(Failure::usage("one side must be local: copy out first, then in"));
        }
    }
    Ok(0)
}

/// Whether a path of a shed is a directory.
async fn is_dir(client: &Client, name: &str, path: &str) -> Result<bool, Failure> {
    let argv = ["test", "-d", path].map(str::to_owned).to_vec();
    let request = ExecRequest {
        argv,
        env: std::collections::BTreeMap::new(),
        directory: Some("/".to_owned()),
        session: None,
        root: false,
        stdin: None,
        stdin_base64: None,
        timeout: None,
    };
    Ok(client.exec(name, &request).await?.exit == 0)
}

async fn tar(
    client: &Client,
    name: &str,
    words: &[&str],
    stdin: bool,
) -> Result<ProcessStream, Failure> {
    let argv = ["tar"].iter().chain(words).map(|word| (*word).to_owned()).collect();
    let exec = ExecSpec { argv, directory: Some("/".to_owned()), ..ExecSpec::default() };
    Ok(client.exec_stream(name, &ExecOpen { exec, stdin, ..ExecOpen::default() }).await?)
}

/// Directory and last part of a path of a shed.
fn split(path: &str) -> Result<(&str, &str), Failure> {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", base)) if !base.is_empty() => Ok(("/", base)),
        Some((dir, base)) if !matches!(base, "" | "." | "..") => Ok((dir, base)),
        _ => Err(Failure::usage(format!("{path:?} does not name a file or directory"))),
    }
}

async fn upload(client: &Client, from: &Path, name: &str, to: &str) -> Result<(), Failure> {
    let whole = std::fs::canonicalize(from).map_err(Failure::io(from.display()))?;
    let own_name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
    let into = to.ends_with('/') || is_dir(client, name, to).await?;
    let (dir, base) = match (into, own_name) {
        (true, Some(own)) => (to.to_owned(), own),
        (true, None) => return Err(Failure::usage(format!("{} has no name", from.display()))),
        (false, _) => {
            let (dir, base) = split(to)?;
            (dir.to_owned(), base.to_owned())
        }
    };
    let stream = tar(client, name, &["-x", "-f", "-", "-C", &dir], true).await?;
    let (send, mut pieces) = mpsc::channel(PIECES);
    let source = from.to_owned();
    let packing = tokio::task::spawn_blocking(move || {
        pack(&source, &base, std::io::BufWriter::with_capacity(PIECE_BYTES, Pieces(send)))
    });
    let ProcessStream { mut reader, input } = stream;
    let feed = async {
        while let Some(piece) = pieces.recv().await {
            if !input.send(piece).await {
                return;
            }
        }
        input.eof().await;
    };
    let ((), end) = tokio::join!(feed, finish(&mut reader, None));
    let packed = packing.await.map_err(|error| Failure::new(error.to_string()))?;
    // tar's own failure explains a pipe that broke.
    end?;
    packed.map_err(Failure::io(from.display()))
}

/// Reads until tar's end, passing its output on. Its words explain a failure.
async fn finish(
    reader: &mut shed_client::StreamReader,
    output: Option<mpsc::Sender<hyper::body::Bytes>>,
) -> Result<(), Failure> {
    let mut words = Vec::new();
    loop {
        match reader.next().await? {
            Frame::Stdout(bytes) => {
                if let Some(output) = &output
                    && output.send(bytes).await.is_err()
                {
                    // Unpacking failed; it says why.
                    return Ok(());
                }
            }
            Frame::Stderr(bytes) => {
                let room = MAX_WORDS_BYTES.saturating_sub(words.len());
                words.extend(&bytes[..bytes.len().min(room)]);
            }
            Frame::Exit(Exit::Code(0)) => return Ok(()),
            Frame::Exit(_) => {
                let text = String::from_utf8_lossy(&words);
                let first = text.lines().next().unwrap_or("tar failed in the shed");
                return Err(Failure::new(shed_api::name::printable(first)));
            }
            Frame::Problem(problem) => return Err(ClientError::Problem(problem).into()),
            Frame::Started | Frame::Detached(_) | Frame::Eof => {}
        }
    }
}

/// Writes into a channel.
struct Pieces(mpsc::Sender<hyper::body::Bytes>);

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let piece = hyper::body::Bytes::copy_from_slice(bytes);
        self.0.blocking_send(piece).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Reads from a channel.
struct Arriving {
    pieces: mpsc::Receiver<hyper::body::Bytes>,
    piece: hyper::body::Bytes,
}

impl std::io::Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let n_bytes = self.piece.len().min(buffer.len());
        buffer[..n_bytes].copy_from_slice(&self.piece.split_to(n_bytes));
        Ok(n_bytes)
    }
}

async fn download(client: &Client, name: &str, from: &str, to: &Path) -> Result<(), Failure> {
    let (dir, base) = split(from)?;
    let into = to.is_dir();
    let (parent, new) = if into {
        (to.to_owned(), base.to_owned())
    } else {
        let parent =
            to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let new = to
            .file_name()
            .ok_or_else(|| Failure::usage(format!("{} names nothing", to.display())))?;
        (parent.to_owned(), new.to_string_lossy().into_owned())
    };
    let stream = tar(client, name, &["-c", "-f", "-", "-C", dir, "--", base], false).await?;
    let (send, pieces) = mpsc::channel(PIECES);
    let base = base.to_owned();
    let unpacking = tokio::task::spawn_blocking(move || {
        unpack(Arriving { pieces, piece: hyper::body::Bytes::new() }, &base, &parent, &new)
    });
    let mut reader = stream.reader;
    let end = finish(&mut reader, Some(send)).await;
    let unpacked = unpacking.await.map_err(|error| Failure::new(error.to_string()))?;
    end?;
    unpacked.map_err(Failure::io(to.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        assert_eq!(side("web:x"), Side::Shed("web".to_owned(), "/workspace/x".to_owned()));
        assert_eq!(side("web:"), Side::Shed("web".to_owned(), "/workspace/".to_owned()));
        assert_eq!(side("web:/etc/hosts"), Side::Shed("web".to_owned(), "/etc/hosts".to_owned()));
        assert_eq!(side("./web:x"), Side::Local("./web:x".into()));
        assert_eq!(side("dir/file"), Side::Local("dir/file".into()));
    }

    #[test]
    fn paths_split_at_their_last_part() {
        assert_eq!(split("/a/b/").ok(), Some(("/a", "b")));
        assert_eq!(split("/a").ok(), Some(("/", "a")));
        assert!(split("/").is_err() && split("/a/..").is_err());
    }
}
