//! `shed-server doctor`: checks this host, and explains what is wrong and how to fix it.

mod inotify;
mod reach;

use shed_docker::{DockerEngine, Protection};
use shed_engine::{Engine as _, EngineError};
use shed_report::{Check, Verdict, check, has_failed, show};
use shed_store::Store;

use crate::access::Access;
use crate::commands::firewall::remedy;
use crate::config::Config;
use crate::data_dir::{DataDir, InUse};
use crate::globals::Globals;
use crate::print::print;
use crate::serve::{check_listeners, engine_options};

/// Bytes of free space below which the doctor warns: an image and a build need about as much.
const LITTLE_SPACE: u64 = 5 << 30;

/// Check this host: configuration, data, engine, images, and what sheds can reach
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) async fn run(_: Args, globals: &Globals) -> anyhow::Result<u8> {
    let (config, data) = globals.read()?;
    let running = server(&data, globals);
    let answers = running.verdict == Verdict::Pass;
    let mut checks = vec![
        configuration(&config),
        data_dir(&data),
        running,
        host_key(&data),
        database(&data, globals).await,
    ];
    let server_id = data.known_server_id().ok().flatten().unwrap_or_else(|| "doctor".to_owned());
    let engine = DockerEngine::connect(engine_options(&config, &server_id));
    checks.extend(check_engine(&engine, &config).await);
    checks.extend(firewall(&engine, globals).await);
    checks.push(runc());
    // Only while the server answers: opening access creates a missing data directory, and a check must not.
    if answers && let Ok(Access::Running(client)) = Access::open(globals) {
        checks.extend(inotify::check_instances(&client).await);
        checks.extend(reach::check_reach(&client, globals).await);
    }
    print(globals, &serde_json::json!({ "checks": checks }), || show(&checks))?;
    Ok(u8::from(has_failed(&checks)))
}

fn configuration(config: &Config) -> Check {
    let what = "configuration";
    match (config.defaults(), check_listeners(config)) {
        (Err(error), _) => check(what, Verdict::Fail, error),
        (_, Err(error)) => check(what, Verdict::Fail, error.to_string()),
        (Ok(_), Ok(_)) => check(what, Verdict::Pass, "valid"),
    }
}

fn data_dir(data: &DataDir) -> Check {
    let what = "data directory";
    let dir = data.path().display();
    match rustix::fs::statvfs(data.path()) {
        Err(error) => {
            check(what, Verdict::Warn, format!("{dir}: {error}; the first start creates it"))
        }
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            let detail = format!("{dir}, {} free", shed_api::size::show_size(free));
            let verdict = if free < LITTLE_SPACE { Verdict::Warn } else { Verdict::Pass };
            check(what, verdict, detail)
        }
    }
}

fn server(data: &DataDir, globals: &Globals) -> Check {
    let what = "server";
    match data.lock() {
        Err(error) if error.is::<InUse>() => match data.running() {
            Ok(ready) => check(
                what,
                Verdict::Pass,
                format!("running with pid {}, socket {}", ready.pid, ready.socket),
            ),
            Err(error) => check(what, Verdict::Fail, format!("{error:#}")),
        },
        _ => check(
            what,
            Verdict::Warn,
            format!("not running; start it: {}", globals.paste("service start")),
        ),
    }
}

fn host_key(data: &DataDir) -> Check {
    let what = "host key";
    let path = data.host_key();
    if !path.exists() {
        return check(what, Verdict::Warn, "does not exist yet; the first start creates it");
    }
    match shed_ssh::HostKey::load_or_create(&path) {
        Ok(key) => check(what, Verdict::Pass, key.fingerprint()),
        Err(error) => check(what, Verdict::Fail, error.to_string()),
    }
}

async fn database(data: &DataDir, globals: &Globals) -> Check {
    let what = "database";
    if let Err(error) = data.check_database() {
        return check(what, Verdict::Fail, error.to_string());
    }
    match Store::check(data.path()) {
        Err(error) => return check(what, Verdict::Fail, error.to_string()),
        Ok(false) => {
            return check(what, Verdict::Warn, "does not exist yet; the first start creates it");
        }
        Ok(true) => {}
    }
    let keys = match Access::open_data_dir(data) {
        Ok(access) => crate::commands::keys::list(&access).await,
        Err(error) => Err(error),
    };
    match keys {
        Ok(list) if list.keys.is_empty() => check(
            what,
            Verdict::Warn,
            format!(
                "intact; no SSH key is authorized; authorize one: {}",
                globals.paste("key add ~/.ssh/id_ed25519.pub")
            ),
        ),
        Ok(list) => check(what, Verdict::Pass, format!("intact, {} SSH keys", list.keys.len())),
        Err(error) => check(what, Verdict::Fail, format!("{error:#}")),
    }
}

async fn check_engine(engine: &DockerEngine, config: &Config) -> Vec<Check> {
    let description = match engine.describe().await {
        Ok(description) => description,
        Err(error) => {
            let detail = format!(
                "{error}; start it: systemctl start docker, or in a checkout: docker/engine.sh ensure"
            );
            return vec![check("engine", Verdict::Fail, detail)];
        }
    };
    let mut checks = vec![check("engine", Verdict::Pass, description)];
    if let Ok(defaults) = config.defaults() {
        let image = defaults.image;
        checks.push(match engine.image(&image, &|_, _| {}).await {
            Ok(_) => check("default image", Verdict::Pass, image),
            Err(error) => check(
                "default image",
                Verdict::Fail,
                format!("{error}; build it, in a checkout: make image"),
            ),
        });
    }
    checks
}

/// Whether the rules of filtered sheds are installed. Nothing while the engine does not answer: another check says that.
async fn firewall(engine: &DockerEngine, globals: &Globals) -> Option<Check> {
    let what = "firewall rules";
    Some(match engine.firewall().await {
        Err(EngineError::Unreachable(_)) => return None,
        Err(error) => check(what, Verdict::Warn, error.to_string()),
        Ok(Protection::NoNetwork) => {
            check(what, Verdict::Pass, "not needed: no shed has a filtered network yet")
        }
        Ok(Protection::Enforced(tool)) => {
            check(what, Verdict::Pass, format!("installed with {tool}"))
        }
        Ok(Protection::Missing(gap)) => check(
            what,
            Verdict::Warn,
            format!(
                "{gap}; without rules sheds can reach listeners of this host and 169.254.169.254; {}",
                remedy(&gap, globals)
            ),
        ),
    })
}

/// Compares the installed Debian package of runc with the newest known. The version that the engine reports does not show
/// which security fixes Debian has backported.
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
                "package {installed}, and {candidate} is available; updates of runc fix container escapes: \
                 apt-get install runc"
            ),
        ),
        (Some(installed), _) => {
            check(what, Verdict::Pass, format!("package {installed}, the newest known"))
        }
        (None, _) => {
            check(what, Verdict::Warn, "not a Debian package; keep it up to date yourself")
        }
    }
}
