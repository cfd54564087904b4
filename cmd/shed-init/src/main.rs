//! shed-init: process 1 of a shed. It starts and watches processes for the server and makes no decisions of its own.
//!
//! One static binary with several subcommands. Without a subcommand it is the **supervisor**, a small program that reaps
//! processes, forwards signals and keeps the **daemon** running. The daemon holds the link to the server, starts processes
//! and watches tmux. It may die at any time without any effect on tmux sessions. Each process is started through a
//! **child stage**: a fresh copy of this program that takes the user, the terminal and the directory and then executes the
//! command. `run` is the **runner** of a command in a tmux window. `collect` is the **collector**, which sends the output
//! that runners keep to the server. The other subcommands (`connect`, `listen`, `sftp`, `git`, `watch-tree`, `orphans`,
//! `spools`, `credential`, `locale`, `exec`) are short programs that the daemon starts as the session user.

mod checkout;
mod child;
mod clock;
mod collect;
mod confine;
mod daemon;
mod environment;
mod forward;
mod git;
mod launch;
mod leftover;
mod locale;
mod log;
mod passwd;
mod process_tree;
mod profile;
mod reaper;
mod runner;
mod settings;
mod sftp;
mod spool_record;
mod supervisor;
mod term;
mod unix_path;
mod watch_tree;

use std::process::ExitCode;

/// The exit status for invalid arguments.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // Child processes inherit the mask of blocked signals, and our parent may have blocked some. Each subcommand blocks the
    // signals that it handles.
    nix::sys::signal::SigSet::empty().thread_set_mask().ok();
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_none_or(|first| first.starts_with("--")) {
        return supervisor::main(&args);
    }
    let subcommand = args.remove(0);
    if matches!(subcommand.as_str(), "connect" | "listen" | "collect" | "credential") {
        forward::refuse_tracing();
    }
    match (subcommand.as_str(), args.as_slice()) {
        (daemon::SUBCOMMAND, _) => daemon::main(&args),
        ("child", []) => child::main(),
        ("run", [socket, token]) => runner::main(socket, token),
        ("connect", [kind, target @ ..]) => forward::connect(kind, target),
        ("listen", [kind, target @ ..]) => forward::listen(kind, target),
        ("collect", [spool]) => collect::main(spool),
        ("orphans", []) => leftover::list(),
        ("orphans", processes) => leftover::stop(processes),
        ("spools", [spool, workers @ ..]) => leftover::spools(spool, workers),
        ("checkout", [program, args @ ..]) => checkout::main(program, args),
        ("git", []) => git::main(),
        ("watch-tree", [directory]) => watch_tree::main(directory),
        ("sftp", []) => sftp::main(),
        ("credential", [socket, ..]) => forward::credential(socket),
        ("locale", variables) => locale::main(variables),
        ("exec", [program, args @ ..]) => child::exec(program, args),
        ("version", []) => version(),
        _ => {
            log::line(
                "shed-init: invalid arguments; shed-server starts this program, do not run it yourself",
            );
            ExitCode::from(USAGE)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the only subcommand that people run")]
fn version() -> ExitCode {
    println!("shed-init {}", env!("CARGO_PKG_VERSION"));
    ExitCode::SUCCESS
}
