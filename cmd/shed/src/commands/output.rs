//! `shed output`.

use std::time::{Duration, Instant};

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::problem::exit::{NOT_FOUND, UNREACHABLE};
use shed_api::session::{Session, SessionStatus};
use shed_api::worker::{OutputPage, Worker, WorkerStatus};
use shed_client::{Client, page_bytes};
use tokio::signal::unix::{SignalKind, signal};

use super::target::Target;
use crate::candidates::workers;
use crate::context::Context;
use crate::failure::{Failure, INTERRUPTED, Outcome};
use crate::names;

/// How long the server holds a request for output that has not been printed yet.
const WAIT_SECONDS: u64 = 15;
/// Delay before the first retry when the server did not wait: the session is queued, or the server is unreachable. It doubles.
const FIRST_DELAY: Duration = Duration::from_millis(20);
/// Longest delay between two retries.
const LONG_DELAY: Duration = Duration::from_millis(250);
/// How long an unreachable server is retried: the time that a restart may take.
const RESTART_TIME: Duration = Duration::from_secs(120);

/// Print the output of a worker
///
/// Reads the server's log, also of an exited worker or a stopped shed. Prints the exact bytes, including terminal escape
/// sequences; --search ignores those.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed output web fix-login              all kept output of the first worker
  shed output web fix-login npm --lines 50 --follow
  shed output web fix-login --search 'error:'
  shed output web fix-login --from 1048576
  shed output web fix-login --cast > demo.cast")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Worker, by name or id (default: the first)
    #[arg(value_parser = names::worker, add = ArgValueCandidates::new(workers))]
    worker: Option<String>,
    /// Follow the output until the worker's command exits
    #[arg(short, long, conflicts_with_all = ["cast", "search"])]
    follow: bool,
    /// Start N lines before the end (default: at the beginning)
    #[arg(short = 'n', long, value_name = "N", conflicts_with_all = ["from", "cast", "search"])]
    lines: Option<u32>,
    /// Start at this offset in bytes
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    /// Print a recording in asciicast v2 format
    #[arg(long, conflicts_with = "search")]
    cast: bool,
    /// Print only lines that contain this text, with their offsets; exit with status 1 if there are none
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let Target { name, session } = &args.target;
    let mut session = session.clone();
    let worker = match args.worker {
        // Followed by id: it may be renamed.
        Some(worker) if args.follow => {
            let found = client.session(name, &session).await?;
            let row = found.workers.iter().find(|row| row.name == worker || row.id == worker);
            let id = row.map(|row| row.id.clone());
            session = found.id;
            id.unwrap_or(worker)
        }
        Some(worker) => worker,
        None => {
            let found = client.session(name, &session).await?;
            let first = first_worker(&found)?;
            session = found.id;
            first
        }
    };
    let session = &session;
    let output = Output { client: &client, name, session, worker: &worker, context };
    if let Some(text) = &args.search {
        return output.search(text, args.from.unwrap_or(0)).await;
    }
    if args.cast {
        return output.cast(args.from).await;
    }
    let from = match args.lines {
        None => args.from.unwrap_or(0),
        Some(lines) => {
            let page = client.output_tail(name, session, &worker, lines).await?;
            output.print(&page)?;
            page.end
        }
    };
    if args.follow {
        return match output.follow(from, false).await? {
            Ending::Detached => Ok(INTERRUPTED),
            Ending::Exited(_) | Ending::Removed => Ok(0),
        };
    }
    let mut from = from;
    output.rest(&mut from, None).await?;
    Ok(0)
}

/// Id of the session's first worker: the default when none is named.
pub(crate) fn first_worker(session: &Session) -> Result<String, Failure> {
    let first = session.workers.first().map(|worker| worker.id.clone());
    let (shed, name) = (&session.shed_name, &session.name);
    first.ok_or_else(|| {
        Failure::not_found(format!(
            "session {shed}/{name} has no workers, so its output is not kept"
        ))
        .hint(format!("shed sessions capture {shed} {name}"))
    })
}

/// Why following a worker's output ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The worker's command exited, and all its output was printed.
    Exited(Box<Worker>),
    /// The worker or its session was removed.
    Removed,
    /// The user pressed Ctrl-C.
    Detached,
}

/// Prints the output of one worker.
pub(crate) struct Output<'a> {
    pub(crate) client: &'a Client,
    pub(crate) name: &'a str,
    pub(crate) session: &'a str,
    pub(crate) worker: &'a str,
    pub(crate) context: &'a Context,
}

impl Output<'_> {
    /// Prints a page: its bytes, or with `--json` the page as one line.
    fn print(&self, page: &OutputPage) -> Result<(), Failure> {
        let out = self.context.out;
        if page.gap > 0 && !out.is_json() {
            out.say(&format!("shed: {} bytes before this were discarded", page.gap));
        }
        if out.is_json() {
            return out.line(&serde_json::to_string(page).unwrap_or_default());
        }
        out.raw(&page_bytes(page).map_err(Failure::new)?)
    }

    /// Prints from an offset to the current end and advances the offset. If there is nothing to print it waits for output for
    /// at most `wait` seconds.
    async fn rest(&self, from: &mut u64, wait: Option<u64>) -> Result<(), Failure> {
        let Self { client, name, session, worker, .. } = self;
        loop {
            let page = client.output_page(name, session, worker, *from, None, wait).await?;
            if page.end > page.start {
                self.print(&page)?;
            }
            // An empty page is the last one, so that a server that reports a wrong end cannot cause an endless loop.
            let is_last = page.end >= page.log_end || page.end <= *from;
            *from = page.end.max(*from);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Prints existing and new output from an offset on, until the worker's command exits.
    ///
    /// Once the worker is known to exist, because the server has answered or because of `exists`, an unreachable server is
    /// retried, and a missing worker means that it was removed.
    pub(crate) async fn follow(&self, from: u64, exists: bool) -> Result<Ending, Failure> {
        let mut interrupt =
            signal(SignalKind::interrupt()).map_err(Failure::io("cannot listen for signals"))?;
        tokio::select! {
            ending = self.follow_to_end(from, exists) => ending,
            _ = interrupt.recv() => {
                let Self { name, session, .. } = self;
                self.context.out.say(&format!("\nshed: detached from {name}/{session}; it keeps running"));
                Ok(Ending::Detached)
            }
        }
    }

    async fn follow_to_end(&self, mut from: u64, exists: bool) -> Result<Ending, Failure> {
        let mut delay = FIRST_DELAY;
        let mut exited = None;
        let mut lost_at = None::<Instant>;
        let mut exists = exists;
        loop {
            let before = from;
            match self.step(&mut from, &mut exited).await {
                Ok(Some(ending)) => return Ok(ending),
                Ok(None) => {
                    (lost_at, exists) = (None, true);
                    if from > before {
                        delay = FIRST_DELAY;
                    }
                    if from > before || exited.is_some() {
                        continue;
                    }
                }
                Err(failure) if failure.status == UNREACHABLE && exists => {
                    // Offsets stay valid over a restart: nothing is missed or printed twice.
                    if lost_at.get_or_insert_with(Instant::now).elapsed() > RESTART_TIME {
                        return Err(failure);
                    }
                }
                // The session was closed or deleted.
                Err(failure) if failure.status == NOT_FOUND && exists => {
                    return Ok(Ending::Removed);
                }
                Err(failure) => return Err(failure),
            }
            tokio::time::sleep(delay).await;
            delay = LONG_DELAY.min(delay * 2);
        }
    }

    /// Prints new output. Without any, checks whether the worker can still print.
    async fn step(
        &self,
        from: &mut u64,
        exited: &mut Option<Box<Worker>>,
    ) -> Result<Option<Ending>, Failure> {
        let before = *from;
        self.rest(from, Some(WAIT_SECONDS)).await?;
        if *from > before {
            *exited = None;
            return Ok(None);
        }
        if let Some(worker) = exited.take() {
            return Ok(Some(Ending::Exited(worker)));
        }
        let session = self.client.session(self.name, self.session).await?;
        if matches!(session.status, SessionStatus::Failed | SessionStatus::Orphaned) {
            let why = session.reason.unwrap_or_else(|| session.status.to_string());
            return Err(Failure::new(printable(&why)));
        }
        let mut workers = session.workers.into_iter();
        let found = workers.find(|row| row.name == self.worker || row.id == self.worker);
        match found {
            None => return Ok(Some(Ending::Removed)),
            // Reads once more: its last output may have arrived after the read above.
            Some(worker) if worker.status == WorkerStatus::Exited => {
                *exited = Some(Box::new(worker));
            }
            Some(_) => {}
        }
        Ok(None)
    }
}

impl Output<'_> {
    /// Prints the lines that contain a text, from an offset on.
    async fn search(&self, text: &str, mut from: u64) -> Outcome {
        let Self { client, name, session, worker, context } = self;
        let mut found = false;
        loop {
            let hits = client.search_output(name, session, worker, text, from).await?;
            for hit in &hits.hits {
                found = true;
                if context.out.is_json() {
                    context.out.line(&serde_json::to_string(hit).unwrap_or_default())?;
                } else {
                    context.out.line(&format!("{}\t{}", hit.offset, printable(&hit.line)))?;
                }
            }
            match hits.next {
                Some(next) if next > from => from = next,
                _ => break,
            }
        }
        // Status 1 when nothing was found, as grep has it.
        Ok(u8::from(!found))
    }

    /// Prints an asciicast recording, from an offset on.
    async fn cast(&self, from: Option<u64>) -> Outcome {
        let Self { client, name, session, worker, context } = self;
        let mut cast = client.output_cast(name, session, worker, from, None).await?;
        while let Some(bytes) = cast.next().await? {
            context.out.raw(&bytes)?;
        }
        Ok(0)
    }
}
