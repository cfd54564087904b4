//! `shed attach`.

use std::io::BufRead as _;
use std::time::{Duration, Instant};

use clap_complete::ArgValueCandidates;
use shed_api::stream::AttachOpen;
use shed_api::{Code, ShedStatus};
use shed_client::{Client, ClientError, ProcessStream};

use super::completions::{sessions, sheds};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::process::{End, Seat, in_terminal};
use crate::terminal::{self, Raw};

/// The first pause before a lost connection is tried again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause while the server may be restarting: back within a second of it.
const SHORT_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause after that.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// How long the server may be restarting.
const SOON: Duration = Duration::from_secs(120);

/// Attach to a session of a shed
///
/// Makes the session if it is not there, and starts the shed if it is stopped. Ctrl-B D leaves it; everything in it goes
/// on. A lost connection is made again by itself; `~.` at the beginning of a line gives up.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed attach web                        the session `default`
  shed attach web -S tests
  shed attach                            choose from a list")]
pub(crate) struct Args {
    /// Shed; a list to choose from when none is named
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: Option<String>,
    /// Session
    #[arg(short = 'S', long, default_value = "default", value_parser = names::session, add = ArgValueCandidates::new(sessions))]
    session: String,
    /// Make a new session; refuse if it exists
    #[arg(long, conflicts_with = "read_only")]
    new: bool,
    /// Look, do not touch
    #[arg(long)]
    read_only: bool,
    /// Detach everyone else
    #[arg(short, long)]
    detach_others: bool,
    /// Do not reconnect after a lost connection
    #[arg(long)]
    no_reconnect: bool,
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    if !terminal::is_interactive() {
        return Err(
            Failure::usage("attach needs a terminal").hint("shed sessions capture NAME SESSION")
        );
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
    show(&client, &name, &session, open, args.no_reconnect, context).await
}

/// Shows a session in the terminal until it ends or the person leaves it.
pub(crate) async fn show(
    client: &Client,
    name: &str,
    session: &str,
    mut open: AttachOpen,
    no_reconnect: bool,
    context: &Context,
) -> Outcome {
    let stream = client.attach(name, session, &open).await?;
    let stream = started(stream).await?;
    // From now on the session is there; making a second one of its name would hide that it ended.
    open.new = false;
    open.existing = true;
    let raw = Raw::enter()?;
    let end = stay(client, name, session, &open, stream, no_reconnect, context).await;
    drop(raw);
    match end? {
        End::Escaped => {
            context.out.say(&format!("\nshed: left {name}/{session}; it goes on"));
            Ok(0)
        }
        end => end.outcome(),
    }
}

/// Waits for the first message: a refusal must come before the terminal is touched.
async fn started(mut stream: ProcessStream) -> Result<ProcessStream, Failure> {
    match stream.reader.next().await? {
        shed_client::Frame::Problem(problem) => Err(ClientError::Problem(problem).into()),
        _ => Ok(stream),
    }
}

/// Shows the session until it or the person ends it; a lost connection is made again.
async fn stay(
    client: &Client,
    name: &str,
    session: &str,
    open: &AttachOpen,
    first: ProcessStream,
    no_reconnect: bool,
    context: &Context,
) -> Result<End, Failure> {
    let mut seat = Seat::take()?.looking(open.read_only);
    let mut stream = first;
    loop {
        let end = in_terminal(stream, &mut seat, context.out).await?;
        let why = match end {
            End::Lost(error) if !no_reconnect => error.to_string(),
            End::Problem(problem) if !no_reconnect && problem.code == Code::ShuttingDown => {
                problem.detail
            }
            end => return Ok(end),
        };
        context.out.say(&format!("\r\nshed: {why}; reconnecting … (~. gives up)\r"));
        match reconnect(client, name, session, open, &mut seat).await? {
            Ok(again) => stream = again,
            Err(end) => return Ok(end),
        }
    }
}

/// Tries until it works, the server says no, or the person gives up.
async fn reconnect(
    client: &Client,
    name: &str,
    session: &str,
    open: &AttachOpen,
    seat: &mut Seat,
) -> Result<Result<ProcessStream, End>, Failure> {
    let since = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let open = AttachOpen { tty: terminal::tty(), ..open.clone() };
        let attempt = async { started(client.attach(name, session, &open).await?).await };
        let tried = tokio::select! {
            tried = attempt => tried,
            end = seat.give_up() => return Ok(Err(end)),
        };
        match tried {
            Ok(stream) => return Ok(Ok(stream)),
            Err(failure) if failure.status == shed_api::problem::exit::UNREACHABLE => {}
            Err(failure) => return Err(failure),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            end = seat.give_up() => return Ok(Err(end)),
        }
        let longest = if since.elapsed() < SOON { SHORT_PAUSE } else { LONG_PAUSE };
        pause = longest.min(pause * 2);
    }
}

/// Lets the person choose among sheds and sessions.
async fn pick(client: &Client, context: &Context) -> Result<(String, String), Failure> {
    let sheds = client.sheds().await?.sheds;
    let sessions = client.all_sessions().await?.sessions;
    let mut choices = Vec::new();
    for shed in &sheds {
        let own: Vec<_> = sessions.iter().filter(|row| row.shed_name == shed.name).collect();
        for row in &own {
            let how = if row.attached { "attached" } else { "detached" };
            let command = row.command.as_deref().unwrap_or("-");
            choices.push((shed.name.clone(), row.name.clone(), format!("{how}, {command}")));
        }
        if own.is_empty() && !matches!(shed.status, ShedStatus::Creating | ShedStatus::Removing) {
            choices.push((
                shed.name.clone(),
                "default".to_owned(),
                format!("new, shed is {}", shed.status),
            ));
        }
    }
    match choices.as_slice() {
        [] => return Err(Failure::not_found("there is no shed").hint("shed create NAME")),
        [(shed, session, _)] => return Ok((shed.clone(), session.clone())),
        _ => {}
    }
    for (number, (shed, session, note)) in choices.iter().enumerate() {
        context.out.say(&format!("{:3}  {shed}/{session}  ({note})", number + 1));
    }
    context.out.say("which?");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(Failure::io("standard input"))?;
    let chosen = answer.trim().parse::<usize>().ok().and_then(|n| choices.get(n.checked_sub(1)?));
    let (shed, session, _) = chosen.ok_or_else(|| Failure::usage("that is none of them"))?;
    Ok((shed.clone(), session.clone()))
}
