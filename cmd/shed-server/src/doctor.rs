//! `shed-server doctor`: looks at this host the way an experienced neighbour would, and explains.

mod reach;

use shed_docker::DockerEngine;
use shed_engine::Engine as _;
use shed_report::{Check, Verdict, check, has_failed, show};
use shed_store::Store;

use crate::cli::Options;
use crate::commands::{Access, print};
use crate::config::Config;
use crate::place::{InUse, Place};
use crate::serve::{check_listeners, engine_options};

/// Free space below which things begin to fail.
const LITTLE_SPACE: u64 = 5 << 30;
/// Check this host and explain what is wrong
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) async fn run(_: Args, options: &Options) -> anyhow::Result<u8> {
    let (config, place) = options.read()?;
    let running = server(&place);
    let answers = running.verdict == Verdict::Pass;
    let mut checks = vec![
        configuration(&config),
        data_dir(&place),
        running,
        host_key(&place),
        database(&place).await,
    ];
    let server_id = place.known_server_id().ok().flatten().unwrap_or_else(|| "doctor".to_owned());
    let engine = DockerEngine::connect(engine_options(&config, &server_id));
    checks.extend(look_at_engine(&engine, &config).await);
    checks.push(runc());
    // Asked only then: looking must not make a data directory.
    if answers && let Ok(Access::Running(client)) = Access::open(options) {
        checks.extend(reach::look(&client).await);
    }
    print(options, &serde_json::json!({ "checks": checks }), || show(&checks))?;
    Ok(u8::from(has_failed(&checks)))
}

fn configuration(config: &Config) -> Check {
    let what = "configuration";
    match (config.defaults(), check_listeners(config)) {
        (Err(error), _) => check(what, Verdict::Fail, error),
        (_, Err(error)) => check(what, Verdict::Fail, error.to_string()),
        (Ok(_), Ok(_)) => check(what, Verdict::Pass, "is good"),
    }
}

fn data_dir(place: &Place) -> Check {
    let what = "data directory";
    let dir = place.dir().display();
    match rustix::fs::statvfs(place.dir()) {
        Err(error) => {
            check(what, Verdict::Warn, format!("{dir}: {error}; made at the first start"))
        }
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            let detail = format!("{dir}, {} free", shed_api::size::show_size(free));
            let verdict = if free < LITTLE_SPACE { Verdict::Warn } else { Verdict::Pass };
            check(what, verdict, detail)
        }
    }
}

fn server(place: &Place) -> Check {
    let what = "server";
    match place.lock() {
        Err(error) if error.is::<InUse>() => match place.running() {
            Ok(ready) => check(
                what,
                Verdict::Pass,
                format!("runs with pid {}, socket {}", ready.pid, ready.socket),
            ),
            Err(error) => check(what, Verdict::Fail, format!("{error:#}")),
        },
        _ => check(what, Verdict::Warn, "does not run; start it: shed-server serve, or make run"),
    }
}

fn host_key(place: &Place) -> Check {
    let what = "host key";
    let path = place.host_key();
    if !path.exists() {
        return check(what, Verdict::Warn, "not there yet; made at the first start");
    }
    match shed_ssh::HostKey::load_or_create(&path) {
        Ok(key) => check(what, Verdict::Pass, key.fingerprint()),
        Err(error) => check(what, Verdict::Fail, error.to_string()),
    }
}

async fn database(place: &Place) -> Check {
    let what = "database";
    match Store::look(place.dir()) {
        Err(error) => return check(what, Verdict::Fail, error.to_string()),
        Ok(false) => return check(what, Verdict::Warn, "not there yet; made at the first start"),
        Ok(true) => {}
    }
    let keys = match Access::open_place(place) {
        Ok(access) => crate::commands::keys::list(&access).await,
        Err(error) => Err(error),
    };
    match keys {
        Ok(list) if list.keys.is_empty() => check(
            what,
            Verdict::Warn,
            "whole; no SSH key may come in: shed-server key add NAME ~/.ssh/id_ed25519.pub",
        ),
        Ok(list) => check(what, Verdict::Pass, format!("whole, {} SSH keys", list.keys.len())),
        Err(error) => check(what, Verdict::Fail, format!("{error:#}")),
    }
}

async fn look_at_engine(engine: &DockerEngine, config: &Config) -> Vec<Check> {
    let words = match engine.describe().await {
        Ok(words) => words,
        Err(error) => {
            let detail = format!("{error}; start one: docker/engine.sh ensure");
            return vec![check("engine", Verdict::Fail, detail)];
        }
    };
    let mut checks = vec![check("engine", Verdict::Pass, words)];
    if let Ok(defaults) = config.defaults() {
        let image = defaults.image;
        checks.push(match engine.image(&image, &|_, _| {}).await {
            Ok(_) => check("default image", Verdict::Pass, image),
            Err(error) => {
                check("default image", Verdict::Fail, format!("{error}; build it: make image"))
            }
        });
    }
    checks
}

/// By its Debian package: what the engine says of runc's version does not tell which holes Debian has mended in it.
fn runc() -> Check {
    let what = "runc";
    let output = std::process::Command::new("apt-cache").args(["policy", "runc"]).output();
    let text = match output {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(_) => String::new(),
    };
    let version = |name: &str| {
        let words = text.lines().filter_map(|line| line.trim().strip_prefix(name));
        words.map(str::trim).find(|version| *version != "(none)").map(ToOwned::to_owned)
    };
    match (version("Installed:"), version("Candidate:")) {
        (Some(installed), Some(candidate)) if installed != candidate => check(
            what,
            Verdict::Warn,
            format!(
                "package {installed}, and {candidate} is there; ways out of a container are mended in \
                 runc: apt-get install runc"
            ),
        ),
        (Some(installed), _) => {
            check(what, Verdict::Pass, format!("package {installed}, the newest known"))
        }
        (None, _) => check(what, Verdict::Warn, "not from a Debian package; keep it new yourself"),
    }
}
