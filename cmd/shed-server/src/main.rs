//! shed-server: the program that runs and administrates a server.
//!
//! `serve` connects configuration, data directory, store, engine, App and listeners, and shuts them down in order; the
//! rules are in `shed-core`. `service` runs it in the background. The other commands talk to the running server through its
//! socket, or hold the lock of the data directory while they work.

mod access;
mod cli;
mod commands;
mod config;
mod data_dir;
mod doctor;
mod globals;
mod log;
mod paste;
mod paths;
mod print;
mod runtime;
mod serve;
mod service;
mod signals;

use std::process::ExitCode;

use clap::Parser as _;
use shed_api::problem::exit;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    match cli::run(cli) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            print::say(&format!("shed-server: {error:#}"));
            ExitCode::from(status(&error))
        }
    }
}

/// The exit status for an error; see `shed_api::problem::exit`.
fn status(error: &anyhow::Error) -> u8 {
    if error.is::<config::ConfigError>() {
        return exit::USAGE;
    }
    if error.is::<data_dir::InUse>()
        || error.is::<data_dir::Incomplete>()
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
