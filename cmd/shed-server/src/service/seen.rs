//! Looks at what exists of the service.

use std::path::Path;

use shed_api::server::Ready;

use super::decide::{Seen, Server};
use super::layout::Layout;
use super::process::{Process, data_dir_of, is_server_of};
use super::unit;

/// What exists now, and what the server's ready file says if that server exists.
pub(crate) fn inspect(layout: &Layout) -> (Seen, Option<Ready>) {
    let server = server(layout);
    let seen = Seen {
        unit: unit::state(layout),
        supervisor: supervisor(layout),
        server: server.as_ref().map(|(server, _)| *server),
    };
    (seen, server.map(|(_, ready)| ready))
}

/// Fails if the server that runs here keeps its data elsewhere than the options say: then another server is meant.
pub(crate) fn check_data_dir(layout: &Layout) -> anyhow::Result<()> {
    let Some((server, _)) = server(layout) else {
        return Ok(());
    };
    let Some(other) = data_dir_of(&server.process.arguments()) else {
        return Ok(());
    };
    let real = |dir: &Path| dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    if real(&other) == real(&layout.data_dir) {
        return Ok(());
    }
    let (other, asked) = (other.display(), layout.data_dir.display());
    anyhow::bail!(
        "the server that runs here keeps its data in {other}, not in {asked}; \
         for a second server beside it: shed-server service start --run-dir {asked}"
    )
}

fn supervisor(layout: &Layout) -> Option<Process> {
    let text = std::fs::read_to_string(layout.pid_file()).ok()?;
    text.parse::<Process>().ok().filter(|process| process.is_alive())
}

fn server(layout: &Layout) -> Option<(Server, Ready)> {
    let ready = layout.ready()?;
    let process = Process::find(ready.pid)?;
    let program = process.program()?;
    if !is_server_of(&program, &process.arguments(), &layout.ready_file()) {
        return None;
    }
    let is_other_build = std::env::current_exe().is_ok_and(|own| own != program);
    Some((Server { process, is_other_build }, ready))
}
