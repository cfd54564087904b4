//! Rules for the network of sheds, as an administrator sees them: the doctor, a server that may not install them, the command
//! that does, and the removal with everything else.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use shed_testing::docker;

use crate::support::{Home, IMAGE, both, eventually_or, json, said};

/// `command` as root without the right to change firewall rules.
fn without_net_admin(command: &Command) -> Command {
    let mut restricted = Command::new("setpriv");
    restricted.args(["--inh-caps=-net_admin", "--bounding-set=-net_admin"]);
    restricted.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => restricted.env(name, value),
            None => restricted.env_remove(name),
        };
    }
    restricted
}

/// The checks of `doctor` that are not passed, as `WHAT: DETAIL`.
fn complaints(command: &mut Command) -> Vec<String> {
    let output = command.args(["--json", "doctor"]).output().unwrap();
    let checks = json(&both(&output))["checks"].as_array().unwrap().clone();
    let bad = checks.iter().filter(|check| check["verdict"] != "pass");
    bad.map(|check| {
        format!("{}: {}", check["what"].as_str().unwrap(), check["detail"].as_str().unwrap())
    })
    .collect()
}

/// Whether there are rules for a network.
pub(crate) fn has_rules(network: &str) -> bool {
    let listed = Command::new("nft").args(["list", "table", "inet", network]).output().unwrap();
    listed.status.success()
}

#[test]
fn the_doctor_says_what_is_not_enforced_and_its_command_enforces_it() {
    let home = Home::new();
    let log = std::fs::File::create(home.dir.path().join("log")).unwrap();
    let child = without_net_admin(&home.serve()).stdin(Stdio::null()).stderr(log).spawn().unwrap();
    let ready = eventually_or(
        std::time::Duration::from_secs(20),
        || home.log(),
        || {
            let text = std::fs::read_to_string(home.ready_file()).ok()?;
            serde_json::from_str(&text).ok()
        },
    );
    let server = crate::support::Server { child, ready };
    home.done(&["create", "web", "--network", "filtered", "--image", IMAGE]);
    let log = home.log();
    let warned = log.lines().filter(|line| line.contains("CAP_NET_ADMIN")).count();
    assert_eq!(warned, 1, "{log}");

    let label = format!("label=shed.server={}", server.ready.server_id);
    let network = docker(&["network", "ls", "--filter", &label, "--format", "{{.Name}}"]);
    let inspect = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}";
    let gateway = docker(&["container", "inspect", "--format", inspect, &home.container("web")]);
    let listener = TcpListener::bind((gateway.as_str(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();

    let found = complaints(&mut without_net_admin(&home.command()));
    let of =
        |what: &str| found.iter().find(|line| line.starts_with(what)).cloned().unwrap_or_default();
    assert!(of("host listeners").contains(&port.to_string()), "{found:?}");
    let rules = of("firewall rules");
    assert!(rules.contains("CAP_NET_ADMIN"), "{found:?}");
    // The command as it is printed, without sudo, which a machine need not have.
    let (_, command) = rules.split_once("install them: sudo ").unwrap();
    let (status, text) =
        said(Command::new("sh").args(["-c", command]).env("HOME", home.dir.path()));
    assert_eq!(status, Some(0), "{command}: {text}");
    assert!(has_rules(&network));
    let found = complaints(&mut home.command());
    let about = |line: &String| line.contains("host listeners") || line.contains("firewall rules");
    assert!(!found.iter().any(about), "{found:?}");

    // The rules as they are printed for an engine on another host.
    let (_, printed) = home.command_said(&["firewall", "print"]);
    assert!(printed.contains(&format!("table inet {network} {{")), "{printed}");
    assert_eq!(home.command_said(&["firewall", "remove"]).0, Some(0));
    assert!(!has_rules(&network));
    // Removing what is not there is no failure.
    assert_eq!(home.command_said(&["firewall", "remove"]).0, Some(0));
}
