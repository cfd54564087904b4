//! `shed completions`.

use clap_complete::Shell;

use crate::context::Context;
use crate::failure::{Failure, Outcome};

/// Print the shell code that completes commands, sheds and sessions
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(shed completions bash)
  shed completions zsh > ~/.zfunc/_shed
  shed completions fish > ~/.config/fish/completions/shed.fish")]
pub(crate) struct Args {
    /// Shell to complete in
    shell: Shell,
}

/// Runs the command. The printed code calls this program at each completion.
pub(crate) fn run(args: &Args, context: &Context) -> Outcome {
    let program = std::env::current_exe()
        .map_err(Failure::io("cannot find the path of the running program"))?;
    let output = std::process::Command::new(&program)
        .env("COMPLETE", args.shell.to_string())
        .output()
        .map_err(Failure::io(format!("cannot run {}", program.display())))?;
    context.out.raw(&output.stdout)?;
    Ok(0)
}
