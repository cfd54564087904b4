//! `shed sessions`.

use std::collections::BTreeMap;

use clap_complete::ArgValueCandidates;
use shed_api::session::{AutoRespond, Input, NewSession, PatchSession, Session, SessionLimits};
use shed_api::worker::Restart;
use shed_client::{Client, ClientError};

use super::completions::{sessions, sheds};
use super::each;
use super::limits::Limits;
use super::target::{Target, Targets};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;

mod delete;
mod list;
mod show;

/// List sessions; make, change, restart, freeze and delete them, type into and read them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed sessions
  shed sessions --all                    on every server
  shed sessions web --watch
  shed sessions new web tests
  shed sessions web --long               with titles, branches and workers
  shed sessions set web fix-login --title 'Fix the login' --tag urgent
  shed sessions restart web fix-login --continue
  shed sessions delete web fix-login
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
    /// With titles, branches and workers
    #[arg(short, long)]
    long: bool,
}

impl ListArgs {
    // clap could refuse this by itself, but would refuse `-s` before the subcommand with it.
    fn is_used(&self) -> bool {
        self.name.is_some() || self.all || self.strict || self.watch || self.long
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
    /// Show everything about a session
    Show(Target),
    /// Delete sessions and everything in them
    ///
    /// The worktree and the branch go too, into the trash for 30 days. Where files are not committed, or commits are
    /// nowhere else, it says so and asks; nobody to ask is a no.
    #[command(visible_alias = "kill", alias = "rm")]
    Delete {
        #[command(flatten)]
        targets: Targets,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
    },
    /// Start the workers of sessions again
    Restart {
        #[command(flatten)]
        targets: Targets,
        /// Agents go on with their conversation
        #[arg(long = "continue")]
        continues: bool,
    },
    /// Freeze all processes of sessions
    Freeze(Targets),
    /// Let frozen sessions go on
    Thaw(Targets),
    /// Remember tmux sessions that were made by hand
    Adopt(Targets),
    /// Change what is remembered of a session
    Set(Set),
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

#[derive(Debug, clap::Args)]
struct Set {
    #[command(flatten)]
    target: Target,
    /// The new name
    #[arg(long = "name", id = "new_name", value_name = "SESSION", value_parser = names::new_session)]
    new: Option<String>,
    /// Any text for people; empty takes it away
    #[arg(long)]
    title: Option<String>,
    /// The new tags, all of them
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Take all tags away
    #[arg(long, conflicts_with = "tags")]
    no_tags: bool,
    /// The new name of its branch
    #[arg(long)]
    branch: Option<String>,
    /// How prompts of its agents are to be answered
    #[arg(long, value_name = "off|safe|rules")]
    auto_respond: Option<AutoRespond>,
    #[command(flatten)]
    limits: Limits,
    /// Take all limits away
    #[arg(long, conflicts_with_all = ["max_runtime", "max_output", "max_checkpoint_file", "checkpoint_every"])]
    no_limits: bool,
}

impl Set {
    /// `limits` are those that are to hold.
    fn patch(&self, limits: Option<SessionLimits>) -> PatchSession {
        PatchSession {
            name: self.new.clone(),
            title: self.title.clone(),
            tags: (self.no_tags || !self.tags.is_empty()).then(|| self.tags.clone()),
            limits,
            auto_respond: self.auto_respond,
            branch: self.branch.clone(),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    match args.command {
        None if args.list.watch => list::watch(&args.list, context).await,
        None => list::list(&args.list, context).await,
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
        Command::Show(target) => return show::run(&client, &target, context).await,
        Command::Delete { targets, force } => {
            return Ok(delete::run(&client, targets, force, context).await);
        }
        Command::Restart { targets, continues } => {
            let restart = Restart { continues };
            let restart = async |name: &str, session: &str| {
                client.restart_session(name, session, &restart).await
            };
            return many(targets, "was started again", context, restart).await;
        }
        Command::Freeze(targets) => {
            return many(targets, "is frozen", context, wish(&client, "freeze")).await;
        }
        Command::Thaw(targets) => {
            return many(targets, "goes on", context, wish(&client, "thaw")).await;
        }
        Command::Adopt(targets) => {
            return many(targets, "is remembered", context, wish(&client, "adopt")).await;
        }
        Command::Set(set) => {
            let Target { name, session } = &set.target;
            let limits = if set.limits.is_given() {
                // What is sent are all limits: those that are not named here stay.
                set.limits.over(&client.session(name, session).await?.limits)
            } else {
                set.no_limits.then(SessionLimits::default)
            };
            let patch = set.patch(limits);
            if patch == PatchSession::default() {
                return Err(Failure::usage("nothing to change").hint("shed sessions set --help"));
            }
            let changed = client.patch_session(name, session, &patch).await?;
            context.out.say(&format!("session {name}/{} was changed", changed.name));
            context.out.data(&changed, String::new)?;
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

/// Asks for one thing of each session and prints them as they are then.
async fn many(
    targets: Targets,
    done: &str,
    context: &Context,
    ask: impl AsyncFn(&str, &str) -> Result<Session, ClientError>,
) -> Outcome {
    let Targets { name, sessions } = targets;
    let mut after = Vec::new();
    let one = async |session: &str| {
        after.push(ask(&name, session).await?);
        context.out.say(&format!("session {name}/{session} {done}"));
        Ok(())
    };
    let status = each(&sessions, context, one).await;
    context.out.data(&after, String::new)?;
    Ok(status)
}

/// A question of one word.
fn wish(
    client: &Client,
    verb: &'static str,
) -> impl AsyncFn(&str, &str) -> Result<Session, ClientError> {
    async move |name: &str, session: &str| client.session_wish(name, session, verb).await
}
