//! `shed-server service status`.

use std::path::PathBuf;

use serde::Serialize;
use shed_api::problem::exit;

use crate::globals::Globals;
use crate::print;

use super::answers::answers;
use super::decide::Unit;
use super::layout::Layout;
use super::{log, seen, unit};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one field of the JSON data as text; nothing if it is null
    #[arg(long, value_name = "NAME", value_parser = FIELDS)]
    field: Option<String>,
}

/// The fields of [`Report`].
const FIELDS: [&str; 10] = [
    "running",
    "pid",
    "supervisor_pid",
    "unit",
    "http",
    "ssh",
    "socket",
    "server_id",
    "data_dir",
    "state_dir",
];

/// What `--json` prints. All but the last three fields are null while there is no such thing.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Whether a server answers on `socket`. Without a `pid` it is one that the service did not start.
    running: bool,
    /// The server's process; it may not answer yet, or not any more.
    pid: Option<u32>,
    /// Null under systemd, and for a server that outlived its supervisor.
    supervisor_pid: Option<u32>,
    /// The systemd unit, if it is active.
    unit: Option<&'static str>,
    /// `ADDR:PORT` of the first HTTP listener.
    http: Option<String>,
    /// `ADDR:PORT` of the first SSH listener.
    ssh: Option<String>,
    server_id: Option<String>,
    socket: PathBuf,
    data_dir: PathBuf,
    state_dir: PathBuf,
}

/// Runs the command.
pub(crate) async fn run(args: &Args, layout: &Layout, globals: &Globals) -> anyhow::Result<u8> {
    let report = Report::new(layout).await;
    match &args.field {
        None => print::print(globals, &report, || report.line(layout, globals) + "\n")?,
        Some(field) => print::print_text(&report.field(field)?)?,
    }
    Ok(if report.running { exit::OK } else { exit::FAILED })
}

/// Prints the report for another command of the service, if `--json` asks for it.
pub(crate) async fn print_json(layout: &Layout, globals: &Globals) -> anyhow::Result<()> {
    if globals.json {
        print::print(globals, &Report::new(layout).await, String::new)?;
    }
    Ok(())
}

impl Report {
    async fn new(layout: &Layout) -> Self {
        let (seen, ready) = seen::inspect(layout);
        let known = Self {
            supervisor_pid: seen.supervisor.map(|process| process.pid),
            unit: (seen.unit == Unit::Active).then_some(unit::NAME),
            socket: layout.socket.clone(),
            data_dir: layout.data_dir.clone(),
            state_dir: layout.state_dir.clone(),
            ..Self::default()
        };
        let known = match ready {
            None => known,
            Some(ready) => Self {
                pid: Some(ready.pid),
                http: ready.http,
                ssh: ready.ssh,
                server_id: Some(ready.server_id),
                socket: PathBuf::from(ready.socket),
                ..known
            },
        };
        Self { running: answers(&known.socket).await, ..known }
    }

    /// One line for people.
    fn line(&self, layout: &Layout, globals: &Globals) -> String {
        let shown = |address: &Option<String>| address.clone().unwrap_or_else(|| "none".to_owned());
        let socket = self.socket.display();
        match (self.running, self.pid.or(self.supervisor_pid)) {
            (true, Some(pid)) if self.pid.is_some() => format!(
                "the server runs (pid {pid}, socket {socket}, HTTP {}, SSH {})",
                shown(&self.http),
                shown(&self.ssh)
            ),
            (true, _) => format!("a server runs that the service did not start (socket {socket})"),
            (false, Some(pid)) => format!(
                "the server does not answer (pid {pid}, socket {socket}); see its log: {}",
                log::paste(layout)
            ),
            (false, None) => {
                format!("the server does not run; start it: {}", layout.paste("start", globals))
            }
        }
    }

    /// A field's value as text, with a line end; empty if it is null.
    fn field(&self, name: &str) -> anyhow::Result<String> {
        Ok(match &serde_json::to_value(self)?[name] {
            serde_json::Value::Null => String::new(),
            serde_json::Value::String(text) => format!("{text}\n"),
            value => format!("{value}\n"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        let dir = tempfile::tempdir().unwrap();
        Layout::find(Some(dir.path()), &Globals::default()).unwrap()
    }

    #[test]
    fn each_state_has_its_line() {
        let (layout, globals) = (layout(), Globals::default());
        let stopped = Report { socket: PathBuf::from("/s"), ..Report::default() };
        let line = stopped.line(&layout, &globals);
        assert!(line.starts_with("the server does not run; start it: "), "{line}");
        let starting = Report { supervisor_pid: Some(7), ..stopped };
        let line = starting.line(&layout, &globals);
        assert!(line.starts_with("the server does not answer (pid 7, socket /s); "), "{line}");
        let foreign = Report { running: true, supervisor_pid: None, ..starting };
        let line = foreign.line(&layout, &globals);
        assert_eq!(line, "a server runs that the service did not start (socket /s)");
        let running = Report { pid: Some(8), http: Some("127.0.0.1:80".to_owned()), ..foreign };
        let line = running.line(&layout, &globals);
        assert_eq!(line, "the server runs (pid 8, socket /s, HTTP 127.0.0.1:80, SSH none)");
    }

    #[test]
    fn every_field_can_be_printed_alone() {
        let report = Report { pid: Some(8), socket: PathBuf::from("/s"), ..Report::default() };
        let all = serde_json::to_value(&report).unwrap();
        let mut names: Vec<&str> = all.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        let mut fields = FIELDS;
        fields.sort_unstable();
        assert_eq!(names, fields);
        for (name, text) in
            [("pid", "8\n"), ("running", "false\n"), ("socket", "/s\n"), ("ssh", "")]
        {
            assert_eq!(report.field(name).unwrap(), text);
        }
    }
}
