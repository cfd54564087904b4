//! shed-server: wiring. Configuration, data directory, store, engine, App, doors, and the end of all that in order.
//!
//! Nothing is decided here; what may happen is `shed-core`'s. Commands beside `serve` talk to the running server through
//! its socket, or hold the data directory's lock while they work.

mod cli;
mod commands;
mod config;
mod doctor;
mod log;
mod place;
mod serve;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use shed_api::problem::exit;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli::run(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            // There is nowhere left to say it.
            writeln!(std::io::stderr(), "shed-server: {error:#}").ok();
            ExitCode::from(status(&error))
        }
    }
}

/// The exit status of a command that ended with this error.
fn status(error: &anyhow::Error) -> u8 {
    if error.is::<config::ConfigError>() {
        return exit::USAGE;
    }
    if error.is::<place::InUse>()
        || error.is::<shed_http::BindError>()
        || error.is::<shed_ssh::BindError>()
    {
        return exit::CONFLICT;
    }
    if let Some(error) = error.downcast_ref::<shed_client::ClientError>() {
        return error.exit_status();
    }
    if let Some(error) = error.downcast_ref::<shed_core::Error>() {
        return error.problem().code.exit_status();
    }
    exit::FAILED
}
