//! The commands: one file each, and the dispatch to them.

mod attach;
mod batch;
mod checkpoint;
mod completions;
mod console;
mod cp;
mod create;
mod delete;
mod df;
mod diff;
mod doctor;
mod each;
mod events;
mod exec;
mod forward;
mod gc;
mod lifecycle;
mod limits;
mod list;
mod logs;
mod man;
mod orphans;
mod output;
mod rebuild;
mod run;
mod server;
mod sessions;
mod set;
mod show;
mod ssh_config;
mod stats;
mod target;
mod template;
mod terminate;
mod trash;
mod workers;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// The commands, in the order in which a new user meets them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Create(create::Args),
    #[command(alias = "ls")]
    List(list::Args),
    Run(Box<run::Args>),
    Attach(attach::Args),
    Sessions(sessions::Args),
    Workers(workers::Args),
    Output(output::Args),
    Diff(diff::Args),
    Checkpoint(checkpoint::Args),
    Terminate(terminate::Args),
    Batch(batch::Args),
    Template(template::Args),
    Trash(trash::Args),
    Gc(gc::Args),
    Orphans(orphans::Args),
    Exec(exec::Args),
    Console(console::Args),
    Cp(cp::Args),
    Forward(forward::Args),
    Show(show::Args),
    /// Start sheds
    Start(lifecycle::Args),
    /// Stop sheds; their volumes stay
    Stop(lifecycle::Args),
    /// Stop and start sheds
    Restart(lifecycle::Args),
    /// Freeze all processes of sheds
    Pause(lifecycle::Args),
    /// Resume paused sheds
    Unpause(lifecycle::Args),
    Rebuild(rebuild::Args),
    Set(set::Args),
    #[command(alias = "rm")]
    Delete(delete::Args),
    Logs(logs::Args),
    Stats(stats::Args),
    Df(df::Args),
    Events(events::Args),
    Server(server::Args),
    SshConfig(ssh_config::Args),
    Doctor(doctor::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Man(man::Args),
}

/// Runs a command. `definition` builds the definition of the whole command line, for the manual pages.
pub(crate) fn run(
    command: Command,
    definition: fn() -> clap::Command,
    context: &Context,
) -> Outcome {
    // One thread is enough: a command mostly waits for the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::io("cannot start the async runtime"))?;
    let outcome = runtime.block_on(dispatch(command, definition, context));
    // Does not wait for a thread that is blocked reading standard input.
    runtime.shutdown_background();
    outcome
}

async fn dispatch(
    command: Command,
    definition: fn() -> clap::Command,
    context: &Context,
) -> Outcome {
    match command {
        Command::Create(args) => create::run(args, context).await,
        Command::List(args) => list::run(args, context).await,
        Command::Run(args) => run::run(*args, context).await,
        Command::Attach(args) => attach::run(args, context).await,
        Command::Sessions(args) => sessions::run(args, context).await,
        Command::Workers(args) => workers::run(args, context).await,
        Command::Output(args) => output::run(args, context).await,
        Command::Diff(args) => diff::run(args, context).await,
        Command::Checkpoint(args) => checkpoint::run(args, context).await,
        Command::Terminate(args) => terminate::run(args, context).await,
        Command::Batch(args) => batch::run(args, context).await,
        Command::Template(args) => template::run(args, context).await,
        Command::Trash(args) => trash::run(args, context).await,
        Command::Gc(args) => gc::run(args, context).await,
        Command::Orphans(args) => orphans::run(args, context).await,
        Command::Exec(args) => exec::run(args, context).await,
        Command::Console(args) => console::run(args, context).await,
        Command::Cp(args) => cp::run(args, context).await,
        Command::Forward(args) => forward::run(args, context).await,
        Command::Show(args) => show::run(args, context).await,
        Command::Start(args) => lifecycle::run(args, lifecycle::START, context).await,
        Command::Stop(args) => lifecycle::run(args, lifecycle::STOP, context).await,
        Command::Restart(args) => lifecycle::run(args, lifecycle::RESTART, context).await,
        Command::Pause(args) => lifecycle::run(args, lifecycle::PAUSE, context).await,
        Command::Unpause(args) => lifecycle::run(args, lifecycle::UNPAUSE, context).await,
        Command::Rebuild(args) => rebuild::run(args, context).await,
        Command::Set(args) => set::run(args, context).await,
        Command::Delete(args) => delete::run(args, context).await,
        Command::Logs(args) => logs::run(args, context).await,
        Command::Stats(args) => stats::run(args, context).await,
        Command::Df(args) => df::run(args, context).await,
        Command::Events(args) => events::run(args, context).await,
        Command::Server(args) => server::run(args, context).await,
        Command::SshConfig(args) => ssh_config::run(args, context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        Command::Completions(args) => completions::run(&args, context),
        Command::Man(args) => man::run(&args, definition()),
    }
}
