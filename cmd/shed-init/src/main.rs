//! shed-init: PID 1 of a shed. It runs things, watches things and decides nothing.
//!
//! One static binary with several faces. Without arguments it is the **supervisor**: a few lines that reap, pass signals
//! and keep a **worker** alive. The worker holds the link to the server, starts processes and watches tmux; it may die at
//! any time and no tmux session notices. Each process is started through a **child** stage, a fresh copy of this
//! program that becomes the user, the terminal and at last the command. `run` is the **runner** in a tmux window,
//! `collect` the **collector**, which sends what the workers' runners keep. The rest (`connect`, `listen`, `sftp`, `git`,
//! `watch-tree`, `orphans`, `spools`, `credential`, `exec`) are small programs the worker starts as `dev`.

mod box_socket;
mod checkout;
mod child;
mod collect;
mod confine;
mod forward;
mod git;
mod launch;
mod leftover;
mod link;
mod place;
mod reaper;
mod record;
mod run;
mod runner;
mod sftp;
mod supervisor;
mod term;
mod tree;
mod unix_path;
mod watch;
mod watch_tree;
mod worker;

use std::process::ExitCode;

/// The exit status of a command line this program does not understand.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // A child inherits which signals are blocked. Whoever started us may block some; each face blocks its own.
    nix::sys::signal::SigSet::empty().thread_set_mask().ok();
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_none_or(|first| first.starts_with("--")) {
        return supervisor::main(&args);
    }
    let face = args.remove(0);
    match (face.as_str(), args.as_slice()) {
        ("worker", _) => worker::main(&args),
        ("child", []) => child::main(),
        ("run", [socket, token]) => runner::main(socket, token),
        ("connect", [kind, target @ ..]) => forward::connect(kind, target),
        ("listen", [kind, target @ ..]) => forward::listen(kind, target),
        ("collect", [spool]) => collect::main(spool),
        ("orphans", []) => leftover::list(),
        ("orphans", processes) => leftover::end(processes),
        ("spools", [spool, workers @ ..]) => leftover::spools(spool, workers),
        ("checkout", [program, words @ ..]) => checkout::main(program, words),
        ("git", []) => git::main(),
        ("watch-tree", [directory]) => watch_tree::main(directory),
        ("sftp", []) => sftp::main(),
        ("credential", [socket, ..]) => forward::credential(socket),
        ("exec", [program, words @ ..]) => child::exec_words(program, words),
        ("version", []) => version(),
        _ => {
            say("shed-init: it is started by shed-server; there is nothing to run by hand");
            ExitCode::from(USAGE)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the one face that is asked by people")]
fn version() -> ExitCode {
    println!("shed-init {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}

/// One line in the container's log.
#[expect(clippy::print_stderr, reason = "PID 1 has no other log than the container's")]
fn say(text: &str) {
    eprintln!("{text}");
}
