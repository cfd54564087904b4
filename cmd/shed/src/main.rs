//! `shed`: the client. It parses the command line, calls the server and prints the answer; the server decides what is allowed.
//!
//! One file per command under `commands`; the doc comment of its arguments is its help text. All printing goes through
//! `output`.

mod candidates;
mod cli;
mod clock;
mod commands;
mod config;
mod context;
mod escape;
mod failure;
mod globals;
mod keyboard;
mod names;
mod output;
mod pager;
mod process;
mod prompt;
mod terminal;
mod variables;

use clap::{CommandFactory as _, Parser as _};

use cli::Cli;

fn main() {
    // When a shell asks for completions this answers and exits; otherwise it does nothing.
    clap_complete::CompleteEnv::with_factory(Cli::command).complete();
    // Not a return from `main`: that would wait for a thread that is blocked reading standard input.
    std::process::exit(i32::from(run()));
}

fn run() -> u8 {
    let cli = Cli::parse();
    let out = output::Out::new(cli.globals.json);
    let result = context::Context::new(&cli.globals, out)
        .and_then(|context| commands::run(cli.command, Cli::command, &context));
    let was_paged = pager::end();
    let status = match result {
        Ok(status) => status,
        Err(failure) => {
            out.failure(&failure);
            failure.status
        }
    };
    // Somebody who leaves the pager has seen enough.
    if was_paged && status == failure::BROKEN_PIPE { 0 } else { status }
}
