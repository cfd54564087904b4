//! The supervisor: the parent of the server where systemd does not supervise it. It starts the server again when it dies,
//! and stops it when it is asked to stop itself.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Instant;

use anyhow::Context as _;
use shed_api::problem::exit;
use tokio::process::{Child, Command};

use crate::print::say;
use crate::runtime::block_on;
use crate::signals::StopSignals;

use super::addresses::Addresses;
use super::decide::{AfterExit, Exit, after_exit};
use super::process::Process;

/// Supervise a server (called by `service start`)
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File with the server's addresses; read at each start of the server
    #[arg(long, value_name = "FILE")]
    addresses: PathBuf,
    /// Arguments of the server
    #[arg(last = true, required = true)]
    serve: Vec<OsString>,
}

/// Runs the command. Call it before anything in this process has opened a file: it closes all of them.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    close_inherited()?;
    // Fails only for the leader of a process group, which has no terminal to leave.
    rustix::process::setsid().ok();
    // A path: after a build it names the new program, which is the one to start next.
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    block_on(supervise(&program, args))
}

async fn supervise(program: &Path, args: &Args) -> anyhow::Result<u8> {
    let mut stop = StopSignals::listen()?;
    let mut pause = None;
    loop {
        let began = Instant::now();
        let exit = match spawn(program, args) {
            Ok(mut child) => tokio::select! {
                status = child.wait() => exit_of(status?),
                () = stop.recv() => return stop_server(&mut child, &mut stop).await,
            },
            Err(error) => {
                say(&format!("cannot run {}: {error}", program.display()));
                Exit::NotStarted
            }
        };
        let next = match after_exit(exit, began.elapsed(), pause) {
            AfterExit::End(status) => return Ok(status),
            AfterExit::Restart(next) => next,
        };
        say(&format!("the server {}; restarting it in {} s", ended(exit), next.as_secs()));
        pause = Some(next);
        tokio::select! {
            () = tokio::time::sleep(next) => {}
            () = stop.recv() => return Ok(exit::OK),
        }
    }
}

fn spawn(program: &Path, args: &Args) -> std::io::Result<Child> {
    let addresses = Addresses::parse(&std::fs::read_to_string(&args.addresses)?);
    let addresses = addresses.as_ref().map(Addresses::arguments).unwrap_or_default();
    Command::new(program).args(&args.serve).args(addresses).spawn()
}

/// Stops the server and waits for it. A second signal reaches the server too, which then cuts its drain short.
async fn stop_server(child: &mut Child, stop: &mut StopSignals) -> anyhow::Result<u8> {
    loop {
        if let Some(process) = child.id().and_then(Process::find) {
            process.terminate()?;
        }
        tokio::select! {
            _ = child.wait() => return Ok(exit::OK),
            () = stop.recv() => {}
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code().map(u8::try_from), status.signal()) {
        (Some(Ok(code)), _) => Exit::Status(code),
        (_, Some(signal)) => Exit::Signal(signal),
        (Some(Err(_)) | None, None) => Exit::Status(exit::FAILED),
    }
}

/// How it ended, for the log.
fn ended(exit: Exit) -> String {
    match exit {
        Exit::Status(status) => format!("exited with status {status}"),
        Exit::Signal(signal) => format!("was killed by signal {signal}"),
        Exit::NotStarted => "was not started".to_owned(),
    }
}

/// Closes every descriptor but stdin, stdout and stderr: one that the caller of `service start` left open, such as a lock or
/// the end of a pipe, would stay open as long as the server runs.
fn close_inherited() -> anyhow::Result<()> {
    let entries = std::fs::read_dir("/proc/self/fd").context("cannot list open files")?;
    let numbers: Vec<i32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    for number in numbers {
        // One of them is the directory itself, which is closed by now.
        nix::unistd::close(number).ok();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_signals_are_told_apart() {
        assert_eq!(exit_of(ExitStatus::from_raw(4 << 8)), Exit::Status(4));
        assert_eq!(exit_of(ExitStatus::from_raw(9)), Exit::Signal(9));
        assert_eq!(ended(Exit::Signal(9)), "was killed by signal 9");
        assert_eq!(ended(Exit::Status(1)), "exited with status 1");
    }
}
