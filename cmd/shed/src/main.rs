//! shed: the client. It parses, calls and renders; what may happen is the server's affair.
//!
//! One file per command under `commands`; the doc comment of its arguments is its help text. `output` is the only printer.

mod cli;
mod clock;
mod commands;
mod config;
mod context;
mod failure;
mod names;
mod output;
mod process;
mod terminal;

use clap::{CommandFactory as _, Parser as _};

fn main() {
    // Answers the shell's question what could come next, and ends; nothing otherwise.
    clap_complete::CompleteEnv::with_factory(cli::Cli::command).complete();
    // Not a return: a thread may sit in a read of standard input, and returning would wait for it.
    std::process::exit(i32::from(run()));
}

fn run() -> u8 {
    let cli = cli::Cli::parse();
    let out = output::Out::new(cli.json);
    let result =
        context::Context::new(&cli, out).and_then(|context| commands::run(cli.command, &context));
    match result {
        Ok(status) => status,
        Err(failure) => {
            out.failure(&failure);
            failure.status
        }
    }
}
