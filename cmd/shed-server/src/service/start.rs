//! `shed-server service start`.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use shed_api::problem::exit;
use shed_api::server::Ready;
use tokio::time::Instant;

use crate::data_dir::write_whole;
use crate::globals::Globals;
use crate::print::say;

use super::addresses::{Addresses, Choice, choose, is_taken};
use super::answers::answers;
use super::decide::{self, Reason, Start, Unit};
use super::layout::{Layout, remove_if_exists};
use super::process::Process;
use super::{log, seen, status, stop, unit};

/// How long a server may take until it serves. It usually takes less than a second.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How often the ready file is read meanwhile.
const POLL: Duration = Duration::from_millis(20);

/// Runs the command.
pub(crate) async fn run(layout: &Layout, globals: &Globals) -> anyhow::Result<u8> {
    fs::create_dir_all(&layout.state_dir)
        .with_context(|| format!("cannot create {}", layout.state_dir.display()))?;
    // Of two starts at the same time the second finds the server of the first.
    let _lock = layout.lock()?;
    let (seen, ready) = seen::inspect(layout);
    let socket = ready.as_ref().map_or(layout.socket.as_path(), |ready| ready.socket.as_ref());
    let ready = match decide::start(&seen, answers(socket).await) {
        Start::Keep => {
            say(&match &ready {
                Some(ready) => format!("the server runs (pid {})", ready.pid),
                None => format!(
                    "a server that `service start` did not start answers at {}",
                    socket.display()
                ),
            });
            status::print_json(layout, globals).await?;
            return Ok(exit::OK);
        }
        Start::Launch => launch(layout, globals).await?,
        Start::Replace(reason) => {
            // With a wrong configuration the old server is better than none.
            layout.check_config()?;
            if reason == Reason::OtherBuild {
                say("the running server is another build: restarting it; sheds keep running");
            }
            stop::stop(layout, decide::stop(&seen)).await?;
            launch(layout, globals).await?
        }
    };
    let shown = |address: &Option<String>| address.clone().unwrap_or_else(|| "none".to_owned());
    say(&format!(
        "the server runs (pid {}, HTTP {}, SSH {})",
        ready.pid,
        shown(&ready.http),
        shown(&ready.ssh)
    ));
    status::print_json(layout, globals).await?;
    Ok(exit::OK)
}

/// What was launched.
enum Launched {
    Unit,
    Supervisor(Child),
}

/// Launches the server and waits until it serves.
async fn launch(layout: &Layout, globals: &Globals) -> anyhow::Result<Ready> {
    layout.check_config()?;
    remove_if_exists(&layout.ready_file())?;
    let addresses = addresses(layout)?;
    let mut launched = if unit::is_used(layout) {
        unit::start(layout, &addresses)?;
        Launched::Unit
    } else {
        Launched::Supervisor(spawn_supervisor(layout)?)
    };
    let deadline = Instant::now() + READY_LIMIT;
    let why = loop {
        if let Some(ready) = layout.ready()
            && answers(ready.socket.as_ref()).await
        {
            return Ok(ready);
        }
        if launched.has_ended(layout)? {
            break "the server did not start".to_owned();
        }
        if Instant::now() >= deadline {
            break format!(
                "the server does not serve after {} s; it is still being restarted, stop it: {}",
                READY_LIMIT.as_secs(),
                layout.paste("stop", globals)
            );
        }
        tokio::time::sleep(POLL).await;
    };
    log::show(layout);
    let data_dir = crate::paste::quote(&layout.data_dir.to_string_lossy());
    let foreground = match &layout.config {
        Some(config) => Globals { config: Some(config.clone()), ..Globals::default() },
        None => Globals::default(),
    };
    let foreground = foreground.paste(&format!("serve --data-dir {data_dir}"));
    Err(anyhow!("{why}; to see why, run it in the foreground: {foreground}"))
}

impl Launched {
    /// Whether it gave up: no server will serve.
    fn has_ended(&mut self, layout: &Layout) -> std::io::Result<bool> {
        Ok(match self {
            Self::Unit => unit::state(layout) == Unit::Failed,
            Self::Supervisor(child) => child.try_wait()?.is_some(),
        })
    }
}

/// The addresses of this start; writes the address file if they are new.
fn addresses(layout: &Layout) -> anyhow::Result<Addresses> {
    let path = layout.address_file();
    let last = match fs::read_to_string(&path) {
        Ok(text) => Addresses::parse(&text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).context(format!("cannot read {}", path.display())),
    };
    match choose(last, is_taken)? {
        Choice::Keep(addresses) => Ok(addresses),
        Choice::New(addresses, messages) => {
            for message in messages {
                say(&message);
            }
            write_whole(&path, addresses.text().as_bytes(), 0o644)?;
            Ok(addresses)
        }
    }
}

/// Starts the supervisor in the background and writes its pid file.
fn spawn_supervisor(layout: &Layout) -> anyhow::Result<Child> {
    let log_file = layout.log_file();
    if fs::metadata(&log_file).is_ok_and(|metadata| metadata.len() > 0) {
        fs::rename(&log_file, log_file.with_extension("1"))?;
    }
    let cannot = || format!("cannot open {}", log_file.display());
    let log = File::options().create(true).append(true).open(&log_file).with_context(cannot)?;
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let child = Command::new(&program)
        .args(["service", "supervise", "--addresses"])
        .arg(layout.address_file())
        .arg("--")
        .args(layout.serve_arguments())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot run {}", program.display()))?;
    // None if it has ended already; the wait for the server reports that.
    if let Some(process) = Process::find(child.id()) {
        write_whole(&layout.pid_file(), format!("{process}\n").as_bytes(), 0o644)?;
    }
    Ok(child)
}
