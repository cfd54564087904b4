//! `shed cp`.

use std::path::{Path, PathBuf};

use shed_api::stream::{ExecOpen, ExecRequest, ExecResult, ExecSpec, Exit};
use shed_client::{Client, ClientError, Frame, ProcessStream};
use tokio::sync::mpsc;

use crate::candidates::copy_paths;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

mod archive;

use archive::{pack, unpack};

/// Chunks of an archive that may wait to be sent; the producer blocks beyond that.
const MAX_CHUNKS: usize = 8;
/// Size of a chunk.
const CHUNK_BYTES: usize = 64 << 10;
/// Directory that relative paths of a shed refer to.
const WORKSPACE: &str = "/workspace";
/// How much of tar's error output is kept for the error message.
const MAX_STDERR_BYTES: usize = 4 << 10;

/// Copy files and directories to and from a shed
///
/// Either FROM or TO is NAME:PATH; a relative PATH refers to /workspace. Copies directories recursively, with modes, times
/// and links. If TO is an existing directory, the copy is created inside it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed cp data.csv web:                  copy to /workspace
  shed cp web:dist ./dist
  shed cp src web:/home/dev/backup/")]
pub(crate) struct Args {
    /// Source: a local path or NAME:PATH
    #[arg(add = copy_paths())]
    from: String,
    /// Target: a local path or NAME:PATH
    #[arg(add = copy_paths())]
    to: String,
}

/// Source or target of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    /// A path on this machine.
    Local(PathBuf),
    /// Name of a shed, and an absolute path in it.
    Shed(String, String),
}

/// Parses `NAME:PATH`, or a local path: anything whose text before the first colon is not a shed name.
fn location(text: &str) -> Location {
    match text.split_once(':') {
        Some((name, path)) if name.parse::<shed_api::ShedName>().is_ok() => {
            let path =
                if path.starts_with('/') { path.to_owned() } else { format!("{WORKSPACE}/{path}") };
            Location::Shed(name.to_owned(), path)
        }
        _ => Location::Local(text.into()),
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    match (location(&args.from), location(&args.to)) {
        (Location::Local(from), Location::Shed(name, to)) => {
            upload(&client, &from, &name, &to).await?;
        }
        (Location::Shed(name, from), Location::Local(to)) => {
            download(&client, &name, &from, &to).await?;
        }
        (Location::Local(_), Location::Local(_)) => {
            return Err(Failure::usage("FROM or TO must be NAME:PATH").hint("shed cp --help"));
        }
        (Location::Shed(..), Location::Shed(..)) => {
            return Err(Failure::usage(
                "FROM or TO must be a local path; to copy between sheds, copy to a local path first",
            ));
        }
    }
    Ok(0)
}

/// A name for a file or directory that is not complete yet, in the directory it belongs to.
fn beside() -> String {
    format!(".shed-cp-{}", std::process::id())
}

/// Runs a short command in a shed.
async fn run_in(client: &Client, name: &str, argv: &[&str]) -> Result<ExecResult, Failure> {
    let request = ExecRequest {
        argv: argv.iter().map(|word| (*word).to_owned()).collect(),
        env: std::collections::BTreeMap::new(),
        directory: Some("/".to_owned()),
        session: None,
        root: false,
        stdin: None,
        stdin_base64: None,
        timeout: None,
    };
    Ok(client.exec(name, &request).await?)
}

/// The same; a failure has the first line of the command's error output.
async fn must_run(client: &Client, name: &str, argv: &[&str]) -> Result<(), Failure> {
    let ran = run_in(client, name, argv).await?;
    if ran.exit == 0 {
        return Ok(());
    }
    let first = ran.stderr.lines().next().unwrap_or("the command failed in the shed");
    Err(Failure::new(shed_api::name::printable(first)))
}

/// Whether a path in a shed is a directory.
async fn is_dir(client: &Client, name: &str, path: &str) -> Result<bool, Failure> {
    Ok(run_in(client, name, &["test", "-d", path]).await?.exit == 0)
}

/// Starts tar in a shed.
async fn tar(
    client: &Client,
    name: &str,
    args: &[&str],
    stdin: bool,
) -> Result<ProcessStream, Failure> {
    let argv = ["tar"].iter().chain(args).map(|word| (*word).to_owned()).collect();
    let exec = ExecSpec { argv, directory: Some("/".to_owned()), ..ExecSpec::default() };
    Ok(client.exec_stream(name, &ExecOpen { exec, stdin, ..ExecOpen::default() }).await?)
}

/// Splits a path into its directory and its last component.
fn split(path: &str) -> Result<(&str, &str), Failure> {
    let path = path.trim_end_matches('/');
    match path.rsplit_once('/') {
        Some(("", base)) if !base.is_empty() => Ok(("/", base)),
        Some((dir, base)) if !matches!(base, "" | "." | "..") => Ok((dir, base)),
        _ => Err(Failure::usage(format!(
            "invalid path {path:?}; expected the name of a file or directory"
        ))),
    }
}

async fn upload(client: &Client, from: &Path, name: &str, to: &str) -> Result<(), Failure> {
    let absolute = std::fs::canonicalize(from).map_err(Failure::io(from.display()))?;
    let source_name = absolute.file_name().map(|name| name.to_string_lossy().into_owned());
    let into = to.ends_with('/') || is_dir(client, name, to).await?;
    let (dir, base) = match (into, source_name) {
        (true, Some(source_name)) => (to.to_owned(), source_name),
        (true, None) => {
            return Err(Failure::usage(format!(
                "{} has no name to copy it to; name the target file",
                from.display()
            )));
        }
        (false, _) => {
            let (dir, base) = split(to)?;
            (dir.to_owned(), base.to_owned())
        }
    };
    let part = format!("{dir}/{}", beside());
    if let Err(error) = must_run(client, name, &["mkdir", &part]).await {
        return Err(if is_dir(client, name, &dir).await? {
            error
        } else {
            Failure::new(format!("no directory {dir} in shed {name:?}"))
        });
    }
    // Under its own name only once it is complete: the connection, the shed or this program may end at any time.
    let placed = match unpack_in_shed(client, from, name, &part, &base).await {
        Ok(()) => place(client, name, &part, &dir, &base, absolute.is_dir()).await,
        Err(error) => Err(error),
    };
    // It fails when the shed is gone.
    run_in(client, name, &["rm", "-rf", &part]).await.ok();
    placed
}

/// Moves what was unpacked in `part` to its place. A directory is merged into one that exists.
async fn place(
    client: &Client,
    name: &str,
    part: &str,
    dir: &str,
    base: &str,
    is_tree: bool,
) -> Result<(), Failure> {
    let (unpacked, target) = (format!("{part}/{base}"), format!("{dir}/{base}"));
    if is_tree && is_dir(client, name, &target).await? {
        must_run(client, name, &["cp", "-alf", &format!("{unpacked}/."), &target]).await
    } else {
        must_run(client, name, &["mv", "-fT", &unpacked, &target]).await
    }
}

/// Sends a file or directory to a tar in the shed, which unpacks it in `dir`.
async fn unpack_in_shed(
    client: &Client,
    from: &Path,
    name: &str,
    dir: &str,
    base: &str,
) -> Result<(), Failure> {
    let stream = tar(client, name, &["-x", "-f", "-", "-C", dir], true).await?;
    let (send, mut chunks) = mpsc::channel(MAX_CHUNKS);
    let (source, base) = (from.to_owned(), base.to_owned());
    let packing = tokio::task::spawn_blocking(move || {
        pack(&source, &base, std::io::BufWriter::with_capacity(CHUNK_BYTES, ChunkSender(send)))
    });
    let ProcessStream { mut reader, input } = stream;
    let feed = async move {
        while let Some(chunk) = chunks.recv().await {
            if !input.send(chunk).await {
                return;
            }
        }
        input.eof().await;
    };
    let feed_on = async {
        feed.await;
        std::future::pending::<()>().await;
    };
    // When tar has ended, or nobody knows of it any more, the rest is not sent: dropping the feed ends the packing.
    let end = tokio::select! {
        end = finish(&mut reader, None) => end,
        () = feed_on => Ok(()),
    };
    let packed = packing.await.map_err(|error| Failure::new(error.to_string()))?;
    // A failure of tar explains a broken pipe of the packing side, so it goes first.
    end?;
    packed.map_err(Failure::io(from.display()))
}

/// Passes tar's output on until tar exits. A failure has the first line of tar's error output.
async fn finish(
    reader: &mut shed_client::StreamReader,
    output: Option<mpsc::Sender<hyper::body::Bytes>>,
) -> Result<(), Failure> {
    let mut stderr = Vec::new();
    loop {
        match reader.next().await? {
            Frame::Stdout(bytes) => {
                if let Some(output) = &output
                    && output.send(bytes).await.is_err()
                {
                    // The unpacking side has failed and reports why.
                    return Ok(());
                }
            }
            Frame::Stderr(bytes) => {
                let room = MAX_STDERR_BYTES.saturating_sub(stderr.len());
                stderr.extend(&bytes[..bytes.len().min(room)]);
            }
            Frame::Exit(Exit::Code(0)) => return Ok(()),
            Frame::Exit(_) => {
                let text = String::from_utf8_lossy(&stderr);
                let first = text.lines().next().unwrap_or("tar failed in the shed");
                return Err(Failure::new(shed_api::name::printable(first)));
            }
            Frame::Problem(problem) => return Err(ClientError::Problem(problem).into()),
            Frame::Started | Frame::Detached(_) | Frame::Eof => {}
        }
    }
}

/// A writer that sends chunks to a channel.
struct ChunkSender(mpsc::Sender<hyper::body::Bytes>);

impl std::io::Write for ChunkSender {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let chunk = hyper::body::Bytes::copy_from_slice(bytes);
        self.0.blocking_send(chunk).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A reader of the chunks from a channel.
struct ChunkReader {
    chunks: mpsc::Receiver<hyper::body::Bytes>,
    current: hyper::body::Bytes,
}

impl std::io::Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk,
                None => return Ok(0),
            }
        }
        let n_bytes = self.current.len().min(buffer.len());
        buffer[..n_bytes].copy_from_slice(&self.current.split_to(n_bytes));
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
        let new = to.file_name().ok_or_else(|| {
            Failure::usage(format!(
                "invalid target {}; expected the name of a file or directory",
                to.display()
            ))
        })?;
        (parent.to_owned(), new.to_string_lossy().into_owned())
    };
    let stream = tar(client, name, &["-c", "-f", "-", "-C", dir, "--", base], false).await?;
    let (send, chunks) = mpsc::channel(MAX_CHUNKS);
    let base = base.to_owned();
    let unpacking = tokio::task::spawn_blocking(move || {
        unpack(ChunkReader { chunks, current: hyper::body::Bytes::new() }, &base, &parent, &new)
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
    fn locations_are_parsed() {
        assert_eq!(location("web:x"), Location::Shed("web".to_owned(), "/workspace/x".to_owned()));
        assert_eq!(location("web:"), Location::Shed("web".to_owned(), "/workspace/".to_owned()));
        assert_eq!(
            location("web:/etc/hosts"),
            Location::Shed("web".to_owned(), "/etc/hosts".to_owned())
        );
        assert_eq!(location("./web:x"), Location::Local("./web:x".into()));
        assert_eq!(location("dir/file"), Location::Local("dir/file".into()));
    }

    #[test]
    fn paths_are_split_before_the_last_component() {
        assert_eq!(split("/a/b/").ok(), Some(("/a", "b")));
        assert_eq!(split("/a").ok(), Some(("/", "a")));
        assert!(split("/").is_err() && split("/a/..").is_err());
    }
}
