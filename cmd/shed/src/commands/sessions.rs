//! `shed sessions`.

use std::collections::BTreeMap;

use clap_complete::ArgValueCandidates;
use serde::Serialize;
use shed_api::session::{Input, NewSession, PatchSession, Session, SessionList, Warning};
use shed_client::Client;

use super::completions::{sessions, sheds};
use super::each;
use crate::clock::{ago, span_ms};
use crate::context::{Context, Named};
use crate::failure::{Failure, Outcome};
use crate::names;
use shed_report::table;

/// List sessions; make, end, rename, type into and read them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed sessions
  shed sessions --all                    on every server
  shed sessions web --watch
  shed sessions new web tests
  shed sessions send web tests --enter 'make test'
  shed sessions capture web tests --lines 200")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only those of this shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: Option<String>,
    /// Ask all configured servers
    #[arg(short, long, conflicts_with_all = ["watch"])]
    all: bool,
    /// Exit with 5 if a server or a shed does not answer
    #[arg(long)]
    strict: bool,
    /// Show the list again whenever it changes
    #[arg(short, long)]
    watch: bool,
}

impl ListArgs {
    // clap could refuse this by itself, but would refuse `-s` before the subcommand with it.
    fn is_used(&self) -> bool {
        self.name.is_some() || self.all || self.strict || self.watch
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a session without attaching
    New {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Session
        #[arg(value_parser = names::new_session)]
        session: String,
        /// Where it starts; /workspace by default
        #[arg(short = 'w', long, value_name = "DIR")]
        workdir: Option<String>,
        /// Variable for it
        #[arg(short, long, value_name = "K[=V]")]
        env: Vec<String>,
        /// What it runs instead of a login shell
        #[arg(trailing_var_arg = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// End sessions and everything in them
    Kill {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Sessions, by name or $ID
        #[arg(required = true, value_name = "SESSION", value_parser = names::session, add = ArgValueCandidates::new(sessions))]
        sessions: Vec<String>,
    },
    /// Rename a session
    Rename {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Session, by name or $ID
        #[arg(value_parser = names::session, add = ArgValueCandidates::new(sessions))]
        session: String,
        /// The new name
        #[arg(value_parser = names::new_session)]
        new: String,
    },
    /// Type into a session's active pane
    Send {
        /// Press Enter after it
        #[arg(long)]
        enter: bool,
        /// The words are keys: Enter, C-c, Up, F5
        #[arg(long)]
        keys: bool,
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Session, by name or $ID
        #[arg(value_parser = names::session, add = ArgValueCandidates::new(sessions))]
        session: String,
        /// The text; several words are joined by blanks
        #[arg(trailing_var_arg = true, value_name = "TEXT")]
        text: Vec<String>,
    },
    /// Print a session's active pane
    Capture {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Session, by name or $ID
        #[arg(value_parser = names::session, add = ArgValueCandidates::new(sessions))]
        session: String,
        /// With so many lines of history
        #[arg(short = 'n', long)]
        lines: Option<u32>,
        /// With colours
        #[arg(long)]
        ansi: bool,
    },
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    match args.command {
        None if args.list.watch => watch(&args.list, context).await,
        None => list(&args.list, context).await,
        Some(_) if args.list.is_used() => {
            Err(Failure::usage("a list is asked for, and something else as well")
                .hint("shed sessions --help"))
        }
        Some(command) => run_command(command, context).await,
    }
}

async fn run_command(command: Command, context: &Context) -> Outcome {
    let client = context.client()?;
    match command {
        Command::New { name, session, workdir, env, command } => {
            let env = env
                .iter()
                .map(|item| super::create::env_item(item))
                .collect::<Result<BTreeMap<_, _>, _>>()?;
            let request = NewSession {
                name: Some(session),
                directory: workdir,
                command,
                env,
                ..NewSession::default()
            };
            let made = client.new_session(&name, &request).await?;
            context.out.say(&format!("session {}/{} was made", name, made.name));
            context.out.data(&made, String::new)?;
        }
        Command::Kill { name, sessions } => {
            let kill = async |session: &str| {
                client.delete_session(&name, session, false).await?;
                context.out.say(&format!("session {name}/{session} was ended"));
                Ok(())
            };
            return Ok(each(&sessions, context, kill).await);
        }
        Command::Rename { name, session, new } => {
            let patch = PatchSession { name: Some(new), ..PatchSession::default() };
            let renamed = client.patch_session(&name, &session, &patch).await?;
            context.out.say(&format!("session {name}/{session} is {name}/{} now", renamed.name));
            context.out.data(&renamed, String::new)?;
        }
        Command::Send { enter, keys, name, session, text } => {
            let input = if keys {
                Input { keys: text, enter, ..Input::default() }
            } else {
                let text = (!text.is_empty()).then(|| text.join(" "));
                Input { text, enter, ..Input::default() }
            };
            client.input(&name, &session, &input).await?;
        }
        Command::Capture { name, session, lines, ansi } => {
            let output = client.output(&name, &session, lines, ansi).await?;
            context.out.data(&output, || output.output.clone())?;
        }
    }
    Ok(0)
}

/// A session and where it is.
#[derive(Debug, Serialize)]
struct Row {
    server: String,
    #[serde(flatten)]
    session: Session,
}

/// A warning and where it is from; a server that does not answer has no shed.
#[derive(Debug, Serialize)]
struct Note {
    server: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    shed: Option<String>,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct List {
    sessions: Vec<Row>,
    warnings: Vec<Note>,
}

async fn list(args: &ListArgs, context: &Context) -> Outcome {
    let servers = if args.all { context.all_servers()? } else { vec![context.server()?] };
    let name = args.name.clone();
    let asked =
        Context::ask_all(&servers, async |client| ask(&client, name.as_deref()).await).await;
    let mut list = List { sessions: Vec::new(), warnings: Vec::new() };
    let mut missing = false;
    for (server, answer) in servers.iter().zip(asked) {
        match answer {
            Ok(answer) => {
                missing |= answer
                    .warnings
                    .iter()
                    .any(|warning| warning.code == shed_api::Code::ShedUnreachable);
                list.add(server, answer);
            }
            Err(failure) if !args.all => return Err(failure),
            Err(failure) => {
                missing = true;
                let (server, reason) = (server.name.clone(), failure.text);
                list.warnings.push(Note { server, shed: None, reason, age_ms: None });
            }
        }
    }
    context.out.data(&list, || list.text(args.all))?;
    if list.sessions.is_empty() && list.warnings.is_empty() && !context.out.is_json() {
        context.out.say("no sessions; try: shed attach NAME");
    }
    Ok(if args.strict && missing { shed_api::problem::exit::UNREACHABLE } else { 0 })
}

async fn ask(client: &Client, name: Option<&str>) -> Result<SessionList, Failure> {
    Ok(match name {
        Some(name) => client.sessions(name).await?,
        None => client.all_sessions().await?,
    })
}

async fn watch(args: &ListArgs, context: &Context) -> Outcome {
    let server = context.server()?;
    if let Some(name) = &args.name {
        server.client.shed(name).await?;
    }
    let mut news = server.client.watch_sessions().await?;
    while let Some(mut now) = news.next().await? {
        if let Some(name) = &args.name {
            now.sessions.retain(|row| row.shed_name == *name);
            now.warnings.retain(|warning| warning.shed == *name);
        }
        let mut list = List { sessions: Vec::new(), warnings: Vec::new() };
        list.add(&server, now);
        if context.out.is_json() {
            context.out.line(&serde_json::to_string(&list).unwrap_or_default())?;
        } else {
            // Home, the list, and nothing of the old one below it: no flicker.
            let lines = list.text(false).replace('\n', "\x1b[K\n");
            context.out.raw(format!("\x1b[H{lines}\x1b[J").as_bytes())?;
        }
    }
    Ok(0)
}

impl List {
    fn add(&mut self, server: &Named, answer: SessionList) {
        let server = &server.name;
        self.sessions.extend(
            answer.sessions.into_iter().map(|session| Row { server: server.clone(), session }),
        );
        self.warnings.extend(answer.warnings.into_iter().map(|warning| {
            let Warning { shed, detail, age_ms, .. } = warning;
            Note { server: server.clone(), shed: Some(shed), reason: detail, age_ms }
        }));
    }

    fn text(&self, all: bool) -> String {
        let mut rows: Vec<Vec<String>> = self.sessions.iter().map(|row| cells(row, all)).collect();
        for note in &self.warnings {
            let age =
                note.age_ms.map(|ms| format!(", seen {} ago", span_ms(ms))).unwrap_or_default();
            let shed = note.shed.clone().unwrap_or_else(|| "-".to_owned());
            let mut cells = vec![shed];
            if all {
                cells.push(note.server.clone());
            }
            let kind = if note.shed.is_none() { "unreachable: " } else { "" };
            cells.extend([
                "-".to_owned(),
                format!("{kind}{}{age}", note.reason),
                String::new(),
                String::new(),
            ]);
            rows.push(cells);
        }
        rows.sort();
        let head: &[&str] = if all {
            &["SHED", "SERVER", "SESSION", "STATUS", "CREATED", "WINDOWS"]
        } else {
            &["SHED", "SESSION", "STATUS", "CREATED", "WINDOWS"]
        };
        table(head, rows)
    }
}

fn cells(row: &Row, all: bool) -> Vec<String> {
    let Row { server, session } = row;
    let mut cells = vec![session.shed_name.clone()];
    if all {
        cells.push(server.clone());
    }
    let status = match session.attached_clients {
        0 => "detached".to_owned(),
        1 => "attached".to_owned(),
        n => format!("attached ({n})"),
    };
    cells.extend([
        session.name.clone(),
        status,
        ago(session.created_at),
        session.window_count.to_string(),
    ]);
    cells
}
