//! `shed output`.

use std::time::{Duration, Instant};

use clap_complete::ArgValueCandidates;
use shed_api::name::printable;
use shed_api::problem::exit::{NOT_FOUND, UNREACHABLE};
use shed_api::session::{Session, SessionStatus};
use shed_api::worker::{OutputPage, Worker, WorkerStatus};
use shed_client::{Client, page_bytes};
use tokio::signal::unix::{SignalKind, signal};

use super::completions::workers;
use super::target::Target;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;

/// So long a question may be without an answer while a worker prints nothing.
const WAIT_SECONDS: u64 = 15;
/// The first pause when the server did not wait: the session waits for its turn, or the server is away. It doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause.
const LONG_PAUSE: Duration = Duration::from_millis(250);
/// How long a server that went away is asked again: as long as one may be restarting.
const SOON: Duration = Duration::from_secs(120);
/// The exit status of one who left by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Print what a worker printed, byte by byte
///
/// From the server's log: also of a worker that has ended, and of a shed that is stopped. Bytes are as the worker's
/// terminal got them, with everything that steers one. --search is without.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed output web fix-login              everything that is kept of its first worker
  shed output web fix-login npm --lines 50 --follow
  shed output web fix-login --search 'error:'
  shed output web fix-login --from 1048576
  shed output web fix-login --cast > demo.cast")]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Worker, by name or id; the first when absent
    #[arg(value_parser = names::worker, add = ArgValueCandidates::new(workers))]
    worker: Option<String>,
    /// Go on until the worker's command ends
    #[arg(short, long, conflicts_with_all = ["cast", "search"])]
    follow: bool,
    /// Begin so many lines before the end
    #[arg(short = 'n', long, conflicts_with_all = ["from", "cast", "search"])]
    lines: Option<u32>,
    /// Begin at this offset
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    /// As a recording for players: asciicast v2
    #[arg(long, conflicts_with = "search")]
    cast: bool,
    /// Only lines in which this text stands, with their offsets
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    let client = context.client()?;
    let Target { name, session } = &args.target;
    let worker = match args.worker {
        Some(worker) => worker,
        None => first_worker(&client.session(name, session).await?)?,
    };
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
            Ending::Left => Ok(INTERRUPTED),
            Ending::Worker(_) | Ending::Gone => Ok(0),
        };
    }
    let mut from = from;
    output.rest(&mut from, None).await?;
    Ok(0)
}

/// The worker that is meant when none is named.
pub(crate) fn first_worker(session: &Session) -> Result<String, Failure> {
    let first = session.workers.first().map(|worker| worker.id.clone());
    let (shed, name) = (&session.shed_name, &session.name);
    first.ok_or_else(|| {
        Failure::not_found(format!("session {shed}/{name} has no worker: nothing of it is kept"))
            .hint(format!("shed sessions capture {shed} {name}"))
    })
}

/// How following ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The worker's command has ended, and all it printed was shown.
    Worker(Box<Worker>),
    /// The worker is not there any more.
    Gone,
    /// The person left.
    Left,
}

/// A worker's output on its way to standard output.
pub(crate) struct Output<'a> {
    pub(crate) client: &'a Client,
    pub(crate) name: &'a str,
    pub(crate) session: &'a str,
    pub(crate) worker: &'a str,
    pub(crate) context: &'a Context,
}

impl Output<'_> {
    /// Prints a page: its bytes, or the page itself as a line of JSON.
    fn print(&self, page: &OutputPage) -> Result<(), Failure> {
        let out = self.context.out;
        if page.gap > 0 && !out.is_json() {
            out.say(&format!("shed: {} bytes before this are not kept", page.gap));
        }
        if out.is_json() {
            return out.line(&serde_json::to_string(page).unwrap_or_default());
        }
        out.raw(&page_bytes(page).map_err(Failure::new)?)
    }

    /// Prints everything from an offset to what is the end now, and moves the offset there. When there is nothing it waits for
    /// something, at most `wait` seconds.
    async fn rest(&self, from: &mut u64, wait: Option<u64>) -> Result<(), Failure> {
        let Self { client, name, session, worker, .. } = self;
        loop {
            let page = client.output_page(name, session, worker, *from, None, wait).await?;
            if page.end > page.start {
                self.print(&page)?;
            }
            // A page that gives nothing is the end, whatever else it says.
            let is_last = page.end >= page.log_end || page.end <= *from;
            *from = page.end.max(*from);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Prints what there is from an offset on and what comes, until the worker's command has ended.
    ///
    /// A server that goes away is waited for, and a worker that goes away is an end, once it has answered or `is_there` says
    /// that it has before.
    pub(crate) async fn follow(&self, from: u64, is_there: bool) -> Result<Ending, Failure> {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::io("signals"))?;
        tokio::select! {
            ending = self.to_its_end(from, is_there) => ending,
            _ = interrupt.recv() => {
                let Self { name, session, .. } = self;
                self.context.out.say(&format!("\nshed: left {name}/{session}; it goes on"));
                Ok(Ending::Left)
            }
        }
    }

    async fn to_its_end(&self, mut from: u64, is_there: bool) -> Result<Ending, Failure> {
        let mut pause = FIRST_PAUSE;
        let mut ended = None;
        let mut lost_at = None::<Instant>;
        let mut has_begun = is_there;
        loop {
            let before = from;
            match self.step(&mut from, &mut ended).await {
                Ok(Some(ending)) => return Ok(ending),
                Ok(None) => {
                    (lost_at, has_begun) = (None, true);
                    if from > before {
                        pause = FIRST_PAUSE;
                    }
                    if from > before || ended.is_some() {
                        continue;
                    }
                }
                Err(failure) if failure.status == UNREACHABLE && has_begun => {
                    // Offsets stay good: nothing is missed, and nothing comes twice.
                    if lost_at.get_or_insert_with(Instant::now).elapsed() > SOON {
                        return Err(failure);
                    }
                }
                // What was being followed is gone, with its end: a session that closes, or one that somebody deletes.
                Err(failure) if failure.status == NOT_FOUND && has_begun => {
                    return Ok(Ending::Gone);
                }
                Err(failure) => return Err(failure),
            }
            tokio::time::sleep(pause).await;
            pause = LONG_PAUSE.min(pause * 2);
        }
    }

    /// Prints what is there, and looks whether more can come.
    async fn step(
        &self,
        from: &mut u64,
        ended: &mut Option<Box<Worker>>,
    ) -> Result<Option<Ending>, Failure> {
        let before = *from;
        self.rest(from, Some(WAIT_SECONDS)).await?;
        if *from > before {
            *ended = None;
            return Ok(None);
        }
        if let Some(worker) = ended.take() {
            return Ok(Some(Ending::Worker(worker)));
        }
        let session = self.client.session(self.name, self.session).await?;
        if matches!(session.status, SessionStatus::Failed | SessionStatus::Orphaned) {
            let why = session.reason.unwrap_or_else(|| session.status.to_string());
            return Err(Failure::new(printable(&why)));
        }
        let mut workers = session.workers.into_iter();
        let found = workers.find(|row| row.name == self.worker || row.id == self.worker);
        match found {
            None => return Ok(Some(Ending::Gone)),
            // Once more: what it printed last may have come between the two looks.
            Some(worker) if worker.status == WorkerStatus::Exited => {
                *ended = Some(Box::new(worker));
            }
            Some(_) => {}
        }
        Ok(None)
    }
}

impl Output<'_> {
    /// Prints lines in which a text stands, from an offset on.
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
        // As grep tells it.
        Ok(u8::from(!found))
    }

    /// Prints a recording, from an offset on.
    async fn cast(&self, from: Option<u64>) -> Outcome {
        let Self { client, name, session, worker, context } = self;
        let mut cast = client.output_cast(name, session, worker, from, None).await?;
        while let Some(piece) = cast.next().await? {
            context.out.raw(&piece)?;
        }
        Ok(0)
    }
}
