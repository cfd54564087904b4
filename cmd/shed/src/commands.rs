//! The commands, one file each.

pub(crate) mod attach;
pub(crate) mod batch;
pub(crate) mod checkpoint;
pub(crate) mod completions;
pub(crate) mod console;
pub(crate) mod cp;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod df;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod forward;
pub(crate) mod gc;
pub(crate) mod lifecycle;
mod limits;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod orphans;
pub(crate) mod output;
pub(crate) mod rebuild;
pub(crate) mod run;
pub(crate) mod server;
pub(crate) mod sessions;
pub(crate) mod set;
pub(crate) mod show;
pub(crate) mod ssh_config;
pub(crate) mod stats;
mod target;
pub(crate) mod template;
pub(crate) mod terminate;
pub(crate) mod trash;
pub(crate) mod workers;

use crate::cli::Command;
use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Runs a command. One thread is enough: it mostly waits.
pub(crate) fn run(command: Command, context: &Context) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::io("no runtime"))?;
    let outcome = runtime.block_on(dispatch(command, context));
    // A thread may sit in a read of standard input; nobody waits for it.
    runtime.shutdown_background();
    outcome
}

/// Does something for each name. All are tried; the first failure's status is the exit status.
pub(crate) async fn each(
    names: &[String],
    context: &Context,
    mut act: impl AsyncFnMut(&str) -> Result<(), Failure>,
) -> u8 {
    let mut status = 0;
    for name in names {
        if let Err(failure) = act(name).await {
            context.out.failure(&failure);
            status = if status == 0 { failure.status } else { status };
        }
    }
    status
}

async fn dispatch(command: Command, context: &Context) -> Outcome {
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
        Command::Man(args) => man::run(&args, context),
    }
}
