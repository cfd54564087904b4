//! `shed attach`.

mod identity;

use std::time::{Duration, Instant};

use clap_complete::ArgValueCandidates;
use shed_api::stream::AttachOpen;
use shed_api::{Code, ShedStatus};
use shed_client::{Client, ProcessStream};

use self::identity::{Identity, LookUp};
use crate::candidates::{sessions, sheds};
use crate::context::Context;
use crate::escape::{EscapeChar, EscapeOption};
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::process::{End, LocalTerminal, first_frame, in_terminal, lost};
use crate::prompt;
use crate::terminal::{self, Raw};

/// Delay before the second attempt to reconnect; it doubles with each attempt.
const FIRST_DELAY: Duration = Duration::from_millis(50);
/// Longest delay during the first [`RESTART_TIME`]: reconnects within a second of a server's restart.
const SHORT_DELAY: Duration = Duration::from_millis(500);
/// Longest delay after [`RESTART_TIME`].
const LONG_DELAY: Duration = Duration::from_secs(5);
/// How long a restart of the server may take.
const RESTART_TIME: Duration = Duration::from_secs(120);

/// Attach to a session of a shed
///
/// Creates the session if it does not exist and starts the shed if it is stopped. Ctrl-B D detaches; the session keeps
/// running. A lost connection is restored automatically, also over a restart or rebuild of the shed, and under the session's
/// new name if it was renamed. `~.` at the beginning of a line detaches at any time, except in a paste.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed attach web                        attach to session `default`
  shed attach web -S tests
  shed attach                            choose a session from a list")]
pub(crate) struct Args {
    /// Shed (default: choose from a list)
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: Option<String>,
    /// Session, by name, id or tmux id ($3)
    #[arg(short = 'S', long, default_value = "default", value_parser = names::session, add = ArgValueCandidates::new(sessions))]
    session: String,
    /// Create a new session; fail if it exists
    #[arg(long, conflicts_with = "read_only")]
    new: bool,
    /// Attach read-only
    #[arg(long)]
    read_only: bool,
    /// Detach all other clients
    #[arg(short, long)]
    detach_others: bool,
    /// Do not reconnect after a lost connection
    #[arg(long)]
    no_reconnect: bool,
    #[command(flatten)]
    escape: EscapeOption,
}

/// How often the status of a shed that is stopping is asked for.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    if !terminal::is_interactive() {
        let name = args.name.as_deref().unwrap_or("NAME");
        return Err(Failure::usage("attach needs a terminal")
            .hint(format!("shed sessions capture {name} {}", args.session)));
    }
    let client = context.client()?;
    let (name, session) = match &args.name {
        Some(name) => (name.clone(), args.session.clone()),
        None => pick(&client, context).await?,
    };
    let open = AttachOpen {
        tty: terminal::tty(),
        new: args.new,
        existing: false,
        read_only: args.read_only,
        detach_others: args.detach_others,
        env: terminal::environment(),
    };
    let attached = Attached {
        client: &client,
        name: &name,
        session: &session,
        escape: args.escape.escape,
        reconnects: !args.no_reconnect,
        context,
    };
    attached.show(open).await
}

/// A session in the terminal.
pub(crate) struct Attached<'a> {
    pub(crate) client: &'a Client,
    pub(crate) name: &'a str,
    /// Name, id or tmux id, as the user gave it.
    pub(crate) session: &'a str,
    pub(crate) escape: EscapeChar,
    /// Whether a lost connection is restored.
    pub(crate) reconnects: bool,
    pub(crate) context: &'a Context,
}

impl Attached<'_> {
    /// Shows the session until it ends or the user detaches.
    pub(crate) async fn show(&self, mut open: AttachOpen) -> Outcome {
        let stream = self.start(self.session, &open).await?;
        // The session exists now. Creating another one when reconnecting would hide that it ended.
        open.new = false;
        open.existing = true;
        let raw = Raw::enter()?;
        let end = self.stay(&open, stream).await;
        drop(raw);
        match end? {
            End::Detached => {
                let Self { name, session, .. } = self;
                self.context
                    .out
                    .say(&format!("\nshed: detached from {name}/{session}; it keeps running"));
                Ok(0)
            }
            end => end.outcome(),
        }
    }

    /// Attaches and waits for the server's first message.
    async fn start(&self, session: &str, open: &AttachOpen) -> Result<ProcessStream, Failure> {
        let mut stream = self.client.attach(self.name, session, open).await?;
        first_frame(&mut stream).await?;
        Ok(stream)
    }

    /// Shows the session until it ends or the user detaches, and reconnects when the connection is lost.
    async fn stay(&self, open: &AttachOpen, first: ProcessStream) -> Result<End, Failure> {
        let mut local = LocalTerminal::open(self.escape, open.read_only)?;
        let mut stream = first;
        let mut reference = self.session.to_owned();
        loop {
            let look_up =
                LookUp::start(self.client.clone(), self.name.to_owned(), reference.clone());
            let end = in_terminal(stream, &mut local, self.context.out).await?;
            let identity = look_up.found();
            drop(look_up);
            let why = match &end {
                End::Lost(error, unsent) if self.reconnects => lost(error, *unsent),
                End::Problem(problem) if self.reconnects && problem.code == Code::ShuttingDown => {
                    problem.detail.clone()
                }
                End::Exit(_) | End::Problem(_) if self.reconnects => {
                    match self.starts_again(&identity, &mut local).await {
                        Ok(true) => format!("shed {} is starting again", self.name),
                        Ok(false) => return Ok(end),
                        Err(end) => return Ok(end),
                    }
                }
                _ => return Ok(end),
            };
            let key = self.escape.detach().unwrap_or_else(|| "Ctrl-C".to_owned());
            let text = format!("shed: {why}; reconnecting … ({key} detaches)");
            self.context.out.say_in_raw_mode(&text);
            match self.reconnect(open, &identity, &mut local).await? {
                Ok((again, used)) => (stream, reference) = (again, used),
                Err(end) => return Ok(end),
            }
        }
    }

    /// Whether a terminal ended because its shed is started again. Waits while the shed stops.
    async fn starts_again(
        &self,
        identity: &Identity,
        local: &mut LocalTerminal,
    ) -> Result<bool, End> {
        loop {
            let Ok(shed) = self.client.shed(self.name).await else {
                return Ok(false);
            };
            match shed.status {
                ShedStatus::Stopping => {}
                ShedStatus::Starting | ShedStatus::Creating => return Ok(true),
                _ => return Ok(identity.is_of_earlier_run(&shed)),
            }
            tokio::select! {
                () = tokio::time::sleep(STATUS_INTERVAL) => {}
                end = local.cancelled() => return Err(end),
            }
        }
    }

    /// Retries until it succeeds, the server refuses, or the user cancels. Returns what the session was called in the request.
    async fn reconnect(
        &self,
        open: &AttachOpen,
        identity: &Identity,
        local: &mut LocalTerminal,
    ) -> Result<Result<(ProcessStream, String), End>, Failure> {
        let lost_at = Instant::now();
        let mut delay = FIRST_DELAY;
        loop {
            let open = AttachOpen { tty: terminal::tty(), ..open.clone() };
            let attempt = async {
                let reference = identity.reference(self.client, self.name, self.session).await?;
                Ok((self.start(&reference, &open).await?, reference))
            };
            let attempt: Result<_, Failure> = tokio::select! {
                attempt = attempt => attempt,
                end = local.cancelled() => return Ok(Err(end)),
            };
            match attempt {
                Ok(again) => return Ok(Ok(again)),
                Err(failure) if failure.status == shed_api::problem::exit::UNREACHABLE => {}
                Err(failure) => return Err(failure),
            }
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                end = local.cancelled() => return Ok(Err(end)),
            }
            let longest = if lost_at.elapsed() < RESTART_TIME { SHORT_DELAY } else { LONG_DELAY };
            delay = longest.min(delay * 2);
        }
    }
}

/// Lets the user choose a session from a list. Returns the only choice without asking.
async fn pick(client: &Client, context: &Context) -> Result<(String, String), Failure> {
    let sheds = client.sheds().await?.sheds;
    let sessions = client.all_sessions().await?.sessions;
    let mut choices = Vec::new();
    for shed in &sheds {
        let of_shed: Vec<_> = sessions.iter().filter(|row| row.shed_name == shed.name).collect();
        for row in &of_shed {
            let state = if row.attached { "attached" } else { "detached" };
            let command = row.command.as_deref().unwrap_or("-");
            choices.push((shed.name.clone(), row.name.clone(), format!("{state}, {command}")));
        }
        if of_shed.is_empty() && !matches!(shed.status, ShedStatus::Creating | ShedStatus::Removing)
        {
            choices.push((
                shed.name.clone(),
                "default".to_owned(),
                format!("new, shed is {}", shed.status),
            ));
        }
    }
    match choices.as_slice() {
        [] => return Err(Failure::not_found("there are no sheds").hint("shed create demo")),
        [(shed, session, _)] => return Ok((shed.clone(), session.clone())),
        _ => {}
    }
    for (number, (shed, session, note)) in choices.iter().enumerate() {
        context.out.say(&format!("{:3}  {shed}/{session}  ({note})", number + 1));
    }
    let answer = prompt::ask(&format!("session to attach to [1-{}]:", choices.len()), context.out)?;
    let chosen = answer.parse::<usize>().ok().and_then(|n| choices.get(n.checked_sub(1)?));
    let (shed, session, _) = chosen.ok_or_else(|| {
        let last = choices.len();
        Failure::usage(format!("invalid choice {answer:?}; expected a number from 1 to {last}"))
    })?;
    Ok((shed.clone(), session.clone()))
}
