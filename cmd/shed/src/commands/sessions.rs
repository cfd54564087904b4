//! `shed sessions`.

use clap_complete::ArgValueCandidates;
use shed_api::session::{AutoRespond, Input, NewSession, PatchSession, Session, SessionLimits};
use shed_api::worker::Restart;
use shed_client::{Client, ClientError};

use super::each::each_session;
use super::limits::Limits;
use super::target::{Target, Targets};
use crate::candidates::{sessions, sheds};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::names;
use crate::variables;

mod delete;
mod list;
mod show;

pub(super) use list::with_reasons;

/// List, create, change, control and delete sessions
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  shed sessions
  shed sessions --all                    the sessions of all servers
  shed sessions web --watch
  shed sessions new web tests
  shed sessions web --long               with title, branch and workers
  shed sessions set web fix-login --title 'Fix the login' --tag urgent
  shed sessions restart web fix-login --continue
  shed sessions delete web fix-login
  shed sessions send web tests 'make test' --enter
  shed sessions send web fix-login --enter -- '- update the tests too'
  shed sessions capture web tests --lines 200")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Show only sessions of this shed
    #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
    name: Option<String>,
    /// Ask all configured servers
    #[arg(short, long, conflicts_with_all = ["watch"])]
    all: bool,
    /// Exit with status 5 if a server or a shed does not answer
    #[arg(long)]
    strict: bool,
    /// Show the list again at each change
    #[arg(short, long)]
    watch: bool,
    /// Show title, branch and workers too
    #[arg(short, long)]
    long: bool,
}

impl ListArgs {
    /// Whether an option or argument of the list is given. Not checked by clap, which would then also refuse `-s` before a
    /// subcommand.
    fn is_used(&self) -> bool {
        self.name.is_some() || self.all || self.strict || self.watch || self.long
    }
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create a session without attaching
    New {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Name of the session
        #[arg(value_parser = names::new_session)]
        session: String,
        /// Working directory (default: /workspace)
        #[arg(short = 'w', long, value_name = "DIR")]
        workdir: Option<String>,
        /// Environment variable (repeatable); K alone takes the local value
        #[arg(short, long, value_name = "K[=V]")]
        env: Vec<String>,
        /// Command to run (default: a login shell)
        #[arg(trailing_var_arg = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// Show all details of a session
    Show(Target),
    /// Delete sessions with their worktrees and branches
    ///
    /// Deleted worktrees and branches stay in the trash for 30 days: `shed trash`. If a session has uncommitted or unpushed
    /// work, it is listed and the deletion must be confirmed; without a terminal it fails with status 4.
    #[command(visible_alias = "kill", alias = "rm")]
    Delete {
        #[command(flatten)]
        targets: Targets,
        /// Delete uncommitted and unpushed work without asking
        #[arg(short, long)]
        force: bool,
    },
    /// Restart the workers of sessions
    Restart {
        #[command(flatten)]
        targets: Targets,
        /// Agents continue their conversation
        #[arg(long = "continue")]
        continues: bool,
    },
    /// Freeze all processes of sessions
    Freeze(Targets),
    /// Resume frozen sessions
    Thaw(Targets),
    /// Manage tmux sessions that were created without shed
    Adopt(Targets),
    /// Change name, title, tags, branch or limits of a session
    Set(Set),
    /// Rename a session
    Rename {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Session, by name, id or tmux id ($3)
        #[arg(value_parser = names::session, add = ArgValueCandidates::new(sessions))]
        session: String,
        /// New name
        #[arg(value_parser = names::new_session)]
        new: String,
    },
    /// Paste text into the active pane of a session, or press keys
    Send {
        /// Press Enter after the text
        #[arg(long)]
        enter: bool,
        /// Press the named keys, for example Enter, C-c, Up, F5
        #[arg(long)]
        keys: bool,
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Session, by name, id or tmux id ($3)
        #[arg(value_parser = names::session, add = ArgValueCandidates::new(sessions))]
        session: String,
        /// Text or keys; several words of text are joined by blanks. Text that begins with - follows --
        #[arg(value_name = "TEXT")]
        text: Vec<String>,
    },
    /// Print the active pane of a session
    Capture {
        /// Shed
        #[arg(value_parser = names::shed, add = ArgValueCandidates::new(sheds))]
        name: String,
        /// Session, by name, id or tmux id ($3)
        #[arg(value_parser = names::session, add = ArgValueCandidates::new(sessions))]
        session: String,
        /// Include N lines of history (default: 0)
        #[arg(short = 'n', long, value_name = "N")]
        lines: Option<u32>,
        /// Keep escape sequences for colours
        #[arg(long)]
        ansi: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Set {
    #[command(flatten)]
    target: Target,
    /// New name
    #[arg(long = "name", id = "new_name", value_name = "SESSION", value_parser = names::new_session)]
    new: Option<String>,
    /// New title; empty removes it
    #[arg(long)]
    title: Option<String>,
    /// New tag, replacing all present ones (repeatable)
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Remove all tags
    #[arg(long, conflicts_with = "tags")]
    no_tags: bool,
    /// New name of the session's branch
    #[arg(long)]
    branch: Option<String>,
    /// How to answer prompts of agents automatically
    #[arg(long, value_name = "off|safe|rules")]
    auto_respond: Option<AutoRespond>,
    #[command(flatten)]
    limits: Limits,
    /// Remove all limits
    #[arg(long, conflicts_with_all = ["max_runtime", "max_output", "max_checkpoint_file", "checkpoint_every"])]
    no_limits: bool,
}

impl Set {
    /// The request; `limits` replaces all limits of the session.
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

pub(crate) async fn run(args: Args, context: &Context) -> Outcome {
    match args.command {
        None if args.list.watch => list::watch(&args.list, context).await,
        None => list::list(&args.list, context).await,
        Some(_) if args.list.is_used() => {
            Err(Failure::usage("options of the list cannot be combined with a subcommand")
                .hint("shed sessions --help"))
        }
        Some(command) => run_command(command, context).await,
    }
}

async fn run_command(command: Command, context: &Context) -> Outcome {
    let client = context.client()?;
    match command {
        Command::New { name, session, workdir, env, command } => {
            let request = NewSession {
                name: Some(session),
                directory: workdir,
                command,
                env: variables::from_options(&env)?,
                ..NewSession::default()
            };
            let made = client.new_session(&name, &request).await?;
            context.out.say(&format!("session {name}/{} was created", made.name));
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
            return each_session(targets, "was restarted", context, restart).await;
        }
        Command::Freeze(targets) => {
            return each_session(targets, "is frozen", context, operation(&client, "freeze")).await;
        }
        Command::Thaw(targets) => {
            return each_session(targets, "was thawed", context, operation(&client, "thaw")).await;
        }
        Command::Adopt(targets) => {
            return each_session(targets, "was adopted", context, operation(&client, "adopt"))
                .await;
        }
        Command::Set(set) => {
            let Target { name, session } = &set.target;
            let limits = if set.limits.is_given() {
                // The request replaces all limits, so it includes the present ones.
                set.limits.over(&client.session(name, session).await?.limits)
            } else {
                set.no_limits.then(SessionLimits::default)
            };
            let patch = set.patch(limits);
            if patch == PatchSession::default() {
                return Err(Failure::usage("no change given").hint("shed sessions set --help"));
            }
            let changed = client.patch_session(name, session, &patch).await?;
            context.out.say(&format!("session {name}/{} was changed", changed.name));
            context.out.data(&changed, String::new)?;
        }
        Command::Rename { name, session, new } => {
            let patch = PatchSession { name: Some(new), ..PatchSession::default() };
            let renamed = client.patch_session(&name, &session, &patch).await?;
            context.out.say(&format!("session {name}/{session} was renamed to {}", renamed.name));
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
            if context.out.is_json() {
                context.out.data(&output, String::new)?;
            } else {
                context.out.screen(&output.output)?;
            }
        }
    }
    Ok(0)
}

/// An operation without parameters; `verb` is its name in the API.
fn operation(
    client: &Client,
    verb: &'static str,
) -> impl AsyncFn(&str, &str) -> Result<Session, ClientError> {
    async move |name: &str, session: &str| client.session_operation(name, session, verb).await
}
